"""``virtuous-token``: what each command does is in the module of its name, and is imported once it is asked for.

So help, version and completion wait for no AWS library. Results go to standard output, talk to standard error. Exit
status: 0 done, 1 failed, 2 misused, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import sleep as pause
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .remedies import CommandFailed, Named, Remedy, Run, ours
from .screen import Line, clean, open_console, prepare_streams, say, working

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .aws import Aws
    from .stack import Connection, Report, Stack

__all__ = ["main", "run"]

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
# Invocations at a time: a new account runs ten functions at once, and the rest of it needs some of these.
AT_A_TIME = 4
WATCH_SECONDS = 15

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


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
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
yes_option = click.option("--yes", is_flag=True, help="Ask nothing; every answer is yes.")


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="The version.")
@account_options
def cli() -> None:
    """Operates the Virtuous token refresher: make connections, look at them, check, refresh and remove them.

    It asks the function of the deployed stack, so looking needs no right to read a secret.
    """


def example(text: str) -> str:
    """An example of a command, for its help."""
    return f"\b\nExample: virtuous-token {text}"


@cli.command(epilog=example("login --connection acme"))
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
@account_options
@click.pass_obj
def login(
    session: Session, connection: str, kind: str | None, remember: bool, protect: tuple[str, ...], yes: bool
) -> None:
    """Log in to Virtuous, or log in again, and let readers have the token.

    Asks for e-mail, password and one-time code: at a terminal, or a line each from standard input. Nothing changes
    before it has shown whose token it is.

    --protect puts a resource policy on the pair, and on the password if one is stored. It stays until --protect names
    others, or until somebody takes it off: aws secretsmanager delete-resource-policy.
    """
    if remember and kind:
        raise click.UsageError("--remember stores a password, and there is none with --api-key or --refresh-token.")
    from .answers import open_answers

    how = [f"--{kind}"] if kind else []
    piped = session.named.text(ours("login", *how, *["--remember"] * remember, connection=connection))
    answers = open_answers(Run(("virtuous-token",), rest=f"{piped.removeprefix('virtuous-token')} < FILE"))
    from .login import Login, LoginOptions

    options = LoginOptions(kind or "password", remember, yes, protect)
    Login(session.stack(), connection, options, answers, session.changed.append).run()


@cli.command(epilog=example("status --connection acme"))
@connections_option
@click.option("--json", "as_json", is_flag=True, help="The function's whole report as JSON.")
@click.option("--watch", is_flag=True, help="Look again every 15 seconds, until Ctrl-C.")
@account_options
@click.pass_obj
def status(session: Session, names: tuple[str, ...], as_json: bool, watch: bool) -> int:
    """Show connections: whose, how long their tokens last, what needs somebody. Never a token.

    Exit status 1 if a connection needs somebody now.
    """
    stack = session.stack()
    with working("Asking the function"):
        report = _report(stack, names)
    if as_json:
        import json

        click.echo(json.dumps(report.document, indent=2))
    elif watch:
        _watch(session, stack, names, report)
    else:
        from .show import Shown

        shown: Shown = _shown(session, report, names)
        if shown.table:
            open_console().print(shown.table)
        for line in shown.lines:
            say(line)
    return FAILED if any(_is_urgent(found) for found in report.connections) else DONE


def _report(stack: Stack, names: Sequence[str]) -> Report:
    report = stack.report(names)
    if names:
        _must_exist(stack, report.connections)
    return report


def _shown(session: Session, report: Report, names: Sequence[str]) -> Any:
    from .show import one_connection, table_of
    from .stack import now

    found = report.connections
    if names and len(found) == 1:
        return one_connection(found[0], now(), session.named)
    return table_of(found, now(), session.named, open_console())


def _watch(session: Session, stack: Stack, names: Sequence[str], report: Report) -> None:
    """Until it is interrupted; what fails meanwhile is said, and tried again."""
    from botocore.exceptions import BotoCoreError, ClientError
    from rich.console import Group
    from rich.live import Live

    from .aws import explained
    from .stack import now

    shown = _shown(session, report, names).as_one()
    with Live(shown, console=open_console(), auto_refresh=False) as live:
        while True:
            pause(WATCH_SECONDS)
            try:
                shown = _shown(session, _report(stack, names), names).as_one()
                live.update(shown, refresh=True)
            except (CommandFailed, ClientError, BotoCoreError) as error:
                failure = error if isinstance(error, CommandFailed) else explained(error, stack.aws.log_in_again)
                lost = clean(f"{now().astimezone():%H:%M:%S}: {failure} It is as above was; looking again.")
                live.update(Group(shown, lost), refresh=True)


@cli.command(epilog=example("refresh --connection acme"))
@connections_option
@click.option("--all", "every", is_flag=True, help="Every connection there is.")
@account_options
@click.pass_obj
def refresh(session: Session, names: tuple[str, ...], every: bool) -> int:
    """Have the function refresh connections now, whether they are due or not."""
    if every and names:
        raise click.UsageError("--all and --connection exclude each other.")
    stack = session.stack()
    with working("Asking the function"):
        found = _report(stack, names).connections
    if len(found) > 1 and not (every or names):
        raise click.UsageError("There are several connections: name some with --connection, or say --all.")
    if not found:
        raise CommandFailed("There is no connection yet.", ours("login"))
    ended = [_say_ended(session, name, outcome) for name, outcome in _refreshed(stack, [one.name for one in found])]
    return DONE if all(ended) else FAILED


def _say_ended(session: Session, name: str, outcome: str | CommandFailed) -> bool:
    """Says what became of one connection, and whether it is well."""
    from .words import GOOD_OUTCOMES, sentence_of

    if isinstance(outcome, CommandFailed):
        say(f"{name}: not refreshed. {outcome}")
        remedies: Sequence[Remedy] = outcome.run
    else:
        sentence, run = sentence_of(outcome, name)
        say(f"{name}: {outcome}. {sentence}")
        remedies = [run] if run else []
    for remedy in remedies:
        say(session.line_of(remedy, "  "), err=True)
    return outcome in GOOD_OUTCOMES


def _refreshed(stack: Stack, names: list[str]) -> Iterator[tuple[str, str | CommandFailed]]:
    """Of each the outcome word, or why the function could not be asked; in the order of *names*."""
    from concurrent.futures import ThreadPoolExecutor

    from botocore.exceptions import BotoCoreError, ClientError
    from rich.progress import track

    from .aws import explained

    def refreshed(name: str) -> str | CommandFailed:
        try:
            return stack.refresh(name, force=True)
        except CommandFailed as failure:
            return failure
        except (ClientError, BotoCoreError) as error:
            return explained(error, stack.aws.log_in_again)

    talk = open_console(err=True)
    pool = ThreadPoolExecutor(AT_A_TIME)
    try:
        ended = pool.map(refreshed, names)
        bar = track(ended, "Refreshing", len(names), console=talk, transient=True, disable=not talk.is_terminal)
        yield from zip(names, list(bar), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C no further one is begun


@cli.command(epilog=example("check --prefix virtuous"))
@connections_option
@account_options
@click.pass_obj
def check(session: Session, names: tuple[str, ...]) -> int:
    """Look at everything that must be right: stack, function, schedule, role, alarms, secrets, tokens.

    Each line is fine, or says what is wrong and what mends it. Exit status 1 if any is wrong.
    """
    from .check import run_checks
    from .show import lines_of
    from .stack import now
    from .words import told

    stack = session.stack()
    with working("Looking at everything, and asking Virtuous about each token"):
        try:
            report: Report | CommandFailed = stack.report(names, prove=True)
        except CommandFailed as failure:
            report = failure
        if names and not isinstance(report, CommandFailed):
            _must_exist(stack, report.connections)
        of_stack, of_connections = run_checks(stack, report, now())
    say(f"Checking {session.asked()}")
    kinds = [kind for finding in of_stack for kind in told([finding])] + told(of_connections)
    for kind in kinds:
        marked = kind._replace(sentence=f"{'fine ' if kind.is_fine else 'WRONG'}  {kind.sentence}")
        for line in lines_of(marked, session.named, "       ", "run: "):
            say(line)
    wrong = sum(not kind.is_fine for kind in kinds)
    say("All is well." if not wrong else f"{wrong} to mend.")
    return FAILED if wrong else DONE


@cli.command(epilog=example("remove --connection acme"))
@connection_option
@click.option("--undo", is_flag=True, help="Take it back, while AWS keeps the secrets.")
@click.option(
    "--recovery-days", type=click.IntRange(7, 30), default=30, show_default=True, help="How long AWS keeps the secrets."
)
@yes_option
@account_options
@click.pass_obj
def remove(session: Session, connection: str, undo: bool, recovery_days: int, yes: bool) -> None:
    """Remove a connection: its secrets are marked for deletion, and the function stops minding it."""
    from .answers import open_answers
    from .remove import remove_connection, restore_connection

    if undo:
        restore_connection(session.stack(), connection, session.changed.append, session.named)
        return
    answers = None if yes else open_answers()
    remove_connection(session.stack(), connection, recovery_days, answers, session.changed.append, session.named)


def _must_exist(stack: Stack, found: Sequence[Connection]) -> None:
    """Raises CommandFailed for a name that no connection has; AWS itself answers such a name with a denial."""
    doubtful = [connection.name for connection in found if not connection.exists]
    if not doubtful:
        return
    known = {connection.name for connection in stack.report().connections}
    if unknown := [name for name in doubtful if name not in known]:
        names = ", ".join(sorted(known)[:20]) or "none yet"
        raise CommandFailed(
            f"There is no connection {', '.join(unknown)}. There is: {names}.",
            "to make it:",
            ours("login", connection=unknown[0]),
        )


def _is_urgent(connection: Connection) -> bool:
    from .stack import now
    from .words import Severity, finding_of

    found = finding_of(connection, now())
    return found is not None and found.severity is Severity.URGENT


@cli.command(epilog=example("completion bash >> ~/.bashrc"))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete this command; put it into the shell's start-up file."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 (click has all three; for the type checker)
    click.echo(made(cli, {}, "virtuous-token", "_VIRTUOUS_TOKEN_COMPLETE").source())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    session = Session()
    arguments = None if argv is None else list(argv)
    try:
        ended = cli.main(args=arguments, prog_name="virtuous-token", standalone_mode=False, obj=session)
    except click.UsageError as error:
        error.show()
        return MISUSED
    except click.Abort as abort:
        session.fail(CommandFailed("Interrupted."))
        return INTERRUPTED if isinstance(abort.__cause__, KeyboardInterrupt) else FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that closing it fails no more
        return FAILED
    except CommandFailed as error:
        return session.fail(error)
    except Exception as error:
        from botocore.exceptions import BotoCoreError, ClientError

        from .aws import explained

        if not isinstance(error, ClientError | BotoCoreError):
            raise
        return session.fail(explained(error, *[session.found.log_in_again] if session.found else []))
    return ended if isinstance(ended, int) else DONE


def run() -> None:
    """The console script."""
    import getpass
    import warnings

    # botocore asks for MFA codes by getpass, which warns where there is no terminal and then finds nothing to read.
    warnings.simplefilter("ignore", getpass.GetPassWarning)
    prepare_streams()
    sys.exit(main())
