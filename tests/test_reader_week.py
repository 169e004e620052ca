"""A week of a process in simulated time: rotations, ten minutes of throttling, an outage of an hour, a login."""

from __future__ import annotations

import random

import pytest

from tests.fakes.one_bearer import join_renewals
from tests.fakes.week import DAY, HOUR, Week, live
from virtuous_token import TokenReader, _cached_token, waiting


@pytest.mark.parametrize("renews", [True, False], ids=["a reader", "one that forgets to renew"])
@pytest.mark.parametrize(
    ("life_seconds", "most_calls_a_day"),
    [
        pytest.param(15 * DAY, 25, id="a token of fifteen days"),
        pytest.param(4 * HOUR, 40, id="a token of four hours"),
    ],
)
def test_nobody_waits_after_the_first_read_and_nobody_gets_a_token_that_is_over(
    life_seconds: float, most_calls_a_day: int, renews: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cached_token, "random_fraction", random.Random(life_seconds).random)
    if not renews:
        monkeypatch.setattr(waiting, "renew", lambda *_, **__: None)
    week = Week(life_seconds)
    reader = TokenReader("virtuous/default/bearer", client=week, clock=week.clock)
    seen, calls = live(week, reader.token, join_renewals)
    if renews:
        assert (seen.waits, seen.errors, seen.expired) == (0, 0, 0)
        assert calls.busiest_day <= most_calls_a_day
        assert seen.slowest_change_seconds <= HOUR
    else:
        assert seen.slowest_change_seconds > HOUR or (seen.waits > 0 and seen.longest_wait_seconds > 0)
