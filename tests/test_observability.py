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
from token_refresher.observability import log_results, log_summary, put_metrics
from token_refresher.refresh.refresh import OutcomeWord, Result
from token_refresher.sweep import FAILED

SERVICE = "virtuous-token-refresher"
NAMES = {"Sweeps", "FailedConnections", "TokensEndingSoon", "NoticesNotSent"}
IN_A_WEEK = NOW + timedelta(days=7)


def _logged(*results: Result) -> list[dict[str, Any]]:
    stream = io.StringIO()
    log_results(Logger(service=a_version(), level=logging.DEBUG, stream=stream), results, "crm")
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _measured(capsys: pytest.CaptureFixture[str], *results: Result, notices_not_sent: int = 0) -> dict[str, Any]:
    """The one line of the run, in CloudWatch's embedded metric format."""
    metrics = Metrics(namespace="VirtuousToken", service=SERVICE)
    put_metrics(metrics, results, notices_not_sent, NOW)
    metrics.flush_metrics()
    (line,) = capsys.readouterr().out.splitlines()
    record: dict[str, Any] = json.loads(line)
    return record


# Log lines


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (OutcomeWord.REFRESHED, "INFO"),
        (OutcomeWord.RECOVERED, "INFO"),
        (OutcomeWord.SUPERSEDED, "INFO"),
        (OutcomeWord.LOGIN_REQUIRED, "WARNING"),
        (OutcomeWord.UNPROVEN, "ERROR"),
        (OutcomeWord.TRY_AGAIN, "ERROR"),
        (OutcomeWord.MISCONFIGURED, "ERROR"),
    ],
)
def test_each_outcome_is_one_line_at_its_level(outcome: OutcomeWord, level: str) -> None:
    (line,) = _logged(Result("acme", outcome, "because"))

    assert (line["level"], line["connection"], line["outcome"], line["reason"]) == (level, "acme", outcome, "because")


def test_what_neither_changed_nor_needs_somebody_is_counted_and_has_no_line() -> None:
    """So that logs cost the same for one connection and ten thousand."""
    quiet = [OutcomeWord.FRESH, OutcomeWord.BUSY, OutcomeWord.POSTPONED]
    results = [Result(str(number), outcome) for number, outcome in enumerate([*OutcomeWord, *quiet])]

    assert [line["outcome"] for line in _logged(*results)] == [word for word in OutcomeWord if word not in quiet]
    stream = io.StringIO()
    log_summary(Logger(service=a_version(), stream=stream), results)
    (line,) = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert (line["message"], line["checked"]) == ("swept", 13)
    assert line["outcomes"] == {word: 2 if word in quiet else 1 for word in OutcomeWord}


def test_a_pair_that_could_not_be_saved_is_critical() -> None:
    (line,) = _logged(Result("acme", OutcomeWord.TRY_AGAIN, "not saved", pair_at_risk=True))

    assert (line["level"], line["message"]) == ("CRITICAL", "token pair not saved")


def test_a_login_that_is_required_says_what_to_run_and_how_long_readers_work() -> None:
    (line,) = _logged(Result("acme", OutcomeWord.LOGIN_REQUIRED, readers_work_until=IN_A_WEEK))

    assert line["run"] == "virtuous-token --prefix crm login --connection acme"
    assert line["readers_work_until"] == "2026-12-02T12:00:00+00:00"


def test_a_login_that_was_never_made_names_no_end() -> None:
    (line,) = _logged(Result("acme", OutcomeWord.LOGIN_REQUIRED))

    assert line.get("readers_work_until") is None


def test_without_a_reason_there_is_no_such_field() -> None:
    (line,) = _logged(Result("acme", OutcomeWord.REFRESHED))

    assert "reason" not in line


def test_each_thing_noticed_is_a_warning_that_names_its_connection() -> None:
    lines = _logged(Result("acme", OutcomeWord.REFRESHED, notes=("one", "two")), Result("default", OutcomeWord.FRESH))

    noticed = [(line["level"], line["connection"], line["note"]) for line in lines if "note" in line]
    assert noticed == [("WARNING", "acme", "one"), ("WARNING", "acme", "two")]


