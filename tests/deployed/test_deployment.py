"""A deployment can be repeated: what fails half way, is deleted, rolled back or upgraded is in nobody's way.

And nothing happens to a connection meanwhile: its secrets stay as they are, and nothing is refreshed that is not due.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.deployed.world import StepFailed, World
from virtuous_token.contract import format_instant

pytestmark = pytest.mark.deployed

PREFIX, STACK, CONNECTION = "lived-in", "another-lived-in", "acme"
PAIR, BEARER = f"{PREFIX}/{CONNECTION}/tokens", f"{PREFIX}/{CONNECTION}/bearer"
OBSTACLE = f"/{PREFIX}/reader-policy-arn"  # a parameter that both versions make late


@pytest.fixture
def world(deployed_world: World) -> Iterator[World]:
    """Without a stack and a secret of this prefix before the test, and after it."""
    yield deployed_world
    statuses = deployed_world.client("cloudformation").describe_stacks()["Stacks"]
    if any(found["StackName"] == STACK for found in statuses):
        deployed_world.delete(STACK)
    for name in (PAIR, BEARER):
        deployed_world.client("secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def deploy(world: World) -> None:
    assert world.deploy_another(PREFIX, VirtuousBaseUrl=world.virtuous.base_url) == STACK


def log_in_as_before(world: World) -> None:
    """Stores a live pair as version 1.0 did: far from due, in the secrets that are there."""
    world.make_secrets(PREFIX, CONNECTION)
    granted = world.virtuous.issue_pair()
    now = datetime.now(UTC)
    pair = {
        "version": 1,
        "access_token": granted["access_token"],
        "token_type": "Bearer",
        "refresh_token": granted["refresh_token"],
        "issued_at": format_instant(now),
        "expires_at": format_instant(now + timedelta(days=15)),
        "base_url": world.virtuous.base_url,
        "key_of_somebody": "kept",
    }
    made = world.client("secretsmanager").put_secret_value(SecretId=PAIR, SecretString=json.dumps(pair))
    published = {key: value for key, value in pair.items() if key not in {"refresh_token", "key_of_somebody"}}
    world.client("secretsmanager").put_secret_value(
        SecretId=BEARER, SecretString=json.dumps(published), ClientRequestToken=made["VersionId"]
    )


def secrets(world: World) -> Any:
    manager = world.client("secretsmanager")
    return {
        name: (
            {key: value for key, value in manager.get_secret_value(SecretId=name).items() if key != "ResponseMetadata"},
            manager.describe_secret(SecretId=name)["VersionIdsToStages"],
        )
        for name in (PAIR, BEARER)
    }


def sweep(world: World) -> Any:
    """What a sweep says of every connection of this stack."""
    return world.invoke(world.outputs(STACK)["FunctionName"], {})["outcomes"]


def put_in_the_way(world: World) -> None:
    world.client("ssm").put_parameter(Name=OBSTACLE, Type="String", Value="somebody's")


def take_out_of_the_way(world: World) -> None:
    assert world.client("ssm").get_parameter(Name=OBSTACLE)["Parameter"]["Value"] == "somebody's"
    world.client("ssm").delete_parameter(Name=OBSTACLE)


def status(world: World) -> str:
    (described,) = world.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    return str(described["StackStatus"])


def test_a_stack_is_made_again_after_it_failed_half_way_and_after_it_was_deleted(world: World) -> None:
    log_in_as_before(world)
    before = secrets(world)
    put_in_the_way(world)

    with pytest.raises(StepFailed):
        deploy(world)
    assert status(world) == "ROLLBACK_COMPLETE"
    world.delete(STACK)  # CloudFormation updates no stack whose creation failed
    take_out_of_the_way(world)
    deploy(world)
    first = sweep(world)
    world.delete(STACK)
    deploy(world)
    second = sweep(world)

    assert (first, second) == ({CONNECTION: "fresh"}, {CONNECTION: "fresh"})
    assert secrets(world) == before


def test_an_upgrade_keeps_what_lives_in_the_stacks_secrets_also_when_it_is_rolled_back(world: World) -> None:
    world.build_version_before()
    world.deploy_version_before(STACK, Prefix=PREFIX, ConnectionName=CONNECTION)
    log_in_as_before(world)
    before = secrets(world)
    put_in_the_way(world)

    with pytest.raises(StepFailed):
        deploy(world)
    rolled_back, after_rollback = status(world), secrets(world)
    take_out_of_the_way(world)
    deploy(world)
    upgraded = sweep(world)
    with pytest.raises(StepFailed):  # the secrets' names are taken: this version cannot be gone back to
        world.deploy_version_before(STACK, Prefix=PREFIX, ConnectionName=CONNECTION)
    back_again = status(world), sweep(world)

    assert rolled_back == "UPDATE_ROLLBACK_COMPLETE"
    assert after_rollback == before
    assert upgraded == {CONNECTION: "fresh"}
    assert back_again == ("UPDATE_ROLLBACK_COMPLETE", {CONNECTION: "fresh"})
    assert secrets(world) == before
