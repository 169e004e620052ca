"""Core: the refresh journal's entries and ids. It is kept in the pair secret, where a version is written once.

The journal is one chain. Each id follows from the one before it, so everybody who stands at the same place computes the
same next id, and one of them can write it::

    first pair ── claim_id ──> intent ── result_id ──> new pair or outcome ── claim_id ──> intent ...
                      └──────> the pair of a person's login ── claim_id ──> ...

The staging label REFRESHING is on the chain's end: on an intent, whose holder may send a credential, or on what came of
the last one, and then nobody holds a claim.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

from virtuous_token.contract import FORMAT_VERSION, format_instant, parse_instant, parse_object
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .formats import parse_spent
from .model import Ending, StoredVersion, Versions

__all__ = [
    "FIRST_PAIR_ID",
    "LABEL",
    "ONE_TRY_A_DAY",
    "SUPERSEDED",
    "Attempt",
    "CredentialKind",
    "Entry",
    "History",
    "Intent",
    "Outcome",
    "ancestors",
    "backoff",
    "beside_id",
    "chain_end",
    "claim_id",
    "merged",
    "parse_entry",
    "result_id",
    "unless_granted_again",
]

LABEL = "REFRESHING"
# A pair that came too late to be current is kept under this label.
SUPERSEDED = "SUPERSEDED"
# The id of the first pair that a login stores, so that two first logins meet.
FIRST_PAIR_ID = str(uuid5(NAMESPACE_OID, "virtuous-token first pair"))

# How many fingerprints of spent tokens, and how many attempts, are carried on.
MOST_REMEMBERED = 20
# Backoff of attempts that ended without a verdict: half a minute, so that Lambda's own repetition of a failed
# invocation (after one minute) may try, then three times as long each time, an hour at most. Two versions an attempt
# make that about 60 versions a day, and Secrets Manager keeps about 100 before it refuses new ones.
FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=1)
# A credential that the provider refused may have been refused by mistake; hammering it helps nobody.
ONE_TRY_A_DAY = timedelta(days=1)


class CredentialKind(StrEnum):
    """Where a credential comes from, in the order in which they are tried."""

    CURRENT = "refresh_token"
    SUPERSEDED = "superseded_refresh_token"
    NEWEST = "newest_refresh_token"
    PREVIOUS = "previous_refresh_token"
    FIRST = "first_refresh_token"
    PASSWORD = "password"
    OTHER = "login"  # one that this version does not know, and the claim that version 1.0 made for a person's login


class Attempt(NamedTuple):
    """The last time that a credential was sent, and how it ended."""

    at: datetime
    result: Ending


@dataclass(frozen=True, slots=True)
class History:
    """What each entry carries on from the one before it.

    ``attempts``: by the refresh token's fingerprint, or ``password``. ``failures``: attempts in a row without a pair.
    ``spent``: fingerprints of the refresh tokens known to be spent, newest first; None in an entry of version 1.0.
    ``newest``: the version id of the chain's newest pair.
    """

    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    failures: int = 0
    spent: tuple[str, ...] | None = None
    newest: str | None = None

    def used_up(self, *, but: str | None = None) -> tuple[str, ...] | None:
        """``spent`` and, from here on, the tokens that the provider refused, *but* the one that it took after all."""
        if self.spent is None:
            return None
        refused = (key for key, attempt in self.attempts.items() if attempt.result.is_verdict)
        return merged((key for key in refused if key not in (but, CredentialKind.PASSWORD)), self.spent)

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

    The holder is dead ``holds_for`` after Secrets Manager made this version, so that clocks need not agree; version 1.0
    named the instant ``dead_after`` instead. ``credential``: the refresh token's fingerprint, or ``password``; None in
    version 1.0.
    """

    replaces: str
    holder: str
    kind: CredentialKind
    started_at: datetime
    dead_after: datetime
    holds_for: timedelta | None = None
    credential: str | None = None
    history: History = History()

    def is_dead(self, created_at: datetime, now: datetime) -> bool:
        return now > (created_at + self.holds_for if self.holds_for is not None else self.dead_after)

    def ends(self, result: Ending, now: datetime, *, wait: timedelta | None = None) -> Outcome:
        """The outcome that goes into this intent's result slot; *wait* until the next try where it is no verdict.

        A verdict stands until another takes its place: a refused credential does not become a promising one because
        the next try met a throttled server.
        """
        key = self.credential or self.kind
        before = self.history.attempts.get(key)
        stands = before.result if before and before.result.is_verdict and not result.is_verdict else result
        others = [(other, attempt) for other, attempt in self.history.attempts.items() if other != key]
        attempts = [*others, (key, Attempt(self.started_at, stands))][-MOST_REMEMBERED:]
        history = replace(self.history, attempts=dict(attempts), failures=self.history.failures + 1)
        wait = ONE_TRY_A_DAY if stands.is_verdict else wait
        return Outcome(self.replaces, stands, now, now + wait if wait else None, history)

    def to_json(self) -> str:
        return _dump(
            entry="intent",
            replaces=self.replaces,
            holder=self.holder,
            grant=self.kind,
            started_at=format_instant(self.started_at),
            dead_after=format_instant(self.dead_after),
            holds_for_seconds=None if self.holds_for is None else int(self.holds_for.total_seconds()),
            credential=self.credential,
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
_Word = TypeVar("_Word", bound=StrEnum)


def claim_id(filled: str) -> str:
    """The version id of what can follow *filled*, a pair or an outcome: an intent, or the pair of a person's login."""
    return _following(filled, "claim")


def result_id(intent: str) -> str:
    """The version id of whatever comes of *intent*: the new pair or an outcome."""
    return _following(intent, "result")


def beside_id(slot: str) -> str:
    """Where a pair is kept whose holder found its *slot* filled. It is no part of the chain."""
    return _following(slot, "beside")


def chain_end(versions: Versions) -> StoredVersion | None:
    """The chain's end as *versions* show it; None where there is no version.

    Where nothing was claimed yet the chain begins at the oldest version, whatever is current.
    """
    before = _predecessors(versions)
    ids = {version.version_id for version in versions.listed}
    passed = {before[version_id] for version_id in ids if version_id in before}
    ends = [version for version in versions.listed if version.version_id in before and version.version_id not in passed]
    if ends:
        return max(ends, key=lambda version: version.created_at)
    return min(versions.listed, key=lambda version: version.created_at, default=None)


def ancestors(end: str, versions: Versions) -> set[str]:
    """*end* and all entries before it that are still there: what they know, *end* knows."""
    before = _predecessors(versions)
    found = {end}
    while end in before and before[end] not in found:
        end = before[end]
        found.add(end)
    return found


def merged(*lists: Iterable[str]) -> tuple[str, ...]:
    """The fingerprints of all *lists*, each once, as many as are carried on."""
    return tuple(dict.fromkeys(fingerprint for listed in lists for fingerprint in listed))[:MOST_REMEMBERED]


def unless_granted_again(spent: tuple[str, ...] | None, token: SecretText | None) -> tuple[str, ...] | None:
    """*spent* without *token*: one that the provider has just granted is not spent, whatever was known of it."""
    if spent is None or token is None:
        return spent
    return tuple(fingerprint for fingerprint in spent if fingerprint != token.fingerprint())


def backoff(failures: int) -> timedelta:
    """How long to wait after the *failures*-th attempt in a row that ended without a verdict."""
    return min(FIRST_BACKOFF * int(3 ** min(failures - 1, 10)), LONGEST_BACKOFF)


def parse_entry(text: str | None) -> Entry | None:
    """The entry in *text*; None where it is something else (a pair, a version made by hand)."""
    try:
        stored = parse_object(text, "the journal entry")
        match stored.get("entry"):
            case "intent":
                seconds = stored.get("holds_for_seconds")
                return Intent(
                    replaces=str(stored["replaces"]),
                    holder=str(stored["holder"]),
                    kind=_known(stored["grant"], CredentialKind.OTHER),
                    started_at=parse_instant(stored["started_at"]),
                    dead_after=parse_instant(stored["dead_after"]),
                    holds_for=timedelta(seconds=int(seconds)) if seconds is not None else None,
                    credential=_optional(stored, "credential"),
                    history=_history(stored),
                )
            case "outcome":
                return Outcome(
                    replaces=str(stored["replaces"]),
                    result=_known(stored["outcome"], Ending.UNKNOWN),
                    at=parse_instant(stored["at"]),
                    retry_at=parse_instant(stored["retry_at"]) if stored.get("retry_at") else None,
                    history=_history(stored),
                )
    except (UnreadableSecret, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return None


@lru_cache(maxsize=4096)  # each run walks its list of versions several times
def _following(version_id: str, what: str) -> str:
    """Version ids are UUIDs, unless a person chose one: any text of 32 to 64 characters will do for Secrets Manager."""
    try:
        namespace = UUID(version_id)
    except ValueError:
        namespace = uuid5(NAMESPACE_OID, version_id)
    return str(uuid5(namespace, what))


def _predecessors(versions: Versions) -> dict[str, str]:
    """For each id that can follow a listed version, that version."""
    return {
        following(version.version_id): version.version_id
        for version in versions.listed
        for following in (claim_id, result_id)
    }


def _dump(**values: Any) -> str:
    """What is absent is left out."""
    return json.dumps({"version": FORMAT_VERSION} | {key: value for key, value in values.items() if value is not None})


def _history(stored: Mapping[str, Any]) -> History:
    return History(
        attempts={
            str(credential): Attempt(parse_instant(attempt["at"]), _known(attempt["ended"], Ending.UNKNOWN))
            for credential, attempt in stored.get("attempts", {}).items()
        },
        failures=int(stored.get("failures", 0)),
        spent=parse_spent(stored),
        newest=_optional(stored, "newest"),
    )


def _known(word: Any, otherwise: _Word) -> _Word:
    """A word that only a later version knows still makes an entry: a claim must not be mistaken for none."""
    try:
        return type(otherwise)(word)
    except ValueError:
        return otherwise


def _optional(stored: Mapping[str, Any], key: str) -> str | None:
    return str(stored[key]) if stored.get(key) else None
