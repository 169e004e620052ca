"""Log lines and metrics of a run."""

from __future__ import annotations

import io
import json
import logging
from datetime import datetime, timedelta
from typing import Any

import pytest
from aws_lambda_powertools import Logger, Metrics

from tests.support import NOW, a_version
from token_refresher.observability import log_results, put_metrics
from token_refresher.refresh.refresh import OutcomeWord, Result

SERVICE = "virtuous-token-refresher"
NAMES = {"Sweeps", "FailedConnections", "TokensEndingSoon", "NoticesNotSent"}


def _logged(*results: Result, complete: bool = False) -> list[dict[str, Any]]:
    """The last line counts them all."""
    stream = io.StringIO()
    log_results(Logger(service=a_version(), level=logging.DEBUG, stream=stream), results, "crm", complete=complete)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _measured(capsys: pytest.CaptureFixture[str], *results: Result, notices_not_sent: int = 0) -> dict[str, Any]:
    """The one line of the run, in CloudWatch's embedded metric format."""
    metrics = Metrics(namespace="VirtuousToken", service=SERVICE)
    put_metrics(metrics, results, notices_not_sent, NOW)
    metrics.flush_metrics()
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


LINES: list[tuple[Result, str, dict[str, Any]]] = [
    (Result("acme", OutcomeWord.REFRESHED), "INFO", {"reason": None}),
    (Result("acme", OutcomeWord.UNPROVEN, "because"), "ERROR", {"reason": "because"}),
    (Result("acme", OutcomeWord.TRY_AGAIN, pair_at_risk=True), "CRITICAL", {"message": "token pair not saved"}),
    (
        Result("acme", OutcomeWord.LOGIN_REQUIRED, readers_work_until=NOW),
        "WARNING",
        {"run": "virtuous-token --prefix crm login --connection acme", "readers_work_until": NOW.isoformat()},
    ),
]


def test_each_outcome_is_one_line_at_its_level() -> None:
    for result, level, fields in LINES:
        line, _ = _logged(result)
        assert (line["level"], line["connection"], line["outcome"]) == (level, "acme", result.outcome)
        assert {name: line.get(name) for name in fields} == fields
    noticed, _ = _logged(Result("acme", OutcomeWord.FRESH, notes=("one",)))
    assert (noticed["level"], noticed["connection"], noticed["note"]) == ("WARNING", "acme", "one")


def test_what_neither_changed_nor_needs_somebody_is_counted_and_has_no_line() -> None:
    """So that logs cost the same for one connection and ten thousand."""
    quiet = [OutcomeWord.FRESH, OutcomeWord.BUSY, OutcomeWord.POSTPONED]
    results = [Result(str(number), outcome) for number, outcome in enumerate([*OutcomeWord, *quiet])]

    *lines, line = _logged(*results)

    assert [line["outcome"] for line in lines] == [word for word in OutcomeWord if word not in quiet]
    assert len(_logged(*results, complete=True)) == len(results) + 1  # once a day, for the dashboard
    assert (line["message"], line["level"], line["checked"]) == ("swept", "INFO", 13)
    assert line["outcomes"] == {word: 2 if word in quiet else 1 for word in OutcomeWord}


def test_metrics_come_as_cloudwatch_reads_them_zeros_included(capsys: pytest.CaptureFixture[str]) -> None:
    """Alarms end when the last connection is gone; each run counts anew."""
    _measured(capsys)
    measured = _measured(capsys)

    (described,) = measured["_aws"]["CloudWatchMetrics"]
    assert (described["Namespace"], described["Dimensions"]) == ("VirtuousToken", [["service"]])
    assert {metric["Name"]: metric["Unit"] for metric in described["Metrics"]} == dict.fromkeys(NAMES, "Count")
    assert (measured["_aws"]["Timestamp"], measured["service"]) == (NOW.timestamp() * 1000, SERVICE)
    assert {name: measured[name] for name in NAMES} == {name: [float(name == "Sweeps")] for name in NAMES}


def test_what_fails_a_run_is_counted_and_notices_that_were_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    measured = _measured(capsys, *(Result(outcome, outcome) for outcome in OutcomeWord), notices_not_sent=2)

    assert (measured["FailedConnections"], measured["NoticesNotSent"]) == ([3.0], [2.0])


SOON, LATER, HALF_AN_HOUR_ON = NOW + timedelta(hours=23), NOW + timedelta(hours=24), NOW + timedelta(minutes=30)
# Until when readers work, when the next refresh is due, and whether the token counts as about to end.
ENDINGS: dict[str, tuple[OutcomeWord, datetime | None, datetime | None, bool]] = {
    "no login within the last day": (OutcomeWord.LOGIN_REQUIRED, SOON, NOW, True),
    "no login, and a day is left": (OutcomeWord.LOGIN_REQUIRED, LATER, NOW, False),
    "nobody has logged in yet": (OutcomeWord.LOGIN_REQUIRED, None, None, False),
    "Virtuous is down for a week": (OutcomeWord.TRY_AGAIN, SOON, NOW - timedelta(days=6), True),
    "readers keep the old one": (OutcomeWord.UNPROVEN, SOON, NOW + timedelta(days=7), True),
    "it lives an hour, just new": (OutcomeWord.REFRESHED, SOON, HALF_AN_HOUR_ON, False),
    "another run holds it too long": (OutcomeWord.BUSY, SOON, HALF_AN_HOUR_ON, True),
    "an API key at its end": (OutcomeWord.FRESH, SOON, None, True),
    "an API key without an end": (OutcomeWord.FRESH, None, None, False),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_tokens_that_are_about_to_end_without_a_successor(capsys: pytest.CaptureFixture[str], case: str) -> None:
    outcome, until, next_refresh_at, counts = ENDINGS[case]
    result = Result("a", outcome, readers_work_until=until, next_refresh_at=next_refresh_at)

    assert _measured(capsys, result, Result("b", OutcomeWord.FRESH))["TokensEndingSoon"] == [float(counts)]
