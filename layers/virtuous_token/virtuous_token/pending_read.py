"""A read of the secret that is under way, and what it ends in.

It uses no lock of its own: a signal handler, a finalizer or a fork may interrupt any of its steps, in the thread that
makes the read or in one that waits, and nobody is left waiting for a lock that the interrupted step holds.
"""

from __future__ import annotations

import threading
import time
from _collections_abc import Callable  # as in collections.abc, without the rest of collections

from . import held_token
from .errors import VirtuousTokenError
from .held_token import HeldToken

__all__ = ["Failure", "PendingRead"]


# While the held token works the pauses are long: a quarter of an hour, then the maximum age, so that an outage costs
# few calls. While callers go without a token the pauses are 1, 2, 4 seconds and so on, up to a minute.
FIRST_PAUSE_SECONDS = 900.0
FIRST_PAUSE_WITHOUT_A_TOKEN_SECONDS = 1.0


class Failure:
    """Why a read brought no token, and from when until when no other read is made for it.

    Not the exception itself: that would keep its frames, and each caller needs one of its own.
    """

    __slots__ = ("count", "kind", "since", "text", "until")

    def __init__(
        self, kind: type[VirtuousTokenError], text: str, count: int = 1, since: float = 0.0, until: float = 0.0
    ) -> None:
        self.kind = kind
        self.text = text
        self.count = count
        self.since = since
        self.until = until

    def lasts(self, now: float) -> bool:
        """Both ends count: a clock that was set back does not make the pause longer than it was meant to be."""
        return self.since <= now < self.until

    def spaced(self, before: Failure | None, now: float, usable_until: float, max_age_seconds: float) -> Failure:
        """The same with its pause: longer if there was one *before*, shorter near the end of the token in hand."""
        count = before.count + 1 if before is not None else 1
        seconds_left = usable_until - now
        if seconds_left <= 0:
            pause = min(60.0, FIRST_PAUSE_WITHOUT_A_TOKEN_SECONDS * 2 ** min(count - 1, 10))
        else:
            pause = min(max_age_seconds, FIRST_PAUSE_SECONDS * 4 ** min(count - 1, 10), seconds_left / 4)
        return Failure(self.kind, self.text, count, now, now + pause * (0.75 + held_token.random_fraction() / 2))

    def error(self) -> VirtuousTokenError:
        """A new exception to raise."""
        return self.kind(self.text)


class PendingRead:
    """One read, for any number of callers that wait for it.

    ``outcome`` counts once ``is_done`` is true. It is None where the read was given up without an outcome (its process
    was forked, or the caller that made it was interrupted): whoever waited may begin another.
    """

    __slots__ = (
        "_deadline",
        "_unclaimed",
        "_waiters",
        "began_at",
        "has_thread",
        "is_done",
        "number",
        "outcome",
        "worker",
    )

    def __init__(self, number: int, began_at: float, timeout_seconds: float) -> None:
        self.number = number
        self.began_at = began_at
        self.outcome: HeldToken | Failure | None = None
        self.is_done = False
        self.has_thread = False
        self.worker = 0
        self._deadline = time.monotonic() + timeout_seconds
        self._unclaimed = [True]
        self._waiters: list[Callable[[], object]] = []

    def claim(self) -> bool:
        """True for the first thread that asks: it makes the read."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        self.worker = threading.get_ident()
        return True

    def seconds_left(self) -> float:
        """Until the read is given up, 0 or more."""
        return max(0.0, self._deadline - time.monotonic())

    def wait(self, seconds: float) -> None:
        """Returns once the read is done, at the latest after *seconds* or when it is to be given up."""
        arrived = threading.Lock()
        arrived.acquire()
        leave = self.add_callback(arrived.release)
        try:
            arrived.acquire(timeout=max(0.0, min(seconds, self.seconds_left())))
        finally:
            leave()

    def add_callback(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Has *wake* called once when the read is done, at once if it is. Returns what takes that back."""
        self._waiters.append(wake)
        if self.is_done:
            self.wake_all()

        def leave() -> None:
            if wake in self._waiters:
                try:
                    self._waiters.remove(wake)
                except ValueError:  # another thread took it a moment ago
                    return

        return leave

    def settle(self, outcome: HeldToken | Failure | None) -> None:
        """The first outcome stays. Call :meth:`wake_all` afterwards."""
        if not self.is_done:
            self.outcome = outcome
            self.is_done = True

    def wake_all(self) -> None:
        """Wakes whoever waits. Several threads may do that at once."""
        while self._waiters:
            try:
                wake = self._waiters.pop()
            except IndexError:
                return
            wake()
