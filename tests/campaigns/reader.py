"""The reader beside the two that people use today, in one run: ``python -m tests.campaigns.reader``.

Absolute times move from run to run; the ratios of one run count. Exit 1 where a promise does not hold.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

LAYER = Path(__file__).parents[2] / "layers" / "virtuous_token"
sys.path.insert(0, str(LAYER))

import aws_secretsmanager_caching.cache.items as caching_items  # type: ignore[import-untyped]  # noqa: E402
from aws_lambda_powertools.utilities import parameters  # noqa: E402
from aws_lambda_powertools.utilities.parameters import base as powertools_base  # noqa: E402
from aws_lambda_powertools.utilities.parameters.constants import DEFAULT_PROVIDERS  # noqa: E402
from aws_secretsmanager_caching import SecretCache  # noqa: E402

from tests.fakes.one_bearer import DAY, NAME, join_renewals  # noqa: E402
from tests.fakes.secrets_manager import StrictSecretsManager  # noqa: E402
from tests.fakes.secrets_manager_http import served  # noqa: E402
from tests.fakes.week import Experience, Week, live  # noqa: E402
from virtuous_token import TokenReader  # noqa: E402

OURS, POWERTOOLS, CACHING = "virtuous_token", "Powertools", "caching library"
READERS = (OURS, POWERTOOLS, CACHING)
VERSION_ID = "6b0a1f3c-7d0e-5c56-9d3a-3f0f9c1b7a11"
# All that AWS answers with, since some readers keep and copy it.
ANSWER = {
    "ARN": f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{NAME}-AbCdEf",
    "Name": NAME,
    "VersionId": VERSION_ID,
    "SecretString": json.dumps({"access_token": "a" * 582, "expires_at": "2100-01-01T00:00:00Z"}),
    "VersionStages": ["AWSCURRENT"],
    "CreatedDate": datetime(2026, 11, 25, 10, tzinfo=UTC),
    "ResponseMetadata": {"RequestId": VERSION_ID, "HTTPStatusCode": 200, "HTTPHeaders": {"content-length": "1071"}},
}

# Processes from start to end, each in a fresh interpreter.
FLOOR = "floor"
IMPORTS = {
    FLOOR: "",
    OURS: "import virtuous_token",
    POWERTOOLS: "from aws_lambda_powertools.utilities import parameters",
    CACHING: "import aws_secretsmanager_caching",
}
FIRST_TOKENS = {
    FLOOR: "import botocore.session\n"
    "client = botocore.session.get_session().create_client('secretsmanager')\n"
    f"client.get_secret_value(SecretId={NAME!r}, VersionStage='AWSCURRENT')",
    OURS: f"from virtuous_token import TokenReader\nTokenReader({NAME!r}).token()",
    POWERTOOLS: f"{IMPORTS[POWERTOOLS]}\nparameters.get_secret({NAME!r}, transform='json')['access_token']",
    CACHING: "import json\nfrom aws_secretsmanager_caching import SecretCache\n"
    f"json.loads(SecretCache().get_secret_string({NAME!r}))['access_token']",
}


class Client:
    """Answers after a while, as a network would, and counts."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: list[str] = []

    def get_secret_value(self, **_: str) -> Mapping[str, Any]:
        return self._answer("get", ANSWER)

    def describe_secret(self, **_: str) -> Mapping[str, Any]:
        return self._answer("describe", {"VersionIdsToStages": {VERSION_ID: ["AWSCURRENT"]}})

    def _answer(self, call: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        self.calls.append(call)
        time.sleep(self.seconds)
        return copy.deepcopy(answer)


def readers(client: Any, clock: Callable[[], float] = time.time) -> dict[str, Callable[[], str]]:
    """The three, each at its default settings in front of *client*."""
    DEFAULT_PROVIDERS["secrets"] = parameters.SecretsProvider(boto3_client=client)
    cache = SecretCache(client=client)

    def with_powertools() -> str:
        token: str = parameters.get_secret(NAME, transform="json")["access_token"]
        return token

    def with_caching() -> str:
        token: str = json.loads(cache.get_secret_string(NAME))["access_token"]
        return token

    return {
        OURS: TokenReader(NAME, client=client, clock=clock).token,
        POWERTOOLS: with_powertools,
        CACHING: with_caching,
    }


def seconds_in_threads(work: Callable[[], object], threads: int) -> float:
    """What *work* takes, done in so many threads at once."""
    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def nanoseconds(read: Callable[[], str], threads: int, calls: int) -> float:
    """What one cached call takes, all threads counted: the best of seven rounds."""
    work = partial(timeit.timeit, read, number=calls)
    read()
    return min(seconds_in_threads(work, threads) for _ in range(7)) / (threads * calls) * 1e9


def calls_on_a_cold_cache(name: str, threads: int) -> tuple[int, int]:
    """GetSecretValue calls, and all."""
    client = Client(seconds=0.05)
    read, ready = readers(client)[name], threading.Barrier(threads)
    seconds_in_threads(lambda: (ready.wait(), read()), threads)
    return client.calls.count("get"), len(client.calls)


def processes(programs: Mapping[str, str], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each program, *rounds* times by turns, so that what disturbs the machine disturbs all alike. One
    round before those writes the bytecode."""
    strict = StrictSecretsManager(region="eu-west-1")
    bearer = {"SecretString": ANSWER["SecretString"], "ClientRequestToken": VERSION_ID}
    strict.call("CreateSecret", {"Name": NAME, **bearer})
    measured: dict[str, list[float]] = {name: [] for name in programs}
    with served(strict) as endpoint:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(LAYER),
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        for _ in range(1 + rounds):
            for name, program in programs.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", program], env=environment, check=True)  # a timeout would poll
                measured[name].append((time.perf_counter() - began) * 1e3)
    return {name: runs[1:] for name, runs in measured.items()}


def a_week(name: str) -> Experience:
    week = Week(15 * DAY)

    def now(zone: Any = None) -> datetime:
        return datetime.fromtimestamp(week.clock(), UTC if zone else None)

    with (
        mock.patch.object(powertools_base, "datetime", SimpleNamespace(now=now)),
        mock.patch.object(caching_items, "datetime", SimpleNamespace(now=now)),
    ):
        return live(week, readers(week, week.clock)[name], join_renewals)


def row(what: str, cells: Mapping[str, object]) -> None:
    print(f"{what:<52}" + "".join(f"{cells.get(name, '')!s:>18}" for name in (*READERS, FLOOR)), flush=True)


def main() -> int:
    logging.getLogger("virtuous_token").addHandler(logging.NullHandler())
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    row("", {name: name for name in (*READERS, FLOOR)})

    cached = {}
    for threads, calls in ((1, 100_000), (8, 4_000)):
        for name, read in readers(Client()).items():
            cached[name, threads] = nanoseconds(read, threads, calls // (20 if name == CACHING else 1))
        what = f"cached read, {threads} thread{'s' if threads > 1 else ''}, ns a call"
        row(what, {name: f"{cached[name, threads]:,.0f}" for name in READERS})

    cold = {name: calls_on_a_cold_cache(name, 64) for name in READERS}
    row("cold, 64 threads: GetSecretValue of all calls", {name: "{} of {}".format(*cold[name]) for name in READERS})

    imported = processes(IMPORTS, rounds=21)
    over = {
        name: statistics.median(one - base for one, base in zip(runs, imported[FLOOR], strict=True))
        for name, runs in imported.items()
    }
    row("import, ms over a bare interpreter", {name: f"{milliseconds:.1f}" for name, milliseconds in over.items()})
    first = processes(FIRST_TOKENS, rounds=15)
    row("process start to first token, ms", {name: f"{statistics.median(runs):.0f}" for name, runs in first.items()})
    ratio = statistics.median(one / base for one, base in zip(first[OURS], first[FLOOR], strict=True))

    weeks = {name: a_week(name) for name in READERS}
    rows: dict[str, Callable[[Experience], str]] = {
        "a week: calls a day, busiest day": lambda seen: f"{seen.calls_a_day:.1f}, {seen.busiest_day}",
        "a week: callers that wait after the first read": lambda seen: f"{seen.waits:,}",
        "a week: longest wait, s": lambda seen: f"{seen.longest_wait_seconds:.2f}",
        "a week: callers that get an error": lambda seen: f"{seen.errors:,}",
        "a week: callers that get an expired token": lambda seen: f"{seen.expired:,}",
        "a week: slowest to take up a new token, min": lambda seen: f"{seen.slowest_change_seconds / 60:.0f}",
    }
    for what, cell in rows.items():
        row(what, {name: cell(seen) for name, seen in weeks.items()})

    times, gets, seen = cached[POWERTOOLS, 1] / cached[OURS, 1], cold[OURS][0], weeks[OURS]
    ill = seen.expired + seen.errors
    promises = [
        ("at least 25 times faster than Powertools", f"{times:.0f} times", times >= 25),
        ("64 threads on a cold reader make one GetSecretValue", str(gets), gets == 1),
        # The goal is 15. logging alone takes 14 of 22, and must be imported before there can be threads beside a fork.
        ("importing it takes at most 30 ms", f"{over[OURS]:.1f} ms", over[OURS] <= 30),
        ("start to first token takes at most 1.05 times the floor", f"{ratio:.3f}", ratio <= 1.05),
        ("no caller waits after the first read", f"{seen.waits} do", seen.waits == 0),
        ("no caller gets an expired token or an error", f"{ill} do", not ill),
        ("at most 25 calls on any day", f"{seen.busiest_day}", seen.busiest_day <= 25),
    ]
    print()
    for text, found, holds in promises:
        print(f"  {'holds ' if holds else 'BROKEN'}  {text}: {found}", flush=True)
    return 0 if all(holds for *_, holds in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
