"""A Secrets Manager client in front of one bearer secret, and a clock: all that a reader sees of the world."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

START = datetime(2026, 11, 25, 10, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR


class EpochClock:
    """Seconds since 1970, as a test sets them."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class OneBearer:
    """Hands out ``access-1``, ``access-2`` and so on: a new one after each ``rotate``.

    The token lives for *life_seconds* and is refreshed at half of that (None: its end is not known, as with an API
    key). With ``failure`` set, reads end in that. With ``gate`` set, each read waits for it, after it has found its
    answer. ``arrived`` is set by each read that begins.
    """

    def __init__(self, clock: EpochClock, life_seconds: float | None = 15 * DAY) -> None:
        self.clock = clock
        self.life_seconds = life_seconds
        self.reads = 0
        self.asked: list[tuple[str, str]] = []
        self.described = 0
        self.failure: BaseException | None = None
        self.gate: threading.Event | None = None
        self.arrived = threading.Event()
        self.value: str | None = None
        self.generation = 0
        self._lock = threading.Lock()
        self.rotate()

    @property
    def token(self) -> str:
        return f"access-{self.generation}"

    def rotate(self) -> str:
        """Publish the next token, from now."""
        self.generation += 1
        stored: dict[str, Any] = {"version": 1, "access_token": self.token, "token_type": "Bearer"}
        if self.life_seconds is not None:
            stored["issued_at"] = _instant(self.clock.now)
            stored["expires_at"] = _instant(self.clock.now + self.life_seconds)
            stored["next_refresh_at"] = _instant(self.clock.now + self.life_seconds / 2)
        self.value = json.dumps(stored)
        return self.token

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> Mapping[str, Any]:  # noqa: N803
        with self._lock:
            self.reads += 1
            self.asked.append((SecretId, VersionStage))
            value, failure, gate = self.value, self.failure, self.gate
        self.arrived.set()
        if gate is not None and not gate.wait(30):
            raise TimeoutError("the test never opened the gate")
        if failure is not None:
            raise failure
        return {"SecretString": value}

    def describe_secret(self, *, SecretId: str) -> Mapping[str, Any]:  # noqa: N803
        self.described += 1
        return {"Name": SecretId}


def join_renewals() -> None:
    """Wait for the reads that run in the background."""
    for thread in threading.enumerate():
        if thread.name == "virtuous-token-read":
            thread.join(30)


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
