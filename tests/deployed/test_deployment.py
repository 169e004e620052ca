"""A deployment that fails half way, is deleted, repeated or upgraded is in nobody's way, and touches no connection."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deployed.people import Person
from tests.deployed.world import RUNTIME, StepFailed, World
from tests.fakes.virtuous import Virtuous

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

PREFIX, STACK = "lived-in", "another-lived-in"
NAMES = [f"{PREFIX}/acme/{kind}" for kind in ("tokens", "bearer")]
NEEDED_LATE = f"/{PREFIX}/reader-policy-arn"  # a parameter that a deployment makes late
NEEDED_NEXT = f"/{PREFIX}/next"


@pytest.fixture
def world(deployed_world: World) -> Iterator[World]:
    """Without a stack and a secret of this prefix before the test, and after it; its tokens live fifteen days."""
    with Virtuous() as virtuous:
        yield World(deployed_world.directory, virtuous, deployed_world.environment, deployed_world.say)
    if any(
        found["StackName"] == STACK for found in deployed_world.client("cloudformation").describe_stacks()["Stacks"]
    ):
        deployed_world.delete(STACK)
    for name in NAMES:
        deployed_world.client("secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def deploy(world: World) -> None:
    assert world.deploy_another(PREFIX, VirtuousBaseUrl=world.virtuous.base_url) == STACK


def upgrade(world: World) -> None:
    """To a version that makes a parameter more."""
    upgraded = world.directory / "build" / "upgraded"
    shutil.copytree(world.directory / "build" / "refresher", upgraded, dirs_exist_ok=True)
    properties = f"{{ Name: {NEEDED_NEXT}, Type: String, Value: x }}"
    more = f"\nResources:\n  Next:\n    Type: AWS::SSM::Parameter\n    Properties: {properties}"
    template = (upgraded / "template.yaml").read_text().replace("\nResources:", more, 1)
    (upgraded / "template.yaml").write_text(template)
    parameters = {"PythonRuntime": RUNTIME, "Prefix": PREFIX, "VirtuousBaseUrl": world.virtuous.base_url}
    world._deploy("upgraded", STACK, **parameters)


def put_in_the_way(world: World, parameter: str) -> None:
    world.client("ssm").put_parameter(Name=parameter, Type="String", Value="somebody's")


def take_out_of_the_way(world: World, parameter: str) -> None:
    assert world.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"] == "somebody's"
    world.client("ssm").delete_parameter(Name=parameter)


def status(world: World) -> str:
    (described,) = world.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    return str(described["StackStatus"])


def secrets(world: World) -> Any:
    manager = world.client("secretsmanager")
    values = [manager.get_secret_value(SecretId=name)["SecretString"] for name in NAMES]
    return values, [manager.describe_secret(SecretId=name)["VersionIdsToStages"] for name in NAMES]


def sweep(world: World, **event: Any) -> Any:
    return world.invoke(f"{PREFIX}-token-refresher", event)["outcomes"]


def test_a_stack_is_made_again_after_a_failure_and_a_deletion_and_upgraded_after_a_rollback(world: World) -> None:
    put_in_the_way(world, NEEDED_LATE)
    with pytest.raises(StepFailed):
        deploy(world)
    assert status(world) == "ROLLBACK_COMPLETE"
    world.delete(STACK)  # CloudFormation updates no stack whose creation failed
    take_out_of_the_way(world, NEEDED_LATE)
    deploy(world)
    piped = f"{world.virtuous.user}\n{world.virtuous.password}\n"
    assert Person(world, {}).runs("--prefix", PREFIX, "login", "--connection", "acme", piped=piped).status == 0
    before, first = secrets(world), sweep(world)
    world.delete(STACK)
    deploy(world)

    assert (first, sweep(world)) == ({"acme": "fresh"}, {"acme": "fresh"})
    assert secrets(world) == before

    put_in_the_way(world, NEEDED_NEXT)
    with pytest.raises(StepFailed):
        upgrade(world)
    assert (status(world), sweep(world), secrets(world)) == ("UPDATE_ROLLBACK_COMPLETE", {"acme": "fresh"}, before)
    take_out_of_the_way(world, NEEDED_NEXT)
    upgrade(world)

    assert (status(world), sweep(world), secrets(world)) == ("UPDATE_COMPLETE", {"acme": "fresh"}, before)
    assert sweep(world, connections=["acme"], force=True) == {"acme": "refreshed"}
