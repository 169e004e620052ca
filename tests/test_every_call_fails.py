"""Each call that a refresh makes fails once, in each way that it can; then three runs are left undisturbed.

The table of what the secrets hold afterwards is printed (pytest -s) and summed up in docs/decisions/journal.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.exploration import (
    INVOCATION,
    LIFE,
    NAMES,
    START,
    Budget,
    Raised,
    Refresher,
    Reply,
    State,
    broken_now,
    next_step,
    undisturbed,
)
from token_refresher.answers import Denied, Later, NothingSent, Refused, Unclear, Unknown
from token_refresher.ports import CURRENT
from token_refresher.refresh import OutcomeWord

LATER = (timedelta(minutes=10), timedelta(minutes=70), timedelta(hours=23), timedelta(hours=2))


def started(*, login: bool = False, reusable: bool = False) -> State:
    state = State.first(1, Budget(ticks=0), login=login)
    state = replace(state, provider=state.provider._replace(reusable=reusable))
    return replace(state, refreshers=(Refresher((Reply("start", START),)),))


def step_of(state: State) -> str:
    step = next_step("holder-0", state.refreshers[0].replies)
    if isinstance(step, OutcomeWord):
        return "end"
    arguments = dict(step.arguments)
    return " ".join([step.operation, *arguments.get("VersionStages", ()), arguments.get("SecretId", "")]).strip()


def undisturbed_step(state: State) -> State:
    ((_, after),) = state._steps(0, state.refreshers[0])
    return after


def killed(state: State) -> State:
    refresher = state.refreshers[0]
    held = bool(refresher.granted) and not state.saved(refresher.granted)
    dead = refresher._replace(outcome="killed", replies=refresher.replies[:1])
    return replace(state, refreshers=(dead,), lost=state.lost or held)


def refused_by_aws(name: str) -> Callable[[State], State]:
    return lambda state: state._replied(0, Raised(name))


def answered(value: object, *, effect: bool = False) -> Callable[[State], State]:
    def fail(state: State) -> State:
        if not effect:
            return state._replied(0, value)
        done = undisturbed_step(state)
        lost = done.provider.newest != state.provider.newest
        return replace(state._replied(0, value), provider=done.provider, lost=lost)

    return fail


def lost_by_aws(state: State) -> State:
    return replace(state._replied(0, Raised("ReadTimeoutError")), strict=undisturbed_step(state).strict)


KILLED = {"killed before": killed, "killed after": lambda state: killed(undisturbed_step(state))}
WAYS: dict[str, dict[str, Callable[[State], State]]] = {
    "aws": {
        "refused before sending": refused_by_aws("EndpointConnectionError"),
        "throttled": refused_by_aws("ThrottlingException"),
        "5xx": refused_by_aws("InternalServiceError"),
        "access denied": refused_by_aws("AccessDeniedException"),
        "timed out, effect done": lost_by_aws,
        "timed out, nothing done": refused_by_aws("ReadTimeoutError"),
        **KILLED,
    },
    "refresh": {
        "refused before sending": answered(NothingSent("connection refused")),
        "throttled": answered(Later("429", timedelta(seconds=847), throttled=True)),
        "5xx": answered(Unknown("502")),
        "access denied": answered(Refused("401")),
        "timed out, effect done": answered(Unknown("read timeout"), effect=True),
        "timed out, nothing done": answered(Unknown("read timeout")),
        **KILLED,
    },
    "prove": {
        "refused before sending": answered(Unclear("connection refused")),
        "throttled": answered(Unclear("429")),
        "5xx": answered(Unclear("502")),
        "access denied": answered(Denied("401")),
        "timed out, effect done": answered(Unclear("read timeout"), effect=True),
        "timed out, nothing done": answered(Unclear("read timeout")),
        **KILLED,
    },
}


def path() -> Iterator[State]:
    """The state before each call of a refresh that nothing disturbs."""
    state = started()
    while step_of(state) != "end":
        yield state
        state = undisturbed_step(state)


CALLS = [step_of(state) for state in path()]


def test_an_undisturbed_refresh_makes_ten_calls_and_three_writes() -> None:
    assert CALLS == [
        "DescribeSecret virtuous/default/tokens",
        "GetSecretValue virtuous/default/tokens",
        "DescribeSecret virtuous/default/bearer",
        "ListSecretVersionIds virtuous/default/tokens",
        "PutSecretValue REFRESHING virtuous/default/tokens",
        "refresh",
        "DescribeSecret virtuous/default/tokens",
        "PutSecretValue AWSCURRENT virtuous/default/tokens",
        "prove",
        "PutSecretValue AWSCURRENT virtuous/default/bearer",
    ]


FAILURES = [(number, way) for number, call in enumerate(CALLS) for way in WAYS.get(call, WAYS["aws"])]
CASES = [pytest.param(number, way, id=f"{number + 1} {CALLS[number]}, {way}") for number, way in FAILURES]


def after_failure(number: int, way: str, *, login: bool = False, reusable: bool = False) -> State:
    """The run with its call *number* failing in that *way*, driven to its end."""
    state = started(login=login, reusable=reusable)
    for _ in range(number):
        state = undisturbed_step(state)
    state = WAYS.get(step_of(state), WAYS["aws"])[way](state)
    while state.refreshers[0].runs:
        state = undisturbed_step(state)
    return state


@pytest.mark.parametrize(("number", "way"), CASES)
def test_one_failing_call_costs_no_pair(number: int, way: str) -> None:
    state = after_failure(number, way)
    end, outcomes = undisturbed(state, LATER)
    pair = end.pair()
    token = pair.refresh_token.reveal() if pair.refresh_token else None
    print(
        f"| {CALLS[number]} | {way} | {state.refreshers[0].outcome} | {', '.join(outcomes)} | "
        f"{token} of refresh-{end.provider.newest} | {len(end.provider.sent)} |"
    )
    assert broken_now(end) is None
    assert end.strict.labels(NAMES.bearer)[CURRENT] == end.strict.labels(NAMES.pair)[CURRENT]
    if end.lost:
        assert "login_required" in outcomes
        assert pair.expires_at is not None
        assert pair.expires_at - end.now > timedelta(days=5)
    else:
        assert token == f"refresh-{end.provider.newest}"
        assert end.provider.newest > 1
        assert pair.expires_at is not None
        assert pair.expires_at - START >= LIFE


@pytest.mark.parametrize(("number", "way"), CASES)
@pytest.mark.parametrize(
    ("login", "reusable"),
    [pytest.param(True, False, id="a login is stored"), pytest.param(False, True, id="refresh tokens are reusable")],
)
def test_one_failing_call_ends_in_a_working_pair_where_anything_can_mend_it(
    number: int, way: str, login: bool, reusable: bool
) -> None:
    end, _ = undisturbed(after_failure(number, way, login=login, reusable=reusable), LATER)
    pair = end.pair()
    assert pair.refresh_token is not None
    assert pair.refresh_token.reveal() == f"refresh-{end.provider.newest}"
    assert pair.access_token.reveal() == f"access-{end.provider.newest}"


def test_only_a_lost_answer_or_a_kill_with_the_answer_in_hand_is_excused() -> None:
    excused = {(CALLS[number], way) for number, way in FAILURES if after_failure(number, way).lost}
    assert excused == {
        ("refresh", "timed out, effect done"),
        ("refresh", "killed after"),
        ("DescribeSecret virtuous/default/tokens", "killed before"),
        ("DescribeSecret virtuous/default/tokens", "killed after"),
        ("PutSecretValue AWSCURRENT virtuous/default/tokens", "killed before"),
    }


def test_a_save_that_never_works_is_tried_until_the_deadline_and_never_called_success() -> None:
    state = started()
    while step_of(state) != "PutSecretValue AWSCURRENT virtuous/default/tokens":
        state = undisturbed_step(state)
    tries = 0
    while state.refreshers[0].runs:
        step = step_of(state)
        if step == "PutSecretValue AWSCURRENT virtuous/default/tokens":
            tries += 1
            state = state._replied(0, Raised("AccessDeniedException"))
        elif step == "pause":
            arguments = next_step("holder-0", state.refreshers[0].replies)
            assert not isinstance(arguments, OutcomeWord)
            waited = timedelta(seconds=dict(arguments.arguments)["seconds"])
            state = replace(state, now=state.now + waited)._replied(0, None)
        else:
            state = undisturbed_step(state)
    assert tries > 20
    assert START + INVOCATION - timedelta(seconds=6) <= state.now < START + INVOCATION
    assert state.refreshers[0].outcome == "try_again"


def test_a_look_at_a_fresh_connection_makes_three_calls() -> None:
    state = started()
    while state.refreshers[0].runs:
        state = undisturbed_step(state)
    again = replace(state, refreshers=(Refresher((Reply("start", state.now),)),))
    calls = []
    while step_of(again) != "end":
        calls.append(step_of(again))
        again = undisturbed_step(again)
    assert calls == CALLS[:3]


def test_a_refresh_makes_two_versions_of_the_pair_and_three_writes_in_all() -> None:
    before = started()
    after = before
    while after.refreshers[0].runs:
        after = undisturbed_step(after)
    assert len(after.strict.versions(NAMES.pair)) - len(before.strict.versions(NAMES.pair)) == 2
    writes = sum(after.strict.writes(name) - before.strict.writes(name) for name in (NAMES.pair, NAMES.bearer))
    assert writes == 3
