"""``virtuous-token refresh``: has the function refresh. The command itself sends no refresh token."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .aws import FAILURES, explained
from .options import FAILED, Session
from .remedies import CommandFailed, ours
from .screen import say, working
from .words import GOOD_OUTCOMES, sentence_of


def refresh(session: Session, names: Sequence[str], *, every: bool) -> int:
    """Says what became of each connection, as it ends, and returns the exit status."""
    stack, ended = session.stack(), 0
    with working("Asking the function"):
        found = [connection.name for connection in stack.report_of_existing(names).connections]
    if len(found) > 1 and not (every or names):
        raise click.UsageError("There are several connections: name some with --connection, or say --all.")
    if not found:
        raise CommandFailed("There is no connection yet.", ours("login"))
    for name in found:
        try:
            with working(f"Refreshing {name}"):
                outcome = stack.refresh(name, force=True)
        except FAILURES as error:
            failure, is_well = explained(error, stack.aws), False
            said, remedies = f"not refreshed. {failure}", failure.run
        else:
            sentence, remedies = sentence_of(outcome, name)
            said, is_well = f"{outcome}. {sentence}", outcome in GOOD_OUTCOMES
        ended = ended if is_well else FAILED
        say(f"{name}: {said}")
        session.say_remedies(remedies, "  ")
    return ended
