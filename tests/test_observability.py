"""Log lines and metrics of a run."""

from __future__ import annotations

import io
import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from aws_lambda_powertools import Logger, Metrics

from tests.support import NOW, a_version
from token_refresher.observability import log_results, put_metrics
from token_refresher.refresh import OutcomeWord, Result

SERVICE = "virtuous-token-refresher"
COUNTS = (
    "Fresh",
    "Refreshed",
    "Recovered",
    "Busy",
    "Superseded",
    "Postponed",
    "Unproven",
    "TryAgain",
    "LoginRequired",
    "Misconfigured",
    "Checked",
    "PairNotSaved",
    "OrganizationChanged",
    "Noticed",
)
NONE = {name: [0.0] for name in COUNTS}
IN_A_WEEK = NOW + timedelta(days=7)


def _logged(*results: Result) -> list[dict[str, Any]]:
    stream = io.StringIO()
    log_results(Logger(service=a_version(), level=logging.DEBUG, stream=stream), results, "crm")
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _measured(capsys: pytest.CaptureFixture[str], *results: Result) -> dict[str, Any]:
    """The one line of the run, in CloudWatch's embedded metric format."""
    metrics = Metrics(namespace="VirtuousToken", service=SERVICE)
    put_metrics(metrics, results, NOW)
    metrics.flush_metrics()
    (line,) = capsys.readouterr().out.splitlines()
    told: dict[str, Any] = json.loads(line)
    return told


# Log lines


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (OutcomeWord.FRESH, "INFO"),
        (OutcomeWord.REFRESHED, "INFO"),
        (OutcomeWord.RECOVERED, "INFO"),
        (OutcomeWord.BUSY, "INFO"),
        (OutcomeWord.SUPERSEDED, "INFO"),
        (OutcomeWord.POSTPONED, "INFO"),
        (OutcomeWord.LOGIN_REQUIRED, "WARNING"),
        (OutcomeWord.UNPROVEN, "ERROR"),
        (OutcomeWord.TRY_AGAIN, "ERROR"),
        (OutcomeWord.MISCONFIGURED, "ERROR"),
    ],
)
def test_each_outcome_is_one_line_at_its_level(outcome: OutcomeWord, level: str) -> None:
    (line,) = _logged(Result("acme", outcome, "because"))

    assert (line["level"], line["connection"], line["outcome"], line["reason"]) == (level, "acme", outcome, "because")


def test_every_outcome_word_has_a_level() -> None:
    lines = _logged(*(Result("acme", outcome) for outcome in OutcomeWord))

    assert [line["outcome"] for line in lines] == list(OutcomeWord)


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
    (line,) = _logged(Result("acme", OutcomeWord.FRESH))

    assert "reason" not in line


def test_each_thing_noticed_is_a_warning_that_names_its_connection() -> None:
    lines = _logged(Result("acme", OutcomeWord.REFRESHED, notes=("one", "two")), Result("default", OutcomeWord.FRESH))

    noticed = [(line["level"], line["connection"], line["note"]) for line in lines if "note" in line]
    assert noticed == [("WARNING", "acme", "one"), ("WARNING", "acme", "two")]


def test_a_run_over_nothing_logs_nothing() -> None:
    assert _logged() == []


# Metrics


def test_every_outcome_is_counted_zero_included(capsys: pytest.CaptureFixture[str]) -> None:
    """An alarm on a metric without data says nothing."""
    told = _measured(
        capsys,
        Result("a", OutcomeWord.REFRESHED),
        Result("b", OutcomeWord.REFRESHED),
        Result("c", OutcomeWord.LOGIN_REQUIRED),
        Result("d", OutcomeWord.TRY_AGAIN),
    )

    assert {name: told[name] for name in COUNTS} == NONE | {
        "Refreshed": [2.0],
        "LoginRequired": [1.0],
        "TryAgain": [1.0],
        "Checked": [4.0],
    }


def test_every_outcome_word_has_its_metric() -> None:
    assert {word.replace("_", "") for word in OutcomeWord} <= {name.lower() for name in COUNTS}


def test_a_run_over_nothing_still_counts(capsys: pytest.CaptureFixture[str]) -> None:
    told = _measured(capsys)

    assert {name: told[name] for name in COUNTS} == NONE


def test_metrics_come_as_cloudwatch_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Embedded metric format: namespace, the dimension that the alarms name, and a unit for each value."""
    told = _measured(capsys, Result("a", OutcomeWord.FRESH, readers_work_until=IN_A_WEEK))

    (described,) = told["_aws"]["CloudWatchMetrics"]
    assert (described["Namespace"], described["Dimensions"]) == ("VirtuousToken", [["service"]])
    assert told["service"] == SERVICE
    units = {metric["Name"]: metric["Unit"] for metric in described["Metrics"]}
    assert units == {**dict.fromkeys(COUNTS, "Count"), "AccessTokenSecondsLeft": "Seconds"}


def test_what_is_left_is_that_of_the_worst_connection(capsys: pytest.CaptureFixture[str]) -> None:
    told = _measured(
        capsys,
        Result("a", OutcomeWord.FRESH, readers_work_until=IN_A_WEEK, refresh_token_issued_at=NOW),
        Result(
            "b",
            OutcomeWord.FRESH,
            readers_work_until=NOW + timedelta(hours=1),
            refresh_token_issued_at=NOW - timedelta(days=340),
        ),
        Result("an API key", OutcomeWord.FRESH),
    )

    assert told["AccessTokenSecondsLeft"] == [3600.0]
    assert told["RefreshTokenDaysLeft"] == [25.0]


def test_what_is_over_has_nothing_left(capsys: pytest.CaptureFixture[str]) -> None:
    told = _measured(
        capsys,
        Result(
            "a",
            OutcomeWord.LOGIN_REQUIRED,
            readers_work_until=NOW - timedelta(days=1),
            refresh_token_issued_at=NOW - timedelta(days=366),
        ),
    )

    assert (told["AccessTokenSecondsLeft"], told["RefreshTokenDaysLeft"]) == ([0.0], [0.0])


def test_where_nobody_knows_an_end_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = _measured(capsys, Result("an API key", OutcomeWord.FRESH))

    assert not {"AccessTokenSecondsLeft", "RefreshTokenDaysLeft"} & told.keys()


def test_a_pair_at_risk_and_things_noticed_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    told = _measured(
        capsys,
        Result("a", OutcomeWord.TRY_AGAIN, pair_at_risk=True, notes=("one", "two")),
        Result("b", OutcomeWord.FRESH, notes=("three",)),
    )

    assert (told["PairNotSaved"], told["Noticed"]) == ([1.0], [3.0])


def test_connections_whose_organisation_changed_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    told = _measured(
        capsys,
        Result("a", OutcomeWord.REFRESHED, organization_changed=True),
        Result("b", OutcomeWord.FRESH),
        Result("c", OutcomeWord.RECOVERED, organization_changed=True),
    )

    assert told["OrganizationChanged"] == [2.0]


def test_one_run_is_not_counted_again_in_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    _measured(capsys, Result("a", OutcomeWord.FRESH))

    assert _measured(capsys, Result("a", OutcomeWord.FRESH))["Fresh"] == [1.0]
