"""Core: when a pair is to be refreshed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from .formats import TokenPair

# Where nobody knows how long an access token lives, its pair falls due as if it were Virtuous's shortest sample.
ASSUMED_LIFE = timedelta(hours=1)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# After an answer whose access token was of no use, the next try waits this long.
PAUSE_AFTER_A_USELESS_ACCESS_TOKEN = timedelta(hours=1)
# Up to this part of its life a pair falls due earlier, by its connection's name.
SPREAD = 0.05


def due_at(pair: TokenPair, connection: str, percent: int) -> datetime | None:
    """When *pair* is to be refreshed: once *percent* of its access token's life has passed, or up to 5 % of it earlier.

    How much earlier depends on the connection's name alone, so that many connections made on one day do not fall due
    together. Whole seconds, as it is stored. None for a pair without a refresh token. A pair that does not say when it
    was issued is due now.
    """
    if pair.refresh_token is None:
        return None
    if pair.issued_at is None:
        return LONG_AGO
    life = max(pair.expires_at - pair.issued_at, timedelta()) if pair.expires_at else ASSUMED_LIFE
    earlier = fraction_of(connection) * SPREAD
    due = pair.issued_at + life * (percent / 100 - earlier)
    if pair.refresh_token_issued_at and pair.refresh_token_issued_at > pair.issued_at:
        due = max(due, pair.refresh_token_issued_at + PAUSE_AFTER_A_USELESS_ACCESS_TOKEN)
    return due.replace(microsecond=0)


def fraction_of(connection: str) -> float:
    """From 0 to below 1, by the connection's name alone: spreads what would otherwise happen to all at once."""
    return int.from_bytes(sha256(connection.encode()).digest()[:4], "big") / 2**32
