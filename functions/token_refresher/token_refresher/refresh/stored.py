"""Core: what a connection's secrets hold, as Secrets Manager shows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from .formats import TokenPair

__all__ = ["CURRENT", "LABEL", "PENDING", "PREVIOUS", "CurrentPair", "Stored", "StoredVersion", "Versions"]

# Secrets Manager's own staging labels.
CURRENT = "AWSCURRENT"
PREVIOUS = "AWSPREVIOUS"
PENDING = "AWSPENDING"
# The refresh journal's own: it is on the end of the chain (journal.py).
LABEL = "REFRESHING"


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
