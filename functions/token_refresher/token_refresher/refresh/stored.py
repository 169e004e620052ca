"""Core: what a connection's secrets hold, as Secrets Manager shows it, and what the core needs of it.

The errors say what happens next: StoreUnavailable, the next run repeats what is missing; StoreMisconfigured, a person
must change something; PairNotSaved, an answer is in hand and the refresh token may be spent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from .formats import TokenPair

# Secrets Manager's own staging labels.
CURRENT = "AWSCURRENT"
PREVIOUS = "AWSPREVIOUS"
# The refresh journal's own: it is on the end of the chain (journal.py).
LABEL = "REFRESHING"
# A pair that came too late to be current is kept under this one.
SUPERSEDED = "SUPERSEDED"
# The operator's command puts it on the secrets of a connection that it removes: a secret that is marked for deletion
# with it was removed on purpose, any other one by accident.
REMOVED_TAG = "virtuous-token:removed"


class RefreshError(Exception):
    """Base of the core's errors; their texts hold no secret."""


class StoreUnavailable(RefreshError):
    """Secrets Manager gave no usable answer, after the adapter's retries. A write may have happened all the same."""


class StoreMisconfigured(RefreshError):
    """A secret is missing, marked for deletion, a replica or denied: trying again alone does not mend it."""


class PairNotSaved(RefreshError):
    """The provider answered and its answer could not be saved before the deadline."""


@dataclass(frozen=True, slots=True)
class CurrentPair:
    """The version of the pair secret under AWSCURRENT, every label that it carries, and when it was made (by Secrets
    Manager's clock; None where nobody asked)."""

    version_id: str
    labels: Collection[str]
    text: str = field(repr=False)
    created_at: datetime | None = None

    def parsed(self) -> TokenPair:
        """Raises UnreadableSecret."""
        return TokenPair.parse(self.text).dated_by(self.created_at)


class Stored(NamedTuple):
    """What a run reads of a connection before it does anything; it may be a moment old.

    ``bearer_labels`` (label to version id) must have been read before ``pair``: what was published then had been saved
    before that. ``pair`` is None where no pair was stored yet. ``pair_labels``: those of the pair secret, where a list
    of many secrets told them.
    """

    bearer_labels: Mapping[str, str]
    pair: CurrentPair | None
    pair_labels: Mapping[str, str] | None = None

    @property
    def is_idle(self) -> bool:
        """True where the labels show that nobody holds a claim, and that no attempt was made since the newest pair.

        REFRESHING is on a pair then: on the current one, or on the one that a person's put displaced. It is nowhere
        where only people stored pairs.
        """
        if self.pair is None:
            return False
        labels = self.pair_labels
        if labels is None or labels.get(CURRENT) != self.pair.version_id:
            return LABEL in self.pair.labels
        return labels.get(LABEL) in (None, labels[CURRENT], labels.get(PREVIOUS))


class StoredVersion(NamedTuple):
    """One version of a secret. ``created_at`` is Secrets Manager's own clock."""

    version_id: str
    created_at: datetime
    labels: Collection[str] = ()


class Versions(NamedTuple):
    """All versions of one secret, as one list shows them; it may be a moment old.

    ``arn`` ends in six characters that no other secret of that name has. ``at`` is when it was listed, by Secrets
    Manager's own clock.
    """

    listed: tuple[StoredVersion, ...]
    arn: str
    at: datetime

    def under(self, label: str) -> str | None:
        """The version that carries *label*."""
        return next((version.version_id for version in self.listed if label in version.labels), None)

    def get(self, version_id: str | None) -> StoredVersion | None:
        return next((version for version in self.listed if version.version_id == version_id), None)

    def kept_since(self, instant: datetime) -> int:
        """How many of them Secrets Manager can't remove: labelled, or made after *instant*."""
        return sum(bool(version.labels) or version.created_at > instant for version in self.listed)


class Store(Protocol):
    """One connection's secrets. Every method may raise StoreUnavailable or StoreMisconfigured."""

    def read(self) -> Stored:
        """The bearer's labels, then the current pair: two calls."""

    def pair_versions(self) -> Versions:
        """All versions of the pair secret, those without a label too."""

    def bearer_versions(self) -> Versions:
        """The same of the bearer secret."""

    def pair_value(self, version_id: str) -> str | None:
        """The text of one version of the pair secret, None where it has no such version (or not yet)."""

    def login_value(self) -> str | None:
        """The text of the login secret, None where there is none."""

    def write_pair(self, version_id: str, value: str, *labels: str) -> Collection[str] | None:
        """The labels that the version carries if it holds *value* now, None if it holds another.

        A version gets *labels* when it is made, and writing it again moves none.
        """

    def write_bearer(self, version_id: str, value: str) -> Collection[str] | None:
        """The same of the bearer secret, where a version is made under AWSPENDING."""

    def move_bearer(self, version_id: str, *, moved_from: str | None) -> bool:
        """Moves AWSCURRENT to a version that exists; False where *moved_from* did not carry it."""


def text_of(store: Store, version_id: str | None) -> str:
    """The text of a version of the pair secret; empty where none is meant, or its key is gone.

    Raises StoreUnavailable where it can't be read yet although it is listed.
    """
    try:
        text = store.pair_value(version_id) if version_id else ""
    except StoreMisconfigured:
        return ""
    if text is None:
        raise StoreUnavailable("a version of the pair secret that is listed can't be read yet")
    return text
