"""The token in hand and the last failed read, each with the instants that say when to read again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from .errors import VirtuousTokenError
from .token_source import AccessToken

if TYPE_CHECKING:  # dataclasses take as long to import as all the rest
    from .contract import Bearer

# The request that carries the token must arrive before the token ends, and clocks differ by some seconds.
LAST_SECONDS_UNUSED = 10.0
# A token whose end nobody knows (an API key) may be revoked any day, so failed reads do not prolong it for ever.
UNKNOWN_LIFE_SECONDS = 86_400.0
# While the token in hand works the pauses after failed reads are long: a quarter of an hour, then the maximum age.
# While callers go without a token they are 1, 2, 4 seconds and so on, up to a minute.
FIRST_PAUSE_SECONDS = 900.0
LONGEST_PAUSE_WITHOUT_A_TOKEN_SECONDS = 60.0


def random_fraction() -> float:
    """From 0 to 1. From the system, since a snapshot or a fork copies the state of Python's generator."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


class CachedToken:
    """A token that the read *number* brought, which began at *read_at*. It never changes."""

    __slots__ = ("access_token", "number", "read_at", "refresh_after", "token", "usable_until")

    def __init__(
        self, access_token: AccessToken, number: float, read_at: float, refresh_after: float, usable_until: float
    ) -> None:
        self.access_token = access_token
        self.token = access_token.token  # here as well, since this is what most callers take
        self.number = number
        self.read_at = read_at
        self.refresh_after = refresh_after
        self.usable_until = usable_until

    @classmethod
    def of(cls, bearer: Bearer, number: int, now: float, max_age_seconds: float, *, is_first: bool) -> CachedToken:
        """The token of *bearer*. *is_first*: there was none before.

        It is read again after the least of three, each moved at random so that many readers do not come due together:
        the maximum age (the first time anything from its half on, so that processes which began together stay apart);
        soon after the planned refresh; three quarters of the token's remaining life.
        """
        seconds = max_age_seconds * (1 - random_fraction() * (0.5 if is_first else 0.01))
        usable_until = now + max(UNKNOWN_LIFE_SECONDS, seconds)
        if bearer.expires_at is not None:
            expires_at = bearer.expires_at.timestamp()
            usable_until = expires_at - LAST_SECONDS_UNUSED
            planned_at = bearer.next_refresh_at.timestamp() if bearer.next_refresh_at else now
            if now < planned_at:
                seconds = min(seconds, planned_at - now + random_fraction() * (expires_at - planned_at) / 10)
            seconds = min(seconds, (expires_at - now) * (0.75 - random_fraction() / 4))
        found = AccessToken(bearer.access_token.reveal(), bearer.expires_at, bearer.base_url, bearer.organization_name)
        return cls(found, number, now, min(now + seconds, usable_until), usable_until)

    def is_fresh(self, now: float) -> bool:
        """False once it is to be read again; also before *read_at*, since then the clock was ahead at that time."""
        return self.read_at <= now < self.refresh_after

    def with_new_refresh_time(self, now: float) -> CachedToken:
        """The same token for a child process: its siblings hold it too, so each draws when to read it again."""
        seconds = max(0.0, self.refresh_after - now) * random_fraction()
        refresh_after = min(self.refresh_after, now + seconds)
        return CachedToken(self.access_token, self.number, self.read_at, refresh_after, self.usable_until)


def no_token(number: float = 0) -> CachedToken:
    """No token; those of reads up to *number* come too late."""
    return CachedToken(AccessToken(""), number, float("inf"), float("-inf"), float("-inf"))


class Failure(NamedTuple):
    """Why a read brought no token, and from when until when no other read is made for it.

    Not the exception itself: that would keep its frames, and each caller needs one of its own.
    """

    kind: type[VirtuousTokenError]
    text: str
    failures: int = 1
    since: float = 0.0
    until: float = 0.0

    def lasts(self, now: float) -> bool:
        """Both ends failures: a clock that was set back does not make the pause longer than it was meant to be."""
        return self.since <= now < self.until

    def with_pause(self, before: Failure | None, now: float, usable_until: float, max_age_seconds: float) -> Failure:
        """The same with its pause: longer if there was one *before*, shorter near the end of the token in hand."""
        failures = before.failures + 1 if before is not None else 1
        seconds_left = usable_until - now
        if seconds_left <= 0:
            pause = min(LONGEST_PAUSE_WITHOUT_A_TOKEN_SECONDS, 2.0 ** min(failures - 1, 10))
        else:
            pause = min(max_age_seconds, FIRST_PAUSE_SECONDS * 4 ** min(failures - 1, 10), seconds_left / 4)
        return self._replace(failures=failures, since=now, until=now + pause * (0.75 + random_fraction() / 2))
