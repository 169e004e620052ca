"""Core: what a person may see of a connection. It changes nothing and shows no token, only fingerprints."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from virtuous_token.contract import TokenPair, format_instant
from virtuous_token.errors import UnreadableSecret

from .answers import Denied, Proof, Proved
from .journal import LABEL, Intent, is_idle, parse_entry
from .ports import CURRENT, RefreshError, Store, TokenEndpoint
from .refresh import Policy, due_at, end_of_version

__all__ = ["describe_connection"]


def describe_connection(
    connection: str, store: Store, policy: Policy, now: datetime, endpoint: TokenEndpoint | None = None
) -> dict[str, Any]:
    """The state of one connection as JSON values; instants as RFC 3339. What can't be read is told under ``error``.

    With an *endpoint* Virtuous is asked whether it takes the access token: ``proof`` is "accepted", or why not.
    """
    try:
        labels = store.pair_labels()
        if CURRENT not in labels:
            return {"state": "no token pair was stored yet"}
        version = labels[CURRENT]
        pair = TokenPair.parse(store.pair_value(version))
        return {
            "organization_id": pair.organization_id,
            "organization_name": pair.organization_name,
            "user_name": pair.user_name,
            "access_token": pair.access_token.fingerprint(),
            "refresh_token": pair.refresh_token.fingerprint() if pair.refresh_token else None,
            "obtained_by": "refresh" if pair.replaces else "login",
            "issued_at": _told(pair.issued_at),
            "expires_at": _told(pair.expires_at),
            "next_refresh_at": _told(due_at(pair, connection, policy.refresh_at_percent)),
            "refresh_token_issued_at": _told(pair.refresh_token_issued_at),
            "refresh_token_expires_at": _told(pair.refresh_token_expires_at),
            **({"proof": _proof(endpoint.prove(pair.access_token))} if endpoint else {}),
            **_bearer(store, version),
            **_journal(store, version, labels.get(LABEL), now),
        }
    except (RefreshError, UnreadableSecret) as error:
        return {"error": str(error)}


def _proof(proof: Proof) -> str:
    if isinstance(proof, Proved):
        return "accepted"
    return f"{'refused' if isinstance(proof, Denied) else 'unclear'} ({proof.reason})"


def _bearer(store: Store, version: str) -> dict[str, Any]:
    published = store.bearer_labels().get(CURRENT)
    if published is None or published == version:
        return {"bearer_in_step": published == version}
    return {"bearer_in_step": False, "readers_work_until": _told(end_of_version(store, published))}


def _journal(store: Store, version: str, entry_id: str | None, now: datetime) -> dict[str, Any]:
    if entry_id is None or is_idle(version, entry_id):
        return {"journal": "idle", "last_outcome": None}
    entry = parse_entry(store.pair_value(entry_id))
    if entry is None or entry.replaces != version:
        return {"journal": "idle", "last_outcome": None}
    if isinstance(entry, Intent):
        holder = "refreshing" if now <= entry.dead_after else "its holder died"
        return {"journal": f"{holder}, since {format_instant(entry.started_at)}", "last_outcome": None}
    waits = entry.retry_at is not None and now < entry.retry_at
    return {
        "journal": f"waits until {_told(entry.retry_at)}" if waits else "idle",
        "last_outcome": entry.ended,
        "last_outcome_at": format_instant(entry.at),
    }


def _told(instant: datetime | None) -> str | None:
    return format_instant(instant) if instant else None
