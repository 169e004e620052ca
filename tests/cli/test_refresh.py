"""Having the function refresh: the command itself sends no refresh token."""

from __future__ import annotations

import pytest

from tests.cli.operator import Operator, operator_of
from tests.leak_harness import LeakHarness

Capture = pytest.CaptureFixture[str]


def test_the_only_connection_is_refreshed_though_it_is_not_due(operator: Operator) -> None:
    assert operator.logs_in().status == 0

    ended = operator.runs("refresh")

    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "default: refreshed. A new token pair was saved, proved and published.\n"
    assert operator.deployment.invoked_with[-1] == {"connections": ["default"], "force": True}


@pytest.mark.parametrize(
    ("arguments", "status", "refreshed"),
    [
        pytest.param([], 2, [], id="several and none named"),
        pytest.param(["--all", "--connection", "acme"], 2, [], id="all and one"),
        pytest.param(["--all"], 0, ["acme", "default", "other"], id="all"),
        pytest.param(["-c", "acme", "-c", "other"], 0, ["acme", "other"], id="two"),
    ],
)
def test_of_several_those_are_refreshed_that_were_named(
    harness: LeakHarness, capsys: Capture, arguments: list[str], status: int, refreshed: list[str]
) -> None:
    with operator_of(harness, capsys, "acme", "default", "other") as operator:
        for name in ("acme", "default", "other"):
            operator.deployment.log_in(name)

        ended = operator.runs("refresh", *arguments)

        assert ended.status == status
        assert [line.split(":")[0] for line in ended.out.splitlines()] == refreshed


def test_a_refused_refresh_token_asks_for_a_login(operator: Operator) -> None:
    assert operator.logs_in().status == 0
    operator.deployment.virtuous.revoke_refresh_token(operator.deployment.virtuous.live_refresh_token)

    ended = operator.runs("refresh")

    assert ended.status == 1
    assert ended.out.startswith("default: login_required.")
    assert "virtuous-token login --connection default" in ended.err
