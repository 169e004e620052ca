"""The run-book has one line for everything that can be said to a person, and its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.operator import Operator
from token_refresher.notices import Kind
from token_refresher.refresh.model import OutcomeWord

DOCS = Path(__file__).parents[2] / "docs"
RUN_BOOK = (DOCS / "run-book.md").read_text()
COMMANDS = sorted({command.replace("\n", " ") for command in re.findall(r"virtuous-token( [^`#|,;)]*)", RUN_BOOK)})


ALARMS = re.findall(
    r'AlarmName: !Sub "\$\{Prefix\}-token-refresher-([a-z-]+)"', (DOCS.parent / "template.yaml").read_text()
)


FIRST_CELLS = {
    path.name: re.findall(r"^\| ([^|]*) \|", path.read_text(), re.MULTILINE) for path in sorted(DOCS.rglob("*.md"))
}


@pytest.mark.parametrize("said", [*Kind, *OutcomeWord, *ALARMS])
def test_one_line_of_all_pages_is_about(said: str) -> None:
    lines = [(name, cell) for name, cells in FIRST_CELLS.items() for cell in cells if f"`{said}`" in cell]

    assert [name for name, _ in lines] == ["run-book.md"]


def test_it_has_no_line_for_what_nobody_says() -> None:
    named = {word for cell in FIRST_CELLS["run-book.md"] for word in re.findall(r"`([^`]*)`", cell)}

    assert named == {*Kind, *OutcomeWord, *ALARMS}


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_exist(operator: Operator, command: str) -> None:
    arguments = [argument if argument.startswith("-") else argument.lower() for argument in shlex.split(command)]

    ended = operator.runs(*arguments, "--help")

    assert ended.status == 0, ended.err
