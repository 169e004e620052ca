"""A deployment that fails half way, is deleted, repeated or upgraded is in nobody's way, and touches no connection."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deployed.world import StepFailed, World
from tests.fakes.virtuous import Virtuous

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

PREFIX, STACK = "lived-in", "another-lived-in"
NEEDED_LATE = f"/{PREFIX}/reader-policy-arn"  # a parameter that a deployment makes late
NEEDED_NEXT = f"/{PREFIX}/next"


@pytest.fixture
def world(deployed_world: World) -> Iterator[World]:
    """Without a stack of this prefix; its tokens live fifteen days."""
    with Virtuous() as virtuous:
        yield World(deployed_world.directory, virtuous, deployed_world.environment, deployed_world.say, PREFIX, STACK)
    with contextlib.suppress(StepFailed):
        deployed_world.delete(STACK)


def deploy(world: World) -> None:
    assert world.deploy_another(PREFIX, VirtuousBaseUrl=world.virtuous.base_url) == STACK


def upgrade(world: World) -> None:
    """To a version that makes a parameter more."""
    upgraded = world.directory / "build" / "upgraded"
    shutil.copytree(world.built("refresher"), upgraded, dirs_exist_ok=True)
    properties = f"{{ Name: {NEEDED_NEXT}, Type: String, Value: x }}"
    more = f"\nResources:\n  Next:\n    Type: AWS::SSM::Parameter\n    Properties: {properties}"
    template = (upgraded / "template.yaml").read_text().replace("\nResources:", more, 1)
    (upgraded / "template.yaml").write_text(template)
    world._deploy("upgraded", STACK, Prefix=PREFIX, VirtuousBaseUrl=world.virtuous.base_url)


@contextlib.contextmanager
def in_the_way(world: World, parameter: str) -> Iterator[None]:
    """Somebody else's parameter of that name, as long as the block lasts; it is left alone."""
    systems = world.client("ssm")
    systems.put_parameter(Name=parameter, Type="String", Value="somebody's")
    with pytest.raises(StepFailed):
        yield
    assert systems.get_parameter(Name=parameter)["Parameter"]["Value"] == "somebody's"
    systems.delete_parameter(Name=parameter)


def state(world: World) -> Any:
    """The stack's, what a sweep says, and the connection's secrets."""
    (described,) = world.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    manager, names = world.client("secretsmanager"), [world.secret(kind, "acme") for kind in ("tokens", "bearer")]
    values = [manager.get_secret_value(SecretId=name)["SecretString"] for name in names]
    labels = [manager.describe_secret(SecretId=name)["VersionIdsToStages"] for name in names]
    return described["StackStatus"], world.invoke(world.function, {})["outcomes"], values, labels


def test_a_stack_is_made_again_after_a_failure_and_a_deletion_and_upgraded_after_a_rollback(world: World) -> None:
    with in_the_way(world, NEEDED_LATE):
        deploy(world)
    (described,) = world.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    assert described["StackStatus"] == "ROLLBACK_COMPLETE"
    world.delete(STACK)  # CloudFormation updates no stack whose creation failed
    deploy(world)
    world.log_in("acme")
    before = state(world)
    world.delete(STACK)
    deploy(world)

    assert before[:2] == ("CREATE_COMPLETE", {"acme": "fresh"})
    assert state(world) == before

    with in_the_way(world, NEEDED_NEXT):
        upgrade(world)
    assert state(world) == ("UPDATE_ROLLBACK_COMPLETE", *before[1:])
    upgrade(world)

    assert state(world) == ("UPDATE_COMPLETE", *before[1:])
    assert world.refresh("acme") == "refreshed"
