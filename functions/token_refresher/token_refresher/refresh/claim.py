"""Core: who may replace the pair. A claim follows the journal's head, and one holder at a time can make it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar
from uuid import uuid4

from virtuous_token.errors import UnreadableSecret

from .formats import TokenPair
from .journal import (
    LABEL,
    SUPERSEDED,
    CredentialKind,
    History,
    Intent,
    Outcome,
    backoff,
    beside_id,
    chain_end,
    claim_id,
    parse_entry,
    result_id,
)
from .model import (
    CURRENT,
    CurrentPair,
    Ending,
    OutcomeWord,
    PairNotSaved,
    RefreshError,
    RunEnds,
    Services,
    Store,
    StoredVersion,
    StoreUnavailable,
    Versions,
)

__all__ = ["Claim", "Head", "Journal", "persistently"]

# Added to a holder's deadline before it counts as dead: Lambda ends an invocation only roughly at its time-out.
GRACE = timedelta(minutes=1)
# Waits between tries to save, in seconds: doubled each time, five at most, so that a throttled Region is not hammered
# and an answer in hand is never far from its next chance.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
# An answer in hand is tried so often even if its holder was frozen until its deadline was over.
LEAST_TRIES = 3
# How often the versions are read, at the most, before a save: a list without our own claim is stale. One that hangs
# takes up to 40 s (the store adapter's bound), so none is begun when that would leave no time to save.
LOOKS_BEFORE_SAVE = 4
LONGEST_LOOK = timedelta(seconds=40)
# "Secret value size", Secrets Manager quotas. The adapter's judge keeps two tokens far below it.
LARGEST_VALUE = 65_536

_KINDS_OF_REFRESH_TOKENS = frozenset(CredentialKind) - {CredentialKind.PASSWORD}

_T = TypeVar("_T")


class Head(NamedTuple):
    """The journal's head: its newest entry is ``end``, and nobody holds a claim.

    ``outcome`` is the newest attempt that brought no pair, None where the head is a pair. ``history`` is what the head
    knows; its attempts are by fingerprint.
    """

    end: str
    history: History
    outcome: Outcome | None = None

    @classmethod
    def on_pair(cls, version_id: str, text: str) -> Head:
        """A head that is a pair, or something that a person stored in its place: nothing was attempted since."""
        try:
            spent = TokenPair.parse(text).spent
        except UnreadableSecret:
            spent = None
        return cls(version_id, History(spent=spent, newest=version_id))

    @classmethod
    def on_outcome(cls, version_id: str, outcome: Outcome, current: str, pair: TokenPair) -> Head:
        """Version 1.0 remembered attempts by kind, and only for the version that was to be replaced."""
        attempts = dict(outcome.history.attempts)
        by_kind = {kind: attempts.pop(kind, None) for kind in _KINDS_OF_REFRESH_TOKENS}
        of_current = by_kind[CredentialKind.CURRENT]
        if of_current and outcome.replaces == current and pair.refresh_token:
            attempts[pair.refresh_token.fingerprint()] = of_current
        return cls(version_id, replace(outcome.history, attempts=attempts), outcome)


class Journal(NamedTuple):
    """The journal of one pair secret, for a holder that may be ended at *deadline*."""

    store: Store
    services: Services
    deadline: datetime

    def now(self) -> datetime:
        return self.services.now()

    def time_left(self) -> timedelta:
        return self.deadline - self.services.now()

    def head(self, current: CurrentPair, pair: TokenPair, versions: Versions, *, busy_for: timedelta) -> Head:
        """The head, given what is under AWSCURRENT (*pair* is its text parsed) and all *versions* as they were read.

        Raises RunEnds while another holds a claim, and where what was read is stale: ``busy``, or ``try_again`` once
        the claim is older than *busy_for* (its holder should be done, and may be dead). A dead holder's result slot is
        closed first: whoever reads stale labels then meets a taken slot instead of a second chance to send.
        """
        now, end = self.services.now(), chain_end(versions)
        if end is None or versions.under(CURRENT) != current.version_id:
            raise RunEnds(OutcomeWord.BUSY, "another pair was stored a moment ago")
        is_current = end.version_id == current.version_id
        value = current.text if is_current else self.store.pair_value(end.version_id)
        if value is None:
            raise StoreUnavailable("the newest entry of the refresh journal can't be read yet")
        version_id, entry = end.version_id, parse_entry(value)
        if isinstance(entry, Intent):
            version_id, entry = result_id(version_id), self._closed(end, entry, now, busy_for)
        return (
            Head.on_outcome(version_id, entry, current.version_id, pair) if entry else Head.on_pair(version_id, value)
        )

    def _closed(self, claimed: StoredVersion, intent: Intent, now: datetime, busy_for: timedelta) -> Outcome:
        """The outcome of an intent whose holder died."""
        if not intent.is_dead(claimed.created_at, now):
            age = now - claimed.created_at
            if age <= busy_for:
                raise RunEnds(OutcomeWord.BUSY, "another run holds the claim")
            raise RunEnds(
                OutcomeWord.TRY_AGAIN,
                f"a claim of {age.total_seconds():.0f} s ago has brought nothing yet; its holder may be dead, and a "
                "run takes over a minute after its time is up",
            )
        # Once is an accident; a holder that dies again and again must not send a credential every minute.
        wait = backoff(intent.history.failures) if intent.history.failures else None
        outcome = intent.ends(Ending.HOLDER_DIED, now, wait=wait)
        if self.store.write_pair(result_id(claimed.version_id), outcome.to_json(), LABEL) is None:
            raise RunEnds(OutcomeWord.BUSY, "another run was first")
        return outcome

    def claim(self, head: Head, replaces: str, kind: CredentialKind, key: str, spent: tuple[str, ...]) -> Claim:
        """Writes the intent to send the credential *key* on behalf of version *replaces*. *spent*: all that is known.

        It also proves that we may write (IAM, KMS) before anything is spent. Raises RunEnds if somebody else was first.
        """
        now = self.services.now()
        dead_after = self.deadline + GRACE
        intent = Intent(
            replaces=replaces,
            holder=str(uuid4()),  # no two intents may be the same bytes: the same bytes again are no error
            kind=kind,
            started_at=now,
            dead_after=dead_after,
            holds_for=dead_after - now,
            credential=key,
            history=replace(head.history, spent=spent),
        )
        claim = Claim(self, claim_id(head.end), intent)
        if self.store.write_pair(claim.version_id, intent.to_json(), LABEL) is None:
            raise RunEnds(OutcomeWord.BUSY, "another run was first")
        return claim


class Claim(NamedTuple):
    """The exclusive right to replace ``intent.replaces``, until the holder is dead."""

    journal: Journal
    version_id: str
    intent: Intent

    def save_outcome(self, outcome: Outcome) -> Head:
        """The head afterwards. Raises what the store raises at the deadline, RunEnds if the claim was taken over."""
        slot = result_id(self.version_id)
        if self._persistently(lambda: self.journal.store.write_pair(slot, outcome.to_json(), LABEL)) is None:
            raise RunEnds(OutcomeWord.BUSY, "a login or another run took this claim over")
        return Head(slot, outcome.history, outcome)

    def save_pair(self, pair: TokenPair) -> StoredVersion:
        """The version that *pair* is in, with the labels that it carries.

        AWSCURRENT is among them unless a person stored another pair meanwhile: that one stays current and ours is kept
        under SUPERSEDED. A slot that was filled by somebody who took us for dead costs no pair either. Raises
        PairNotSaved at the deadline.
        """
        store, slot, value = self.journal.store, result_id(self.version_id), _storable(pair)

        def try_once() -> tuple[str, Collection[str] | None]:
            label = SUPERSEDED if self._is_superseded(slot) else CURRENT
            labels = store.write_pair(slot, value, label, LABEL)
            if labels is not None:
                return slot, labels
            return beside_id(slot), store.write_pair(beside_id(slot), value, SUPERSEDED)

        try:
            version_id, labels = self._persistently(try_once)
        except RefreshError as error:
            raise PairNotSaved(f"the provider's answer could not be saved before the deadline ({error})") from error
        return StoredVersion(version_id, self.journal.services.now(), labels or ())

    def _is_superseded(self, slot: str) -> bool:
        """True if AWSCURRENT has left the claimed version for another than *slot*.

        If no list comes that is newer than our claim, the answer is False: the pair in hand is then saved as current,
        and what it displaces stays under AWSPREVIOUS.
        """
        services, wait = self.journal.services, FIRST_PAUSE
        for look in range(LOOKS_BEFORE_SAVE):
            if look:
                services.pause(wait)
                wait *= 2
            if self.journal.deadline - services.now() < LONGEST_LOOK:
                return False
            try:
                versions = self.journal.store.pair_versions()
            except RefreshError:
                continue
            if versions.get(self.version_id):
                return versions.under(CURRENT) not in (self.intent.replaces, slot)
        return False

    def _persistently(self, save: Callable[[], _T]) -> _T:
        return persistently(save, self.journal.services, self.journal.deadline)


def persistently(
    save: Callable[[], _T], services: Services, deadline: datetime, *, retried: type[RefreshError] = RefreshError
) -> _T:
    """What *save* gives, tried until it works or *deadline* comes, and a few times in any case; then its error."""
    wait = FIRST_PAUSE
    tries = 0
    while True:
        tries += 1
        try:
            return save()
        except retried:
            if tries >= LEAST_TRIES and services.now() + timedelta(seconds=wait) >= deadline:
                raise
        services.pause(wait)
        wait = min(wait * 2, LONGEST_PAUSE)


def _storable(pair: TokenPair) -> str:
    """The value to save. Unknown keys are left out if they alone make it too large: a pair is worth more than they."""
    value = pair.to_json()
    return value if len(value.encode()) <= LARGEST_VALUE else replace(pair, extra={}).to_json()
