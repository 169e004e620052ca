"""The real handler against the strict Secrets Manager and the stand-in for Virtuous."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from tests.support import Context, Deployment, a_version, deployed, issued_by
from token_refresher import __version__, handler
from token_refresher.events import InvalidEvent
from token_refresher.handler import CLOSING_SECONDS, SomeConnectionsFailed
from token_refresher.refresh.claim import GRACE
from token_refresher.refresh.journal import LABEL, Intent, parse_entry
from token_refresher.refresh.model import StoreMisconfigured, StoreUnavailable
from token_refresher.refresh.refresh import refresh_connection
from token_refresher.settings import InvalidSettings

DUE = timedelta(days=14)
PAIR_SECRET = "virtuous/default/tokens"
SCHEDULED = {"source": "aws.scheduler"}


@pytest.fixture
def deployment(harness: LeakHarness) -> Iterator[Deployment]:
    """One connection that nobody logged in to yet."""
    with deployed(harness) as deployment:
        yield deployment


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Everything that was written to standard output: each line of it is JSON."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# What comes back


def test_what_is_due_is_refreshed_and_published_and_what_is_fresh_is_left_alone(harness: LeakHarness) -> None:
    """A login that is required is no error: Lambda would repeat it in vain, and it has an alarm of its own."""
    with deployed(harness, "acme", "default", "zebra") as deployment:
        deployment.log_in("acme", age=DUE)
        deployment.log_in("default")

        answer = deployment.invoke({})

        account = deployment.account
        assert account.pair("acme").access_token.reveal() in deployment.virtuous.live_access_tokens
        assert account.bearer("acme").access_token == account.pair("acme").access_token
        assert len(deployment.virtuous.token_requests) == 1
    outcomes = {"acme": "refreshed", "default": "fresh", "zebra": "login_required"}
    assert json.loads(json.dumps(answer)) == {"checked": 3, "outcomes": outcomes}


def test_an_account_without_connections_is_no_error(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_PREFIX", "elsewhere")

    assert deployment.invoke({}) == {"checked": 0, "outcomes": {}}


def test_a_report_refreshes_nothing(deployment: Deployment) -> None:
    deployment.log_in(age=DUE)
    writes = deployment.account.strict.writes(PAIR_SECRET)

    answer = deployment.invoke({"report": True})

    assert answer["checked"] == 1
    assert answer["version"] == __version__
    assert answer["settings"] == {
        "prefix": "virtuous",
        "base_url": deployment.virtuous.base_url,
        "kms_key_arn": None,
        "refresh_at_percent": 50,
        "schedule": "",
    }
    assert answer["connections"]["default"]["organization_name"] == "Example Relief"
    assert deployment.virtuous.requests == []
    assert deployment.account.strict.writes(PAIR_SECRET) == writes


def test_a_report_with_proof_says_whether_virtuous_takes_the_tokens(deployment: Deployment) -> None:
    deployment.log_in()
    deployment.virtuous.script_organization(step.Step(), step.denied(), step.bad_gateway())

    proofs = [deployment.invoke({"report": True, "prove": True})["connections"]["default"]["proof"] for _ in range(3)]

    assert proofs == ["accepted", "refused (HTTP 401)", "unclear (HTTP 502)"]


# What is an error, and what it says


@pytest.mark.parametrize("gone", [{}, {"ForceDeleteWithoutRecovery": True}], ids=["marked for deletion", "deleted"])
def test_a_connection_that_lost_a_secret_is_named(harness: LeakHarness, gone: dict[str, bool]) -> None:
    """Else every run would succeed and every alarm be quiet until the readers' token ends."""
    with deployed(harness, "acme", "default", "zebra") as deployment:
        for name in ("acme", "default", "zebra"):
            deployment.log_in(name)
        for secret in ("virtuous/acme/tokens", "virtuous/zebra/bearer"):
            deployment.account.client.delete_secret(SecretId=secret, **gone)

        with pytest.raises(SomeConnectionsFailed, match=r"^acme: misconfigured, zebra: misconfigured$"):
            deployment.invoke({})


