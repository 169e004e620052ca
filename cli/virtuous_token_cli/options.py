"""What the commands share: what the person named, the options that name it, and how help is laid out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .remedies import CommandFailed, Named, Remedy, Run
from .screen import Line, say, working

if TYPE_CHECKING:
    from .aws import Aws
    from .stack import Stack

__all__ = [
    "FAILED",
    "Cli",
    "Session",
    "account_options",
    "connection_option",
    "connections_option",
    "example",
    "protect_option",
    "show_version",
    "yes_option",
]

FAILED = 1

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """What the person named, and what was found by it. ``changed`` tells what an error must not hide."""

    named: Named = field(default_factory=Named)
    changed: list[str] = field(default_factory=list)
    found: Aws | None = None
    prefix: str | None = None

    def aws(self) -> Aws:
        from .aws import open_aws

        if self.found is None:
            self.found = open_aws(self.named.profile, self.named.region)
            self.named.asked_region = self.found.region
            self.found.resolve_credentials()
        return self.found

    def stack(self) -> Stack:
        from .stack import find_stack

        aws, self.prefix = self.aws(), self.named.prefix
        with working("Looking for the stack"):
            stack = find_stack(aws, self.named.prefix)
        self.prefix = stack.prefix
        return stack

    def asked(self) -> str:
        """Account, Region and stack, for the text of an error."""
        if self.found is None:
            return ""
        return self.found.described() + (f", stack with prefix {self.prefix}" if self.prefix else "")

    def fail(self, failure: CommandFailed) -> int:
        """Says what happened, where it was asked, what was changed and what to do."""
        say(Line(f"Error: {failure}", "red"), err=True)
        if asked := self.asked():
            say(f"Asked: {asked}.", err=True)
        say(" ".join(self.changed) or "Nothing was changed.", err=True)
        for remedy in failure.run:
            say(self.line_of(remedy), err=True)
        return FAILED

    def line_of(self, remedy: Remedy, indent: str = "") -> Line:
        if isinstance(remedy, Run):
            return Line(f"{indent}Run: {self.named.text(remedy)}", is_command=True)
        return Line(f"{indent}{remedy[:1].upper()}{remedy[1:]}")


class ConnectionName(click.ParamType):
    """A connection's name, so that a typing error is misuse and not a refusal by AWS."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from token_refresher.refresh.formats import CONNECTION_NAME

        if not CONNECTION_NAME.fullmatch(value) or len(value) > 64:
            self.fail("a connection's name holds up to 64 lower-case letters, digits and hyphens", param, ctx)
        return value


class Principal(click.ParamType):
    """The ARN of a role or user, perhaps a pattern."""

    name = "arn"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from .protection import is_principal

        if not is_principal(value):
            self.fail(f"{value} is not the ARN of an IAM role or user, arn:aws:iam::ACCOUNT:role/NAME", param, ctx)
        return value


def account_options(command: Command) -> Command:
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
        formatter.write_text(f"Pages: {_pages()}")


def _pages() -> str:
    """Where the pages are: in what this was installed from, by its own record (PEP 610)."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    source = "the repository"
    with contextlib.suppress(PackageNotFoundError, ValueError, KeyError):
        source = json.loads(distribution("virtuous-token-cli").read_text("direct_url.json") or "{}")["url"]
    return f"{re.sub('/cli/?$', '', source)}, README.md and docs/run-book.md"


def show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from token_refresher import __version__

        click.echo(f"virtuous-token, version {__version__}")
        ctx.exit()


connection_option = click.option(
    "--connection", "-c", default="default", show_default=True, type=ConnectionName(), help="The connection's name."
)
connections_option = click.option(
    "--connection", "-c", "names", multiple=True, type=ConnectionName(), help="A connection's name; may be repeated."
)
protect_option = click.option(
    "--protect",
    multiple=True,
    type=Principal(),
    metavar="ARN",
    help="Let nobody but the function and this role or user (* and ? in it) read the pair; may be repeated.",
)
yes_option = click.option("--yes", is_flag=True, help="Ask nothing; every answer is yes.")


def example(text: str) -> str:
    """An example of a command, for its help."""
    return f"\b\nExample: virtuous-token {text}"
