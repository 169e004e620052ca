"""From a thousand connections to ten thousand, in one invocation: ``python -m tests.campaigns.sweep``.

The function runs as Lambda runs it, in a process of its own, from the environment and through real HTTP. Secrets
Manager is the strict one, throttles at AWS's published rates and answers after 10 ms, Virtuous after 500 ms. Prints one
line a scenario. Exit 1 where a promise does not hold.
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
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.campaigns.start_up import ENVIRONMENT
from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import RequestRates, served
from tests.fakes.virtuous import Virtuous

PREFIX = ENVIRONMENT["SECRET_PREFIX"]
LIFE = timedelta(days=15)
# Four writes a refresh, and 50 writes a second in a Region ("Secrets Manager quotas").
CEILING = 12.5
WRITES = ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage")
FORM = "{:<36}{:>9}{:>9}{:>9}{:>11}{:>9}{:>9}"


class Invocation(NamedTuple):
    """What one invocation gave, and what it took."""

    answer: dict[str, Any]
    seconds: float
    cpu_seconds: float
    peak_mb: float
    log: str


class Measured(NamedTuple):
    """One scenario's run. ``faults``: tokens lost and the like, and throttling where somebody must see it."""

    seconds: float
    peak_mb: float
    calls: int
    writes: int
    refreshed: int
    faults: Sequence[str]


def log_in(strict: StrictSecretsManager, virtuous: Virtuous, name: str, issued_at: datetime) -> None:
    """A connection as a login leaves it."""
    issued, version = virtuous.issue_pair(), str(uuid.uuid4())
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
        strict.call("CreateSecret", {"Name": secret})
        put = {"SecretId": secret, "ClientRequestToken": version, "VersionStages": labels}
        strict.call("PutSecretValue", put | {"SecretString": json.dumps(value)})


def faults(strict: StrictSecretsManager, virtuous: Virtuous, names: Sequence[str]) -> list[str]:
    """What must not be: a token lost, sent twice or not published."""
    secrets = [(f"{PREFIX}/{name}/tokens", f"{PREFIX}/{name}/bearer") for name in names]
    tokens = {json.loads(strict.value(pair))["refresh_token"] for pair, _ in secrets}
    current = [(strict.labels(pair)["AWSCURRENT"], strict.labels(bearer)["AWSCURRENT"]) for pair, bearer in secrets]
    found = {
        "refresh tokens lost": len(secrets) - len(virtuous.live_refresh_tokens & tokens),
        "refresh tokens sent twice": virtuous.state()["refreshes"]["refused"],
        "bearers out of step": sum(pair != bearer for pair, bearer in current),
    }
    return [f"{count} {what}" for what, count in found.items() if count]


def measure(title: str, *, fresh: int = 0, due: int = 0, at_once: int = 1) -> Measured:
    """So many functions, each by an invocation of five minutes."""
    strict, rates, now = StrictSecretsManager(), RequestRates(), datetime.now(UTC)
    names = [f"client-{number:05d}" for number in range(due + fresh)]
    with (
        served(strict, rates=rates, latency_seconds=0.01) as secrets_manager,
        serving(_EventBus) as event_bus,
        Virtuous(answer_seconds=0.5) as virtuous,
        ExitStack() as stack,
    ):
        for number in random.Random(7).sample(range(due + fresh), due + fresh):
            age = timedelta(days=9) if number < due else timedelta(hours=1)
            log_in(strict, virtuous, names[number], now - age - timedelta(seconds=number))
        strict.settle()  # the past is nobody's to see
        environment = ENVIRONMENT | {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets_manager,
            "AWS_ENDPOINT_URL_EVENTS": event_bus,
            "SCHEDULE_EXPRESSION": "rate(6 hours)",
            "VIRTUOUS_BASE_URL": virtuous.base_url,
        }
        spawn = multiprocessing.get_context("spawn")
        pools = [ProcessPoolExecutor(1, spawn, partial(_start, environment)) for _ in range(at_once)]
        functions = [stack.enter_context(pool) for pool in pools]
        for function in functions:
            function.submit(_peak_mb).result()  # it has started
        invocations = [running.result() for running in [function.submit(_invoke, 300) for function in functions]]
        broken = faults(strict, virtuous, names)
    if any("ThrottlingException" in invocation.log for invocation in invocations):
        broken.append("throttling surfaced")
    run = Measured(
        seconds=max(invocation.seconds for invocation in invocations),
        peak_mb=max(invocation.peak_mb for invocation in invocations),
        calls=sum(rates.admitted.values()),
        writes=sum(rates.admitted.get(operation, 0) for operation in WRITES),
        refreshed=sum([*made.answer.get("outcomes", {}).values()].count("refreshed") for made in invocations),
        faults=broken,
    )
    throttled, cpu_seconds = sum(rates.refused.values()), sum(invocation.cpu_seconds for invocation in invocations)
    numbers = f"{run.seconds:.1f}", run.calls, run.writes, throttled, f"{run.peak_mb:.0f}", f"{cpu_seconds:.1f}"
    print(FORM.format(title, *numbers), flush=True)
    return run


def main() -> int:
    """Exit status: 0 the promises hold, 1 one does not."""
    print(FORM.format("", "seconds", "calls", "writes", "throttled", "MB", "CPU s"))
    tenth = measure("1,000 connections, none due", fresh=1_000)
    fresh = measure("10,000 connections, none due", fresh=10_000)
    due = measure("1,000 connections, all due", due=1_000)
    shared = measure("10,000, 700 due, two invocations", fresh=9_300, due=700, at_once=2)
    rate = due.refreshed / due.seconds
    promises = {
        f"10,000 fresh take 750 calls at most: {fresh.calls}": fresh.calls <= 750,
        f"and 30 seconds at most: {fresh.seconds:.1f}": fresh.seconds <= 30,
        f"and 256 MB at most: {fresh.peak_mb:.0f}": fresh.peak_mb <= 256,
        "time grows no faster than the number of connections": fresh.seconds <= 12 * max(tenth.seconds, 0.5),
        f"all that are due are refreshed: {due.refreshed} of 1,000": due.refreshed == 1_000,
        f"at 94 % of {CEILING} a second at least: {rate:.2f}": rate >= 0.94 * CEILING,
        f"two invocations refresh all that are due: {shared.refreshed} of 700": shared.refreshed == 700,
        f"and waste 10 % of the writes at most: {shared.writes} for 2,800": shared.writes <= 1.1 * 2_800,
    }
    broken = [what for what, holds in promises.items() if not holds]
    broken += [fault for run in (tenth, fresh, due, shared) for fault in run.faults]
    print("\n".join(f"BROKEN: {what}" for what in broken) or "every promise holds")
    return bool(broken)


# In the function's process


def _start(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    sys.stdout = io.StringIO()  # before the logger is made: it keeps the stream that it meets
    from token_refresher import handler

    handler.application()  # a cold start is another bench's matter


def _invoke(seconds: int) -> Invocation:
    from token_refresher import handler

    context: Any = SimpleNamespace(aws_request_id="0" * 32, get_remaining_time_in_millis=lambda: seconds * 1000)
    cpu, started = time.process_time(), time.monotonic()
    try:
        answer = handler.lambda_handler({}, context)
    except Exception as error:  # noqa: BLE001 (as Lambda's runtime does)
        answer = {"error": str(error)}
    took, cpu_took = time.monotonic() - started, time.process_time() - cpu
    log = sys.stdout.getvalue() if isinstance(sys.stdout, io.StringIO) else ""
    return Invocation(answer, took, cpu_took, _peak_mb(), log)


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


if __name__ == "__main__":
    sys.exit(main())
