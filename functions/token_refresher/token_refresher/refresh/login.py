"""Core: the pair that a person obtained. It takes the next place of the refresh journal's chain, in one write.

There is nothing to send, so nothing is claimed and nobody is waited for. It is the way out of every state.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from virtuous_token.secret_text import SecretText

from .claim import retry_until
from .formats import TokenPair, pair_in
from .journal import LABEL, Outcome, chain_end, claim_id, merged, parse_entry, result_id, without
from .model import CURRENT, Services, Store, StoredVersion, StoreMisconfigured, StoreUnavailable, Versions

__all__ = ["store_login"]

# How often a place is looked for: more than stale reads and others at work can take away.
TRIES = 10
# Seconds between two of them.
BETWEEN_TRIES = 2.0


def store_login(store: Store, services: Services, pair: TokenPair, *, give_up_at: datetime, adopted: bool) -> str:
    """Makes *pair* current and returns its version id; unknown keys of the pair that it displaces are kept.

    A refresh that holds the claim finds its place taken, and keeps its pair beside it. *adopted*: the provider has not
    just granted the pair, so what is known of its refresh token still holds. Raises StoreUnavailable where Secrets
    Manager does not answer until *give_up_at*, and StoreMisconfigured.
    """
    for tries_left in reversed(range(TRIES)):
        versions = retry_until(give_up_at, store.pair_versions, services, retried=StoreUnavailable)
        end, current = chain_end(versions), versions.under(CURRENT)
        texts = [retry_until(give_up_at, partial(_text, store, versions.get(v)), services) for v in (end, current)]
        if None not in texts or not tries_left:
            place, spent = _next_place(versions, texts[0])
            displaced = pair_in(texts[1]) or TokenPair(SecretText(""))
            spent = merged(spent, displaced.spent)
            spent = spent if adopted else without(spent, pair.refresh_token)
            stored = replace(pair, spent=spent, extra={**displaced.extra, **pair.extra})
            write = partial(store.write_pair, place, stored.to_json(), CURRENT, LABEL)
            # Written there already means: those versions were stale, or somebody else was first.
            if retry_until(give_up_at, write, services, retried=StoreUnavailable) is not None:
                return place
        services.pause(BETWEEN_TRIES)
    raise StoreUnavailable("the pair secret changed again and again: try again in a few minutes")


def _next_place(versions: Versions, text: str | None) -> tuple[str, tuple[str, ...]]:
    """Its version id, given what the chain's end holds; and the fingerprints of the tokens that are spent by then."""
    end = chain_end(versions)
    written, entry, pair = versions.get(end), parse_entry(text), pair_in(text)
    if written is None or isinstance(entry, Outcome) or pair:
        known = entry.history.spent_and_refused() if entry else pair.spent if pair else ()
        return claim_id(end), known
    # The place of a holder's result, dead or alive; or of who knows what, where it can't be read.
    if entry is None:
        return result_id(end), ()
    in_flight = () if entry.is_dead(written.created_at, versions.at) else (entry.credential,)
    return result_id(end), merged(in_flight, entry.history.spent_and_refused())


def _text(store: Store, version: StoredVersion | None) -> str | None:
    """Empty where it can never be read, for instance because its key is gone; None where it can't be read yet."""
    try:
        return store.pair_value(version.version_id) if version else ""
    except StoreMisconfigured:
        return ""
