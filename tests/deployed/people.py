"""People who run the operator's command against the deployed stack, each with the rights of one role."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.deployed.local_aws import REPOSITORY, process_group
from tests.deployed.world import SOURCES, World

__all__ = ["Ended", "Person", "person_with"]

COMMAND = [sys.executable, "-m", "virtuous_token_cli"]
SECONDS = 90.0
# A session's leader gets the first terminal that it opens as its own, so that getpass finds it under /dev/tty.
ON_ITS_TERMINAL = (
    "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); from virtuous_token_cli.main import run; run()"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. At a terminal both outputs are in ``out``, as they were shown."""

    status: int
    out: str
    err: str = ""

    @property
    def said(self) -> str:
        """Both outputs, without what colours them."""
        return _ESCAPES.sub("", self.out + self.err)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with *credentials*, in the world's Region."""

    world: World
    credentials: Mapping[str, str] = field(repr=False)

    def runs(self, *arguments: str, piped: str = "", **environment: str) -> Ended:
        """With *piped* as standard input. What is shown is kept among the world's logs."""
        ended = subprocess.run(
            [*COMMAND, *arguments],
            input=piped.encode(),
            capture_output=True,
            cwd=self.world.directory,
            env=self.environment(**environment),
            timeout=SECONDS,
            check=False,
        )
        return self._kept(arguments, Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode()))

    def types(self, *arguments: str, answers: Sequence[tuple[str, str]] = (), columns: int = 80) -> Ended:
        """At a terminal: types each answer when what precedes it is shown."""
        terminal, its_end = pty.openpty()
        command = [sys.executable, "-c", ON_ITS_TERMINAL, *arguments]
        environment = self.environment(TERM="xterm-256color", COLUMNS=str(columns), LINES="40")
        shown = ""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), its_end)
        with process_group(command, cwd=self.world.directory, env=environment, **pipes) as process:
            os.close(its_end)
            try:
                for prompt, answer in answers:
                    shown = _read(terminal, shown, prompt)
                    time.sleep(0.2)  # getpass throws away what was typed before it had turned the echo off
                    os.write(terminal, f"{answer}\n".encode())
                    shown += "\0"  # the next prompt comes after this
                shown = _read(terminal, shown, None)
                process.wait(SECONDS)
            finally:
                os.close(terminal)
        return self._kept(arguments, Ended(process.returncode, shown.replace("\0", "")))

    def environment(self, **more: str) -> dict[str, str]:
        sources = os.pathsep.join(str(REPOSITORY / path) for path in SOURCES)
        return self.world.environment | dict(self.credentials) | {"PYTHONPATH": sources} | more

    def _kept(self, arguments: Sequence[str], ended: Ended) -> Ended:
        name = "-".join(argument.strip("-").replace("/", "_") for argument in arguments)[:60]
        (self.world.directory / f"person-{name}-{uuid4().hex[:8]}.log").write_text(ended.out + ended.err)
        return ended


def _read(terminal: int, shown: str, until: str | None) -> str:
    """What was shown so far, once *until* is in what came after the last answer; None: to the end."""
    deadline = time.monotonic() + SECONDS
    while until is None or until not in _ESCAPES.sub("", shown.rpartition("\0")[2]):
        if not select.select([terminal], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise AssertionError(f"waited for {until!r}; shown: {shown}")
        try:
            data = os.read(terminal, 4096)
        except OSError:  # how Linux says that nobody holds the other end any more
            data = b""
        if not data:
            if until is None:
                return shown
            raise AssertionError(f"it ended before {until!r}; shown: {shown}")
        shown += data.decode(errors="replace")
    return shown


def person_with(world: World, *policy_arns: str, document: Mapping[str, Any] | None = None) -> Person:
    """Somebody who has taken a role that carries these policies and, inline, *document*."""
    iam, name = world.client("iam"), f"person-{uuid4().hex[:12]}"
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole"}],
    }
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    for arn in policy_arns:
        iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    if document:
        iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=json.dumps(document))
    credentials = world.client("sts").assume_role(RoleArn=role, RoleSessionName="person")["Credentials"]
    return Person(
        world,
        {
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["SessionToken"],
        },
    )
