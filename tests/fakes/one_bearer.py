"""A Secrets Manager client in front of one bearer secret, and a clock: all that a reader sees of the world."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from traceback import walk_tb
from types import FrameType
from typing import Any, Self

from virtuous_token import TokenReader

NAME = "virtuous/default/bearer"
START = datetime(2026, 11, 25, 10, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR


class EpochClock:
    """Seconds since 1970, as a test sets them."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class OneBearer:
    """Hands out ``access-1``, ``access-2`` and so on: a new one after each ``rotate``.

    The token lives for *life_seconds* and is refreshed at half of that (None: its end is not known, as with an API
    key). With ``failure`` set, reads end in that. ``arrived`` is set by each read that begins, which then calls
    ``during``. As a context manager it ends the reads that are under way.
    """

    def __init__(self, life_seconds: float | None = 15 * DAY) -> None:
        self.clock = EpochClock()
        self.life_seconds = life_seconds
        self.asked: list[tuple[str, str]] = []
        self.failure: BaseException | None = None
        self.arrived = threading.Event()
        self.during: Callable[[], object] = lambda: None
        self.generation = 0
        self._gate: threading.Event | None = None
        self.rotate()

    def reader(self, **settings: Any) -> TokenReader:
        return TokenReader(NAME, client=self, clock=self.clock, **settings)

    @property
    def reads(self) -> int:
        return len(self.asked)

    def rotate(self) -> str:
        """Publish the next token, from now."""
        self.generation += 1
        token = f"access-{self.generation}"
        stored: dict[str, Any] = {"version": 1, "access_token": token, "token_type": "Bearer"}
        if self.life_seconds is not None:
            lasts = {"issued_at": 0.0, "expires_at": self.life_seconds, "next_refresh_at": self.life_seconds / 2}
            stored |= {
                key: datetime.fromtimestamp(self.clock.now + seconds, UTC).isoformat() for key, seconds in lasts.items()
            }
        self.value = json.dumps(stored)
        return token

    def hold(self) -> threading.Event:
        """From now on reads that have found their answer wait, until :meth:`let_go` or for the event returned."""
        self.arrived.clear()
        self._gate = threading.Event()
        return self._gate

    def let_go(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.set()

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> Mapping[str, Any]:  # noqa: N803
        value, failure, gate = self.value, self.failure, self._gate
        self.asked.append((SecretId, VersionStage))
        self.arrived.set()
        self.during()
        if gate is not None and not gate.wait(30):
            raise TimeoutError("the test never let the read go on")
        if failure is not None:
            raise failure
        return {"SecretString": value}

    def describe_secret(self, *, SecretId: str) -> Mapping[str, Any]:  # noqa: N803
        return {"Name": SecretId}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        join_renewals()


def join_renewals() -> None:
    """Wait for the reads that run in the background."""
    for thread in threading.enumerate():
        if thread.name == "virtuous-token-read":
            thread.join(30)


def frames_of(error: BaseException | None) -> list[FrameType]:
    """The frames that an error leads to, its causes' included."""
    if error is None:
        return []
    return [frame for frame, _ in walk_tb(error.__traceback__)] + frames_of(error.__cause__ or error.__context__)