def test_of_several_connections_the_others_are_done_and_only_the_failed_are_named(
    harness: LeakHarness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A defect shows no text of its own."""
    secret = harness.secret(a_version())

    def one_defective(connection: str, *arguments: Any, **named: Any) -> Any:
        if connection == "defect":
            raise ZeroDivisionError(secret)
        return refresh_connection(connection, *arguments, **named)

    monkeypatch.setattr(handler, "refresh_connection", one_defective)
    with deployed(harness, "acme", "broken", "defect", "empty", "garbled") as deployment:
        deployment.log_in("acme", age=DUE)
        deployment.account.put(deployment.account.names("garbled").pair, "not a pair")
        deployment.account.strict.fail("GetSecretValue", "ThrottlingException", secret="virtuous/broken/tokens")

        with pytest.raises(SomeConnectionsFailed) as failed:
            deployment.invoke({})

        assert str(failed.value) == "broken: try_again, defect: try_again, garbled: misconfigured"
        assert deployment.account.bearer("acme").access_token == deployment.account.pair("acme").access_token
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_page_of_something_in_between_condemns_no_api_key(deployment: Deployment) -> None:
    api_key = replace(issued_by(deployment.virtuous), refresh_token=None, expires_at=None)
    deployment.account.publish(deployment.account.put_pair(api_key), api_key)
    page = "<html><title>Just a moment...</title></html>"
    deployment.virtuous.script_organization(step.reply(403, page, {"Content-Type": "text/html"}))

    assert deployment.invoke(SCHEDULED)["outcomes"] == {"default": "fresh"}

    assert len(deployment.virtuous.requests) == 1
    assert deployment.notices == []


@pytest.mark.parametrize(
    ("code", "error"), [("ThrottlingException", StoreUnavailable), ("AccessDeniedException", StoreMisconfigured)]
)
def test_connections_that_cannot_be_listed_are_an_error(
    deployment: Deployment, code: str, error: type[Exception]
) -> None:
    deployment.account.strict.fail("ListSecrets", code)

    with pytest.raises(error, match="ListSecrets"):
        deployment.invoke({})


def test_a_named_connection_needs_no_list(deployment: Deployment) -> None:
    """ListSecrets may lag minutes behind; who names a connection does not wait for it."""
    deployment.log_in()
    deployment.account.strict.fail("ListSecrets", "AccessDeniedException")

    assert deployment.invoke({"connections": ["default"]})["outcomes"] == {"default": "fresh"}
    with pytest.raises(SomeConnectionsFailed, match=r"^nobody: misconfigured$"):
        deployment.invoke({"connections": ["nobody"]})


def test_wrong_settings_end_an_invocation(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFRESH_AT_PERCENT", "99")

    with pytest.raises(InvalidSettings, match="REFRESH_AT_PERCENT"):
        deployment.invoke({})


# Time


@pytest.mark.parametrize("milliseconds", [0, 30_000, 80_000])
def test_with_little_time_left_no_refresh_token_is_sent(deployment: Deployment, milliseconds: int) -> None:
    deployment.log_in(age=DUE)

    answer = deployment.invoke({}, Context(milliseconds_left=milliseconds))

    assert answer["outcomes"] == {"default": "postponed"}
    assert deployment.virtuous.token_requests == []


def test_the_claim_ends_a_minute_after_the_invocation_does(deployment: Deployment) -> None:
    """Lambda ends the holder at its time-out, so that a dead intent really is dead."""
    seen: list[tuple[datetime, str]] = []

    def in_flight(_: step.Recorded) -> None:
        seen.append((datetime.now(UTC), str(deployment.account.strict.value(PAIR_SECRET, LABEL))))

    deployment.log_in(age=DUE)
    deployment.virtuous.script(step.Step(call=in_flight))
    before = datetime.now(UTC)

    deployment.invoke({}, Context(milliseconds_left=200_000))

    ((after, entry),) = seen
    intent = parse_entry(entry)
    assert isinstance(intent, Intent)
    until_dead = timedelta(seconds=200 - CLOSING_SECONDS) + GRACE
    # The beginning and the length are stored in whole seconds, rounded down.
    assert before + until_dead - timedelta(seconds=2) <= intent.started_at + intent.holds_for <= after + until_dead


# Warm processes


def test_a_warm_process_sends_each_refresh_token_once_and_uses_the_pair_that_is_stored_now(
    deployment: Deployment,
) -> None:
    """EventBridge Scheduler delivers at least once, and a person may store another pair at any time."""
    deployment.log_in(age=DUE)
    assert deployment.invoke({})["outcomes"] == {"default": "refreshed"}
    before = handler.application()
    assert deployment.invoke({})["outcomes"] == {"default": "fresh"}
    stored = issued_by(deployment.virtuous, age=DUE)
    deployment.account.put_pair(stored)

    assert deployment.invoke({})["outcomes"] == {"default": "refreshed"}

    assert stored.refresh_token is not None
    assert len(deployment.virtuous.token_requests) == 2
    assert deployment.virtuous.token_requests[-1].form()["refresh_token"] == stored.refresh_token.reveal()
    assert handler.application() is before


def test_nothing_is_read_at_import() -> None:
    """SnapStart shares what was made at import among all restored environments."""
    assert not [name for name, value in vars(handler).items() if isinstance(value, handler.Application)]


# What is reported


def test_a_run_tells_who_called_each_outcome_and_its_metrics_also_if_it_fails(
    harness: LeakHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    context = Context()
    with deployed(harness, "acme", "broken") as deployment:
        deployment.log_in("acme", age=DUE)
        deployment.account.put(deployment.account.names("broken").pair, "not a pair")
        capsys.readouterr()

        with pytest.raises(SomeConnectionsFailed):
            deployment.invoke(SCHEDULED, context)

    invoked, refreshed, failed, swept, metrics = _lines(capsys)
    said = [invoked[key] for key in ("message", "source", "aws_request_id", "connections")]
    assert said == ["invoked", "aws.scheduler", context.aws_request_id, "all"]
    assert (refreshed["level"], refreshed["connection"], refreshed["outcome"]) == ("INFO", "acme", "refreshed")
    assert (failed["level"], failed["connection"], failed["outcome"]) == ("ERROR", "broken", "misconfigured")
    assert failed["reason"]
    assert (swept["checked"], swept["outcomes"]) == (2, {"refreshed": 1, "misconfigured": 1})
    assert (metrics["Sweeps"], metrics["FailedConnections"]) == ([1.0], [1.0])


def test_what_an_operator_asks_for_writes_no_metrics(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """A count of zero would end an alarm, and a sweep would stand in for the schedule's."""
    deployment.log_in()
    capsys.readouterr()

    for event in ({}, {"report": True}, {"connections": ["default"], "force": True}):
        deployment.invoke(event)

    assert [line for line in _lines(capsys) if "_aws" in line] == []


def test_an_invalid_event_writes_no_word_of_it(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """A person who pastes tokens into an event must not find them in the log or in the error."""
    pasted = deployment.virtuous.issue_pair()
    capsys.readouterr()

    for event in (pasted, {"connections": pasted}):
        with pytest.raises(InvalidEvent):
            deployment.invoke(event)

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "misbehaviour",
    [
        pytest.param(None, id="all goes well"),
        pytest.param(step.answer(refresh_token="", token_type="mac", expires_in="soon"), id="an odd answer"),
        pytest.param(step.refused(), id="refused, then the stored password"),
        pytest.param(step.refused("invalid_client", 401), id="misconfigured"),
        pytest.param(step.truncated(200), id="cut short in the middle of a token"),
        pytest.param(step.answer_lost(), id="the answer lost"),
        pytest.param(step.answer(access_token="with a space"), id="a token that no header may carry"),
        pytest.param(step.code_needed(), id="a one-time code needed"),
    ],
)
@pytest.mark.usefixtures("capsys")
def test_no_secret_is_visible_at_debug_however_the_refresh_ends(
    deployment: Deployment, harness: LeakHarness, misbehaviour: step.Step | None
) -> None:
    """The harness judges logs, output, metrics, answers and errors; what must be there is looked for here."""
    deployment.log_in(age=DUE)
    login = {"username": deployment.virtuous.user, "password": deployment.virtuous.password}
    deployment.account.client.create_secret(Name="virtuous/default/login", SecretString=json.dumps(login))
    if misbehaviour:
        deployment.virtuous.script(misbehaviour)
    context = Context()

    try:
        deployment.invoke({}, context)
    except SomeConnectionsFailed as failed:
        harness.watch(failed)
    deployment.invoke({"report": True})

    assert logging.getLogger().level == logging.DEBUG
    assert any(context.aws_request_id in repr(vars(record)) for record in harness.records)


@pytest.mark.parametrize("operation", ["DescribeSecret", "GetSecretValue", "PutSecretValue"])
@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException", "InvalidRequestException"])
def test_no_secret_is_visible_at_debug_however_secrets_manager_refuses(
    deployment: Deployment, operation: str, code: str
) -> None:
    deployment.log_in(age=DUE)
    deployment.account.strict.fail(operation, code)

    with pytest.raises(SomeConnectionsFailed):
        deployment.invoke({})


def test_an_error_about_an_event_holds_no_control_or_direction_character(deployment: Deployment) -> None:
    with pytest.raises(InvalidEvent, match="unknown keys ") as rejected:
        deployment.invoke({"force\x1b[2J\r\n\u202e\u2066\x00": True})

    assert str(rejected.value).isprintable()
