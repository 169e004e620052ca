"""Core: the pair secret as it is stored, version 1, and the names of a connection's secrets.

The format grows by addition only: keys that are not known here survive a refresh. Instants are RFC 3339 in UTC with
whole seconds. Only the refresher and the operator's command read a pair; no reader may have one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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

__all__ = ["CONNECTION_NAME", "SecretNames", "TokenPair", "parse_spent", "printable"]

_PAIR = "the pair secret"
# RFC 6749 appendix A.17.
_VISIBLE_OR_SPACE = re.compile(r"[ -~]+")
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
    not know; they survive a refresh. ``spent``: fingerprints of the refresh tokens known to be spent, newest first;
    None where whoever stored the pair did not know.
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
    spent: tuple[str, ...] | None = None
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
        extra = {key: value for key, value in stored.items() if key not in _PAIR_KEYS and key != "version"}
        return cls(**known, extra=extra)

    def to_json(self) -> str:
        """The value to store. It holds both tokens in plain text."""
        return write_object(self, _PAIR_KEYS, self.extra)


def _refresh_token(stored: Mapping[str, Any], key: str) -> SecretText | None:
    value = stored.get(key)
    token = unquoted(value) if isinstance(value, str) else ""
    if value is None or (isinstance(value, str) and not token):
        return None
    stored_by_version_1_0 = "version" in stored and "spent" not in stored
    if not (_VISIBLE_OR_SPACE.fullmatch(token) if stored_by_version_1_0 else can_be_header(token)):
        raise unusable(_PAIR, f"a {key}")
    return SecretText(token)


def parse_spent(stored: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The fingerprints of spent refresh tokens in a pair or a journal entry; None where it has no such list."""
    spent = stored.get("spent")
    return tuple(map(str, spent)) if isinstance(spent, list) else None


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
    "spent": StoredKey(lambda stored, _: parse_spent(stored), list),
}
