"""What a person is told to run. Every command that is printed is made here, so that it runs as it stands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

__all__ = ["CommandFailed", "Named", "Remedy", "Run", "aws_cli", "ours", "sam_deploy"]

# Commands of the AWS CLI that concern this machine and no Region.
_WITHOUT_REGION = {"configure", "login", "sso"}


@dataclass(frozen=True, slots=True)
class Run:
    """A command, word by word, and the *connections* that it is for. *rest* is for the shell alone, unquoted."""

    words: tuple[str, ...]
    connections: tuple[str, ...] = ()
    rest: str = ""


# A command, or a sentence where no command helps.
Remedy = Run | str


def ours(*words: str, connection: str | None = None, rest: str = "") -> Run:
    """``virtuous-token`` with *words*."""
    return Run(("virtuous-token", *words), (connection,) if connection else (), rest)


def aws_cli(*words: str) -> Run:
    """``aws`` with *words*."""
    return Run(("aws", *words))


def sam_deploy(stack: str | None = None, *words: str) -> tuple[Run, Run]:
    """Building and deploying the checkout that one stands in, as *stack* if its name is known."""
    named = ("--stack-name", stack) if stack else ()
    return Run(("sam", "build")), Run(("sam", "deploy", *named, *words))


@dataclass(slots=True)
class Named:
    """What the person named on the command line, and the Region that is asked."""

    profile: str | None = None
    region: str | None = None
    prefix: str | None = None
    asked_region: str | None = field(default=None)

    def text(self, remedy: Remedy) -> str:
        """The command as it is to be typed, quoted for a shell, with what was named here; or the sentence."""
        if isinstance(remedy, str):
            return remedy
        program = remedy.words[0]
        options: list[tuple[str, str | None]] = [("--connection", name) for name in remedy.connections]
        if program == "virtuous-token":
            options += [("--prefix", self.prefix), ("--region", self.region), ("--profile", self.profile)]
        elif program == "aws" or "deploy" in remedy.words:
            # The asked one, since only some versions of other tools look at AWS_REGION.
            region = None if remedy.words[1] in _WITHOUT_REGION else self.asked_region
            options += [("--region", region), ("--profile", self.profile)]
        given = [word for name, value in options if value for word in (name, value)]
        return shlex.join([*remedy.words, *given]) + remedy.rest


class CommandFailed(Exception):
    """Ends the command with exit status 1.

    The text says what happened and holds no secret. *run* lists what mends it, in the order in which to do it.
    """

    def __init__(self, what: str, *run: Remedy) -> None:
        super().__init__(what)
        self.run = run
