"""``virtuous-token``: the commands. What does the work is imported once it is asked for.

So help, version and completion wait for no AWS library. Results go to standard output, talk to standard error. Exit
status: 0 done, 1 failed, 2 misused, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from token_refresher import __version__

from . import options
from .options import FAILED, Cli, Session
from .remedies import CommandFailed
from .screen import prepare_streams, say

DONE, MISUSED, INTERRUPTED = 0, 2, 130


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="virtuous-token")
@options.account
def cli() -> None:
    """Operates the Virtuous token refresher: make connections, look at them, check, refresh and remove them.

    It asks the function of the deployed stack, so looking needs no right to read a secret.
    """


@cli.command("login", epilog="\b\nExample: virtuous-token login --connection acme")
@options.connection
@click.option("--api-key", "kind", flag_value="api-key", help="Store an API key of Virtuous; it is asked for.")
@click.option("--refresh-token", "kind", flag_value="refresh-token", help="Adopt an existing pair; it is asked for.")
@click.option("--remember", is_flag=True, help="Store e-mail and password too, for unattended recovery.")
@options.protect
@options.yes
@options.account
@click.pass_obj
def _login(
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
    from .login import log_in

    log_in(session, connection, kind or "password", remember=remember, yes=yes, protect=protect)


@cli.command("status", epilog="\b\nExample: virtuous-token status --connection acme")
@options.connections
@click.option("--json", "as_json", is_flag=True, help="The function's whole report as JSON.")
@click.option("--watch", is_flag=True, help="Look again every 15 seconds, until Ctrl-C.")
@options.account
@click.pass_obj
def _status(session: Session, names: tuple[str, ...], as_json: bool, watch: bool) -> int:
    """Show connections: whose, how long their tokens last, what needs somebody. Never a token.

    Exit status 1 if a connection needs somebody now.
    """
    from .show import status

    return status(session, names, as_json=as_json, watch=watch)


@cli.command("refresh", epilog="\b\nExample: virtuous-token refresh --connection acme")
@options.connections
@click.option("--all", "every", is_flag=True, help="Every connection there is.")
@options.account
@click.pass_obj
def _refresh(session: Session, names: tuple[str, ...], every: bool) -> int:
    """Have the function refresh connections now, whether they are due or not."""
    if every and names:
        raise click.UsageError("--all and --connection exclude each other.")
    from .refresh import refresh

    return refresh(session, names, every=every)


@cli.command("check", epilog="\b\nExample: virtuous-token check --prefix virtuous")
@options.connections
@options.account
@click.pass_obj
def _check(session: Session, names: tuple[str, ...]) -> int:
    """Look at everything that must be right: stack, function, schedule, role, alarms, secrets, tokens.

    Each line is fine, or says what is wrong and what mends it. Exit status 1 if any is wrong.
    """
    from .check import check

    return check(session, names)


@cli.command("remove", epilog="\b\nExample: virtuous-token remove --connection acme")
@options.connection
@click.option("--undo", is_flag=True, help="Take it back, while AWS keeps the secrets.")
@click.option(
    "--recovery-days", type=click.IntRange(7, 30), default=30, show_default=True, help="How long AWS keeps the secrets."
)
@options.yes
@options.account
@click.pass_obj
def _remove(session: Session, connection: str, undo: bool, recovery_days: int, yes: bool) -> None:
    """Remove a connection: its secrets are marked for deletion, and the function stops minding it."""
    from .connection_secrets import remove_connection, restore_connection

    if undo:
        restore_connection(session, connection)
    else:
        remove_connection(session, connection, recovery_days, yes=yes)


@cli.command(epilog="\b\nExample: virtuous-token completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete this command; put it into the shell's start-up file."""
    from click.shell_completion import get_completion_class

    if made := get_completion_class(shell):
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
        if abort.__cause__ is None:
            click.echo(err=True)  # click ends the line of its own prompt only where it is hidden
        say(f"Interrupted. {' '.join(session.changed) or 'Nothing was changed.'}", err=True)
        return INTERRUPTED if isinstance(abort.__cause__ or abort.__context__, KeyboardInterrupt) else FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that closing it fails no more
        return FAILED
    except CommandFailed as error:
        return session.fail(error)
    except Exception as error:
        from .aws import FAILURES, explained

        if not isinstance(error, FAILURES):
            raise
        return session.fail(explained(error, session.aws))
    return ended if isinstance(ended, int) else DONE


def run() -> None:
    """The console script."""
    import getpass
    import warnings

    # botocore asks for MFA codes by getpass, which warns where there is no terminal and then finds nothing to read.
    warnings.simplefilter("ignore", getpass.GetPassWarning)
    prepare_streams()
    sys.exit(main())
