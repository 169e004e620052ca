"""``python -m tests.deployed.picture``: README's picture of ``virtuous-token status``, taken on the local AWS."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

from rich.console import Console

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.world import open_world
from virtuous_token_cli.remedies import Named
from virtuous_token_cli.show import table_of
from virtuous_token_cli.stack import Report


def main() -> None:
    """Four connections, one of which is refused, as ``status`` shows them at a terminal of 80 columns."""
    with open_world(REPOSITORY / ".local" / "picture", print) as world:
        virtuous = world.virtuous
        virtuous.token_life_seconds = 15 * 86_400
        world.deploy()
        for name, organization in (
            ("default", "Example Relief"),
            ("north", "Relief North"),
            ("old-crm", "Relief Archive"),
        ):
            virtuous.switch_organization(organization, organization)
            world.log_in(name)
        virtuous.switch_organization("Relief Shop", "Relief Shop")
        world.operate("login", "--connection", "shop", "--api-key", piped=f"{virtuous.issue_pair()['access_token']}\n")
        pair = world.client("secretsmanager").get_secret_value(SecretId="virtuous/old-crm/tokens")["SecretString"]
        virtuous.revoke_refresh_token(json.loads(pair)["refresh_token"])
        world.refresh("old-crm")
        report = Report(json.loads(world.operate("status", "--json")))
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("$ virtuous-token status")
    console.print(table_of(report.connections, datetime.now(UTC), Named(), console).as_one())
    console.save_svg(str(REPOSITORY / "docs" / "status.svg"), title="virtuous-token")


if __name__ == "__main__":
    main()
