"""Adapter: the pace at which this process calls Secrets Manager.

AWS throttles by Region and account ("Secrets Manager quotas", User Guide): 50 writes a second, 100 batch reads, 100
lists of secrets, 50 lists of versions. A throttled call costs a wait and one of few repetitions, so each process keeps
just under these rates.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# These two are the function's own among what AWS counts together as writes.
_WRITES = ("PutSecretValue", "UpdateSecretVersionStage")
WRITES_PER_SECOND = 49  # one is left to an operator who logs in
# A tenth is left to others: operators' commands list, too.
_READS_PER_SECOND = {"BatchGetSecretValue": 90, "ListSecrets": 90, "ListSecretVersionIds": 45}
_RECOVERY = 0.05  # so much of the full pace comes back each second, so that two processes seldom meet the limit
_SLOWEST = 0.1  # however little passes, some calls go on


class Pace:
    """Spaces calls evenly, *per_second* at most, for threads that share it.

    Where others use the rate too, it falls to what was not throttled in the last second, and comes back slowly.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._full = per_second
        self._now = per_second
        self._changed_at = self._began_at = clock()
        self._next_at = -math.inf
        self._passed: deque[float] = deque(maxlen=max(round(2 * per_second), 1))
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()

    def wait(self, **_: object) -> None:
        """Returns when the next call may be made. A thread that woke up a little late delays nobody."""
        with self._lock:
            now = self._clock()
            distance = 1 / self._per_second(now)
            at = max(now, self._next_at)
            self._next_at = max(self._next_at, now - distance) + distance
        if at > now:
            self._sleep(at - now)

    def observe(self, parsed_response: Any = None, **_: object) -> None:
        """A call was answered, or failed."""
        with self._lock:
            now = self._clock()
            if (parsed_response or {}).get("Error", {}).get("Code") != "ThrottlingException":
                self._passed.append(now)
                return
            since = max(now - 1, self._began_at)
            passed = sum(at > since for at in self._passed) / max(now - since, 1 / self._full)
            self._now = min(max(passed, self._full * _SLOWEST), self._per_second(now))
            self._changed_at = now

    def _per_second(self, now: float) -> float:
        recovered = (now - self._changed_at) * self._full * _RECOVERY
        return min(self._now + recovered, self._full)


def pace(client: SecretsManagerClient, writes_per_second: float = WRITES_PER_SECOND) -> None:
    """Lets *client* wait before each attempt of a call that AWS throttles early, repetitions included."""
    writes = Pace(writes_per_second)
    paces = dict.fromkeys(_WRITES, writes) | {name: Pace(per_second) for name, per_second in _READS_PER_SECOND.items()}
    for operation, kept in paces.items():
        client.meta.events.register(f"before-send.secrets-manager.{operation}", kept.wait)
        client.meta.events.register(f"response-received.secrets-manager.{operation}", kept.observe)
