"""What is announced by name: which events, what they hold, and how often they come."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from tests.support import NOW, Account, Deployment, a_pair, deployed, issued_by
from token_refresher.notices import LABEL, NEED_A_PERSON, Kind, announce
from token_refresher.refresh.journal import LABEL as REFRESHING
from token_refresher.refresh.journal import chain_end, claim_id
from token_refresher.refresh.refresh import OutcomeWord, Result

jsonschema: Any = importlib.import_module("jsonschema")  # its types are no part of the development tools

SCHEMA = Path(__file__).parents[1] / "docs" / "notices.schema.json"
SCHEDULED = {"source": "aws.scheduler"}
MIDNIGHT = NOW.replace(hour=0)


@pytest.fixture
def account() -> Account:
    """One connection, logged in."""
    account = Account()
    account.put_pair(a_pair())
    return account


@pytest.fixture
def deployment(harness: LeakHarness) -> Iterator[Deployment]:
    with deployed(harness) as deployment:
        yield deployment


def a_result(outcome: OutcomeWord = OutcomeWord.FRESH, **changes: Any) -> Result:
    return Result("default", outcome, readers_work_until=NOW + timedelta(days=7), **changes)


def announced(result: Result, account: Account, now: datetime = NOW) -> list[tuple[str, dict[str, object]]]:
    sent: list[tuple[str, dict[str, object]]] = []
    failures = announce(result, "crm", account.store(), lambda kind, detail: sent.append((kind, detail)), now)
    assert failures == []
    return sent


LOGIN, SOON = OutcomeWord.LOGIN_REQUIRED, NOW + timedelta(days=30, minutes=-1)
ANNOUNCED = {
    "refreshed": (a_result(OutcomeWord.REFRESHED, organization_name="Example Relief"), ["Token Refreshed"]),
    "recovered": (a_result(OutcomeWord.RECOVERED), ["Recovered"]),
    "a login is required": (a_result(LOGIN, reason="refused: invalid_grant"), ["Login Required"]),
    "an API key is refused": (a_result(LOGIN, api_key_refused=True), ["Api Key Refused"]),
    "for another organisation": (a_result(organization_changed=True), ["Organization Changed"]),
    "a refresh token ends soon": (a_result(refresh_token_expires_at=SOON), ["Refresh Token Ends Soon"]),
    "a refresh token ends a minute later": (a_result(refresh_token_expires_at=SOON + timedelta(minutes=1)), []),
    "a login mends a refresh token too": (a_result(LOGIN, refresh_token_expires_at=SOON), ["Login Required"]),
    **{str(word): (a_result(word), []) for word in OutcomeWord if word not in ("refreshed", "recovered", LOGIN)},
}


@pytest.mark.parametrize("case", ANNOUNCED)
def test_what_is_announced_in_the_documented_form_with_what_to_run(account: Account, case: str) -> None:
    result, kinds = ANNOUNCED[case]
    assert {kind for _, kinds in ANNOUNCED.values() for kind in kinds} == set(Kind)

    sent = announced(result, account)

    assert [kind for kind, _ in sent] == kinds
    for kind, detail in sent:
        jsonschema.validate(detail, json.loads(SCHEMA.read_text()))
        assert detail["needs_a_person"] == (kind in NEED_A_PERSON)
        run = "virtuous-token --prefix crm login --connection default"
        assert detail["run"] == (run if kind in NEED_A_PERSON else "nothing")
        assert detail["readers_work_until"] == "2026-12-02T12:00:00Z"


def test_no_text_of_others_can_end_the_quotes_of_a_message(account: Account) -> None:
    """A rule puts them into quoted text, one line each."""
    result = a_result(LOGIN, organization_name='The "Big"\nRelief \\', reason='said "no"')
    ((_, detail),) = announced(result, account)
    assert (detail["organization"], detail["reason"]) == ("The 'Big' Relief /", "said 'no'")


@pytest.mark.parametrize(
    ("changes", "days"),
    [
        pytest.param({"outcome": LOGIN}, [*range(29)], id="a login that nobody makes: daily"),
        pytest.param(
            {"refresh_token_expires_at": MIDNIGHT + timedelta(days=29, seconds=-1)},
            [0, 1, 8, 15, *range(22, 29)],
            id="an end: weekly, and daily in the last week",
        ),
    ],
)
@pytest.mark.parametrize("sweeps_a_day", [1, 4])
def test_what_stands_is_announced_at_most_once_a_day(
    account: Account, changes: dict[str, Any], days: list[int], sweeps_a_day: int
) -> None:
    """However often the schedule runs; the first is announced at once."""
    runs = [MIDNIGHT + timedelta(days=1) * run / sweeps_a_day for run in range(29 * sweeps_a_day)]

    assert [(now - MIDNIGHT).days for now in runs for _ in announced(a_result(**changes), account, now)] == days


def test_of_many_runs_at_one_moment_one_announces_each_kind(account: Account) -> None:
    """None of them sees what the others write."""
    account.strict.settle()
    account.strict.choose_view = lambda operation, name, count: count - 1
    result = a_result(LOGIN, organization_changed=True)

    with ThreadPoolExecutor(8) as pool:
        sent = [notice for sent in pool.map(lambda _: announced(result, account), range(8)) for notice in sent]

    assert sorted(kind for kind, _ in sent) == ["Login Required", "Organization Changed"]


def test_the_memory_never_stands_for_the_end_of_the_journals_chain_nor_for_the_pair(account: Account) -> None:
    """The end is the newest id of version 5 without a listed follower, whatever label is on it (journal.py)."""
    store, names, pair = account.store(), account.names(), account.pair()
    before_the_first_claim = chain_end(store.pair_versions())
    announced(a_result(LOGIN), account)
    assert chain_end(store.pair_versions()) == before_the_first_claim

    account.put(names.pair, "{}", REFRESHING, claim := claim_id(before_the_first_claim))
    announced(a_result(LOGIN), account, NOW + timedelta(days=1))

    memory = account.strict.labels(names.pair)[LABEL]
    assert account.strict.versions(names.pair)[-1] == memory
    assert chain_end(store.pair_versions()) == claim
    assert account.pair() == pair


def test_between_deployment_and_first_login_nobody_is_called() -> None:
    """A memory would be the secret's first version, and so current."""
    account = Account()
    assert announced(a_result(LOGIN), account) == []
    assert account.strict.labels(account.names().pair) == {}


