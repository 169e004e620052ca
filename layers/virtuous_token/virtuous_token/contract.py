"""The stored formats, version 1: what the refresher writes and every reader may rely on.

Both secrets hold one JSON object. The format grows by addition only: readers ignore keys that they do not know, writers
keep them. Instants are RFC 3339 in UTC with whole seconds, for instance ``2026-11-25T10:00:00Z``.

The pair secret ``{prefix}/{connection}/tokens`` holds the access and the refresh token; only the refresher reads it.
The bearer secret ``{prefix}/{connection}/bearer`` holds the access token alone; readers read it. The version id of the
bearer secret equals the version id of the pair that it was published from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from .errors import UnreadableSecret
from .secret_text import SecretText

__all__ = [
    "CONNECTION_NAME",
    "FORMAT_VERSION",
    "Bearer",
    "SecretNames",
    "TokenPair",
    "can_be_header",
    "format_instant",
    "parse_instant",
    "parse_object",
    "parse_spent",
]

FORMAT_VERSION = 1
CONNECTION_NAME = re.compile(r"[a-z0-9-]+")

_PAIR, _BEARER = "the pair secret", "the bearer secret"
_TOKEN_TYPE = "Bearer"

# RFC 6749 appendix A.17. What version 1.0 stored is kept to the letter as long as it is that.
_VISIBLE_OR_SPACE = re.compile(r"[ -~]+")
# RFC 9110 section 5.5 allows visible ASCII in a field value. Quotes are refused as well: Virtuous answers 401 to a
# quoted token, and a token pasted with its quotes is the usual way to get one.
_HEADER_SAFE = re.compile(r"[!#-&(-~]+")


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


def can_be_header(token: str) -> bool:
    """True if *token* may follow ``Bearer`` in a header: one or more visible ASCII characters, no space, no quote.

    A token that fails must not be sent: http.client answers a newline in a header with a ValueError that quotes it.
    """
    return _HEADER_SAFE.fullmatch(token) is not None


def format_instant(instant: datetime) -> str:
    """RFC 3339, UTC, whole seconds (rounded down). *instant* must know its zone."""
    if instant.tzinfo is None:
        raise ValueError("an instant without a zone is not an instant")
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_instant(text: str) -> datetime:
    """An RFC 3339 instant as an aware datetime in UTC; one without a zone is taken as UTC. Raises ValueError."""
    instant = datetime.fromisoformat(text)
    if not 1970 <= instant.year < 9000:  # so that no zone and no lifetime added to it leaves the calendar
        raise ValueError("an instant is from 1970 to 8999")
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)


def parse_object(text: str | None, what: str) -> dict[str, Any]:
    """The JSON object in *text*. Raises UnreadableSecret, whose text begins with *what*, never quotes the value and has
    no cause (a JSONDecodeError carries the whole document)."""
    if not text or not text.strip():
        raise UnreadableSecret(f"{what} is empty")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnreadableSecret(f"{what} is not a JSON object")
    return found


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
    token_type: str = _TOKEN_TYPE
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
        known = _written(self, _PAIR_KEYS)
        return _dump(known, self.extra)


@dataclass(frozen=True, slots=True)
class Bearer:
    """One version of the bearer secret. ``expires_at`` is None where nobody knows when the token ends (an API key)."""

    access_token: SecretText
    token_type: str = _TOKEN_TYPE
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    next_refresh_at: datetime | None = None
    base_url: str | None = None
    organization_name: str | None = None

    @classmethod
    def parse(cls, text: str | None) -> Bearer:
        """Raises UnreadableSecret; also where *text* is a pair, since no reader may hold a refresh token."""
        stored = parse_object(text, _BEARER)
        if stored.get("refresh_token") or "entry" in stored:
            raise UnreadableSecret(
                f"{_BEARER} holds what belongs into the pair secret: read the secret whose name ends in /bearer"
            )
        return cls(**{key: kind.read(stored, key) for key, kind in _BEARER_KEYS.items()})

    def to_json(self) -> str:
        """The value to store. It holds the access token in plain text."""
        return _dump(_written(self, _BEARER_KEYS), {})


def _written(value: TokenPair | Bearer, keys: Mapping[str, _Kind]) -> dict[str, Any]:
    known = {key: kind.write(held) for key, kind in keys.items() if (held := getattr(value, key)) is not None}
    return {"version": FORMAT_VERSION, **known}


def _dump(known: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    """What is absent is left out, so that one value has one text: publishing twice must write the same bytes."""
    return json.dumps({**extra, **{key: value for key, value in known.items() if value is not None}})


def _access_token(stored: Mapping[str, Any], key: str, what: str) -> SecretText:
    value = stored.get(key)
    token = _unquoted(value) if isinstance(value, str) else ""
    if not token:
        raise UnreadableSecret(f"{what} has no {key}")
    if not can_be_header(token):
        raise _unusable(what, f"an {key}")
    return SecretText(token)


def _refresh_token(stored: Mapping[str, Any], key: str) -> SecretText | None:
    value = stored.get(key)
    token = _unquoted(value) if isinstance(value, str) else ""
    if value is None or (isinstance(value, str) and not token):
        return None
    stored_by_version_1_0 = "version" in stored and "spent" not in stored
    if not (_VISIBLE_OR_SPACE.fullmatch(token) if stored_by_version_1_0 else can_be_header(token)):
        raise _unusable(_PAIR, f"a {key}")
    return SecretText(token)


def _unusable(what: str, which: str) -> UnreadableSecret:
    return UnreadableSecret(f"{what} has {which} with a space, a quote, a control or a non-ASCII character in it")


def _unquoted(pasted: str) -> str:
    token = pasted.strip()
    if len(token) > 1 and token[0] == token[-1] and token[0] in "\"'":
        token = token[1:-1].strip()
    return token


def parse_spent(stored: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The fingerprints of spent refresh tokens in a pair or a journal entry; None where it has no such list."""
    spent = stored.get("spent")
    return tuple(map(str, spent)) if isinstance(spent, list) else None


