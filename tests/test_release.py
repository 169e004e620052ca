"""A release is one version everywhere, and what it ships is what its documents say."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import token_refresher
import virtuous_token
from tests.transformed import parsed
from token_refresher.virtuous import endpoint

yaml: Any = importlib.import_module("yaml")  # it has no types

ROOT = Path(__file__).parents[1]
TEMPLATE = parsed()
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yaml")}
SHIPPED_BY = ("functions/token_refresher", "layers/virtuous_token")


def test_the_version_is_one() -> None:
    said = {
        "the layer's package": virtuous_token.__version__,
        "the function's package": token_refresher.__version__,
        "the user agent": endpoint.USER_AGENT.rpartition("/")[2],
        "the stack's output": TEMPLATE["Outputs"]["Version"]["Value"],
        "the changes": re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0],
    }

    assert set(said.values()) == {virtuous_token.__version__}, said
    for package in ("cli", "layers/virtuous_token"):
        project = tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]
        assert ("version" in project["dynamic"], "version" in project) == (True, False), package


@pytest.mark.parametrize("folder", SHIPPED_BY)
def test_what_is_shipped_is_pinned_by_its_content(folder: str) -> None:
    """pip refuses whatever has another hash, and so does "sam build", which asks pip."""
    text = (ROOT / folder / "requirements.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    assert [line for line in lines if not re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_pins_what_it_uses_and_grants_nothing_by_default(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    for job in WORKFLOWS[name]["jobs"].values():
        assert job["timeout-minutes"]
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert [one for one in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", one)] == [], "GitHub's own alone"


def test_the_tests_run_on_every_python_that_is_promised() -> None:
    """Readers from 3.11 on; the function on what Lambda supports for longer."""
    pythons = WORKFLOWS["test.yaml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    tested = [f"python{python}" for python in pythons]

    assert tested == TEMPLATE["Resources"]["ReaderLayer"]["Properties"]["CompatibleRuntimes"]
    assert tested[1:] == TEMPLATE["Parameters"]["PythonRuntime"]["AllowedValues"]


def test_every_make_target_that_somebody_is_pointed_to_exists() -> None:
    pages = "\n".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "docs/verification.md"))
    pointed_to = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", pages)) | set(
        re.findall(r"make ([a-z]+)", str(WORKFLOWS))
    )

    assert {"test", "campaign"} <= pointed_to
    assert pointed_to <= set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))


def test_the_campaign_runs_every_night_and_before_a_release() -> None:
    for name in ("campaign.yaml", "release.yaml"):
        steps = [step for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]
        assert [step for step in steps if step.get("run", "").startswith("make campaign")], name
