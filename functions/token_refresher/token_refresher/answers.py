"""Core: what a request to Virtuous can end in.

Every way a POST to ``/Token`` ends is one of the types below, and none of them holds a word of the answer's body but
the grant itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

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
class _Reasoned:
    """What an answer has that grants and proves nothing. Those of two types are never equal."""

    reason: str


class Granted(NamedTuple):
    """HTTP 200 with at least one usable token. What the answer lacked or spoilt is None, and named in ``oddities``."""

    access_token: SecretText | None
    refresh_token: SecretText | None
    issued_at: datetime
    expires_at: datetime | None
    user_name: str | None = None
    two_factor_enabled: bool | None = None
    oddities: tuple[str, ...] = ()
    clock_skew: timedelta | None = None  # the Date header minus our clock; None where there is no usable header


class Refused(_Reasoned):
    """The credentials were judged and refused: a person is needed. ``reason`` is a word of ours or an RFC 6749 code."""

    __slots__ = ()


class CodeNeeded(_Reasoned):
    """HTTP 202: a one-time code was sent to the user's phone. Never to be asked for again unasked."""

    __slots__ = ()

    def __init__(self, reason: str = "one-time code needed") -> None:
        super().__init__(reason)


class Misconfigured(_Reasoned):
    """The request itself is wrong (address, grant type, client): the credentials were not judged."""

    __slots__ = ()


class Later(NamedTuple):
    """The server said that it did not serve the request: throttled or in trouble. Nothing was spent."""

    reason: str
    retry_after: timedelta | None = None
    throttled: bool = False


class NothingSent(_Reasoned):
    """The request never left: DNS, connection refused, TLS, connect timeout. Nothing was spent."""

    __slots__ = ()


class Unknown(_Reasoned):
    """The request left and no clear answer came back: the refresh token may be spent."""

    __slots__ = ()


NotGranted = Refused | CodeNeeded | Misconfigured | Later | NothingSent | Unknown
Answer = Granted | NotGranted


class Proved(NamedTuple):
    """HTTP 200 from ``/api/Organization/Current``."""

    organization_id: str | None = None
    organization_name: str | None = None
    is_enabled: bool | None = None
    oddities: tuple[str, ...] = ()


class Denied(_Reasoned):
    """HTTP 401 or 403: Virtuous refuses the access token."""

    __slots__ = ()


class Unclear(_Reasoned):
    """No clear answer: it says nothing of the token."""

    __slots__ = ()


Proof = Proved | Denied | Unclear
