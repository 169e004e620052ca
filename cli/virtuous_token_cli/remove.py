"""``virtuous-token remove``: takes a connection away on purpose, and back while AWS keeps its secrets."""

from __future__ import annotations

from collections.abc import Callable

from token_refresher.refresh.formats import SecretNames

from .answers import Answers
from .connection_secrets import ConnectionSecrets
from .remedies import CommandFailed, Named, ours
from .screen import Line, say
from .stack import Stack

__all__ = ["remove_connection", "restore_connection"]


def remove_connection(
    stack: Stack,
    connection: str,
    recovery_days: int,
    answers: Answers | None,
    changed: Callable[[str], object],
    named: Named,
) -> None:
    """Marks the connection's secrets for deletion, after asking unless *answers* is None."""
    secrets = _secrets(stack, connection)
    present = secrets.present()
    if not present:
        raise CommandFailed(f"There is no connection {connection}, or it was removed already.", ours("status"))
    if answers and not answers.confirm(
        f"Its readers lose the token when their copy ends. Mark {', '.join(present)} for deletion in "
        f"{recovery_days} days?"
    ):
        raise CommandFailed("You said no.")
    for name, gone_at in secrets.remove(recovery_days):
        changed(f"{name} is marked for deletion.")
        say(f"{name}: AWS deletes it on {gone_at:%Y-%m-%d}.")
    undo = named.text(ours("remove", "--undo", connection=connection))
    say(Line(f"Undo until then: {undo}", is_command=True))


def restore_connection(stack: Stack, connection: str, changed: Callable[[str], object], named: Named) -> None:
    """Takes back what was marked for deletion."""
    secrets = _secrets(stack, connection)
    marked = secrets.marked_for_deletion()
    if not marked:
        raise CommandFailed(
            f"Nothing of connection {connection} is marked for deletion.",
            "to make it again:",
            ours("login", connection=connection),
        )
    for name in marked:
        secrets.restore(name)
        changed(f"{name} was restored.")
        say(f"{name}: restored.")
    refresh = named.text(ours("refresh", connection=connection))
    say(Line(f"See how it is: {refresh}", is_command=True))


def _secrets(stack: Stack, connection: str) -> ConnectionSecrets:
    names = SecretNames.of(stack.prefix, connection)
    return ConnectionSecrets(stack.aws.client("secretsmanager"), names, None, {})
