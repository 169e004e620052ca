"""Many connections in one invocation."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from token_refresher.refresh import OutcomeWord, Result
from token_refresher.sweep import FAILED, WORKERS, sweep

SECONDS = 10  # longer than any of these takes; a thread that waits in vain ends the test


def _fresh(connection: str) -> Result:
    return Result(connection, OutcomeWord.FRESH)


def test_no_connections_give_no_results() -> None:
    assert sweep([], _fresh) == []


def test_results_come_in_the_order_asked_for_whoever_is_done_first() -> None:
    second_is_done = threading.Event()

    def refresh(connection: str) -> Result:
        if connection == "first":
            assert second_is_done.wait(SECONDS)
        else:
            second_is_done.set()
        return _fresh(connection)

    assert [result.connection for result in sweep(["first", "second"], refresh)] == ["first", "second"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(lambda: KeyError("access-1"), id="a missing key"),
        pytest.param(lambda: RuntimeError("refresh-1"), id="any error"),
        pytest.param(lambda: MemoryError(), id="no memory"),
        pytest.param(lambda: RecursionError(), id="too deep"),
    ],
)
def test_a_defect_in_one_connection_leaves_the_others_alone(error: Callable[[], Exception]) -> None:
    def refresh(connection: str) -> Result:
        if connection == "broken":
            raise error()
        return _fresh(connection)

    before, broken, after = sweep(["before", "broken", "after"], refresh)

    assert (before, after) == (_fresh("before"), _fresh("after"))
    assert broken.connection == "broken"
    assert broken.outcome in FAILED


def test_a_defect_tells_its_type_and_never_its_text() -> None:
    def refresh(connection: str) -> Result:
        raise ValueError("refresh-1")

    (result,) = sweep(["broken"], refresh)

    assert "ValueError" in result.reason
    assert "refresh-1" not in repr(result)


def test_as_many_connections_run_at_once_as_there_are_workers() -> None:
    all_there = threading.Barrier(WORKERS)

    def refresh(connection: str) -> Result:
        all_there.wait(SECONDS)
        return _fresh(connection)

    results = sweep([str(number) for number in range(WORKERS)], refresh)

    assert {result.outcome for result in results} == {OutcomeWord.FRESH}


def test_never_more_connections_run_at_once_than_there_are_workers() -> None:
    lock, running, most = threading.Lock(), 0, 0
    all_there = threading.Barrier(WORKERS)

    def refresh(connection: str) -> Result:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        all_there.wait(SECONDS)  # so that every worker is seen
        with lock:
            running -= 1
        return _fresh(connection)

    results = sweep([str(number) for number in range(5 * WORKERS)], refresh)

    assert {result.outcome for result in results} == {OutcomeWord.FRESH}
    assert most == WORKERS


def test_no_thread_outlives_the_sweep() -> None:
    names: set[str] = set()

    def refresh(connection: str) -> Result:
        names.add(threading.current_thread().name)
        return _fresh(connection)

    sweep(["one", "two"], refresh)

    assert names
    assert not names & {thread.name for thread in threading.enumerate()}


def test_what_makes_an_invocation_fail() -> None:
    assert {OutcomeWord.TRY_AGAIN, OutcomeWord.UNPROVEN, OutcomeWord.MISCONFIGURED} == FAILED
