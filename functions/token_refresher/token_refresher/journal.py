"""Core: the refresh journal, kept in the pair secret itself because a version there is written once.

The staging label REFRESHING points to the newest entry. An :class:`Intent` is written before a credential is sent, an
:class:`Outcome` where no pair came of it; a new pair goes into the same slot as an outcome would, so that exactly one
of them exists. What an outcome says counts only while its ``replaces`` is the version that AWSCURRENT is on; any other
is history.

The entries are one chain: each slot has exactly one claim that can follow it, whatever version is current.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from virtuous_token.contract import FORMAT_VERSION, format_instant, parse_instant, parse_object
from virtuous_token.errors import UnreadableSecret

__all__ = [
    "LABEL",
    "SUPERSEDED",
    "Attempt",
    "Attempts",
    "Ended",
    "Entry",
    "Grant",
    "Intent",
    "Outcome",
    "backoff",
    "claim_id",
    "is_idle",
    "parse_entry",
    "result_id",
]

LABEL = "REFRESHING"
# A pair that came too late to be current stays under this label. Not under REFRESHING: whoever moves that off another's
# claim makes that claim invisible.
SUPERSEDED = "SUPERSEDED"

# Backoff of attempts that ended without a verdict: half a minute, so that Lambda's own repetition of a failed
# invocation (after one minute) may try, then three times as long each time, an hour at most. Two versions an attempt
# make that about 60 versions a day, and Secrets Manager keeps about 100 before it refuses new ones.
FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=1)


class Grant(StrEnum):
    """Which credential an attempt spends, in the order in which they are tried."""

    CURRENT = "refresh_token"
    PREVIOUS = "previous_refresh_token"
    SUPERSEDED = "superseded_refresh_token"
    PASSWORD = "password"
    LOGIN = "login"  # a person's: obtained before the claim


class Ended(StrEnum):
    """How an attempt ended that brought no pair."""

    REFUSED = "refused"
    CODE_NEEDED = "code_needed"
    MISCONFIGURED = "misconfigured"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    HOLDER_DIED = "holder_died"

    @property
    def is_verdict(self) -> bool:
        """True where the provider judged the credential and a person is needed."""
        return self in (Ended.REFUSED, Ended.CODE_NEEDED)

    @property
    def nothing_spent(self) -> bool:
        """True where the provider did not judge the credential, so that sending it again spends nothing twice."""
        return self in (Ended.MISCONFIGURED, Ended.THROTTLED, Ended.UNREACHABLE)

    @property
    def in_doubt(self) -> bool:
        """True where nobody knows whether the credential was spent."""
        return self in (Ended.UNKNOWN, Ended.HOLDER_DIED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last time that a credential was sent for the version an entry is about, and how it ended."""

    at: datetime
    ended: Ended


Attempts = Mapping[Grant, Attempt]


