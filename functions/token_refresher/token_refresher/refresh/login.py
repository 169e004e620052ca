"""Core: the pair that a person obtained. It takes the next place of the refresh journal's chain, in one write.

There is nothing to send, so nothing is claimed. It is the way out of every state, at once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from .candidates import known_spent
from .claim import read_head, retry_until
from .formats import TokenPair, pair_in
from .journal import Intent, claim_id, merged, result_id
from .model import Services
from .stored import CURRENT, LABEL, Store, StoreUnavailable, text_of


def store_login(store: Store, services: Services, pair: TokenPair, *, give_up_at: datetime, adopted: bool) -> str:
    """Makes *pair* current and returns its version id; unknown keys of the pair that it displaces are kept.

    A refresh that holds the claim finds its place taken, and keeps its pair beside it. *adopted*: the provider has not
    just granted the pair. So what is known of its refresh token still holds, and a refresh under way, which may be
    sending that token, is waited for. Raises StoreUnavailable where that or Secrets Manager's trouble lasts until
    *give_up_at*, and StoreMisconfigured.
    """

    def store_once() -> str:
        versions = store.pair_versions()
        head = read_head(store, versions)
        intent = head.entry if isinstance(head.entry, Intent) else None
        is_held = intent and head.written and not intent.is_dead(head.written.created_at, versions.at)
        if adopted and is_held:
            raise StoreUnavailable("a refresh is under way, and may be sending this token: try again in a few minutes")
        displaced = pair_in(text_of(store, versions.under(CURRENT)))
        known = head.history._replace(spent=head.history.spent_and_refused)
        spent = merged(known_spent(store, versions, known), but=None if adopted else pair.refresh_token)
        stored = replace(pair, spent=spent, extra={**(displaced.extra if displaced else {}), **pair.extra})
        place = (result_id if intent else claim_id)(head.end)
        write = partial(store.write_pair, place, stored.to_json(), CURRENT, LABEL)
        # Written there already means: those versions were stale, or somebody else was first.
        if retry_until(give_up_at, write, services, retried=StoreUnavailable) is None:
            raise StoreUnavailable("the pair secret changed again and again: try again in a few minutes")
        return place

    return retry_until(give_up_at, store_once, services, retried=StoreUnavailable)
