"""Every test runs under the leak harness."""

from tests.leak_harness import harness, pytest_configure, pytest_runtest_makereport

__all__ = ["harness", "pytest_configure", "pytest_runtest_makereport"]
