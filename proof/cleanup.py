"""Removes what a proof made, also what a killed run left. Everything that it touches has a name under the prefix."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from .account import Account, delete_role

__all__ = ["FAMILY", "clean"]

# Every run's prefix begins with this; nothing of a user's own installation does, because "clean" removes it.
FAMILY = "virtuous-proof-"
# KMS deletes a key after seven days at the earliest; a key that waits for its deletion costs nothing (AWS KMS pricing).
DAYS_TO_DELETE_A_KEY = 7
SECONDS_FOR_A_LISTING = 60.0
# The ends of the names of the roles that the proof makes itself.
ROLE_ENDINGS = ("-stage", "-as-reader")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of thing: how those under the prefix are found, and how one is removed."""

    name: str
    find: Callable[[Account, str], list[str]]
    remove: Callable[[Account, str], None]


def clean(account: Account, prefix: str, say: Callable[[str], object]) -> list[str]:
    """Removes all under *prefix* and returns what is left, as ``kind name``: empty if all went well.

    What cannot be removed does not keep the rest from being removed. Raises ValueError for a prefix that is no proof's.
    """
    if not prefix.startswith(FAMILY):
        raise ValueError(f"only names that begin with {FAMILY} are a proof's")
    left: list[str] = []
    for kind in _KINDS:
        for name in _found(account, kind, prefix):
            say(f"Remove {kind.name} {name}")
            try:
                kind.remove(account, name)
            except (ClientError, BotoCoreError, WaiterError) as error:
                left.append(f"{kind.name} {name} ({_code(error)})")
    return left + [f"{kind.name} {name}" for kind in _KINDS for name in _still_there(account, kind, prefix)]


def _still_there(account: Account, kind: _Kind, prefix: str) -> list[str]:
    """What is listed when all was removed; listings may lag, so they are asked for a while."""
    deadline = time.monotonic() + SECONDS_FOR_A_LISTING
    while (found := _found(account, kind, prefix)) and time.monotonic() < deadline:
        time.sleep(2)  # AWS removes in its own time: it can only be asked
    return found


def _found(account: Account, kind: _Kind, prefix: str) -> list[str]:
    return [name for name in kind.find(account, prefix) if prefix in name]


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def _pages(account: Account, service: str, operation: str, key: str, **arguments: Any) -> Iterator[Any]:
    for page in account.client(service).get_paginator(operation).paginate(**arguments):
        yield from page.get(key, [])


# The order of removal: the proof's own roles, since a stack's policy can be attached to one; then the stacks, which own
# most of the rest, the reader's before the product's, whose policy it attaches.


def _stacks(account: Account, prefix: str) -> list[str]:
    found = _pages(account, "cloudformation", "describe_stacks", "Stacks")
    names = [stack["StackName"] for stack in found if stack["StackName"].startswith(prefix)]
    return sorted(names, key=lambda name: (not name.endswith("-reader"), name))


def _delete_stack(account: Account, name: str) -> None:
    client = account.client("cloudformation")
    client.delete_stack(StackName=name)
    client.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 3, "MaxAttempts": 200})


def _functions(account: Account, prefix: str) -> list[str]:
    found = _pages(account, "lambda", "list_functions", "Functions")
    return [function["FunctionName"] for function in found if function["FunctionName"].startswith(prefix)]


def _delete_function(account: Account, name: str) -> None:
    account.client("lambda").delete_function(FunctionName=name)


def _layer_versions(account: Account, prefix: str) -> list[str]:
    client = account.client("lambda")
    layers = [
        layer["LayerName"]
        for layer in _pages(account, "lambda", "list_layers", "Layers")
        if layer["LayerName"].startswith(prefix)
    ]
    return [
        f"{layer}:{version['Version']}"
        for layer in layers
        for version in client.list_layer_versions(LayerName=layer)["LayerVersions"]
    ]


