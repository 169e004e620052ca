"""Each call on each path fails once, in each way that it can, at once or late; then the connection is left alone.

``unwell`` (run in every state) is the judge: three quiet runs, or a login and a run, must lead to a healthy pair.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.explorer.moves import performed, replied
from tests.explorer.plays import Play
from tests.explorer.search import LOGIN, RUN, explore, first_state
from tests.explorer.world import Budget, State

WAYS = {
    "fails, with or without its effect": Budget(faults=1),
    "is done later": Budget(late=1),
    "loses its answer": Budget(lost=1),
    "is the last before a kill": Budget(kills=1, ticks=1),
    "is followed by a frozen while": Budget(freezes=1, ticks=2),
    "gets a proof of no use": Budget(proofs=1),
    "reads what was": Budget(stale=1),
}


def superseded_before_the_look() -> State:
    play = Play(first_state((RUN,))).until(0, "sends").person("pastes a dead pair")
    step = play.next(0)
    assert step is not None
    after, answer = performed(play.state, 0, step)
    return replied(after, 0, answer)


PATHS: dict[str, Callable[[], State]] = {
    "a refresh": lambda: first_state((RUN,), refreshes=1),
    "left unpublished": lambda: Play(first_state((RUN, RUN))).until(0, "publishes").dies(0).state,
    "a dead holder": lambda: Play(first_state((RUN, RUN))).until(0, "sends").dies(0).minutes_pass(2).state,
    "a second candidate": lambda: Play(first_state((RUN,))).person("pastes a dead pair").state,
    "the stored password": lambda: (
        Play(first_state((RUN,), password=True)).person("pastes a dead pair").person("pastes a dead pair").state
    ),
    "superseded": lambda: Play(first_state((RUN,))).until(0, "saves").person("pastes a live pair").state,
    "superseded before the look": superseded_before_the_look,
    "a login took the place": lambda: Play(first_state((RUN, LOGIN))).until(0, "saves").ends(1).state,
    "a login": lambda: first_state((LOGIN,), refreshes=1),
    "a first login": lambda: first_state((LOGIN,), stored=False, published=False),
    "a login over a dead holder": lambda: (
        Play(first_state((RUN, LOGIN))).until(0, "sends").dies(0).minutes_pass(2).state
    ),
    "a login over a live holder": lambda: Play(first_state((RUN, LOGIN))).until(0, "sends").state,
}


@pytest.mark.parametrize("way", [pytest.param(budget, id=way) for way, budget in WAYS.items()])
@pytest.mark.parametrize("path", [pytest.param(path, id=name) for name, path in PATHS.items()])
def test_one_failing_call_loses_no_pair_and_leaves_nothing_stuck(path: Callable[[], State], way: Budget) -> None:
    explored = explore(path()._replace(budget=way._replace(switches=0)))
    assert explored.findings == {}
    assert explored.is_complete
