"""Core: the journal at work on one connection's pair secret: find the spot, claim it, save what comes of the claim.

Whoever wants to replace the pair, a refresh or a person's login, goes through here and therefore alone. A claim follows
a slot that is filled, and each slot can be followed by one claim only: so the claims are a chain, and labels that are
old lead to a place in it that is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import uuid4

from virtuous_token.contract import TokenPair
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .journal import (
    LABEL,
    SUPERSEDED,
    Attempts,
    Ended,
    Grant,
    Intent,
    Outcome,
    backoff,
    claim_id,
    is_idle,
    parse_entry,
    result_id,
)
from .ports import CURRENT, PREVIOUS, PairNotSaved, RefreshError, Store, World

__all__ = ["Claim", "Claims", "Spot", "with_unknown_keys"]

# Added to a holder's deadline before it counts as dead: the clocks of two hosts may differ, and Lambda ends an
# invocation only roughly at its time-out.
GRACE = timedelta(minutes=1)
# An hour is far beyond any stale read of Secrets Manager: a pair that was made longer ago and yet is not current was
# current, and a person moved AWSCURRENT away from it.
MOVED_BY_HAND_AFTER = timedelta(hours=1)
# Waits between tries to save, in seconds: doubled each time, five at most, so that a throttled Region is not hammered
# and an answer in hand is never far from its next chance.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
# How often the labels are read, at the most, before a save: a read that does not show our own claim is stale. One that
# hangs takes up to 40 s (the store adapter's bound), so none is begun when that would leave no time to save.
LOOKS_BEFORE_SAVE = 4
LONGEST_LOOK = timedelta(seconds=40)
# "Secret value size", Secrets Manager quotas. The adapter's judge keeps two tokens far below it.
LARGEST_VALUE = 65_536

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the journal of version ``current`` stands: nobody holds a claim, and the next one follows ``slot``.

    ``outcome`` is the newest attempt on ``current`` that brought no pair, None where there was none.
    """

    current: str
    slot: str
    outcome: Outcome | None = None

    @property
    def attempts(self) -> Attempts:
        """How each credential ended that was sent for this version before."""
        return self.outcome.attempts if self.outcome else {}

    @property
    def failures(self) -> int:
        """How many attempts on this version brought no pair."""
        return self.outcome.failures if self.outcome else 0


@dataclass(frozen=True, slots=True)
class Claim:
    """The exclusive right to replace ``intent.replaces``, until the holder is dead."""

    version_id: str
    intent: Intent


