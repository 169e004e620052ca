"""Every test runs under the leak harness, in an environment that holds nothing of the person's who runs it."""

import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.leak_harness import harness, pytest_configure, pytest_runtest_makereport
from tests.loopback_only import asked_for, watch
from tests.seed import SEED

__all__ = ["harness", "pytest_configure", "pytest_runtest_makereport"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the deployed stack come first: they wait while others compute."""
    items.sort(key=lambda item: not item.get_closest_marker("deployed"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process has the shared deployed world, one follows README beside it, and all share the other tests."""
    scheduling: Any = importlib.import_module("xdist.scheduler").LoadScopeScheduling
    worlds = {"tests/deployed/test_readme.py": "README"}

    class EachTestAlone(scheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return worlds.get(module, "the shared world") if module.startswith("tests/deployed/") else nodeid

    return EachTestAlone(config, log)


@pytest.fixture(autouse=True)
def left_this_machine() -> Iterator[list[str]]:
    """What the test asked for beyond loopback. It fails for that, also where somebody caught the refusal."""
    asked_for.clear()
    yield asked_for
    assert asked_for == [], "a test asks for more than loopback"


def pytest_report_header() -> str:
    return f"random choices: seed {SEED} (tests/seed.py)"


watch()

# Here and not in a fixture: some modules make a client when they are imported.
for name in list(os.environ):
    if name.startswith(("AWS_", "POWERTOOLS_", "VIRTUOUS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ |= {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
