"""Core: the pair that a person obtained. It takes the next place of the refresh journal's chain, in one write.

There is nothing to send, so nothing is claimed. It is the way out of every state, at once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from .claim import LONGEST_PAUSE, retry_until
from .formats import TokenPair, pair_in
from .journal import Intent, chain_end, claim_id, may_be_an_intent, merged, parse_entry, result_id
from .model import Services
from .stored import CURRENT, LABEL, Store, StoreUnavailable, text_of


def store_login(store: Store, services: Services, pair: TokenPair, *, give_up_at: datetime, adopted: bool) -> str:
    """Makes *pair* current and returns its version id; unknown keys of the pair that it displaces are kept.

    A refresh that holds the claim finds its place taken, and keeps its pair beside it. *adopted*: the provider has not
    just granted the pair. So what is known of its refresh token still holds; and until *give_up_at* it waits for a
    refresh under way, which may be sending that token. Raises StoreUnavailable where Secrets Manager does not answer
    until then, and StoreMisconfigured.
    """

    def store_once() -> str:
        versions = store.pair_versions()
        end = versions.get(chain_end(versions))
        text = text_of(store, end.version_id if end else None)
        entry, filled = parse_entry(text), pair_in(text)
        displaced = pair_in(text_of(store, versions.under(CURRENT)))
        is_held = end and isinstance(entry, Intent) and not entry.is_dead(end.created_at, versions.at)
        if adopted and is_held and services.now() + LONGEST_PAUSE < give_up_at:
            raise StoreUnavailable("a refresh is under way")
        known = entry.history.spent_and_refused if entry else filled.spent if filled else ()
        spent = merged(known, displaced.spent if displaced else (), but=None if adopted else pair.refresh_token)
        stored = replace(pair, spent=spent, extra={**(displaced.extra if displaced else {}), **pair.extra})
        is_claim = end and (isinstance(entry, Intent) or (not text and may_be_an_intent(end.version_id, versions)))
        place = (result_id if is_claim else claim_id)(chain_end(versions))
        write = partial(store.write_pair, place, stored.to_json(), CURRENT, LABEL)
        # Written there already means: those versions were stale, or somebody else was first.
        if retry_until(give_up_at, write, services, retried=StoreUnavailable) is None:
            raise StoreUnavailable("the pair secret changed again and again: try again in a few minutes")
        return place

    return retry_until(give_up_at, store_once, services, retried=StoreUnavailable)
