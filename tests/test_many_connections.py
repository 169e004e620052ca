"""Many connections in one invocation, through the real handler: what it costs, and who holds up whom."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from tests.support import Deployment, a_pair, a_version, deployed, issued_by
from token_refresher import handler, report
from token_refresher.handler import SomeConnectionsFailed
from token_refresher.refresh.journal import LABEL
from token_refresher.refresh.model import CURRENT, CurrentPair, Policy, Stored
from token_refresher.sweep import WORKERS

DUE = timedelta(days=9)


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


def _operations(deployment: Deployment) -> list[str]:
    return [call.operation for call in deployment.account.strict.log]


@pytest.mark.parametrize(("count", "calls"), [(1, 1 + 1), (20, 1 + 1), (51, 2 + 3)])
def test_fresh_connections_cost_a_list_of_a_hundred_secrets_and_a_read_of_twenty_pairs(
    harness: LeakHarness, count: int, calls: int
) -> None:
    with deployed(harness, *_names(count)) as deployment:
        _log_in(deployment, *_names(count))

        answer = deployment.invoke({})

        assert answer == {"checked": count, "outcomes": dict.fromkeys(_names(count), "fresh")}
        assert sorted(set(_operations(deployment))) == ["BatchGetSecretValue", "ListSecrets"]
        assert len(_operations(deployment)) == calls
        assert deployment.virtuous.requests == []


def test_one_that_is_due_costs_its_fresh_neighbours_nothing(harness: LeakHarness) -> None:
    with deployed(harness, "acme", "default", "zebra") as deployment:
        _log_in(deployment, "acme", "zebra")
        _log_in(deployment, "default", age=DUE)

        answer = deployment.invoke({})

        assert answer["outcomes"] == {"acme": "fresh", "default": "refreshed", "zebra": "fresh"}
        touched = {call.secret_name for call in deployment.account.strict.log}
        assert not [name for name in touched if "acme" in name or "zebra" in name]


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


def test_four_that_are_ill_are_named_and_hold_nobody_up(
    harness: LeakHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dead token, a deleted secret, a malformed one, and a provider that hangs until all others are done."""
    names = _names(2 * WORKERS)
    with deployed(harness, *names) as deployment:
        account, virtuous = deployment.account, deployment.virtuous
        _log_in(deployment, *names, age=DUE)
        token = account.pair("c010").refresh_token
        assert token is not None
        virtuous.revoke_refresh_token(token.reveal())
        account.client.delete_secret(SecretId=account.names("c020").pair)
        account.put(account.names("c030").pair, "no pair")
        others_are_done = threading.Event()
        virtuous.script(replace(step.answer_lost(), call=lambda _: others_are_done.wait(30)))  # for whoever comes first

        def release_when_the_others_are_done(*_: object) -> None:
            if len(account.strict.calls("UpdateSecretVersionStage")) >= len(names) - 4:
                others_are_done.set()

        account.strict.after = release_when_the_others_are_done
        with pytest.raises(SomeConnectionsFailed) as failed:
            deployment.invoke({})

        assert "no answer in time" not in capsys.readouterr().out
        named = dict(entry.split(": ") for entry in str(failed.value).split(", "))
        assert {named.pop("c020"), named.pop("c030")} == {"misconfigured"}
        assert list(named.values()) == ["try_again"]
        assert virtuous.state()["refreshes"] == {"accepted": len(names) - 3, "refused": 1}
        needs_a_login = [notice["connection"] for kind, notice in deployment.notices if kind == "Login Required"]
        assert needs_a_login == ["c010"]


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


# What comes back of thousands


def test_an_error_names_some_and_counts_the_others(harness: LeakHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "MOST_NAMED_IN_AN_ERROR", 2)
    with deployed(harness, *_names(5)) as deployment:
        for name in _names(5):
            deployment.account.put(deployment.account.names(name).pair, "no pair")

        with pytest.raises(SomeConnectionsFailed, match=r"^c000: misconfigured, c001: misconfigured and 3 more$"):
            deployment.invoke({})


# Reports


def test_ten_thousand_connections_fit_into_one_answer() -> None:
    """With names as long as names get. Lambda's answer holds 6 MB."""
    pair = replace(
        a_pair(),
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

        assert sorted(_operations(deployment)) == ["BatchGetSecretValue", "ListSecrets"]
        assert together == deployment.invoke({"report": True, "connections": _names(3)})["connections"]


def test_a_connection_in_trouble_gets_its_own_look_in_a_report(harness: LeakHarness) -> None:
    with deployed(harness, "acme", "default", "zebra") as deployment:
        _log_in(deployment, "acme", "default", age=DUE)
        deployment.virtuous.script(step.refused(), step.refused())
        deployment.invoke({})

        reported = deployment.invoke({"report": True})["connections"]

    assert [reported[name].get("last_outcome") for name in ("acme", "default")] == ["refused", "refused"]
    assert reported["zebra"] == {"state": "no token pair was stored yet"}
