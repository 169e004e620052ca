"""Core: the pair secret as it is stored, version 1, and the names of a connection's secrets.

The format grows by addition only: keys that are not known here survive a refresh. Instants are RFC 3339 in UTC with
whole seconds. Only the refresher and the operator's command read a pair; no reader may have one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from virtuous_token.contract import (
    INSTANT,
    TOKEN_TYPE,
    StoredKey,
    can_be_header,
    parse_object,
    read_access_token,
    text_of,
    unquoted,
    unusable,
    write_object,
)
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

_PAIR = "the pair secret"
# Stored beside a refresh token with a blank or a quote in it, and only there: its fingerprint. In a pasted token they
# are a slip, in a granted one they may be meant (RFC 6749 appendix A.17).
_AS_GRANTED = "refresh_token_as_granted"
CONNECTION_NAME = re.compile(r"[a-z0-9-]+")


class SecretNames(NamedTuple):
    """The names of one connection's three secrets."""

    pair: str
    bearer: str
    login: str

    @classmethod
    def of(cls, prefix: str, connection: str) -> SecretNames:
        """Raises ValueError where *connection* is not a name of lower-case letters, digits and hyphens."""
        if not CONNECTION_NAME.fullmatch(connection):
            raise ValueError(f"a connection's name holds lower-case letters, digits and hyphens only: {connection!r}")
        return cls(*(f"{prefix}/{connection}/{kind}" for kind in ("tokens", "bearer", "login")))


@dataclass(frozen=True, slots=True)
class TokenPair:
    """One version of the pair secret.

    ``expires_at`` and ``issued_at`` are None where a person stored the pair by hand without them or unreadably.
    ``refresh_token`` is None for an API key, which is never refreshed. ``extra`` holds the keys that this version does
    not know; they survive a refresh. ``spent``: fingerprints of the refresh tokens known to be spent, newest first.
    """

    access_token: SecretText
    refresh_token: SecretText | None = None
    token_type: str = TOKEN_TYPE
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    refresh_token_issued_at: datetime | None = None
    refresh_token_expires_at: datetime | None = None
    user_name: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None
    replaces: str | None = None
    two_factor_enabled: bool | None = None
    spent: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: str | None) -> TokenPair:
        """Raises UnreadableSecret; also where a token holds what no token can.

        White space and one pair of quotes round a token that a person pasted are taken off.
        """
        stored = parse_object(text, _PAIR)
        if "entry" in stored:
            raise UnreadableSecret(f"{_PAIR} holds a journal entry where a token pair must be")
        known = {key: kind.read(stored, key) for key, kind in _PAIR_KEYS.items()}
        extra = {key: value for key, value in stored.items() if key not in _KNOWN_KEYS}
        return cls(**known, extra=extra)

    def to_json(self) -> str:
        """The value to store. It holds both tokens in plain text."""
        token = self.refresh_token
        as_granted = {_AS_GRANTED: token.fingerprint()} if token and not can_be_header(token.reveal()) else {}
        return write_object(self, _PAIR_KEYS, {**self.extra, **as_granted})

    def dated_by(self, created_at: datetime | None) -> TokenPair:
        """The same by Secrets Manager's clock, which says that the pair was stored at *created_at*: no token was issued
        later, whatever its writer's clock said, and it lives as long as that writer was told."""
        if created_at is None or self.issued_at is None or self.issued_at <= created_at:
            return self
        issued_at = created_at.replace(microsecond=0)
        return replace(
            self,
            issued_at=issued_at,
            expires_at=self.expires_at and self.expires_at - (self.issued_at - issued_at),
            refresh_token_issued_at=self.refresh_token_issued_at and min(self.refresh_token_issued_at, issued_at),
        )


def pair_in(text: str | None) -> TokenPair | None:
    """The pair in a version of the pair secret; None where it holds something else."""
    try:
        return TokenPair.parse(text)
    except UnreadableSecret:
        return None


def _refresh_token(stored: Mapping[str, Any], key: str) -> SecretText | None:
    value = stored.get(key)
    if isinstance(value, str) and value and stored.get(_AS_GRANTED) == SecretText(value).fingerprint():
        return SecretText(value)
    token = unquoted(value) if isinstance(value, str) else ""
    if value is None or (isinstance(value, str) and not token):
        return None
    if not can_be_header(token):
        raise unusable(_PAIR, f"a {key}")
    return SecretText(token)


def parse_spent(spent: object) -> tuple[str, ...]:
    """The fingerprints of spent refresh tokens in a pair or a journal entry."""
    return tuple(map(str, spent)) if isinstance(spent, list) else ()


def printable(text: str) -> str | None:
    """*text* without control and direction characters, whoever wrote it; None if nothing is left.

    What can't be printed becomes a blank, and blanks one blank: a name stands in logs, notices, reports and tables.
    """
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()) or None


def _text(stored: Mapping[str, Any], key: str) -> str | None:
    return printable(text_of(stored, key) or "")


def _flag(stored: Mapping[str, Any], key: str) -> bool | None:
    value = stored.get(key)
    return value if isinstance(value, bool) else None


_PAIR_KEYS = {
    "access_token": StoredKey(partial(read_access_token, what=_PAIR), SecretText.reveal),
    "token_type": StoredKey(lambda stored, key: _text(stored, key) or TOKEN_TYPE),
    "issued_at": INSTANT,
    "expires_at": INSTANT,
    "refresh_token": StoredKey(_refresh_token, lambda token: token.reveal() or None),
    "refresh_token_issued_at": INSTANT,
    "refresh_token_expires_at": INSTANT,
    "user_name": StoredKey(_text),
    "organization_id": StoredKey(_text),
    "organization_name": StoredKey(_text),
    "replaces": StoredKey(_text),
    "two_factor_enabled": StoredKey(_flag),
    "spent": StoredKey(lambda stored, key: parse_spent(stored.get(key)), lambda spent: list(spent) or None),
}
_KNOWN_KEYS = {*_PAIR_KEYS, "version", _AS_GRANTED}
