"""How callers come to a token: in a thread, or on asyncio and trio, where the waiting itself takes no thread.

A *step* looks whether there is what its caller wants, and else gives a read to wait for; :func:`until` and
:func:`async_until` wait for that and call the step again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ._cached_token import CachedToken, Failure
from ._shared_read import Read, SharedRead
from .errors import Unreachable

T = TypeVar("T")


def usable_in_hand(shared: SharedRead, *, may_make: bool) -> CachedToken | None:
    """The token in hand if it works, its renewal begun where that is due. None where a caller has to wait."""
    cached, now = shared.cached, shared.clock()
    if now < cached.usable_until and not cached.is_fresh(now):
        renew(shared, may_make=may_make)
    return cached if now < cached.usable_until else None


def renew(shared: SharedRead, *, may_make: bool) -> None:
    """Begins a read that nobody waits for. Where no thread can be had this one makes it, if it *may*."""
    read = shared.joined(shared.is_due)
    if read is not None:
        shared.hand_over(read, or_make=may_make)


def usable_token(shared: SharedRead, timeout: float | None, last: Read | None, *, may_make: bool) -> CachedToken | Read:
    """A token, or the read to wait for. Raises what the *last* read ended in."""
    while (found := usable_in_hand(shared, may_make=may_make)) is None:
        if last is not None and not last.is_done:
            within = "this call is within it" if timeout is None else f"it was not there within {timeout:g} s (timeout)"
            raise Unreachable(f"the token is being read, and {within}; the read goes on")
        failure = shared.failure if last is None else last.outcome
        if isinstance(failure, Failure) and (last or failure.lasts(shared.clock())):
            raise failure.kind(failure.text)
        read, last = shared.joined(shared.is_due), None
        if read is not None:
            return read
    return found


def another_token(
    shared: SharedRead, token: str, cool_down_seconds: float, began: int, last: Read | None
) -> bool | Read:
    """Whether there is another token than *token*, which was refused; or a read to wait for: the one under way, which
    may have begun before that (*began* is how many had), then one that began after it."""

    def is_there() -> bool:
        return shared.cached.token != token and shared.clock() < shared.cached.usable_until

    def is_due(now: float) -> bool:
        """At once, then once in a cool-down as long as it is this token that the secret holds."""
        refused, at = shared.refused
        if refused == token and at <= now < at + cool_down_seconds:
            return False
        shared.refused = token, now
        return True

    is_early = last is None or (last.is_done and last.number <= began and not isinstance(last.outcome, Failure))
    read = shared.joined(is_due) if is_early and not is_there() else None
    return is_there() if read is None else read


def until(shared: SharedRead, step: Callable[[Read | None], T | Read], timeout: float | None) -> T:
    """What *step* gives at last. The reads that it gives are made here, unless another thread makes them. With a
    *timeout* in seconds, which bounds all waits together, a thread of its own does: a read ends when AWS lets it."""
    seconds = _seconds_left(timeout)
    found = step(None)
    while isinstance(found, Read):
        read = shared.within(found) if found.is_made_here else found
        if not read.is_made_here:
            if timeout is None or read is not found:
                shared.make(read)
            else:
                shared.hand_over(read, or_make=True)
            read.wait(seconds(read))
            shared.is_under_way(read)
        found = step(read)
    return found


async def async_until(shared: SharedRead, step: Callable[[Read | None], T | Read], timeout: float | None) -> T:
    """As :func:`until`, with every read in a thread of its own."""
    seconds = _seconds_left(timeout)
    found = step(None)
    while isinstance(found, Read):
        shared.hand_over(found, or_make=False)
        await wait_until_called(found.on_end, seconds(found))
        shared.is_under_way(found)
        found = step(found)
    return found


def _seconds_left(timeout: float | None) -> Callable[[Read], float]:
    end = float("inf") if timeout is None else time.monotonic() + timeout
    return lambda read: max(0.0, min(read.seconds_left(), end - time.monotonic()))


async def wait_until_called(register: Callable[[Callable[[], None]], object], seconds: float) -> None:
    """Calls *register* with a function, and returns once any thread has called that, at the latest after *seconds*.

    A cancelled wait ends at once. The function may be called more than once, and after the event loop has ended.
    """
    await (_on_trio if _is_on_trio() else _on_asyncio)(register, seconds)


def _is_on_trio() -> bool:
    with suppress(KeyError, RuntimeError):  # nobody imported it, or no task of its is running
        sys.modules["trio"].lowlevel.current_task()
        return True
    return False


async def _on_trio(register: Callable[[Callable[[], None]], object], seconds: float) -> None:
    trio = sys.modules["trio"]
    loop, event = trio.lowlevel.current_trio_token(), trio.Event()

    def wake() -> None:
        with suppress(trio.RunFinishedError):
            loop.run_sync_soon(event.set)

    register(wake)
    with trio.move_on_after(seconds):
        await event.wait()


async def _on_asyncio(register: Callable[[Callable[[], None]], object], seconds: float) -> None:
    import asyncio

    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(event.set)

    register(wake)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
