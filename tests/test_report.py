"""What a person may see of a connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.leak_harness import LeakHarness
from tests.support import NOW, Account, Clock, a_pair, a_version
from token_refresher.refresh.due import due_at
from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.journal import LABEL, Entry, Intent, Outcome, claim_id, result_id
from token_refresher.refresh.model import CURRENT, Ending, Policy
from token_refresher.report import describe_connection
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.contract import format_instant
from virtuous_token.secret_text import SecretText

PAIR_SECRET = "virtuous/default/tokens"
MINUTES, A_DAY = timedelta(minutes=1), timedelta(days=1)
Report = dict[str, Any]
Described = Callable[[], Report]


@pytest.fixture
def account(harness: LeakHarness) -> Account:
    for token in ("access-1", "refresh-1", "access-2", "refresh-2"):
        harness.secret(token)
    return Account(now=Clock().now)


@pytest.fixture
def described(account: Account, harness: LeakHarness) -> Described:
    """The report, which is JSON, holds no token and has changed nothing."""

    def describe() -> Report:
        before, policy = account.strict.secrets, Policy("https://api.virtuoussoftware.com")
        endpoint, store = TokenEndpoint("http://127.0.0.1:1", clock=lambda: NOW), account.store()
        shown = harness.watch(describe_connection("default", store, policy, NOW, endpoint, prove=False))
        assert json.loads(json.dumps(shown)) == shown
        assert account.strict.secrets == before
        return shown

    return describe


def test_a_connection_in_good_order(account: Account, described: Described) -> None:
    pair = a_pair()
    account.publish(account.put_pair(pair), pair)
    next_refresh_at = due_at(pair, "default", 50)
    assert next_refresh_at is not None
    assert pair.refresh_token is not None

    assert described() == {
        "organization_id": "4711",
        "organization_name": "Example Relief",
        "user_name": "me@example.org",
        "access_token": pair.access_token.fingerprint(),
        "refresh_token": pair.refresh_token.fingerprint(),
        "obtained_by": "login",
        "issued_at": "2026-11-25T12:00:00Z",
        "expires_at": "2026-12-10T12:00:00Z",
        "next_refresh_at": format_instant(next_refresh_at),
        "refresh_token_issued_at": "2026-11-25T12:00:00Z",
        "refresh_token_expires_at": "2027-11-25T12:00:00Z",
        "bearer_in_step": True,
        "journal": "idle",
        "last_outcome": None,
    }


def _stored(entry: Callable[[str], Entry]) -> Callable[[Account], object]:
    """The current pair, and in the next place of the journal the *entry*, given that pair's version id."""

    def arrange(account: Account) -> object:
        current = account.put_pair(a_pair())
        return account.put(PAIR_SECRET, entry(current).to_json(), LABEL, claim_id(current))

    return arrange


def _intent(current: str, holds_for: timedelta) -> Intent:
    return Intent(current, a_version(), "0a0a0a0a", NOW - MINUTES, holds_for)


def _published_earlier(account: Account) -> None:
    """Readers have an earlier pair's token."""
    account.publish(account.put_pair(a_pair(1, NOW - 2 * A_DAY)), a_pair(1))
    account.put_pair(a_pair(2))


def _refreshed(account: Account) -> None:
    before = account.put_pair(a_pair(1))
    claim = claim_id(before)
    account.put(PAIR_SECRET, _intent(before, 5 * MINUTES).to_json(), LABEL, claim)
    account.put(PAIR_SECRET, a_pair(2, replaces=before).to_json(), CURRENT, result_id(claim))


IDLE = {"journal": "idle", "last_outcome": None, "last_outcome_at": None}
REFRESHING = {"journal": "refreshing, since 2026-11-25T11:59:00Z", "last_outcome": None, "last_outcome_at": None}
REFUSED = {"last_outcome": "refused", "last_outcome_at": "2026-11-25T12:00:00Z"}
UNCLEAR = "unclear (the host refused the connection or cannot be reached)"
STATES: dict[str, tuple[Callable[[Account], object], Report]] = {
    "nobody logged in": (lambda account: None, {"state": "no token pair was stored yet", "journal": None}),
    "an API key has no refresh token and no end, and is proved": (
        lambda account: account.put_pair(TokenPair(SecretText("access-1"))),
        {"refresh_token": None, "expires_at": None, "next_refresh_at": None, "proof": UNCLEAR},
    ),
    "a bearer that was never published": (
        lambda account: account.put_pair(a_pair()),
        {"bearer_in_step": False, "readers_work_until": None},
    ),
    "a bearer of an earlier pair, whose end counts": (
        _published_earlier,
        {"bearer_in_step": False, "readers_work_until": "2026-12-08T12:00:00Z", "expires_at": "2026-12-10T12:00:00Z"},
    ),
    "a holder that lives": (_stored(lambda current: _intent(current, 5 * MINUTES)), REFRESHING),
    "a holder that died": (
        _stored(lambda current: _intent(current, timedelta(seconds=-1))),
        {"journal": "its holder died, since 2026-11-25T11:59:00Z", "last_outcome": None},
    ),
    "a refusal that waited long enough": (
        _stored(lambda current: Outcome(current, Ending.REFUSED, NOW, NOW)),
        {"journal": "idle"} | REFUSED,
    ),
    "a refusal that waits for a login": (
        _stored(lambda current: Outcome(current, Ending.REFUSED, NOW, NOW + A_DAY)),
        {"journal": "waits until 2026-11-26T12:00:00Z"} | REFUSED,
    ),
    "an outcome about an earlier pair": (
        _stored(lambda _: Outcome(a_version(), Ending.REFUSED, NOW, NOW + A_DAY)),
        IDLE,
    ),
    "the intent that made the current pair is done": (_refreshed, IDLE | {"obtained_by": "refresh"}),
}


@pytest.mark.parametrize("state", STATES)
def test_what_is_told_of(account: Account, described: Described, state: str) -> None:
    arrange, expected = STATES[state]
    arrange(account)

    shown = described()

    assert {key: shown.get(key) for key in expected} == expected


def test_a_pair_that_cannot_be_read_is_told_without_its_value(account: Account, described: Described) -> None:
    for value, why in ("access-1", "not a JSON object"), ('{"access_token": "access-1 x"}', "a space"):
        account.put(PAIR_SECRET, value)
        report = described()
        assert (report.pop("is_unreadable"), list(report)) == (True, ["error"])
        assert why in report["error"]


def test_what_secrets_manager_refuses_is_told(account: Account, described: Described) -> None:
    account.put_pair(a_pair())
    account.strict.fail("DescribeSecret", "AccessDeniedException")
    ((key, error),) = described().items()
    assert (key, "AccessDeniedException" in error) == ("error", True)
