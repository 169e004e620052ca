"""What a person sees of connections and what it tells them to run; and having the function refresh."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tests.cli.operator import Operator
from tests.terminal import plain
from token_refresher.refresh.model import OutcomeWord
from virtuous_token.contract import format_instant
from virtuous_token_cli.remedies import Named, Run
from virtuous_token_cli.show import Shown, one_connection, table_of
from virtuous_token_cli.stack import Connection
from virtuous_token_cli.words import GOOD_OUTCOMES, finding_of, sentence_of, told

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def at(days: float) -> str:
    return format_instant(NOW + timedelta(days=days))


def a_connection(name: str = "default", **changes: Any) -> Connection:
    """One in good order, refreshed three days ago, with *changes*."""
    facts: dict[str, Any] = {
        "organization_id": "4711",
        "organization_name": "Example Relief",
        "user_name": "me@example.org",
        "access_token": "5f5a05fe",
        "refresh_token": "27343243",
        "obtained_by": "refresh",
        "issued_at": at(-3),
        "expires_at": at(12),
        "next_refresh_at": at(4),
        "refresh_token_issued_at": at(-3),
        "refresh_token_expires_at": at(362),
        "bearer_in_step": True,
        "journal": "idle",
        "last_outcome": None,
    }
    return Connection(name, facts | changes)


NO_LOGIN = Connection("default", {"state": "no token pair was stored yet"})
REFUSED = {"last_outcome": "refused", "last_outcome_at": at(-1)}


def shown(connections: list[Connection], columns: int = 80) -> str:
    """The table of many, or the list of one alone, and the lines below."""
    out = StringIO()
    console = Console(file=out, width=columns, highlight=False, force_terminal=True, no_color=True)
    content: Shown = table_of(connections, NOW, Named(), console)
    console.print(content.table)
    return plain(out.getvalue()) + "\n".join(line.text for line in content.lines)


KEY: dict[str, Any] = dict.fromkeys(("refresh_token", "expires_at", "next_refresh_at", "refresh_token_issued_at"))
DENIED = Connection("default", {"error": "DescribeSecret on virtuous/default/tokens: access denied"})
WRONG: dict[str, tuple[Connection, str, str]] = {
    "no login yet": (NO_LOGIN, "nobody has logged in yet", "login"),
    "expired": (a_connection(expires_at=at(-1)), "the access token has expired", "refresh"),
    "expired and refused": (a_connection(expires_at=at(-1), **REFUSED), "has expired", "login"),
    "refused": (a_connection(**REFUSED), "readers work for another 12 d", "login"),
    "a code needed": (a_connection(last_outcome="code_needed"), "refused its credentials", "login"),
    "readers behind": (
        a_connection(bearer_in_step=False, readers_work_until=at(2)),
        "readers do not have the newest token; readers work for another 2 d",
        "refresh",
    ),
    "an API key revoked": (a_connection(**KEY, proof="refused (HTTP 401)"), "refuses its API key", "login --api-key"),
    "a token refused": (a_connection(proof="refused (HTTP 403)"), "refuses its access", "refresh"),
    "overdue": (a_connection(next_refresh_at=at(-3)), "overdue", "check"),
    "a year nearly over": (a_connection(refresh_token_expires_at=at(20)), "in 20 d", "login"),
    "unreadable": (DENIED, "virtuous/default/tokens: access denied", "check"),
}


@pytest.mark.parametrize(("connection", "what", "run"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_the_command_that_mends_it(connection: Connection, what: str, run: str) -> None:
    found = finding_of(connection, NOW)
    assert found is not None
    (said,) = told([found])
    assert what in f"{said.what}; {said.detail}"
    assert isinstance(said.remedies[-1], Run)
    command = Named().text(said.remedies[-1])
    assert command.startswith(f"virtuous-token {run}")
    for content in (table_of([connection], NOW, Named(), Console()), one_connection(connection, NOW, Named())):
        assert any(command in line.text for line in content.lines)


FINE: dict[str, dict[str, Any]] = {
    "in good order": {},
    "due since this morning": {"next_refresh_at": at(-0.2)},
    "tries again by itself": {"last_outcome": "throttled", "last_outcome_at": at(0)},
    "an API key": KEY,
}


@pytest.mark.parametrize("changes", FINE.values(), ids=FINE)
def test_nothing_is_asked_for_where_nothing_is_wrong(changes: dict[str, Any]) -> None:
    assert finding_of(a_connection(**changes), NOW) is None


def test_the_table_is_read_at_a_glance() -> None:
    lines = [line.rstrip() for line in shown([a_connection()]).splitlines()]
    assert lines[-2:] == [
        "default     Example Relief  ━━━━╌ 12 d    4 d      3 d      refreshed 3 d   yes",
        "1 connection, all well.",
    ]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_two_hundred_connections_stay_readable(columns: int) -> None:
    """What needs somebody comes first in the table, and what to run comes last, where a terminal stops scrolling."""
    many = [a_connection(f"chap-{number:03}", organization_name=f"Chapter {number} of Relief") for number in range(197)]
    many += [a_connection("refused", **REFUSED), Connection("new", {"state": "none"}), a_connection("a" * 64)]

    lines = shown(many, columns).splitlines()

    assert max(len(line.rstrip()) for line in lines[:-5]) <= columns
    assert any("━━━━╌ 12 d" in line and "4 d" in line for line in lines)
    table = [line.split()[0] for line in lines if line.split()]
    assert table.index("new") < table.index("refused") < table.index("chap-000")
    assert all(any(line.startswith(f"chap-{number:03} ") for line in lines) for number in range(197))
    assert lines[-5].strip() == "200 connections, 2 to look at:"
    assert lines[-1].strip() == "virtuous-token login --connection refused"


def test_findings_of_a_kind_are_told_together_the_worst_first() -> None:
    connections = [a_connection(f"c{number:02}", expires_at=at(9 + number), **REFUSED) for number in range(60)]
    connections += [a_connection("down", expires_at=at(-1)), a_connection("gone", expires_at=at(-2))]
    connections += [a_connection("soon", refresh_token_expires_at=at(20)), a_connection("fine")]

    below = shown(connections).splitlines()[-9:]

    assert below == [
        "64 connections, 63 to look at:",
        "2 connections: the access token has expired",
        "  virtuous-token refresh --connection gone --connection down",
        "60 connections: Virtuous refused its credentials (c00: readers work for another 9 d)",
        "  " + ", ".join(f"c{number:02}" for number in range(60)),
        "  virtuous-token login --connection c00",
        "  the same for each of the other 59",
        "soon: its refresh token ends soon: log in during working hours; in 20 d",
        "  virtuous-token login --connection soon",
    ]


def test_no_character_of_a_stored_name_reaches_the_terminal_that_could_move_it() -> None:
    hostile = "A\x1b[2J\x9b31m\r\n\u202eB\u2066C\x07\u2028D"
    connection = a_connection(organization_name=hostile, user_name=hostile, last_outcome=hostile)
    said = shown([connection]) + "".join(line.text for line in one_connection(connection, NOW, Named()).lines)
    assert not set(said) & set("\x1b\x9b\r\x07\u202e\u2066\u2028")
    assert connection.text("organization_name") == "A\ufffd[2J\ufffd31m\ufffd\ufffd\ufffdB\ufffdC\ufffd\ufffdD"


def test_every_outcome_word_has_a_sentence_and_those_that_are_no_success_a_command() -> None:
    for word in OutcomeWord:
        sentence, run = sentence_of(word, "acme")
        assert "does not know" not in sentence
        assert bool(run) is (word not in GOOD_OUTCOMES)


# Through the function


def test_a_status_asks_the_function_and_changes_nothing(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of("acme", "default")
    operator.deployment.log_in("acme")

    ended = operator.runs("status")

    assert ended.status == 1, "nobody has logged in to default"
    assert "acme" in ended.out
    assert "virtuous-token login --connection default" in ended.out
    assert operator.deployment.invoked_with == [{"report": True}]
    one = operator.runs("status", "-c", "acme")
    assert one.status == 0
    assert "Example Relief" in one.out
    document = json.loads(operator.runs("status", "--json").out)
    assert document["settings"]["base_url"] == operator.virtuous.base_url
    assert document["connections"]["acme"]["organization_id"] == "4711"


@pytest.mark.parametrize("command", ["status", "refresh", "check"])
def test_a_misspelt_connection_is_named_with_those_that_exist(operator: Operator, command: str) -> None:
    assert operator.logs_in().status == 0
    ended = operator.runs(command, "--connection", "defalt")
    assert (ended.status, ended.out) == (1, "")
    assert "There is no connection defalt. There is: default." in ended.err


def test_before_the_first_login_it_says_what_to_run_with_what_was_named(operator: Operator) -> None:
    named = "--prefix virtuous --region us-east-1"
    ended = operator.runs("status", *named.split())
    assert ended[:2] == (0, f"There is no connection yet. Make one:\n  virtuous-token login {named}\n")


def test_the_only_connection_is_refreshed_though_it_is_not_due(operator: Operator) -> None:
    assert operator.logs_in().status == 0
    ended = operator.runs("refresh")
    assert ended == (0, "default: refreshed. A new token pair was saved, proved and published.\n", "")
    assert operator.deployment.invoked_with[-1] == {"connections": ["default"], "force": True}


NAMES = ["acme", "default", "other"]
# The arguments, the exit status, and those that are refreshed.
NAMED: dict[str, tuple[str, int, list[str]]] = {
    "several and none named": ("", 2, []),
    "all and one": ("--all --connection acme", 2, []),
    "all": ("--all", 0, NAMES),
    "two": ("-c acme -c other", 0, ["acme", "other"]),
}


@pytest.mark.parametrize("case", NAMED)
def test_of_several_those_are_refreshed_that_were_named(operator_of: Callable[..., Operator], case: str) -> None:
    arguments, status, refreshed = NAMED[case]
    operator = operator_of(*NAMES)
    for name in NAMES:
        operator.deployment.log_in(name)
    ended = operator.runs("refresh", *arguments.split())
    assert ended.status == status
    assert [line.split(":")[0] for line in ended.out.splitlines()] == refreshed


def test_every_connection_that_was_not_refreshed_is_named_with_what_to_run(
    operator_of: Callable[..., Operator],
) -> None:
    operator = operator_of("broken", "dead", "fine", "last")
    for name in ("broken", "dead", "fine", "last"):
        operator.deployment.log_in(name)
    dead = operator.account.pair("dead").refresh_token
    operator.virtuous.revoke_refresh_token(dead.reveal() if dead else None)
    strict = operator.account.strict
    strict.fail("PutSecretValue", "AccessDeniedException", secret="virtuous/broken/tokens")

    def delete_the_function(operation: str, _: object, secret: str) -> None:
        if (operation, secret) == ("UpdateSecretVersionStage", "virtuous/fine/bearer"):
            operator.deployment.function_exists = False

    strict.after = delete_the_function
    ended = operator.runs("refresh", "--all")

    assert ended.status == 1
    said = [" ".join(line.split()[:3]) for line in ended.out.splitlines()]
    assert said == [
        "broken: misconfigured. A",
        "dead: login_required. Virtuous",
        "fine: refreshed. A",
        "last: not refreshed.",
    ]
    assert "virtuous-token check --connection broken" in ended.err
    assert "virtuous-token login --connection dead" in ended.err
