"""Many connections, one deadline: each is isolated from the others' failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .refresh import OutcomeWord, Result

__all__ = ["FAILED", "WORKERS", "for_each", "sweep"]

_T = TypeVar("_T")

# A refresh waits for Virtuous most of its time; ten of them stay far below Secrets Manager's 50 writes a second.
WORKERS = 10

# What makes an invocation end in an error, so that Lambda's error count is true.
FAILED = frozenset({OutcomeWord.TRY_AGAIN, OutcomeWord.UNPROVEN, OutcomeWord.MISCONFIGURED})


def for_each(connections: Iterable[str], work: Callable[[str], _T]) -> list[_T]:
    """What *work* gives for each connection, in the order given, a few at a time."""
    with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="refresh") as pool:
        return list(pool.map(work, connections))


def sweep(connections: Iterable[str], refresh: Callable[[str], Result]) -> list[Result]:
    """One result for each connection, in the order given. *refresh* should not raise; if it does, that is a result."""
    return for_each(connections, lambda connection: _isolated(connection, refresh))


def _isolated(connection: str, refresh: Callable[[str], Result]) -> Result:
    try:
        return refresh(connection)
    except Exception as error:  # noqa: BLE001 (a defect in one connection must not stop the others)
        # Only the type: the text of an error that nobody foresaw may hold anything.
        return Result(connection, OutcomeWord.TRY_AGAIN, f"an unforeseen {type(error).__name__}")
