"""What ``virtuous-token check`` finds about one connection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from token_refresher.refresh.journal import LABEL
from token_refresher.refresh.refresh import MOST_VERSIONS_BEFORE_A_CLAIM

from .connection_secrets import described_or_none, lets_in, who_may_read
from .remedies import aws_cli, ours
from .stack import Connection, Stack
from .words import ANY, RIGHTS, Finding, Severity, finding_of, fine

AWS_OWN_KEY = "alias/aws/secretsmanager"
_REFRESH = ours("refresh", connection=ANY)


def connection_findings(stack: Stack, key: str | None, connection: Connection, now: datetime) -> Iterator[Finding]:
    """Its secrets first, then what the function reports of it, and last whether Virtuous takes its token.

    *key* is the stack's, None for AWS's own.
    """
    name, client = connection.name, stack.aws.client("secretsmanager")
    pair, bearer = (f"{stack.prefix}/{name}/{kind}" for kind in ("tokens", "bearer"))
    problems = [problem for secret in (pair, bearer) if (problem := _of_secret(client, connection, secret, key))]
    if not problems:
        problems += _of_versions(client, connection, pair, key, now)
    yield from problems
    if not any(problem.what.startswith(_any(name, pair)) for problem in problems):
        yield _readers_of_the_pair(stack, client, name, pair)
    proof, organization = connection.text("proof") or "not asked for", connection.text("organization_name") or ""
    if found := finding_of(connection, now):
        if connection.exists:
            yield found
        elif not problems:
            yield Finding(name, found.what, ("mend what it names; then:", _REFRESH))
    elif proof == "accepted":
        yield fine(name, "token proved, readers are in step", organization)
    else:
        yield Finding(name, f"Virtuous does not take its token: {proof}", (RIGHTS, _REFRESH), detail=organization)


def _any(connection: str, secret: str) -> str:
    """The name of *secret* as it is told of every connection."""
    return secret.replace(f"/{connection}/", f"/{ANY}/")


def _of_secret(client: Any, connection: Connection, name: str, key: str | None) -> Finding | None:
    described, said, login = described_or_none(client, name), _any(connection.name, name), ours("login", connection=ANY)
    if described is None:
        return Finding(connection.name, f"{said} does not exist", (login,))
    if "DeletedDate" in described:
        undo = ours("remove", "--undo", connection=ANY)
        return Finding(connection.name, f"{said} is marked for deletion", (undo, _REFRESH))
    if described.get("KmsKeyId", AWS_OWN_KEY) == (key or AWS_OWN_KEY):
        return None
    what = f"{said} is under another key than the stack's"
    move = aws_cli("secretsmanager", "update-secret", "--secret-id", said, "--kms-key-id", key or AWS_OWN_KEY)
    if connection.exists:
        return Finding(connection.name, what, (move, _REFRESH), Severity.LATER)
    return Finding(connection.name, f"{what}, and can't be read", (move, _REFRESH, "or, if that key is gone:", login))


def _of_versions(client: Any, connection: Connection, name: str, key: str | None, now: datetime) -> Iterator[Finding]:
    """Where there may be no room for another pair, and where the journal's end needs a key that is not the stack's.

    AWS encrypts anew only what is current, pending or previous when a secret gets another key.
    """
    versions, page = [], {"NextToken": ""}
    while "NextToken" in page:  # botocore has no paginator for it
        more = {"NextToken": page["NextToken"]} if page["NextToken"] else {}
        page = client.list_secret_version_ids(SecretId=name, IncludeDeprecated=True, **more)
        versions += page["Versions"]
    kept = [v for v in versions if v.get("VersionStages") or v["CreatedDate"] > now - timedelta(days=1)]
    said = _any(connection.name, name)
    if len(kept) > MOST_VERSIONS_BEFORE_A_CLAIM:
        what = f"{said} has {len(kept)} versions of the last day, and AWS keeps about 100"
        remedy = "refresh less often; AWS removes old versions within a day"
        yield Finding(connection.name, what, (remedy,), Severity.LATER)
    (end,) = [v for v in versions if LABEL in v.get("VersionStages", ())] or [{}]
    others = [found for found in end.get("KmsKeyIds", ()) if found not in (key, "DefaultEncryptionKey")]
    if others and connection.exists:
        what = f"the journal in {said} ends under another key, {others[0]}, which is needed until the next refresh"
        yield Finding(connection.name, what, (_REFRESH,), Severity.LATER)
    elif others:
        enable = aws_cli("kms", "enable-key", "--key-id", others[0])
        what = f"the journal in {said} ends under another key, {others[0]}, and may be unreadable"
        yield Finding(connection.name, what, (enable, "or, if that key is gone:", ours("login", connection=ANY)))


def _readers_of_the_pair(stack: Stack, client: Any, connection: str, name: str) -> Finding:
    principals = who_may_read(client.get_resource_policy(SecretId=name).get("ResourcePolicy"))
    if principals is None:
        return fine(connection, "whoever's own policy allows it may read the pair; login --protect narrows that")
    if lets_in(principals, stack.configuration["Role"]):
        return fine(connection, f"the pair is for these alone: {', '.join(principals)}")
    others = [principal for principal in principals if "TokenRefresherRole" not in principal]
    protect = ours("login", *(word for other in others for word in ("--protect", other)), connection=ANY)
    delete = aws_cli("secretsmanager", "delete-resource-policy", "--secret-id", _any(connection, name))
    what = f"{_any(connection, name)} is for {', '.join(principals)} alone, and the function's role is not among them"
    return Finding(connection, what, (delete, protect))
