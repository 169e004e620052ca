"""``virtuous-token remove``: takes a connection away on purpose, and back while AWS keeps its secrets."""

from __future__ import annotations

from .answers import open_answers
from .connection_secrets import ConnectionSecrets
from .options import Session
from .remedies import CommandFailed, ours
from .screen import Line, say


def remove(session: Session, connection: str, recovery_days: int, *, yes: bool) -> None:
    """Marks the connection's secrets for deletion, after asking."""
    answers = None if yes else open_answers()
    secrets = ConnectionSecrets.of(session.stack(), connection)
    if not (present := secrets.present()):
        raise CommandFailed(f"There is no connection {connection}, or it was removed already.", ours("status"))
    lost = "Its readers lose the token when their copy ends."
    if answers and not answers.confirm(f"{lost} Mark {', '.join(present)} for deletion in {recovery_days} days?"):
        raise CommandFailed("You said no.")
    for name, gone_at in secrets.remove(recovery_days):
        session.changed.append(f"{name} is marked for deletion.")
        say(f"{name}: AWS deletes it on {gone_at:%Y-%m-%d}.")
    undo = session.named.text(ours("remove", "--undo", connection=connection))
    say(Line(f"Undo until then: {undo}", is_command=True))


def restore(session: Session, connection: str) -> None:
    """Takes back what was marked for deletion."""
    secrets = ConnectionSecrets.of(session.stack(), connection)
    if not (marked := secrets.marked_for_deletion()):
        said = f"Nothing of connection {connection} is marked for deletion."
        raise CommandFailed(said, "to make it again:", ours("login", connection=connection))
    for name in marked:
        secrets.restore(name)
        session.changed.append(f"{name} was restored.")
        say(f"{name}: restored.")
    refresh = session.named.text(ours("refresh", connection=connection))
    say(Line(f"See how it is: {refresh}", is_command=True))
