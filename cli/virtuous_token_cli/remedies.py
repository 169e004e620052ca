"""What a person is told to run. Every command that is printed is made here, so that it runs as it stands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

# Commands of the AWS CLI that concern this machine and no Region.
_WITHOUT_REGION = {"configure", "login", "sso"}


@dataclass(frozen=True, slots=True)
class Run:
    """A command, word by word. *rest* is for the shell alone, unquoted."""

    words: tuple[str, ...]
    rest: str = ""


# A command, or a sentence where no command helps.
Remedy = Run | str


def ours(*words: str, connection: str | None = None, rest: str = "") -> Run:
    """``virtuous-token`` with *words*, about *connection* if one is given."""
    return Run(("virtuous-token", *words, *(("--connection", connection) if connection else ())), rest)


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
    asked_region: str | None = None

    def text(self, run: Run) -> str:
        """The command as it is to be typed, quoted for a shell, with what was named here."""
        options: list[tuple[str, str | None]] = []
        if run.words[0] == "virtuous-token":
            options = [("--prefix", self.prefix), ("--region", self.region), ("--profile", self.profile)]
        elif run.words[0] == "aws" or "deploy" in run.words:
            # The asked one, since only some versions of other tools look at AWS_REGION.
            region = None if run.words[1] in _WITHOUT_REGION else self.asked_region
            options = [("--region", region), ("--profile", self.profile)]
        return (
            shlex.join([*run.words, *(word for name, value in options if value for word in (name, value))]) + run.rest
        )


class CommandFailed(Exception):
    """Ends the command with exit status 1.

    The text says what happened and holds no secret. *run* lists what mends it, in the order in which to do it.
    """

    def __init__(self, what: str, *run: Remedy) -> None:
        super().__init__(what)
        self.run = run
