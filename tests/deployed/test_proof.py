"""``make prove`` on the local AWS: each observation is made or marked, a fault is seen, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import boto3
import pytest

from proof.cleanup import FAMILY
from proof.stand_in.function.stand_in import StandIn
from proof.story import SUBJECTS
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.proof_on_local_aws import NOT_TO_BE_HAD
from tests.deployed.world import World
from tests.fakes.virtuous import Virtuous

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

COMMAND = [sys.executable, "-m", "tests.deployed.proof_on_local_aws"]


def proof(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=REPOSITORY, env=world.environment, capture_output=True, text=True, check=False
    )


def verdicts(directory: Path) -> Mapping[str, str]:
    stored = json.loads((directory / "report.json").read_text())
    return {observation["subject"]: observation["verdict"] for observation in stored["observations"]}


def left(world: World) -> Sequence[str]:
    """What has a proof's prefix, asked of each service directly."""
    found: list[str] = [
        stack["StackName"]
        for stack in world.client("cloudformation").describe_stacks()["Stacks"]
        if stack["StackStatus"] != "DELETE_COMPLETE"
    ]
    secrets = world.client("secretsmanager").list_secrets(IncludePlannedDeletion=True, MaxResults=100)
    found += [secret["Name"] for secret in secrets["SecretList"]]
    found += [bucket["Name"] for bucket in world.client("s3").list_buckets()["Buckets"]]
    found += world.client("sqs").list_queues().get("QueueUrls", [])
    found += [topic["TopicArn"] for topic in world.client("sns").list_topics()["Topics"]]
    found += [function["FunctionName"] for function in world.client("lambda").list_functions()["Functions"]]
    found += [layer["LayerName"] for layer in world.client("lambda").list_layers()["Layers"]]
    found += [role["RoleName"] for role in world.client("iam").list_roles()["Roles"]]
    found += [alias["AliasName"] for alias in world.client("kms").list_aliases()["Aliases"]]
    found += [group["logGroupName"] for group in world.client("logs").describe_log_groups()["logGroups"]]
    return [name for name in found if FAMILY in name]


def test_everything_is_shown_or_marked_with_the_reason(empty_world: World, tmp_path: Path) -> None:
    done = proof(empty_world, "run", "--yes", "--directory", str(tmp_path))
    seen = verdicts(tmp_path)
    assert [subject for subject, verdict in seen.items() if verdict == "not shown"] == [], done.stdout
    marked = {subject.removeprefix("Secrets Manager: ") for subject, verdict in seen.items() if verdict != "shown"}
    assert marked == NOT_TO_BE_HAD.keys()
    assert set(SUBJECTS) <= seen.keys()
    assert done.returncode == 3, done.stderr
    page = (tmp_path / "report.md").read_text()
    assert "000000000000" not in page
    assert left(empty_world) == []


def test_a_reader_policy_that_is_too_wide_is_seen(empty_world: World, tmp_path: Path) -> None:
    subject = "a reader gets 200 and is refused the pair"
    options = ("run", "--yes", "--directory", str(tmp_path), "--only", "story", "--until", subject)
    done = proof(empty_world, "--plant", "pair-readable", *options)
    assert verdicts(tmp_path)[subject] == "not shown"
    assert done.returncode == 1


@contextlib.contextmanager
def running(world: World, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A proof that has just begun to deploy."""
    process = subprocess.Popen(
        [*COMMAND, "run", "--yes", "--directory", str(directory), "--only", "story"],
        cwd=REPOSITORY,
        env=world.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A program that is started in the background ignores Ctrl-C, and so do those that it starts.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if "Deploy the product" in line:
                break
        yield process
        process.stdout.read()


def test_ctrl_c_leaves_nothing(empty_world: World, tmp_path: Path) -> None:
    with running(empty_world, tmp_path) as process:
        assert left(empty_world) != []
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert left(empty_world) == []
    assert verdicts(tmp_path)["everything was removed"] == "shown"


def test_what_a_killed_run_left_is_removed_by_clean(empty_world: World, tmp_path: Path) -> None:
    with running(empty_world, tmp_path) as process:
        os.killpg(process.pid, signal.SIGKILL)
    assert left(empty_world) != []
    done = proof(empty_world, "clean")
    assert done.returncode == 0, done.stderr
    assert left(empty_world) == []


@pytest.fixture
def stand_in(empty_world: World) -> Iterator[StandIn]:
    """The rules of the deployed stand-in over a table of the local AWS."""
    key = "key"
    table = boto3.resource(
        "dynamodb",
        endpoint_url=empty_world.environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=empty_world.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=empty_world.environment["AWS_SECRET_ACCESS_KEY"],
        region_name=empty_world.environment["AWS_REGION"],
    ).create_table(
        TableName="stand-in",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
    )
    stand_in = StandIn(table, "me@example.org", 600)
    stand_in.control({"password": "right"})
    yield stand_in
    table.delete()


def test_the_stand_in_of_the_proof_answers_as_the_one_on_loopback(stand_in: StandIn) -> None:
    def ours(method: str, path: str, headers: dict[str, str], body: str) -> tuple[int, Any]:
        named = {name.lower(): value for name, value in headers.items()}
        answer = stand_in.answer(method, path, named, body.encode())
        return answer["statusCode"], json.loads(answer["body"])

    with Virtuous(users={"me@example.org": "right"}, token_life_seconds=600) as virtuous:

        def theirs(method: str, path: str, headers: dict[str, str], body: str) -> tuple[int, Any]:
            request = Request(virtuous.base_url + path, body.encode() or None, headers, method=method)
            try:
                with urlopen(request) as answer:
                    return answer.status, json.load(answer)
            except HTTPError as refused:
                with refused:
                    return refused.code, json.load(refused)

        assert _shape(ours) == _shape(theirs)


def _shape(call: Any) -> list[tuple[int, list[str]]]:
    """Statuses and keys of one story: log in, refresh, refresh again with what was spent, call, and what is wrong."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    seen: list[tuple[int, list[str]]] = []

    def ask(method: str, path: str, headers: dict[str, str], body: str = "") -> Any:
        status, content = call(method, path, headers, body)
        seen.append((status, sorted(content.keys() - {"error_description"})))
        return content

    def token(**fields: str) -> Any:
        return ask("POST", "/Token", form, urlencode(fields))

    token(grant_type="password", username="me@example.org", password="wrong")
    first = token(grant_type="password", username="me@example.org", password="right")
    token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    token(grant_type="nonsense")
    ask("POST", "/Token", {"Content-Type": "text/plain"}, "x")
    ask("GET", "/api/Organization/Current", {"Authorization": f"Bearer {first['access_token']}"})
    ask("GET", "/api/Organization/Current", {"Authorization": "Bearer unknown"})
    ask("GET", "/elsewhere", {})
    return seen
