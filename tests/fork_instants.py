"""Forks at 25 instants of a cold first read: ``python -m tests.fork_instants READER SECONDS`` tells who has a token.

Each instant has a process of its own, in which one thread makes the first read with a real botocore client while the
main thread forks. The instants are counted in imports, which make up most of a cold read, so they fall alike on every
machine. Prints how many children got the token, of how many; a child has so many SECONDS.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

SECRET = "virtuous/default/bearer"
INSTANTS = 25
TOGETHER = 3  # processes at a time: those that hang take their whole time limit


def ours() -> Callable[[], str]:
    from virtuous_token import TokenReader

    return TokenReader(SECRET).token


def of_the_process() -> Callable[[], str]:
    """The reader is made where the first token is asked for."""
    from virtuous_token import bearer_token

    return bearer_token


def with_powertools() -> str:
    from aws_lambda_powertools.utilities import parameters

    token: str = parameters.get_secret(SECRET, transform="json")["access_token"]
    return token


@cache
def secret_cache() -> Any:
    from aws_secretsmanager_caching import SecretCache  # type: ignore[import-untyped]

    return SecretCache()


@cache
def boto3_client() -> Any:
    import boto3

    return boto3.client("secretsmanager")


def parsed(text: str) -> str:
    token: str = json.loads(text)["access_token"]
    return token


READERS: dict[str, Callable[[], Callable[[], str]]] = {
    "virtuous_token": ours,
    "bearer_token": of_the_process,
    "Powertools": lambda: with_powertools,
    "caching library": lambda: lambda: parsed(secret_cache().get_secret_string(SECRET)),
    "boto3": lambda: lambda: parsed(boto3_client().get_secret_value(SecretId=SECRET)["SecretString"]),
}


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


def attempt(make: Callable[[], Callable[[], str]], instant: int, seconds: int) -> tuple[bool, int]:
    """In a process that has read nothing yet. Whether a child that is forked at *instant* gets the token, and how many
    imports the whole read makes."""
    read, imports = make(), Imports(instant)
    sys.meta_path.insert(0, imports)

    def first() -> None:
        read()
        imports.reached.set()

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    imports.reached.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            os._exit(0 if read() else 3)
        finally:
            os._exit(4)
    served = os.waitpid(child, 0)[1] == 0
    thread.join(60)
    return served, imports.count


def begun(work: Callable[[], tuple[bool, int]]) -> tuple[int, int]:
    """*work* in a forked process, so that what it imports stays there: the process, and where its result is read."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, "{:d} {}".format(*work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def result(child: int, reading: int) -> tuple[bool, int]:
    """What a process that was begun brought."""
    with os.fdopen(reading) as pipe:
        served, count = (pipe.read() or "0 0").split()
    os.waitpid(child, 0)
    return served == "1", int(count)


def main(arguments: Sequence[str]) -> int:
    warnings.simplefilter("ignore")  # Python 3.12 and later warn of a fork beside threads, which is what is tried here
    make, seconds = READERS[arguments[0]], int(arguments[1])
    began = time.monotonic()
    imports = result(*begun(lambda: attempt(make, -1, 60)))[1]
    # One that hangs never ends; on a busy machine one that does not takes its time.
    seconds = max(seconds, int(2 * TOGETHER * (time.monotonic() - began)))
    works = [partial(attempt, make, 1 + imports * step // INSTANTS, seconds) for step in range(INSTANTS)]
    served = 0
    for group in range(0, INSTANTS, TOGETHER):
        served += sum(result(*one)[0] for one in [begun(work) for work in works[group : group + TOGETHER]])
    print(served, INSTANTS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
