"""An account with many connections, Virtuous and the function, each in a process of its own, joined by sockets.

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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import RequestRates, served
from tests.fakes.virtuous import Virtuous

PREFIX = "virtuous"
LIFE = timedelta(days=15)


class Seed(NamedTuple):
    """One connection as it is stored before the bench begins."""

    name: str
    refresh_token: str
    access_token: str
    issued_at: datetime


class Invocation(NamedTuple):
    """What one invocation gave, and what it took."""

    answer: dict[str, Any]
    seconds: float
    cpu_seconds: float
    peak_mb: float
    log: str


class SecretsManager:
    """Secrets Manager, which answers after *latency_seconds*, and an EventBridge that takes every event."""

    def __init__(self, latency_seconds: float) -> None:
        self._strict, self._rates, self._stack = StrictSecretsManager(), RequestRates(), ExitStack()
        self._addresses = (
            self._stack.enter_context(served(self._strict, rates=self._rates, latency_seconds=latency_seconds)),
            self._stack.enter_context(serving(_EventBus)),
        )

    def addresses(self) -> tuple[str, str]:
        return self._addresses

    def store(self, seeds: Sequence[Seed]) -> None:
        """The two secrets of each as a login leaves them."""
        for seed in seeds:
            version = str(uuid.uuid4())
            issued_at, expires_at = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (seed.issued_at, seed.issued_at + LIFE))
            bearer = {"version": 1, "access_token": seed.access_token, "issued_at": issued_at, "expires_at": expires_at}
            pair = bearer | {
                "refresh_token": seed.refresh_token,
                "refresh_token_issued_at": issued_at,
                "user_name": "me@example.org",
                "organization_id": "4711",  # the one that the stand-in gives
                "organization_name": f"Relief of {seed.name}",
            }
            for kind, value, labels in (("tokens", pair, ["AWSCURRENT", "REFRESHING"]), ("bearer", bearer, None)):
                secret, more = f"{PREFIX}/{seed.name}/{kind}", {"VersionStages": labels} if labels else {}
                self._strict.call("CreateSecret", {"Name": secret})
                put = {"SecretId": secret, "ClientRequestToken": version, "SecretString": json.dumps(value)}
                self._strict.call("PutSecretValue", put | more)
        self._strict.settle()  # the past of the seeds is nobody's to see

    def refresh_token(self, name: str) -> str:
        return str(json.loads(self._strict.value(f"{PREFIX}/{name}/tokens"))["refresh_token"])

    def out_of_step(self, names: Sequence[str]) -> int:
        """How many bearers are not of their current pair."""
        labels = self._strict.labels
        return sum(
            labels(f"{PREFIX}/{name}/tokens")["AWSCURRENT"] != labels(f"{PREFIX}/{name}/bearer")["AWSCURRENT"]
            for name in names
        )

    def calls(self) -> tuple[dict[str, int], int]:
        """Requests admitted since the last time, by operation, and how many were throttled."""
        counted = dict(self._rates.admitted), sum(self._rates.refused.values())
        self._rates.admitted.clear()
        self._rates.refused.clear()
        self._strict.log.clear()
        return counted


class Provider:
    """Virtuous, which answers after *answer_seconds*."""

    def __init__(self, answer_seconds: float) -> None:
        self._virtuous = Virtuous(answer_seconds=answer_seconds)

    def base_url(self) -> str:
        return self._virtuous.base_url

    def issue(self, count: int) -> list[tuple[str, str]]:
        """Refresh and access tokens."""
        pairs = [self._virtuous.issue_pair() for _ in range(count)]
        return [(str(pair["refresh_token"]), str(pair["access_token"])) for pair in pairs]

    def live(self, tokens: Sequence[str]) -> int:
        """How many of the refresh tokens still work."""
        return len(self._virtuous.live_refresh_tokens.intersection(tokens))

    def refused(self) -> int:
        return self._virtuous.state()["refreshes"]["refused"]


class Function:
    """The function in a warm process of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        sys.stdout = self._log = io.StringIO()  # before the logger is made: it keeps the stream that it meets
        from token_refresher import handler

        handler.application()  # a cold start is another bench's matter
        self._handler = handler.lambda_handler

    def invoke(self, event: dict[str, Any], seconds: int) -> Invocation:
        context: Any = _Context(time.monotonic() + seconds)
        cpu, started = time.process_time(), time.monotonic()
        try:
            answer = self._handler(event, context)
        except Exception as error:  # noqa: BLE001 (as Lambda's runtime does)
            answer = {"error": str(error)}
        took, cpu_took = time.monotonic() - started, time.process_time() - cpu
        return Invocation(answer, took, cpu_took, _peak_mb(), self._log.getvalue())