def _delete_layer_version(account: Account, name: str) -> None:
    layer, _, version = name.rpartition(":")
    account.client("lambda").delete_layer_version(LayerName=layer, VersionNumber=int(version))


def _secrets(account: Account, prefix: str) -> list[str]:
    filters = [{"Key": "name", "Values": [prefix]}]
    found = _pages(
        account, "secretsmanager", "list_secrets", "SecretList", IncludePlannedDeletion=True, Filters=filters
    )
    return [secret["Name"] for secret in found]


def _delete_secret(account: Account, name: str) -> None:
    client = account.client("secretsmanager")
    if "DeletedDate" in client.describe_secret(SecretId=name):
        client.restore_secret(SecretId=name)  # one that is marked can be deleted at once only after it was restored
    client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def _queues(account: Account, prefix: str) -> list[str]:
    return list(account.client("sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", []))


def _delete_queue(account: Account, url: str) -> None:
    account.client("sqs").delete_queue(QueueUrl=url)


def _topics(account: Account, prefix: str) -> list[str]:
    found = _pages(account, "sns", "list_topics", "Topics")
    return [topic["TopicArn"] for topic in found if topic["TopicArn"].rpartition(":")[2].startswith(prefix)]


def _delete_topic(account: Account, arn: str) -> None:
    client = account.client("sns")
    for subscription in client.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]:
        client.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    client.delete_topic(TopicArn=arn)


def _roles(account: Account, prefix: str) -> list[str]:
    found = _pages(account, "iam", "list_roles", "Roles")
    # A stack's roles are the stack's; its names go on after the prefix with the logical id.
    names = [role["RoleName"] for role in found if role["RoleName"].startswith(prefix)]
    return [name for name in names if name.endswith(ROLE_ENDINGS)]


def _delete_role(account: Account, name: str) -> None:
    delete_role(account.client("iam"), name)


def _log_groups(account: Account, prefix: str) -> list[str]:
    found = _pages(account, "logs", "describe_log_groups", "logGroups", logGroupNamePrefix=f"/aws/lambda/{prefix}")
    return [group["logGroupName"] for group in found]


def _delete_log_group(account: Account, name: str) -> None:
    account.client("logs").delete_log_group(logGroupName=name)


def _buckets(account: Account, prefix: str) -> list[str]:
    found = account.client("s3").list_buckets()["Buckets"]
    return [bucket["Name"] for bucket in found if bucket["Name"].startswith(prefix)]


def _delete_bucket(account: Account, name: str) -> None:
    client = account.client("s3")
    for stored in _pages(account, "s3", "list_objects_v2", "Contents", Bucket=name):
        client.delete_object(Bucket=name, Key=stored["Key"])
    client.delete_bucket(Bucket=name)


def _key_aliases(account: Account, prefix: str) -> list[str]:
    found = _pages(account, "kms", "list_aliases", "Aliases")
    return [alias["AliasName"] for alias in found if alias["AliasName"].startswith(f"alias/{prefix}")]


def _delete_key(account: Account, alias: str) -> None:
    client = account.client("kms")
    key = client.describe_key(KeyId=alias)["KeyMetadata"]["KeyId"]
    client.delete_alias(AliasName=alias)
    with contextlib.suppress(client.exceptions.KMSInvalidStateException):  # it waits for its deletion already
        client.schedule_key_deletion(KeyId=key, PendingWindowInDays=DAYS_TO_DELETE_A_KEY)


_KINDS = (
    _Kind("role", _roles, _delete_role),
    _Kind("stack", _stacks, _delete_stack),
    _Kind("function", _functions, _delete_function),
    _Kind("layer version", _layer_versions, _delete_layer_version),
    _Kind("secret", _secrets, _delete_secret),
    _Kind("topic", _topics, _delete_topic),
    _Kind("queue", _queues, _delete_queue),
    _Kind("log group", _log_groups, _delete_log_group),
    _Kind("bucket", _buckets, _delete_bucket),
    _Kind("key", _key_aliases, _delete_key),
)
