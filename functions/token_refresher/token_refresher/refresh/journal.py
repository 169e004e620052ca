"""Core: the refresh journal's entries and ids. It is kept in the pair secret, where a version is written once.

Each id follows from the one before it, and the first from the secret's ARN. So everybody who stands at the same place
computes the same next id, and one of them can write it::

    ARN ── claim_id ──> intent ── result_id ──> new pair or outcome ── claim_id ──> intent ...
               └──────> the pair of a person's login ── claim_id ──> ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, NAMESPACE_URL, UUID, uuid3, uuid5

from virtuous_token.contract import FORMAT_VERSION, format_instant, parse_instant, parse_object
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .formats import parse_spent
from .model import Ending
from .stored import LABEL as LABEL
from .stored import SUPERSEDED as SUPERSEDED
from .stored import Versions

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
_SECOND = timedelta(seconds=1)


class Attempt(NamedTuple):
    """The last time that a credential was sent, and how it ended."""

    at: datetime
    result: Ending


class History(NamedTuple):
    """What each entry carries on from the one before it.

    ``attempts``: by the refresh token's fingerprint, or ``password``. ``failures``: attempts in a row without a pair.
    ``spent``: fingerprints of spent refresh tokens, newest first. ``newest``: the version id of the chain's newest
    pair; None where what came before is not known.
    """

    attempts: Mapping[str, Attempt] = MappingProxyType({})
    failures: int = 0
    spent: tuple[str, ...] = ()
    newest: str | None = None

    @property
    def spent_and_refused(self) -> tuple[str, ...]:
        """``spent`` and the tokens that the provider refused: what a new pair carries on."""
        return merged((key for key, attempt in self.attempts.items() if attempt.result.is_verdict), self.spent)


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
        history = self.history._replace(attempts=dict(attempts), failures=self.history.failures + 1)
        wait = ONE_TRY_A_DAY if stands.is_verdict else wait
        return Outcome(self.replaces, stands, now, now + wait if wait else None, history)

    def to_json(self) -> str:
        return _to_json("intent", self)


class Outcome(NamedTuple):
    """Why an attempt on behalf of version ``replaces`` brought no pair. The next may be made at ``retry_at``."""

    replaces: str
    result: Ending
    at: datetime
    retry_at: datetime | None = None
    history: History = History()

    def is_waited_for(self, version: str, token: str, now: datetime) -> bool:
        """True until its next try where it is about that *version* or *token*. A verdict makes no other token wait."""
        is_about = self.replaces == version or token in self.history.attempts
        return is_about and not self.result.is_verdict and self.retry_at is not None and now < self.retry_at

    def to_json(self) -> str:
        return _to_json("outcome", self)


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


def merged(*lists: Iterable[str], but: SecretText | None = None) -> tuple[str, ...]:
    """The fingerprints of all *lists*, each once, as many as are carried on; not that of *but*, which is good now."""
    left_out = (PASSWORD, but.fingerprint() if but else None)
    known = dict.fromkeys(fingerprint for listed in lists for fingerprint in listed)
    return tuple(fingerprint for fingerprint in known if fingerprint not in left_out)[:MOST_SPENT]


def backoff(failures: int) -> timedelta:
    """How long to wait after the *failures*-th attempt in a row that ended without a verdict."""
    return min(FIRST_BACKOFF * int(3 ** min(failures - 1, 10)), LONGEST_BACKOFF)


def _namespace(version_id: str) -> UUID:
    """Version ids are UUIDs, unless a person chose one: any text of 32 to 64 characters will do for Secrets Manager."""
    try:
        return UUID(version_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, version_id)


def _ending(word: Any) -> Ending:
    """A word that only a later version knows still makes an entry: what ended must not look as if it went on."""
    try:
        return Ending(word)
    except ValueError:
        return Ending.UNKNOWN


class _Key(NamedTuple):
    """How a field is stored."""

    name: str
    read: Callable[[Any], Any] = str
    write: Callable[[Any], Any] = str


_KEYS = {
    "replaces": _Key("replaces"),
    "holder": _Key("holder"),
    "credential": _Key("credential"),
    "started_at": _Key("started_at", parse_instant, format_instant),
    "holds_for": _Key("holds_for_seconds", lambda held: timedelta(seconds=int(held)), lambda held: held // _SECOND),
    "result": _Key("outcome", _ending),
    "at": _Key("at", parse_instant, format_instant),
    "retry_at": _Key("retry_at", parse_instant, format_instant),
    "attempts": _Key(
        "attempts",
        lambda found: {key: Attempt(parse_instant(one["at"]), _ending(one["ended"])) for key, one in found.items()},
        lambda held: {key: {"at": format_instant(one.at), "ended": one.result} for key, one in held.items()},
    ),
    "failures": _Key("failures", int, int),
    "spent": _Key("spent", parse_spent, list),
    "newest": _Key("newest"),
}


def parse_entry(text: str | None) -> Entry | None:
    """The entry in *text*; None where it is something else (a pair, a version made by hand)."""

    def read(fields: Iterable[str]) -> dict[str, Any]:
        keys = {field: _KEYS[field] for field in fields if field in _KEYS}
        return {field: key.read(stored[key.name]) for field, key in keys.items() if stored.get(key.name) is not None}

    try:
        stored = parse_object(text, "the journal entry")
        kind: Any = {"intent": Intent, "outcome": Outcome}[stored["entry"]]
        entry: Entry = kind(**read(kind._fields), history=History(**read(History._fields)))
    except (UnreadableSecret, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return entry


def _to_json(entry: str, held: Entry) -> str:
    """What is absent is left out."""
    values = held._asdict() | held.history._asdict()
    stored = {key.name: key.write(values[field]) for field, key in _KEYS.items() if values.get(field) is not None}
    return json.dumps({"version": FORMAT_VERSION, "entry": entry, **stored})
