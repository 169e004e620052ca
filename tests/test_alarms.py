"""The alarms of template.yaml and the notices over simulated weeks: each comes, none for nothing, and each ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from tests.alarm_evaluator import ALARM, OK, Series, evaluate, state_after
from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from tests.simulated_weeks import DAY, HOUR, MINUTE, Weeks, resources, simulated_weeks
from tests.support import issued_by
from token_refresher.notices import Kind

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


def refuse_what_is_due(weeks: Weeks) -> None:
    store_pair(weeks, age=8 * DAY)
    weeks.deployment.virtuous.revoke_refresh_token()


def refuse_what_ends(weeks: Weeks) -> None:
    store_pair(weeks, age=14 * DAY + HOUR)
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
    weeks.empty_queue()


def fall_due(weeks: Weeks) -> None:
    store_pair(weeks, age=8 * DAY)


def fail_once(weeks: Weeks) -> None:
    fall_due(weeks)
    weeks.deployment.virtuous.script(step.bad_gateway())


def switch_organization(weeks: Weeks) -> None:
    fall_due(weeks)
    weeks.deployment.virtuous.switch_organization(4712, "Somebody Else")


def end_soon(weeks: Weeks) -> None:
    store_pair(weeks, refresh_token_expires_at=weeks.now + 29 * DAY)


def switch(**values: bool) -> Callable[[Weeks], None]:
    def set_them(weeks: Weeks) -> None:
        for name, value in values.items():
            setattr(weeks, name, value)
        weeks.empty_queue()

    return set_them


OFF, ON = switch(schedule_is_on=False), switch(schedule_is_on=True)
BROKEN, MENDED = switch(function_starts=False), switch(function_starts=True)


class Scenario(NamedTuple):
    """A cause that begins on the fourth day and is mended after *days*, and what may come of it: exactly *comes*."""

    cause: str
    begin: Callable[[Weeks], object]
    comes: dict[str, timedelta]  # alarm or notice, and at the latest so long after the cause
    mend: Callable[[Weeks], object] = lambda _: None
    days: int = 1


ENDING = {"Login Required": SWEEP, TOKEN_ENDS: SWEEP}
ENDING_LATER = ENDING | {TOKEN_ENDS: 6 * DAY + SWEEP}
REFRESHED = {"Token Refreshed": SWEEP}
SCENARIOS = [
    Scenario("the schedule is switched off", OFF, {NO_SWEEP: 27 * HOUR}, ON, 5),
    Scenario("the function does not start", BROKEN, {FAILED_RUNS: SWEEP, NO_SWEEP: 27 * HOUR}, MENDED, 3),
    Scenario("a bearer secret is deleted", delete_bearer, {RUNS_FAIL: SWEEP, FAILED_RUNS: SWEEP}, restore_bearer, 2),
    Scenario("the login of a token about to end is refused", refuse_what_ends, ENDING, store_api_key, 2),
    Scenario("the event bus refuses a notice", refuse_notices, {NOT_SENT: SWEEP}, take_notices, 2),
    Scenario("one attempt fails and its repetition succeeds", fail_once, REFRESHED),
]
MORE_SCENARIOS = [
    Scenario(
        "an event never reaches the function", Weeks.send_to_queue, {FAILED_RUNS: 2 * MINUTE}, Weeks.empty_queue, 2
    ),
    Scenario("the login of a token with a week left is refused", refuse_what_is_due, ENDING_LATER, log_in, 9),
    Scenario("nobody needs a token about to end any more", refuse_what_ends, ENDING, remove_connection, 2),
    Scenario("Virtuous refuses an API key", refuse_api_key, {"Api Key Refused": DAY + SWEEP}, log_in, 3),
    Scenario("a refresh token ends in 29 days", end_soon, {"Refresh Token Ends Soon": SWEEP}, log_in, 6),
    Scenario("the user switched the organisation", switch_organization, {"Organization Changed": SWEEP} | REFRESHED),
    Scenario("a token falls due", fall_due, REFRESHED),
]
# Time passes meanwhile, and pairs are stored past the function: these are announced where nothing is wrong.
OF_GOOD_ORDER = {"Recovered", "Token Refreshed"}


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(scenario, id=scenario.cause) for scenario in SCENARIOS]
    + [pytest.param(scenario, id=scenario.cause, marks=pytest.mark.campaign) for scenario in MORE_SCENARIOS],
)
def test_what_comes_of_a_cause_comes_in_time_and_ends(scenario: Scenario, harness: LeakHarness) -> None:
    with simulated_weeks(harness) as weeks:
        log_in(weeks)
        weeks.live(3 * DAY + 90 * MINUTE)
        assert not weeks.in_alarm()
        earlier, began_at = len(weeks.notices), weeks.now
        scenario.begin(weeks)
        weeks.live(scenario.days * DAY)
        mended_at = weeks.now
        scenario.mend(weeks)
        weeks.live(2 * DAY)
        assert not weeks.in_alarm()

    came = {name: weeks.rang(name) for name, state, _ in weeks.changes if state == ALARM}
    for name, instants in came.items():
        assert len(instants) == 1 or name == NOT_SENT, name  # which is told again every day
        assert weeks.ended(name)[-1] - mended_at <= SWEEP + HOUR, name
    for kind, at in weeks.notices[earlier:]:
        if kind in {*scenario.comes, *set(Kind) - OF_GOOD_ORDER}:
            assert kind in OF_GOOD_ORDER or at < mended_at, f"{kind} was announced after it was mended"
            came.setdefault(kind, []).append(at)
    assert came.keys() == scenario.comes.keys()
    for name, latest in scenario.comes.items():
        assert came[name][0] - began_at <= latest, name


@pytest.mark.parametrize("every", [6 * HOUR, DAY], ids=["every six hours", "daily"])
def test_two_weeks_without_a_cause_ring_nothing(harness: LeakHarness, every: timedelta) -> None:
    with simulated_weeks(harness, every=every) as weeks:
        log_in(weeks)
        weeks.live(17 * DAY)
        written = {name for namespace, name, _ in weeks.metrics.values if namespace == "VirtuousToken"}

    assert [change for change in weeks.changes if change[1] == ALARM] == []
    assert [kind for kind, _ in weeks.notices] == ["Recovered", "Token Refreshed", "Token Refreshed"]
    watched = {part.split("'")[0] for part in str(resources()).split("'MetricName': '")[1:]}
    assert written <= watched, "a metric costs money each month"


@pytest.mark.parametrize(
    ("every", "first_run_after", "empty"),
    [
        pytest.param(6 * HOUR, timedelta(), True, id="every six hours, no connection at all"),
        pytest.param(DAY, timedelta(), False, id="daily, secrets without a version"),
        pytest.param(DAY, DAY, False, id="by cron, for the first time a day after the deployment"),
    ],
)
def test_nothing_rings_between_deployment_and_first_login(
    harness: LeakHarness, every: timedelta, first_run_after: timedelta, empty: bool
) -> None:
    with simulated_weeks(harness, every=every, empty=empty) as weeks:
        weeks.next_run += first_run_after
        weeks.live(3 * DAY)

    assert [change for change in weeks.changes if change[1] == ALARM] == []
    assert weeks.notices == []


def test_a_schedule_that_never_fires_rings_after_the_first_login(harness: LeakHarness) -> None:
    with simulated_weeks(harness) as weeks:
        weeks.schedule_is_on = False
        weeks.live(2 * DAY)
        log_in(weeks)
        logged_in_at = weeks.now
        weeks.live(2 * DAY)

    (rang_at,) = weeks.rang(NO_SWEEP)
    assert rang_at - logged_in_at <= 27 * HOUR


OF_AN_OPERATOR: list[dict[str, Any]] = [{"report": True}, {"connections": ["other"], "force": True}, {}]


def test_an_operator_neither_ends_nor_hides_what_the_schedules_sweeps_say(harness: LeakHarness) -> None:
    with simulated_weeks(harness, "default", "other") as weeks:
        log_in(weeks)
        weeks.live(DAY + HOUR)
        delete_bearer(weeks)
        weeks.live(DAY)
        restore_bearer(weeks)
        weeks.schedule_is_on = False
        stopped_at = weeks.now
        for _ in range(3 * 4):
            for event in OF_AN_OPERATOR:
                weeks.invoke(event)
            weeks.live(6 * HOUR - 7 * MINUTE)
            assert RUNS_FAIL in weeks.in_alarm()

    (rang_at,) = weeks.rang(NO_SWEEP)
    assert rang_at - stopped_at <= 27 * HOUR
    assert NO_SWEEP in weeks.in_alarm()


# The evaluator follows AWS's documentation: the tables under "How alarm state is evaluated when data is missing"

X, G, N = True, False, None  # breaching, good, missing
STAYS = "as before"


@pytest.mark.parametrize(
    ("points", "of_three", "state"),
    [
        ([G, N, X, N, X], 3, OK),
        ([G, N, N, N, N], 3, OK),
        ([N, N, N, N, N], 3, STAYS),
        ([G, X, X, N, X], 3, ALARM),
        ([N, N, X, N, N], 3, STAYS),
        ([G, N, X, N, X], 2, ALARM),
        ([G, G, X, G, X], 2, ALARM),
        ([G, N, X, N, N], 2, OK),
        ([N, N, N, N, G], 2, OK),
        ([N, N, N, N, X], 2, STAYS),
    ],
)
def test_the_evaluator_agrees_with_the_documented_examples(
    points: list[bool | None], of_three: int, state: str
) -> None:
    assert state_after(points, of_three, 3, STAYS) == state


def test_the_evaluator_calculates_as_documented() -> None:
    known: dict[str, Series] = {"a": [1, 1, 0, 0, None], "b": [30, None, 0, 0, 30], "c": [None, None, 20, None, 40]}

    assert evaluate("FILL(b, 0)", known) == [30, 0, 0, 0, 30]
    assert evaluate("FILL(c, REPEAT)", known) == [None, None, 20, 20, 40]
    assert evaluate("IF(a, b)", known) == [30, 0, None, None, None]
