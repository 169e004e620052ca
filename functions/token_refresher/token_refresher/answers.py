"""Core: what a request to Virtuous can end in.

Every way a POST to ``/Token`` ends is one of the types below, and none of them holds a word of the answer's body but
the grant itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from virtuous_token.secret_text import SecretText

__all__ = [
    "Answer",
    "CodeNeeded",
    "Denied",
    "Granted",
    "Later",
    "Misconfigured",
    "NotGranted",
    "NothingSent",
    "Proof",
    "Proved",
    "Refused",
    "Unclear",
    "Unknown",
]


@dataclass(frozen=True, slots=True)
class Granted:
    """HTTP 200 with at least one usable token. What the answer lacked or spoilt is None, and named in ``oddities``."""

    access_token: SecretText | None
    refresh_token: SecretText | None
    issued_at: datetime
    expires_at: datetime | None
    user_name: str | None = None
    two_factor_enabled: bool | None = None
    oddities: tuple[str, ...] = ()
    clock_skew: timedelta | None = None  # the Date header minus our clock; None where there is no usable header


@dataclass(frozen=True, slots=True)
class Refused:
    """The credentials were judged and refused: a person is needed. ``reason`` is a word of ours or an RFC 6749 code."""

    reason: str


@dataclass(frozen=True, slots=True)
class CodeNeeded:
    """HTTP 202: a one-time code was sent to the user's phone. Never to be asked for again unasked."""

    reason: str = "one-time code needed"


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The request itself is wrong (address, grant type, client): the credentials were not judged."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """The server said that it did not serve the request: throttled or in trouble. Nothing was spent."""

    reason: str
    retry_after: timedelta | None = None
    throttled: bool = False


@dataclass(frozen=True, slots=True)
class NothingSent:
    """The request never left: DNS, connection refused, TLS, connect timeout. Nothing was spent."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request left and no clear answer came back: the refresh token may be spent."""

    reason: str


NotGranted = Refused | CodeNeeded | Misconfigured | Later | NothingSent | Unknown
Answer = Granted | NotGranted


@dataclass(frozen=True, slots=True)
class Proved:
    """HTTP 200 from ``/api/Organization/Current``."""

    organization_id: str | None = None
    organization_name: str | None = None
    is_enabled: bool | None = None
    oddities: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Denied:
    """HTTP 401 or 403: Virtuous refuses the access token."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """No clear answer: it says nothing of the token."""

    reason: str


Proof = Proved | Denied | Unclear
