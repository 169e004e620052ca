"""What ``virtuous-token check`` finds about one connection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from token_refresher.refresh.formats import SecretNames
from token_refresher.refresh.refresh import MOST_VERSIONS_BEFORE_A_CLAIM

from .aws import code_of
from .protection import lets_in, who_may_read
from .remedies import Remedy, aws_cli, ours
from .stack import Connection, Stack
from .words import RIGHTS, Finding, Severity, finding_of, fine

__all__ = ["connection_findings"]

AWS_OWN_KEY = "alias/aws/secretsmanager"


def connection_findings(stack: Stack, key: str | None, connection: Connection, now: datetime) -> Iterator[Finding]:
    """Its secrets first, then what the function reports of it, and last whether Virtuous takes its token.

    *key* is the stack's, None for AWS's own.
    """
    name, names = connection.name, SecretNames.of(stack.prefix, connection.name)
    client = stack.aws.client("secretsmanager")
    problems = [
        problem for secret in (names.pair, names.bearer) if (problem := _secret_problem(client, name, secret, key))
    ]
    if connection.has_pair:
        problems += _room(client, name, names.pair, now)
    yield from problems
    if not any(names.pair in problem.what for problem in problems):
        yield _readers_of_the_pair(stack, client, name, names.pair)
    refresh = ours("refresh", connection=name)
    if found := finding_of(connection, now):
        if connection.exists:
            yield found
        elif not problems:
            yield Finding(name, found.what, ("mend what it names; then:", refresh))
        return
    proof = connection.text("proof") or "not asked for"
    organization = connection.text("organization_name") or ""
    if proof == "accepted":
        yield fine(name, "token proved, readers are in step", organization)
    else:
        yield Finding(name, f"Virtuous does not take its token: {proof}", (RIGHTS, refresh), detail=organization)


def _secret_problem(client: Any, connection: str, name: str, key: str | None) -> Finding | None:
    try:
        described = client.describe_secret(SecretId=name)
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return Finding(connection, f"{name} does not exist", (ours("login", connection=connection),))
    if "DeletedDate" in described:
        undo = ours("remove", "--undo", connection=connection)
        return Finding(connection, f"{name} is marked for deletion", (undo, ours("refresh", connection=connection)))
    if described.get("KmsKeyId", AWS_OWN_KEY) == (key or AWS_OWN_KEY):
        return None
    move = aws_cli("secretsmanager", "update-secret", "--secret-id", name, "--kms-key-id", key or AWS_OWN_KEY)
    what = f"{name} is under another key than the stack's"
    return Finding(connection, what, (move, ours("refresh", connection=connection)), Severity.LATER)


def _readers_of_the_pair(stack: Stack, client: Any, connection: str, name: str) -> Finding:
    principals = who_may_read(client.get_resource_policy(SecretId=name).get("ResourcePolicy"))
    if principals is None:
        return fine(connection, "whoever's own policy allows it may read the pair; login --protect narrows that")
    if lets_in(principals, stack.role):
        return fine(connection, f"the pair is for these alone: {', '.join(principals)}")
    others = [principal for principal in principals if "TokenRefresherRole" not in principal]
    protect = [word for principal in others for word in ("--protect", principal)]
    remedies: tuple[Remedy, ...] = (
        aws_cli("secretsmanager", "delete-resource-policy", "--secret-id", name),
        ours("login", *protect, connection=connection),
    )
    what = f"{name} is for {', '.join(principals)} alone, and the function's role is not among them"
    return Finding(connection, what, remedies)


def _room(client: Any, connection: str, name: str, now: datetime) -> Iterator[Finding]:
    """Where Secrets Manager may have no room for another pair."""
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
    if kept > MOST_VERSIONS_BEFORE_A_CLAIM:
        what = f"{name} has {kept} versions of the last day, and AWS keeps about 100"
        remedy = "refresh less often; AWS removes old versions within a day"
        yield Finding(connection, what, (remedy,), Severity.LATER)
