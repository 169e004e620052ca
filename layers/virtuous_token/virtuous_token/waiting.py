"""Callers that wait for the read under way, in threads and in tasks, and what each of them gets."""

from __future__ import annotations

import sys
import time
from _collections_abc import Callable, Iterator  # as in collections.abc, without the rest of collections

from . import forks
from .errors import Unreachable
from .held_token import HeldToken
from .pending_read import Failure, PendingRead
from .single_read import SingleRead, no_thread, overdue

TYPE_CHECKING = False  # as in held_token.py
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["WaitingCallers", "is_in_use_here"]


class WaitingCallers(SingleRead):
    """Whoever waits for a read gets what it brings, good or bad, and does not begin the next one in turn."""

    __slots__ = ()

    def _usable(self) -> HeldToken | None:
        """The token in hand if it works, its renewal begun where that is due. None where a caller has to wait."""
        held, now = self._held, self._clock()
        if now >= held.usable_until:
            return None
        if not held.is_fresh(now) and not is_in_use_here(self):
            self._renew()
        return held

    def _renew(self) -> None:
        """Begins a read that nobody waits for."""
        pending = self._join_or_start(self._is_due)
        if pending is not None and not pending.has_thread:
            self._finish(pending, no_thread())

    def _awaited(self, timeout: float | None) -> HeldToken:
        """What one read brings, begun here or by another caller. Raises what the read ended in."""
        if is_in_use_here(self):
            raise Unreachable("the token is being read, and this signal handler or finalizer interrupts its own reader")
        until = time.monotonic() + (self._timeout_seconds if timeout is None else max(0.0, timeout))
        while True:
            pending = self._join_or_start(self._is_due)
            if pending is not None:
                self._wait(pending, until - time.monotonic())
                if not pending.is_done and time.monotonic() >= until:
                    raise Unreachable(f"the token was not there within {timeout} s (timeout); its read goes on")
            held = self._result(pending)
            if held is not None:
                return held

    async def _async_awaited(self) -> HeldToken:
        """As :meth:`_awaited`, in a task."""
        while True:
            pending = self._join_or_start(self._is_due)
            if pending is not None:
                await self._async_wait(pending)
            held = self._result(pending)
            if held is not None:
                return held

    def _read_here(self, pending: PendingRead) -> None:
        """Where no thread can be had: the read in the caller's. If that is interrupted, others begin another read."""
        if pending.claim():
            outcome = None
            try:
                outcome = self._outcome(pending)
            finally:
                self._finish(pending, outcome)

    def _wait(self, pending: PendingRead, seconds: float) -> None:
        if not pending.has_thread:
            self._read_here(pending)
        pending.wait(seconds)
        self._give_up_if_overdue(pending)

    def _give_up_if_overdue(self, pending: PendingRead) -> None:
        if not pending.is_done and not pending.seconds_left():
            self._finish(pending, overdue(self._timeout_seconds))

    async def _async_wait(self, pending: PendingRead) -> None:
        if not pending.has_thread:
            self._finish(pending, no_thread())
        with forks.imports_of_a_caller:
            from .async_wait import wait_until_called
        await wait_until_called(pending.add_callback, pending.seconds_left())
        self._give_up_if_overdue(pending)

    def _result(self, pending: PendingRead | None) -> HeldToken | None:
        """The token that *pending* brought, or without one the token in hand. None where another read may begin. Raises
        what the read ended in."""
        if pending is not None and not pending.is_done:
            return None
        outcome = self._usable() if pending is None else pending.outcome
        if isinstance(outcome, HeldToken):
            return outcome
        failure = outcome or self._failure
        if failure is not None and (outcome or self._is_closed or failure.lasts(self._clock())):
            raise failure.error()
        return None

    def _reads_after_a_401(self, token: str) -> Iterator[PendingRead]:
        """The reads to wait for, one after the other, until there is another token than *token*: the one under way,
        which may have begun before the 401, and one that begins after it."""
        began = self._reads
        while True:
            pending = None if self._has_another_than(token) else self._join_or_start(self._is_due_after_a_401(token))
            if pending is None:
                return
            yield pending
            if pending.number > began or isinstance(pending.outcome, Failure) or not pending.is_done:
                return

    def _is_due_after_a_401(self, token: str) -> Callable[[float], bool]:
        """Whether to read the secret because *token* was refused: at once, then once in a cool-down as long as it is
        this token that the secret holds."""

        def is_due(now: float) -> bool:
            refused, at = self._refused
            if refused == token and at <= now < at + self._cool_down_seconds:
                return False
            self._refused = token, now
            return True

        return is_due

    def _has_another_than(self, token: str) -> bool:
        held = self._held
        return held.token != token and self._clock() < held.usable_until


def is_in_use_here(reader: WaitingCallers) -> bool:
    """True in a signal handler or a finalizer that interrupts the reader's own work in this thread: to wait there
    would be to wait for itself. The stack tells it for certain; a note of it could be left over by an interrupt."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect's import takes too long
    while frame is not None:
        if frame.f_code in _WORK and frame.f_locals.get("self") is reader:
            return True
        frame = frame.f_back
    return False


_WORK = {
    method.__code__
    for method in (
        SingleRead._join_or_start,  # noqa: SLF001
        SingleRead._work,  # noqa: SLF001
        WaitingCallers._read_here,  # noqa: SLF001
        WaitingCallers._wait,  # noqa: SLF001
        SingleRead._finish,  # noqa: SLF001
        SingleRead._close,  # noqa: SLF001
    )
}
