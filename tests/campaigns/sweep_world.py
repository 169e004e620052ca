"""An account with many connections, Virtuous, and the function in a process of its own, joined by sockets.

The function runs as Lambda runs it, from the environment and through real HTTP. Secrets Manager is the strict one and
throttles at AWS's published rates.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import RequestRates, served
from tests.fakes.virtuous import Virtuous

PREFIX = "virtuous"
LIFE = timedelta(days=15)


class Invocation(NamedTuple):
    """What one invocation gave, and what it took."""

    answer: dict[str, Any]
    seconds: float
    cpu_seconds: float
    peak_mb: float
    log: str


class World:
    """The account, Virtuous, and as many functions as are asked for."""

    def __init__(self, environment: Mapping[str, str], strict: StrictSecretsManager, virtuous: Virtuous) -> None:
        self._environment = environment
        self._strict = strict
        self._virtuous = virtuous
        self._names: list[str] = []

    def log_in(self, count: int, *, age: timedelta) -> None:
        """So many more connections as a login leaves them, whose pairs were issued *age* ago."""
        issued_at = datetime.now(UTC) - age
        numbers = list(range(len(self._names), len(self._names) + count))
        random.Random(7).shuffle(numbers)
        for number in numbers:
            self._store(f"client-{number:05d}", issued_at - timedelta(seconds=number))
        self._strict.settle()  # the past is nobody's to see

    def _store(self, name: str, issued_at: datetime) -> None:
        self._names.append(name)
        issued, version = self._virtuous.issue_pair(), str(uuid.uuid4())
        bearer = {
            "version": 1,
            "access_token": issued["access_token"],
            "issued_at": f"{issued_at:%Y-%m-%dT%H:%M:%SZ}",
            "expires_at": f"{issued_at + LIFE:%Y-%m-%dT%H:%M:%SZ}",
        }
        pair = bearer | {
            "refresh_token": issued["refresh_token"],
            "refresh_token_issued_at": bearer["issued_at"],
            "user_name": "me@example.org",
            "organization_id": "4711",  # the one that the stand-in gives
            "organization_name": f"Relief of {name}",
        }
        for kind, value, labels in (("tokens", pair, ["AWSCURRENT", "REFRESHING"]), ("bearer", bearer, ["AWSCURRENT"])):
            secret = f"{PREFIX}/{name}/{kind}"
            self._strict.call("CreateSecret", {"Name": secret})
            put = {"SecretId": secret, "ClientRequestToken": version, "VersionStages": labels}
            self._strict.call("PutSecretValue", put | {"SecretString": json.dumps(value)})

    def invoke(self, at_once: int) -> list[Invocation]:
        """So many functions, each by an invocation of five minutes."""
        spawn = multiprocessing.get_context("spawn")
        with ExitStack() as stack:
            functions = [
                stack.enter_context(ProcessPoolExecutor(1, spawn, partial(_start, self._environment)))
                for _ in range(at_once)
            ]
            for function in functions:
                function.submit(_peak_mb).result()  # it has started
            return [running.result() for running in [function.submit(_invoke, 300) for function in functions]]

    def faults(self) -> list[str]:
        """What must not be: a token lost, sent twice or not published."""
        secrets = [(f"{PREFIX}/{name}/tokens", f"{PREFIX}/{name}/bearer") for name in self._names]
        tokens = {json.loads(self._strict.value(pair))["refresh_token"] for pair, _ in secrets}
        labels = self._strict.labels
        found = {
            "refresh tokens lost": len(secrets) - len(self._virtuous.live_refresh_tokens & tokens),
            "refresh tokens sent twice": self._virtuous.state()["refreshes"]["refused"],
            "bearers out of step": sum(
                labels(pair)["AWSCURRENT"] != labels(bearer)["AWSCURRENT"] for pair, bearer in secrets
            ),
        }
        return [f"{count} {what}" for what, count in found.items() if count]


@contextmanager
def world(rates: RequestRates) -> Iterator[World]:
    """Secrets Manager, which counts in *rates*, answers after 10 ms, Virtuous after 500."""
    strict = StrictSecretsManager()
    with (
        served(strict, rates=rates, latency_seconds=0.01) as secrets_manager,
        serving(_EventBus) as event_bus,
        Virtuous(answer_seconds=0.5) as virtuous,
    ):
        environment = {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets_manager,
            "AWS_ENDPOINT_URL_EVENTS": event_bus,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "POWERTOOLS_SERVICE_NAME": "benchmark",
            "POWERTOOLS_METRICS_NAMESPACE": "VirtuousToken",
            "SECRET_PREFIX": PREFIX,
            "SCHEDULE_EXPRESSION": "rate(6 hours)",
            "VIRTUOUS_BASE_URL": virtuous.base_url,
        }
        yield World(environment, strict, virtuous)


# In the function's process


def _start(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    sys.stdout = io.StringIO()  # before the logger is made: it keeps the stream that it meets
    from token_refresher import handler

    handler.application()  # a cold start is another bench's matter


def _invoke(seconds: int) -> Invocation:
    from token_refresher import handler

    context: Any = _Context(time.monotonic() + seconds)
    cpu, started = time.process_time(), time.monotonic()
    try:
        answer = handler.lambda_handler({}, context)
    except Exception as error:  # noqa: BLE001 (as Lambda's runtime does)
        answer = {"error": str(error)}
    took, cpu_took = time.monotonic() - started, time.process_time() - cpu
    log = sys.stdout.getvalue() if isinstance(sys.stdout, io.StringIO) else ""
    return Invocation(answer, took, cpu_took, _peak_mb(), log)


class _Context:
    """Lambda's context object, as far as the function looks at it."""

    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at

    def get_remaining_time_in_millis(self) -> int:
        return round((self._ends_at - time.monotonic()) * 1000)


def _peak_mb() -> float:
    """The most memory that this process has held; not getrusage's, which counts what came before the program."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


class _EventBus(JsonHandler):
    """EventBridge, as far as a run needs it: every event is taken."""

    content_type = "application/x-amz-json-1.1"

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, {"FailedEntryCount": 0, "Entries": [{"EventId": str(uuid.uuid4())}]})
