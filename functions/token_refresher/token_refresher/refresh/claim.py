"""Core: who may replace the pair. A claim follows the journal's head, and one holder at a time can make it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar
from uuid import uuid4

from .formats import TokenPair, pair_in
from .journal import History, Intent, Outcome, backoff, chain_end, claim_id, late_pair_id, parse_entry, result_id
from .model import Ending, OutcomeWord, RefreshError, RunEnds, Services, StoreMisconfigured, Versions, Work
from .stored import CURRENT, LABEL, PREVIOUS, SUPERSEDED, CurrentPair, PairNotSaved, Store, StoredVersion, text_of

# Added to a holder's deadline before it counts as dead: Lambda ends an invocation only roughly at its time-out.
GRACE = timedelta(minutes=1)
# Lambda's longest invocation, and the grace: an entry that is older than this is no living holder's.
LONGEST_CLAIM = timedelta(minutes=15) + GRACE
# Waits between tries to save: doubled each time, five at most, so that a throttled Region is not hammered
# and an answer in hand is never far from its next chance.
FIRST_PAUSE = timedelta(seconds=0.2)
LONGEST_PAUSE = timedelta(seconds=5)
# An answer in hand is tried so often even if its holder was frozen until its deadline was over.
LEAST_TRIES = 3
# A list that hangs takes up to 40 s (the store adapter's bound): none is begun that would leave no time to save.
LONGEST_LOOK = timedelta(seconds=40)
# "Secret value size", Secrets Manager quotas. The adapter's judge keeps two tokens far below it.
LARGEST_VALUE = 65_536

_T = TypeVar("_T")


class Head(NamedTuple):
    """The journal's head: the chain's end and what is known there. ``entry`` is None on a pair, and where none is yet.

    Where its key is gone, nothing is known of its history, and it counts as an intent unless labels or ids show that it
    is none. That happens when a secret's key is changed: what is under AWSCURRENT and AWSPREVIOUS gets the new one.
    """

    end: str
    history: History = History()
    entry: Intent | Outcome | None = None
    written: StoredVersion | None = None
    is_readable: bool = True


def read_head(store: Store, versions: Versions, current: CurrentPair | None = None) -> Head:
    """The head as it is stored. Raises StoreUnavailable where it can't be read yet."""
    end = chain_end(versions)
    written = versions.get(end)
    if written is None:
        return Head(end)
    text = current.text if current and current.version_id == end else text_of(store, end)
    if not text:
        is_pair = not {CURRENT, PREVIOUS, SUPERSEDED}.isdisjoint(written.labels)
        is_result = any(result_id(version.version_id) == end for version in versions.listed)
        intent = Intent("", "", "", written.created_at, timedelta())
        return Head(end, History(), None if is_pair or is_result else intent, written, is_readable=False)
    if entry := parse_entry(text):
        return Head(end, entry.history, entry, written)
    pair = pair_in(text)
    return Head(end, History(spent=pair.spent if pair else (), newest=end), None, written)


def find_head(work: Work, current: CurrentPair, versions: Versions) -> Head:
    """The head where nobody holds a claim, given what is under AWSCURRENT and all *versions* as they were read.

    Raises RunEnds while another holds one, and where what was read is stale. A dead holder's result slot is closed
    first: whoever reads stale labels then meets a taken slot instead of a second chance to send.
    """
    if versions.under(CURRENT) != current.version_id:
        raise RunEnds(OutcomeWord.BUSY, "another pair was stored a moment ago")
    head = read_head(work.store, versions, current)
    if head.written and not head.is_readable and versions.at - head.written.created_at <= LONGEST_CLAIM:
        raise StoreMisconfigured("the newest entry of the refresh journal can't be read: check its KMS key")
    if head.written and isinstance(head.entry, Intent):
        outcome = _closed(work, head.written, head.entry, versions.at)
        return Head(result_id(head.end), outcome.history, outcome)
    return head


