"""The local AWS is one that the refresher's journal can be trusted on, and it ends with whoever started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.people import person_with
from tests.deployed.world import World

pytestmark = pytest.mark.deployed

CURRENT, PREVIOUS, CUSTOM = "AWSCURRENT", "AWSPREVIOUS", "REFRESHING"


@pytest.fixture
def manager(empty_world: World) -> Any:
    return empty_world.client("secretsmanager")


@pytest.fixture
def secret(manager: Any) -> str:
    """A secret without a value."""
    name: str = manager.create_secret(Name=f"overlay/{uuid4()}")["Name"]
    return name


def put(manager: Any, secret: str, value: str, *labels: str, version: str | None = None) -> str:
    version_id: str = manager.put_secret_value(
        SecretId=secret,
        SecretString=value,
        ClientRequestToken=version or str(uuid4()),
        **({"VersionStages": list(labels)} if labels else {}),
    )["VersionId"]
    return version_id


def labels(manager: Any, secret: str) -> dict[str, str]:
    described = manager.describe_secret(SecretId=secret).get("VersionIdsToStages", {})
    return {label: version for version, its_labels in described.items() for label in its_labels}


def test_a_secret_made_without_a_value_has_no_version(manager: Any, secret: str) -> None:
    assert labels(manager, secret) == {}
    with pytest.raises(manager.exceptions.ResourceNotFoundException):
        manager.get_secret_value(SecretId=secret)


def test_the_first_version_is_current_whatever_label_it_was_given(manager: Any, secret: str) -> None:
    first = put(manager, secret, "one", CUSTOM)

    assert labels(manager, secret) == {CURRENT: first, CUSTOM: first}


def test_a_version_is_written_once(manager: Any, secret: str) -> None:
    first = put(manager, secret, "one")

    with pytest.raises(manager.exceptions.ResourceExistsException):
        put(manager, secret, "two", version=first)

    assert manager.get_secret_value(SecretId=secret, VersionId=first)["SecretString"] == "one"


def test_the_same_value_again_moves_no_label(manager: Any, secret: str) -> None:
    first = put(manager, secret, "one")
    second = put(manager, secret, "two")

    assert put(manager, secret, "one", version=first) == first
    assert labels(manager, secret) == {CURRENT: second, PREVIOUS: first}


def test_a_put_takes_its_label_from_the_version_that_held_it(manager: Any, secret: str) -> None:
    first = put(manager, secret, "one")
    put(manager, secret, "two", CUSTOM)
    third = put(manager, secret, "three", CUSTOM)

    assert labels(manager, secret) == {CURRENT: first, CUSTOM: third}


def test_a_version_without_labels_can_still_be_read(manager: Any, secret: str) -> None:
    first = put(manager, secret, "one")
    for value in ("two", "three"):
        put(manager, secret, value)

    assert first not in labels(manager, secret).values()
    assert manager.get_secret_value(SecretId=secret, VersionId=first)["SecretString"] == "one"


def test_a_label_moves_only_from_where_it_is(manager: Any, secret: str) -> None:
    first, second = put(manager, secret, "one"), put(manager, secret, "two")

    with pytest.raises(manager.exceptions.InvalidParameterException):
        manager.update_secret_version_stage(
            SecretId=secret, VersionStage=CURRENT, MoveToVersionId=first, RemoveFromVersionId=first
        )
    manager.update_secret_version_stage(
        SecretId=secret, VersionStage=CURRENT, MoveToVersionId=first, RemoveFromVersionId=second
    )

    assert labels(manager, secret) == {CURRENT: first, PREVIOUS: second}


@pytest.mark.parametrize("is_marked", [False, True], ids=["in use", "marked for deletion"])
def test_a_stack_cannot_make_a_secret_whose_name_is_taken(
    manager: Any, secret: str, empty_world: World, is_marked: bool
) -> None:
    version = put(manager, secret, "kept")
    if is_marked:
        manager.delete_secret(SecretId=secret)
    resources = {"Taken": {"Type": "AWS::SecretsManager::Secret", "Properties": {"Name": secret}}}
    formation, stack = empty_world.client("cloudformation"), f"taken-{uuid4()}"

    formation.create_stack(StackName=stack, TemplateBody=json.dumps({"Resources": resources}))

    def reason() -> str | None:
        events = formation.describe_stack_events(StackName=stack)["StackEvents"]
        failed = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
        is_over = any(event["ResourceStatus"] == "ROLLBACK_COMPLETE" for event in events)
        return failed[0]["ResourceStatusReason"] if failed and is_over else None

    assert "already exists" in empty_world.wait("the refusal", reason, 30)
    formation.delete_stack(StackName=stack)
    if is_marked:
        manager.restore_secret(SecretId=secret)
    assert manager.get_secret_value(SecretId=secret)["VersionId"] == version


def test_a_role_without_permission_is_denied(manager: Any, empty_world: World) -> None:
    iam = empty_world.client("iam")
    user = iam.create_user(UserName=f"nobody-{uuid4()}")["User"]["UserName"]
    key = iam.create_access_key(UserName=user)["AccessKey"]
    environment = empty_world.environment | {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    nobody = World(empty_world.directory, empty_world.virtuous, environment, empty_world.say)

    with pytest.raises(ClientError) as refusal:
        nobody.client("secretsmanager").list_secrets()

    assert refusal.value.response["Error"]["Code"] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("named", "is_let_in"),
    [
        pytest.param("arn:aws:iam::000000000000:role/{role}", True, id="by the role"),
        pytest.param("arn:aws:sts::000000000000:assumed-role/{role}/*", False, id="not by its sessions"),
    ],
)
def test_a_policy_knows_who_has_taken_a_role(
    manager: Any, secret: str, empty_world: World, named: str, is_let_in: bool
) -> None:
    put(manager, secret, "one")
    allowed = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}
    person = person_with(empty_world, document={"Version": "2012-10-17", "Statement": [allowed]})
    who = {"aws:PrincipalArn": named.format(role=person.arn.split("/")[1])}
    statement = {**allowed, "Effect": "Deny", "Principal": "*", "Condition": {"ArnNotLike": who}}
    manager.put_resource_policy(
        SecretId=secret, ResourcePolicy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    refusal = contextlib.nullcontext() if is_let_in else pytest.raises(ClientError, match="AccessDenied")

    with refusal:
        person.client("secretsmanager").get_secret_value(SecretId=secret)


def test_a_policy_that_lets_anybody_in_is_blocked_for_who_asks(manager: Any, secret: str) -> None:
    anybody = {"Effect": "Allow", "Principal": "*", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [anybody]})

    with pytest.raises(manager.exceptions.PublicPolicyException):
        manager.put_resource_policy(SecretId=secret, ResourcePolicy=policy, BlockPublicPolicy=True)
    assert "ResourcePolicy" not in manager.get_resource_policy(SecretId=secret)
    manager.put_resource_policy(SecretId=secret, ResourcePolicy=policy)


def test_it_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from tests.deployed.local_aws import local_aws

with local_aws(Path({str(tmp_path)!r})) as endpoint:
    print(endpoint, flush=True)
    time.sleep(600)  # until the test kills this process
"""
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    with starter:
        assert starter.stdout is not None
        port = urlsplit(starter.stdout.readline()).port
        assert port is not None
        assert is_open(port)
        os.kill(starter.pid, signal.SIGKILL)

    deadline = time.monotonic() + 10
    while is_open(port):
        assert time.monotonic() < deadline, "the local AWS outlives its starter"
        time.sleep(0.05)  # the local AWS notices by itself that its starter is gone; the deadline judges


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
