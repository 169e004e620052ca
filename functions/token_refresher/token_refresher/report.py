"""Core: what a person may see of a connection. It changes nothing and shows no token, only fingerprints."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from virtuous_token.contract import format_instant
from virtuous_token.errors import UnreadableSecret

from .refresh.due import due_at
from .refresh.formats import TokenPair, pair_in
from .refresh.journal import LABEL, Intent, Outcome, chain_end, parse_entry
from .refresh.model import Denied, Policy, Proved, TokenEndpoint
from .refresh.publish import end_of_version
from .refresh.stored import CURRENT, CurrentPair, RefreshError, Store, Stored

_IDLE: dict[str, Any] = {"journal": "idle", "last_outcome": None}


def describe_connection(
    connection: str, store: Store, policy: Policy, now: datetime, endpoint: TokenEndpoint, *, prove: bool
) -> dict[str, Any]:
    """The state of one connection as JSON values; what cannot be read is under ``error``.

    With *prove*, and always of an API key, ``proof`` is "accepted" or why Virtuous does not take the access token.
    """
    try:
        stored = store.read()
        if stored.pair is None:
            return {"state": "no token pair was stored yet"}
        pair = stored.pair.parsed()
        return {
            **_pair(connection, pair, policy),
            **(_proof(endpoint, pair) if prove or pair.refresh_token is None else {}),
            **_bearer(store, stored.pair.version_id, stored.bearer_labels.get(CURRENT)),
            **_journal(store, stored.pair, now),
        }
    except UnreadableSecret as error:
        return {"error": str(error), "is_unreadable": True}
    except RefreshError as error:
        return {"error": str(error)}


def describe_if_idle(connection: str, stored: Stored | None, policy: Policy) -> dict[str, Any] | None:
    """The same from what was read already; None where that does not tell all, or may be wrong."""
    if stored is None or stored.pair is None or not stored.is_idle:
        return None
    pair = pair_in(stored.pair.text)
    if pair is None or pair.refresh_token is None or stored.bearer_labels.get(CURRENT) != stored.pair.version_id:
        return None
    pair = pair.dated_by(stored.pair.created_at)
    return {**_pair(connection, pair, policy), "bearer_in_step": True, **_IDLE}


def _pair(connection: str, pair: TokenPair, policy: Policy) -> dict[str, Any]:
    return {
        "organization_id": pair.organization_id,
        "organization_name": pair.organization_name,
        "user_name": pair.user_name,
        "access_token": pair.access_token.fingerprint(),
        "refresh_token": pair.refresh_token.fingerprint() if pair.refresh_token else None,
        "obtained_by": "refresh" if pair.replaces else "login",
        "issued_at": _formatted(pair.issued_at),
        "expires_at": _formatted(pair.expires_at),
        "next_refresh_at": _formatted(due_at(pair, connection, policy.refresh_at_percent)),
        "refresh_token_issued_at": _formatted(pair.refresh_token_issued_at),
        "refresh_token_expires_at": _formatted(pair.refresh_token_expires_at),
    }


def _proof(endpoint: TokenEndpoint, pair: TokenPair) -> dict[str, str]:
    proof = endpoint.prove(pair.access_token)
    if isinstance(proof, Proved):
        return {"proof": "accepted"}
    return {"proof": f"{'refused' if isinstance(proof, Denied) else 'unclear'} ({proof.reason})"}


def _bearer(store: Store, version: str, published: str | None) -> dict[str, Any]:
    if published is None or published == version:
        return {"bearer_in_step": published == version}
    return {"bearer_in_step": False, "readers_work_until": _formatted(end_of_version(store, published))}


def _journal(store: Store, current: CurrentPair, now: datetime) -> dict[str, Any]:
    if LABEL in current.labels:
        return _IDLE
    versions = store.pair_versions()
    end = versions.get(chain_end(versions))
    entry = parse_entry(store.pair_value(end.version_id)) if end else None
    if end is None or entry is None or (isinstance(entry, Outcome) and entry.replaces != current.version_id):
        return _IDLE
    if isinstance(entry, Intent):
        holder = "its holder died" if entry.is_dead(end.created_at, versions.at) else "refreshing"
        return {"journal": f"{holder}, since {format_instant(entry.started_at)}", "last_outcome": None}
    waits = entry.retry_at is not None and now < entry.retry_at
    return {
        "journal": f"waits until {_formatted(entry.retry_at)}" if waits else "idle",
        "last_outcome": entry.result,
        "last_outcome_at": format_instant(entry.at),
    }


def _formatted(instant: datetime | None) -> str | None:
    return format_instant(instant) if instant else None
