"""docs/odd-answers.md tells the truth about us."""

from collections import Counter
from pathlib import Path

import pytest

from tests.campaigns.peers_token_endpoint import ANSWERS, cell, ours

DOCUMENT = Path(__file__).parent.parent / "docs/odd-answers.md"
TOLD = dict(line.split(" | ")[:2] for line in DOCUMENT.read_text().splitlines() if line.startswith("| "))


@pytest.mark.parametrize("name", ANSWERS)
def test_the_document_says_what_becomes_of_an_odd_answer(name: str) -> None:
    seen: Counter[str] = Counter()
    assert cell(ANSWERS[name], ours, seen) == TOLD[f"| {name}"]
    assert seen.total() == 0


def test_one_answer_that_no_server_is_known_to_give_costs_us_a_refresh_token() -> None:
    assert [name for name, text in TOLD.items() if "**" in text] == ["| 150 header lines"]
