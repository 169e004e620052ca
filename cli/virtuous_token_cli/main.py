"""``virtuous-token``: what each command does is in the module of its name.

Results go to standard output, talk to standard error. Exit status: 0 done, 1 failed, 2 misused.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import sleep as pause
from typing import Any, TypeVar

import click
from botocore.exceptions import BotoCoreError, ClientError
from click.shell_completion import get_completion_class
from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

from token_refresher import __version__
from token_refresher.refresh.formats import CONNECTION_NAME

from .answers import open_answers
from .aws import Aws, explained, open_aws
from .doctor import checked
from .failures import CommandFailed
from .login import Login, LoginOptions
from .protection import is_principal
from .remove import remove_connection, restore_connection
from .show import one_connection, table_of
from .stack import Connection, Report, Stack, find_stack
from .words import GOOD_OUTCOMES, finding_of, sentence_of

__all__ = ["main", "run"]

DONE, FAILED, MISUSED = 0, 1, 2
# Invocations at a time: a new account runs ten functions at once, and the rest of it needs some of these.
AT_A_TIME = 4
WATCH_SECONDS = 15

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Asked:
    """What the person named, and what was found by it. ``changed`` tells what an error must not hide."""

    profile: str | None = None
    region: str | None = None
    prefix: str | None = None
    changed: list[str] = field(default_factory=list)
    found: Aws | None = None
    talk: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def aws(self) -> Aws:
        if self.found is None:
            self.found = open_aws(self.profile, self.region)
            self.found.resolve_credentials()
        return self.found

    def stack(self) -> Stack:
        aws = self.aws()
        with self.talk.status("Looking for the stack"):
            stack = find_stack(aws, self.prefix)
        self.prefix = stack.prefix
        return stack

    def named(self) -> str:
        """Account, Region and stack, for the text of an error."""
        if self.found is None:
            return ""
        stack = f", stack with prefix {self.prefix}" if self.prefix else ""
        return f"{self.found.described()}{stack}"


class ConnectionName(click.ParamType):
    """A connection's name, so that a typing error is misuse and not a refusal by AWS."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not CONNECTION_NAME.fullmatch(value) or len(value) > 64:
            self.fail("a connection's name holds up to 64 lower-case letters, digits and hyphens", param, ctx)
        return value


class Principal(click.ParamType):
    """The ARN of a role or user, perhaps a pattern."""

    name = "arn"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_principal(value):
            self.fail(f"{value} is not the ARN of an IAM role or user, arn:aws:iam::ACCOUNT:role/NAME", param, ctx)
        return value


def where(command: Command) -> Command:
    """The options that every command takes, before or after its name."""

    def keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is not None:
            setattr(ctx.ensure_object(Asked), str(param.name), value)

    for name, what in (
        ("--prefix", "The stack's parameter Prefix; found by itself where there is one stack."),
        ("--region", "AWS Region; else AWS_REGION, else AWS_DEFAULT_REGION, else the profile's."),
        ("--profile", "Profile of the AWS CLI, with SSO, roles and MFA; else AWS_PROFILE."),
    ):
        command = click.option(name, metavar="NAME", help=what, callback=keep, expose_value=False)(command)
    return command


