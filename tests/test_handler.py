"""The real handler against the strict Secrets Manager and the stand-in for Virtuous."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from tests.support import Context, Deployment, a_pair, a_version, deployed, issued_by
from token_refresher import __version__, handler, report
from token_refresher.events import InvalidEvent, Request
from token_refresher.handler import CLOSING_SECONDS, SomeConnectionsFailed
from token_refresher.refresh.claim import GRACE
from token_refresher.refresh.journal import LABEL, Intent, parse_entry
from token_refresher.refresh.model import CURRENT, CurrentPair, Policy, Stored, StoreMisconfigured
from token_refresher.refresh.refresh import refresh_connection
from token_refresher.sweep import WORKERS

DUE = timedelta(days=9)
PAIR_SECRET = "virtuous/default/tokens"
SCHEDULED = {"source": "aws.scheduler"}


@pytest.fixture
def deployment(harness: LeakHarness) -> Iterator[Deployment]:
    """One connection that nobody logged in to yet."""
    with deployed(harness) as deployment:
        yield deployment


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _log_in(deployment: Deployment, *names: str, age: timedelta = timedelta(hours=1)) -> None:
    """As the command does: the pair is idle and published."""
    for name in names:
        pair, version = issued_by(deployment.virtuous, age=age), a_version()
        deployment.account.store(name).write_pair(version, pair.to_json(), CURRENT, LABEL)
        deployment.account.publish(version, pair, name)
    deployment.account.strict.settle()
    deployment.account.strict.log.clear()


def _names(count: int) -> list[str]:
    return [f"c{number:03d}" for number in range(count)]


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


def test_force_refreshes_what_is_fresh_too(harness: LeakHarness) -> None:
    with deployed(harness, "acme", "default") as deployment:
        _log_in(deployment, "acme", "default")

        assert deployment.invoke({"force": True, "connections": ["acme"]})["outcomes"] == {"acme": "refreshed"}
        assert set(deployment.invoke({"force": True})["outcomes"].values()) == {"refreshed"}


def test_a_report_refreshes_nothing_and_says_if_asked_whether_virtuous_takes_the_tokens(
    deployment: Deployment,
) -> None:
    deployment.log_in(age=DUE)
    writes = deployment.account.strict.writes(PAIR_SECRET)

    answer = deployment.invoke({"report": True})

    assert (answer["checked"], answer["version"], list(answer["connections"])) == (1, __version__, ["default"])
    assert answer["settings"] == {
        "prefix": "virtuous",
        "base_url": deployment.virtuous.base_url,
        "kms_key_arn": None,
        "refresh_at_percent": 50,
        "schedule": "",
    }
    assert deployment.virtuous.requests == []
    deployment.virtuous.script_organization(step.Step(), step.denied(), step.bad_gateway())
    proofs = [deployment.invoke({"report": True, "prove": True})["connections"]["default"]["proof"] for _ in range(3)]
    assert proofs == ["accepted", "refused (HTTP 401)", "unclear (HTTP 502)"]
    assert (deployment.virtuous.token_requests, deployment.account.strict.writes(PAIR_SECRET)) == ([], writes)


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
    secret = harness.secret(a_version())

    def one_defective(connection: str, *arguments: Any, **named: Any) -> Any:
        if connection == "defect":
            raise KeyError(secret)
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
    assert "KeyError" in capsys.readouterr().out


def test_a_named_connection_needs_no_list(deployment: Deployment) -> None:
    """ListSecrets may lag minutes behind; who names a connection does not wait for it."""
    deployment.log_in()
    deployment.account.strict.fail("ListSecrets", "AccessDeniedException")

    assert deployment.invoke({"connections": ["default"]})["outcomes"] == {"default": "fresh"}
    with pytest.raises(SomeConnectionsFailed, match=r"^nobody: misconfigured$"):
        deployment.invoke({"connections": ["nobody"]})
    with pytest.raises(StoreMisconfigured, match="ListSecrets"):
        deployment.invoke({})


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

    for event in (pasted, {"connections": pasted}, {"force\x1b[2J\r\n\u202e\u2066\x00": True}):
        with pytest.raises(InvalidEvent) as rejected:
            deployment.invoke(event)
        assert str(rejected.value).isprintable()

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "misbehaviour",
    [
        pytest.param(None, id="all goes well"),
        pytest.param(step.refused(), id="refused, then the stored password"),
        pytest.param(step.truncated(200), id="cut short in the middle of a token"),
        pytest.param(step.answer(access_token="with a space"), id="a token that no header may carry"),
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


def _calls(deployment: Deployment) -> Counter[str]:
    return Counter(call.operation for call in deployment.account.strict.log)


@pytest.mark.parametrize(("count", "lists", "reads"), [(1, 1, 1), (20, 1, 1), (51, 2, 3)])
def test_fresh_connections_cost_a_list_of_a_hundred_secrets_and_a_read_of_twenty_pairs(
    harness: LeakHarness, count: int, lists: int, reads: int
) -> None:
    with deployed(harness, *_names(count)) as deployment:
        _log_in(deployment, *_names(count))

        answer = deployment.invoke({})

        assert answer == {"checked": count, "outcomes": dict.fromkeys(_names(count), "fresh")}
        assert _calls(deployment) == {"ListSecrets": lists, "BatchGetSecretValue": reads}
        assert deployment.virtuous.requests == []


@pytest.mark.parametrize("operation", ["ListSecrets", "BatchGetSecretValue"])
def test_what_lags_in_a_list_or_a_batch_spends_nothing_twice(harness: LeakHarness, operation: str) -> None:
    """An old view can send a connection to a look that finds nothing to do, or postpone it by a run."""
    with deployed(harness, "acme", "default") as deployment:
        _log_in(deployment, "acme", "default", age=DUE)
        strict = deployment.account.strict
        strict.choose_view = lambda asked, _, count: count - 1 if asked == operation else 0

        outcomes = [set(deployment.invoke({})["outcomes"].values()) for _ in range(3)]

        assert outcomes == [{"refreshed"}, {"fresh"}, {"fresh"}]
        assert deployment.virtuous.state()["refreshes"] == {"accepted": 2, "refused": 0}


def test_without_batch_reads_each_connection_is_looked_at(
    harness: LeakHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    with deployed(harness, "acme", "default") as deployment:
        _log_in(deployment, "acme")
        _log_in(deployment, "default", age=DUE)
        deployment.account.strict.fail("BatchGetSecretValue", "AccessDeniedException")
        capsys.readouterr()

        assert deployment.invoke({})["outcomes"] == {"acme": "fresh", "default": "refreshed"}

        (warning,) = [line for line in capsys.readouterr().out.splitlines() if '"WARNING"' in line]
        assert "batch read failed" in warning
        assert "AccessDeniedException" in warning


def test_a_refresh_that_hangs_until_all_others_are_done_holds_nobody_up(
    harness: LeakHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    names = _names(2 * WORKERS)
    with deployed(harness, *names) as deployment:
        _log_in(deployment, *names, age=DUE)
        others_are_done = threading.Event()
        held = replace(step.answer_lost(), call=lambda _: others_are_done.wait(30))
        deployment.virtuous.script(held)  # for whoever comes first

        def release_when_the_others_are_done(*_: object) -> None:
            if len(deployment.account.strict.calls("UpdateSecretVersionStage")) >= len(names) - 1:
                others_are_done.set()

        deployment.account.strict.after = release_when_the_others_are_done
        with pytest.raises(SomeConnectionsFailed, match=r"^c\d+: try_again$"):
            deployment.invoke({})

        assert "no answer in time" not in capsys.readouterr().out
        assert deployment.virtuous.state()["refreshes"] == {"accepted": len(names), "refused": 0}


def test_two_invocations_at_once_share_the_work_and_send_nothing_twice(harness: LeakHarness) -> None:
    names = _names(40)
    with deployed(harness, *names) as deployment:
        _log_in(deployment, *names, age=DUE)
        handler.application()  # one process serves one invocation at a time: here two share what is built once

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(deployment.invoke, [{}, {}]))

        outcomes = [pair for answer in answers for pair in answer["outcomes"].items()]
        assert sorted(name for name, outcome in outcomes if outcome == "refreshed") == names
        assert deployment.virtuous.state()["refreshes"] == {"accepted": 40, "refused": 0}
        for name in names:
            assert deployment.account.bearer(name).access_token == deployment.account.pair(name).access_token


def test_what_virtuous_throttled_is_remembered_for_the_whole_organisation(harness: LeakHarness) -> None:
    """Once by this sweep, and by the journal for those to come."""
    names = _names(50)
    with deployed(harness, *names) as deployment:
        _log_in(deployment, *names, age=DUE)
        deployment.virtuous.script(*[step.throttled(3600)] * 50)

        for runs in (1, 2):
            with pytest.raises(SomeConnectionsFailed):
                deployment.invoke({})

            # As many as are on their way when the first answer comes.
            assert len(deployment.virtuous.token_requests) <= WORKERS * runs
        assert deployment.virtuous.generation == 50


def test_an_error_names_some_and_counts_the_others(harness: LeakHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "MOST_NAMED_IN_AN_ERROR", 2)
    with deployed(harness, *_names(5)) as deployment:
        for name in _names(5):
            deployment.account.put(deployment.account.names(name).pair, "no pair")

        with pytest.raises(SomeConnectionsFailed, match=r"^c000: misconfigured, c001: misconfigured and 3 more$"):
            deployment.invoke({})


def test_ten_thousand_connections_fit_into_one_answer() -> None:
    """With names as long as names get. Lambda's answer holds 6 MB."""
    pair = a_pair(
        organization_id="1234567",
        organization_name="The Community Foundation of Greater Example and Neighbours",
        user_name="service.account.integration@community-foundation.example.org",
    )
    version, name = a_version(), "the-community-foundation-of-greater-exam"
    stored = Stored({CURRENT: version}, CurrentPair(version, frozenset([CURRENT, LABEL]), pair.to_json()))

    described = report.describe_if_idle(name, stored, Policy(""))

    assert described
    assert 10_000 * len(json.dumps({name: described})) < 6_291_556


def test_a_report_costs_what_a_sweep_does_and_says_what_a_report_of_one_says(harness: LeakHarness) -> None:
    with deployed(harness, *_names(3)) as deployment:
        _log_in(deployment, *_names(3))

        together = deployment.invoke({"report": True})["connections"]

        assert _calls(deployment) == {"ListSecrets": 1, "BatchGetSecretValue": 1}
        assert together == deployment.invoke({"report": True, "connections": _names(3)})["connections"]


def test_a_connection_in_trouble_gets_its_own_look_in_a_report(harness: LeakHarness) -> None:
    with deployed(harness, "acme", "zebra") as deployment:
        _log_in(deployment, "acme", age=DUE)
        deployment.virtuous.script(step.refused())
        deployment.invoke({})

        reported = deployment.invoke({"report": True})["connections"]

    assert reported["acme"]["last_outcome"] == "refused"
    assert reported["zebra"] == {"state": "no token pair was stored yet"}
