"""What is announced by name: which events, what they hold, and how often they come."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from tests.support import NOW, Account, Deployment, a_pair, deployed, issued_by
from token_refresher.notices import LABEL, NEED_A_PERSON, Kind, Notice, NotSent, announce
from token_refresher.refresh.refresh import OutcomeWord, Result

jsonschema: Any = importlib.import_module("jsonschema")  # its types are no part of the development tools

SCHEMA = Path(__file__).parents[1] / "docs" / "notices.schema.json"
DUE = timedelta(days=14)
SCHEDULED = {"source": "aws.scheduler"}
MIDNIGHT = NOW.replace(hour=0)


class Bus:
    """Keeps what it is sent, unless it *refuses*."""

    def __init__(self, refuses: str | None = None) -> None:
        self.sent: list[Notice] = []
        self.refuses = refuses

    def send(self, notice: Notice) -> None:
        if self.refuses:
            raise NotSent(self.refuses)
        self.sent.append(notice)

    def kinds(self) -> list[str]:
        return [str(notice.kind) for notice in self.sent]


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


ENDS_SOON = NOW + timedelta(days=29)


@pytest.mark.parametrize(
    ("result", "kinds"),
    [
        pytest.param(a_result(OutcomeWord.REFRESHED), ["Token Refreshed"], id="refreshed"),
        pytest.param(a_result(OutcomeWord.RECOVERED), ["Recovered"], id="recovered"),
        pytest.param(a_result(OutcomeWord.LOGIN_REQUIRED), ["Login Required"], id="a login is required"),
        pytest.param(
            a_result(OutcomeWord.LOGIN_REQUIRED, api_key_refused=True), ["Api Key Refused"], id="an API key is refused"
        ),
        pytest.param(
            a_result(OutcomeWord.UNPROVEN, api_key_refused=True), ["Api Key Refused"], id="a new API key is refused"
        ),
        pytest.param(
            a_result(OutcomeWord.REFRESHED, organization_changed=True),
            ["Token Refreshed", "Organization Changed"],
            id="refreshed, for another organisation",
        ),
        pytest.param(
            a_result(refresh_token_expires_at=ENDS_SOON),
            ["Refresh Token Ends Soon"],
            id="a refresh token ends within 30 days",
        ),
        pytest.param(
            a_result(refresh_token_expires_at=NOW + timedelta(days=30)), [], id="a refresh token ends in 30 days"
        ),
        pytest.param(
            a_result(OutcomeWord.LOGIN_REQUIRED, refresh_token_expires_at=ENDS_SOON),
            ["Login Required"],
            id="a login mends a refresh token too",
        ),
        *(
            pytest.param(a_result(outcome), [], id=str(outcome))
            for outcome in sorted(set(OutcomeWord) - {"refreshed", "recovered", "login_required"})
        ),
    ],
)
def test_what_is_announced(account: Account, result: Result, kinds: list[str]) -> None:
    bus = Bus()

    assert announce(result, "virtuous", account.store(), bus, NOW) == []
    assert bus.kinds() == kinds


@pytest.mark.parametrize("kind", Kind)
def test_every_event_is_of_the_documented_form_and_says_what_to_run(account: Account, kind: Kind) -> None:
    result = {
        Kind.TOKEN_REFRESHED: a_result(OutcomeWord.REFRESHED, organization_name="Example Relief"),
        Kind.RECOVERED: a_result(OutcomeWord.RECOVERED),
        Kind.LOGIN_REQUIRED: a_result(OutcomeWord.LOGIN_REQUIRED, reason="refused: invalid_grant"),
        Kind.ORGANIZATION_CHANGED: a_result(organization_changed=True),
        Kind.REFRESH_TOKEN_ENDS_SOON: a_result(refresh_token_expires_at=ENDS_SOON),
        Kind.API_KEY_REFUSED: a_result(api_key_refused=True),
    }[kind]
    bus = Bus()
    announce(result, "crm", account.store(), bus, NOW)

    (notice,) = bus.sent
    detail = json.loads(notice.to_json())
    jsonschema.validate(detail, json.loads(SCHEMA.read_text()))
    assert notice.kind is kind
    assert detail["needs_a_person"] == (kind in NEED_A_PERSON)
    assert (detail["run"] == "virtuous-token --prefix crm login --connection default") == (kind in NEED_A_PERSON)
    assert detail["readers_work_until"] == "2026-12-02T12:00:00Z"


def test_no_text_of_others_can_end_the_quotes_of_a_message(account: Account) -> None:
    """A rule puts them into quoted text, one line each."""
    bus = Bus()
    result = a_result(OutcomeWord.LOGIN_REQUIRED, organization_name='The "Big"\nRelief \\', reason='said "no"')

    announce(result, "virtuous", account.store(), bus, NOW)

    assert (bus.sent[0].detail["organization"], bus.sent[0].detail["reason"]) == ("The 'Big' Relief /", "said 'no'")


@pytest.mark.parametrize(
    ("result", "lasts", "days"),
    [
        pytest.param(a_result(OutcomeWord.LOGIN_REQUIRED), 3, [0, 1, 2], id="a login that nobody makes: daily"),
        pytest.param(
            a_result(refresh_token_expires_at=MIDNIGHT + timedelta(days=29, seconds=-1)),
            29,
            [0, 1, 8, 15, *range(22, 29)],
            id="an end: weekly, and daily in the last week",
        ),
        pytest.param(a_result(organization_changed=True), 2, [0, 1], id="an organisation that changed: daily"),
        pytest.param(a_result(api_key_refused=True), 2, [0, 1], id="a refused API key: daily"),
    ],
)
@pytest.mark.parametrize("sweeps_a_day", [1, 4, 24])
def test_what_stands_is_announced_at_most_once_a_day(
    account: Account, result: Result, lasts: int, days: list[int], sweeps_a_day: int
) -> None:
    """However often the schedule runs; the first is announced at once."""
    bus = Bus()
    announced = []
    for sweep in range(lasts * sweeps_a_day):
        now = MIDNIGHT + timedelta(days=1) * sweep / sweeps_a_day
        before = len(bus.sent)
        announce(result, "virtuous", account.store(), bus, now)
        announced += [(now - MIDNIGHT).days] * (len(bus.sent) - before)

    assert announced == days


def test_of_many_runs_at_one_moment_one_announces(account: Account) -> None:
    bus = Bus()
    store = account.store()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: announce(a_result(OutcomeWord.LOGIN_REQUIRED), "virtuous", store, bus, NOW), range(8)))

    assert bus.kinds() == ["Login Required"]


def test_two_kinds_that_stand_do_not_make_each_other_forgotten(account: Account) -> None:
    bus = Bus()
    for _ in range(3):
        announce(a_result(OutcomeWord.LOGIN_REQUIRED, organization_changed=True), "virtuous", account.store(), bus, NOW)

    assert bus.kinds() == ["Login Required", "Organization Changed"]


def test_the_memory_leaves_the_pair_current(account: Account) -> None:
    before = account.pair()

    announce(a_result(OutcomeWord.LOGIN_REQUIRED), "virtuous", account.store(), Bus(), NOW)

    assert account.pair() == before
    assert LABEL in account.strict.labels(account.names().pair)


def test_between_deployment_and_first_login_nobody_is_called() -> None:
    """A memory would be the secret's first version, and so current."""
    account, bus = Account(), Bus()

    announce(a_result(OutcomeWord.LOGIN_REQUIRED), "virtuous", account.store(), bus, NOW)

    assert bus.sent == []
    assert account.strict.labels(account.names().pair) == {}


