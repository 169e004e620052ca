"""``python -m proof`` on a local AWS that runs already, with the reason for each thing that cannot be had there."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import boto3

from proof.__main__ import Surroundings, main
from tests.fakes.loopback import JsonHandler, serving

NOT_TO_BE_HAD = {
    "metrics arrive": "the local AWS does not extract metrics from log lines",
    "an alarm rings and ends": "the local AWS does not count what a queue holds",
}


@contextlib.contextmanager
def function_url(client: Any, function_name: str) -> Iterator[str]:
    """The address of a server that turns each request into an invocation (payload format 2.0)."""

    class Requests(JsonHandler):
        def _invoke(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode("latin-1")
            event = {"rawPath": self.path, "headers": dict(self.headers.items()), "body": body}
            invoked = client.invoke(FunctionName=function_name, Payload=json.dumps(event).encode())
            result = json.loads(invoked["Payload"].read())
            self.answer(result["statusCode"], json.loads(result["body"]))

        do_GET = do_POST = _invoke  # noqa: N815

    with serving(Requests) as address:
        yield address


if __name__ == "__main__":
    with contextlib.ExitStack() as bridges:

        def reach(function_name: str, url: str) -> str:
            profile = sys.argv[sys.argv.index("--profile") + 1] if "--profile" in sys.argv else None
            client = boto3.Session(profile_name=profile).client("lambda")
            return bridges.enter_context(function_url(client, function_name))

        sys.exit(main(surroundings=Surroundings(reach, NOT_TO_BE_HAD, races=3)))
