"""Many connections in one invocation."""

from __future__ import annotations

import random
import threading
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from tests.support import NOW, a_pair
from token_refresher.refresh.due import LONG_AGO, due_at
from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.journal import LABEL
from token_refresher.refresh.model import CURRENT, CurrentPair, OutcomeWord, Policy, Result, Stored
from token_refresher.report import describe_if_idle
from token_refresher.sweep import (
    SHUFFLED_GROUP_SIZE,
    WORKERS,
    DueConnection,
    in_order,
    result_if_fresh,
    skip_throttled_organizations,
    sweep,
)
from virtuous_token.secret_text import SecretText

POLICY = Policy("https://api.virtuoussoftware.com", schedule_interval=timedelta(hours=6))
FRESH, DUE = a_pair(issued_at=NOW - timedelta(days=1)), a_pair(issued_at=NOW - timedelta(days=9))
API_KEY = TokenPair(SecretText("v_access-1"))
FRESH_UNTIL = due_at(FRESH, "acme", 50)


def _fresh(connection: str) -> Result:
    return Result(connection, OutcomeWord.FRESH)


def _look(pair: TokenPair | str, *, labels: Collection[str] = (CURRENT, LABEL), published: str = "this") -> Stored:
    text = pair if isinstance(pair, str) else pair.to_json()
    return Stored({CURRENT: published} if published else {}, CurrentPair("this", frozenset(labels), text))


# By what is seen: since when the connection is due, None where it is fresh.
SEEN: dict[str, tuple[Stored | None, datetime | None]] = {
    "published, idle and not due": (_look(FRESH), None),
    "due": (_look(DUE), due_at(DUE, "acme", 50)),
    "something was attempted with it": (_look(FRESH, labels=[CURRENT]), FRESH_UNTIL),
    "readers have no token": (_look(FRESH, published=""), FRESH_UNTIL),
    "readers have another token": (_look(FRESH, published="another"), FRESH_UNTIL),
    "the pair can't be read": (_look("no pair"), LONG_AGO),
    "nothing is seen": (None, LONG_AGO),
    "there is no pair": (Stored({CURRENT: "this"}, None), LONG_AGO),
    "nobody knows when the pair was issued": (_look(replace(FRESH, issued_at=None)), LONG_AGO),
    "it ended and can't be refreshed": (_look(replace(API_KEY, expires_at=NOW)), LONG_AGO),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_is_published_and_idle_and_not_due_is_fresh_and_anything_else_needs_a_look(case: str) -> None:
    stored, since = SEEN[case]
    found = result_if_fresh("acme", stored, POLICY, NOW)
    if isinstance(found, DueConnection):
        assert (found.connection, found.since) == ("acme", since)
    else:
        assert since is None
        assert (found.outcome, found.readers_work_until) == ("fresh", FRESH.expires_at)
        assert found.refresh_token_expires_at == FRESH.refresh_token_expires_at


@pytest.mark.parametrize("hours", [1, 6, 8, 24])
def test_an_api_key_is_proved_every_day_and_rarely_more_than_once(hours: int) -> None:
    """Runs begin up to ten minutes late: the schedule's flexible window."""
    policy, lateness = Policy("", schedule_interval=timedelta(hours=hours)), random.Random(hours)
    runs = [NOW + timedelta(hours=hours * run, minutes=lateness.uniform(0, 10)) for run in range(30 * 24 // hours)]
    for name in ("acme", "default", "zebra"):
        looked_at = [
            now for now in runs if isinstance(result_if_fresh(name, _look(API_KEY), policy, now), DueConnection)
        ]

        gaps = [later - earlier for earlier, later in pairwise(looked_at)]
        assert max(gaps) <= timedelta(days=1, hours=hours)
        assert len(looked_at) <= 30 * 1.3 + 1
    # In every run where nobody knows how often they come, and in every report.
    assert isinstance(result_if_fresh("acme", _look(API_KEY), Policy(""), NOW), DueConnection)
    assert describe_if_idle("acme", _look(API_KEY), POLICY) is None


def test_those_longest_past_due_come_first_and_neighbours_in_any_order() -> None:
    """So that of two sweeps at once each finds its own, and one that does not finish has dealt with the right ones."""
    due = [DueConnection(str(number), NOW - timedelta(minutes=number)) for number in range(3 * SHUFFLED_GROUP_SIZE + 7)]
    random.Random(1).shuffle(due)

    one, other = in_order(due), in_order(due)

    longest_first = [str(number) for number in reversed(range(len(due)))]
    for start in range(0, len(due), SHUFFLED_GROUP_SIZE):
        group = slice(start, start + SHUFFLED_GROUP_SIZE)
        assert sorted(one[group]) == sorted(other[group]) == sorted(longest_first[group])
    assert one != other


def test_an_organisation_that_virtuous_throttles_is_left_alone_and_no_other_is() -> None:
    """Its limit counts the requests of all its connections together."""
    asked: list[str] = []
    clock = [NOW]

    def refresh(connection: str) -> Result:
        asked.append(connection)
        until = NOW + timedelta(hours=1) if connection == "first" else None
        return Result(connection, OutcomeWord.TRY_AGAIN if until else OutcomeWord.REFRESHED, throttled_until=until)

    organizations = {"first": "4711", "second": "4711", "other": "4712", "unknown": None, "third": "4711"}
    due = [DueConnection(name, NOW, organization) for name, organization in organizations.items()]
    spared = skip_throttled_organizations(refresh, due, lambda: clock[0])

    outcomes = [spared(name).outcome for name in ("first", "second", "other", "unknown")]
    clock[0] += timedelta(hours=1)
    outcomes.append(spared("third").outcome)

    assert outcomes == ["try_again", "postponed", "refreshed", "refreshed", "refreshed"]
    assert asked == ["first", "other", "unknown", "third"]


def test_as_many_connections_run_at_once_as_there_are_workers_and_no_thread_is_left() -> None:
    all_there, before = threading.Barrier(WORKERS), threading.active_count()
    names = [str(number) for number in range(5 * WORKERS)]
    at_once: list[int] = []

    def refresh(connection: str) -> Result:
        all_there.wait(10)  # seconds: with fewer workers it would wait in vain
        at_once.append(threading.active_count() - before)
        return _fresh(connection)

    assert sweep(names, refresh) == [_fresh(name) for name in names]
    assert max(at_once) == WORKERS
    assert threading.active_count() == before
