"""The alarms of template.yaml and the notices over simulated weeks: each comes, none for nothing, and each ends.

docs/decisions/alarms.md holds the table that they measure; ``UPDATE_DOCS=1 pytest tests/test_alarms.py`` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.alarm_evaluator import ALARM, INSUFFICIENT_DATA, OK, Series, evaluate, state_after
from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from tests.simulated_weeks import DAY, HOUR, MINUTE, Weeks, resources, simulated_weeks
from tests.support import issued_by
from token_refresher.notices import Kind

PAGE = Path(__file__).parents[1] / "docs" / "decisions" / "alarms.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"

NO_SWEEP, RUNS_FAIL, FAILED_RUNS = "no-sweep", "runs-fail", "failed-runs"
TOKEN_ENDS, NOT_SENT = "token-ends", "notices-not-sent"

SWEEP = 6 * HOUR + 15 * MINUTE  # the schedule, its window, and the repetitions


# What people and the world do


def store_pair(weeks: Weeks, *, age: timedelta = timedelta(), **changes: Any) -> None:
    """A pair that was issued *age* ago, published by whichever run comes first."""
    issued_at = weeks.now - age
    instants = {
        "issued_at": issued_at,
        "expires_at": issued_at + 15 * DAY,
        "refresh_token_issued_at": issued_at,
        "refresh_token_expires_at": issued_at + 365 * DAY,
    }
    weeks.deployment.account.put_pair(replace(issued_by(weeks.deployment.virtuous), **(instants | changes)))


def log_in(weeks: Weeks) -> None:
    """As ``virtuous-token login`` does: the function is asked to publish what was stored."""
    store_pair(weeks)
    weeks.invoke({"connections": ["default"]})


def store_api_key(weeks: Weeks) -> None:
    store_pair(weeks, refresh_token=None, expires_at=None, refresh_token_issued_at=None, refresh_token_expires_at=None)
    weeks.invoke({"connections": ["default"]})


def remove_connection(weeks: Weeks) -> None:
    names = weeks.deployment.account.names()
    for secret in (names.pair, names.bearer):
        weeks.deployment.account.client.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)


def refuse_what_is_due(weeks: Weeks, age: timedelta = 8 * DAY) -> None:
    store_pair(weeks, age=age)
    weeks.deployment.virtuous.revoke_refresh_token()


def refuse_api_key(weeks: Weeks) -> None:
    store_api_key(weeks)
    weeks.deployment.virtuous.revoke_access_tokens()


def refuse_notices(weeks: Weeks) -> None:
    weeks.deployment.event_bus_refuses_with = "AccessDeniedException"
    refuse_what_is_due(weeks)


def take_notices(weeks: Weeks) -> None:
    weeks.deployment.event_bus_refuses_with = None
    log_in(weeks)


def delete_bearer(weeks: Weeks) -> None:
    weeks.deployment.account.client.delete_secret(SecretId="virtuous/default/bearer")


def restore_bearer(weeks: Weeks) -> None:
    weeks.deployment.account.client.restore_secret(SecretId="virtuous/default/bearer")


def switch_organization(weeks: Weeks) -> None:
    store_pair(weeks, age=8 * DAY)
    weeks.deployment.virtuous.switch_organization(4712, "Somebody Else")


def setting(**values: object) -> Callable[[Weeks], None]:
    def set_them(weeks: Weeks) -> None:
        for name, value in values.items():
            setattr(weeks, name, value)

    return set_them


def both(*steps: Callable[[Weeks], object]) -> Callable[[Weeks], None]:
    def take_them(weeks: Weeks) -> None:
        for take in steps:
            take(weeks)

    return take_them


def nothing(_: Weeks) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    """A cause that begins on the fourth day and is mended after *lasts*, and what may come of it: exactly *comes*."""

    cause: str
    begin: Callable[[Weeks], None]
    comes: dict[str, timedelta]  # alarm or notice, and at the latest so long after the cause
    mended_by: str = "nothing to do"
    mend: Callable[[Weeks], None] = nothing
    lasts: timedelta = DAY
    comes_daily: tuple[str, ...] = ()  # alarms that end with the next sweep and come again

    def __str__(self) -> str:
        return self.cause


SCENARIOS = [
    Scenario(
        "the schedule is switched off",
        setting(schedule_is_on=False),
        {NO_SWEEP: 27 * HOUR},
        "switching it on",
        setting(schedule_is_on=True),
        5 * DAY,
    ),
    Scenario(
        "the function does not start at all",
        setting(function_starts=False),
        {FAILED_RUNS: SWEEP, NO_SWEEP: 27 * HOUR},
        "a function that starts; emptying the queue",
        both(setting(function_starts=True), Weeks.empty_queue),
        3 * DAY,
    ),
    Scenario(
        "a connection fails in every run, here for want of its bearer secret",
        delete_bearer,
        {RUNS_FAIL: SWEEP, FAILED_RUNS: SWEEP},
        "restoring the secret; emptying the queue",
        both(restore_bearer, Weeks.empty_queue),
        2 * DAY,
    ),
    Scenario(
        "an event never reaches the function",
        Weeks.cannot_deliver,
        {FAILED_RUNS: 2 * MINUTE},
        "emptying the queue",
        Weeks.empty_queue,
        2 * DAY,
    ),
    Scenario(
        "one attempt fails and its repetition succeeds",
        both(
            lambda weeks: store_pair(weeks, age=8 * DAY),
            lambda weeks: weeks.deployment.virtuous.script(step.bad_gateway()),
        ),
        {"Token Refreshed": SWEEP},
    ),
    Scenario(
        "Virtuous refuses the refresh token when its access token has a week left",
        refuse_what_is_due,
        {"Login Required": SWEEP, TOKEN_ENDS: 6 * DAY + SWEEP},
        "a login",
        log_in,
        9 * DAY,
    ),
    Scenario(
        "a token is about to end, and its login was refused",
        lambda weeks: refuse_what_is_due(weeks, 14 * DAY + HOUR),
        {"Login Required": SWEEP, TOKEN_ENDS: SWEEP},
        "storing an API key in its place",
        store_api_key,
        2 * DAY,
    ),
    Scenario(
        "a token is about to end, and nobody needs it any more",
        lambda weeks: refuse_what_is_due(weeks, 14 * DAY + HOUR),
        {"Login Required": SWEEP, TOKEN_ENDS: SWEEP},
        "removing the connection",
        remove_connection,
        2 * DAY,
    ),
    Scenario(
        "Virtuous refuses an API key",
        refuse_api_key,
        {"Api Key Refused": DAY + SWEEP},
        "a login",
        log_in,
        3 * DAY,
    ),
    Scenario(
        "a refresh token ends in 29 days",
        lambda weeks: store_pair(weeks, refresh_token_expires_at=weeks.now + 29 * DAY),
        {"Refresh Token Ends Soon": SWEEP},
        "a login",
        log_in,
        6 * DAY,
    ),
    Scenario(
        "the connection's user switched the organisation",
        switch_organization,
        {"Organization Changed": SWEEP, "Token Refreshed": SWEEP},
    ),
    Scenario(
        "the event bus refuses a notice",
        refuse_notices,
        {NOT_SENT: SWEEP},
        "the permission, and a login",
        take_notices,
        2 * DAY,
        comes_daily=(NOT_SENT,),
    ),
    Scenario("a token falls due", lambda weeks: store_pair(weeks, age=8 * DAY), {"Token Refreshed": SWEEP}),
]
# Time passes meanwhile, and pairs are stored past the function: these are announced where nothing is wrong.
OF_GOOD_ORDER = {"Recovered", "Token Refreshed"}


@dataclass(frozen=True)
class Seen:
    """What came of a cause, how long after it, and how long after it was mended it was over."""

    what: str
    came_after: timedelta
    times: int
    ended_after: timedelta | None  # None where it does not last


def observe(scenario: Scenario, weeks: Weeks) -> list[Seen]:
    """Lives through *scenario*; asserts that nothing rang before, and that nothing is left at the end."""
    log_in(weeks)
    weeks.live(3 * DAY + 90 * MINUTE)
    assert not weeks.in_alarm()
    changes, notices, began_at = len(weeks.changes), len(weeks.notices), weeks.now
    scenario.begin(weeks)
    weeks.live(scenario.lasts)
    mended_at = weeks.now
    scenario.mend(weeks)
    weeks.live(2 * DAY)
    assert not weeks.in_alarm()

    seen = []
    for name in dict.fromkeys(name for name, state, _ in weeks.changes[changes:] if state == ALARM):
        came, ended = [at for at in weeks.rang(name) if at > began_at], weeks.ended(name)
        seen.append(Seen(name, came[0] - began_at, len(came), ended[-1] - mended_at))
    announced = [
        (kind, at) for kind, at in weeks.notices[notices:] if kind in {*scenario.comes, *set(Kind) - OF_GOOD_ORDER}
    ]
    for kind in dict.fromkeys(kind for kind, _ in announced):
        instants = [at for announced_kind, at in announced if announced_kind == kind]
        assert kind in OF_GOOD_ORDER or instants[-1] < mended_at, f"{kind} was announced after it was mended"
        seen.append(Seen(kind, instants[0] - began_at, len(instants), None))
    return seen


@pytest.fixture(scope="module")
def measured() -> dict[str, list[Seen]]:
    return {}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_what_comes_of_a_cause_comes_in_time_and_ends(
    scenario: Scenario, harness: LeakHarness, measured: dict[str, list[Seen]]
) -> None:
    with simulated_weeks(harness) as weeks:
        seen = observe(scenario, weeks)

    assert {what.what for what in seen} == set(scenario.comes)
    for what in seen:
        assert what.came_after <= scenario.comes[what.what]
        if what.ended_after is not None:
            assert what.times == 1 or what.what in scenario.comes_daily
            assert what.ended_after <= SWEEP + HOUR
    measured[scenario.cause] = seen


def test_the_table_in_the_documentation_is_what_was_measured(measured: dict[str, list[Seen]]) -> None:
    if len(measured) < len(SCENARIOS):
        pytest.skip("it takes all scenarios to write the table")
    table = "| cause | what comes | how long after | mended by | and over after |\n|---|---|---|---|---|\n"
    for scenario in SCENARIOS:
        for what in measured[scenario.cause]:
            over = "" if what.ended_after is None else _words(what.ended_after)
            if what.ended_after and what.ended_after < timedelta():
                over = "already with the next sweep"
            often = f", {what.times} times in {scenario.lasts.days} days" if what.times > 1 else ""
            alarm = f"alarm `{what.what}`" if what.ended_after is not None else f"notice `{what.what}`"
            table += (
                f"| {scenario.cause} | {alarm} | {_words(what.came_after)}{often} | {scenario.mended_by} | {over} |\n"
            )
    print(table)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    written, _, after = rest.partition(END)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}")
    else:
        assert written == table, "run UPDATE_DOCS=1 pytest tests/test_alarms.py"


def _words(duration: timedelta) -> str:
    hours, minutes = divmod(duration // MINUTE, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "at once"


# None for nothing


@pytest.mark.parametrize("every", [6 * HOUR, DAY], ids=["every six hours", "daily"])
def test_two_weeks_without_a_cause_ring_nothing(harness: LeakHarness, every: timedelta) -> None:
    with simulated_weeks(harness, every=every) as weeks:
        log_in(weeks)
        weeks.live(17 * DAY)

    assert [change for change in weeks.changes if change[1] == ALARM] == []
    assert [kind for kind, _ in weeks.notices] == ["Recovered", "Token Refreshed", "Token Refreshed"]


@pytest.mark.parametrize("empty", [True, False], ids=["no connection at all", "secrets without a version"])
@pytest.mark.parametrize("every", [6 * HOUR, DAY], ids=["every six hours", "daily"])
def test_nothing_rings_between_deployment_and_first_login(harness: LeakHarness, every: timedelta, empty: bool) -> None:
    with simulated_weeks(harness, every=every, empty=empty) as weeks:
        weeks.live(3 * DAY)

    assert [change for change in weeks.changes if change[1] == ALARM] == []
    assert weeks.notices == []


def test_the_silence_before_the_first_run_of_a_new_deployment_is_no_alarm(harness: LeakHarness) -> None:
    """A cron schedule may fire for the first time a day after the deployment."""
    with simulated_weeks(harness, every=DAY) as weeks:
        weeks.next_run += DAY
        weeks.live(3 * DAY)

    assert [change for change in weeks.changes if change[1] == ALARM] == []


@pytest.mark.parametrize(
    "event",
    [{"report": True}, {"connections": ["default"], "force": True}, {}, None],
    ids=["reports", "refreshes", "sweeps by hand", "nothing"],
)
def test_an_operator_neither_hides_nor_ends_the_silence_of_the_schedule(harness: LeakHarness, event: object) -> None:
    with simulated_weeks(harness) as weeks:
        log_in(weeks)
        weeks.live(3 * DAY)
        weeks.schedule_is_on = False
        stopped_at = weeks.now
        for _ in range(5 * 4):
            weeks.live(6 * HOUR - 7 * MINUTE)
            if event is not None:
                weeks.invoke(event)
        (rang_at,) = weeks.rang(NO_SWEEP)
        assert rang_at - stopped_at <= 27 * HOUR
        assert NO_SWEEP in weeks.in_alarm()


def test_a_schedule_that_never_fires_rings_after_the_first_login(harness: LeakHarness) -> None:
    with simulated_weeks(harness) as weeks:
        weeks.schedule_is_on = False
        weeks.live(2 * DAY)
        log_in(weeks)
        logged_in_at = weeks.now
        weeks.live(2 * DAY)
        (rang_at,) = weeks.rang(NO_SWEEP)

    assert rang_at - logged_in_at <= 27 * HOUR


@pytest.mark.parametrize("event", [{"report": True}, {"connections": ["other"], "force": True}, {}])
def test_an_operators_success_does_not_end_the_alarm_of_runs_that_fail(harness: LeakHarness, event: object) -> None:
    with simulated_weeks(harness, "default", "other") as weeks:
        log_in(weeks)
        weeks.live(DAY + HOUR)
        delete_bearer(weeks)
        weeks.live(DAY)
        restore_bearer(weeks)
        weeks.invoke(event)
        weeks.live(HOUR)

        assert RUNS_FAIL in weeks.in_alarm()


# The evaluator follows AWS's documentation: the tables under "How alarm state is evaluated when data is missing"

X, G, N = True, False, None  # breaching, good, missing
STAYS = "as before"


@pytest.mark.parametrize(
    ("points", "of_three", "missing", "ignore", "breaching", "not_breaching"),
    [
        ([G, N, X, N, X], 3, OK, OK, OK, OK),
        ([G, N, N, N, N], 3, OK, OK, OK, OK),
        ([N, N, N, N, N], 3, INSUFFICIENT_DATA, STAYS, ALARM, OK),
        ([G, X, X, N, X], 3, ALARM, ALARM, ALARM, ALARM),
        ([N, N, X, N, N], 3, ALARM, STAYS, ALARM, OK),
        ([G, N, X, N, X], 2, ALARM, ALARM, ALARM, ALARM),
        ([G, G, X, G, X], 2, ALARM, ALARM, ALARM, ALARM),
        ([G, N, X, N, N], 2, OK, OK, ALARM, OK),
        ([N, N, N, N, G], 2, OK, OK, ALARM, OK),
        ([N, N, N, N, X], 2, INSUFFICIENT_DATA, STAYS, ALARM, OK),
    ],
)
def test_the_evaluator_agrees_with_the_documented_examples(
    points: list[bool | None], of_three: int, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    def after(treatment: str) -> str:
        return state_after(points, of_three, 3, treatment, STAYS)

    assert [after(name) for name in ("missing", "ignore", "breaching", "notBreaching")] == [
        missing,
        ignore,
        breaching,
        not_breaching,
    ]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("FILL(b, 0)", [30, 0, 0, 0, 30]),
        ("FILL(c, REPEAT)", [None, None, 20, 20, 40]),
        ("IF(a, b, c)", [30, 0, 20, None, None]),
        ("IF(a, 5, c)", [5, 5, 20, None, None]),
        ("IF(a, b, 5)", [30, 0, 5, 5, None]),
        ("IF(a, b)", [30, 0, None, None, None]),
        ("b + c", [30, 0, 20, 0, 70]),
        ("b / c", [None, None, 0, None, 0.75]),
    ],
)
def test_the_evaluator_calculates_as_documented(expression: str, value: Series) -> None:
    known: dict[str, Series] = {
        "a": [1, 1, 0, 0, None],
        "b": [30, None, 0, 0, 30],
        "c": [None, None, 20, None, 40],
    }

    assert evaluate(expression, known) == value


def test_every_metric_that_is_written_is_watched(harness: LeakHarness) -> None:
    """A metric costs money each month."""
    with simulated_weeks(harness) as weeks:
        log_in(weeks)
        weeks.live(DAY)
        written = {name for namespace, name, _ in weeks.metrics.values if namespace == "VirtuousToken"}

    watched = {part.split('"')[0] for part in str(resources()).replace("'", '"').split('"MetricName": "')[1:]}
    assert written <= watched
