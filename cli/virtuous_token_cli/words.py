"""What outcome words and findings mean, said to a person: one sentence, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from .remedies import Remedy, Run, ours
from .stack import Connection

GOOD_OUTCOMES = frozenset({"fresh", "refreshed", "recovered"})
# Virtuous documents 365 days for a refresh token; a month is time to log in during working hours.
REFRESH_TOKEN_ENDS_SOON = timedelta(days=30)
# The default schedule is six hours: a refresh that is two days late has been tried several times.
OVERDUE = timedelta(days=2)
RIGHTS = "look at the user's rights in Virtuous"
_EARLIEST = datetime.min.replace(tzinfo=UTC)
# Stands for the connection's name in a finding, so that those of a kind are equal.
ANY = "{connection}"

# What it means, and the command of ours that comes next; "" where there is nothing to do.
_OUTCOMES = {
    "fresh": ("Nothing was due: readers have the newest token.", ""),
    "refreshed": ("A new token pair was saved, proved and published.", ""),
    "recovered": ("What a login or an earlier run left was published.", ""),
    "busy": ("Another run holds this connection; it will be done in a few minutes.", "status"),
    "superseded": ("Another pair was stored meanwhile; it is current.", "status"),
    "postponed": ("The run had too little time left; the next one does it.", "refresh"),
    "unproven": (
        "A new pair was saved, but Virtuous refuses its token; readers keep the one before. First, the user's rights.",
        "refresh",
    ),
    "try_again": ("Virtuous or AWS did not serve it; the function tries again by itself.", "status"),
    "login_required": ("Virtuous refuses every credential of this connection: a person must log in.", "login"),
    "misconfigured": ("A secret is missing, unreadable or denied, or the address is wrong.", "check"),
}


def sentence_of(outcome: str, name: str) -> tuple[str, tuple[Remedy, ...]]:
    """What *outcome* means for connection *name*, and what to run where there is something to do."""
    unknown = (f"The function says {outcome!r}, which this command does not know.", "check")
    sentence, command = _OUTCOMES.get(outcome, unknown)
    return sentence, (ours(command, connection=name),) if command else ()


class Severity(IntEnum):
    """The worst first."""

    URGENT = 0  # readers have no token, or lose it unless somebody does something
    LATER = 1
    FINE = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about a connection or a part of the stack, and what mends it, in that order.

    *detail* tells it from others of its kind. *until*: when readers lose the token, where that is known.
    """

    about: str
    what: str
    remedies: tuple[Remedy, ...] = ()
    severity: Severity = Severity.URGENT
    detail: str = ""
    until: datetime | None = None


def fine(about: str, what: str, detail: str = "") -> Finding:
    """What is as it should be."""
    return Finding(about, what, severity=Severity.FINE, detail=detail)


def finding_of(connection: Connection, now: datetime) -> Finding | None:
    """The worst thing that the report tells of *connection*; None where all is well."""
    name = connection.name
    login, refresh, check = (ours(command, connection=ANY) for command in ("login", "refresh", "check"))
    ends = connection.instant("readers_work_until") or connection.instant("expires_at")
    left = f"readers work for another {days_and_hours(ends - now)}" if ends and ends > now else ""
    refused = connection.text("last_outcome") in ("refused", "code_needed")
    if error := connection.text("error"):
        remedy = login if connection.facts.get("is_unreadable") else check
        return Finding(name, error.replace(f"/{name}/", f"/{ANY}/"), (remedy,))
    if not connection.has_pair:
        return Finding(name, "nobody has logged in yet", (login,))
    if (end := connection.instant("expires_at")) and end <= now:
        return Finding(name, "the access token has expired", (login if refused else refresh,), until=end)
    if refused:
        return Finding(name, "Virtuous refused its credentials", (login,), detail=left, until=ends)
    if (connection.text("proof") or "").startswith("refused"):
        if connection.text("refresh_token") is None:
            key = ours("login", "--api-key", connection=ANY)
            return Finding(name, "Virtuous refuses its API key: readers are refused as well", (key,))
        return Finding(name, "Virtuous refuses its access token", (RIGHTS, refresh))
    if connection.facts.get("bearer_in_step") is False:
        return Finding(name, "readers do not have the newest token", (refresh,), detail=left, until=ends)
    if (due := connection.instant("next_refresh_at")) and due + OVERDUE < now:
        return Finding(name, "its refresh is overdue", (ours("check"),), Severity.LATER)
    if (end := connection.instant("refresh_token_expires_at")) and end < now + REFRESH_TOKEN_ENDS_SOON:
        what, detail = "its refresh token ends soon: log in during working hours", f"in {days_and_hours(end - now)}"
        return Finding(name, what, (login,), Severity.LATER, detail, end)
    return None


def told(findings: Iterable[Finding]) -> list[Finding]:
    """*findings* about connections as they are told: one for each kind, the worst first."""
    kinds: dict[object, list[Finding]] = {}
    for found in sorted(findings, key=lambda each: (each.severity, each.until or _EARLIEST, each.about)):
        kinds.setdefault((found.severity, found.what, found.remedies), []).append(found)
    return [_told(kind[0], [found.about for found in kind]) for kind in kinds.values()]


def _told(first: Finding, names: Sequence[str]) -> Finding:
    remedies = [_for(names, remedy) for remedy in first.remedies]
    if len(names) == 1:
        return replace(first, what=first.what.replace(ANY, first.about), remedies=tuple(remedies))
    detail = f" ({first.about}: {first.detail})" if first.detail else ""
    about, what = f"{len(names)} connections", first.what.replace(ANY, "NAME") + detail
    if first.severity is Severity.FINE:
        return fine(about, first.what)
    for_one = [run for run in first.remedies if isinstance(run, Run) and any(ANY in word for word in run.words)]
    if not all(map(_takes_many, for_one)):
        remedies.append(f"the same for each of the other {len(names) - 1}")
    if not any(map(_takes_many, for_one)):
        remedies.insert(0, ", ".join(names))
    return Finding(about, what, tuple(remedies), first.severity)


def _takes_many(run: Run) -> bool:
    return run.words == ours("refresh", connection=ANY).words


def _for(names: Sequence[str], remedy: Remedy) -> Remedy:
    """For all of *names* where one command takes them, else for the first."""
    if isinstance(remedy, str):
        return remedy
    if _takes_many(remedy):
        return ours("refresh", *(word for name in names for word in ("--connection", name)))
    return Run(tuple(word.replace(ANY, names[0]) for word in remedy.words), remedy.rest)


def days_and_hours(span: timedelta) -> str:
    """A length of time in its largest sensible unit, for instance ``12 d``; ``0 min`` where it has passed."""
    minutes = max(int(span.total_seconds() // 60), 0)
    if minutes >= 48 * 60:
        return f"{minutes // (24 * 60)} d"
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"
