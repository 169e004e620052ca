"""Core: what becomes of one connection in one run, and what the deployment decided about runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

__all__ = ["OutcomeWord", "Policy", "Result", "RunEnds", "TimeLimits"]


class OutcomeWord(StrEnum):
    """What became of one connection in one run."""

    FRESH = "fresh"
    REFRESHED = "refreshed"
    RECOVERED = "recovered"
    BUSY = "busy"
    SUPERSEDED = "superseded"
    POSTPONED = "postponed"
    UNPROVEN = "unproven"
    TRY_AGAIN = "try_again"
    LOGIN_REQUIRED = "login_required"
    MISCONFIGURED = "misconfigured"


class RunEnds(Exception):
    """Ends the run of one connection with *outcome*; *reason* is for a log and holds no secret.

    *throttled_until*: Virtuous serves the connection's organisation no more before.
    """

    def __init__(self, outcome: OutcomeWord, reason: str, *, throttled_until: datetime | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.throttled_until = throttled_until


class TimeLimits(NamedTuple):
    """Time that must be left before something is begun.

    ``request``: the longest that one call to Virtuous takes (the endpoint adapter's own bound). ``save``: kept for
    saving an answer: one call to Secrets Manager that hangs, and several throttled ones. ``look``: one call that hangs,
    before a connection is looked at.
    """

    request: timedelta = timedelta(seconds=45)
    save: timedelta = timedelta(seconds=75)
    look: timedelta = timedelta(seconds=45)


class Policy(NamedTuple):
    """What the deployment decided. ``schedule_interval`` is None where the schedule is not a plain rate."""

    base_url: str
    refresh_at_percent: int = 50
    schedule_interval: timedelta | None = None
    limits: TimeLimits = TimeLimits()


class Result(NamedTuple):
    """What became of one connection. ``reason`` and ``notes`` are for a log and hold no secret.

    ``readers_work_until``: the end of the access token that readers are given; None where nobody knows.
    ``pair_at_risk``: the provider answered and its answer could not be saved. ``api_key_refused``: the pair is an
    access token that nobody can refresh, and Virtuous refuses it. ``throttled_until``: Virtuous serves the connection's
    organisation no more before. The rest describes the newest pair that is saved.
    """

    connection: str
    outcome: OutcomeWord
    reason: str = ""
    notes: tuple[str, ...] = ()
    readers_work_until: datetime | None = None
    refresh_token_expires_at: datetime | None = None
    next_refresh_at: datetime | None = None
    organization_name: str | None = None
    pair_at_risk: bool = False
    organization_changed: bool = False
    api_key_refused: bool = False
    throttled_until: datetime | None = None
