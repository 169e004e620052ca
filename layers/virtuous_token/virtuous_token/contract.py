"""The bearer secret's format, version 1: what the refresher writes and every reader may rely on.

The secret ``{prefix}/{connection}/bearer`` holds one JSON object with the access token alone. The format grows by
addition only: readers ignore keys that they do not know. Instants are RFC 3339 in UTC with whole seconds, for instance
``2026-11-25T10:00:00Z``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from .errors import UnreadableSecret
from .secret_text import SecretText

FORMAT_VERSION = 1

_BEARER = "the bearer secret"
TOKEN_TYPE = "Bearer"

# RFC 9110 section 5.5 allows visible ASCII in a field value. Quotes are refused as well: Virtuous answers 401 to a
# quoted token, and a token pasted with its quotes is the usual way to get one.
_HEADER_SAFE = re.compile(r"[!#-&(-~]+")


def can_be_header(token: str) -> bool:
    """True if *token* may follow ``Bearer`` in a header: one or more visible ASCII characters, no space, no quote.
    Others must not be sent: http.client answers a newline in a header with a ValueError that quotes it."""
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
class Bearer:
    """One version of the bearer secret. ``expires_at`` is None where nobody knows when the token ends (an API key)."""

    access_token: SecretText
    token_type: str = TOKEN_TYPE
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
        return write_object(self, _BEARER_KEYS)


def write_object(value: object, keys: Mapping[str, StoredKey], extra: Mapping[str, Any] | None = None) -> str:
    """The text to store for *value*: its attributes that *keys* name, after *extra*. What is absent is left out, so
    that one value has one text: publishing twice must write the same bytes."""
    held = {key: stored.write(found) for key, stored in keys.items() if (found := getattr(value, key)) is not None}
    known = {key: found for key, found in held.items() if found is not None}
    return json.dumps({**(extra or {}), "version": FORMAT_VERSION, **known})


def read_access_token(stored: Mapping[str, Any], key: str, what: str) -> SecretText:
    value = stored.get(key)
    token = unquoted(value) if isinstance(value, str) else ""
    if not token:
        raise UnreadableSecret(f"{what} has no {key}")
    if not can_be_header(token):
        raise unusable(what, f"an {key}")
    return SecretText(token)


def unusable(what: str, which: str) -> UnreadableSecret:
    return UnreadableSecret(f"{what} has {which} with a space, a quote, a control or a non-ASCII character in it")


def unquoted(pasted: str) -> str:
    token = pasted.strip()
    if len(token) > 1 and token[0] == token[-1] and token[0] in "\"'":
        token = token[1:-1].strip()
    return token


def text_of(stored: Mapping[str, Any], key: str) -> str | None:
    value = stored.get(key)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _instant(stored: Mapping[str, Any], key: str) -> datetime | None:
    """None where it is absent or unreadable: a date that a person typed wrong must not hide a token that works."""
    try:
        return parse_instant(stored[key])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


class StoredKey(NamedTuple):
    """How a key is read from a stored object, and how its value is written. What is None is not written."""

    read: Callable[[Mapping[str, Any], str], Any]
    write: Callable[[Any], Any] = lambda value: value


TEXT = StoredKey(text_of)
INSTANT = StoredKey(_instant, format_instant)

# The keys that are stored beside ``version``, in the order in which they are written.
_BEARER_KEYS = {
    "access_token": StoredKey(partial(read_access_token, what=_BEARER), SecretText.reveal),
    "token_type": StoredKey(lambda *_: TOKEN_TYPE),
    "issued_at": INSTANT,
    "expires_at": INSTANT,
    "next_refresh_at": INSTANT,
    "base_url": TEXT,
    "organization_name": TEXT,
}
