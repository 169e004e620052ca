"""An operator, and a deployment in which nobody has logged in yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.operator import Operator, operator_of
from tests.leak_harness import LeakHarness


@pytest.fixture
def operator(harness: LeakHarness, capsys: pytest.CaptureFixture[str]) -> Iterator[Operator]:
    with operator_of(harness, capsys) as operator:
        yield operator
