"""Core: the pair that a person obtained. It takes the next place of the refresh journal's chain, in one write.

There is nothing to send, so nothing is claimed. It is the way out of every state, at once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from virtuous_token.secret_text import SecretText

from .claim import retry_until
from .formats import TokenPair, pair_in
from .journal import LABEL, Intent, chain_end, claim_id, may_be_an_intent, merged, parse_entry, result_id, without
from .model import CURRENT, Services, Store, StoredVersion, StoreMisconfigured, StoreUnavailable

__all__ = ["store_login"]

# How often a place is looked for: more than stale reads and others at work can take away.
TRIES = 10
# Seconds between two of them.
BETWEEN_TRIES = 2.0


def store_login(store: Store, services: Services, pair: TokenPair, *, give_up_at: datetime, adopted: bool) -> str:
    """Makes *pair* current and returns its version id; unknown keys of the pair that it displaces are kept.

    A refresh that holds the claim finds its place taken, and keeps its pair beside it. *adopted*: the provider has not
    just granted the pair. So what is known of its refresh token still holds; and until *give_up_at* it waits for a
    refresh under way, which may be sending that token. Raises StoreUnavailable where Secrets Manager does not answer
    until then, and StoreMisconfigured.
    """
    tries_left = TRIES
    while tries_left:
        patience_is_over = services.now() >= give_up_at
        versions = retry_until(give_up_at, store.pair_versions, services, retried=StoreUnavailable)
        end, current = versions.get(chain_end(versions)), versions.get(versions.under(CURRENT))
        text, displaced_text = (retry_until(give_up_at, partial(_text, store, v), services) for v in (end, current))
        intent, spent = _intent_and_spent(text)
        is_held = end and intent and not intent.is_dead(end.created_at, versions.at)
        if patience_is_over or not (None in (text, displaced_text) or (adopted and is_held)):
            is_claim = end and (intent or (not text and may_be_an_intent(end, versions)))
            place = result_id(end.version_id) if end and is_claim else claim_id(chain_end(versions))
            displaced = pair_in(displaced_text) or TokenPair(SecretText(""))
            spent = merged(spent, displaced.spent)
            spent = spent if adopted else without(spent, pair.refresh_token)
            stored = replace(pair, spent=spent, extra={**displaced.extra, **pair.extra})
            write = partial(store.write_pair, place, stored.to_json(), CURRENT, LABEL)
            # Written there already means: those versions were stale, or somebody else was first.
            if retry_until(give_up_at, write, services, retried=StoreUnavailable) is not None:
                return place
            tries_left -= 1
        services.pause(BETWEEN_TRIES)
    raise StoreUnavailable("the pair secret changed again and again: try again in a few minutes")


def _intent_and_spent(text: str | None) -> tuple[Intent | None, tuple[str, ...]]:
    """What the chain's end says: who holds a claim, and the fingerprints of the refresh tokens that are spent."""
    entry, pair = parse_entry(text), pair_in(text)
    if entry:
        return entry if isinstance(entry, Intent) else None, entry.history.spent_and_refused()
    return None, pair.spent if pair else ()


def _text(store: Store, version: StoredVersion | None) -> str | None:
    """Empty where it can never be read, for instance because its key is gone; None where it can't be read yet."""
    try:
        return store.pair_value(version.version_id) if version else ""
    except StoreMisconfigured:
        return ""
