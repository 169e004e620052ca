"""A week of a process in simulated time: rotations, ten minutes of throttling, an outage of an hour, a login."""

from __future__ import annotations

import random

import pytest

from tests.fakes.one_bearer import join_renewals
from tests.fakes.week import DAY, HOUR, Week, live
from virtuous_token import TokenReader, _cached_token, waiting


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("life_seconds", "most_calls_a_day"),
    [
        pytest.param(15 * DAY, 25, id="a token of fifteen days"),
        pytest.param(4 * HOUR, 40, id="a token of four hours"),
    ],
)
def test_nobody_waits_after_the_first_read_and_nobody_gets_a_token_that_is_over(
    life_seconds: float, most_calls_a_day: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cached_token, "random_fraction", random.Random(seed).random)
    week = Week(life_seconds)
    reader = TokenReader("virtuous/default/bearer", client=week, clock=week.clock)

    def settle() -> None:
        if reader._shared._read is not None:
            join_renewals()

    seen, calls = live(week, reader.token, settle)
    assert (seen.waits, seen.errors, seen.expired) == (0, 0, 0)
    assert calls.busiest_day <= most_calls_a_day
    assert seen.slowest_change_seconds <= HOUR


def test_a_reader_that_forgets_to_renew_makes_callers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "renew", lambda *_, **__: None)
    week = Week(4 * HOUR)
    seen, _ = live(week, TokenReader("virtuous/default/bearer", client=week, clock=week.clock).token)
    assert seen.waits > 0
    assert seen.longest_wait_seconds > 0
