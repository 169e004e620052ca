"""The local AWS is one that the refresher's journal can be trusted on, and it ends with whoever started it."""

from __future__ import annotations

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

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.people import person_with
from tests.deployed.world import World
from tests.facts import FACTS, Fact, Secret, refusal

pytestmark = pytest.mark.deployed

MAY_READ = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}


@pytest.fixture
def manager(empty_world: World) -> Any:
    return empty_world.client("secretsmanager")


@pytest.fixture
def secret(manager: Any) -> str:
    """A secret without a value."""
    name: str = manager.create_secret(Name=f"overlay/{uuid4()}")["Name"]
    return name


@pytest.mark.parametrize("fact", FACTS, ids=[fact.name for fact in FACTS])
def test_it_does_what_aws_does(manager: Any, secret: str, fact: Fact) -> None:
    fact.check(manager, secret)


def test_a_role_without_permission_is_denied(secret: str, empty_world: World) -> None:
    nobody = person_with(empty_world).client("secretsmanager")

    assert refusal(lambda: nobody.describe_secret(SecretId=secret)) == "AccessDeniedException"


@pytest.mark.parametrize(
    ("named", "code"),
    [
        pytest.param("arn:aws:iam::000000000000:role/{role}", "success", id="by the role"),
        pytest.param("arn:aws:sts::000000000000:assumed-role/{role}/*", "AccessDeniedException", id="not by sessions"),
    ],
)
def test_a_policy_knows_who_has_taken_a_role(
    manager: Any, secret: str, empty_world: World, named: str, code: str
) -> None:
    Secret(manager, secret).put("one")
    person = person_with(empty_world, document={"Version": "2012-10-17", "Statement": [MAY_READ]})
    who = {"aws:PrincipalArn": named.format(role=person.arn.split("/")[1])}
    statement = {**MAY_READ, "Effect": "Deny", "Principal": "*", "Condition": {"ArnNotLike": who}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    manager.put_resource_policy(SecretId=secret, ResourcePolicy=policy)

    assert refusal(lambda: person.client("secretsmanager").get_secret_value(SecretId=secret)) == code


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
