"""Each call on each path fails once, in each way that it can, at once or late; then the connection is left alone.

``unwell`` (run in every state) is the judge: three quiet runs, or a login and a run, must lead to a healthy pair.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.explorer.moves import performed, replied, run_through, started
from tests.explorer.plays import Play, milestone
from tests.explorer.processes import INVOCATION, NAMES, Raised, Step
from tests.explorer.search import LOGIN, RUN, explore, first_state, unwell
from tests.explorer.world import START, Budget, State

WAYS = {
    "fails, with or without its effect": Budget(faults=1),
    "is done later": Budget(late=1),
    "loses its answer": Budget(lost=1),
    "is the last before a kill": Budget(kills=1, ticks=1),
    "is followed by a frozen while": Budget(freezes=1, ticks=2),
    "gets a proof of no use": Budget(proofs=1),
    "reads what was": Budget(stale=1),
}


def refresh() -> State:
    return first_state((RUN,), refreshes=1)


def left_unpublished() -> State:
    return Play(first_state((RUN, RUN))).until(0, "publishes").dies(0).state


def dead_holder() -> State:
    return Play(first_state((RUN, RUN))).until(0, "sends").dies(0).minutes_pass(2).state


def second_candidate() -> State:
    return Play(first_state((RUN,))).person("pastes a dead pair").state


def stored_password() -> State:
    return Play(first_state((RUN,), password=True)).person("pastes a dead pair").person("pastes a dead pair").state


def superseded() -> State:
    return Play(first_state((RUN,))).until(0, "saves").person("pastes a live pair").state


def superseded_before_the_look() -> State:
    play = Play(first_state((RUN,))).until(0, "sends").person("pastes a dead pair")
    step = play.next(0)
    assert step is not None
    after, answer = performed(play.state, 0, step)
    return replied(after, 0, answer)


def taken_slot() -> State:
    """A login waited long enough, and took the place of what the holder has in hand."""
    return Play(first_state((RUN, LOGIN))).until(0, "saves").ends(1).state


def login() -> State:
    return first_state((LOGIN,), refreshes=1)


def first_login() -> State:
    return first_state((LOGIN,), stored=False, published=False)


def login_over_a_dead_holder() -> State:
    return Play(first_state((RUN, LOGIN))).until(0, "sends").dies(0).minutes_pass(2).state


def login_over_a_live_holder() -> State:
    return Play(first_state((RUN, LOGIN))).until(0, "sends").state


PATHS = [
    refresh,
    left_unpublished,
    dead_holder,
    second_candidate,
    stored_password,
    superseded,
    superseded_before_the_look,
    taken_slot,
    login,
    first_login,
    login_over_a_dead_holder,
    login_over_a_live_holder,
]


@pytest.mark.parametrize("way", [pytest.param(budget, id=way) for way, budget in WAYS.items()])
@pytest.mark.parametrize("path", [pytest.param(path, id=path.__name__.replace("_", " ")) for path in PATHS])
def test_one_failing_call_loses_no_pair_and_leaves_nothing_stuck(path: Callable[[], State], way: Budget) -> None:
    explored = explore(path()._replace(budget=way._replace(switches=0)))
    assert explored.findings == {}
    assert explored.is_complete


def calls(state: State) -> list[str]:
    """What process 0 calls on its way to the end, undisturbed."""
    play, made = Play(started(state._replace(budget=Budget(proofs=1)), 0)), []
    while (step := play.next(0)) is not None:
        made.append(str(step))
        after, answer = performed(play.state, 0, step)
        play.state = replied(after, 0, answer)
    return made


def test_a_refresh_makes_ten_calls_and_four_writes() -> None:
    made = calls(refresh())
    assert made == [
        "DescribeSecret bearer",
        "GetSecretValue tokens AWSCURRENT",
        "ListSecretVersionIds tokens",
        "PutSecretValue tokens REFRESHING",
        "refresh refresh-2",
        "ListSecretVersionIds tokens",
        "PutSecretValue tokens AWSCURRENT+REFRESHING",
        "prove access-3",
        "PutSecretValue bearer AWSPENDING",
        "UpdateSecretVersionStage bearer AWSCURRENT",
    ]


def test_a_look_at_a_fresh_idle_connection_makes_two_calls() -> None:
    fresh, ended = run_through(first_state(()), RUN)
    assert ended.word == "refreshed"
    again = fresh._replace(processes=refresh().processes)
    assert calls(again) == ["DescribeSecret bearer", "GetSecretValue tokens AWSCURRENT"]


def test_a_refresh_makes_two_versions_of_the_pair() -> None:
    before = first_state(())
    after, _ = run_through(before, RUN)
    assert len(after.secrets[NAMES.pair].versions) - len(before.secrets[NAMES.pair].versions) == 2


def test_a_save_that_never_works_is_tried_until_the_deadline_and_never_called_success() -> None:
    play, tries = Play(first_state((RUN,))).until(0, "saves"), 0
    while (step := play.next(0)) is not None:
        if is_save(step):
            tries += 1
            play.state = replied(play.state, 0, Raised("AccessDeniedException"))
        else:
            after, answer = performed(play.state, 0, step)
            play.state = replied(after, 0, answer)
    assert tries > 20
    assert INVOCATION.total_seconds() - 6 <= (play.state.now - START).total_seconds() < INVOCATION.total_seconds()
    assert play.ended(0).word == "try_again"
    assert play.ended(0).pair_at_risk
    assert unwell(play.state) == ""


def is_save(step: Step) -> bool:
    return milestone(step) == "saves"
