"""Core: what is announced by name about a connection, and how often.

What changed is announced by the run that changed it. What stands until a person acts is announced once a UTC day, or
once a week where there is time. That is remembered in the pair secret, where a version is written once: of two runs at
one moment one writes it, and only that one announces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple, Protocol
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from virtuous_token.contract import format_instant

from .refresh.formats import SecretNames
from .refresh.model import CURRENT, OutcomeWord, RefreshError, Result, Store

SOURCE = "virtuous.token"
DETAIL_VERSION = 1
# The staging label on the newest memory. Any label but AWSCURRENT will do; without one, a put would move AWSCURRENT.
LABEL = "NOTICED"

# Virtuous documents 365 days for a refresh token: a month leaves working hours to log in again.
REFRESH_TOKEN_ENDS_SOON = timedelta(days=30)


class Kind(StrEnum):
    """The event's detail-type."""

    TOKEN_REFRESHED = "Token Refreshed"
    RECOVERED = "Recovered"
    LOGIN_REQUIRED = "Login Required"
    ORGANIZATION_CHANGED = "Organization Changed"
    REFRESH_TOKEN_ENDS_SOON = "Refresh Token Ends Soon"
    API_KEY_REFUSED = "Api Key Refused"


NEED_A_PERSON = frozenset(Kind) - {Kind.TOKEN_REFRESHED, Kind.RECOVERED}

_MEANING = {
    Kind.TOKEN_REFRESHED: "A new access token was published.",
    Kind.RECOVERED: "A token that an earlier run or a login had stored was published.",
    Kind.LOGIN_REQUIRED: "A person must log in: no stored credential is accepted any more.",
    Kind.ORGANIZATION_CHANGED: "The token acts for another organisation than the connection was made for. Switch back "
    "in Virtuous as the connection's user, or log in again if the change is meant.",
    Kind.REFRESH_TOKEN_ENDS_SOON: "The refresh token ends soon and Virtuous has not replaced it. Nothing is broken "
    "yet; log in during working hours.",
    Kind.API_KEY_REFUSED: "Virtuous refuses the stored API key. Store another one, or log in.",
}


class NotSent(Exception):
    """The event bus did not take a notice; the text is an error code."""


class Notice(NamedTuple):
    """One event. ``detail`` is JSON and holds no secret. ``period``: within it a standing notice is sent once."""

    kind: Kind
    detail: Mapping[str, Any]
    period: str

    def to_json(self) -> str:
        return json.dumps(self.detail)


class Bus(Protocol):
    """Where notices go."""

    def send(self, notice: Notice) -> None:
        """Raises NotSent."""


def announce(result: Result, prefix: str, store: Store, bus: Bus, now: datetime) -> list[str]:
    """Sends what *result* gives reason to announce; returns for each notice that could not be sent its kind and why.

    The next run does not send it either, until its next period: better once too few than a message every run.
    """
    failures = []
    for kind in _kinds(result, now):
        notice = _notice(kind, result, prefix, now)
        try:
            if kind not in NEED_A_PERSON or _is_first(notice, store):
                bus.send(notice)
        except (NotSent, RefreshError) as error:
            failures.append(f"{kind}: {error}")
    return failures


def _is_first(notice: Notice, store: Store) -> bool:
    """True for exactly one caller in the notice's period, whoever asks at the same time.

    False where the pair secret has no version yet: nobody has logged in, and a memory would be its first version, which
    AWSCURRENT goes to whatever label was asked for.
    """
    # Of version 4, as a person's put has it: ids of version 5 are the refresh journal's own.
    version = str(UUID(bytes=sha256(f"{notice.kind}/{notice.period}".encode()).digest()[:16], version=4))
    versions = store.pair_versions()
    if versions.under(CURRENT) is None or versions.get(version):
        return False
    # Each writer's value is its own, so that the second of two is refused.
    value = json.dumps({"noticed": str(notice.kind), "period": notice.period, "by": str(uuid4())})
    return store.write_pair(version, value, LABEL) is not None


def _kinds(result: Result, now: datetime) -> list[Kind]:
    changed = {OutcomeWord.REFRESHED: Kind.TOKEN_REFRESHED, OutcomeWord.RECOVERED: Kind.RECOVERED}
    kinds = [changed[result.outcome]] if result.outcome in changed else []
    if result.api_key_refused:
        kinds.append(Kind.API_KEY_REFUSED)
    elif result.outcome is OutcomeWord.LOGIN_REQUIRED:
        kinds.append(Kind.LOGIN_REQUIRED)
    elif result.refresh_token_expires_at and result.refresh_token_expires_at - now < REFRESH_TOKEN_ENDS_SOON:
        kinds.append(Kind.REFRESH_TOKEN_ENDS_SOON)
    if result.organization_changed:
        kinds.append(Kind.ORGANIZATION_CHANGED)
    return kinds


def _notice(kind: Kind, result: Result, prefix: str, now: datetime) -> Notice:
    bearer, period = SecretNames.of(prefix, result.connection).bearer, _period(kind, result, now)
    needs_a_person = kind in NEED_A_PERSON
    login = f"virtuous-token --prefix {prefix} login --connection {result.connection}"
    detail = {
        "version": DETAIL_VERSION,
        "id": str(uuid5(NAMESPACE_OID, f"{bearer}/{kind}/{period}")),
        "prefix": prefix,
        "connection": result.connection,
        "organization": _plain(result.organization_name) or "an organisation that is not known yet",
        "bearer_secret": bearer,
        "readers_work_until": _readable(result.readers_work_until),
        "refresh_token_expires_at": _readable(result.refresh_token_expires_at),
        "needs_a_person": needs_a_person,
        "meaning": _MEANING[kind],
        "reason": _plain(result.reason) or "none given",
        "run": login if needs_a_person else "nothing",
    }
    return Notice(kind, detail, period)


def _plain(text: str | None) -> str:
    """*text* on one line, with nothing that would end a quoted text in which EventBridge puts it."""
    return " ".join((text or "").replace('"', "'").replace("\\", "/").split())


def _readable(instant: datetime | None) -> str:
    """Never null: EventBridge leaves a gap in a message where a value is missing."""
    return format_instant(instant) if instant else "unknown"


def _period(kind: Kind, result: Result, now: datetime) -> str:
    if kind not in NEED_A_PERSON:
        return f"until {_readable(result.readers_work_until)}"
    if kind is Kind.REFRESH_TOKEN_ENDS_SOON and result.refresh_token_expires_at:
        left = result.refresh_token_expires_at - now
        if left >= timedelta(weeks=1):  # daily in the last week
            return f"{left // timedelta(weeks=1)} weeks before {_readable(result.refresh_token_expires_at)}"
    return f"{now:%Y-%m-%d}"
