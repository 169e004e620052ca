"""Waiting on asyncio and trio for another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import pytest

from virtuous_token.waiting import wait_until_called

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Registry:
    """Keeps what it is asked to call."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def register(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


@on_both
def test_sixty_four_tasks_wait_for_one_thread(backend: str) -> None:
    registry = Registry()
    before = threading.active_count()

    async def story() -> int:
        async with anyio.create_task_group() as group:
            for _ in range(64):
                group.start_soon(wait_until_called, registry.register, 30)
            while len(registry.callbacks) < 64:
                await anyio.sleep(0)
            threads = threading.active_count()

            def call_all() -> None:
                for callback in list(registry.callbacks):
                    callback()

            threading.Thread(target=call_all).start()
        return threads

    assert anyio.run(story, backend=backend) <= before
    assert registry.callbacks == []


@on_both
def test_a_cancelled_wait_ends_at_once_and_takes_its_registration_back(backend: str) -> None:
    registry = Registry()

    async def story() -> bool:
        with anyio.move_on_after(0) as scope:
            await wait_until_called(registry.register, 30)
        return scope.cancelled_caught

    assert anyio.run(story, backend=backend)
    assert registry.callbacks == []


@on_both
def test_what_has_happened_already_is_not_waited_for(backend: str) -> None:
    def register(callback: Callable[[], None]) -> Callable[[], None]:
        callback()
        callback()
        return lambda: None

    anyio.run(wait_until_called, register, 30, backend=backend)


@on_both
def test_a_call_after_the_end_of_the_loop_is_ignored(backend: str) -> None:
    kept: list[Callable[[], None]] = []

    def register(callback: Callable[[], None]) -> Callable[[], None]:
        kept.append(callback)
        callback()
        return lambda: None

    anyio.run(wait_until_called, register, 30, backend=backend)
    kept[0]()