def _text(stored: Mapping[str, Any], key: str) -> str | None:
    value = stored.get(key)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _instant(stored: Mapping[str, Any], key: str) -> datetime | None:
    """None where it is absent or unreadable: a date that a person typed wrong must not hide a token that works."""
    try:
        return parse_instant(stored[key])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _flag(stored: Mapping[str, Any], key: str) -> bool | None:
    value = stored.get(key)
    return value if isinstance(value, bool) else None


class _Kind(NamedTuple):
    """How a key is read from a stored object, and how its value is written. What is None is not written."""

    read: Callable[[Mapping[str, Any], str], Any]
    write: Callable[[Any], Any] = lambda value: value


_TEXT = _Kind(_text)
_INSTANT = _Kind(_instant, format_instant)

# The keys that are stored beside ``version``, in the order in which they are written.
_PAIR_KEYS = {
    "access_token": _Kind(partial(_access_token, what=_PAIR), SecretText.reveal),
    "token_type": _Kind(lambda stored, key: _text(stored, key) or _TOKEN_TYPE),
    "issued_at": _INSTANT,
    "expires_at": _INSTANT,
    "refresh_token": _Kind(_refresh_token, lambda token: token.reveal() or None),
    "refresh_token_issued_at": _INSTANT,
    "refresh_token_expires_at": _INSTANT,
    "user_name": _TEXT,
    "organization_id": _TEXT,
    "organization_name": _TEXT,
    "replaces": _TEXT,
    "two_factor_enabled": _Kind(_flag),
    "spent": _Kind(lambda stored, _: parse_spent(stored), list),
}
_BEARER_KEYS = {
    "access_token": _Kind(partial(_access_token, what=_BEARER), SecretText.reveal),
    "token_type": _Kind(lambda *_: _TOKEN_TYPE),
    "issued_at": _INSTANT,
    "expires_at": _INSTANT,
    "next_refresh_at": _INSTANT,
    "base_url": _TEXT,
    "organization_name": _TEXT,
}