@dataclass(frozen=True, slots=True)
class Intent:
    """``holder`` is about to send the credential ``grant`` for version ``replaces``; it is dead after ``dead_after``.

    ``attempts`` and ``failures`` carry on what the entries before it on the same version say.
    """

    replaces: str
    holder: str
    grant: Grant
    started_at: datetime
    dead_after: datetime
    attempts: Attempts = field(default_factory=dict)
    failures: int = 0

    def ends(self, ended: Ended, now: datetime, *, retry_at: datetime | None = None) -> Outcome:
        """The outcome that goes into this intent's result slot.

        A verdict stands until another takes its place: a refused credential does not become a promising one because
        the next try met a throttled server.
        """
        before = self.attempts.get(self.grant)
        stands = before.ended if before and before.ended.is_verdict and not ended.is_verdict else ended
        return Outcome(
            replaces=self.replaces,
            ended=stands,
            at=now,
            retry_at=retry_at,
            attempts={**self.attempts, self.grant: Attempt(self.started_at, stands)},
            failures=self.failures + 1,
        )

    def to_json(self) -> str:
        return json.dumps(
            {
                "version": FORMAT_VERSION,
                "entry": "intent",
                "replaces": self.replaces,
                "holder": self.holder,
                "grant": self.grant,
                "started_at": format_instant(self.started_at),
                "dead_after": format_instant(self.dead_after),
                **_history_to_json(self.attempts, self.failures),
            }
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why an attempt on version ``replaces`` brought no pair, and when the next may be made (None: at once)."""

    replaces: str
    ended: Ended
    at: datetime
    retry_at: datetime | None = None
    attempts: Attempts = field(default_factory=dict)
    failures: int = 0

    def to_json(self) -> str:
        return json.dumps(
            {
                "version": FORMAT_VERSION,
                "entry": "outcome",
                "replaces": self.replaces,
                "outcome": self.ended,
                "at": format_instant(self.at),
                "retry_at": format_instant(self.retry_at) if self.retry_at else None,
                **_history_to_json(self.attempts, self.failures),
            }
        )


Entry = Intent | Outcome


def claim_id(slot: str) -> str:
    """The version id of the one intent that can follow *slot*, a version that nobody will write to any more.

    Everybody who found the journal there computes the same id, and only one of them can write it.
    """
    return str(uuid5(_namespace(slot), "claim"))


def result_id(claim: str) -> str:
    """The version id of whatever comes of *claim*: the new pair or an outcome."""
    return str(uuid5(_namespace(claim), "result"))


def is_idle(current: str, under_refreshing: str) -> bool:
    """True if nothing was claimed since *current* was made: REFRESHING is on it, or on the claim that it came of."""
    return current in (under_refreshing, result_id(under_refreshing))


def backoff(failures: int) -> timedelta:
    """How long to wait after the *failures*-th attempt in a row that ended without a verdict."""
    return min(FIRST_BACKOFF * int(3 ** min(failures - 1, 10)), LONGEST_BACKOFF)


def parse_entry(text: str | None) -> Entry | None:
    """The entry in *text*; None where it is something else (a pair kept beside AWSCURRENT, a hand-made version)."""
    try:
        stored = parse_object(text, "the journal entry")
        match stored.get("entry"):
            case "intent":
                return Intent(
                    replaces=str(stored["replaces"]),
                    holder=str(stored["holder"]),
                    grant=_grant(stored["grant"]),
                    started_at=parse_instant(stored["started_at"]),
                    dead_after=parse_instant(stored["dead_after"]),
                    attempts=_attempts(stored),
                    failures=_failures(stored),
                )
            case "outcome":
                return Outcome(
                    replaces=str(stored["replaces"]),
                    ended=_ended(stored["outcome"]),
                    at=parse_instant(stored["at"]),
                    retry_at=parse_instant(stored["retry_at"]) if stored.get("retry_at") else None,
                    attempts=_attempts(stored),
                    failures=_failures(stored),
                )
    except (UnreadableSecret, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return None


def _namespace(version_id: str) -> UUID:
    """Version ids are UUIDs, unless a person chose one: any text of 32 to 64 characters will do for Secrets Manager."""
    try:
        return UUID(version_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, version_id)


def _history_to_json(attempts: Attempts, failures: int) -> dict[str, Any]:
    told = {grant: {"at": format_instant(attempt.at), "ended": attempt.ended} for grant, attempt in attempts.items()}
    return {"attempts": told, "failures": failures}


def _grant(word: Any) -> Grant:
    """A grant that only a later version knows still holds its claim: it must not be mistaken for no entry."""
    try:
        return Grant(word)
    except ValueError:
        return Grant.LOGIN


def _ended(word: Any) -> Ended:
    try:
        return Ended(word)
    except ValueError:
        return Ended.UNKNOWN


def _attempts(stored: Mapping[str, Any]) -> Attempts:
    return {
        _grant(grant): Attempt(parse_instant(told["at"]), _ended(told["ended"]))
        for grant, told in stored.get("attempts", {}).items()
    }


def _failures(stored: Mapping[str, Any]) -> int:
    return int(stored.get("failures", 0))
