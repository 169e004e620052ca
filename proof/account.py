"""The account and Region that a proof works in, itself and every command that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import NoRegionError

# Where a profile is chosen, whatever else names credentials is kept from the commands: they would prefer it.
OTHER_CREDENTIALS = {"AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"} | {
    f"AWS_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "SECURITY_TOKEN")
}
WHERE = """
import boto3
session = boto3.Session()
print(session.client("sts").get_caller_identity()["Account"], session.region_name)
"""


class AnotherAccount(Exception):
    """A command would work elsewhere than the proof; the text holds no account's number."""


@dataclass(frozen=True, slots=True)
class Account:
    """*environment* is what every command gets. ``number`` stays out of its repr and of every report."""

    session: boto3.Session = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    region: str
    number: str = field(repr=False)

    @classmethod
    def of(cls, profile: str | None, region: str | None) -> Account:
        """Whom AWS takes the caller for. Raises ClientError, BotoCoreError and AnotherAccount."""
        session = boto3.Session(profile_name=profile, region_name=region)
        if not session.region_name:
            raise NoRegionError
        kept = {name: value for name, value in os.environ.items() if not (profile and name in OTHER_CREDENTIALS)}
        environment = kept | {"AWS_REGION": session.region_name, "AWS_DEFAULT_REGION": session.region_name}
        if profile:
            environment["AWS_PROFILE"] = profile
        number = session.client("sts").get_caller_identity()["Account"]
        account = cls(session, environment, session.region_name, number)
        account.compare()
        return account

    def compare(self) -> None:
        """Raises AnotherAccount unless a command that is started works in the same account and Region."""
        asked = [sys.executable, "-c", WHERE]
        done = subprocess.run(asked, env=self.environment, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 (our own words)
        if done.stdout.split() != [self.number, self.region]:
            raise AnotherAccount(
                "A command that the proof starts would work in another account or Region, so nothing was made. Name "
                'both: make prove ARGS="--profile NAME --region REGION"'
            )

    @property
    def is_local(self) -> bool:
        """True where AWS_ENDPOINT_URL names this machine."""
        return urlsplit(self.environment.get("AWS_ENDPOINT_URL", "")).hostname in ("127.0.0.1", "localhost", "::1")

    def client(self, service: str) -> Any:
        return self.session.client(service)  # type: ignore[call-overload]

    def pages(self, service: str, operation: str, key: str, **arguments: Any) -> list[Any]:
        """All entries of a listing."""
        pages = self.client(service).get_paginator(operation).paginate(**arguments)
        return [entry for page in pages for entry in page.get(key, [])]