def test_a_run_over_nothing_logs_nothing() -> None:
    assert _logged() == []


# Metrics


def test_metrics_come_as_cloudwatch_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Embedded metric format: namespace, the dimension that the alarms name, a unit, and the instant of the start."""
    written = _measured(capsys)["_aws"]

    (described,) = written["CloudWatchMetrics"]
    assert (described["Namespace"], described["Dimensions"]) == ("VirtuousToken", [["service"]])
    assert {metric["Name"]: metric["Unit"] for metric in described["Metrics"]} == dict.fromkeys(NAMES, "Count")
    assert written["Timestamp"] == NOW.timestamp() * 1000


def test_a_sweep_over_nothing_counts_itself_and_zeros(capsys: pytest.CaptureFixture[str]) -> None:
    """So that the alarms end when the last connection is gone."""
    measured = _measured(capsys)

    assert {name: measured[name] for name in NAMES} == {name: [float(name == "Sweeps")] for name in NAMES}
    assert measured["service"] == SERVICE


@pytest.mark.parametrize("outcome", OutcomeWord)
def test_what_fails_a_run_is_counted_as_failed(capsys: pytest.CaptureFixture[str], outcome: OutcomeWord) -> None:
    measured = _measured(capsys, Result("a", outcome), Result("b", OutcomeWord.FRESH))

    assert measured["FailedConnections"] == [1.0 if outcome in FAILED else 0.0]


SOON, LATER = NOW + timedelta(hours=23), NOW + timedelta(hours=24)


@pytest.mark.parametrize(
    ("outcome", "until", "next_refresh_at", "counts"),
    [
        pytest.param(OutcomeWord.LOGIN_REQUIRED, SOON, NOW, True, id="no login within the last day"),
        pytest.param(OutcomeWord.LOGIN_REQUIRED, LATER, NOW, False, id="no login, and a day is left"),
        pytest.param(OutcomeWord.LOGIN_REQUIRED, NOW - timedelta(days=3), NOW, True, id="ended"),
        pytest.param(OutcomeWord.LOGIN_REQUIRED, None, None, False, id="nobody has logged in yet"),
        pytest.param(OutcomeWord.TRY_AGAIN, SOON, NOW - timedelta(days=6), True, id="Virtuous is down for a week"),
        pytest.param(OutcomeWord.UNPROVEN, SOON, NOW + timedelta(days=7), True, id="readers keep the old one"),
        pytest.param(OutcomeWord.FRESH, SOON, NOW + timedelta(minutes=30), False, id="it lives an hour"),
        pytest.param(OutcomeWord.REFRESHED, SOON, NOW + timedelta(minutes=30), False, id="it lives an hour, just new"),
        pytest.param(OutcomeWord.BUSY, SOON, NOW + timedelta(minutes=30), True, id="another run holds it too long"),
        pytest.param(OutcomeWord.FRESH, SOON, None, True, id="an API key at its end"),
        pytest.param(OutcomeWord.FRESH, None, None, False, id="an API key without an end"),
    ],
)
def test_tokens_that_are_about_to_end_without_a_successor(
    capsys: pytest.CaptureFixture[str],
    outcome: OutcomeWord,
    until: datetime | None,
    next_refresh_at: datetime | None,
    counts: bool,
) -> None:
    result = Result("a", outcome, readers_work_until=until, next_refresh_at=next_refresh_at)

    assert _measured(capsys, result, Result("b", OutcomeWord.FRESH))["TokensEndingSoon"] == [float(counts)]


def test_notices_that_were_not_sent_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert _measured(capsys, notices_not_sent=2)["NoticesNotSent"] == [2.0]


def test_one_run_is_not_counted_again_in_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    _measured(capsys)

    assert _measured(capsys)["Sweeps"] == [1.0]
