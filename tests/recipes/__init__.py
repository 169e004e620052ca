"""The recipes of the pages on reading, taken from the pages themselves and run as a reader of it would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

__all__ = ["MODULES", "NAMES", "PROGRAMS", "recipe", "run", "running", "save", "surroundings"]

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = "".join(page.read_text(encoding="utf-8") for page in sorted((REPOSITORY / "docs").glob("reading-*.md")))
LAYER = REPOSITORY / "layers" / "virtuous_token"
NODE_MODULES = REPOSITORY / ".local" / "node"
NODE_PACKAGE = "@aws-sdk/client-secrets-manager@3.1164.0"
VIRTUOUS = "https://api.virtuoussoftware.com"
SECONDS_FOR_A_RECIPE = 60
SECONDS_FOR_NPM = 180

_RECIPES: dict[str, str] = dict(
    re.findall(r"^<!-- recipe: (\S+) -->\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
NAMES = tuple(_RECIPES)
# They read from Secrets Manager, call Virtuous, and print the organisation's name.
PROGRAMS = ("reader.py", "httpx.py", "urllib3.py", "aiohttp.py", "cli.sh", "node.mjs", "powertools.py")

# Their function or their server answers with the organisation's name; each needs these packages.
MODULES = {
    "flask_app.py": ("flask", "gunicorn"),
    "tasks.py": ("celery",),
    "fastapi_app.py": ("fastapi", "uvicorn"),
    "lambda_function.py": ("aws_lambda_powertools",),
}

_NEEDED = {".py": (), ".sh": ("bash", "aws", "jq", "curl"), ".mjs": ("node", "npm")}


def recipe(name: str) -> str:
    """The text of a recipe; KeyError if the page has none of that name."""
    return _RECIPES[name]


def run(name: str, base_url: str, environment: Mapping[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs a recipe with *base_url* in place of Virtuous's; skips the test where its tools are not installed.

    *environment* holds the AWS settings.
    """
    kind = Path(name).suffix
    missing = [tool for tool in _NEEDED[kind] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if kind == ".mjs":
        directory = _with_node_modules()
    # A name that hides no module which a recipe imports.
    program = directory / f"recipe-{os.getpid()}-{name}"
    program.write_text(recipe(name).replace(VIRTUOUS, base_url), encoding="utf-8")
    interpreter = {".py": sys.executable, ".sh": "bash", ".mjs": "node"}[kind]
    try:
        return subprocess.run(
            [interpreter, program],
            env=surroundings(environment),
            capture_output=True,
            text=True,
            timeout=SECONDS_FOR_A_RECIPE,
            check=False,
        )
    finally:
        program.unlink()


def save(name: str, base_url: str, directory: Path) -> str:
    """Makes a module of a recipe, with *base_url* in place of Virtuous's; its name. Skips the test where its packages
    are not installed."""
    missing = [package for package in MODULES[name] if find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    (directory / name).write_text(recipe(name).replace(VIRTUOUS, base_url), encoding="utf-8")
    return name.removesuffix(".py")


@contextmanager
def running(command: list[str], environment: Mapping[str, str], directory: Path) -> Iterator[None]:
    """A server, as long as the block lasts. Where the block ends in an error, what it said is added."""
    log = directory / "server.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", *command], cwd=directory, env=surroundings(environment), stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield
        except BaseException as error:
            error.add_note(log.read_text())
            raise
        finally:
            process.terminate()
            process.wait(30)


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that a recipe runs in: of this process's own only the path to the tools counts."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "NODE_NO_WARNINGS": "1",
        "PYTHONPATH": str(LAYER),
        **environment,
    }


def _with_node_modules() -> Path:
    """A folder with the AWS SDK for JavaScript; it is installed once."""
    package = NODE_PACKAGE.rpartition("@")[0]
    if not (NODE_MODULES / "node_modules" / package / "package.json").exists():
        NODE_MODULES.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent", NODE_PACKAGE]
        subprocess.run(command, cwd=NODE_MODULES, check=True, capture_output=True, timeout=SECONDS_FOR_NPM)
    return NODE_MODULES
