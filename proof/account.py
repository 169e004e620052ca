"""The AWS account that is asked: sessions, a role to try, and whether it is the local AWS."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["Account", "assumed_role", "delete_role"]

# A new role can be assumed within seconds, as a rule (IAM user guide, "Changes that I make are not always immediately
# visible").
SECONDS_FOR_A_ROLE = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """Where the proof runs. ``number`` stays out of its repr and of every report."""

    session: boto3.Session = field(repr=False)
    region: str
    number: str = field(repr=False)

    @classmethod
    def of(cls, session: boto3.Session) -> Account:
        """Asks STS who the caller is. Raises ClientError and BotoCoreError."""
        identity = session.client("sts").get_caller_identity()
        return cls(session, session.region_name, identity["Account"])

    @property
    def is_local(self) -> bool:
        """True where AWS_ENDPOINT_URL names this machine."""
        return urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname in ("127.0.0.1", "localhost", "::1")

    def client(self, service: str, **options: Any) -> Any:
        """A client with the SDK's own repetition, unless *options* has another botocore Config."""
        return self.session.client(service, **options)  # type: ignore[call-overload]

    def without_number(self, text: str) -> str:
        """*text* as it may stand in a report."""
        return text.replace(self.number, "ACCOUNT")


@contextlib.contextmanager
def assumed_role(
    session: boto3.Session, name: str, *, statement: Mapping[str, Any] | None = None, policy_arn: str = ""
) -> Iterator[SecretsManagerClient]:
    """A Secrets Manager client with the permissions of *statement* or of a managed policy, and with no others.

    The role is deleted at the end.
    """
    iam, sts = session.client("iam"), session.client("sts")
    caller = sts.get_caller_identity()
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{caller['Arn'].split(':')[1]}:iam::{caller['Account']}:root"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    try:
        if statement:
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_role_policy(RoleName=name, PolicyName="proof", PolicyDocument=policy)
        if policy_arn:
            iam.attach_role_policy(RoleName=name, PolicyArn=policy_arn)
        credentials = _assume(sts, role["Arn"])
        yield session.client(
            "secretsmanager",
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
            config=Config(retries={"total_max_attempts": 1}),
        )
    finally:
        delete_role(iam, name)


def delete_role(iam: Any, name: str) -> None:
    """Deletes a role together with what it holds. Raises ClientError."""
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName=name)


def _assume(sts: Any, role: str) -> Mapping[str, str]:
    deadline = time.monotonic() + SECONDS_FOR_A_ROLE
    while True:
        try:
            return dict(sts.assume_role(RoleArn=role, RoleSessionName="proof")["Credentials"])
        except ClientError:
            if time.monotonic() > deadline:
                raise
        time.sleep(2)  # IAM is eventually consistent: it can only be asked again
