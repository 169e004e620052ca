"""Core: the refresh journal's entries and ids. It is kept in the pair secret, where a version is written once.

The journal is one chain. Each id follows from the one before it, and the first from the secret's ARN. So everybody who
stands at the same place computes the same next id, and one of them can write it::

    ARN ── claim_id ──> intent ── result_id ──> new pair or outcome ── claim_id ──> intent ...
               └──────> the pair of a person's login ── claim_id ──> ...

The staging label REFRESHING is on the chain's end: on an intent, whose holder may send a credential, or on what came of
the last one, and then nobody holds a claim.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, NAMESPACE_URL, UUID, uuid3, uuid5

from virtuous_token.contract import FORMAT_VERSION, format_instant, parse_instant, parse_object
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .formats import parse_spent
from .model import LABEL as LABEL
from .model import SUPERSEDED as SUPERSEDED
from .model import Ending, Versions

# What an attempt with the stored password is remembered by; others by their refresh token's fingerprint.
PASSWORD = "password"

# How many fingerprints of spent tokens are carried on: at a refresh a week those of four years, in 2.4 KB.
MOST_SPENT = 200
MOST_ATTEMPTS = 20
# Backoff of attempts that ended without a verdict: half a minute, so that Lambda's own repetition of a failed
# invocation (after one minute) may try, then three times as long each time, an hour at most. Two versions an attempt
# make that about 60 versions a day, and Secrets Manager keeps about 100 before it refuses new ones.
FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=1)
# A credential that the provider refused may have been refused by mistake; hammering it helps nobody.
ONE_TRY_A_DAY = timedelta(days=1)


class Attempt(NamedTuple):
    """The last time that a credential was sent, and how it ended."""

    at: datetime
    result: Ending


@dataclass(frozen=True, slots=True)
class History:
    """What each entry carries on from the one before it.

    ``attempts``: by the refresh token's fingerprint, or ``password``. ``failures``: attempts in a row without a pair.
    ``spent``: fingerprints of the refresh tokens known to be spent, newest first. ``newest``: the version id of the
    chain's newest pair.
    """

    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    failures: int = 0
    spent: tuple[str, ...] = ()
    newest: str | None = None

    @property
    def spent_and_refused(self) -> tuple[str, ...]:
        """``spent`` and the tokens that the provider refused: what a new pair carries on."""
        return merged((key for key, attempt in self.attempts.items() if attempt.result.is_verdict), self.spent)

    def to_json(self) -> dict[str, Any]:
        return {
            "attempts": {
                credential: {"at": format_instant(attempt.at), "ended": attempt.result}
                for credential, attempt in self.attempts.items()
            },
            "failures": self.failures,
            "spent": self.spent,
            "newest": self.newest,
        }


class Intent(NamedTuple):
    """``holder`` is about to send a credential on behalf of version ``replaces``.

    The holder is dead ``holds_for`` after Secrets Manager made this version, so that clocks need not agree.
    ``credential``: the refresh token's fingerprint, or ``password``.
    """

    replaces: str
    holder: str
    credential: str
    started_at: datetime
    holds_for: timedelta
    history: History = History()

    def is_dead(self, created_at: datetime, now: datetime) -> bool:
        """*now* by the clock that *created_at* comes from."""
        return now > created_at + self.holds_for

    def ends(self, result: Ending, now: datetime, *, wait: timedelta | None = None) -> Outcome:
        """The outcome that goes into this intent's result slot; *wait* until the next try where it is no verdict.

        A verdict stands until another takes its place: a refused credential does not become a promising one because
        the next try met a throttled server.
        """
        key = self.credential
        before = self.history.attempts.get(key)
        stands = before.result if before and before.result.is_verdict and not result.is_verdict else result
        others = [(other, attempt) for other, attempt in self.history.attempts.items() if other != key]
        attempts = [*others, (key, Attempt(self.started_at, stands))][-MOST_ATTEMPTS:]
        history = replace(self.history, attempts=dict(attempts), failures=self.history.failures + 1)
        wait = ONE_TRY_A_DAY if stands.is_verdict else wait
        return Outcome(self.replaces, stands, now, now + wait if wait else None, history)

    def to_json(self) -> str:
        return _dump(
            entry="intent",
            replaces=self.replaces,
            holder=self.holder,
            credential=self.credential,
            started_at=format_instant(self.started_at),
            holds_for_seconds=int(self.holds_for.total_seconds()),
            **self.history.to_json(),
        )


class Outcome(NamedTuple):
    """Why an attempt on behalf of version ``replaces`` brought no pair. The next may be made at ``retry_at``."""

    replaces: str
    result: Ending
    at: datetime
    retry_at: datetime | None = None
    history: History = History()

    def to_json(self) -> str:
        return _dump(
            entry="outcome",
            replaces=self.replaces,
            outcome=self.result,
            at=format_instant(self.at),
            retry_at=format_instant(self.retry_at) if self.retry_at else None,
            **self.history.to_json(),
        )


Entry = Intent | Outcome


@lru_cache(maxsize=4096)  # each run walks its list of versions several times
def claim_id(filled: str) -> str:
    """The version id of what can follow *filled*, a pair or an outcome: an intent, or the pair of a person's login."""
    return str(uuid5(_namespace(filled), "claim"))


