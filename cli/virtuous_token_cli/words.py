"""What outcome words and findings mean, said to a person: one sentence, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .stack import Connection

__all__ = ["GOOD_OUTCOMES", "Finding", "days_and_hours", "finding_of", "sentence_of"]

GOOD_OUTCOMES = frozenset({"fresh", "refreshed", "recovered"})
# Virtuous documents 365 days for a refresh token; a month is time to log in during working hours.
REFRESH_TOKEN_ENDS_SOON = timedelta(days=30)
# The default schedule is six hours: a refresh that is two days late has been tried several times.
OVERDUE = timedelta(days=2)

_SENTENCES = {
    "fresh": "Nothing was due: readers have the newest token.",
    "refreshed": "A new token pair was saved, proved and published.",
    "recovered": "What a login or an earlier run left was published.",
    "busy": "Another run holds this connection; it will be done in a few minutes.",
    "superseded": "Another pair was stored meanwhile; it is current.",
    "postponed": "The run had too little time left; the next one does it.",
    "unproven": "A new pair was saved, but Virtuous refuses its token; readers keep the one before.",
    "try_again": "Virtuous or AWS did not serve it; the function tries again by itself.",
    "login_required": "Virtuous refuses every credential of this connection: a person must log in.",
    "misconfigured": "A secret is missing, unreadable or denied, or the address is wrong.",
}
_RUN = {
    "busy": "virtuous-token status --connection {name}",
    "superseded": "virtuous-token status --connection {name}",
    "postponed": "virtuous-token refresh --connection {name}",
    "unproven": "look at the user's rights in Virtuous, then virtuous-token refresh --connection {name}",
    "try_again": "virtuous-token status --connection {name}",
    "login_required": "virtuous-token login --connection {name}",
    "misconfigured": "virtuous-token check --connection {name}",
}


def sentence_of(outcome: str, name: str) -> tuple[str, str]:
    """What *outcome* means, and what to run; the second is empty where there is nothing to do."""
    sentence = _SENTENCES.get(outcome, f"The function says {outcome!r}, which this command does not know.")
    return sentence, _RUN.get(outcome, "").format(name=name)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one connection and what to run. ``is_urgent``: readers have no token, or lose it unaided."""

    what: str
    run: str
    is_urgent: bool = True


def finding_of(connection: Connection, now: datetime) -> Finding | None:
    """The worst thing that the report tells of *connection*; None where all is well."""
    login, refresh = (f"virtuous-token {command} --connection {connection.name}" for command in ("login", "refresh"))
    if error := connection.text("error"):
        check = f"virtuous-token check --connection {connection.name}"
        return Finding(error, login if connection.facts.get("is_unreadable") else check)
    if not connection.has_pair:
        return Finding("nobody has logged in yet", login)
    if (ends := connection.instant("expires_at")) and ends <= now:
        return Finding("the access token has expired", login if _is_refused(connection) else refresh)
    if _is_refused(connection):
        return Finding(f"Virtuous refused its credentials{_readers_work_until(connection, now)}", login)
    if (connection.text("proof") or "").startswith("refused"):
        if connection.text("refresh_token") is None:
            return Finding("Virtuous refuses its API key: readers are refused as well", f"{login} --api-key")
        return Finding("Virtuous refuses its access token: look at the user's rights in Virtuous", refresh)
    if connection.facts.get("bearer_in_step") is False:
        return Finding(f"readers do not have the newest token{_readers_work_until(connection, now)}", refresh)
    if (due := connection.instant("next_refresh_at")) and due + OVERDUE < now:
        return Finding("its refresh is overdue", "virtuous-token check", is_urgent=False)
    if (ends := connection.instant("refresh_token_expires_at")) and ends < now + REFRESH_TOKEN_ENDS_SOON:
        left = days_and_hours(ends - now)
        return Finding(f"its refresh token ends in {left}: log in during working hours", login, is_urgent=False)
    return None


def _is_refused(connection: Connection) -> bool:
    return connection.text("last_outcome") in ("refused", "code_needed")


def _readers_work_until(connection: Connection, now: datetime) -> str:
    end = connection.instant("readers_work_until") or connection.instant("expires_at")
    return f"; readers work for another {days_and_hours(end - now)}" if end and end > now else ""


def days_and_hours(span: timedelta) -> str:
    """A length of time in its largest sensible unit, for instance ``12 d``; ``0 min`` where it has passed."""
    minutes = max(int(span.total_seconds() // 60), 0)
    if minutes >= 48 * 60:
        return f"{minutes // (24 * 60)} d"
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"
