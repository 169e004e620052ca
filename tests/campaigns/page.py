"""Pages in docs/ whose numbers a bench computes."""

from __future__ import annotations

from pathlib import Path

__all__ = ["replace_between"]


def replace_between(page: Path, name: str, text: str) -> None:
    """Puts *text* between the comments ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` of *page*."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{page} has no {begin} with its end")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
