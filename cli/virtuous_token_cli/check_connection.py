"""What ``virtuous-token check`` says of one connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from token_refresher.refresh.formats import SecretNames

from .aws import code_of
from .protection import lets_in, who_may_read
from .stack import Connection, Stack
from .words import finding_of

__all__ = ["Line", "connection_lines"]

# Secrets Manager keeps about 100 versions of a day, and a refresh is begun at 94 or fewer.
MOST_VERSIONS = 94
AWS_OWN_KEY = "alias/aws/secretsmanager"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at. ``run`` mends what is not fine."""

    about: str
    said: str
    is_fine: bool = True
    run: str = ""


def connection_lines(
    stack: Stack, settings: Mapping[str, Any], connection: Connection, now: datetime
) -> Iterator[Line]:
    """Its secrets first, then what the function reports of it, and last whether Virtuous takes its token."""
    name, names = connection.name, SecretNames.of(stack.prefix, connection.name)
    client = stack.aws.client("secretsmanager")
    problems = [
        problem
        for secret in (names.pair, names.bearer)
        if (problem := _secret_problem(client, name, secret, settings["kms_key_arn"]))
    ]
    if connection.has_pair:
        problems += _room(client, name, names.pair, now)
    yield from problems
    if not any(names.pair in problem.said for problem in problems):
        yield _readers_of_the_pair(stack, client, name, names.pair)
    if found := finding_of(connection, now):
        if connection.exists or not problems:
            is_ours = found.run.startswith("virtuous-token check")  # which is what runs here
            run = f"mend what it names, then virtuous-token refresh --connection {name}" if is_ours else found.run
            yield Line(name, found.what, False, run)
        return
    proof = connection.text("proof") or "not asked for"
    is_accepted = proof == "accepted"
    yield Line(
        name,
        f"{connection.text('organization_name') or 'its organisation'}: token proved, readers are in step"
        if is_accepted
        else f"Virtuous does not take its token: {proof}",
        is_accepted,
        f"look at the user's rights in Virtuous; then virtuous-token refresh --connection {name}",
    )


def _secret_problem(client: Any, connection: str, name: str, key: str | None) -> Line | None:
    try:
        described = client.describe_secret(SecretId=name)
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return Line(connection, f"{name} does not exist", False, f"virtuous-token login --connection {connection}")
    if "DeletedDate" in described:
        run = f"virtuous-token remove --connection {connection} --undo"
        return Line(connection, f"{name} is marked for deletion", False, run)
    if described.get("KmsKeyId", AWS_OWN_KEY) == (key or AWS_OWN_KEY):
        return None
    return Line(
        connection,
        f"{name} is under another key than the stack's",
        False,
        f"aws secretsmanager update-secret --secret-id {name} --kms-key-id {key or AWS_OWN_KEY}; then "
        f"virtuous-token refresh --connection {connection}",
    )


def _readers_of_the_pair(stack: Stack, client: Any, connection: str, name: str) -> Line:
    principals = who_may_read(client.get_resource_policy(SecretId=name).get("ResourcePolicy"))
    if principals is None:
        return Line(connection, "whoever's own policy allows it may read its pair; login --protect narrows that")
    if lets_in(principals, stack.role):
        return Line(connection, f"its pair is for these alone: {', '.join(principals)}")
    return Line(
        connection,
        f"{name} is for {', '.join(principals)} alone, and the function's role is not among them",
        False,
        f"aws secretsmanager delete-resource-policy --secret-id {name}; then virtuous-token login --protect ARN "
        f"--connection {connection}",
    )


def _room(client: Any, connection: str, name: str, now: datetime) -> Iterator[Line]:
    """A line where Secrets Manager may have no room for another pair."""
    asked: dict[str, Any] = {"SecretId": name, "IncludeDeprecated": True}
    kept = 0
    while True:
        page = client.list_secret_version_ids(**asked)
        kept += sum(
            bool(version.get("VersionStages")) or version["CreatedDate"] > now - timedelta(days=1)
            for version in page["Versions"]
        )
        if not page.get("NextToken"):
            break
        asked["NextToken"] = page["NextToken"]
    if kept > MOST_VERSIONS:
        yield Line(
            connection,
            f"{name} has {kept} versions of the last day, and AWS keeps about 100",
            False,
            "refresh less often; AWS removes old versions within a day",
        )
