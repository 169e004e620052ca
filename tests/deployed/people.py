"""People who run the operator's command against the deployed stack, each with the rights of one role."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from tests.deployed.local_aws import REGION, REPOSITORY
from tests.deployed.world import SOURCES, World
from tests.terminal import COMMAND, plain, typed_at_a_terminal
from virtuous_token_cli.main import main

ACCOUNT = "000000000000"
SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. At a terminal both outputs are in ``out``, as they were shown."""

    status: int
    out: str
    err: str = ""

    @property
    def said(self) -> str:
        """Both outputs, without what colours them."""
        return plain(self.out + self.err)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with *credentials*, in the world's Region."""

    world: World
    credentials: Mapping[str, str] = field(repr=False)

    def runs(self, *arguments: str, piped: str = "", **environment: str) -> CommandResult:
        """With *piped* as standard input. What is shown is kept among the world's logs."""
        options: Any = {"cwd": self.world.directory, "env": self.environment(**environment), "timeout": SECONDS}
        command = [*COMMAND, *arguments]
        ended = subprocess.run(command, input=piped.encode(), capture_output=True, check=False, **options)
        return self._kept(arguments, CommandResult(ended.returncode, ended.stdout.decode(), ended.stderr.decode()))

    def runs_here(self, *arguments: str, piped: str = "") -> CommandResult:
        """The same in this process, which saves its start where a test runs many."""
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.environment(), clear=True),
            patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode()))),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = main(arguments)
        return self._kept(arguments, CommandResult(status, out.getvalue(), err.getvalue()))

    def types(self, *arguments: str, answers: Sequence[tuple[str, str]] = ()) -> CommandResult:
        """At a terminal: types each answer when what precedes it is shown."""
        command, place = [*COMMAND, *arguments], self.world.directory
        status, shown = typed_at_a_terminal(command, answers, environment=self.environment(), directory=place)
        return self._kept(arguments, CommandResult(status, shown))

    def client(self, service: str, region: str = REGION) -> Any:
        """A boto3 client with these rights."""
        return self.world.client(service, self.environment(AWS_REGION=region))

    @property
    def arn(self) -> str:
        """As STS tells it."""
        return str(self.client("sts").get_caller_identity()["Arn"])

    def environment(self, **more: str) -> dict[str, str]:
        sources = os.pathsep.join(str(REPOSITORY / path) for path in SOURCES)
        return self.world.environment | dict(self.credentials) | {"PYTHONPATH": sources} | more

    def _kept(self, arguments: Sequence[str], ended: CommandResult) -> CommandResult:
        name = "-".join(argument.strip("-").replace("/", "_") for argument in arguments)[:60]
        (self.world.directory / f"person-{name}-{uuid4().hex[:8]}.log").write_text(ended.out + ended.err)
        return ended


def person_with(
    world: World,
    *policy_arns: str,
    document: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Person:
    """Somebody who has taken a role that carries these policies and, inline, *document*."""
    return Person(world, world.take_role(name or f"person-{uuid4().hex[:12]}", *policy_arns, document=document))
