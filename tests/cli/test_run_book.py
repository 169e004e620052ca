"""The run-book has a line for everything that can be said to a person, and its commands exist."""

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


@pytest.mark.parametrize("said", [*Kind, *OutcomeWord, *ALARMS])
def test_it_has_a_line_for(said: str) -> None:
    assert any(f"`{said}`" in line for line in RUN_BOOK.splitlines() if line.startswith("|"))


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_exist(operator: Operator, command: str) -> None:
    arguments = [argument if argument.startswith("-") else argument.lower() for argument in shlex.split(command)]

    ended = operator.runs(*arguments, "--help")

    assert ended.status == 0, ended.err


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", RUN_BOOK))
def test_its_links_lead_somewhere(link: str) -> None:
    assert (DOCS / link).exists()
