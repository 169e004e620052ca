"""A pair that a person obtained takes the next place of the journal's chain, in one write."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import NOW, Account, Clock, a_pair, a_version
from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.journal import (
    LABEL,
    SUPERSEDED,
    History,
    Intent,
    Outcome,
    chain_end,
    claim_id,
    result_id,
)
from token_refresher.refresh.login import store_login
from token_refresher.refresh.model import CURRENT, PREVIOUS, Ending, StoreMisconfigured, StoreUnavailable

PATIENCE = timedelta(minutes=7)
PAIR_SECRET = "virtuous/default/tokens"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> Account:
    return Account(now=clock.now)


def _log_in(account: Account, clock: Clock, pair: TokenPair, *, adopted: bool = False) -> str:
    return store_login(account.store(), clock.services(), pair, give_up_at=clock.now() + PATIENCE, adopted=adopted)


def _end(account: Account) -> str:
    return chain_end(account.store().pair_versions())


def _claimed(account: Account, replaces: str, clock: Clock, *, holds_for: timedelta = timedelta(minutes=6)) -> str:
    """A refresh that holds the claim; the claim's version id."""
    history = History(spent=("0a0a0a0a",))
    intent = Intent(replaces, a_version(), "1b1b1b1b", clock.now(), holds_for, history)
    claim = claim_id(_end(account))
    assert account.store().write_pair(claim, intent.to_json(), LABEL) is not None
    return claim


def _writes(account: Account) -> int:
    return len(account.strict.calls("PutSecretValue"))


# The next place


def test_the_first_login_is_the_first_version_under_an_id_that_every_first_login_of_this_secret_has(
    account: Account, clock: Clock
) -> None:
    first = claim_id(_end(account))

    version = _log_in(account, clock, a_pair())

    assert version == first
    assert account.strict.versions(PAIR_SECRET) == [version]
    assert account.strict.labels(PAIR_SECRET) == {CURRENT: version, LABEL: version}
    assert account.pair() == a_pair(spent=())


def test_of_two_first_logins_the_later_follows_the_earlier(account: Account, clock: Clock) -> None:
    others: list[str] = []

    def another_login(operation: str, params: object, secret_name: str) -> None:
        if operation == "PutSecretValue" and not others:
            others.append("begun")
            others.append(_log_in(account, Clock(), a_pair(1)))

    account.strict.before = another_login
    first = claim_id(_end(account))
    version = _log_in(account, clock, a_pair(2))

    assert (others[1], version) == (first, claim_id(first))
    assert account.pair() == a_pair(2, spent=())
    assert account.strict.labels(PAIR_SECRET) == {CURRENT: version, LABEL: version, PREVIOUS: first}


def test_a_login_takes_the_next_claims_place_in_one_write(account: Account, clock: Clock) -> None:
    displaced = account.put_pair(a_pair(1, replaces=a_version()))
    before, place = _writes(account), claim_id(_end(account))

    version = _log_in(account, clock, a_pair(2))

    assert version == place
    assert account.strict.labels(PAIR_SECRET) == {CURRENT: version, LABEL: version, PREVIOUS: displaced}
    assert account.pair() == a_pair(2)
    assert _writes(account) == before + 1


@pytest.mark.parametrize(
    ("value", "label"),
    [
        pytest.param(a_pair(2, spent=("0a0a0a0a",)).to_json(), CURRENT, id="a new pair"),
        pytest.param(a_pair(2, spent=("0a0a0a0a",)).to_json(), SUPERSEDED, id="a pair that came too late"),
        pytest.param(
            Outcome(a_version(), Ending.REFUSED, NOW, history=History(spent=("0a0a0a0a",))).to_json(),
            LABEL,
            id="an outcome",
        ),
    ],
)
def test_a_login_follows_what_came_of_a_refresh(account: Account, clock: Clock, value: str, label: str) -> None:
    claim = _claimed(account, account.put_pair(a_pair(1)), clock)
    account.store().write_pair(result_id(claim), value, label, LABEL)

    version = _log_in(account, clock, a_pair(3))

    assert version == claim_id(result_id(claim))
    assert account.pair() == a_pair(3, spent=("0a0a0a0a",))
    labels = account.strict.labels(PAIR_SECRET)
    assert (labels[CURRENT], labels[LABEL]) == (version, version)


