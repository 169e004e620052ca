"""The report: a page of markdown for people and the same as JSON. Neither holds an account's number or a secret."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from .observations import Observation, Verdict

__all__ = ["exit_status", "write_report"]

_TITLES = {
    Verdict.NOT_SHOWN: "Not shown",
    Verdict.SHOWN: "Shown",
    Verdict.NOT_AVAILABLE: "Not to be had here",
}


def exit_status(observations: Sequence[Observation]) -> int:
    """0 all shown; 1 something was not shown; 3 nothing failed, but some cannot be had in this account."""
    verdicts = {observation.verdict for observation in observations}
    if Verdict.NOT_SHOWN in verdicts or not verdicts:
        return 1
    return 3 if Verdict.NOT_AVAILABLE in verdicts else 0


def write_report(
    directory: Path,
    circumstances: Mapping[str, str],
    observations: Sequence[Observation],
    *,
    without_number: Callable[[str], str],
) -> Path:
    """Writes ``report.md`` and ``report.json`` to *directory* and returns the page's path.

    *without_number* takes the account's number out of a text.
    """
    directory.mkdir(parents=True, exist_ok=True)
    stored = {"circumstances": dict(circumstances), "observations": [asdict(each) for each in observations]}
    (directory / "report.json").write_text(without_number(json.dumps(stored, indent=2)) + "\n")
    page = directory / "report.md"
    page.write_text(without_number("\n".join(_page(circumstances, observations))) + "\n")
    return page


def _page(circumstances: Mapping[str, str], observations: Sequence[Observation]) -> list[str]:
    counts = Counter(observation.verdict for observation in observations)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    lines = ["# What this account has shown", "", f"{summary}.", "", "| circumstance | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in circumstances.items()]
    for verdict, title in _TITLES.items():
        rows = [each for each in observations if each.verdict is verdict]
        if rows:
            lines += ["", f"## {title}", "", "| observation | evidence | figures | seconds |", "|---|---|---|---|"]
            lines += [_row(each) for each in rows]
    return lines


def _row(observation: Observation) -> str:
    figures = "; ".join(f"{name}: {_figure(value)}" for name, value in observation.figures.items())
    cells = (observation.subject, observation.evidence, figures, f"{observation.seconds:.1f}")
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _figure(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
