"""What a person may see of a connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.leak_harness import LeakHarness
from tests.support import NOW, Account, Clock, a_pair, a_version
from token_refresher.refresh.due import due_at
from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.journal import (
    LABEL,
    SUPERSEDED,
    Entry,
    Intent,
    Outcome,
    claim_id,
    result_id,
)
from token_refresher.refresh.model import CURRENT, Ending, Policy
from token_refresher.report import describe_connection
from virtuous_token.contract import format_instant
from virtuous_token.secret_text import SecretText

POLICY = Policy("https://api.virtuoussoftware.com")
PAIR_SECRET = "virtuous/default/tokens"


@pytest.fixture
def account(harness: LeakHarness) -> Account:
    for token in ("access-1", "refresh-1", "access-2", "refresh-2"):
        harness.secret(token)
    return Account(now=Clock().now)


@pytest.fixture
def described(account: Account, harness: LeakHarness) -> Callable[[], dict[str, object]]:
    """The report, which is JSON and holds no token."""

    def describe() -> dict[str, object]:
        shown = harness.watch(describe_connection("default", account.store(), POLICY, NOW))
        assert json.loads(json.dumps(shown)) == shown
        return shown

    return describe


def _intent(current: str, *, dead_after: timedelta) -> Intent:
    return Intent(
        replaces=current,
        holder=a_version(),
        credential="0a0a0a0a",
        started_at=NOW - timedelta(minutes=1),
        holds_for=dead_after,
    )


def test_a_connection_in_good_order(account: Account, described: Callable[[], dict[str, object]]) -> None:
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


def test_fingerprints_tell_pairs_apart(account: Account, described: Callable[[], dict[str, object]]) -> None:
    account.put_pair(a_pair(1))
    before = described()
    account.put_pair(a_pair(2))
    after = described()

    assert before["access_token"] != after["access_token"]
    assert before["refresh_token"] != after["refresh_token"]


def test_an_api_key_has_no_refresh_token_and_no_end(
    account: Account, described: Callable[[], dict[str, object]]
) -> None:
    account.put_pair(TokenPair(SecretText("access-1")))

    shown = described()

    absent = ("refresh_token", "issued_at", "expires_at", "next_refresh_at", "refresh_token_issued_at")
    assert {key: shown[key] for key in absent} == dict.fromkeys(absent)


def test_a_connection_that_nobody_logged_in_to(described: Callable[[], dict[str, object]]) -> None:
    assert described() == {"state": "no token pair was stored yet"}


def test_a_bearer_that_was_never_published_is_out_of_step(
    account: Account, described: Callable[[], dict[str, object]]
) -> None:
    account.put_pair(a_pair())

    shown = described()

    assert shown["bearer_in_step"] is False
    assert "readers_work_until" not in shown


def test_a_bearer_of_an_earlier_pair_is_out_of_step(
    account: Account, described: Callable[[], dict[str, object]]
) -> None:
    earlier = a_pair(1, NOW - timedelta(days=2))
    account.publish(account.put_pair(earlier), earlier)
    account.put_pair(a_pair(2))

    shown = described()

    assert shown["bearer_in_step"] is False
    # The end of the token that readers have, not of the newest.
    assert (shown["readers_work_until"], shown["expires_at"]) == ("2026-12-08T12:00:00Z", "2026-12-10T12:00:00Z")


@pytest.mark.parametrize(
    "publish",
    [
        pytest.param(lambda account: a_version(), id="that is gone"),
        pytest.param(lambda account: account.put(PAIR_SECRET, "access-1"), id="that is no pair"),
        pytest.param(lambda account: account.put_pair(a_pair(1, expires_at=None)), id="that does not say its end"),
    ],
)
def test_where_the_bearer_is_of_a_version_nobody_knows_how_long_readers_work(
    account: Account, described: Callable[[], dict[str, object]], publish: Callable[[Account], str]
) -> None:
    account.publish(publish(account), a_pair(1))
    account.put_pair(a_pair(2))

    shown = described()

    assert (shown["bearer_in_step"], shown["readers_work_until"]) == (False, None)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param(
            lambda current: _intent(current, dead_after=timedelta(minutes=5)),
            {"journal": "refreshing, since 2026-11-25T11:59:00Z", "last_outcome": None},
            id="a holder that lives",
        ),
        pytest.param(
            lambda current: _intent(current, dead_after=timedelta()),
            {"journal": "refreshing, since 2026-11-25T11:59:00Z", "last_outcome": None},
            id="a holder in its last second",
        ),
        pytest.param(
            lambda current: _intent(current, dead_after=timedelta(seconds=-1)),
            {"journal": "its holder died, since 2026-11-25T11:59:00Z", "last_outcome": None},
            id="a holder that died",
        ),
        pytest.param(
            lambda current: Outcome(current, Ending.REFUSED, NOW, NOW + timedelta(days=1)),
            {
                "journal": "waits until 2026-11-26T12:00:00Z",
                "last_outcome": "refused",
                "last_outcome_at": "2026-11-25T12:00:00Z",
            },
            id="a refusal that waits for a login",
        ),
        pytest.param(
            lambda current: Outcome(current, Ending.HOLDER_DIED, NOW),
            {"journal": "idle", "last_outcome": "holder_died", "last_outcome_at": "2026-11-25T12:00:00Z"},
            id="an outcome after which the next try may be made at once",
        ),
        pytest.param(
            lambda current: Outcome(a_version(), Ending.REFUSED, NOW, NOW + timedelta(days=1)),
            {"journal": "idle", "last_outcome": None},
            id="an outcome about an earlier pair",
        ),
        pytest.param(
            lambda current: _intent(a_version(), dead_after=timedelta(minutes=5)),
            {"journal": "refreshing, since 2026-11-25T11:59:00Z", "last_outcome": None},
            id="a holder that lives, for an earlier pair",
        ),
    ],
)
def test_the_state_of_the_journal(
    account: Account,
    described: Callable[[], dict[str, object]],
    entry: Callable[[str], Entry],
    expected: dict[str, object],
) -> None:
    current = account.put_pair(a_pair())
    account.put(PAIR_SECRET, entry(current).to_json(), LABEL, claim_id(current))

    shown = described()

    assert {key: shown[key] for key in shown if key in {"journal", "last_outcome", "last_outcome_at"}} == expected


def test_the_intent_that_made_the_current_pair_is_done(
    account: Account, described: Callable[[], dict[str, object]]
) -> None:
    before = account.put_pair(a_pair(1))
    claim = claim_id(before)
    account.store().write_pair(claim, _intent(before, dead_after=timedelta(minutes=5)).to_json(), LABEL)
    account.store().write_pair(result_id(claim), a_pair(2).to_json(), CURRENT)

    assert described()["journal"] == "idle"


@pytest.mark.parametrize("label", [LABEL, SUPERSEDED])
def test_a_pair_that_is_kept_beside_the_current_one_is_no_journal(
    account: Account, described: Callable[[], dict[str, object]], label: str
) -> None:
    account.put_pair(a_pair(1))
    account.put(PAIR_SECRET, a_pair(2).to_json(), label)

    assert described()["journal"] == "idle"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("access-1", "not a JSON object", id="plain text"),
        pytest.param("{}", "no access_token", id="an empty object"),
        pytest.param('{"access_token": "access-1 x"}', "a space", id="a token that no header may carry"),
    ],
)
def test_a_pair_that_cannot_be_read_is_told_without_its_value(
    account: Account, described: Callable[[], dict[str, object]], value: str, expected: str
) -> None:
    account.put(PAIR_SECRET, value)

    report = described()

    assert list(report) == ["error", "is_unreadable"]
    assert expected in str(report["error"])


@pytest.mark.parametrize("operation", ["DescribeSecret", "GetSecretValue"])
@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException"])
def test_what_secrets_manager_refuses_is_told(
    account: Account, described: Callable[[], dict[str, object]], operation: str, code: str
) -> None:
    account.put_pair(a_pair())
    account.strict.fail(operation, code)

    report = described()

    assert list(report) == ["error"]
    assert code in str(report["error"])


def test_a_report_changes_nothing(account: Account, described: Callable[[], dict[str, object]]) -> None:
    current = account.put_pair(a_pair())
    account.put(PAIR_SECRET, _intent(current, dead_after=timedelta(seconds=-1)).to_json(), LABEL)
    account.strict.log.clear()

    described()

    assert {call.operation for call in account.strict.log} <= {
        "DescribeSecret",
        "GetSecretValue",
        "ListSecretVersionIds",
    }
