"""What outcome words and findings mean, said to a person: one sentence, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

from .remedies import Remedy, Run, ours
from .stack import Connection

__all__ = [
    "GOOD_OUTCOMES",
    "RIGHTS",
    "Finding",
    "Severity",
    "Told",
    "days_and_hours",
    "finding_of",
    "sentence_of",
    "told",
]

GOOD_OUTCOMES = frozenset({"fresh", "refreshed", "recovered"})
# Virtuous documents 365 days for a refresh token; a month is time to log in during working hours.
REFRESH_TOKEN_ENDS_SOON = timedelta(days=30)
# The default schedule is six hours: a refresh that is two days late has been tried several times.
OVERDUE = timedelta(days=2)
RIGHTS = "look at the user's rights in Virtuous"

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


def sentence_of(outcome: str, name: str) -> tuple[str, Run | None]:
    """What *outcome* means for connection *name*, and what to run where there is something to do."""
    unknown = (f"The function says {outcome!r}, which this command does not know.", "check")
    sentence, command = _OUTCOMES.get(outcome, unknown)
    return sentence, ours(command, connection=name) if command else None


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

    @property
    def is_fine(self) -> bool:
        return self.severity is Severity.FINE

    def without_name(self, text: str) -> str:
        """*text* as it is the same for every connection: the names of secrets hold the connection's."""
        return text.replace(f"/{self.about}/", "/NAME/")


def fine(about: str, what: str, detail: str = "") -> Finding:
    """What is as it should be."""
    return Finding(about, what, severity=Severity.FINE, detail=detail)


def finding_of(connection: Connection, now: datetime) -> Finding | None:
    """The worst thing that the report tells of *connection*; None where all is well."""
    name = connection.name
    login, refresh, check = (ours(command, connection=name) for command in ("login", "refresh", "check"))
    ends = connection.instant("readers_work_until") or connection.instant("expires_at")
    left = f"readers work for another {days_and_hours(ends - now)}" if ends and ends > now else ""
    refused = connection.text("last_outcome") in ("refused", "code_needed")
    if error := connection.text("error"):
        return Finding(name, error, (login if connection.facts.get("is_unreadable") else check,))
    if not connection.has_pair:
        return Finding(name, "nobody has logged in yet", (login,))
    if (end := connection.instant("expires_at")) and end <= now:
        return Finding(name, "the access token has expired", (login if refused else refresh,), until=end)
    if refused:
        return Finding(name, "Virtuous refused its credentials", (login,), detail=left, until=ends)
    if (connection.text("proof") or "").startswith("refused"):
        if connection.text("refresh_token") is None:
            key = ours("login", "--api-key", connection=name)
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


class Told(NamedTuple):
    """Findings of one kind, as they are told: a sentence, whom it is about if that is many, and what to do."""

    severity: Severity
    sentence: str
    names: str
    remedies: tuple[Remedy, ...]

    @property
    def is_fine(self) -> bool:
        return self.severity is Severity.FINE


def told(findings: Iterable[Finding]) -> list[Told]:
    """*findings* about connections: those of a kind together, the worst first."""
    kinds: dict[object, list[Finding]] = {}
    for finding in sorted(findings, key=_rank):
        remedies = [remedy.words if isinstance(remedy, Run) else (remedy,) for remedy in finding.remedies]
        shape = [[finding.without_name(word) for word in words] for words in remedies]
        kinds.setdefault((finding.severity, finding.without_name(finding.what), str(shape)), []).append(finding)
    return [_told(kind) for kind in kinds.values()]


def _rank(finding: Finding) -> tuple[Severity, datetime, str]:
    return finding.severity, finding.until or datetime.min.replace(tzinfo=UTC), finding.about


def _told(kind: Sequence[Finding]) -> Told:
    first, *others = kind
    detail = f"; {first.detail}" if first.detail else ""
    if not others:
        return Told(first.severity, f"{first.about}: {first.what}{detail}", "", first.remedies)
    names = tuple(finding.about for finding in kind)
    of_first = f" ({first.about}: {first.detail})" if detail and not first.is_fine else ""
    sentence = f"{len(kind)} connections: {first.without_name(first.what)}{of_first}"
    if first.is_fine:
        return Told(first.severity, sentence, "", ())
    refresh, remedies = ours("refresh").words, []
    for remedy in first.remedies:
        is_for_all = isinstance(remedy, Run) and remedy.words == refresh
        remedies.append(replace(remedy, connections=names) if isinstance(remedy, Run) and is_for_all else remedy)
    if any(isinstance(remedy, Run) and remedy.words != refresh and remedy.connections for remedy in remedies):
        remedies.append(f"the same for each of the other {len(others)}")
    are_named = any(isinstance(remedy, Run) and remedy.connections == names for remedy in remedies)
    return Told(first.severity, sentence, "" if are_named else ", ".join(names), tuple(remedies))


def days_and_hours(span: timedelta) -> str:
    """A length of time in its largest sensible unit, for instance ``12 d``; ``0 min`` where it has passed."""
    minutes = max(int(span.total_seconds() // 60), 0)
    if minutes >= 48 * 60:
        return f"{minutes // (24 * 60)} d"
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"
