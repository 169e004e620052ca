"""Waiting on asyncio or trio for what happens in another thread; the waiting itself takes no thread."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

__all__ = ["wait_until_called"]


async def wait_until_called(register: Callable[[Callable[[], None]], Callable[[], None]], seconds: float) -> None:
    """Calls *register* with a function, and returns once any thread has called it, or after *seconds*.

    *register* returns what takes the registration back. That is called at the end of the wait, however it ends: a
    cancelled wait ends at once. The function may be called more than once, and after the event loop has ended.
    """
    wake, woken = _on_trio() or _on_asyncio()
    take_back = register(wake)
    try:
        await woken(seconds)
    finally:
        take_back()


def _on_trio() -> tuple[Callable[[], None], Callable[[float], Awaitable[object]]] | None:
    """None where no task of trio's is running."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    loop, event = trio.lowlevel.current_trio_token(), trio.Event()

    def wake() -> None:
        with suppress(trio.RunFinishedError):
            loop.run_sync_soon(event.set)

    async def woken(seconds: float) -> None:
        with trio.move_on_after(seconds):
            await event.wait()

    return wake, woken


def _on_asyncio() -> tuple[Callable[[], None], Callable[[float], Awaitable[object]]]:
    import asyncio

    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(event.set)

    async def woken(seconds: float) -> None:
        timer = loop.call_later(seconds, event.set)
        try:
            await event.wait()
        finally:
            timer.cancel()

    return wake, woken