@dataclass(frozen=True, slots=True)
class Claims:
    """The journal of one pair secret, for a holder that may be ended at *deadline*."""

    store: Store
    world: World
    deadline: datetime

    def spot(self, labels: Mapping[str, str]) -> Spot | None:
        """Where the journal stands, given the labels as they were read (they may be stale; AWSCURRENT is among them).

        None while another holder lives, or got further than the labels show. A dead holder's result slot is closed
        first: whoever reads stale labels meets a taken slot instead of a second chance to send.
        """
        current = labels[CURRENT]
        slot = labels.get(LABEL, current)
        if is_idle(current, slot):
            return Spot(current, current)
        value = self.store.pair_value(slot)
        if value is None:
            return None
        entry = parse_entry(value)
        if not isinstance(entry, Intent):
            return _spot(current, slot, entry)
        slot, now = result_id(slot), self.world.now()
        if now > entry.dead_after:
            # Once is an accident; a holder that dies again and again must not send a credential every minute.
            retry_at = now + backoff(entry.failures) if entry.failures else None
            died = entry.ends(Ended.HOLDER_DIED, now, retry_at=retry_at)
            if self.store.write_pair(slot, died.to_json(), LABEL):
                return _spot(current, slot, died)
        elif entry.replaces == current:
            return None
        return self._beyond(labels, entry, slot, now)

    def _beyond(self, labels: Mapping[str, str], entry: Intent, slot: str, now: datetime) -> Spot | None:
        """The spot behind *slot*, where the result of *entry* must be; None if it is not there, or may be current.

        The labels show another pair as current than the one in the slot. They are stale, unless they show that the slot
        was current or superseded, or the claim was on yet another pair, or the one in the slot is old.
        """
        value = self.store.pair_value(slot)
        if value is None:
            return None
        current, result = labels[CURRENT], parse_entry(value)
        if result is not None or entry.replaces != current or slot in labels.values() or _is_old(value, now):
            return _spot(current, slot, result)
        return None

    def claim(self, spot: Spot, grant: Grant) -> Claim | None:
        """Writes the intent to send *grant*'s credential; None if somebody else has the spot.

        It also proves that we may write (IAM, KMS) before anything is spent.
        """
        intent = Intent(
            replaces=spot.current,
            holder=str(uuid4()),  # no two intents may be the same bytes: the same bytes again are no error
            grant=grant,
            started_at=self.world.now(),
            dead_after=self.deadline + GRACE,
            attempts=spot.attempts,
            failures=spot.failures,
        )
        version_id = claim_id(spot.slot)
        return Claim(version_id, intent) if self.store.write_pair(version_id, intent.to_json(), LABEL) else None

    def save_outcome(self, claim: Claim, outcome: Outcome) -> Spot:
        """Where the journal stands afterwards. Raises StoreUnavailable or StoreMisconfigured at the deadline."""
        slot = result_id(claim.version_id)

        def try_once() -> Spot:
            self.store.write_pair(slot, outcome.to_json(), LABEL)
            return Spot(outcome.replaces, slot, outcome)

        return self._persistently(try_once)

    def save_pair(self, claim: Claim, pair: TokenPair, sent: SecretText | None = None) -> str | None:
        """The version id of *pair*, which is under AWSCURRENT now; None if another pair came there in the meantime.

        That other pair stays current and ours is kept under SUPERSEDED; unless theirs holds the refresh token *sent*,
        which is spent: then ours becomes current with their unknown keys. Raises PairNotSaved at the deadline.
        """
        slots = [result_id(claim.version_id)]

        def try_once() -> str | None:
            theirs = self.replaced_by(claim, unless_by=slots)
            label, saved = CURRENT, pair
            if theirs is not None:
                keys = self._unknown_keys_beside(theirs, sent)
                label, saved = (SUPERSEDED, pair) if keys is None else (CURRENT, with_unknown_keys(pair, keys))
            while not self.store.write_pair(slots[-1], _storable(saved), label):
                # Somebody took us for dead and closed our slot; the pair in hand must not be lost for that.
                slots.append(result_id(slots[-1]))
            return None if label == SUPERSEDED else slots[-1]

        try:
            return self._persistently(try_once)
        except RefreshError as error:
            raise PairNotSaved(f"the provider's answer could not be saved before the deadline ({error})") from error

    def replaced_by(self, claim: Claim, *, unless_by: Container[str] = ()) -> str | None:
        """The version that AWSCURRENT has left the claimed one for, if it is none of *unless_by*; None if it has not.

        A view that does not show our own claim under REFRESHING is older than the claim and proves nothing, unless it
        shows the claimed version as the previous one. If no better view comes, or none at all, the answer is None: the
        pair in hand is then saved as current, and what it displaces stays under AWSPREVIOUS.
        """
        replaced, wait = claim.intent.replaces, FIRST_PAUSE
        for look in range(LOOKS_BEFORE_SAVE):
            if look:
                self.world.pause(wait)
                wait *= 2
            if self.deadline - self.world.now() < LONGEST_LOOK:
                return None
            try:
                labels = self.store.pair_labels()
            except RefreshError:
                continue
            current = labels.get(CURRENT)
            if current is not None and current in unless_by:
                return None
            if labels.get(LABEL) == claim.version_id or labels.get(PREVIOUS) == replaced:
                return None if current == replaced else current
        return None

    def is_old(self, version: str) -> bool:
        """True if the pair in *version* was made so long ago that no read is that stale."""
        value = self.store.pair_value(version)
        return value is not None and _is_old(value, self.world.now())

    def _unknown_keys_beside(self, version: str, sent: SecretText | None) -> Mapping[str, object] | None:
        """What else stands in *version* if its refresh token is *sent*; None if it is a pair of its own."""
        try:
            theirs = TokenPair.parse(self.store.pair_value(version))
        except (RefreshError, UnreadableSecret):
            return None
        return theirs.extra if sent is not None and theirs.refresh_token == sent else None

    def _persistently(self, save: Callable[[], _T]) -> _T:
        """Tries *save* until it works or the deadline comes; the last error is raised then."""
        wait = FIRST_PAUSE
        while True:
            try:
                return save()
            except RefreshError:
                if self.world.now() + timedelta(seconds=wait) >= self.deadline:
                    raise
            self.world.pause(wait)
            wait = min(wait * 2, LONGEST_PAUSE)


def with_unknown_keys(pair: TokenPair, keys: Mapping[str, object]) -> TokenPair:
    """*pair* with the *keys* that another version held and this program does not know."""
    return replace(pair, extra={**keys, **pair.extra})


def _spot(current: str, slot: str, entry: Intent | Outcome | None) -> Spot:
    """An outcome counts if it is about *current*; anything else in the slot is history."""
    return Spot(current, slot, entry if isinstance(entry, Outcome) and entry.replaces == current else None)


def _is_old(value: str, now: datetime) -> bool:
    """True if the pair in *value* was made long before *now*; also if it is no pair at all."""
    try:
        pair = TokenPair.parse(value)
    except UnreadableSecret:
        return True
    made_at = [instant for instant in (pair.issued_at, pair.refresh_token_issued_at) if instant]
    return bool(made_at) and now - max(made_at) > MOVED_BY_HAND_AFTER


def _storable(pair: TokenPair) -> str:
    """The value to save. Unknown keys are left out if they alone make it too large: a pair is worth more than they."""
    value = pair.to_json()
    return value if len(value.encode()) <= LARGEST_VALUE else replace(pair, extra={}).to_json()