connection_option = click.option(
    "--connection", "-c", default="default", show_default=True, type=ConnectionName(), help="The connection's name."
)
connections_option = click.option(
    "--connection", "-c", "names", multiple=True, type=ConnectionName(), help="A connection's name; may be repeated."
)
yes_option = click.option("--yes", is_flag=True, help="Ask nothing; every answer is yes.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="virtuous-token")
@where
def cli() -> None:
    """Operates the Virtuous token refresher: make connections, look at them, check, refresh and remove them.

    It asks the function of the deployed stack, so looking needs no right to read a secret.
    """


@cli.command()
@connection_option
@click.option("--api-key", "kind", flag_value="api-key", help="Store an API key of Virtuous; it is asked for.")
@click.option("--refresh-token", "kind", flag_value="refresh-token", help="Adopt an existing pair; it is asked for.")
@click.option("--remember", is_flag=True, help="Store e-mail and password too, for unattended recovery.")
@click.option(
    "--protect",
    multiple=True,
    type=Principal(),
    metavar="ARN",
    help="Let nobody but the function and this role or user (* and ? in it) read the pair; may be repeated.",
)
@yes_option
@where
@click.pass_obj
def login(asked: Asked, connection: str, kind: str | None, remember: bool, protect: tuple[str, ...], yes: bool) -> None:
    """Log in to Virtuous, or log in again, and let readers have the token.

    Asks for e-mail, password and one-time code: at a terminal, or a line each from standard input. Nothing changes
    before it has shown whose token it is.

    --protect puts a resource policy on the pair, and on the password if one is stored. It stays until --protect names
    others, or until somebody takes it off: aws secretsmanager delete-resource-policy.
    """
    if remember and kind:
        raise click.UsageError("--remember stores a password, and there is none with --api-key or --refresh-token.")
    answers = open_answers()
    options = LoginOptions(kind or "password", remember, yes, protect)
    Login(asked.stack(), connection, options, answers, asked.talk, asked.changed.append).run()


@cli.command()
@connections_option
@click.option("--json", "as_json", is_flag=True, help="The function's whole report as JSON.")
@click.option("--watch", is_flag=True, help="Look again every 15 seconds, until Ctrl-C.")
@where
@click.pass_obj
def status(asked: Asked, names: tuple[str, ...], as_json: bool, watch: bool) -> int:
    """Show connections: whose, how long their tokens last, what needs somebody. Never a token.

    Exit status 1 if a connection needs somebody now.
    """
    stack, out = asked.stack(), Console(highlight=False)

    def look() -> tuple[Report, int]:
        report = stack.report(names)
        _must_exist(stack, report.connections)
        return report, FAILED if any(_is_urgent(found) for found in report.connections) else DONE

    def shown(report: Report) -> Any:
        found = report.connections
        return one_connection(found[0], _now()) if names and len(found) == 1 else table_of(found, _now())

    with asked.talk.status("Asking the function"):
        report, ended = look()
    if as_json:
        click.echo(json.dumps(report.document, indent=2))
        return ended
    if not watch:
        out.print(shown(report))
        return ended
    with Live(shown(report), console=out, auto_refresh=False) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            pause(WATCH_SECONDS)
            report, ended = look()
            live.update(shown(report), refresh=True)
    return ended


@cli.command()
@connections_option
@click.option("--all", "every", is_flag=True, help="Every connection there is.")
@where
@click.pass_obj
def refresh(asked: Asked, names: tuple[str, ...], every: bool) -> int:
    """Have the function refresh connections now, whether they are due or not."""
    if every and names:
        raise click.UsageError("--all and --connection exclude each other.")
    stack = asked.stack()
    with asked.talk.status("Asking the function"):
        found = stack.report(names or None).connections
    if names:
        _must_exist(stack, found)
    elif len(found) > 1 and not every:
        raise click.UsageError("There are several connections: name some with --connection, or say --all.")
    if not found:
        raise CommandFailed("There is no connection yet.", "virtuous-token login")
    outcomes, failure = _refreshed(stack, [connection.name for connection in found], asked)
    for name, outcome in sorted(outcomes.items()):
        sentence, run = sentence_of(outcome, name)
        click.echo(f"{name}: {outcome}. {sentence}")
        if run:
            click.echo(f"  {run}", err=True)
    if failure:
        asked.changed.append(f"{len(outcomes)} of {len(found)} were dealt with.")
        raise failure
    return DONE if all(outcome in GOOD_OUTCOMES for outcome in outcomes.values()) else FAILED


def _refreshed(stack: Stack, names: list[str], asked: Asked) -> tuple[dict[str, str], Exception | None]:
    """The outcome word of each that the function could be asked about, and why it could not about another."""
    outcomes: dict[str, str] = {}
    failure: Exception | None = None
    is_silent = not asked.talk.is_terminal
    with Progress(console=asked.talk, transient=True, disable=is_silent) as bar, ThreadPoolExecutor(AT_A_TIME) as pool:
        task = bar.add_task("Refreshing", total=len(names))
        running = {pool.submit(stack.refresh, name, force=True): name for name in names}
        for done in as_completed(running):
            try:
                outcomes[running[done]] = done.result()
            except (CommandFailed, ClientError, BotoCoreError) as error:
                failure = error
            bar.advance(task)
    return outcomes, failure


@cli.command()
@connections_option
@where
@click.pass_obj
def check(asked: Asked, names: tuple[str, ...]) -> int:
    """Look at everything that must be right: stack, schedule, role, alarms, secrets, tokens.

    Each line is fine, or says what is wrong and what to run. Exit status 1 if any is wrong.
    """
    stack = asked.stack()
    with asked.talk.status("Asking the function, and Virtuous about each token"):
        report = stack.report(names, prove=True)
    _must_exist(stack, report.connections)
    out, wrong = Console(highlight=False), 0
    out.print(Text(f"Checking {asked.named()}"), soft_wrap=True)
    for line in checked(stack, report, _now()):
        wrong += not line.is_fine
        mark = Text("fine ", style="green") if line.is_fine else Text("WRONG", style="bold red")
        out.print(Text.assemble(mark, f"  {line.about}: {line.said}"))
        if not line.is_fine and line.run:
            out.print(Text(f"       run: {line.run}"), soft_wrap=True)
    out.print("All is well." if not wrong else f"{wrong} to mend.")
    return FAILED if wrong else DONE


@cli.command()
@connection_option
@click.option("--undo", is_flag=True, help="Take it back, while AWS keeps the secrets.")
@click.option(
    "--recovery-days", type=click.IntRange(7, 30), default=30, show_default=True, help="How long AWS keeps the secrets."
)
@yes_option
@where
@click.pass_obj
def remove(asked: Asked, connection: str, undo: bool, recovery_days: int, yes: bool) -> None:
    """Remove a connection: its secrets are marked for deletion, and the function stops minding it."""
    if undo:
        restore_connection(asked.stack(), connection, asked.changed.append)
        return
    answers = None if yes else open_answers()
    remove_connection(asked.stack(), connection, recovery_days, answers, asked.changed.append)


def _must_exist(stack: Stack, found: Iterable[Connection]) -> None:
    """Raises CommandFailed for a name that no connection has; AWS itself answers such a name with a denial."""
    doubtful = [connection.name for connection in found if not connection.exists]
    if not doubtful:
        return
    known = {connection.name for connection in stack.report().connections}
    if unknown := [name for name in doubtful if name not in known]:
        names = ", ".join(sorted(known)[:20]) or "none yet"
        raise CommandFailed(
            f"There is no connection {', '.join(unknown)}. There is: {names}.",
            f"virtuous-token login --connection {unknown[0]}, to make it",
        )


def _is_urgent(connection: Connection) -> bool:
    found = finding_of(connection, _now())
    return found is not None and found.is_urgent


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete this command; put it into the shell's start-up file."""
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 (click has all three; for the type checker)
    click.echo(made(cli, {}, "virtuous-token", "_VIRTUOUS_TOKEN_COMPLETE").source())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    asked = Asked()
    try:
        ended = cli.main(
            args=None if argv is None else list(argv), prog_name="virtuous-token", standalone_mode=False, obj=asked
        )
    except click.UsageError as error:
        error.show()
        return MISUSED
    except click.Abort:
        return _fail(asked, CommandFailed("Interrupted."))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that closing it fails no more
        return FAILED
    except CommandFailed as error:
        return _fail(asked, error)
    except (ClientError, BotoCoreError) as error:
        return _fail(asked, explained(error, asked.found.profile if asked.found else asked.profile))
    return ended if isinstance(ended, int) else DONE


def run() -> None:
    """The console script."""
    # botocore asks for MFA codes by getpass, which warns where there is no terminal and then finds nothing to read.
    warnings.simplefilter("ignore", getpass.GetPassWarning)
    sys.exit(main())


def _fail(asked: Asked, failure: CommandFailed) -> int:
    """Says what happened, where it was asked, what was changed and what to run."""
    lines = [Text.assemble(("Error: ", "bold red"), str(failure))]
    if where_asked := asked.named():
        lines.append(Text(f"Asked: {where_asked}."))
    lines.append(Text(" ".join(asked.changed) or "Nothing was changed."))
    lines += [Text(f"Run: {run}") for run in failure.run]
    for line in lines:
        asked.talk.print(line, soft_wrap=True)
    return FAILED


def _now() -> datetime:
    return datetime.now(UTC)
