"""``virtuous-token``: what each command does is in the module of its name, and is imported once it is asked for.

So help, version and completion wait for no AWS library. Results go to standard output, talk to standard error. Exit
status: 0 done, 1 failed, 2 misused, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from time import sleep as pause
from typing import TYPE_CHECKING, Any

import click

from .options import (
    FAILED,
    Cli,
    Session,
    account_options,
    connection_option,
    connections_option,
    example,
    protect_option,
    show_version,
    yes_option,
)
from .remedies import CommandFailed, Remedy, Run, ours
from .screen import clean, open_console, prepare_streams, say, working

if TYPE_CHECKING:
    from .stack import Connection, Report, Stack

__all__ = ["main", "run"]

DONE, MISUSED, INTERRUPTED = 0, 2, 130
WATCH_SECONDS = 15


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="The version.")
@account_options
def cli() -> None:
    """Operates the Virtuous token refresher: make connections, look at them, check, refresh and remove them.

    It asks the function of the deployed stack, so looking needs no right to read a secret.
    """


@cli.command(epilog=example("login --connection acme"))
@connection_option
@click.option("--api-key", "kind", flag_value="api-key", help="Store an API key of Virtuous; it is asked for.")
@click.option("--refresh-token", "kind", flag_value="refresh-token", help="Adopt an existing pair; it is asked for.")
@click.option("--remember", is_flag=True, help="Store e-mail and password too, for unattended recovery.")
@protect_option
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
                lost = clean(f"{now().astimezone():%H:%M:%S}: {failure} Above is what was seen last; looking again.")
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
    from .refresh import refreshed

    stack = session.stack()
    with working("Asking the function"):
        found = _report(stack, names).connections
    if len(found) > 1 and not (every or names):
        raise click.UsageError("There are several connections: name some with --connection, or say --all.")
    if not found:
        raise CommandFailed("There is no connection yet.", ours("login"))
    ended = [_say_ended(session, name, outcome) for name, outcome in refreshed(stack, [one.name for one in found])]
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
        say(f"Interrupted. {' '.join(session.changed) or 'Nothing was changed.'}", err=True)
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
