"""The secrets of one connection as an operator makes, restores and removes them. Their values are written elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from token_refresher.refresh.formats import SecretNames
from token_refresher.refresh.model import REMOVED_TAG
from virtuous_token.contract import format_instant
from virtuous_token.secret_text import SecretText

from .aws import code_of
from .protection import policy_with, who_may_read
from .stack import PREFIX_TAG, Stack

_DESCRIPTIONS = {
    "tokens": "Virtuous access and refresh token, for the refresher alone: who reads it can spend the refresh token",
    "bearer": "Virtuous bearer token for readers, written by the refresher; read it with stage AWSCURRENT",
    "login": "Virtuous e-mail and password, for unattended recovery by the refresher alone",
}


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