def test_what_cannot_be_remembered_is_not_sent_and_returned_with_its_code(account: Account) -> None:
    account.strict.fail("PutSecretValue", "ThrottlingException")

    (failure,) = announce(a_result(LOGIN), "virtuous", account.store(), lambda *_: pytest.fail("sent"), NOW)

    assert re.match(r"Login Required: .*\(ThrottlingException\)", failure)


@pytest.mark.parametrize(
    ("kind", "days_old", "days_left"),
    [("Token Refreshed", 9, 99), ("Login Required", 9, 99), ("Refresh Token Ends Soon", 0, 9)],
)
def test_what_happened_is_announced_once_whoever_asks(
    deployment: Deployment, kind: str, days_old: int, days_left: int
) -> None:
    ends = datetime.now(UTC) + timedelta(days=days_left)
    deployment.log_in(age=timedelta(days=days_old), refresh_token_expires_at=ends)
    if is_refused := kind == "Login Required":
        deployment.virtuous.revoke_refresh_token()

    for event in (SCHEDULED, {"connections": ["default"], "force": is_refused}, SCHEDULED, {}):
        deployment.invoke(event)
        ((announced, detail),) = deployment.notices
        assert (announced, detail["connection"], detail["organization"]) == (kind, "default", "Example Relief")


def test_a_revoked_api_key_is_announced_and_a_page_of_something_in_between_condemns_none(
    deployment: Deployment,
) -> None:
    api_key = replace(issued_by(deployment.virtuous), refresh_token=None, expires_at=None)
    deployment.account.publish(deployment.account.put_pair(api_key), api_key)
    page = step.reply(403, "<html><title>Just a moment...</title></html>", {"Content-Type": "text/html"})
    deployment.virtuous.script_organization(page, step.denied())

    assert deployment.invoke(SCHEDULED)["outcomes"] == {"default": "fresh"}
    assert deployment.notices == []
    assert deployment.invoke(SCHEDULED)["outcomes"] == {"default": "login_required"}
    assert [kind for kind, _ in deployment.notices] == ["Api Key Refused"]


def test_a_notice_that_cannot_be_sent_fails_no_run_and_is_logged_and_counted(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment.log_in(age=timedelta(days=14))
    deployment.event_bus_refuses_with = "NotAuthorizedForSourceException"
    capsys.readouterr()

    assert deployment.invoke(SCHEDULED)["outcomes"] == {"default": "refreshed"}

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (logged,) = [line for line in lines if line.get("message") == "notice not sent"]
    assert (logged["level"], logged["connection"]) == ("ERROR", "default")
    assert logged["notice"] == "Token Refreshed: NotAuthorizedForSourceException"
    assert lines[-1]["NoticesNotSent"] == [1.0]


CONTROLS = "\x1b[31m\r\n\x00\x9b\u00ad\u200b\u200e\u202e\u2028\u2029\u2066\ufeff"


@pytest.mark.parametrize("event", [{"force": True}, {"report": True}, {"report": True, "connections": ["default"]}])
def test_no_control_or_direction_character_of_a_pair_leaves_by_any_channel(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], event: dict[str, Any]
) -> None:
    name = f"Example{CONTROLS}Relief"
    deployment.log_in(organization_name=name, user_name=name, organization_id=f"4711{CONTROLS}")
    capsys.readouterr()

    answer = deployment.invoke(event)

    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    bearer = deployment.account.bearer().organization_name if event == {"force": True} else ""
    told = json.dumps([answer, deployment.notices, logged, bearer], ensure_ascii=False)
    assert told.isprintable()
    assert "\\" not in told.replace('\\"', "")  # JSON's own way to write a control character
    assert "Example [31m Relief" in told
