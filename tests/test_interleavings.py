"""Every order of steps within the stated bounds, and random ones beyond them; ``make explore`` goes much further."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.explorer.people import HANDS
from tests.explorer.processes import Kind
from tests.explorer.search import LOGIN, RUN, explore, first_state, random_schedule, shortened
from tests.explorer.world import Budget, State
from tests.seed import SEED

RANDOM_SCHEDULES = 300
ADOPTING = Kind("login", adopts=True)
LOST = ("loses the oldest version", "loses the newest version")
FORM = ("opens the form", "saves the form")
BOUNDS: dict[str, Callable[[], State]] = {
    "two runs, one killed": partial(first_state, (RUN, RUN), Budget(kills=1, ticks=2)),
    "two runs, a stale read": partial(first_state, (RUN, RUN), Budget(stale=1), refreshes=1),
    "a run and a login": partial(first_state, (RUN, LOGIN), Budget(switches=2)),
    "two first logins and a run": partial(first_state, (LOGIN, LOGIN, RUN), stored=False, published=False),
    "an edit and two runs": partial(first_state, (RUN, RUN), Budget(switches=1), FORM),
    "a slow run, a login and another run": partial(first_state, (RUN, LOGIN, RUN), Budget(switches=1)),
    "an adopted pair and a run": partial(first_state, (ADOPTING, RUN), Budget(switches=2), refreshes=1),
    "versions are lost": partial(first_state, (RUN, RUN), Budget(switches=1), LOST, refreshes=2),
    "a frozen run and another": partial(first_state, (RUN, RUN), Budget(freezes=1, ticks=2, switches=0)),
    **{
        f"a person {hand}": partial(first_state, (RUN, RUN), Budget(switches=0), (hand,), refreshes=1) for hand in HANDS
    },
}


@pytest.mark.parametrize("first", BOUNDS.values(), ids=BOUNDS)
def test_no_order_of_steps_breaks_a_property(first: Callable[[], State]) -> None:
    explored = explore(first())
    assert explored.finding is None
    assert explored.is_complete


def test_no_random_schedule_breaks_a_property() -> None:
    for seed in range(SEED, SEED + RANDOM_SCHEDULES):
        first, steps, what = random_schedule(seed)
        assert what == "", shortened(first, steps)
