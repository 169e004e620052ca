"""The strict Secrets Manager behind HTTP, for programs that are not Python or run in a process of their own.

Signatures are not looked at: whoever reaches it may do everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from .loopback import JsonHandler, serving
from .secrets_manager import AwsError, StrictSecretsManager

__all__ = ["served"]


@contextmanager
def served(strict: StrictSecretsManager) -> Iterator[str]:
    """Its address, for ``AWS_ENDPOINT_URL``, as long as the block lasts."""

    class Handler(JsonHandler):
        content_type = "application/x-amz-json-1.1"

        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            params = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            try:
                self.answer(200, strict.call(operation, params))
            except AwsError as refusal:
                self.answer(400, {"__type": refusal.code, "message": refusal.message})

    with serving(Handler) as address:
        yield address
