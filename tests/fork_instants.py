"""Forks at 25 instants of a cold first read: ``python -m tests.fork_instants`` tells how many children have a token.

Each instant has a process of its own, in which one thread makes the first read with a real botocore client while the
main thread forks. The instants are counted in imports, which make up most of a cold read, so they fall alike on every
machine.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from multiprocessing import get_context

from virtuous_token import bearer_token

INSTANTS = 25
TOGETHER = 3  # processes at a time: those that hang take their whole time limit


class Imports:
    """Counts the imports that other threads than the main one begin; sets *reached* at the given one."""

    def __init__(self, instant: int) -> None:
        self.instant = instant
        self.count = 0
        self.reached = threading.Event()

    def find_spec(self, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.count += 1
            if self.count == self.instant:
                self.reached.set()


def attempt(instant: int, seconds: int) -> tuple[bool, int]:
    """In a process that has read nothing yet. Whether a child that is forked at *instant* gets the token in time, and
    how many imports the whole read makes."""
    imports = Imports(instant)
    sys.meta_path.insert(0, imports)

    def first() -> None:
        bearer_token()
        imports.reached.set()

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    imports.reached.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            os._exit(0 if bearer_token() else 3)
        finally:
            os._exit(4)
    served = os.waitpid(child, 0)[1] == 0
    thread.join(60)
    return served, imports.count


def main() -> None:
    warnings.simplefilter("ignore")  # Python 3.12 and later warn of a fork beside threads, which is what is tried here
    with get_context("fork").Pool(TOGETHER, maxtasksperchild=1) as pool:
        began = time.monotonic()
        _, imports = pool.apply(attempt, (-1, 60))
        # One that hangs never ends; on a busy machine one that does not takes its time.
        seconds = max(30, int(2 * TOGETHER * (time.monotonic() - began)))
        instants = [1 + imports * step // INSTANTS for step in range(INSTANTS)]
        results = pool.starmap(attempt, [(instant, seconds) for instant in instants], chunksize=1)
    print(sum(served for served, _ in results))


if __name__ == "__main__":
    main()
