"""The secrets of one connection as an operator makes, protects, removes and restores them.

By default every role of the account whose own policy says so may read them. The statement of a protected one refuses
everybody who is not named, whatever their policies allow. It leaves reading and taking off the policy alone: an
administrator gets out by that, and leaves a trace in CloudTrail. docs/accounts-and-regions.md shows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from botocore.exceptions import ClientError

from token_refresher.refresh.formats import SecretNames
from token_refresher.refresh.model import REMOVED_TAG
from virtuous_token.contract import format_instant
from virtuous_token.secret_text import SecretText

from .answers import open_answers
from .aws import code_of
from .options import Session
from .remedies import CommandFailed, ours
from .screen import Line, say
from .stack import PREFIX_TAG, Stack

_DESCRIPTIONS = {
    "tokens": "Virtuous access and refresh token, for the refresher alone: who reads it can spend the refresh token",
    "bearer": "Virtuous bearer token for readers, written by the refresher; read it with stage AWSCURRENT",
    "login": "Virtuous e-mail and password, for unattended recovery by the refresher alone",
}
SID = "OnlyTheFunctionAndWhoIsNamed"
# Whoever may put another policy could let himself in, so that is refused with the rest.
REFUSED = (
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutResourcePolicy",
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecret",
    "secretsmanager:UpdateSecretVersionStage",
)
# Where IAM Identity Center puts the roles of its permission sets, below the Region, which is left out in us-east-1.
_SSO_PATH = "aws-reserved/sso.amazonaws.com/"
_SSO_ROLE = "AWSReservedSSO_"
_SESSION = re.compile(r"(arn:aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.*")


def described_or_none(client: Any, name: str) -> Mapping[str, Any] | None:
    """What Secrets Manager tells of a secret; None where there is none. One marked for deletion has ``DeletedDate``."""
    try:
        described: Mapping[str, Any] = client.describe_secret(SecretId=name)
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            return None
        raise
    return described


@dataclass(frozen=True, slots=True)
class ConnectionSecrets:
    """*client* is Secrets Manager's. What is made gets *kms_key_arn* (None: AWS's own key) and *tags*."""

    client: Any
    names: SecretNames
    kms_key_arn: str | None
    tags: Mapping[str, str]

    @classmethod
    def of(cls, stack: Stack, connection: str, kms_key_arn: str | None = None) -> ConnectionSecrets:
        names = SecretNames.of(stack.prefix, connection)
        return cls(stack.aws.client("secretsmanager"), names, kms_key_arn, stack.tags)

    def is_present(self, name: str) -> bool:
        """True for a secret that is there and not marked for deletion."""
        described = described_or_none(self.client, name)
        return described is not None and "DeletedDate" not in described

    def marked_for_deletion(self) -> list[str]:
        """Which of the three are."""
        return [name for name in self.names if "DeletedDate" in (described_or_none(self.client, name) or ())]

    def present(self) -> list[str]:
        """Which of the three are there."""
        return [name for name in self.names if self.is_present(name)]

    def restore(self, name: str) -> None:
        self.client.restore_secret(SecretId=name)
        self.client.untag_resource(SecretId=name, TagKeys=[REMOVED_TAG])

    def make_missing(self) -> list[str]:
        """Makes pair and bearer secret where they are absent, without a value, and returns the names of those made."""
        return [name for name in (self.names.pair, self.names.bearer) if self._make(name)]

    def _make(self, name: str, **value: str) -> bool:
        if described_or_none(self.client, name) is not None:
            return False
        prefix, connection, kind = name.rsplit("/", 2)
        # Not those tags that AWS keeps for itself.
        tags = {key: text for key, text in self.tags.items() if not key.startswith(("aws:", "lambda:"))}
        tags |= {PREFIX_TAG: prefix, "virtuous-token:connection": connection}
        key = {"KmsKeyId": self.kms_key_arn} if self.kms_key_arn else {}
        tagged = [{"Key": name, "Value": text} for name, text in sorted(tags.items())]
        try:
            self.client.create_secret(Name=name, Description=_DESCRIPTIONS[kind], Tags=tagged, **key, **value)
        except ClientError as error:
            if code_of(error) == "ResourceExistsException":  # somebody else was first, or an earlier answer was lost
                return False
            raise
        return True

    def keep_login(self, value: SecretText) -> None:
        """Stores *value* as the login secret."""
        if not self._make(self.names.login, SecretString=value.reveal()):
            self.client.put_secret_value(SecretId=self.names.login, SecretString=value.reveal())

    def who_may_read(self, name: str) -> list[str] | None:
        """Those for whom alone the secret is; None where it is not protected."""
        return who_may_read(self._policy(name))

    def protect(self, name: str, principals: Sequence[str]) -> None:
        """From here on the secret is for *principals* alone. What else its policy says stays."""
        policy = policy_with(self._policy(name), principals)
        self.client.put_resource_policy(SecretId=name, ResourcePolicy=policy, BlockPublicPolicy=True)

    def _policy(self, name: str) -> str | None:
        text: str | None = self.client.get_resource_policy(SecretId=name).get("ResourcePolicy")
        return text

    def remove(self, recovery_days: int) -> Iterator[tuple[str, datetime]]:
        """Marks what is there for deletion; each secret's name and when AWS deletes it for good.

        All are tagged before the first is marked. The function takes a tagged one for removed on purpose, and any other
        one for an accident.
        """
        names, now = self.present(), format_instant(datetime.now(UTC))
        for name in names:
            self.client.tag_resource(SecretId=name, Tags=[{"Key": REMOVED_TAG, "Value": now}])
        for name in names:
            yield name, self.client.delete_secret(SecretId=name, RecoveryWindowInDays=recovery_days)["DeletionDate"]


def remove_connection(session: Session, connection: str, recovery_days: int, *, yes: bool) -> None:
    """Marks the connection's secrets for deletion, after asking."""
    answers = None if yes else open_answers()
    secrets = ConnectionSecrets.of(session.stack(), connection)
    if not (present := secrets.present()):
        raise CommandFailed(f"There is no connection {connection}, or it was removed already.", ours("status"))
    lost = "Its readers lose the token when their copy ends."
    if answers and not answers.confirm(f"{lost} Mark {', '.join(present)} for deletion in {recovery_days} days?"):
        raise CommandFailed("You said no.")
    for name, gone_at in secrets.remove(recovery_days):
        session.changed.append(f"{name} is marked for deletion.")
        say(f"{name}: AWS deletes it on {gone_at:%Y-%m-%d}.")
    undo = session.named.text(ours("remove", "--undo", connection=connection))
    say(Line(f"Undo until then: {undo}", is_command=True))