@pytest.mark.parametrize("holds_for", [timedelta(minutes=-1), timedelta(hours=1)], ids=["a dead one", "a living one"])
def test_a_login_takes_the_place_of_a_holders_result_at_once(
    account: Account, clock: Clock, holds_for: timedelta
) -> None:
    claim = _claimed(account, account.put_pair(a_pair(1)), clock, holds_for=holds_for)

    version = _log_in(account, clock, a_pair(2))

    assert version == result_id(claim)
    assert clock.pauses == []
    assert account.pair() == a_pair(2, spent=("0a0a0a0a",))
    labels = account.strict.labels(PAIR_SECRET)
    assert (labels[CURRENT], labels[LABEL]) == (version, version)


@pytest.mark.parametrize(
    ("holds_for", "waited"),
    [
        pytest.param(timedelta(minutes=-1), timedelta(), id="a dead holder, at once"),
        pytest.param(timedelta(minutes=5), timedelta(minutes=5), id="a holder that dies meanwhile"),
        pytest.param(timedelta(hours=1), PATIENCE, id="a live one after the longest wait"),
    ],
)
def test_an_adopted_pair_waits_for_a_refresh_that_may_be_sending_its_token(
    account: Account, clock: Clock, holds_for: timedelta, waited: timedelta
) -> None:
    claim = _claimed(account, account.put_pair(a_pair(1)), clock, holds_for=holds_for)

    assert _log_in(account, clock, a_pair(1), adopted=True) == result_id(claim)
    assert waited <= clock.now() - NOW < waited + timedelta(seconds=10)


@pytest.mark.parametrize("adopted", [False, True])
def test_what_is_known_as_spent_stays_so_unless_the_provider_has_just_granted_it(
    account: Account, clock: Clock, adopted: bool
) -> None:
    token = a_pair(1).refresh_token
    assert token is not None
    account.put_pair(a_pair(2, spent=(token.fingerprint(), "0a0a0a0a")))

    _log_in(account, clock, a_pair(1), adopted=adopted)

    assert account.pair().spent == ((token.fingerprint(), "0a0a0a0a") if adopted else ("0a0a0a0a",))


def test_an_end_whose_key_is_gone_keeps_no_login_waiting(account: Account, clock: Clock) -> None:
    claim = _claimed(account, account.put_pair(a_pair(1, spent=("2c2c2c2c",))), clock)
    account.strict.replace_key(PAIR_SECRET)

    assert _log_in(account, clock, a_pair(2)) == result_id(claim)
    assert clock.pauses == []
    assert account.pair() == a_pair(2, spent=("2c2c2c2c",))


def test_a_clock_that_is_a_day_off_keeps_nobody_waiting_longer(account: Account, clock: Clock) -> None:
    claim = _claimed(account, account.put_pair(a_pair(1)), clock)
    for days in (1, -1):
        laptop = Clock(NOW + timedelta(days=days))
        _log_in(account, laptop, a_pair(2 + days))

        assert laptop.pauses == []
        assert account.pair().access_token == a_pair(2 + days).access_token
    assert account.strict.versions(PAIR_SECRET)[2:] == [result_id(claim), claim_id(result_id(claim))]


@pytest.mark.parametrize("moved_to", ["nowhere", "the first pair"])
def test_a_label_that_a_person_removed_or_moved_leads_nobody_astray(
    account: Account, clock: Clock, moved_to: str
) -> None:
    first = account.put_pair(a_pair(1))
    claim = _claimed(account, first, clock, holds_for=timedelta(minutes=-1))
    where = {"RemoveFromVersionId": claim} | ({"MoveToVersionId": first} if moved_to != "nowhere" else {})
    account.client.update_secret_version_stage(SecretId=PAIR_SECRET, VersionStage=LABEL, **where)

    assert _log_in(account, clock, a_pair(2)) == result_id(claim)


