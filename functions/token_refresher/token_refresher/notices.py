"""Core: what is announced by name about a connection, and how often.

What stands until a person acts is announced once a UTC day, or once a week where there is time. That is remembered in
the pair secret, where a version is written once: of two runs at one moment one writes it, and only that one announces.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from virtuous_token.contract import format_instant

from .refresh.formats import SecretNames
from .refresh.model import CURRENT, OutcomeWord, RefreshError, Result, Store

SOURCE = "virtuous.token"
# The staging label on the newest memory: without one, a put would move AWSCURRENT.
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


def announce(
    result: Result, prefix: str, store: Store, send: Callable[[Kind, dict[str, object]], object], now: datetime
) -> list[str]:
    """Sends what *result* gives reason to announce; returns for each notice that could not be sent its kind and why.

    *send* takes the detail, which holds no secret, and raises NotSent. The next run does not send it either, until its
    next period: better once too few than a message every run.
    """
    failures = []
    for kind in _kinds(result, now):
        period = _period(kind, result, now)
        try:
            if kind not in NEED_A_PERSON or _is_first(kind, period, store):
                send(kind, _detail(kind, period, result, prefix))
        except (NotSent, RefreshError) as error:
            failures.append(f"{kind}: {error}")
    return failures


def _is_first(kind: Kind, period: str, store: Store) -> bool:
    """True for exactly one caller in the period, whoever asks at the same time.

    False before the first login: a memory would be the first version, and that gets AWSCURRENT whatever is asked for.
    """
    # Of version 4, as a person's put has it: ids of version 5 are the refresh journal's own.
    version = str(UUID(bytes=sha256(f"{kind}/{period}".encode()).digest()[:16], version=4))
    versions = store.pair_versions()
    if versions.under(CURRENT) is None or versions.get(version):
        return False
    # Each writer's value is its own, so that the second of two is refused.
    value = json.dumps({"noticed": str(kind), "period": period, "by": str(uuid4())})
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


def _detail(kind: Kind, period: str, result: Result, prefix: str) -> dict[str, object]:
    bearer, needs_a_person = SecretNames.of(prefix, result.connection).bearer, kind in NEED_A_PERSON
    login = f"virtuous-token --prefix {prefix} login --connection {result.connection}"
    return {
        "version": 1,
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
