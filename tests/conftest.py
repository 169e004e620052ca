"""Every test runs under the leak harness, in an environment that holds nothing of the person's who runs it."""

import os

from tests.leak_harness import harness, pytest_configure, pytest_runtest_makereport
from tests.seed import SEED

__all__ = ["harness", "pytest_configure", "pytest_runtest_makereport"]


def pytest_report_header() -> str:
    return f"random choices: seed {SEED} (tests/seed.py)"


# Here and not in a fixture: some modules make a client when they are imported.
for name in list(os.environ):
    if name.startswith(("AWS_", "POWERTOOLS_", "VIRTUOUS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ |= {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
