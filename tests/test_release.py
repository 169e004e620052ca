"""A release is one version everywhere, and what it ships is what its documents say."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import pytest

import token_refresher
import virtuous_token
from token_refresher.virtuous import endpoint

yaml: Any = importlib.import_module("yaml")  # neither has types
yaml_helper: Any = importlib.import_module("samtranslator.yaml_helper")

ROOT = Path(__file__).parents[1]
VERSION = virtuous_token.__version__
TEMPLATE: dict[str, Any] = yaml_helper.yaml_parse((ROOT / "template.yaml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
LICENSES = re.compile(r"MIT( License)?|MIT-0|BSD-3-Clause|Apache-2\.0|PSF-2\.0")
SHIPPED = {
    "the function": ROOT / "functions" / "token_refresher" / "requirements.txt",
    "the layer": ROOT / "layers" / "virtuous_token" / "requirements.txt",
}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("the function's package", token_refresher.__version__),
        ("the user agent", endpoint.USER_AGENT.rpartition("/")[2]),
        ("the stack's output", TEMPLATE["Outputs"]["Version"]["Value"]),
        ("the changes", re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]),
    ],
)
def test_the_version_is_one(where: str, said: str) -> None:
    assert said == VERSION, where


@pytest.mark.parametrize("package", ["cli", "layers/virtuous_token"])
def test_no_package_writes_its_version_down_again(package: str) -> None:
    project = tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]

    assert "version" in project["dynamic"]
    assert "version" not in project


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_pinned_by_its_content(name: str) -> None:
    """pip refuses whatever has another hash, and so does "sam build", which asks pip."""
    text = SHIPPED[name].read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    assert [line for line in lines if not re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []


def test_what_is_shipped_may_be_shipped() -> None:
    """Under licences that ask for no more than to be kept beside it, as "sam build" does."""
    names = re.findall(r"^([\w.-]+)==", SHIPPED["the function"].read_text(), re.MULTILINE)
    licenses = {}
    for name in names:
        try:
            about = metadata(name).json
        except PackageNotFoundError:  # what a newer Python has itself
            continue
        licenses[name] = str(about.get("license_expression") or about.get("license") or "")

    assert "urllib3" in licenses
    assert {name: text for name, text in licenses.items() if not LICENSES.fullmatch(text)} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.name))
def test_a_workflow_pins_what_it_uses_and_grants_nothing_by_default(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())

    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]), "GitHub's own actions alone"


def test_the_tests_run_on_every_python_that_is_promised() -> None:
    """Readers from 3.11 on; the function on what Lambda supports for longer."""
    (workflow,) = (yaml.safe_load(path.read_text()) for path in WORKFLOWS if path.name == "test.yaml")
    tested = [f"python{python}" for python in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]]

    assert tested == TEMPLATE["Resources"]["ReaderLayer"]["Properties"]["CompatibleRuntimes"]
    assert tested[1:] == TEMPLATE["Parameters"]["PythonRuntime"]["AllowedValues"]


def test_every_make_target_that_contributors_are_pointed_to_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    pointed_to = set(re.findall(r"`make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    pointed_to |= {target for path in WORKFLOWS for target in re.findall(r"run: make ([a-z]+)", path.read_text())}

    assert pointed_to
    assert {target for target in pointed_to if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
