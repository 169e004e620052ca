"""Status on a terminal: one table for all connections, a list for one. What is no terminal gets all of it uncut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from time import sleep as pause
from typing import NamedTuple

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .aws import FAILURES, explained
from .options import FAILED, Session
from .remedies import Named, Run, ours
from .screen import Line, clean, open_console, say, working
from .stack import Connection, Report, Stack, now
from .words import Finding, Severity, days_and_hours, finding_of, fine, told

BAR_CELLS = 5
WATCH_SECONDS = 15
# Below that the table has the columns that matter most.
NARROW = 70
COLOURS = {Severity.URGENT: "red", Severity.LATER: "yellow"}


class Shown(NamedTuple):
    """A table, and what is said below it."""

    table: RenderableType | None
    lines: list[Line]

    def as_one(self) -> RenderableType:
        """Both, for a part of the screen that is drawn again and again."""
        texts = [Text(line.text, style=line.colour or "") for line in self.lines]
        return Group(self.table, *texts) if self.table else Group(*texts)


def status(session: Session, names: Sequence[str], *, as_json: bool, watch: bool) -> int:
    """Shows what the function reports, and returns the exit status."""
    stack = session.stack()
    with working("Asking the function"):
        report = stack.report_of_existing(names)
    if as_json:
        click.echo(json.dumps(report.document, indent=2))
    elif watch:
        _watch(session, stack, names, report)
    else:
        shown = _shown(session, report.connections, names)
        if shown.table:
            open_console().print(shown.table)
        for line in shown.lines:
            say(line)
    findings = [finding_of(connection, now()) for connection in report.connections]
    return FAILED if any(found and found.severity is Severity.URGENT for found in findings) else 0


def _shown(session: Session, found: Sequence[Connection], names: Sequence[str]) -> Shown:
    if names and len(found) == 1:
        return one_connection(found[0], now(), session.named)
    return table_of(found, now(), session.named, open_console())


def _watch(session: Session, stack: Stack, names: Sequence[str], report: Report) -> None:
    """Until it is interrupted; what fails meanwhile is said, and tried again."""
    shown = _shown(session, report.connections, names).as_one()
    with Live(shown, console=open_console(), auto_refresh=False) as live:
        while True:
            pause(WATCH_SECONDS)
            try:
                shown = _shown(session, stack.report_of_existing(names).connections, names).as_one()
                live.update(shown, refresh=True)
            except FAILURES as error:
                lost = f"{explained(error, stack.aws)} Above is what was seen last; looking again."
                live.update(Group(shown, clean(f"{now().astimezone():%H:%M:%S}: {lost}")), refresh=True)


def table_of(connections: Iterable[Connection], now: datetime, named: Named, console: Console) -> Shown:
    """Every connection on a line, those that need somebody first; below, what to run for these."""
    judged = [(finding_of(connection, now) or fine(connection.name, ""), connection) for connection in connections]
    if not judged:
        return Shown(None, [Line("There is no connection yet. Make one:"), _command(ours("login"), named)])
    judged.sort(key=lambda item: (item[0].severity, item[1].name))
    is_narrow, is_cut = console.width < NARROW, console.is_terminal
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, expand=is_cut)
    width = min(max(10, *(len(connection.name) for _, connection in judged)), 12) if is_cut else None
    table.add_column("Connection", width=width, overflow="fold", no_wrap=not is_cut)
    if not is_narrow:
        table.add_column("Organisation", ratio=1 if is_cut else None, overflow="ellipsis", no_wrap=True)
    for header in ("Access token", "Next\nrefresh"):
        table.add_column(header, no_wrap=True)
    if not is_narrow:
        table.add_column("Age of\nrefresh\ntoken", no_wrap=True)
        table.add_column("Last outcome", width=14 if is_cut else None, no_wrap=not is_cut)
        table.add_column("In\nstep", no_wrap=True)
    for found, connection in judged:
        cells = _cells(connection, now)
        name = Text(connection.name, style=COLOURS.get(found.severity, ""))
        table.add_row(name, *(cells[1:3] if is_narrow else cells))
    wrong = [found for found, _ in judged if found.severity is not Severity.FINE]
    count = f"{len(judged)} connection{'' if len(judged) == 1 else 's'}"
    summary = Line(f"{count}, {len(wrong)} to look at:" if wrong else f"{count}, all well.")
    return Shown(table, [summary, *(line for kind in told(wrong) for line in lines_of(kind, named))])


def lines_of(found: Finding, named: Named, indent: str = "  ", before: str = "", mark: str = "") -> Iterator[Line]:
    """A sentence that *mark* begins; below it, with *indent*, what to do: *before* each command."""
    detail = f"; {found.detail}" if found.detail else ""
    yield Line(f"{mark}{found.about}: {found.what}{detail}", COLOURS.get(found.severity))
    for remedy in found.remedies:
        yield _command(remedy, named, indent + before) if isinstance(remedy, Run) else Line(f"{indent}{remedy}")


def _command(run: Run, named: Named, indent: str = "  ") -> Line:
    return Line(f"{indent}{named.text(run)}", is_command=True)


def _cells(connection: Connection, now: datetime) -> list[Text]:
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
    if at is not None:
        ended += f" {days_and_hours(now - at)}" if now - at >= timedelta(minutes=1) else " now"
    return ended.replace("_", " ")


def one_connection(connection: Connection, now: datetime, named: Named) -> Shown:
    """All that is known of one connection: what the function reports, by its names."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("connection", connection.name)
    for key, value in connection.facts.items() if connection.has_pair else ():
        is_token = key in ("access_token", "refresh_token")
        if value is not None:
            label = f"fingerprint of the {key}" if is_token else key
            table.add_row(label.replace("_", " "), Text(connection.text(key) or ""))
    if connection.has_pair:
        table.add_row("time left", life_bar(connection, now))
        table.add_row("last outcome", Text(last_outcome(connection, now)))
    found = finding_of(connection, now)
    if found is None:
        return Shown(table, [Line("All is well.", "green")])
    return Shown(table, list(lines_of(told([found])[0], named)))
