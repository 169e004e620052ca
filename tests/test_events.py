"""Every event in events/ does what its name says; nothing else is accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from token_refresher.events import InvalidEvent, Request

EVENTS = Path(__file__).parents[1] / "events"

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


@pytest.mark.parametrize("name", sorted({path.name for path in EVENTS.iterdir()} | EXPECTED.keys()))
def test_each_example_asks_for_what_its_name_says(name: str) -> None:
    assert Request.parse(json.loads((EVENTS / name).read_text())) == EXPECTED[name]


def test_what_an_operator_may_send_beside_the_examples() -> None:
    assert Request.parse({"connections": None, "force": False, "report": False}) == Request.parse({}) == Request()
    assert Request.parse({"connections": ["9-a", "b", "9-a"]}) == Request(connections=("9-a", "b"))


REFUSED: dict[str, tuple[object, str]] = {
    "a list": ([], "JSON object"),
    "null": (None, "JSON object"),
    "connection for connections": ({"connection": ["acme"]}, "connection"),
    "a capital": ({"Connections": ["acme"]}, "Connections"),
    "another service's event": ({"source": "aws.s3", "detail": {}}, "source"),
    "a name that is no list": ({"connections": "acme"}, "list of names"),
    "no names": ({"connections": []}, "at least one"),
    "a name that is null": ({"connections": [None]}, "lower-case"),
    "a name with a slash": ({"connections": ["acme/tokens"]}, "lower-case"),
    "a name with a newline": ({"connections": ["acme\n"]}, "lower-case"),
    "force as a text": ({"force": "true"}, "force"),
    "report as a number": ({"report": 1}, "report"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused(case: str) -> None:
    """A misspelt key must not turn into a sweep of everything."""
    event, message = REFUSED[case]
    with pytest.raises(InvalidEvent, match=message):
        Request.parse(event)
