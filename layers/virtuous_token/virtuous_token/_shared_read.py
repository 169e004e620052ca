"""What the callers of one reader share: the token in hand, and the one read that is under way.

caller 1    token() ── makes the read itself: credentials, GetSecretValue ──┐  the token,
caller 2         token() ── waits, at most as long as the reader's bound ───┤  or why there
a renewal        a thread of its own makes the read, and nobody waits ──────┘  is none
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from ._cached_token import CachedToken, Failure, no_token
from .errors import NotConfigured, Unreachable

SECONDS_THAT_A_FORK_WAITS = 10.0
CLOSED = Failure(NotConfigured, "this reader was closed: make another one", 1, float("-inf"), float("inf"))

imports = threading.RLock()
"""Held by whoever imports botocore or makes a client: an import that a fork cuts in two never ends in the child."""


class Read:
    """One read of the secret, and whoever waits for it.

    ``outcome`` counts once ``is_done`` is true: None where the read was interrupted, forked away or forgotten. Nothing
    here holds a lock, so that a signal handler, a finalizer or a fork may come between any two steps.
    """

    def __init__(self, number: int, began_at: float, timeout_seconds: float, *, is_nested: bool) -> None:
        self.number = number
        self.began_at = began_at
        self.is_nested = is_nested
        self.maker: threading.Thread | None = None
        self.outcome: CachedToken | Failure | None = None
        self.is_done = False
        self._deadline = time.monotonic() + timeout_seconds
        self._waiters: list[Callable[[], object]] = []

    @property
    def is_made_here(self) -> bool:
        return self.maker is threading.current_thread()

    def seconds_left(self) -> float:
        """Until the read is given up, 0 or more."""
        return max(0.0, self._deadline - time.monotonic())

    def wait(self, seconds: float) -> None:
        """Returns once the read is done, at the latest after *seconds*."""
        arrived = threading.Lock()
        arrived.acquire()
        self.on_end(arrived.release)
        arrived.acquire(timeout=seconds)

    def on_end(self, wake: Callable[[], object]) -> None:
        """Has *wake* called once when the read is done, at once if it is."""
        self._waiters.append(wake)
        if self.is_done:
            self.settle(None)

    def settle(self, outcome: CachedToken | Failure | None) -> None:
        """Ends the read, if it is not done, and wakes whoever waits. Several threads may do that at once."""
        if not self.is_done:
            self.outcome = outcome
            self.is_done = True
        with suppress(IndexError):
            while True:
                self._waiters.pop()()


class Secret(Protocol):
    """What is read: *is_first* says that there was no token before. Without its client the next read makes another."""

    def load(self, read: Read, is_first: bool) -> CachedToken | Failure: ...
    def drop_client(self) -> None: ...


class SharedRead:
    """One lock, one token, one read at a time."""

    def __init__(self, secret: Secret, clock: Callable[[], float], max_age_seconds: float, timeout: float) -> None:
        self.clock = clock
        self.timeout_seconds = timeout
        self.max_age_seconds = max_age_seconds
        self.cached = no_token()
        self.failure: Failure | None = None
        self.reads = 0
        self.refused = ("", float("-inf"))
        self._read: Read | None = None
        self._secret = secret
        # Held for a few steps at a time, never while the network is asked. A handler or finalizer may take it again.
        self._lock = threading.RLock()
        _of_this_process.add(self)

    def is_due(self, now: float) -> bool:
        return not self.cached.is_fresh(now) and not (self.failure and self.failure.lasts(now))

    def joined(self, is_due: Callable[[float], bool]) -> Read | None:
        """The read under way, else a new one if *is_due* says so; None if it does not, or the reader is closed."""
        with self._lock:
            now = self.clock()  # in here, or another thread's result could be from a later instant than this one
            read = self._read
            if read is not None and now - read.began_at >= self.timeout_seconds:
                self.end(read, None)  # the process was frozen: no fault of AWS's, and no reason for a pause
            elif read is not None and self.is_under_way(read):
                return read
            return None if self.failure is CLOSED or not is_due(now) else self._begun(now, is_nested=False)

    def within(self, read: Read) -> Read:
        """Another read for a signal handler, a finalizer or a logging handler that asks in the midst of *read*, which
        its own thread makes: to wait for that would be to wait for itself. There is no third one within that."""
        with self._lock:
            return read if read.is_nested else self._begun(self.clock(), is_nested=True)

    def _begun(self, now: float, *, is_nested: bool) -> Read:
        self.reads += 1
        self._read = Read(self.reads, now, self.timeout_seconds, is_nested=is_nested)
        return self._read

    def is_under_way(self, read: Read) -> bool:
        """False once *read* is done, or its bound is over."""
        if not read.is_done and not read.seconds_left():
            within = f"the token was not read within {self.timeout_seconds:g} s (timeout_seconds)"
            what = "name resolution, AWS's credentials or Secrets Manager did not answer; later calls try again"
            self.end(read, Failure(Unreachable, f"{within}: {what}"))
        return not read.is_done

    def hand_over(self, read: Read, *, or_make: bool) -> None:
        """Has a thread of its own make *read*, unless somebody makes it. Where no thread can be had this one does, if
        it is to *make* it, else the read fails."""
        with self._lock:
            if read.maker is None and not sys.is_finalizing():
                try:
                    # Some interpreters refuse to make a daemon, others to start one. A process may end before a daemon.
                    thread = threading.Thread(target=self.make, args=(read,), name="virtuous-token-read", daemon=True)
                    read.maker = thread
                    thread.start()
                except (RuntimeError, MemoryError):
                    read.maker = None
        if read.maker is None and or_make:
            self.make(read)
        elif read.maker is None:
            self.end(read, Failure(Unreachable, "no thread could be started to read the token; later calls try again"))

    def make(self, read: Read) -> None:
        """Makes *read* in this thread, unless another makes it."""
        outcome = None
        try:
            with self._lock:
                read.maker = read.maker or threading.current_thread()
            if read.is_made_here:
                outcome = self._secret.load(read, not self.cached.token)
        finally:
            if read.is_made_here:
                self.end(read, outcome)

    def end(self, read: Read, outcome: CachedToken | Failure | None) -> None:
        """Stores what *read* ended in and wakes whoever waits. The first outcome counts, but a token that comes late is
        taken all the same, unless a later read brought one."""
        failure: Failure | None = None
        with self._lock:
            if self._read is read:
                self._read = None
            cached, is_newest = self.cached, read.number > self.cached.number
            if is_newest and isinstance(outcome, CachedToken):
                self.cached, self.failure = outcome, None
            elif is_newest and isinstance(outcome, Failure) and not read.is_done:
                failure = outcome.with_pause(self.failure, self.clock(), cached.usable_until, self.max_age_seconds)
                self.failure = failure
                self._secret.drop_client()  # its credentials or its socket may be the reason
        read.settle(outcome)
        if failure is not None and failure.since < cached.usable_until:
            # The token in hand works, so no caller hears of it.
            logging.getLogger("virtuous_token").warning("the token could not be read again: %s", failure.text)

    def reset(self, cached: CachedToken, failure: Failure | None) -> None:
        """Goes on from *cached*, without the read under way and without the client. What was closed stays so."""
        with self._lock:
            self.cached = cached
            self.failure = CLOSED if self.failure is CLOSED else failure
            self.refused = ("", float("-inf"))
            read, self._read = self._read, None
        self._secret.drop_client()
        if read is not None:
            read.settle(failure)

    def after_fork_in_child(self) -> None:
        """The parent's threads are not here to let go of the lock or to finish their read, and two processes that use
        one TLS connection garble it. A thread that waits for a read may have forked, in a signal handler."""
        self._lock = threading.RLock()
        self.reset(self.cached.with_new_refresh_time(self.clock()), None)


_of_this_process: weakref.WeakSet[SharedRead] = weakref.WeakSet()


def _before_fork() -> None:
    imports.acquire(timeout=SECONDS_THAT_A_FORK_WAITS)


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # it was not to be had in time
        imports.release()


def _after_fork_in_child() -> None:
    global imports
    imports = threading.RLock()
    for shared in list(_of_this_process):
        shared.after_fork_in_child()


# After logging's, since the hook that was registered last is called first: a fork waits for imports, and then for
# logging's lock, in the order in which a thread that imports takes them.
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
