"""Core: a pair that a person obtained goes through the same claim as a refresh, so that the two cannot collide."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

from virtuous_token.contract import TokenPair
from virtuous_token.errors import UnreadableSecret

from .claim import Claims, with_unknown_keys
from .journal import LABEL, Grant
from .ports import CURRENT, Store, StoreUnavailable, World

__all__ = ["store_login"]

# How long a login's claim keeps refreshes away at the most: the pair is in hand already, so it is saved at once.
HOLD = timedelta(minutes=1)
# Seconds between two looks while a refresh holds the claim.
BETWEEN_LOOKS = 2.0


def store_login(store: Store, world: World, pair: TokenPair, *, give_up_at: datetime) -> str:
    """Makes *pair* current and returns its version id; unknown keys of the pair it displaces are kept.

    Waits for a refresh that holds the claim. Raises StoreUnavailable once *give_up_at* has come, PairNotSaved, and what
    the store raises; nothing is lost then but this login.
    """
    while True:
        labels = store.pair_labels()
        if CURRENT not in labels:
            # Nobody can refresh what is not there, so there is nothing to claim. The first version must be the pair
            # itself: Secrets Manager puts AWSCURRENT on a secret's first version whatever label it was given. It
            # carries REFRESHING as well, so that all claims are one chain from the beginning.
            version = str(uuid4())
            store.write_pair(version, pair.to_json(), CURRENT, LABEL)
            return version
        claims = Claims(store, world, world.now() + HOLD)
        displaced = store.pair_value(labels[CURRENT])
        spot = claims.spot(labels) if displaced is not None else None  # else the read is stale: look again
        claim = claims.claim(spot, Grant.LOGIN) if spot else None
        saved = claims.save_pair(claim, _with_keys_of(displaced, pair)) if claim else None
        if saved:
            return saved
        if world.now() >= give_up_at:
            raise StoreUnavailable("another run holds the claim: try again in a few minutes")
        world.pause(BETWEEN_LOOKS)


def _with_keys_of(displaced: str | None, pair: TokenPair) -> TokenPair:
    try:
        return with_unknown_keys(pair, TokenPair.parse(displaced).extra)
    except UnreadableSecret:
        return pair