def test_of_two_logins_at_once_the_later_is_current_and_the_earlier_is_kept(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1))
    others: list[str] = []

    def another_login(operation: str, params: object, secret_name: str) -> None:
        if operation == "PutSecretValue" and not others:
            others.append("begun")
            others.append(_log_in(account, Clock(), a_pair(2)))

    account.strict.before = another_login
    version = _log_in(account, clock, a_pair(3))

    labels = account.strict.labels(PAIR_SECRET)
    assert (labels[CURRENT], labels[PREVIOUS]) == (version, others[1])
    assert version == claim_id(others[1])


def test_old_views_lead_a_login_to_places_that_are_taken(account: Account, clock: Clock) -> None:
    claim = _claimed(account, account.put_pair(a_pair(1)), clock)
    account.store().write_pair(result_id(claim), a_pair(2).to_json(), CURRENT, LABEL)
    before, views = account.strict.versions(PAIR_SECRET), [2, 1]
    account.strict.choose_view = lambda operation, name, count: (
        views.pop(0) if operation == "ListSecretVersionIds" and views else 0
    )

    version = _log_in(account, clock, a_pair(3))

    assert len(clock.pauses) == 2
    assert version == claim_id(result_id(claim))
    assert account.strict.versions(PAIR_SECRET) == [*before, version]


# What is stored


def test_a_login_leaves_the_bearer_secret_to_the_function(account: Account, clock: Clock) -> None:
    _log_in(account, clock, a_pair())

    assert account.strict.versions("virtuous/default/bearer") == []


def test_unknown_keys_of_the_displaced_pair_are_kept(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1, extra={"note": "asked for by finance", "contact": "old"}))

    _log_in(account, clock, a_pair(2, extra={"contact": "new"}))

    assert account.pair() == a_pair(2, extra={"note": "asked for by finance", "contact": "new"})


@pytest.mark.parametrize(
    "value",
    [pytest.param("access-1", id="plain text"), pytest.param("{}", id="no token"), pytest.param("[1]", id="a list")],
)
def test_a_login_replaces_what_is_no_pair(account: Account, clock: Clock, value: str) -> None:
    account.put(PAIR_SECRET, value)

    _log_in(account, clock, a_pair(2))

    assert account.pair() == a_pair(2)


def test_a_stale_read_of_the_displaced_pair_costs_it_no_key(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1))
    account.strict.settle()
    account.put_pair(a_pair(2, extra={"note": "asked for by finance"}))
    ages = iter([1])
    account.strict.choose_view = lambda operation, name, count: next(ages, 0) if operation == "GetSecretValue" else 0

    _log_in(account, clock, a_pair(3))

    assert next(ages, None) is None
    assert account.pair() == a_pair(3, extra={"note": "asked for by finance"})


# Failures


@pytest.mark.parametrize("operation", ["ListSecretVersionIds", "PutSecretValue"])
@pytest.mark.parametrize("after_effect", [False, True])
def test_what_fails_for_a_moment_or_loses_its_answer_is_repeated(
    account: Account, clock: Clock, operation: str, after_effect: bool
) -> None:
    account.put_pair(a_pair(1))
    place = claim_id(_end(account))
    for error in ("ThrottlingException", "InternalServiceError", "ReadTimeoutError"):
        account.strict.fail(operation, error, after_effect=after_effect)

    assert _log_in(account, clock, a_pair(2)) == place
    assert account.pair() == a_pair(2)
    assert len(account.strict.versions(PAIR_SECRET)) == 2


def test_a_login_that_cannot_be_stored_gives_up_in_time(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1))
    account.strict.fail("PutSecretValue", "InternalServiceError", times=10_000)

    with pytest.raises(StoreUnavailable):
        _log_in(account, clock, a_pair(2))

    assert clock.now() - NOW <= PATIENCE + timedelta(seconds=10)


def test_what_a_person_must_change_is_told_at_once(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1))
    account.strict.fail("PutSecretValue", "AccessDeniedException")

    with pytest.raises(StoreMisconfigured):
        _log_in(account, clock, a_pair(2))

    assert clock.pauses == []
