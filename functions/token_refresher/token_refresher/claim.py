"""Core: the journal at work on one connection's pair secret: find the spot, claim it, save what comes of the claim.

Whoever wants to replace the pair, a refresh or a person's login, goes through here and therefore alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import uuid4

from virtuous_token.contract import TokenPair
from virtuous_token.errors import UnreadableSecret

from .journal import LABEL, Attempts, Ended, Grant, Intent, Outcome, backoff, claim_id, parse_entry, result_id
from .ports import CURRENT, PREVIOUS, PairNotSaved, RefreshError, Store, World

__all__ = ["Claim", "Claims", "Spot"]

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
# How often the labels are read again, at the most, before a save: a read that does not show our own claim is stale.
LOOKS_BEFORE_SAVE = 4
# "Secret value size", Secrets Manager quotas. The adapter's judge keeps two tokens far below it.
LARGEST_VALUE = 65_536

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the journal of version ``current`` stands: nobody holds a claim, and the next one follows
    ``under_refreshing``. ``outcome`` is the newest attempt that brought no pair, None where there was none."""

    current: str
    under_refreshing: str | None
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

    def spot(self, current: str, under_refreshing: str | None) -> Spot | None:
        """Where the journal stands, given two labels as they were read (they may be stale).

        None while another holder lives, or got further than the labels show. A dead holder's result slot is closed
        first: whoever reads stale labels meets a taken slot instead of a second chance to send.
        """
        while under_refreshing is not None and result_id(under_refreshing) != current:  # else: what made this version
            entry = parse_entry(self.store.pair_value(under_refreshing))
            if entry is None or entry.replaces != current:
                break
            if isinstance(entry, Outcome):
                return Spot(current, under_refreshing, entry)
            now = self.world.now()
            if now <= entry.dead_after:
                return None
            slot = result_id(under_refreshing)
            # Once is an accident; a holder that dies again and again must not send a credential every minute.
            retry_at = now + backoff(entry.failures) if entry.failures else None
            died = entry.ends(Ended.HOLDER_DIED, now, retry_at=retry_at)
            if self.store.write_pair(slot, died.to_json(), LABEL):
                return Spot(current, slot, died)
            if not self._is_history(slot, now):
                return None
            under_refreshing = slot
        return Spot(current, under_refreshing)

    def claim(self, spot: Spot, grant: Grant) -> Claim | None:
        """Writes the intent to send *grant*'s credential; None if somebody else has the spot.

        It also proves that we may write (IAM, KMS, quota) before anything is spent.
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
        version_id = claim_id(spot.current, spot.under_refreshing)
        return Claim(version_id, intent) if self.store.write_pair(version_id, intent.to_json(), LABEL) else None

    def save_outcome(self, claim: Claim, outcome: Outcome) -> Spot:
        """Where the journal stands afterwards. Raises StoreUnavailable or StoreMisconfigured at the deadline."""
        slot = result_id(claim.version_id)

        def try_once() -> Spot:
            self.store.write_pair(slot, outcome.to_json(), LABEL)
            return Spot(outcome.replaces, slot, outcome)

        return self._persistently(try_once)

    def save_pair(self, claim: Claim, pair: TokenPair) -> str | None:
        """The version id of *pair*, which is under AWSCURRENT now; None if another pair came there in the meantime.

        That other pair stays current and ours is kept under REFRESHING. Raises PairNotSaved at the deadline.
        """
        value = _storable(pair)
        slots = [result_id(claim.version_id)]

        def try_once() -> str | None:
            superseded = self.is_replaced(claim, unless_by=slots)
            while not self.store.write_pair(slots[-1], value, LABEL if superseded else CURRENT):
                # Somebody took us for dead and closed our slot; the pair in hand must not be lost for that.
                slots.append(result_id(slots[-1]))
            return None if superseded else slots[-1]

        try:
            return self._persistently(try_once)
        except RefreshError as error:
            raise PairNotSaved(
                f"the provider's answer could not be saved before the deadline ({error}); the next run sends the "
                "refresh token again and, if that is refused, tries the one before it and the stored password"
            ) from error

    def is_replaced(self, claim: Claim, *, unless_by: Container[str] = ()) -> bool:
        """True if AWSCURRENT has left the version that was claimed, for another than those in *unless_by*.

        A view that does not show our own claim under REFRESHING is older than the claim and proves nothing, unless it
        shows the claimed version as the previous one. If no better view comes, or none at all, the answer is False:
        the pair in hand is then saved as current, and what it displaces stays under AWSPREVIOUS.
        """
        replaced, wait = claim.intent.replaces, FIRST_PAUSE
        for look in range(LOOKS_BEFORE_SAVE):
            if look:
                self.world.pause(wait)
                wait *= 2
            try:
                labels = self.store.pair_labels()
            except RefreshError:
                continue
            current = labels.get(CURRENT)
            if current is not None and current in unless_by:
                return False
            if labels.get(LABEL) == claim.version_id or labels.get(PREVIOUS) == replaced:
                return current != replaced
        return False

    def _is_history(self, slot: str, now: datetime) -> bool:
        """True if what sits in a taken result slot can be followed: an outcome always, a pair once it is old."""
        value = self.store.pair_value(slot)
        if parse_entry(value) is not None:
            return True
        try:
            pair = TokenPair.parse(value)
        except UnreadableSecret:
            return True
        made_at = [instant for instant in (pair.issued_at, pair.refresh_token_issued_at) if instant]
        return bool(made_at) and now - max(made_at) > MOVED_BY_HAND_AFTER

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


def _storable(pair: TokenPair) -> str:
    """The value to save. Unknown keys are left out if they alone make it too large: a pair is worth more than they."""
    value = pair.to_json()
    return value if len(value.encode()) <= LARGEST_VALUE else replace(pair, extra={}).to_json()
