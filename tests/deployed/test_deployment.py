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
from tests.fakes import virtuous as fake
from tests.fakes.virtuous import Virtuous
from virtuous_token.contract import format_instant

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

PREFIX, STACK, CONNECTION = "lived-in", "another-lived-in", "acme"
CONNECTIONS = CONNECTION, THROTTLED, DIED = (CONNECTION, "throttled", "died")
UNUSED = "unused"
PAIR, BEARER = f"{PREFIX}/{CONNECTION}/tokens", f"{PREFIX}/{CONNECTION}/bearer"
OBSTACLE = f"/{PREFIX}/reader-policy-arn"  # a parameter that both versions make late


@pytest.fixture
def world(deployed_world: World) -> Iterator[World]:
    """Without a stack and a secret of this prefix before the test, and after it; its tokens live fifteen days."""
    with Virtuous() as virtuous:
        yield World(deployed_world.directory, virtuous, deployed_world.environment, deployed_world.say)
    statuses = deployed_world.client("cloudformation").describe_stacks()["Stacks"]
    if any(found["StackName"] == STACK for found in statuses):
        deployed_world.delete(STACK)
    for name in names_of_secrets(deployed_world):
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


def names_of_secrets(world: World) -> list[str]:
    found = world.client("secretsmanager").list_secrets(Filters=[{"Key": "name", "Values": [f"{PREFIX}/"]}])
    return [secret["Name"] for secret in found["SecretList"]]


def secrets(world: World) -> Any:
    manager = world.client("secretsmanager")
    return {
        name: (
            {key: value for key, value in manager.get_secret_value(SecretId=name).items() if key != "ResponseMetadata"},
            manager.describe_secret(SecretId=name)["VersionIdsToStages"],
        )
        for name in names_of_secrets(world)
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


OLD_COMMAND = "from token_refresher.cli import run; run()"
# A run of version 1.0 that is killed after its claim: it was to be over ten minutes ago.
CLAIM_AND_DIE = """
import sys
from datetime import UTC, datetime, timedelta
from token_refresher.claim import Claims
from token_refresher.journal import Grant
from token_refresher.ports import World
from token_refresher.secret_store import SecretStore, make_client
from virtuous_token.contract import SecretNames

store, now = SecretStore(make_client(), SecretNames.of(*sys.argv[1:])), datetime.now(UTC)
claims = Claims(store, World(None, lambda: now, None), now - timedelta(minutes=10))
assert claims.claim(claims.spot(store.pair_labels()), Grant.CURRENT)
"""


def refresh(world: World, connection: str, *, force: bool = True) -> str:
    """What a run over one connection ends in; if *force*, as if its token were due."""
    event = {"connections": [connection], "force": force}
    return str(world.invoke(world.outputs(STACK)["FunctionName"], event)["outcomes"][connection])


def test_an_upgrade_from_version_1_0_keeps_its_connections_also_when_it_is_rolled_back(world: World) -> None:
    """Also those that its code left in the middle: a run that died with the claim, and one that Virtuous throttled."""
    world.build_version_before()
    world.deploy_version_before(STACK, Prefix=PREFIX, ConnectionName=CONNECTION)
    for connection in CONNECTIONS:
        world.make_secrets(PREFIX, connection)  # its README told people to, for all but the first
        options = ("--prefix", PREFIX, "--base-url", world.virtuous.base_url, "login", "--connection", connection)
        login = f"{world.virtuous.user}\n{world.virtuous.password}\n"
        world.run_version_before(f"login-{connection}", "-c", OLD_COMMAND, *options, piped=login)
    assert refresh(world, CONNECTION) == "refreshed"
    world.virtuous.script(fake.throttled())
    with pytest.raises(StepFailed, match=f"{THROTTLED}: try_again"):
        refresh(world, THROTTLED)
    world.run_version_before("claim", "-c", CLAIM_AND_DIE, PREFIX, DIED)
    before, accepted = secrets(world), world.refreshes_accepted()
    put_in_the_way(world)

    with pytest.raises(StepFailed):
        deploy(world)
    rolled_back, after_rollback = status(world), secrets(world)
    take_out_of_the_way(world)
    deploy(world)
    not_due = refresh(world, CONNECTION, force=False), secrets(world), world.refreshes_accepted()
    mended = refresh(world, DIED, force=False), refresh(world, THROTTLED)
    upgraded = sweep(world), refresh(world, CONNECTION)
    with pytest.raises(StepFailed):  # the secrets' names are taken, as CHANGELOG.md says
        world.deploy_version_before(STACK, Prefix=PREFIX, ConnectionName=CONNECTION)
    back_again = status(world), sweep(world)
    world.deploy_version_before(STACK, Prefix=PREFIX, ConnectionName=UNUSED)
    downgraded = sweep(world), [refresh(world, connection) for connection in CONNECTIONS]

    all_fresh = dict.fromkeys(CONNECTIONS, "fresh")
    assert (rolled_back, after_rollback) == ("UPDATE_ROLLBACK_COMPLETE", before)
    assert not_due == ("fresh", before, accepted)
    assert mended == ("refreshed", "refreshed")
    assert upgraded == (all_fresh, "refreshed")
    assert back_again == ("UPDATE_ROLLBACK_COMPLETE", all_fresh)
    assert downgraded == (all_fresh | {UNUSED: "login_required"}, ["refreshed"] * 3)
    sent = [event.generation_sent for event in world.virtuous.events if event.call == "refresh_token"]
    assert len(sent) == len(set(sent)) + 1, "no token is sent twice but the one whose request was throttled"
