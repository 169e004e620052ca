"""Forks at any instant: what a fork must not split, and the readers that a child process has to set right.

An import that another thread is making would stay half made in the child, its lock held by nobody. So a fork waits for
imports and for the making of a client, which take a second or so. For a read of the network it waits a moment only,
since that may hang: the child drops the read and makes one of its own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from _weakref import ref  # as in weakref, without the rest of it, which takes as long to import as this package

from .pending_read import PendingRead

__all__ = ["Forkable", "imports_of_a_caller", "imports_of_a_read", "watch"]

SECONDS_FOR_IMPORTS = 10.0
SECONDS_FOR_READS = 0.5


class Forkable:
    """A reader, as a fork sees it."""

    __slots__ = ("__weakref__", "_pending")

    _pending: PendingRead | None

    def _after_fork_in_child(self) -> None:
        """Puts right what the child cannot share with its parent."""
        raise NotImplementedError


class _Unsplittable:
    """A block that no fork falls into, unless it takes longer than a fork waits. One thread at a time is in it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a thread may fork in its own block, from a signal handler
        self._forks: list[bool] = []

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        self._forks.append(self._lock.acquire(timeout=SECONDS_FOR_IMPORTS))

    def after_fork(self, *, in_child: bool) -> None:
        if self._forks.pop():
            self._lock.release()
        elif in_child:
            self._lock = threading.RLock()


_readers: dict[int, ref[Forkable]] = {}
# Two, so that an event loop which imports a small module does not wait for another thread's import of botocore.
imports_of_a_read = _Unsplittable()
imports_of_a_caller = _Unsplittable()


def watch(reader: Forkable) -> None:
    """From now on forks look after *reader*."""
    key = id(reader)
    _readers[key] = ref(reader, lambda _: _readers.pop(key, None))


def _watched() -> list[Forkable]:
    """A copy that is made in one step, whatever other threads do meanwhile."""
    return [reader for reference in list(_readers.values()) if (reader := reference()) is not None]


def _before_fork() -> None:
    had_logging, was_held = _has_logging(), _let_go_of_logging()
    imports_of_a_caller.before_fork()
    imports_of_a_read.before_fork()
    if was_held or (not had_logging and _has_logging()):
        sys.modules["logging"]._lock.acquire()  # noqa: SLF001
    until = time.monotonic() + SECONDS_FOR_READS
    for reader in _watched():
        pending = reader._pending  # noqa: SLF001 - of this package
        if pending is not None and pending.has_thread and pending.worker != threading.get_ident():
            pending.wait(max(0.0, until - time.monotonic()))


def _has_logging() -> bool:
    """True once all of it is imported."""
    return hasattr(sys.modules.get("logging"), "captureWarnings")


def _let_go_of_logging() -> bool:
    """True if logging held its lock for this fork, and holds it no longer.

    Where logging was imported after this module its preparation comes first, and the imports that a fork waits for make
    loggers. Where it is imported while a fork waits its preparation is left out, but not what follows the fork. So
    :func:`_before_fork` takes the lock after it has waited, as logging does in each Python.
    """
    try:
        sys.modules["logging"]._lock.release()  # noqa: SLF001
    except (AttributeError, KeyError, RuntimeError):
        return False
    return True


def _after_fork_in_parent() -> None:
    imports_of_a_read.after_fork(in_child=False)
    imports_of_a_caller.after_fork(in_child=False)


def _after_fork_in_child() -> None:
    imports_of_a_read.after_fork(in_child=True)
    imports_of_a_caller.after_fork(in_child=True)
    for reader in _watched():
        reader._after_fork_in_child()  # noqa: SLF001 - of this package


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
