"""Every order of steps within the stated bounds, and random ones beyond them; ``make explore`` goes much further."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.explorer.campaign import BOUNDS
from tests.explorer.search import explore, kind_of, random_schedule, shortened
from tests.explorer.world import State
from tests.seed import SEED

RANDOM_SCHEDULES = 300


@pytest.mark.parametrize("first", [pytest.param(first, id=name) for name, first in BOUNDS.items()])
def test_no_order_of_steps_breaks_a_property(first: Callable[[], State]) -> None:
    explored = explore(first())
    print(f"{explored.states} states, {explored.ends} ends, {explored.quiet} of them left alone")
    assert explored.findings == {}
    assert explored.is_complete


def test_no_random_schedule_breaks_a_property() -> None:
    for seed in range(SEED, SEED + RANDOM_SCHEDULES):
        first, steps, what = random_schedule(seed)
        assert what == "", shortened(first, kind_of(what), steps)