@pytest.mark.parametrize("operation", ["ListSecretVersionIds", "PutSecretValue"])
def test_where_nothing_can_be_remembered_nothing_is_sent_and_that_is_returned(account: Account, operation: str) -> None:
    account.strict.fail(operation, "ThrottlingException")
    bus = Bus()

    (failure,) = announce(a_result(OutcomeWord.LOGIN_REQUIRED), "virtuous", account.store(), bus, NOW)

    assert failure.startswith("Login Required: ")
    assert bus.sent == []


def test_what_a_bus_refuses_is_returned_with_its_code(account: Account) -> None:
    (failure,) = announce(a_result(OutcomeWord.REFRESHED), "virtuous", account.store(), Bus("ThrottlingException"), NOW)

    assert failure == "Token Refreshed: ThrottlingException"


# Through the handler and boto3


def test_a_refresh_is_announced_once(deployment: Deployment) -> None:
    deployment.log_in(age=DUE)

    for _ in range(3):
        deployment.invoke(SCHEDULED)

    ((kind, detail),) = deployment.notices
    assert kind == "Token Refreshed"
    assert (detail["connection"], detail["organization"]) == ("default", "Example Relief")


def test_a_refused_refresh_token_is_announced_once_whoever_asks(deployment: Deployment) -> None:
    deployment.log_in(age=DUE)
    deployment.virtuous.revoke_refresh_token()

    for event in (SCHEDULED, {"connections": ["default"], "force": True}, SCHEDULED, {}):
        deployment.invoke(event)

    assert [kind for kind, _ in deployment.notices] == ["Login Required"]


def test_a_revoked_api_key_is_announced(deployment: Deployment) -> None:
    api_key = replace(issued_by(deployment.virtuous), refresh_token=None, expires_at=None)
    deployment.account.publish(deployment.account.put_pair(api_key), api_key)
    assert deployment.invoke(SCHEDULED)["outcomes"] == {"default": "fresh"}
    deployment.virtuous.script_organization(step.denied())

    assert deployment.invoke(SCHEDULED)["outcomes"] == {"default": "login_required"}

    assert [kind for kind, _ in deployment.notices] == ["Api Key Refused"]


def test_a_notice_that_cannot_be_sent_fails_no_run_and_is_logged_and_counted(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment.log_in(age=DUE)
    deployment.event_bus_refuses_with = "NotAuthorizedForSourceException"
    capsys.readouterr()

    assert deployment.invoke(SCHEDULED)["outcomes"] == {"default": "refreshed"}

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (logged,) = [line for line in lines if line.get("message") == "notice not sent"]
    assert (logged["level"], logged["connection"]) == ("ERROR", "default")
    assert logged["notice"] == "Token Refreshed: NotAuthorizedForSourceException"
    assert lines[-1]["NoticesNotSent"] == [1.0]


# What a person may have put into the pair

CONTROLS = "\x1b[31m\r\n\x00\x9b\u00ad\u200b\u200e\u202e\u2028\u2029\u2066\ufeff"


@pytest.mark.parametrize("event", [{"force": True}, {"report": True}, {"report": True, "connections": ["default"]}])
def test_no_control_or_direction_character_of_a_pair_leaves_by_any_channel(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], event: dict[str, Any]
) -> None:
    name = f"Example{CONTROLS}Relief"
    deployment.log_in(organization_name=name, user_name=name, organization_id=f"4711{CONTROLS}")
    capsys.readouterr()

    answer = deployment.invoke(event)

    bearer = deployment.account.bearer().organization_name if event == {"force": True} else ""
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for told in _texts([answer, deployment.notices, logged, bearer]):
        assert told.isprintable(), told
    assert "Example [31m Relief" in list(_texts([answer, deployment.notices, logged]))


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
