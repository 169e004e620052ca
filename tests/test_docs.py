"""The pages agree with the code and with each other."""

from __future__ import annotations

import importlib
import re
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools import Metrics

from token_refresher.observability import put_metrics
from token_refresher.refresh.formats import TokenPair
from virtuous_token.contract import Bearer

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    chain(ROOT.glob("*.md"), *((ROOT / folder).rglob("*.md") for folder in ("docs", "examples", "functions", "layers")))
)
MOST_WORDS_OF_OURS = 15


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str) -> dict[str, str]:
    """The second column of every table row whose first cell is one name in back quotes."""
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE))


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))

    dead = [
        target
        for target in targets
        if not target.startswith(("https:", "#")) and not (path.parent / target.split("#")[0]).exists()
    ]
    assert dead == []


def test_every_parameter_is_described_with_its_default() -> None:
    yaml_helper = importlib.import_module("samtranslator.yaml_helper")
    parameters: dict[str, dict[str, Any]] = yaml_helper.yaml_parse(page("template.yaml"))["Parameters"]

    described = {name: default.strip("`") for name, default in rows(page("docs/configuration.md")).items()}
    assert described == {name: str(what["Default"]) or "none" for name, what in parameters.items()}


@pytest.mark.parametrize(("title", "kind"), [("Bearer secret", Bearer), ("Pair secret", TokenPair)])
def test_every_stored_key_is_described(title: str, kind: type[Bearer] | type[TokenPair]) -> None:
    tables = "\n".join(line for line in section(page("docs/formats.md"), title).splitlines() if line.startswith("| `"))

    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in tables.splitlines())))
    fields = set(kind.__dataclass_fields__)
    assert named == {"version", *fields} - {"extra"}


def test_every_metric_is_described() -> None:
    metrics = Metrics(namespace="VirtuousToken", service="of a test")

    put_metrics(metrics, [], 0, datetime.now(UTC))

    assert rows(section(page("docs/formats.md"), "Metrics, logs and notices")).keys() == metrics.metric_set.keys()
    metrics.clear_metrics()


def test_the_glossary_is_short() -> None:
    words = [line for line in page("docs/glossary.md").splitlines() if line.startswith("| ")]

    assert len(words) - 1 <= MOST_WORDS_OF_OURS
