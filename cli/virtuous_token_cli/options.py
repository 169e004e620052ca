"""What the commands share: what the person named, the options that name it, and how help is laid out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .remedies import CommandFailed, Named, Remedy, Run
from .screen import Line, say, working

if TYPE_CHECKING:
    from .aws import Aws
    from .stack import Stack

FAILED = 1

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """What the person named, and what was found by it. ``changed`` tells what an error must not hide."""

    named: Named = field(default_factory=Named)
    changed: list[str] = field(default_factory=list)
    aws: Aws | None = None
    prefix: str | None = None

    def stack(self) -> Stack:
        """Raises CommandFailed where there is none, or several and none named."""
        from .aws import open_aws
        from .stack import find_stack

        self.aws, self.prefix = open_aws(self.named.profile, self.named.region), self.named.prefix
        self.named.asked_region = self.aws.region
        self.aws.resolve_credentials()
        with working("Looking for the stack"):
            stack = find_stack(self.aws, self.named.prefix)
        self.prefix = stack.prefix
        return stack

    def asked(self) -> str:
        """Account, Region and stack, for the text of an error."""
        if self.aws is None:
            return ""
        return self.aws.described() + (f", stack with prefix {self.prefix}" if self.prefix else "")

    def fail(self, failure: CommandFailed) -> int:
        """Says what happened, where it was asked, what was changed and what to do."""
        say(Line(f"Error: {failure}", "red"), err=True)
        if asked := self.asked():
            say(f"Asked: {asked}.", err=True)
        say(" ".join(self.changed) or "Nothing was changed.", err=True)
        self.say_remedies(failure.run)
        return FAILED

    def say_remedies(self, remedies: tuple[Remedy, ...], indent: str = "") -> None:
        for remedy in remedies:
            is_command = isinstance(remedy, Run)
            text = f"Run: {self.named.text(remedy)}" if isinstance(remedy, Run) else remedy[:1].upper() + remedy[1:]
            say(Line(indent + text, is_command=is_command), err=True)


def _connection_name(value: str) -> str:
    """So that a typing error is misuse and not a refusal by AWS."""
    from token_refresher.refresh.formats import CONNECTION_NAME

    if not CONNECTION_NAME.fullmatch(value) or len(value) > 64:
        raise click.BadParameter("a connection's name holds up to 64 lower-case letters, digits and hyphens")
    return value


def _principal(value: str) -> str:
    from .connection_secrets import is_principal

    if not is_principal(value):
        raise click.BadParameter(f"{value} is not the ARN of an IAM role or user, arn:aws:iam::ACCOUNT:role/NAME")
    return value


_NAME: dict[str, Any] = {"type": _connection_name, "metavar": "NAME"}
connection = click.option(
    "--connection", "-c", default="default", show_default=True, help="The connection's name.", **_NAME
)
connections = click.option(
    "--connection", "-c", "names", multiple=True, help="A connection's name; may be repeated.", **_NAME
)
_PROTECT = "Let nobody but the function and this role or user (* and ? in it) read the pair; may be repeated."
protect = click.option("--protect", multiple=True, type=_principal, metavar="ARN", help=_PROTECT)
yes = click.option("--yes", is_flag=True, help="Ask nothing; every answer is yes.")


def account(command: Command) -> Command:
    """The options that every command takes, before or after its name."""

    def keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is not None:
            setattr(ctx.ensure_object(Session).named, str(param.name), value)

    for name, what in (
        ("--prefix", "The stack's parameter Prefix; found by itself where there is one stack."),
        ("--region", "AWS Region; else AWS_REGION, else AWS_DEFAULT_REGION, else the profile's."),
        ("--profile", "Profile of the AWS CLI, with SSO, roles and MFA; else AWS_PROFILE."),
    ):
        command = click.option(name, metavar="NAME", help=what, callback=keep, expose_value=False)(command)
    return command


class Cli(click.Group):
    """Lists its commands with whole sentences, and says where the pages are."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (command.help or "").partition("\n\n")[0]) for name, command in sorted(self.commands.items())]
            )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write_text("Examples: virtuous-token login; virtuous-token status --watch; virtuous-token check")
        formatter.write_text(f"Pages: {_source()}, README.md and docs/run-book.md")


def _source() -> str:
    """What this was installed from, by its own record (PEP 610); else the checkout that it is in.

    Without importlib.metadata, whose import takes as long as all of the help.
    """
    here = Path(__file__).resolve().parents
    for record in here[1].glob("virtuous_token_cli-*.dist-info/direct_url.json"):
        url: str = json.loads(record.read_text())["url"]
        return url.rstrip("/").removesuffix("/cli")
    return str(here[2])
