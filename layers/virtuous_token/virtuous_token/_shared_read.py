"""What the callers of one reader share: the token in hand, and the one read that is under way.

caller 1    token() ── makes the read itself: credentials, GetSecretValue ──┐  the token,
caller 2         token() ── waits, at most as long as the reader's bound ───┤  or why there
a renewal        a thread of its own makes the read, and nobody waits ──────┘  is none
"""

from __future__ import annotations

import logging  # before this module asks to be told of forks, so that a fork waits for imports before logging's lock
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import Unreachable, VirtuousTokenError
from .token_source import AccessToken

if TYPE_CHECKING:  # its dataclasses take as long to import as all the rest
    from .contract import Bearer

__all__ = ["NOTHING", "CachedToken", "Failure", "Read", "SharedRead", "imports"]

# The request that carries the token must arrive before the token ends, and clocks differ by some seconds.
LAST_SECONDS_UNUSED = 10.0
# A token whose end nobody knows (an API key) may be revoked any day, so failed reads do not prolong it for ever.
UNKNOWN_LIFE_SECONDS = 86_400.0
# While the token in hand works the pauses after failed reads are long: a quarter of an hour, then the maximum age.
# While callers go without a token they are 1, 2, 4 seconds and so on, up to a minute.
FIRST_PAUSE_SECONDS = 900.0
FIRST_PAUSE_WITHOUT_A_TOKEN_SECONDS = 1.0
SECONDS_THAT_A_FORK_WAITS = 10.0

imports = threading.RLock()
"""Held by whoever imports botocore or makes a client: an import that a fork cuts in two never ends in the child."""


def random_fraction() -> float:
    """From 0 to 1. From the system, since a snapshot or a fork copies the state of Python's generator."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


class CachedToken:
    """A token that was read at *read_at*. It never changes: other threads take it as a whole."""

    __slots__ = ("access_token", "authorization", "number", "read_at", "refresh_after", "token", "usable_until")

    def __init__(
        self, access_token: AccessToken, number: int, read_at: float, refresh_after: float, usable_until: float
    ) -> None:
        self.access_token = access_token
        self.token = access_token.token
        self.authorization = f"Bearer {access_token.token}"
        self.number = number
        self.read_at = read_at
        self.refresh_after = refresh_after
        self.usable_until = usable_until

    @classmethod
    def of(cls, bearer: Bearer, read: Read, max_age_seconds: float, *, is_first: bool) -> CachedToken:
        """The token of *bearer*, which *read* brought. *is_first*: the process held none before.

        It is read again after the least of three, each moved at random so that many readers do not come due together:
        the maximum age (the first time anything from its half on, so that processes which began together stay apart);
        soon after the planned refresh; three quarters of the token's remaining life.
        """
        now = read.began_at
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
        return cls(found, read.number, now, min(now + seconds, usable_until), usable_until)

    def is_fresh(self, now: float) -> bool:
        """False once it is to be read again; also before *read_at*, since then the clock was ahead at that time."""
        return self.read_at <= now < self.refresh_after

    def with_new_refresh_time(self, now: float) -> CachedToken:
        """The same token for a child process: its siblings hold it too, so each draws when to read it again."""
        if not self.is_fresh(now):
            return self
        refresh_after = now + (self.refresh_after - now) * random_fraction()
        return CachedToken(self.access_token, self.number, self.read_at, refresh_after, self.usable_until)


def nothing(number: int = 0) -> CachedToken:
    """No token, after read *number*."""
    return CachedToken(AccessToken("", None, None, None), number, float("inf"), float("-inf"), float("-inf"))


NOTHING = nothing()


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
        """Both ends count: a clock that was set back does not make the pause longer than it was meant to be."""
        return self.since <= now < self.until

    def with_pause(self, before: Failure | None, now: float, usable_until: float, max_age_seconds: float) -> Failure:
        """The same with its pause: longer if there was one *before*, shorter near the end of the token in hand."""
        failures = before.failures + 1 if before is not None else 1
        seconds_left = usable_until - now
        if seconds_left <= 0:
            pause = min(60.0, FIRST_PAUSE_WITHOUT_A_TOKEN_SECONDS * 2 ** min(failures - 1, 10))
        else:
            pause = min(max_age_seconds, FIRST_PAUSE_SECONDS * 4 ** min(failures - 1, 10), seconds_left / 4)
        return self._replace(failures=failures, since=now, until=now + pause * (0.75 + random_fraction() / 2))

    def error(self) -> VirtuousTokenError:
        """A new exception to raise."""
        return self.kind(self.text)


Outcome = CachedToken | Failure | None


class Read:
    """One read of the secret, and whoever waits for it.

    ``outcome`` counts once ``is_done`` is true. It is None where whoever made the read was interrupted or forked away:
    then another is begun. Nothing here holds a lock, so that a signal handler, a finalizer or a fork may come between
    any two steps.
    """

    __slots__ = (
        "_deadline",
        "_maker",
        "_waiters",
        "began_at",
        "has_thread",
        "is_done",
        "is_nested",
        "number",
        "outcome",
    )

    def __init__(self, number: int, began_at: float, timeout_seconds: float) -> None:
        self.number = number
        self.began_at = began_at
        self.outcome: Outcome = None
        self.is_done = False
        self.is_nested = False
        self.has_thread = False
        self._maker: dict[str, tuple[int]] = {}
        self._deadline = time.monotonic() + timeout_seconds
        self._waiters: list[Callable[[], object]] = []

    def claim(self, maker: tuple[int]) -> bool:
        """True for the first *maker*, who makes the read. It tells the thread, and is compared by identity."""
        return self._maker.setdefault("maker", maker) is maker

    def is_made_by(self, maker: tuple[int]) -> bool:
        return self._maker.get("maker") is maker

    def is_made_here(self) -> bool:
        """True in the thread that makes the read."""
        return self._maker.get("maker") == (threading.get_ident(),)

    @property
    def is_claimed(self) -> bool:
        return bool(self._maker)

    def seconds_left(self) -> float:
        """Until the read is given up, 0 or more."""
        return max(0.0, self._deadline - time.monotonic())

    def wait(self, seconds: float) -> None:
        """Returns once the read is done, at the latest after *seconds* or when it is to be given up."""
        arrived = threading.Lock()
        arrived.acquire()
        leave = self.on_end(arrived.release)
        try:
            arrived.acquire(timeout=max(0.0, min(seconds, self.seconds_left())))
        finally:
            leave()

    def on_end(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Has *wake* called once when the read is done, at once if it is. Returns what takes that back."""
        self._waiters.append(wake)
        if self.is_done:
            self.wake_all()

        def leave() -> None:
            try:
                self._waiters.remove(wake)
            except ValueError:  # it was called
                return

        return leave

    def settle(self, outcome: Outcome) -> None:
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


