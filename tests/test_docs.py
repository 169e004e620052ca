"""The pages agree with the code and with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aws_lambda_powertools import Metrics

from tests.transformed import parsed
from token_refresher.observability import put_metrics
from token_refresher.refresh.formats import TokenPair
from virtuous_token.contract import Bearer

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "examples", "functions", "layers")
PAGES = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
# AWS's public prices in us-east-1, November 2026, dollars a month.
SECRET, METRIC, ALARM = 0.40, 0.30, 0.10


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str) -> dict[str, str]:
    """The second column of every table row whose first cell is one name in back quotes."""
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE))


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.fixture
def metrics() -> Iterator[set[str]]:
    """The names of all that a sweep puts."""
    put = Metrics(namespace="VirtuousToken", service="of a test")
    put_metrics(put, [], 0, datetime.now(UTC))
    yield set(put.metric_set)
    put.clear_metrics()


def test_links_lead_somewhere() -> None:
    links = [(path, link) for path in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8"))]
    # "../../actions/" is GitHub's own page about the repository.
    inner = [(path, link) for path, link in links if not link.startswith(("https:", "#", "../../actions/"))]

    assert inner
    assert [(path, link) for path, link in inner if not (path.parent / link.split("#")[0]).exists()] == []


def test_every_parameter_is_described_with_its_default() -> None:
    described = {name: default.strip("`") for name, default in rows(page("docs/configuration.md")).items()}

    assert described == {name: str(what["Default"]) or "none" for name, what in parsed()["Parameters"].items()}


@pytest.mark.parametrize(("title", "kind"), [("Bearer secret", Bearer), ("Pair secret", TokenPair)])
def test_every_stored_key_is_described(title: str, kind: type[Bearer] | type[TokenPair]) -> None:
    first_cells = re.findall(r"^\|([^|]*`[^|]*)\|", section(page("docs/formats.md"), title), re.MULTILINE)

    named = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    assert named == {"version", *kind.__dataclass_fields__} - {"extra"}


def test_every_metric_is_described(metrics: set[str]) -> None:
    assert rows(section(page("docs/formats.md"), "Metrics and log")).keys() == metrics


def test_the_costs_are_those_of_the_code_and_the_same_everywhere(metrics: set[str]) -> None:
    all_together = METRIC * len(metrics) + ALARM * page("template.yaml").count("Type: AWS::CloudWatch::Alarm")

    for name in ("README.md", "docs/costs.md"):
        said = re.findall(r"\$([\d.]+)(?: a month)? for (each connection|all)", page(name))
        assert said == [(f"{2 * SECRET:.2f}", "each connection"), (f"{all_together:.2f}", "all")]
