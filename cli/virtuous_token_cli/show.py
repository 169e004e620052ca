"""Status on a terminal: one table for all connections, a list for one. What is no terminal gets all of it uncut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .remedies import Named, Run, ours
from .screen import Line
from .stack import Connection
from .words import Finding, Severity, Told, days_and_hours, finding_of, fine, told

__all__ = ["Shown", "lines_of", "one_connection", "table_of"]

BAR_CELLS = 5
# Below that the table has the columns that matter most.
NARROW = 70
COLOURS = {Severity.URGENT: "red", Severity.LATER: "yellow"}
_LAST = {
    "refused": "refused",
    "code_needed": "code asked",
    "misconfigured": "misconfig.",
    "throttled": "throttled",
    "unreachable": "no answer",
    "unknown": "unclear",
    "holder_died": "killed",
}


class Shown(NamedTuple):
    """A table, and what is said below it."""

    table: RenderableType | None
    lines: list[Line]

    def as_one(self) -> RenderableType:
        """Both, for a part of the screen that is drawn again and again."""
        texts = [Text(line.text, style=line.colour or "") for line in self.lines]
        return Group(self.table, *texts) if self.table else Group(*texts)


def table_of(connections: Iterable[Connection], now: datetime, named: Named, console: Console) -> Shown:
    """Every connection on a line, those that need somebody first; below, what to run for these."""
    judged = [(finding_of(connection, now) or fine(connection.name, ""), connection) for connection in connections]
    if not judged:
        return Shown(None, [Line("There is no connection yet. Make one:"), _command(ours("login"), named)])
    judged.sort(key=lambda item: (item[0].severity, item[1].name))
    table = _empty_table(console, max(len(connection.name) for _, connection in judged))
    for found, connection in judged:
        cells = _cells(connection, now)
        kept = [cells[1], cells[2]] if console.width < NARROW else cells
        table.add_row(Text(connection.name, style=COLOURS.get(found.severity, "")), *kept)
    return Shown(table, list(_summary([found for found, _ in judged], named)))


def _empty_table(console: Console, longest_name: int) -> Table:
    is_cut = console.is_terminal
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, expand=is_cut)
    width = min(max(longest_name, 10), 12) if is_cut else None
    table.add_column("Connection", width=width, overflow="fold", no_wrap=not is_cut)
    if console.width < NARROW:
        table.add_column("Access token", no_wrap=True)
        table.add_column("Next\nrefresh", no_wrap=True)
        return table
    table.add_column("Organisation", ratio=1 if is_cut else None, overflow="ellipsis", no_wrap=True)
    table.add_column("Access token", no_wrap=True)
    table.add_column("Next\nrefresh", no_wrap=True)
    table.add_column("Age of\nrefresh\ntoken", no_wrap=True)
    table.add_column("Last outcome", width=14 if is_cut else None, no_wrap=not is_cut)
    table.add_column("In\nstep", no_wrap=True)
    return table


def _summary(findings: list[Finding], named: Named) -> Iterator[Line]:
    wrong = [finding for finding in findings if not finding.is_fine]
    count = f"{len(findings)} connection{'' if len(findings) == 1 else 's'}"
    yield Line(f"{count}, all well." if not wrong else f"{count}, {len(wrong)} to look at:")
    for kind in told(wrong):
        yield from lines_of(kind, named)


def lines_of(kind: Told, named: Named, indent: str = "  ", before: str = "") -> Iterator[Line]:
    """The sentence; below it, with *indent*, whom it is about and what to do: *before* each command."""
    yield Line(kind.sentence, COLOURS.get(kind.severity))
    if kind.names:
        yield Line(f"{indent}{kind.names}")
    for remedy in kind.remedies:
        yield _command(remedy, named, indent + before) if isinstance(remedy, Run) else Line(f"{indent}{remedy}")


def _command(run: Run, named: Named, indent: str = "  ") -> Line:
    return Line(f"{indent}{named.text(run)}", is_command=True)


def _cells(connection: Connection, now: datetime) -> list[RenderableType]:
    if not connection.has_pair:
        return [Text("-"), Text("no token"), *(Text("-") for _ in range(4))]
    due, obtained = connection.instant("next_refresh_at"), connection.instant("refresh_token_issued_at")
    return [
        Text(connection.text("organization_name") or "-"),
        life_bar(connection, now),
        Text(("due" if due <= now else days_and_hours(due - now)) if due else "never"),
        Text(days_and_hours(now - obtained) if obtained else "-"),
        Text(last_outcome(connection, now)),
        Text("yes") if connection.facts.get("bearer_in_step") else Text("no", style="red"),
    ]


def life_bar(connection: Connection, now: datetime) -> Text:
    """How much of the access token's life is left, as a bar and in words."""
    issued, ends = connection.instant("issued_at"), connection.instant("expires_at")
    if ends is None:
        return Text("API key" if connection.facts.get("refresh_token") is None else "end unknown")
    left = max((ends - now).total_seconds(), 0)
    whole = max((ends - issued).total_seconds(), 1) if issued else max(left, 1)
    if not left:
        return Text("expired", style="red")
    filled = min(max(round(BAR_CELLS * left / whole), 1), BAR_CELLS)
    style = "green" if left > whole / 4 else "yellow"
    bar = Text("━" * filled, style=style) + Text("╌" * (BAR_CELLS - filled), style="dim")
    return bar + Text(f" {days_and_hours(ends - now)}", style=style)


def last_outcome(connection: Connection, now: datetime) -> str:
    """The last attempt that brought no pair, else how the pair that is there came."""
    ended, at = connection.text("last_outcome"), connection.instant("last_outcome_at")
    if ended is None:
        ended = "refreshed" if connection.text("obtained_by") == "refresh" else "login"
        at = connection.instant("issued_at")
    return f"{_LAST.get(ended, ended)} {_ago(at, now) if at else ''}".rstrip()


def _ago(at: datetime, now: datetime) -> str:
    return days_and_hours(now - at) if now - at >= timedelta(minutes=1) else "now"


def one_connection(connection: Connection, now: datetime, named: Named) -> Shown:
    """All that is known of one connection."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    organization = connection.text("organization_name") or "name unknown"
    organization += f" ({connection.text('organization_id') or 'id unknown'})"
    rows: list[tuple[str, RenderableType | str | None]] = [("Connection", connection.name)]
    if connection.has_pair:
        rows += [
            ("Organisation", organization),
            ("User", connection.text("user_name")),
            ("Access token", life_bar(connection, now)),
            ("  ends", connection.text("expires_at")),
            ("  issued", connection.text("issued_at")),
            ("  fingerprint", connection.text("access_token")),
            ("Next refresh", connection.text("next_refresh_at") or "never: nothing to refresh with"),
            ("Refresh token", connection.text("refresh_token_issued_at") or "none"),
            ("  ends", connection.text("refresh_token_expires_at")),
            ("  fingerprint", connection.text("refresh_token")),
            ("Last outcome", last_outcome(connection, now)),
            ("Journal", connection.text("journal")),
            ("Readers", "in step" if connection.facts.get("bearer_in_step") else "behind"),
            ("  work until", connection.text("readers_work_until")),
        ]
    for label, value in rows:
        if value:
            table.add_row(Text(label), value if not isinstance(value, str) else Text(value))
    found = finding_of(connection, now)
    if found is None:
        return Shown(table, [Line("All is well.", "green")])
    (kind,) = told([found])
    return Shown(table, list(lines_of(kind, named)))
