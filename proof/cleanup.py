"""Removes what proofs made, also what killed ones left: what carries the tag, and what has a proof's name.

Everything that costs carries the tag from the moment it is made. A name finds what AWS makes by itself (log groups) or
tells only after a while: GetResources lags behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from .account import Account

__all__ = ["FAMILY", "TAG", "clean"]

# Every run's prefix begins with this; nothing of a user's own installation does, because "clean" removes it.
FAMILY = "virtuous-proof-"
# Its value is the run's prefix.
TAG = "virtuous-token:proof"
# KMS deletes a key after seven days at the earliest; a key that waits for its deletion costs nothing (AWS KMS pricing).
DAYS_TO_DELETE_A_KEY = 7
SECONDS_FOR_A_LISTING = 60.0
GONE = {"ResourceNotFoundException", "NoSuchEntity", "NoSuchBucket", "NotFoundException", "QueueDoesNotExist"}


def clean(account: Account, prefix: str, say: Callable[[str], object]) -> list[str]:
    """Removes all of the run *prefix*, or of all runs, and returns what is left: empty if all went well.

    What cannot be removed does not keep the rest from being removed. Raises ValueError for a prefix that is no proof's.
    """
    if not prefix.startswith(FAMILY):
        raise ValueError(f"only names that begin with {FAMILY} are a proof's")
    left: list[str] = []
    for service, (named, remove) in KINDS.items():
        for arn in dict.fromkeys([*_named(account, named, prefix), *_tagged(account, service, prefix)]):
            say(f"Remove {_without_account(arn)}")
            try:
                remove(account.client(service), arn)
            except (ClientError, BotoCoreError, WaiterError) as error:
                code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
                if code.rpartition(".")[2] not in GONE:
                    left.append(f"{_without_account(arn)} ({code})")
    return left or _still_there(account, prefix)


def _still_there(account: Account, prefix: str) -> list[str]:
    """What is listed when all was removed; listings may lag, so they are asked for a while."""
    deadline = time.monotonic() + SECONDS_FOR_A_LISTING
    while True:
        found = [_without_account(arn) for named, _ in KINDS.values() for arn in _named(account, named, prefix)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(2)  # AWS removes in its own time: it can only be asked


def _without_account(arn: str) -> str:
    _, _, service, _, _, name = arn.split(":", 5)
    return f"{service} {name}"


def _tagged(account: Account, service: str, prefix: str) -> list[str]:
    tagged = account.pages(
        "resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=[{"Key": TAG}]
    )
    arns = [
        entry["ResourceARN"]
        for entry in tagged
        if any(tag["Key"] == TAG and tag["Value"].startswith(prefix) for tag in entry["Tags"])
    ]
    of_service = [arn for arn in arns if arn.split(":")[2] == service]
    if service != "kms":
        return of_service
    keys = account.client("kms")
    return [arn for arn in of_service if keys.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] != "PendingDeletion"]


def _named(account: Account, listed: Callable[[Account], Iterator[str]], prefix: str) -> list[str]:
    return [arn for arn in listed(account) if prefix in arn]


def _listing(service: str, operation: str, key: str, arn: str, **arguments: Any) -> Callable[[Account], Iterator[str]]:
    return lambda account: (entry[arn] for entry in account.pages(service, operation, key, **arguments))


def _stacks(account: Account) -> Iterator[str]:
    """A reader's stack first, since it attaches a policy of the product's; the stand-in's last: it has the key."""
    stacks = account.pages("cloudformation", "describe_stacks", "Stacks")
    there = [stack["StackId"] for stack in stacks if stack["StackStatus"] != "DELETE_COMPLETE"]
    yield from sorted(there, key=lambda arn: ("-stand-in" in arn, "-example-reader" not in arn))


def _functions_and_layers(account: Account) -> Iterator[str]:
    yield from _listing("lambda", "list_functions", "Functions", "FunctionArn")(account)
    for layer in account.pages("lambda", "list_layers", "Layers"):
        if FAMILY in layer["LayerName"]:
            asked = {"LayerName": layer["LayerName"]}
            yield from _listing("lambda", "list_layer_versions", "LayerVersions", "LayerVersionArn", **asked)(account)


def _queues(account: Account) -> Iterator[str]:
    for url in account.client("sqs").list_queues(QueueNamePrefix=FAMILY).get("QueueUrls", []):
        yield f"arn:aws:sqs:{account.region}:{account.number}:{url.rpartition('/')[2]}"


def _buckets(account: Account) -> Iterator[str]:
    for bucket in account.client("s3").list_buckets()["Buckets"]:
        yield f"arn:aws:s3:::{bucket['Name']}"


def _delete_role(iam: Any, arn: str) -> None:
    name = arn.rpartition("/")[2]
    for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName=name)


def _delete_stack(formation: Any, arn: str) -> None:
    formation.delete_stack(StackName=arn)
    formation.get_waiter("stack_delete_complete").wait(StackName=arn, WaiterConfig={"Delay": 3, "MaxAttempts": 200})


def _delete_function_or_layer(functions: Any, arn: str) -> None:
    kind, *name = arn.split(":")[5:]
    if kind == "function":
        functions.delete_function(FunctionName=name[0])
    else:
        functions.delete_layer_version(LayerName=name[0], VersionNumber=int(name[1]))


def _delete_secret(manager: Any, arn: str) -> None:
    if "DeletedDate" in manager.describe_secret(SecretId=arn):
        manager.restore_secret(SecretId=arn)  # one that is marked can be deleted at once only after it was restored
    manager.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def _delete_queue(sqs: Any, arn: str) -> None:
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"])


def _delete_bucket(s3: Any, arn: str) -> None:
    bucket = arn.rpartition(":")[2]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for stored in page.get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=stored["Key"])
    s3.delete_bucket(Bucket=bucket)


SECRETS = {"IncludePlannedDeletion": True, "Filters": [{"Key": "name", "Values": [FAMILY]}]}
# In the order of removal. Roles first, since a stack's policy can be attached to one: of those that stacks made none
# is here, their names go on after the prefix with the logical id. Then stacks, which own most of the rest.
KINDS: Mapping[str, tuple[Callable[[Account], Iterator[str]], Callable[[Any, str], object]]] = {
    "iam": (
        lambda account: (arn for arn in _listing("iam", "list_roles", "Roles", "Arn")(account) if "-as-reader-" in arn),
        _delete_role,
    ),
    "cloudformation": (_stacks, _delete_stack),
    "lambda": (_functions_and_layers, _delete_function_or_layer),
    "secretsmanager": (_listing("secretsmanager", "list_secrets", "SecretList", "ARN", **SECRETS), _delete_secret),
    "sqs": (_queues, _delete_queue),
    "logs": (
        _listing("logs", "describe_log_groups", "logGroups", "arn", logGroupNamePrefix=f"/aws/lambda/{FAMILY}"),
        lambda logs, arn: logs.delete_log_group(logGroupName=arn.split(":")[6]),
    ),
    "s3": (_buckets, _delete_bucket),
    "kms": (
        lambda account: iter(()),
        lambda kms, arn: kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=DAYS_TO_DELETE_A_KEY),
    ),
}
