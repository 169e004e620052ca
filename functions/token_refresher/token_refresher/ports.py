"""Core: what the core needs from outside, and the errors with which that may fail.

Errors::

    RefreshError
    ├── StoreUnavailable    Secrets Manager gave no usable answer: the next run repeats what is missing
    ├── StoreMisconfigured  a secret is missing, deleted or denied: a person must change something
    └── PairNotSaved        an answer is in hand and could not be saved: the refresh token may be spent
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from virtuous_token.secret_text import SecretText

from .answers import Answer, Proof

__all__ = [
    "CURRENT",
    "PREVIOUS",
    "REMOVED_TAG",
    "PairNotSaved",
    "RefreshError",
    "Store",
    "StoreMisconfigured",
    "StoreUnavailable",
    "TokenEndpoint",
    "World",
]

# Secrets Manager's own staging labels.
CURRENT = "AWSCURRENT"
PREVIOUS = "AWSPREVIOUS"
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


class Store(Protocol):
    """One connection's secrets. Every method may raise StoreUnavailable or StoreMisconfigured."""

    def pair_labels(self) -> Mapping[str, str]:
        """Staging label to version id; empty where the secret has no version. May be a moment old."""

    def bearer_labels(self) -> Mapping[str, str]:
        """The same of the bearer secret."""

    def pair_value(self, version_id: str) -> str | None:
        """The text of one version of the pair secret, None where it has no such version (or not yet)."""

    def versions_since(self, instant: datetime) -> int:
        """How many versions of the pair secret Secrets Manager can't remove: labelled, or made after *instant*."""

    def login_value(self) -> str | None:
        """The text of the login secret, None where there is none."""

    def write_pair(self, version_id: str, value: str, *labels: str) -> bool:
        """True if the version holds *value* now (it got *labels* when it was made), False if it holds another."""

    def write_bearer(self, version_id: str, value: str) -> bool:
        """True if AWSCURRENT is on the version now, False if the version was there before and AWSCURRENT is not."""

    def move_bearer(self, version_id: str) -> None:
        """Puts AWSCURRENT on a version that exists."""


class TokenEndpoint(Protocol):
    """Virtuous. Nothing that the network or the server does raises."""

    def refresh(self, refresh_token: SecretText) -> Answer:
        """One POST with the refresh grant."""

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        """One POST with the password grant."""

    def prove(self, access_token: SecretText) -> Proof:
        """One GET that needs a valid access token."""


@dataclass(frozen=True, slots=True)
class World:
    """What the core touches besides secrets: the provider, the wall clock (aware, UTC) and a way to wait (seconds)."""

    endpoint: TokenEndpoint
    now: Callable[[], datetime]
    pause: Callable[[float], None]
