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
TEMPLATE = (DOCS.parent / "template.yaml").read_text()
SAID = {*Kind, *OutcomeWord, *re.findall(r'AlarmName: !Sub "\$\{Prefix\}-token-refresher-([a-z-]+)"', TEMPLATE)}


def test_one_line_of_all_pages_is_about_each_and_none_about_what_nobody_says() -> None:
    cells = {
        path.name: re.findall(r"^\| ([^|]*) \|", path.read_text(), re.MULTILINE) for path in sorted(DOCS.rglob("*.md"))
    }
    named = [(word, page) for page, found in cells.items() for word in re.findall(r"`([^`]*)`", " ".join(found))]
    assert sorted((word, page) for word, page in named if word in SAID) == sorted(
        (word, "run-book.md") for word in SAID
    )
    assert {word for word, page in named if page == "run-book.md"} == SAID


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_exist(operator: Operator, command: str) -> None:
    arguments = [argument if argument.startswith("-") else argument.lower() for argument in shlex.split(command)]
    ended = operator.runs(*arguments, "--help")
    assert ended.status == 0, ended.err
