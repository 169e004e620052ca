"""Many connections, one deadline: which need nothing, and in which order the rest is dealt with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from random import sample
from typing import NamedTuple, TypeVar

from virtuous_token.contract import format_instant

from .refresh.due import LONG_AGO, due_at, fraction_of
from .refresh.formats import pair_in
from .refresh.model import OutcomeWord, Policy, Result, Stored
from .refresh.refresh import fresh_result

_T = TypeVar("_T")

# At the full pace of 12 refreshes a second one takes two seconds and a half where Virtuous answers in half a second.
WORKERS = 32

# In a group of this many the order is chance: so two invocations at once seldom meet. It is twenty seconds of work.
SHUFFLED_GROUP_SIZE = 256

# What makes an invocation end in an error, so that Lambda's error count is true.
FAILED = frozenset({OutcomeWord.TRY_AGAIN, OutcomeWord.UNPROVEN, OutcomeWord.MISCONFIGURED})

_DAY = timedelta(days=1)
_LATE_AT_MOST = timedelta(minutes=15)  # the schedule's flexible window, and a start that takes long


class DueConnection(NamedTuple):
    """A connection that must be read by itself; since when it is due and its organisation's id, as far as known."""

    connection: str
    since: datetime
    organization: str | None = None


def result_if_fresh(connection: str, stored: Stored | None, policy: Policy, now: datetime) -> Result | DueConnection:
    """The result where *stored* shows that nothing is to be done; an API key must be proved once a day."""
    pair = pair_in(stored.pair.text) if stored and stored.pair else None
    if stored is None or pair is None:
        return DueConnection(connection, LONG_AGO)
    # Each has a day of its own, so that not all are proved in one run.
    is_its_turn = is_first_of_the_day(policy.schedule_interval, now, begins_at=fraction_of(connection) * _DAY)
    return fresh_result(connection, stored, policy, now, proves_api_key=is_its_turn) or DueConnection(
        connection, due_at(pair, connection, policy.refresh_at_percent) or LONG_AGO, pair.organization_id
    )


def in_order(due: Iterable[DueConnection]) -> list[str]:
    """Those longest past due first, so that a sweep that does not finish has dealt with the right ones."""
    names = [entry.connection for entry in sorted(due, key=lambda entry: entry.since)]
    groups = [names[start : start + SHUFFLED_GROUP_SIZE] for start in range(0, len(names), SHUFFLED_GROUP_SIZE)]
    return [name for group in groups for name in sample(group, len(group))]


def skip_throttled_organizations(
    refresh: Callable[[str], Result], due: Iterable[DueConnection], now: Callable[[], datetime]
) -> Callable[[str], Result]:
    """*refresh*, but nothing is asked for an organisation that Virtuous, which counts so, has just throttled."""
    organizations = {entry.connection: entry.organization for entry in due}
    throttled_until: dict[str, datetime] = {}

    def refresh_or_postpone(connection: str) -> Result:
        organization = organizations[connection]
        until = throttled_until.get(organization or "")
        if until and now() < until:
            reason = f"Virtuous serves its organisation no more before {format_instant(until)}"
            return Result(connection, OutcomeWord.POSTPONED, reason)
        result = refresh(connection)
        if organization and result.throttled_until:
            throttled_until[organization] = result.throttled_until
        return result

    return refresh_or_postpone


def for_each(connections: Iterable[str], work: Callable[[str], _T]) -> list[_T]:
    """What *work* gives for each connection, in the order given, as many at a time as there are workers."""
    with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="refresh") as pool:
        return list(pool.map(work, connections))


def sweep(connections: Iterable[str], refresh: Callable[[str], Result]) -> list[Result]:
    """One result for each connection, in the order given. *refresh* should not raise; if it does, that is a result."""

    def isolated(connection: str) -> Result:
        try:
            return refresh(connection)
        except Exception as error:  # noqa: BLE001 (a defect in one connection must not stop the others)
            # Only the type: the text of an error that nobody foresaw may hold anything.
            return Result(connection, OutcomeWord.TRY_AGAIN, f"an unforeseen {type(error).__name__}")

    return for_each(connections, isolated)


def sweep_due(
    due: Sequence[DueConnection], refresh: Callable[[str], Result], now: Callable[[], datetime]
) -> list[Result]:
    """The same for those that are due, in their order, but for organisations that Virtuous throttles meanwhile."""
    return sweep(in_order(due), skip_throttled_organizations(refresh, due, now))


def is_first_of_the_day(interval: timedelta | None, now: datetime, *, begins_at: timedelta = timedelta()) -> bool:
    """True in at least one of a day's runs, mostly in one alone: in the first of a day that begins *begins_at* after
    midnight UTC. In every run where nobody knows how often they come."""
    return interval is None or (now - LONG_AGO - begins_at) % _DAY < interval + _LATE_AT_MOST
