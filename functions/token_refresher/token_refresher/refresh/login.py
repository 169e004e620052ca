"""Core: the pair that a person obtained. It takes the next place of the refresh journal's chain, in one write.

There is nothing to send, so nothing is claimed. It is the way out of every state.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .claim import persistently
from .formats import TokenPair
from .journal import (
    FIRST_PAIR_ID,
    LABEL,
    Entry,
    Intent,
    chain_end,
    claim_id,
    parse_entry,
    result_id,
    unless_granted_again,
)
from .model import CURRENT, Services, Store, StoredVersion, StoreUnavailable

__all__ = ["store_login"]

# Seconds between two looks while a refresh holds the claim.
BETWEEN_LOOKS = 2.0
# How often a place is looked for after the longest wait; more than stale reads and other logins can take away.
LAST_LOOKS = 10


def store_login(store: Store, services: Services, pair: TokenPair, *, give_up_at: datetime) -> str:
    """Makes *pair* current and returns its version id; unknown keys of the pair that it displaces are kept.

    Waits until *give_up_at* for a refresh that holds the claim, then takes the place of its result. Raises
    StoreUnavailable where Secrets Manager does not answer until then, and StoreMisconfigured.
    """
    last_looks = LAST_LOOKS
    while last_looks:
        patience_is_over = services.now() >= give_up_at
        versions = persistently(store.pair_versions, services, give_up_at, retried=StoreUnavailable)
        end, current = chain_end(versions), versions.under(CURRENT)
        text = store.pair_value(end.version_id) if end else None
        displaced = store.pair_value(current) if current else None
        is_unread = (end and text is None) or (current and displaced is None)
        entry = parse_entry(text)
        is_held = isinstance(entry, Intent) and end and not entry.is_dead(end.created_at, services.now())
        if patience_is_over or not (is_held or is_unread):
            version_id = _next_id(end, entry)
            spent = entry.history.used_up() if entry else _parsed(text).spent if end else ()
            extra = {**_parsed(displaced).extra, **pair.extra}
            stored = replace(pair, spent=unless_granted_again(spent, pair.refresh_token), extra=extra)
            write = partial(store.write_pair, version_id, stored.to_json(), CURRENT, LABEL)
            # Written there already means: those versions were stale, or somebody else was first.
            if persistently(write, services, give_up_at, retried=StoreUnavailable) is not None:
                return version_id
        last_looks -= patience_is_over
        services.pause(BETWEEN_LOOKS)
    raise StoreUnavailable("the pair secret changed again and again: try again in a few minutes")


def _next_id(end: StoredVersion | None, entry: Entry | None) -> str:
    if end is None:
        return FIRST_PAIR_ID
    return result_id(end.version_id) if isinstance(entry, Intent) else claim_id(end.version_id)


def _parsed(text: str | None) -> TokenPair:
    """The pair in *text*; an empty one where it holds something else."""
    try:
        return TokenPair.parse(text)
    except UnreadableSecret:
        return TokenPair(SecretText(""))
