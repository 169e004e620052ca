"""The reader as people get it: a small layer, and a wheel that installs into an empty environment and works there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from virtuous_token import __version__

LAYER = Path(__file__).parents[1] / "layers" / "virtuous_token"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built beside the source, which stays as it was."""
    folder = tmp_path_factory.mktemp("wheel")
    before = sorted(LAYER.iterdir())
    run(sys.executable, "-c", f"from hatchling import build; build.build_wheel({str(folder)!r})", cwd=LAYER)
    assert sorted(LAYER.iterdir()) == before, "what lies there is packed into the layer"
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which nothing but the wheel is installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", interpreter, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    return interpreter


def test_the_wheel_holds_every_module_and_the_mark_of_its_types_and_asks_for_botocore_alone(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    held = {Path(name).name for name in archive.namelist() if name.startswith("virtuous_token/")}
    assert held == {path.name for path in (LAYER / "virtuous_token").iterdir() if path.suffix in (".py", ".typed")}
    (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    metadata = Parser().parsestr(archive.read(name).decode())
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert (metadata["Name"], metadata["Version"], needed) == ("virtuous-token", __version__, ["botocore>=1.34"])


def test_in_an_empty_environment_it_says_what_is_missing_and_beside_botocore_it_reads(python: Path) -> None:
    program = """
import virtuous_token
class Client:
    def get_secret_value(self, **_):
        return {"SecretString": '{"access_token": "access-1"}'}
print(virtuous_token.TokenReader("bearer", client=Client()).authorization(), virtuous_token.__file__)
try:
    virtuous_token.TokenReader("virtuous/default/bearer").token()
except virtuous_token.NotConfigured as problem:
    print(problem)
"""
    libraries = sysconfig.get_paths()["purelib"]
    for path, problem in (("", "botocore is not installed: run `pip install botocore`"), (libraries, "no Region")):
        shown = run(python, "-c", program, cwd=python.parent, PYTHONPATH=path)
        assert shown.startswith(f"Bearer access-1 {python.parents[1]}")
        assert problem in shown


def test_the_layer_is_small_and_brings_nothing_but_us(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "layer.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in LAYER.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(LAYER))
    assert (tmp_path / "layer.zip").stat().st_size <= 36_000
    assert [line for line in (LAYER / "requirements.txt").read_text().splitlines() if not line.startswith("#")] == []
