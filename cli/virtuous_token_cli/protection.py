"""The resource policy that keeps a connection's credentials for the function and for people who are named.

By default every role of the account whose own policy says so may read them. The statement made here refuses everybody
else, whatever their policies allow. It leaves reading and taking off the policy alone: an administrator gets out by
that, and leaves a trace in CloudTrail. docs/accounts-and-regions.md shows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

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