def restore_connection(session: Session, connection: str) -> None:
    """Takes back what was marked for deletion."""
    secrets = ConnectionSecrets.of(session.stack(), connection)
    if not (marked := secrets.marked_for_deletion()):
        said = f"Nothing of connection {connection} is marked for deletion."
        raise CommandFailed(said, "to make it again:", ours("login", connection=connection))
    for name in marked:
        secrets.restore(name)
        session.changed.append(f"{name} was restored.")
        say(f"{name}: restored.")
    refresh = session.named.text(ours("refresh", connection=connection))
    say(Line(f"See how it is: {refresh}", is_command=True))


def is_principal(pattern: str) -> bool:
    """True for the ARN of a role or user, with * and ? in its path and name alone."""
    return re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/[\w+=,.@*?/-]+", pattern) is not None


def pattern_for(function_role: str) -> str:
    """The ARN of the function's role without what CloudFormation adds at random: it holds for the stack made again.

    A role of another name is taken as it is.
    """
    return re.sub("(-TokenRefresherRole-)[A-Za-z0-9]+$", r"\1*", function_role)


def pattern_of_caller(caller: str) -> str:
    """What lets in *caller*, an ARN as STS tells it. A role's path is known for IAM Identity Center alone."""
    session = _SESSION.fullmatch(caller)
    if not session:
        return caller
    partition, account, name = session.groups()
    return f"{partition}:iam::{account}:role/{f'{_SSO_PATH}*' if name.startswith(_SSO_ROLE) else ''}{name}"


def policy_with(existing: str | None, principals: Sequence[str]) -> str:
    """*existing*, a policy's text, with our statement in it for *principals*, and every other statement as it was."""
    document = json.loads(existing or '{"Version": "2012-10-17"}')
    statement = {
        "Sid": SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(REFUSED),
        "Resource": "*",
        "Condition": {"ArnNotLike": {"aws:PrincipalArn": list(principals)}},
    }
    others = [found for found in _statements(document) if found.get("Sid") != SID]
    return json.dumps({**document, "Statement": [*others, statement]})


def who_may_read(policy: str | None) -> list[str] | None:
    """Those whom our statement in *policy* lets in; None where there is no such statement."""
    for statement in _statements(json.loads(policy or "{}")):
        if statement.get("Sid") == SID:
            named: str | list[str] = statement["Condition"]["ArnNotLike"]["aws:PrincipalArn"]
            return [named] if isinstance(named, str) else named
    return None


def lets_in(principals: Sequence[str], caller: str) -> bool:
    """Whether one of *principals* covers *caller*, an ARN as STS tells it or that of a role.

    STS leaves a role's path out. It is known for IAM Identity Center alone, but for the Region in it; for another role
    a pattern's path is taken as right.
    """
    if not (session := _SESSION.fullmatch(caller)):
        return any(fnmatchcase(caller, pattern) for pattern in principals)
    partition, account, name = session.groups()
    root = f"{partition}:iam::{account}:role/"
    if name.startswith(_SSO_ROLE):
        without_region = [re.sub(f"({re.escape(_SSO_PATH)})[a-z0-9*-]+/", r"\1", pattern) for pattern in principals]
        return any(fnmatchcase(f"{root}{_SSO_PATH}{name}", pattern) for pattern in without_region)
    without_path = [re.sub(":role/.*/", ":role/", pattern) for pattern in principals]
    return any(fnmatchcase(root + name, pattern) for pattern in [*principals, *without_path])


def _statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = document.get("Statement", [])
    return [found] if isinstance(found, dict) else found
