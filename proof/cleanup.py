"""Removes what proofs made, also what killed ones left: what carries the tag, and what has a proof's name.

Everything that costs carries the tag from the moment it is made. A name finds what AWS makes by itself (log groups) and
what GetResources, which lags behind, does not tell yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from .account import Account

# Every run's prefix begins with this; nothing of a user's own installation does, because "clean" removes it.
FAMILY = "virtuous-proof-"
# Its value is the run's prefix.
TAG = "virtuous-token:proof"
SECONDS_FOR_A_LISTING = 60.0
GONE = {"ResourceNotFoundException", "NoSuchEntity", "NoSuchBucket", "NotFoundException", "NonExistentQueue"}
# In the order of removal: roles first, since a stack's policy can be attached to one; then stacks, which own most of
# the rest.
SERVICES = ("iam", "cloudformation", "lambda", "secretsmanager", "sqs", "logs", "s3", "kms")


def clean(account: Account, prefix: str, say: Callable[[str], object]) -> list[str]:
    """Removes all of the run *prefix*, or of all runs, and returns what is left: empty if all went well.

    What cannot be removed does not keep the rest from being removed. Raises ValueError for a prefix that is no proof's.
    """
    if not prefix.startswith(FAMILY):
        raise ValueError(f"only names that begin with {FAMILY} are a proof's")
    left: list[str] = []
    for service in SERVICES:
        named = (arn for arn in _listed(account, service) if prefix in arn)
        for arn in dict.fromkeys([*named, *_tagged(account, service, prefix)]):
            say(f"Remove {_shown(arn)}")
            try:
                _remove(account.client(service), service, arn)
            except (ClientError, BotoCoreError, WaiterError) as error:
                code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
                if code.rpartition(".")[2] not in GONE:
                    left.append(f"{_shown(arn)} ({code})")
    deadline = time.monotonic() + SECONDS_FOR_A_LISTING  # listings may lag, so they are asked for a while
    while not left and (found := [arn for one in SERVICES for arn in _listed(account, one) if prefix in arn]):
        left = [_shown(arn) for arn in found if time.monotonic() > deadline]
        time.sleep(2)  # AWS removes in its own time: it can only be asked
    return left


def _shown(arn: str) -> str:
    """Without the account's number."""
    _, _, service, _, _, name = arn.split(":", 5)
    return f"{service} {name}"


def _tagged(account: Account, service: str, prefix: str) -> Iterator[str]:
    """A key that waits for its deletion is gone."""
    filters = [{"Key": TAG}]
    for found in account.pages(
        "resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=filters
    ):
        arn, (value, *_) = found["ResourceARN"], [tag["Value"] for tag in found["Tags"] if tag["Key"] == TAG]
        if arn.split(":")[2] == service and value.startswith(prefix):
            kms = account.client("kms")
            if service != "kms" or kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] != "PendingDeletion":
                yield arn


def _listed(account: Account, service: str) -> Iterator[str]:
    """The ARNs of what may be a proof's. Of roles only those that it makes itself: a stack's are the stack's."""
    match service:
        case "iam":
            roles = account.pages("iam", "list_roles", "Roles")
            yield from (role["Arn"] for role in roles if "-as-reader-" in role["RoleName"])
        case "cloudformation":
            stacks = account.pages("cloudformation", "describe_stacks", "Stacks")
            arns = [stack["StackId"] for stack in stacks if stack["StackStatus"] != "DELETE_COMPLETE"]
            # A reader's first, since it attaches a policy of the product's; the stand-in's last, since it has the key.
            yield from sorted(arns, key=lambda arn: ("-stand-in" in arn, "-example-reader" not in arn))
        case "lambda":
            yield from (found["FunctionArn"] for found in account.pages("lambda", "list_functions", "Functions"))
            layers = [found["LayerName"] for found in account.pages("lambda", "list_layers", "Layers")]
            for layer in (name for name in layers if FAMILY in name):
                versions = account.pages("lambda", "list_layer_versions", "LayerVersions", LayerName=layer)
                yield from (version["LayerVersionArn"] for version in versions)
        case "secretsmanager":
            ours = {"IncludePlannedDeletion": True, "Filters": [{"Key": "name", "Values": [FAMILY]}]}
            yield from (found["ARN"] for found in account.pages("secretsmanager", "list_secrets", "SecretList", **ours))
        case "logs":
            ours = {"logGroupNamePrefix": f"/aws/lambda/{FAMILY}"}
            yield from (found["arn"] for found in account.pages("logs", "describe_log_groups", "logGroups", **ours))
        case "s3":
            yield from (f"arn:aws:s3:::{found['Name']}" for found in account.client("s3").list_buckets()["Buckets"])


def _remove(client: Any, service: str, arn: str) -> None:  # noqa: C901 (a table, one kind a case)
    name = arn.rpartition(":")[2]
    match service:
        case "iam":
            role = name.rpartition("/")[2]
            for policy in client.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
                client.detach_role_policy(RoleName=role, PolicyArn=policy["PolicyArn"])
            client.delete_role(RoleName=role)
        case "cloudformation":
            client.delete_stack(StackName=arn)
            wait = {"Delay": 3, "MaxAttempts": 200}
            client.get_waiter("stack_delete_complete").wait(StackName=arn, WaiterConfig=wait)
        case "lambda" if ":layer:" in arn:
            client.delete_layer_version(LayerName=arn.split(":")[6], VersionNumber=int(name))
        case "lambda":
            client.delete_function(FunctionName=name)
        case "secretsmanager":
            if "DeletedDate" in client.describe_secret(SecretId=arn):
                client.restore_secret(SecretId=arn)  # only then can one that is marked be deleted at once
            client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        case "sqs":
            client.delete_queue(QueueUrl=client.get_queue_url(QueueName=name)["QueueUrl"])
        case "logs":
            client.delete_log_group(logGroupName=arn.split(":")[6])
        case "s3":
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
                for stored in page.get("Contents", []):
                    client.delete_object(Bucket=name, Key=stored["Key"])
            client.delete_bucket(Bucket=name)
        case "kms":
            # At the earliest that KMS knows; a key that waits for its deletion costs nothing (AWS KMS pricing).
            client.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
