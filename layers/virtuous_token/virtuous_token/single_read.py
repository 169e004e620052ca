"""One read at a time, for all threads, event loops and signal handlers of a process.

A read runs in a thread of its own, which nobody waits for longer than the reader's bound. So what happens to one caller
(an interrupt, a time limit, a cancelled task) touches neither the read nor those who wait for it too.

    caller 1   token() ── starts the read ── waits ──────────────┐
    caller 2        token() ── joins it ──── waits ── Ctrl-C     │
    thread          └─ imports, credentials, GetSecretValue ─────┴─ the token, or why there is none
"""

from __future__ import annotations

import os
import sys
import threading
from _collections_abc import Callable  # as in collections.abc, without the rest of collections

from . import forks
from .errors import NotConfigured, Unreachable, VirtuousTokenError
from .held_token import NOTHING, HeldToken
from .pending_read import Failure, PendingRead

TYPE_CHECKING = False  # as in held_token.py
if TYPE_CHECKING:
    from _collections_abc import Callable
    from typing import Any

    from .secrets_manager import Connection

__all__ = ["SECRET_VARIABLE", "SingleRead"]

SECRET_VARIABLE = "VIRTUOUS_BEARER_SECRET"


class SingleRead(forks.Forkable):
    """The token in hand, the read under way, and why the last one failed. :class:`.TokenReader` is its face."""

    __slots__ = (
        "_clock",
        "_connection",
        "_cool_down_seconds",
        "_failure",
        "_found_id",
        "_given_client",
        "_held",
        "_is_closed",
        "_lock",
        "_max_age_seconds",
        "_reads",
        "_refused",
        "_secret_id",
        "_timeout_seconds",
    )

    def __init__(
        self,
        secret_id: str | None,
        client: object,
        max_age_seconds: float,
        cool_down_seconds: float,
        timeout_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._secret_id = secret_id
        self._given_client: Any = client
        self._max_age_seconds = max_age_seconds
        self._cool_down_seconds = cool_down_seconds
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._held = NOTHING
        # Reentrant: a finalizer may run, and use this reader, while its own thread holds the lock.
        self._lock = threading.RLock()
        self._pending: PendingRead | None = None
        self._reads = 0
        self._failure: Failure | None = None
        self._refused = ("", float("-inf"))
        self._connection: Connection | None = None
        self._found_id: str | None = None
        self._is_closed = False
        forks.watch(self)

    def _is_due(self, now: float) -> bool:
        return not self._held.is_fresh(now) and not (self._failure and self._failure.lasts(now))

    def _join_or_start(self, is_due: Callable[[float], bool]) -> PendingRead | None:
        """The read under way, else a new one if *is_due* says so; None if it does not, or the reader is closed."""
        while True:
            with self._lock:
                now = self._clock()  # in here, or another thread's result could be from a later instant than this one
                pending = self._pending
                if pending is None:
                    return None if self._is_closed or not is_due(now) else self._start(now)
                # A clock may have been set back, or the process frozen: the bound has passed if either clock says so.
                seconds = now - pending.began_at
                if seconds < self._timeout_seconds and pending.seconds_left():
                    return pending
            # If that is seen long afterwards, the process was frozen: no fault of AWS's, and no reason for a pause.
            was_frozen = seconds >= 2 * self._timeout_seconds
            self._finish(pending, None if was_frozen else overdue(self._timeout_seconds))

    def _start(self, now: float) -> PendingRead:
        self._reads += 1
        pending = PendingRead(self._reads, now, self._timeout_seconds)
        # A daemon, so that a process may end in the middle of a read. It ends by itself when the read has ended.
        thread = threading.Thread(target=self._work, args=(pending,), name="virtuous-token-read", daemon=True)
        if not sys.is_finalizing():
            try:
                thread.start()
                pending.has_thread = True
            except Exception:  # noqa: BLE001, S110 - RuntimeError or MemoryError: the system gives no more threads
                pass
        # Others see it only now: an interrupt before this line leaves nobody waiting for a read that nobody makes.
        self._pending = pending
        return pending

    def _work(self, pending: PendingRead) -> None:
        """The thread of a read."""
        if pending.claim():
            try:
                outcome = self._outcome(pending)
            except BaseException as error:  # noqa: BLE001 - there is nobody above to take it
                outcome = _unexpected(error)
            self._finish(pending, outcome)

    def _outcome(self, pending: PendingRead) -> HeldToken | Failure:
        try:
            return self._read(pending)
        except VirtuousTokenError as error:
            return Failure(type(error), str(error))
        except Exception as error:  # noqa: BLE001 - every exception of others becomes one of ours
            return _unexpected(error)

    def _read(self, pending: PendingRead) -> HeldToken:
        with forks.imports_of_a_read:
            from .bearer_secret import bearer_in, connection_to, expired, hold

        secret_id = self._secret_id or self._found_id or os.environ.get(SECRET_VARIABLE, "").strip()
        if not secret_id:
            raise NotConfigured(f"name the bearer secret, as TokenReader's argument or in {SECRET_VARIABLE}")
        connection = self._connection or connection_to(secret_id, self._given_client)
        self._found_id, self._connection = secret_id, connection
        bearer = bearer_in(secret_id, connection)
        held = hold(bearer, pending.number, pending.began_at, self._max_age_seconds, is_first=self._held is NOTHING)
        if self._clock() >= held.usable_until:
            raise expired(bearer, secret_id)
        return held

    def _finish(self, pending: PendingRead, outcome: HeldToken | Failure | None) -> None:
        """Stores what the read ended in and wakes whoever waits. The first outcome counts, but a token that comes late
        is taken all the same."""
        failure = None
        with self._lock:
            if self._pending is pending:
                self._pending = None
            # A read that was frozen for an hour must not replace what a later one brought.
            if pending.number > self._held.number and not self._is_closed:
                if isinstance(outcome, HeldToken):
                    self._held, self._failure = outcome, None
                elif outcome is not None and not pending.is_done:
                    usable_until = self._held.usable_until
                    failure = outcome.spaced(self._failure, self._clock(), usable_until, self._max_age_seconds)
                    self._failure = failure
                    # The next read begins with other credentials, where they were the reason, and another socket.
                    self._connection = None
            pending.settle(outcome)
        pending.wake_all()
        if failure is not None and failure.since < self._held.usable_until:
            _warn_of(failure)  # the token in hand works, so no caller hears of it

    def _close(self, failure: Failure) -> None:
        with self._lock:
            self._is_closed, self._held, self._failure = True, NOTHING, failure
            connection, self._connection = self._connection, None
            pending, self._pending = self._pending, None
            if pending is not None:
                pending.settle(failure)
        if pending is not None:
            pending.wake_all()
        if connection is not None and self._given_client is None:
            connection.close()

    def _after_fork_in_child(self) -> None:
        """The parent's threads are not here to let go of the lock or to finish their read, and two processes that use
        one TLS connection garble it."""
        self._lock = threading.RLock()
        self._failure = self._connection = None
        self._held = self._held.redrawn(self._clock())
        pending, self._pending = self._pending, None
        if pending is not None:  # a thread that waited for it forked, in a signal handler
            pending.settle(None)
            pending.wake_all()


def overdue(timeout_seconds: float) -> Failure:
    return Failure(
        Unreachable,
        f"the token was not read within {timeout_seconds:g} s (timeout_seconds): name resolution, AWS's credentials or "
        "Secrets Manager did not answer; later calls try again",
    )


def no_thread() -> Failure:
    return Failure(Unreachable, "no thread could be started to read the token; later calls try again")


def _unexpected(error: BaseException) -> Failure:
    """Its text is left out: nobody knows what it quotes."""
    return Failure(Unreachable, f"reading the token ended in an unexpected {type(error).__name__}{_place_of(error)}")


def _place_of(error: BaseException) -> str:
    step, last = error.__traceback__, None
    while step is not None:
        last, step = step, step.tb_next
    return f" at {last.tb_frame.f_globals.get('__name__', '?')}:{last.tb_lineno}" if last else ""


def _warn_of(failure: Failure) -> None:
    with forks.imports_of_a_read:
        from logging import getLogger  # here: importing it takes as long as the rest of the package

    getLogger("virtuous_token").warning("the token could not be read again: %s", failure.text)
