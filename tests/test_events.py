"""Every event in events/ does what its name says; nothing else is accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.leak_harness import LeakHarness
from tests.support import Deployment, deployed
from token_refresher.events import InvalidEvent, Request

EVENTS = Path(__file__).parents[1] / "events"

# By file: which connections are looked at, whether what is fresh is refreshed too, whether it only reports.
EXPECTED: dict[str, Request] = {
    "all.json": Request(),
    "all-forced.json": Request(force=True),
    "one-connection-forced.json": Request(connections=("acme",), force=True),
    "report-of-one.json": Request(connections=("acme",), report=True),
    "report.json": Request(report=True),
    "report-with-proof.json": Request(report=True, prove=True),
    "scheduled-by-rule.json": Request(scheduled=True),
    "scheduled.json": Request(scheduled=True),
    "several-connections.json": Request(connections=("default", "acme")),
}


@pytest.fixture
def deployment(harness: LeakHarness) -> Iterator[Deployment]:
    """Three connections: default is due, acme and other are fresh."""
    with deployed(harness, "acme", "default", "other") as deployment:
        deployment.log_in("default", age=timedelta(days=14))
        deployment.log_in("acme")
        deployment.log_in("other")
        yield deployment


@pytest.mark.parametrize("name", sorted({path.name for path in EVENTS.iterdir()} | EXPECTED.keys()))
def test_the_function_does_what_the_event_asks_for(deployment: Deployment, name: str) -> None:
    event, expected = json.loads((EVENTS / name).read_text()), EXPECTED[name]
    names = set(expected.connections or ("acme", "default", "other"))

    answer = deployment.invoke(event)

    assert Request.parse(event) == expected
    assert answer["checked"] == len(names)
    if expected.report:
        assert answer["connections"].keys() == names
        assert deployment.virtuous.token_requests == []
    else:
        outcomes = {name: "refreshed" if expected.force or name == "default" else "fresh" for name in names}
        assert answer["outcomes"] == outcomes
        assert len(deployment.virtuous.token_requests) == list(outcomes.values()).count("refreshed")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param({}, Request(), id="nothing in particular"),
        pytest.param({"connections": None, "force": False, "report": False}, Request(), id="the same, spelt out"),
        pytest.param({"connections": ["9-a", "b", "9-a"]}, Request(connections=("9-a", "b")), id="a name given twice"),
    ],
)
def test_what_an_operator_may_send(event: object, expected: Request) -> None:
    assert Request.parse(event) == expected


@pytest.mark.parametrize(
    ("event", "message"),
    [
        pytest.param([], "JSON object", id="a list"),
        pytest.param(None, "JSON object", id="null"),
        pytest.param({"connection": ["acme"]}, "connection", id="connection for connections"),
        pytest.param({"Connections": ["acme"]}, "Connections", id="a capital"),
        pytest.param({"reports": True}, "reports", id="reports for report"),
        pytest.param({"source": "aws.s3", "detail": {}}, "source", id="another service's event"),
        pytest.param({"connections": "acme"}, "list of names", id="a name that is no list"),
        pytest.param({"connections": []}, "at least one", id="no names"),
        pytest.param({"connections": [None]}, "lower-case", id="a name that is null"),
        pytest.param({"connections": [["acme"]]}, "lower-case", id="a list in the list"),
        pytest.param({"connections": ["Acme"]}, "lower-case", id="a name with a capital"),
        pytest.param({"connections": ["acme/tokens"]}, "lower-case", id="a name with a slash"),
        pytest.param({"connections": ["acme\n"]}, "lower-case", id="a name with a newline"),
        pytest.param({"force": "true"}, "force", id="force as a text"),
        pytest.param({"force": 1}, "force", id="force as a number"),
        pytest.param({"report": "yes"}, "report", id="report as a text"),
    ],
)
def test_anything_else_is_refused_and_nothing_is_done(deployment: Deployment, event: object, message: str) -> None:
    """A misspelt key must not turn into a sweep of everything."""
    deployment.account.strict.log.clear()

    with pytest.raises(InvalidEvent, match=message):
        deployment.invoke(event)

    assert deployment.account.strict.log == []
    assert deployment.virtuous.requests == []