class SharedRead:
    """One lock, one token, one read at a time. :class:`.TokenReader` says how a read is made, and is its face."""

    __slots__ = (
        "__weakref__",
        "_cached",
        "_client",
        "_clock",
        "_failure",
        "_is_closed",
        "_lock",
        "_max_age_seconds",
        "_read",
        "_reads",
        "_timeout_seconds",
    )

    def __init__(self, clock: Callable[[], float], max_age_seconds: float, timeout_seconds: float) -> None:
        self._clock = clock
        self._max_age_seconds = max_age_seconds
        self._timeout_seconds = timeout_seconds
        # Held for a few steps at a time, never while the network is asked. A handler or finalizer may take it again.
        self._lock = threading.RLock()
        self._cached = NOTHING
        self._failure: Failure | None = None
        self._read: Read | None = None
        self._reads = 0
        self._client: Any = None
        self._is_closed = False
        _readers.add(self)

    def _load(self, read: Read) -> CachedToken:
        """What the secret holds now. Raises one of our errors."""
        raise NotImplementedError

    def _is_due(self, now: float) -> bool:
        return not self._cached.is_fresh(now) and not (self._failure and self._failure.lasts(now))

    def _joined(self, is_due: Callable[[float], bool]) -> Read | None:
        """The read under way, else a new one if *is_due* says so; None if it does not, or the reader is closed."""
        with self._lock:
            now = self._clock()  # in here, or another thread's result could be from a later instant than this one
            read = self._read
            if read is not None:
                # A clock may have been set back, or the process frozen: the bound is over if either clock says so.
                seconds = now - read.began_at
                if seconds < self._timeout_seconds and read.seconds_left():
                    return read
                # Found long afterwards, the process was frozen: no fault of AWS's, and no reason for a pause.
                self._end(read, None if seconds >= 2 * self._timeout_seconds else self._overdue())
            if self._is_closed or not is_due(now):
                return None
            self._reads += 1
            self._read = Read(self._reads, now, self._timeout_seconds)
            return self._read

    def _hand_over(self, read: Read) -> bool:
        """Sees to it that a thread of its own makes *read*. False where none can be had."""
        with self._lock:
            if read.is_claimed or read.has_thread:
                return True
            try:
                # Some interpreters refuse to make a daemon, others to start one. A daemon, so that a process may end.
                thread = threading.Thread(target=self._make, args=(read,), name="virtuous-token-read", daemon=True)
                if not sys.is_finalizing():
                    read.has_thread = True
                    thread.start()
            except (RuntimeError, MemoryError):
                read.has_thread = False
            return read.has_thread

    def _make(self, read: Read) -> None:
        """Makes *read* in this thread, unless another makes it."""
        maker, outcome = (threading.get_ident(),), None
        try:
            if read.claim(maker):
                outcome = self._outcome(read)
        finally:
            if read.is_made_by(maker):
                self._end(read, outcome)

    def _complete(self, read: Read, timeout: float | None) -> Outcome:
        """What *read* brings: made in this thread, or waited for *timeout* seconds. With a *timeout* another thread
        makes it, since a read ends when AWS lets it end."""
        if read.is_made_here():
            return self._read_within(read)
        if timeout is None or not self._hand_over(read):
            self._make(read)
        read.wait(self._timeout_seconds if timeout is None else timeout)
        return self._after_wait(read, timeout)

    def _after_wait(self, read: Read, timeout: float | None) -> Outcome:
        if not read.is_done and read.seconds_left():
            return Failure(Unreachable, f"the token was not there within {timeout:g} s (timeout); its read goes on")
        if not read.is_done:
            self._end(read, self._overdue())
        return read.outcome

    def _read_within(self, outer: Read) -> Outcome:
        """A signal handler, a finalizer or a logging handler asks in the midst of its own thread's read: to wait for
        that would be to wait for itself. It makes a read of its own, which may not be interrupted so again."""
        if outer.is_nested:
            return Failure(Unreachable, "the token is being read, and this call comes from within its own read")
        with self._lock:
            self._reads += 1
            read = Read(self._reads, self._clock(), self._timeout_seconds)
        outer.is_nested = True
        try:
            outcome = self._outcome(read)
        finally:
            outer.is_nested = False
        self._end(read, outcome)
        return outcome

    def _outcome(self, read: Read) -> CachedToken | Failure:
        try:
            return self._load(read)
        except VirtuousTokenError as error:
            return Failure(type(error), str(error))
        except Exception as error:  # noqa: BLE001 - every exception of others becomes one of ours
            # Its text is left out: nobody knows what it quotes.
            return Failure(Unreachable, f"reading the token ended in an unexpected {type(error).__name__}")

    def _end(self, read: Read, outcome: Outcome) -> None:
        """Stores what *read* ended in and wakes whoever waits. The first outcome counts, but a token that comes late is
        taken all the same."""
        failure = None
        with self._lock:
            if self._read is read:
                self._read = None
            # A read that was frozen for an hour must not replace what a later one brought.
            if read.number > self._cached.number and not self._is_closed:
                if isinstance(outcome, CachedToken):
                    self._cached, self._failure = outcome, None
                elif outcome is not None and not read.is_done:
                    usable_until = self._cached.usable_until
                    failure = outcome.with_pause(self._failure, self._clock(), usable_until, self._max_age_seconds)
                    # The next read begins with other credentials, where they were the reason, and another socket.
                    self._failure, self._client = failure, None
            read.settle(outcome)
        read.wake_all()
        if failure is not None and failure.since < self._cached.usable_until:
            # The token in hand works, so no caller hears of it.
            logging.getLogger("virtuous_token").warning("the token could not be read again: %s", failure.text)

    def _overdue(self) -> Failure:
        return Failure(
            Unreachable,
            f"the token was not read within {self._timeout_seconds:g} s (timeout_seconds): name resolution, AWS's "
            "credentials or Secrets Manager did not answer; later calls try again",
        )

    def _after_fork_in_child(self) -> None:
        """The parent's threads are not here to let go of the lock or to finish their read, and two processes that use
        one TLS connection garble it."""
        self._lock = threading.RLock()
        self._failure = self._client = None
        self._cached = self._cached.with_new_refresh_time(self._clock())
        read, self._read = self._read, None
        if read is not None:  # a thread that waited for it may have forked, in a signal handler
            read.settle(None)
            read.wake_all()


_readers: weakref.WeakSet[SharedRead] = weakref.WeakSet()
_forks: list[bool] = []


def _before_fork() -> None:
    _forks.append(imports.acquire(timeout=SECONDS_THAT_A_FORK_WAITS))


def _after_fork_in_parent() -> None:
    if _forks.pop():
        imports.release()


def _after_fork_in_child() -> None:
    global imports
    if _forks.pop():
        imports.release()
    else:
        imports = threading.RLock()
    for reader in list(_readers):
        reader._after_fork_in_child()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
