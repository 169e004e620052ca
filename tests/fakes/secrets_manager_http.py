"""The strict Secrets Manager behind HTTP, for programs that are not Python or run in a process of their own.

Signatures are not looked at: whoever reaches it may do everything.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from .loopback import JsonHandler, serving
from .secrets_manager import AwsError, StrictSecretsManager

__all__ = ["PUBLISHED_RATES", "RequestRates", "served"]

# "Secrets Manager quotas", Secrets Manager User Guide: requests a second in one Region. Operations that share a rate
# are counted together.
PUBLISHED_RATES: Mapping[tuple[str, ...], int] = {
    ("DescribeSecret", "GetSecretValue"): 10_000,
    ("PutSecretValue", "UpdateSecretVersionStage"): 50,
    ("BatchGetSecretValue",): 100,
    ("ListSecrets",): 100,
    ("ListSecretVersionIds",): 50,
    ("CreateSecret",): 50,
}


class RequestRates:
    """Admits as many requests in any one second as *rates* says, and no more. Threads may share it.

    AWS publishes a number a second and not how it counts. No burst, however short, is the strictest reading.
    """

    def __init__(
        self, rates: Mapping[tuple[str, ...], int] = PUBLISHED_RATES, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.admitted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._clock = clock
        self._windows = {
            operation: window
            for operations, rate in rates.items()
            for window in [deque[float](maxlen=rate)]
            for operation in operations
        }
        self._lock = threading.Lock()

    def admit(self, operation: str) -> None:
        """Raises AwsError, ThrottlingException, for a request beyond the rate; it does not count."""
        window = self._windows[operation]
        with self._lock:
            now = self._clock()
            if len(window) == window.maxlen and now - window[0] < 1:
                self.refused[operation] += 1
                raise AwsError("ThrottlingException", "Rate exceeded")
            window.append(now)
            self.admitted[operation] += 1


@contextmanager
def served(
    strict: StrictSecretsManager, *, rates: RequestRates | None = None, latency_seconds: float = 0
) -> Iterator[str]:
    """Its address, for ``AWS_ENDPOINT_URL``, as long as the block lasts. Without *rates* nothing is throttled."""

    class Handler(JsonHandler):
        content_type = "application/x-amz-json-1.1"

        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            params = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            try:
                if rates:
                    rates.admit(operation)
                answer = strict.call(operation, params)
            except AwsError as refusal:
                self.answer(400, {"__type": refusal.code, "message": refusal.message})
            else:
                time.sleep(latency_seconds)
                self.answer(200, answer)

    with serving(Handler) as address:
        yield address
