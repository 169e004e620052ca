"""An operator of a deployment, in which nobody has logged in yet unless connections are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.cli.operator import Operator
from tests.leak_harness import LeakHarness
from tests.support import deployed
from virtuous_token_cli import obtain


@pytest.fixture(autouse=True)
def no_aws_but_what_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a service that nobody plays meets a closed port of this machine; child processes inherit it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


@pytest.fixture
def operator_of(
    harness: LeakHarness, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Operator]]:
    """Makes one of a deployment with these connections; options are the stand-in's."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(obtain, "BETWEEN_PROOFS", (0, 0))
    with ExitStack() as deployments:

        def make(*connections: str, **options: Any) -> Operator:
            deployment = deployed(harness, *connections, empty=not connections, **options)
            return Operator(deployments.enter_context(deployment), capsys)

        yield make


@pytest.fixture
def operator(operator_of: Callable[..., Operator]) -> Operator:
    return operator_of()
