"""A week of a process that reads the token, in simulated time, with what goes wrong in a week."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError, ConnectTimeoutError

from tests.fakes.one_bearer import DAY, HOUR, START

WEEK = 7 * DAY
SECONDS_BETWEEN_CALLS = 15.0
THROTTLED = (1.5 * DAY, 1.5 * DAY + 600)  # ten minutes
DOWN = (3.4 * DAY, 3.4 * DAY + HOUR)
LOGIN = 5.1 * DAY  # a person logs in, out of turn

# What a call takes with the SDK's own retries.
SECONDS_OF_A_READ = 0.02
SECONDS_TO_BE_THROTTLED = 3.0
SECONDS_TO_TIME_OUT = 24.0


class Week:
    """A Secrets Manager client in front of one bearer secret, and the clock of the simulation.

    The token is refreshed at half of its life, and by a login out of turn. A call takes time if the thread that made
    this object makes it or waits for it: one in the background ends after that thread has gone on, or it holds it up.
    """

    def __init__(self, life_seconds: float) -> None:
        self.life_seconds = life_seconds
        self.passed = 0.0
        self.calls: list[float] = []
        self.waited = 0.0
        self.has_gone_on = threading.Event()
        self._caller = threading.current_thread()
        self._issued: list[float] = [-life_seconds / 3]
        while (following := self._issued[-1] + life_seconds / 2) < WEEK:
            self._issued.append(following + HOUR if DOWN[0] <= following < DOWN[1] else following)
        self._issued = sorted([*self._issued, LOGIN])

    def clock(self) -> float:
        return START + self.passed

    @property
    def generation(self) -> int:
        """Which token is current, from 1."""
        return sum(1 for issued in self._issued if issued <= self.passed)

    def expires_at(self, generation: int) -> float:
        return START + self._issued[generation - 1] + self.life_seconds

    def get_secret_value(self, **_: str) -> Mapping[str, Any]:
        self._call("GetSecretValue")
        ends = self.expires_at(self.generation)
        instants = {"next_refresh_at": ends - self.life_seconds / 2, "expires_at": ends}
        written = {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in instants.items()}
        return {"SecretString": json.dumps({"access_token": f"access-{self.generation}", **written})}

    def describe_secret(self, **_: str) -> Mapping[str, Any]:
        self._call("DescribeSecret")
        return {"VersionIdsToStages": {f"version-{self.generation}": ["AWSCURRENT"]}}

    def _call(self, operation: str) -> None:
        self.calls.append(self.passed)
        if THROTTLED[0] <= self.passed < THROTTLED[1]:
            self._take(SECONDS_TO_BE_THROTTLED)
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, operation)
        if DOWN[0] <= self.passed < DOWN[1]:
            self._take(SECONDS_TO_TIME_OUT)
            raise ConnectTimeoutError(endpoint_url="https://secretsmanager.example", error="no answer")
        self._take(SECONDS_OF_A_READ)

    def _take(self, seconds: float) -> None:
        if threading.current_thread() is self._caller or not self.has_gone_on.wait(5):
            self.passed += seconds
            self.waited += seconds


class Experience:
    """What the callers of one reader saw in a week, and how often they had Secrets Manager called."""

    longest_wait_seconds = 0.0
    waits = 0
    errors = 0
    expired = 0
    slowest_change_seconds = 0.0
    calls_a_day = 0.0
    busiest_day = 0


def live(week: Week, read: Callable[[], str], settle: Callable[[], None] = lambda: None) -> Experience:
    """Let a caller ask for the token every quarter of a minute; *settle* ends what runs in the background.

    The very first read is not counted among the waits: everybody waits for it.
    """
    seen = Experience()
    is_first, newest, changed_at = True, 1, 0.0
    while week.passed < WEEK:
        week.waited = 0.0
        week.has_gone_on.clear()
        current = week.generation
        if current != newest:
            newest, changed_at = current, week.passed
        try:
            held = int(read().removeprefix("access-"))
        except Exception:  # noqa: BLE001 - whatever a library raises, its caller gets no token
            seen.errors += 1
        else:
            seen.expired += week.clock() >= week.expires_at(held)
            if held < newest:
                seen.slowest_change_seconds = max(seen.slowest_change_seconds, week.passed - changed_at)
        week.has_gone_on.set()
        if week.waited and not is_first:
            seen.waits += 1
            seen.longest_wait_seconds = max(seen.longest_wait_seconds, week.waited)
        is_first = False
        settle()
        week.passed += SECONDS_BETWEEN_CALLS
    seen.calls_a_day = len(week.calls) / 7
    seen.busiest_day = max(Counter(int(at // DAY) for at in week.calls).values())
    return seen