@lru_cache(maxsize=4096)
def result_id(intent: str) -> str:
    """The version id of whatever comes of *intent*: the new pair or an outcome."""
    return str(uuid5(_namespace(intent), "result"))


def late_pair_id(slot: str) -> str:
    """Where a pair is kept whose holder found its *slot* filled.

    It is no part of the chain: so it is no UUID of version 5, by which those are known.
    """
    return str(uuid3(_namespace(slot), "late"))


def is_of_the_chain(version_id: str) -> bool:
    """True for a UUID of version 5; those that an SDK or the console draws are of version 4."""
    return _uuid_version(version_id) == 5


def is_late(version_id: str) -> bool:
    """True for an id that ``late_pair_id`` gives."""
    return _uuid_version(version_id) == 3


@lru_cache(maxsize=4096)
def _uuid_version(version_id: str) -> int | None:
    try:
        return UUID(version_id).version
    except ValueError:
        return None


def chain_end(versions: Versions) -> str:
    """The version id of the chain's end; where nothing was written yet, one that follows from the secret's ARN.

    Any entry may be gone that carries no label: so the end is the newest of those that nothing listed follows.
    """
    ids = {version.version_id for version in versions.listed}
    ends = [
        version
        for version in versions.listed
        if is_of_the_chain(version.version_id)
        and ids.isdisjoint((claim_id(version.version_id), result_id(version.version_id)))
    ]
    if not ends:
        return str(uuid5(NAMESPACE_URL, versions.arn))
    return max(ends, key=lambda version: version.created_at).version_id


def may_be_an_intent(end: str, versions: Versions) -> bool:
    """True unless the ids show that *end*, which can't be read, is what came of an intent."""
    return all(result_id(version.version_id) != end for version in versions.listed)


def merged(*lists: Iterable[str], but: SecretText | None = None) -> tuple[str, ...]:
    """The fingerprints of all *lists*, each once, as many as are carried on; not that of *but*, which is good now."""
    left_out = (PASSWORD, but.fingerprint() if but else None)
    known = dict.fromkeys(fingerprint for listed in lists for fingerprint in listed)
    return tuple(fingerprint for fingerprint in known if fingerprint not in left_out)[:MOST_SPENT]


def backoff(failures: int) -> timedelta:
    """How long to wait after the *failures*-th attempt in a row that ended without a verdict."""
    return min(FIRST_BACKOFF * int(3 ** min(failures - 1, 10)), LONGEST_BACKOFF)


def parse_entry(text: str | None) -> Entry | None:
    """The entry in *text*; None where it is something else (a pair, a version made by hand)."""
    try:
        stored = parse_object(text, "the journal entry")
        match stored.get("entry"):
            case "intent":
                return Intent(
                    replaces=str(stored["replaces"]),
                    holder=str(stored["holder"]),
                    credential=str(stored["credential"]),
                    started_at=parse_instant(stored["started_at"]),
                    holds_for=timedelta(seconds=int(stored["holds_for_seconds"])),
                    history=_history(stored),
                )
            case "outcome":
                return Outcome(
                    replaces=str(stored["replaces"]),
                    result=_ending(stored["outcome"]),
                    at=parse_instant(stored["at"]),
                    retry_at=parse_instant(stored["retry_at"]) if stored.get("retry_at") else None,
                    history=_history(stored),
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


def _dump(**values: Any) -> str:
    """What is absent is left out."""
    return json.dumps({"version": FORMAT_VERSION} | {key: value for key, value in values.items() if value is not None})


def _history(stored: Mapping[str, Any]) -> History:
    return History(
        attempts={
            str(credential): Attempt(parse_instant(attempt["at"]), _ending(attempt["ended"]))
            for credential, attempt in stored.get("attempts", {}).items()
        },
        failures=int(stored.get("failures", 0)),
        spent=parse_spent(stored),
        newest=str(stored["newest"]) if stored.get("newest") else None,
    )


def _ending(word: Any) -> Ending:
    """A word that only a later version knows still makes an entry: what ended must not look as if it went on."""
    try:
        return Ending(word)
    except ValueError:
        return Ending.UNKNOWN