def _closed(work: Work, written: StoredVersion, intent: Intent, now: datetime) -> Outcome:
    """The outcome of an intent whose holder died; *now* by Secrets Manager's clock.

    Raises RunEnds while it lives: ``busy``, or ``try_again`` once its request should be over (it may be dead).
    """
    if not intent.is_dead(written.created_at, now):
        age = now - written.created_at
        if age <= work.policy.limits.request:
            raise RunEnds(OutcomeWord.BUSY, "another run holds the claim")
        what = f"a claim of {age.total_seconds():.0f} s ago has brought nothing yet; its holder may be dead"
        raise RunEnds(OutcomeWord.TRY_AGAIN, f"{what}, and a run takes over a minute after its time is up")
    # Once is an accident; a holder that dies again and again must not send a credential every minute.
    wait = backoff(intent.history.failures) if intent.history.failures else None
    outcome = intent.ends(Ending.HOLDER_DIED, work.now(), wait=wait)
    if work.store.write_pair(result_id(written.version_id), outcome.to_json(), LABEL) is None:
        raise RunEnds(OutcomeWord.BUSY, "another run was first")
    return outcome


def make_claim(work: Work, head: Head, replaces: str, credential: str, spent: tuple[str, ...]) -> Claim:
    """Writes the intent to send *credential* on behalf of version *replaces*. *spent*: all that is known.

    It also proves that we may write (IAM, KMS) before anything is spent. Raises RunEnds if somebody else was first.
    """
    intent = Intent(
        replaces=replaces,
        holder=str(uuid4()),  # no two intents may be the same bytes: the same bytes again are no error
        credential=credential,
        started_at=work.now(),
        holds_for=work.time_left() + GRACE,
        history=head.history._replace(spent=spent),
    )
    claim = Claim(work, claim_id(head.end), intent)
    if work.store.write_pair(claim.version_id, intent.to_json(), LABEL) is None:
        raise RunEnds(OutcomeWord.BUSY, "another run was first")
    return claim


class Claim(NamedTuple):
    """The exclusive right to replace ``intent.replaces``, until the holder is dead."""

    work: Work
    version_id: str
    intent: Intent

    def save_outcome(self, outcome: Outcome) -> Head:
        """The head afterwards. Raises what the store raises at the deadline, RunEnds if the claim was taken over."""
        slot = result_id(self.version_id)
        save = partial(self.work.store.write_pair, slot, outcome.to_json(), LABEL)
        if retry_until(self.work.deadline, save, self.work.services) is None:
            raise RunEnds(OutcomeWord.BUSY, "a login or another run took this claim over")
        return Head(slot, outcome.history, outcome)

    def save_pair(self, pair: TokenPair) -> Collection[str]:
        """The labels that *pair* carries now, in the result slot where AWSCURRENT is among them.

        It is, unless a person stored another pair meanwhile: that one stays current and ours is kept under SUPERSEDED.
        A slot that was filled by a login, or by somebody who took us for dead, costs no pair either. Raises
        PairNotSaved at the deadline.
        """
        slot, write, value = result_id(self.version_id), self.work.store.write_pair, _storable(pair)

        def try_once() -> Collection[str]:
            labels = write(slot, value, SUPERSEDED if self._is_superseded(slot) else CURRENT, LABEL)
            return labels if labels is not None else write(late_pair_id(slot), value, SUPERSEDED) or ()

        try:
            return retry_until(self.work.deadline, try_once, self.work.services)
        except RefreshError as error:
            raise PairNotSaved(f"the provider's answer could not be saved before the deadline ({error})") from error

    def _is_superseded(self, slot: str) -> bool:
        """True if AWSCURRENT has left the claimed version for another than *slot*; False where no list comes.

        The pair in hand is then saved as current, and what it displaces stays under AWSPREVIOUS.
        """
        if self.work.time_left() < LONGEST_LOOK:
            return False
        try:
            return self.work.store.pair_versions().under(CURRENT) not in (self.intent.replaces, slot)
        except RefreshError:
            return False


def retry_until(
    deadline: datetime, save: Callable[[], _T], services: Services, *, retried: type[RefreshError] = RefreshError
) -> _T:
    """What *save* gives, tried until it works or *deadline* comes, and a few times in any case; then its error."""
    wait, tries = FIRST_PAUSE, 0
    while True:
        tries += 1
        try:
            return save()
        except retried:
            if tries >= LEAST_TRIES and services.now() + wait >= deadline:
                raise
        services.pause(wait.total_seconds())
        wait = min(wait * 2, LONGEST_PAUSE)


def _storable(pair: TokenPair) -> str:
    """The value to save. Unknown keys are left out if they alone make it too large: a pair is worth more than they."""
    value = pair.to_json()
    return value if len(value.encode()) <= LARGEST_VALUE else replace(pair, extra={}).to_json()
