"""Core: what the core needs from outside, and the errors with which that may fail.

Errors::

    RefreshError
    ├── StoreUnavailable    Secrets Manager gave no usable answer: the next run repeats what is missing
    ├── StoreMisconfigured  a secret is missing, deleted or denied: a person must change something
    └── PairNotSaved        an answer is in hand and could not be saved: the refresh token may be spent
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from virtuous_token.secret_text import SecretText

from .answers import Answer, Proof

__all__ = [
    "CURRENT",
    "PENDING",
    "PREVIOUS",
    "REMOVED_TAG",
    "CurrentPair",
    "Look",
    "PairNotSaved",
    "RefreshError",
    "Services",
    "Store",
    "StoreMisconfigured",
    "StoreUnavailable",
    "StoredVersion",
    "TokenEndpoint",
    "Versions",
]

# Secrets Manager's own staging labels.
CURRENT = "AWSCURRENT"
PREVIOUS = "AWSPREVIOUS"
PENDING = "AWSPENDING"
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
    """The version of the pair secret under AWSCURRENT, and every label that it carries."""

    version_id: str
    labels: Collection[str]
    text: str = field(repr=False)


class Look(NamedTuple):
    """What a run sees of a connection before it does anything; it may be a moment old.

    ``bearer_labels`` (label to version id) must have been read before ``pair``: then what is published was saved
    before, and a pair that is not published yet is never the older one by more than a stale read. ``pair`` is None
    where no pair was stored yet.
    """

    bearer_labels: Mapping[str, str]
    pair: CurrentPair | None


class StoredVersion(NamedTuple):
    """One version of a secret. ``created_at`` is Secrets Manager's own clock."""

    version_id: str
    created_at: datetime
    labels: Collection[str] = ()


class Versions(NamedTuple):
    """All versions of one secret, as one list shows them; it may be a moment old."""

    listed: tuple[StoredVersion, ...]

    def under(self, label: str) -> str | None:
        """The version that carries *label*."""
        return next((version.version_id for version in self.listed if label in version.labels), None)

    def get(self, version_id: str) -> StoredVersion | None:
        return next((version for version in self.listed if version.version_id == version_id), None)

    def kept_since(self, instant: datetime) -> int:
        """How many of them Secrets Manager can't remove: labelled, or made after *instant*."""
        return sum(bool(version.labels) or version.created_at > instant for version in self.listed)


class Store(Protocol):
    """One connection's secrets. Every method may raise StoreUnavailable or StoreMisconfigured."""

    def look(self) -> Look:
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

    def write_bearer(self, version_id: str, value: str) -> Collection[str]:
        """The labels that the version carries. It is made under AWSPENDING; one that was there stays as it is."""

    def move_bearer(self, version_id: str, *, moved_from: str | None) -> bool:
        """Moves AWSCURRENT to a version that exists; False where *moved_from* did not carry it."""


class TokenEndpoint(Protocol):
    """Virtuous. Nothing that the network or the server does raises."""

    def refresh(self, refresh_token: SecretText) -> Answer:
        """One POST with the refresh grant."""

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        """One POST with the password grant."""

    def prove(self, access_token: SecretText) -> Proof:
        """One GET that needs a valid access token."""


class Services(NamedTuple):
    """What the core uses besides secrets: the provider, the wall clock (aware, UTC) and a way to wait (seconds)."""

    endpoint: TokenEndpoint
    now: Callable[[], datetime]
    pause: Callable[[float], None]
