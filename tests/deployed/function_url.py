"""A function URL on loopback: what AWS does in front of a function, which the local AWS does not serve."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from tests.fakes.loopback import JsonHandler, serving


@contextlib.contextmanager
def function_url(client: Any, function_name: str) -> Iterator[str]:
    """The address of a server that turns each request into an invocation (payload format 2.0)."""

    class Requests(JsonHandler):
        def _invoke(self) -> None:
            event = {
                "rawPath": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "requestContext": {"http": {"method": self.command, "path": self.path}},
                "body": self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode("latin-1"),
            }
            invoked = client.invoke(FunctionName=function_name, Payload=json.dumps(event).encode())
            result = json.loads(invoked["Payload"].read())
            if "FunctionError" in invoked:
                self.answer(502, {"message": "Internal Server Error"})
            else:
                headers = {name: value for name, value in result["headers"].items() if name != "Content-Type"}
                self.answer(result["statusCode"], json.loads(result["body"]), **headers)

        do_GET = do_POST = _invoke  # noqa: N815

    with serving(Requests) as address:
        yield address
