"""An operator, and a deployment in which nobody has logged in yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.operator import Operator, operator_of
from tests.leak_harness import LeakHarness


@pytest.fixture(autouse=True)
def no_aws_but_what_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a service that nobody plays meets a closed port of this machine; child processes inherit it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


@pytest.fixture
def operator(harness: LeakHarness, capsys: pytest.CaptureFixture[str]) -> Iterator[Operator]:
    with operator_of(harness, capsys) as operator:
        yield operator
