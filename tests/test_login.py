"""A pair that a person obtained takes the next place of the journal's chain, in one write."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support import NOW, Account, Clock, a_pair, a_version
from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.journal import LABEL, History, Intent, chain_end, claim_id, result_id
from token_refresher.refresh.login import store_login
from token_refresher.refresh.model import CURRENT, PREVIOUS, StoreMisconfigured, StoreUnavailable

PATIENCE = timedelta(minutes=7)
PAIR_SECRET = "virtuous/default/tokens"
KNOWN = History(spent=("0a0a0a0a",))


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


def _claimed(account: Account, clock: Clock, *, holds_for: timedelta = timedelta(minutes=6), **stored: Any) -> str:
    """The claim of a refresh on behalf of a pair that is *stored*; the claim's version id."""
    intent = Intent(account.put_pair(a_pair(1, **stored)), a_version(), "1b1b1b1b", clock.now(), holds_for, KNOWN)
    claim = claim_id(_end(account))
    assert account.store().write_pair(claim, intent.to_json(), LABEL) is not None
    return claim


@pytest.mark.parametrize("stored", [False, True], ids=["the first", "a later one"])
def test_a_login_takes_the_next_claims_place_in_one_write(account: Account, clock: Clock, stored: bool) -> None:
    displaced = {PREVIOUS: account.put_pair(a_pair(1, replaces=a_version()))} if stored else {}
    writes, place = len(account.strict.calls("PutSecretValue")), claim_id(_end(account))
    version = _log_in(account, clock, a_pair(2))
    assert version == place
    assert account.strict.labels(PAIR_SECRET) == {CURRENT: version, LABEL: version, **displaced}
    assert account.pair() == a_pair(2)
    assert len(account.strict.calls("PutSecretValue")) == writes + 1
    assert account.strict.versions("virtuous/default/bearer") == []  # that is the function's


@pytest.mark.parametrize("holds_for", [timedelta(minutes=-1), timedelta(hours=1)], ids=["a dead one", "a living one"])
@pytest.mark.parametrize("days_off", [0, 1, -1])
@pytest.mark.parametrize("moved", [None, {}, {"MoveToVersionId": "first"}], ids=["", "label removed", "label moved"])
def test_a_login_takes_the_place_of_a_holders_result_at_once(
    account: Account, clock: Clock, holds_for: timedelta, days_off: int, moved: dict[str, str] | None
) -> None:
    """Whatever its own clock says, and wherever a person moved the label."""
    claim = _claimed(account, clock, holds_for=holds_for)
    if moved is not None:
        moved = {key: account.strict.labels(PAIR_SECRET)[CURRENT] for key in moved} | {"RemoveFromVersionId": claim}
        account.client.update_secret_version_stage(SecretId=PAIR_SECRET, VersionStage=LABEL, **moved)
    laptop = Clock(NOW + timedelta(days=days_off))
    version = _log_in(account, laptop, a_pair(2))
    assert (version, laptop.pauses) == (result_id(claim), [])
    assert account.pair() == a_pair(2, spent=("0a0a0a0a",))


@pytest.mark.parametrize(
    "holds_for",
    [pytest.param(timedelta(minutes=-1), id="a dead holder"), pytest.param(timedelta(minutes=5), id="one that dies")],
)
def test_an_adopted_pair_waits_for_a_refresh_that_may_be_sending_its_token(
    account: Account, clock: Clock, holds_for: timedelta
) -> None:
    claim = _claimed(account, clock, holds_for=holds_for)

    assert _log_in(account, clock, a_pair(1), adopted=True) == result_id(claim)
    waited = max(holds_for, timedelta())
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


def test_an_end_that_cannot_be_read_keeps_no_login_waiting_and_costs_no_knowledge(
    account: Account, clock: Clock
) -> None:
    claim = _claimed(account, clock, spent=("2c2c2c2c",))
    account.strict.replace_key(PAIR_SECRET)

    assert _log_in(account, clock, a_pair(2)) == result_id(claim)
    assert clock.pauses == []
    assert account.pair() == a_pair(2, spent=("2c2c2c2c",))


def test_unknown_keys_of_the_displaced_pair_are_kept(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(2, extra={"note": "asked for by finance", "contact": "old"}))
    _log_in(account, clock, a_pair(3, extra={"contact": "new"}))
    assert account.pair() == a_pair(3, extra={"note": "asked for by finance", "contact": "new"})


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


@pytest.mark.parametrize(
    ("code", "raised", "longest"),
    [
        pytest.param("InternalServiceError", StoreUnavailable, PATIENCE, id="trouble, in time"),
        pytest.param("AccessDeniedException", StoreMisconfigured, timedelta(), id="what a person must change, at once"),
    ],
)
def test_a_login_that_cannot_be_stored_is_told(
    account: Account, clock: Clock, code: str, raised: type[Exception], longest: timedelta
) -> None:
    account.put_pair(a_pair(1))
    account.strict.fail("PutSecretValue", code, times=10_000)

    with pytest.raises(raised):
        _log_in(account, clock, a_pair(2))

    assert clock.now() - NOW <= longest + timedelta(seconds=10 * bool(longest))
