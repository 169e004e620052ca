"""docs/decisions/odd-answers.md tells the truth about us."""

from collections import Counter
from pathlib import Path

import pytest

from tests.campaigns.peers_token_endpoint import ANSWERS, cell, ours

DOCUMENT = Path(__file__).parent.parent / "docs/decisions/odd-answers.md"
TOLD = dict(line.split(" | ")[:2] for line in DOCUMENT.read_text().splitlines() if line.startswith("| "))


@pytest.mark.parametrize("name", ANSWERS)
def test_the_document_says_what_becomes_of_an_odd_answer(name: str) -> None:
    seen: Counter[str] = Counter()
    told = cell(ANSWERS[name], ours, seen)
    assert told == TOLD.get(f"| {name}", told)
    assert "**" not in told or f"| {name}" in TOLD, "the table leaves out the answers that cost nobody a token"
    assert seen.total() == 0


def test_no_answer_costs_us_a_refresh_token_but_those_that_the_exchange_gives_up() -> None:
    assert [name for name, text in TOLD.items() if "**" in text] == ["| 150 header lines"]
