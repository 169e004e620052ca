"""``python -m tests.deployed.picture``: README's picture of ``virtuous-token status``, taken on the local AWS."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tests.deployed.demo import Narrator
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.people import Person
from tests.deployed.world import World, open_world
from virtuous_token_cli.remedies import Named
from virtuous_token_cli.show import table_of
from virtuous_token_cli.stack import Report

__all__ = ["draw", "main"]

PICTURE = REPOSITORY / "docs" / "status.svg"
FIFTEEN_DAYS = 1_296_000


def draw(document: str, picture: Path, now: datetime) -> None:
    """What ``virtuous-token status --json`` gave, as ``status`` shows it at a terminal of 80 columns."""
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("$ virtuous-token status")
    console.print(table_of(Report(json.loads(document)).connections, now, Named(), console).as_one())
    console.save_svg(str(picture), title="virtuous-token")


def live_a_little(world: World) -> str:
    """Four connections, one of which has been refused, and the report about them."""
    administrator, virtuous = Person(world, {}), world.virtuous
    world.deploy()
    virtuous.token_life_seconds = FIFTEEN_DAYS
    for name, organization in (
        ("default", "Example Relief"),
        ("north", "Relief North"),
        ("old-crm", "Relief Archive"),
        ("shop", "Relief Shop"),
    ):
        virtuous.switch_organization(organization, organization)
        if name == "shop":
            piped = f"{virtuous.issue_pair()['access_token']}\n"
            administrator.runs("login", "--connection", name, "--api-key", piped=piped)
        else:
            world.log_in(name)
    pair = world.client("secretsmanager").get_secret_value(SecretId="virtuous/old-crm/tokens")["SecretString"]
    virtuous.revoke_refresh_token(json.loads(pair)["refresh_token"])
    administrator.runs("refresh", "--connection", "old-crm")
    return administrator.runs("status", "--json").out


def main() -> int:
    with open_world(REPOSITORY / ".local" / "picture", Narrator()) as world:
        draw(live_a_little(world), PICTURE, datetime.now(UTC))
    return 0


if __name__ == "__main__":
    sys.exit(main())
