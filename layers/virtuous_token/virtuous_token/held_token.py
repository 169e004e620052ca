"""The token in memory, and the instants that decide when it is read again and how long it may be sent."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # type checkers take it for typing's, whose import takes longer than the rest of the package
if TYPE_CHECKING:
    from datetime import datetime

    from .contract import Bearer

__all__ = ["NOTHING", "HeldToken", "hold", "random_fraction"]

# The request that carries the token must arrive before the token ends, and clocks differ by some seconds.
LAST_SECONDS_UNUSED = 10.0
# A token whose end nobody knows (an API key) may be revoked any day, so failed reads do not prolong it for ever.
UNKNOWN_LIFE_SECONDS = 86_400.0


class HeldToken:
    """A token that was read at *read_at*. It never changes: other threads take it as a whole."""

    __slots__ = (
        "authorization",
        "base_url",
        "expires_at",
        "number",
        "organization_name",
        "read_at",
        "refresh_after",
        "token",
        "usable_until",
    )

    def __init__(self, token: str, number: int, read_at: float, refresh_after: float, usable_until: float) -> None:
        self.token = token
        self.authorization = f"Bearer {token}"
        self.number = number
        self.read_at = read_at
        self.refresh_after = refresh_after
        self.usable_until = usable_until
        self.expires_at: datetime | None = None
        self.base_url: str | None = None
        self.organization_name: str | None = None

    def is_fresh(self, now: float) -> bool:
        """False once it is to be read again; also before *read_at*, since then the clock was ahead at that time."""
        return self.read_at <= now < self.refresh_after

    def redrawn(self, now: float) -> HeldToken:
        """The same token for a child process: its siblings hold it too, so each draws when to read it again."""
        refresh_after = self.refresh_after
        if self.is_fresh(now):
            refresh_after = now + (refresh_after - now) * random_fraction()
        copy = HeldToken(self.token, self.number, self.read_at, refresh_after, self.usable_until)
        copy.expires_at, copy.base_url, copy.organization_name = self.expires_at, self.base_url, self.organization_name
        return copy


def hold(bearer: Bearer, number: int, read_at: float, max_age_seconds: float, *, is_first: bool) -> HeldToken:
    """The token of *bearer*, which read *number* brought. *is_first*: the process held none before."""
    seconds = _seconds_until_the_next_read(bearer, read_at, max_age_seconds, is_first=is_first)
    if bearer.expires_at is None:
        usable_until = read_at + max(UNKNOWN_LIFE_SECONDS, seconds)
    else:
        usable_until = bearer.expires_at.timestamp() - LAST_SECONDS_UNUSED
    refresh_after = min(read_at + seconds, usable_until)
    held = HeldToken(bearer.access_token.reveal(), number, read_at, refresh_after, usable_until)
    held.expires_at, held.base_url, held.organization_name = (
        bearer.expires_at,
        bearer.base_url,
        bearer.organization_name,
    )
    return held


def _seconds_until_the_next_read(bearer: Bearer, now: float, max_age_seconds: float, *, is_first: bool) -> float:
    """The least of three, each moved at random so that many readers do not come due together.

    The maximum age; the first time anything from its half on, so that processes which began together stay apart.
    Soon after the planned refresh. At the latest when three quarters of the token's remaining life have passed.
    """
    seconds = max_age_seconds * (1 - random_fraction() * (0.5 if is_first else 0.01))
    if bearer.expires_at is None:
        return seconds
    expires_at = bearer.expires_at.timestamp()
    if bearer.next_refresh_at is not None:
        planned_at = bearer.next_refresh_at.timestamp()
        if now < planned_at:
            seconds = min(seconds, planned_at - now + random_fraction() * (expires_at - planned_at) / 10)
    return min(seconds, (expires_at - now) * (0.75 - random_fraction() / 4))


def random_fraction() -> float:
    """From 0 to 1. From the system, since a snapshot or a fork copies the state of Python's generator."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


NOTHING = HeldToken("", 0, float("inf"), float("-inf"), float("-inf"))
