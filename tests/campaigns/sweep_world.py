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
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import RequestRates, served
from tests.fakes.virtuous import Virtuous

PREFIX = "virtuous"
LIFE = timedelta(days=15)
SPAWN = multiprocessing.get_context("spawn")


class Seed(NamedTuple):
    """One connection as it is stored before the bench begins."""

    name: str
    refresh_token: str
    access_token: str
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class Invocation:
    """What one invocation gave, and what it took."""

    answer: dict[str, Any]
    seconds: float
    cpu_seconds: float
    peak_mb: float
    log: str


class Process:
    """A function that runs in a process of its own and answers what it is asked: a method's name and arguments."""

    def __init__(self, serve: Callable[..., None], *arguments: object) -> None:
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self._process.join()

    def receive(self) -> Any:
        return self._pipe.recv()

    def send(self, *asked: object) -> None:
        self._pipe.send(asked)

    def ask(self, *asked: object) -> Any:
        self.send(*asked)
        return self.receive()


def _answer(pipe: Connection, commands: Mapping[str, Callable[..., object]]) -> None:
    while (asked := pipe.recv()) is not None:
        name, *arguments = asked
        pipe.send(commands[name](*arguments))


def serve_secrets_manager(pipe: Connection, latency_seconds: float) -> None:
    strict, rates = StrictSecretsManager(), RequestRates()

    def store(seeds: Sequence[Seed]) -> None:
        for seed in seeds:
            _store(strict, seed)
        strict.settle()  # the past of the seeds is nobody's to see

    def state(names: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """Of each connection the refresh token that is current, and whether the bearer is in step."""
        return {name: _state(strict, name) for name in names}

    def calls() -> tuple[dict[str, int], dict[str, int]]:
        """Requests admitted and throttled since the last time, by operation."""
        counted = dict(rates.admitted), dict(rates.refused)
        rates.admitted.clear()
        rates.refused.clear()
        strict.log.clear()
        return counted

    with served(strict, rates=rates, latency_seconds=latency_seconds) as address, serving(_EventBus) as event_bus:
        pipe.send((address, event_bus))
        _answer(pipe, {"store": store, "state": state, "calls": calls})


def serve_virtuous(pipe: Connection, answer_seconds: float) -> None:
    with Virtuous(answer_seconds=answer_seconds) as virtuous:

        def issue(count: int) -> list[tuple[str, str]]:
            """Refresh and access tokens."""
            pairs = [virtuous.issue_pair() for _ in range(count)]
            return [(str(pair["refresh_token"]), str(pair["access_token"])) for pair in pairs]

        def live(tokens: Sequence[str]) -> int:
            """How many of the refresh tokens still work."""
            return len(virtuous.live_refresh_tokens.intersection(tokens))

        pipe.send(virtuous.base_url)
        _answer(pipe, {"issue": issue, "live": live, "posts": lambda: virtuous.state()["refreshes"]})


def serve_function(pipe: Connection, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    log = io.StringIO()
    with redirect_stdout(log):  # before the logger is made: it keeps the stream that it meets
        from token_refresher import handler

        handler.application()  # a cold start is another bench's matter

        def invoke(event: dict[str, Any], milliseconds: int) -> Invocation:
            context: Any = _Context(time.monotonic() + milliseconds / 1000)
            log.truncate(0)
            cpu, started = time.process_time(), time.monotonic()
            try:
                answer = handler.lambda_handler(event, context)
            except Exception as error:  # noqa: BLE001 (as Lambda's runtime does)
                answer = {"error": str(error)}
            seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
            return Invocation(answer, seconds, cpu_seconds, _peak_mb(), log.getvalue())

        pipe.send("ready")
        _answer(pipe, {"invoke": invoke})


class _EventBus(JsonHandler):
    """EventBridge, as far as a run needs it: every event is taken."""

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


class Fleet:
    """The account, Virtuous, and as many functions as are asked for."""

    def __init__(self, secrets_manager: Process, virtuous: Process, environment: Mapping[str, str]) -> None:
        self.secrets_manager = secrets_manager
        self.virtuous = virtuous
        self.environment = environment
        self.seeds: list[Seed] = []

    def log_in(self, count: int, *, age: timedelta) -> None:
        """So many more connections, whose pairs were issued *age* ago."""
        first, now = len(self.seeds), datetime.now(UTC)
        new = [
            Seed(f"client-{first + number:05d}", refresh_token, access_token, now - age - timedelta(seconds=number))
            for number, (refresh_token, access_token) in enumerate(self.virtuous.ask("issue", count))
        ]
        random.Random(7).shuffle(new)
        self.secrets_manager.ask("store", new)
        self.seeds += new

    def invoke(self, event: Mapping[str, Any], *, at_once: int = 1, seconds: int = 300) -> list[Invocation]:
        """Each by a function of its own."""
        with ExitStack() as stack:
            functions = [stack.enter_context(Process(serve_function, self.environment)) for _ in range(at_once)]
            for function in functions:
                function.receive()
            self.secrets_manager.ask("calls")
            for function in functions:
                function.send("invoke", dict(event), seconds * 1000)
            return [function.receive() for function in functions]

    def faults(self) -> list[str]:
        """What must not be: a token lost, sent twice or not published."""
        state = self.secrets_manager.ask("state", [seed.name for seed in self.seeds])
        live = self.virtuous.ask("live", [token for token, _ in state.values()])
        out_of_step = sum(not in_step for _, in_step in state.values())
        refused = self.virtuous.ask("posts")["refused"]
        return [
            *([f"{len(state) - live} refresh tokens lost"] if live < len(state) else []),
            *([f"{refused} refresh tokens sent twice"] if refused else []),
            *([f"{out_of_step} bearers out of step"] if out_of_step else []),
        ]


@contextmanager
def world() -> Iterator[Fleet]:
    """Secrets Manager answers after 10 ms, Virtuous after half a second."""
    with Process(serve_secrets_manager, 0.01) as secrets_manager, Process(serve_virtuous, 0.5) as virtuous:
        address, event_bus = secrets_manager.receive()
        environment = {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": address,
            "AWS_ENDPOINT_URL_EVENTS": event_bus,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "POWERTOOLS_SERVICE_NAME": "benchmark",
            "POWERTOOLS_METRICS_NAMESPACE": "VirtuousToken",
            "SECRET_PREFIX": PREFIX,
            "SCHEDULE_EXPRESSION": "rate(6 hours)",
            "VIRTUOUS_BASE_URL": virtuous.receive(),
        }
        yield Fleet(secrets_manager, virtuous, environment)


def _store(strict: StrictSecretsManager, seed: Seed) -> None:
    """The two secrets as a login leaves them."""
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
    for kind, value, labels in (("tokens", pair, ["AWSCURRENT", "REFRESHING"]), ("bearer", bearer, ["AWSCURRENT"])):
        name = f"{PREFIX}/{seed.name}/{kind}"
        strict.call("CreateSecret", {"Name": name})
        put = {"SecretId": name, "ClientRequestToken": version, "VersionStages": labels}
        strict.call("PutSecretValue", put | {"SecretString": json.dumps(value)})


def _state(strict: StrictSecretsManager, name: str) -> tuple[str, bool]:
    pair, bearer = (f"{PREFIX}/{name}/{kind}" for kind in ("tokens", "bearer"))
    current = json.loads(strict.value(pair))
    in_step = strict.labels(pair)["AWSCURRENT"] == strict.labels(bearer)["AWSCURRENT"]
    return current["refresh_token"], in_step


def _peak_mb() -> float:
    """The most memory that this process has held; not getrusage's, which counts what came before the program."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM")
