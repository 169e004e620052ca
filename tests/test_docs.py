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
MOST_LINES_OF_README, MOST_LINES_OF_DOCS = 110, 1_310
# AWS's public prices in us-east-1, November 2026, dollars a month.
SECRET, METRIC, ALARM = 0.40, 0.30, 0.10
COST_ROWS = re.compile(r"^\|.*\d \|$", re.MULTILINE)


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
        if not target.startswith(("https:", "#"))
        and not target.startswith("../../actions/")  # GitHub's own pages about the repository
        and not (path.parent / target.split("#")[0]).exists()
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

    assert rows(section(page("docs/formats.md"), "Metrics and log")).keys() == metrics.metric_set.keys()
    metrics.clear_metrics()


def cells(table_row: str) -> list[str]:
    return [cell.strip(" *") for cell in table_row.strip("|").split("|")]


def test_the_costs_add_up_and_are_the_same_everywhere() -> None:
    """The sum is computed here from the numbers of resources and metrics in the code, and AWS's prices."""
    metrics = Metrics(namespace="VirtuousToken", service="of a test")
    put_metrics(metrics, [], 0, datetime.now(UTC))
    all_together = METRIC * len(metrics.metric_set) + ALARM * page("template.yaml").count(
        "Type: AWS::CloudWatch::Alarm"
    )
    metrics.clear_metrics()
    costs = page("docs/costs.md")
    table = {row[0]: [float(cell.replace(",", "")) for cell in row[2:]] for row in map(cells, COST_ROWS.findall(costs))}

    total = table.pop("all")
    assert len(table) == 5
    assert total == [pytest.approx(sum(column)) for column in zip(*table.values(), strict=True)]
    assert table["secrets"] == [pytest.approx(2 * SECRET * size) for size in (1, 100, 10_000)]
    assert table["metrics"][0] + table["alarms"][0] == pytest.approx(all_together)
    for text in (page("README.md"), costs):
        said = re.findall(r"\$([\d.]+)(?: a month)? for (each connection|all)", text)
        assert said == [(f"{2 * SECRET:.2f}", "each connection"), (f"{all_together:.2f}", "all")]


def test_pages_stay_short() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PAGES}

    assert lines[ROOT / "README.md"] <= MOST_LINES_OF_README
    assert sum(count for path, count in lines.items() if path.is_relative_to(ROOT / "docs")) <= MOST_LINES_OF_DOCS
