"""``virtuous-token refresh``: has the function refresh. The command itself sends no refresh token."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import click

from .aws import FAILURES, explained
from .options import FAILED, Session
from .remedies import CommandFailed, ours
from .screen import say, working
from .stack import Stack
from .words import GOOD_OUTCOMES, sentence_of

# Invocations at a time: a new account runs ten functions at once, and the rest of it needs some of these.
AT_A_TIME = 4


def refresh(session: Session, names: Sequence[str], *, every: bool) -> int:
    """Says what became of each connection, and returns the exit status."""
    stack = session.stack()
    with working("Asking the function"):
        found = [connection.name for connection in stack.report_of_existing(names).connections]
    if len(found) > 1 and not (every or names):
        raise click.UsageError("There are several connections: name some with --connection, or say --all.")
    if not found:
        raise CommandFailed("There is no connection yet.", ours("login"))
    with working(f"Refreshing {', '.join(found) if len(found) < 4 else f'{len(found)} connections'}"):
        outcomes = _refreshed(stack, found)
    for name, outcome in zip(found, outcomes, strict=True):
        if isinstance(outcome, CommandFailed):
            said, run = f"not refreshed. {outcome}", outcome.run
        else:
            sentence, run = sentence_of(outcome, name)
            said = f"{outcome}. {sentence}"
        say(f"{name}: {said}")
        session.say_remedies(run, "  ")
    return 0 if GOOD_OUTCOMES.issuperset(outcomes) else FAILED


def _refreshed(stack: Stack, names: Sequence[str]) -> list[str | CommandFailed]:
    """Of each the outcome word, or why the function could not be asked; in the order of *names*."""

    def ended(name: str) -> str | CommandFailed:
        try:
            return stack.refresh(name, force=True)
        except FAILURES as error:
            return explained(error, stack.aws)

    pool = ThreadPoolExecutor(AT_A_TIME)
    try:
        return list(pool.map(ended, names))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C no further one is begun
