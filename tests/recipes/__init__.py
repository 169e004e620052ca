"""The recipes of the pages on reading, taken from the pages themselves and run as a reader of it would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = "".join(page.read_text(encoding="utf-8") for page in sorted((REPOSITORY / "docs").glob("reading-*.md")))
NODE_MODULES = REPOSITORY / ".local" / "node"
NODE_PACKAGE = "@aws-sdk/client-secrets-manager@3.1164.0"
VIRTUOUS = "https://api.virtuoussoftware.com"

RECIPES: dict[str, str] = dict(
    re.findall(r"^<!-- recipe: (\S+) -->\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
# They read from Secrets Manager, call Virtuous, and print the organisation's name.
PROGRAMS = ("reader.py", "httpx.py", "urllib3.py", "aiohttp.py", "cli.sh", "node.mjs", "powertools.py")

_TOOLS = {".py": (sys.executable,), ".sh": ("bash", "aws", "jq", "curl"), ".mjs": ("node", "npm")}


def run(name: str, base_url: str, environment: Mapping[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs a recipe with *base_url* in place of Virtuous's; skips the test where its tools are not installed.

    *environment* holds the AWS settings.
    """
    interpreter, *others = _TOOLS[Path(name).suffix]
    missing = [tool for tool in (interpreter, *others) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if interpreter == "node":
        directory = _with_node_modules()
    # A name that hides no module which a recipe imports.
    program = directory / f"recipe-{os.getpid()}-{name}"
    program.write_text(RECIPES[name].replace(VIRTUOUS, base_url), encoding="utf-8")
    around = surroundings(environment)
    try:
        return subprocess.run(
            [interpreter, program], env=around, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        program.unlink()


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that a recipe runs in: of this process's own only the path to the tools counts."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "NODE_NO_WARNINGS": "1",
        "PYTHONPATH": str(REPOSITORY / "layers" / "virtuous_token"),
        **environment,
    }


def _with_node_modules() -> Path:
    """A folder with the AWS SDK for JavaScript; it is installed once."""
    package = NODE_PACKAGE.rpartition("@")[0]
    if not (NODE_MODULES / "node_modules" / package / "package.json").exists():
        NODE_MODULES.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent", NODE_PACKAGE]
        subprocess.run(command, cwd=NODE_MODULES, check=True, capture_output=True, timeout=180)
    return NODE_MODULES
