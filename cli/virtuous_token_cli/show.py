"""Status on a terminal of 80 columns: one table for all connections, a list for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .stack import Connection
from .words import Finding, days_and_hours, finding_of

__all__ = ["one_connection", "table_of"]

BAR_CELLS = 5
_LAST = {
    "refused": "refused",
    "code_needed": "code asked",
    "misconfigured": "misconfig.",
    "throttled": "throttled",
    "unreachable": "no answer",
    "unknown": "unclear",
    "holder_died": "killed",
}


def table_of(connections: Iterable[Connection], now: datetime) -> RenderableType:
    """Every connection on a line, those that need somebody first; below, what to run for each of these."""
    judged = [(finding_of(connection, now), connection) for connection in connections]
    judged.sort(key=lambda item: (_rank(item[0]), item[1].name))
    if not judged:
        return Text("There is no connection yet. Make one: virtuous-token login")
    longest = max(len(connection.name) for _, connection in judged)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, expand=True)
    table.add_column("Connection", width=min(max(longest, 10), 12), overflow="fold")
    table.add_column("Organisation", ratio=1, overflow="ellipsis", no_wrap=True)
    table.add_column("Access token", no_wrap=True)
    table.add_column("Next\nrefresh", no_wrap=True)
    table.add_column("Age of\nrefresh\ntoken", no_wrap=True)
    table.add_column("Last outcome", width=14)
    table.add_column("In\nstep", no_wrap=True)
    for found, connection in judged:
        style = "" if found is None else "red" if found.is_urgent else "yellow"
        table.add_row(Text(connection.name, style=style), *_cells(connection, now))
    lines: list[RenderableType] = [table, _summary([found for found, _ in judged])]
    for found, connection in judged:
        if found:
            lines.append(Text(f"{connection.name}: {found.what}", style="red" if found.is_urgent else "yellow"))
            lines.append(Text(f"  {found.run}"))
    return Group(*lines)


def _rank(found: Finding | None) -> int:
    return 2 if found is None else 0 if found.is_urgent else 1


def _summary(findings: Sequence[Finding | None]) -> Text:
    wrong = sum(found is not None for found in findings)
    count = f"{len(findings)} connection{'' if len(findings) == 1 else 's'}"
    return Text(f"{count}, all well." if not wrong else f"{count}, {wrong} to look at:")


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


def one_connection(connection: Connection, now: datetime) -> RenderableType:
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
        return Group(table, Text("All is well.", style="green"))
    style = "red" if found.is_urgent else "yellow"
    return Group(table, Text(f"{found.what[:1].upper()}{found.what[1:]}.", style=style), Text(f"Run: {found.run}"))
