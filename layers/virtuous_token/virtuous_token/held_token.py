"""The token in memory, and the instants that decide when it is read again and how long it may be sent."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # type checkers take it for typing's, whose import takes longer than the rest of the package
if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["NOTHING", "HeldToken", "random_fraction"]


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


def random_fraction() -> float:
    """From 0 to 1. From the system, since a snapshot or a fork copies the state of Python's generator."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


NOTHING = HeldToken("", 0, float("inf"), float("-inf"), float("-inf"))