class _Process(BaseManager):
    """A process with one of the three in it; what is called on its proxy happens there."""


for _kind in (SecretsManager, Provider, Function):
    _Process.register(_kind.__name__, _kind)


@contextmanager
def _apart(kind: type, *arguments: object) -> Iterator[Any]:
    with _Process(ctx=multiprocessing.get_context("spawn")) as process:
        yield getattr(process, kind.__name__)(*arguments)


class _EventBus(JsonHandler):
    content_type = "application/x-amz-json-1.1"

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, {"FailedEntryCount": 0, "Entries": [{"EventId": str(uuid.uuid4())}]})


class _Context:
    """Lambda's context object, as far as the function looks at it."""

    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at

    def get_remaining_time_in_millis(self) -> int:
        return round((self._ends_at - time.monotonic()) * 1000)


class World:
    """The account, Virtuous, and as many functions as are asked for."""

    def __init__(self, secrets_manager: Any, provider: Any) -> None:
        self.secrets_manager = secrets_manager
        self.provider = provider
        self.names: list[str] = []

    def log_in(self, count: int, *, age: timedelta) -> None:
        """So many more connections, whose pairs were issued *age* ago."""
        first, now = len(self.names), datetime.now(UTC)
        new = [
            Seed(f"client-{first + number:05d}", refresh_token, access_token, now - age - timedelta(seconds=number))
            for number, (refresh_token, access_token) in enumerate(self.provider.issue(count))
        ]
        random.Random(7).shuffle(new)
        self.secrets_manager.store(new)
        self.names += [seed.name for seed in new]

    def invoke(self, at_once: int) -> list[Invocation]:
        """So many functions, each by an invocation of five minutes."""
        secrets_manager, event_bus = self.secrets_manager.addresses()
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
            "VIRTUOUS_BASE_URL": self.provider.base_url(),
        }
        with ExitStack() as stack, ThreadPoolExecutor(at_once) as pool:
            functions = [stack.enter_context(_apart(Function, environment)) for _ in range(at_once)]
            self.secrets_manager.calls()
            return list(pool.map(lambda function: function.invoke({}, 300), functions))

    def faults(self) -> list[str]:
        """What must not be: a token lost, sent twice or not published."""
        found = {
            "refresh tokens lost": len(self.names)
            - self.provider.live([self.secrets_manager.refresh_token(name) for name in self.names]),
            "refresh tokens sent twice": self.provider.refused(),
            "bearers out of step": self.secrets_manager.out_of_step(self.names),
        }
        return [f"{count} {what}" for what, count in found.items() if count]


@contextmanager
def world(*, latency_seconds: float = 0.01, answer_seconds: float = 0.5) -> Iterator[World]:
    """*latency_seconds*: of each answer of Secrets Manager; *answer_seconds*: of each answer of Virtuous."""
    with _apart(SecretsManager, latency_seconds) as secrets_manager, _apart(Provider, answer_seconds) as provider:
        yield World(secrets_manager, provider)


def _peak_mb() -> float:
    """The most memory that this process has held; not getrusage's, which counts what came before the program."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
