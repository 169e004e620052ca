"""The alarms of template.yaml over simulated weeks: each comes, none for nothing, and each ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from tests.simulated_weeks import ALARM, DAY, HOUR, MINUTE, OK, Weeks, evaluate, resources, simulated_weeks, state_after
from tests.support import issued_by

NO_SWEEP, RUNS_FAIL, FAILED_RUNS = "no-sweep", "runs-fail", "failed-runs"
TOKEN_ENDS, NOT_SENT = "token-ends", "notices-not-sent"
SWEEP = 6 * HOUR + 15 * MINUTE  # the schedule, its window, and the repetitions


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


def log_in(weeks: Weeks, **changes: Any) -> None:
    """As ``virtuous-token login`` does: the function is asked to publish what was stored."""
    store_pair(weeks, **changes)
    weeks.invoke({"connections": ["default"]})


WITHOUT_END: dict[str, Any] = dict.fromkeys(
    ("refresh_token", "expires_at", "refresh_token_issued_at", "refresh_token_expires_at")
)
store_api_key = partial(log_in, **WITHOUT_END)
fall_due = partial(store_pair, age=8 * DAY)


def refuse(weeks: Weeks, age: timedelta = 8 * DAY) -> None:
    """What Virtuous no longer takes: an OAuth pair of that age."""
    store_pair(weeks, age=age)
    weeks.deployment.virtuous.revoke_refresh_token()


def refuse_notices(weeks: Weeks) -> None:
    weeks.deployment.event_bus_refuses_with = "AccessDeniedException"
    refuse(weeks)


def take_notices(weeks: Weeks) -> None:
    weeks.deployment.event_bus_refuses_with = None
    log_in(weeks)


def delete_bearer(weeks: Weeks) -> None:
    weeks.deployment.account.client.delete_secret(SecretId="virtuous/default/bearer")


def restore_bearer(weeks: Weeks) -> None:
    weeks.deployment.account.client.restore_secret(SecretId="virtuous/default/bearer")
    weeks.use_queue(0)


def fail_once(weeks: Weeks) -> None:
    fall_due(weeks)
    weeks.deployment.virtuous.script(step.bad_gateway())


def switch(weeks: Weeks, **values: bool) -> None:
    for name, value in values.items():
        setattr(weeks, name, value)
    weeks.use_queue(0)


OFF, ON = partial(switch, schedule_is_on=False), partial(switch, schedule_is_on=True)
BROKEN, MENDED = partial(switch, function_starts=False), partial(switch, function_starts=True)
refuse_what_ends = partial(refuse, age=14 * DAY + HOUR)


class Scenario(NamedTuple):
    """A cause that begins on the fourth day and is mended after *days*, and exactly which alarms come of it."""

    begin: Callable[[Weeks], object]
    comes: dict[str, timedelta]  # at the latest so long after the cause
    mend: Callable[[Weeks], object] = lambda _: None
    days: int = 1


SCENARIOS = {
    "the schedule is switched off": Scenario(OFF, {NO_SWEEP: 27 * HOUR}, ON, 5),
    "the function does not start": Scenario(BROKEN, {FAILED_RUNS: SWEEP, NO_SWEEP: 27 * HOUR}, MENDED, 3),
    "a bearer is deleted": Scenario(delete_bearer, {RUNS_FAIL: SWEEP, FAILED_RUNS: SWEEP}, restore_bearer, 2),
    "the login of a token about to end is refused": Scenario(refuse_what_ends, {TOKEN_ENDS: SWEEP}, store_api_key, 2),
    "the event bus refuses a notice": Scenario(refuse_notices, {NOT_SENT: SWEEP}, take_notices, 2),
    "one attempt fails and its repetition succeeds": Scenario(fail_once, {}),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_alarms_of_a_cause_come_in_time_and_end(scenario: Scenario, harness: LeakHarness) -> None:
    with simulated_weeks(harness) as weeks:
        log_in(weeks)
        weeks.live(3 * DAY + 90 * MINUTE)
        assert not weeks.in_alarm()
        began_at = weeks.now
        scenario.begin(weeks)
        weeks.live(scenario.days * DAY)
        mended_at = weeks.now
        scenario.mend(weeks)
        weeks.live(2 * DAY)
        assert not weeks.in_alarm()

    came = {name: weeks.rang(name) for name, state, _ in weeks.changes if state == ALARM}
    for name, instants in came.items():
        assert len(instants) == 1 or name == NOT_SENT, name  # which is told again every day
        ended_at = [at for alarm, _, at in weeks.changes if alarm == name][-1]
        assert ended_at - mended_at <= SWEEP + HOUR, name
    assert came.keys() == scenario.comes.keys()
    for name, latest in scenario.comes.items():
        assert came[name][0] - began_at <= latest, name


@pytest.mark.parametrize(
    ("every", "first_run_after", "is_logged_in"),
    [
        pytest.param(6 * HOUR, timedelta(), True, id="every six hours"),
        pytest.param(DAY, timedelta(), True, id="daily"),
        pytest.param(6 * HOUR, timedelta(), False, id="without a connection"),
        pytest.param(DAY, DAY, False, id="by cron, for the first time a day after the deployment"),
    ],
)
def test_nothing_rings_without_a_cause(
    harness: LeakHarness, every: timedelta, first_run_after: timedelta, is_logged_in: bool
) -> None:
    with simulated_weeks(harness, every=every, empty=not is_logged_in) as weeks:
        weeks.next_run += first_run_after
        if is_logged_in:
            log_in(weeks)
        weeks.live(17 * DAY if is_logged_in else 3 * DAY)
        written = {name for namespace, name, _ in weeks.metrics.values if namespace == "VirtuousToken"}

    assert [change for change in weeks.changes if change[1] == ALARM] == []
    notices = [kind for kind, _ in weeks.deployment.notices]
    assert notices == (["Recovered", "Token Refreshed", "Token Refreshed"] if is_logged_in else [])
    watched = {part.split("'")[0] for part in str(resources()).split("'MetricName': '")[1:]}
    assert written <= watched, "a metric costs money each month"


def test_a_schedule_that_never_fires_rings_after_the_first_login(harness: LeakHarness) -> None:
    with simulated_weeks(harness) as weeks:
        weeks.schedule_is_on = False
        weeks.live(2 * DAY)
        log_in(weeks)
        logged_in_at = weeks.now
        weeks.live(2 * DAY)

    (rang_at,) = weeks.rang(NO_SWEEP)
    assert rang_at - logged_in_at <= 27 * HOUR


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
            for event in ({"report": True}, {"connections": ["other"], "force": True}, {}):
                weeks.invoke(event)
            weeks.live(6 * HOUR - 7 * MINUTE)
            assert RUNS_FAIL in weeks.in_alarm()

    (rang_at,) = weeks.rang(NO_SWEEP)
    assert rang_at - stopped_at <= 27 * HOUR
    assert NO_SWEEP in weeks.in_alarm()


X, G, N = True, False, None  # breaching, good, missing
STAYS = "as before"


@pytest.mark.parametrize(
    ("points", "of_three", "state"),
    [
        ([G, N, X, N, X], 3, OK),
        ([N, N, N, N, N], 3, STAYS),
        ([G, X, X, N, X], 3, ALARM),
        ([G, N, X, N, X], 2, ALARM),
        ([N, N, N, N, X], 2, STAYS),
    ],
)
def test_states_are_those_of_the_documented_examples(points: list[bool | None], of_three: int, state: str) -> None:
    """CloudWatch User Guide, the tables under "How alarm state is evaluated when data is missing"."""
    assert state_after(points, of_three, 3, STAYS) == state


def test_expressions_are_calculated_as_documented() -> None:
    known: Any = {"a": [1, 1, 0, 0, None], "b": [30, None, 0, 0, 30], "c": [None, None, 20, None, 40]}

    assert evaluate("FILL(b, 0)", known) == [30, 0, 0, 0, 30]
    assert evaluate("FILL(c, REPEAT)", known) == [None, None, 20, 20, 40]
    assert evaluate("IF(a, b)", known) == [30, 0, None, None, None]
