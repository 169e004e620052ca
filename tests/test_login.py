"""A pair that a person obtained is stored under the same claim as a refresh."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support import NOW, Account, Clock, a_pair, a_version
from token_refresher.claim import Claims
from token_refresher.journal import LABEL, SUPERSEDED, Ended, Grant, Intent, Outcome, claim_id, parse_entry, result_id
from token_refresher.login import HOLD, store_login
from token_refresher.ports import CURRENT, PREVIOUS, StoreUnavailable
from virtuous_token.contract import TokenPair

PATIENCE = timedelta(minutes=7)
PAIR_SECRET = "virtuous/default/tokens"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> Account:
    return Account(now=clock.now)


def _log_in(account: Account, clock: Clock, pair: TokenPair) -> str:
    return store_login(account.store(), clock.world(), pair, give_up_at=clock.now() + PATIENCE)


def _claimed(account: Account, current: str, clock: Clock, *, dead_after: timedelta) -> str:
    """A refresh of *current* that holds the claim; the claim's version id."""
    claim = claim_id(current)
    intent = Intent(
        replaces=current,
        holder=a_version(),
        grant=Grant.CURRENT,
        started_at=clock.now(),
        dead_after=clock.now() + dead_after,
    )
    assert account.store().write_pair(claim, intent.to_json(), LABEL)
    return claim


def test_the_first_login_is_the_first_version_and_needs_no_claim(account: Account, clock: Clock) -> None:
    """Secrets Manager puts AWSCURRENT on a secret's first version, so it must be the pair itself."""
    version = _log_in(account, clock, a_pair())

    assert account.strict.versions(PAIR_SECRET) == [version]
    # Under both labels, so that all claims are one chain from the beginning.
    assert account.strict.labels(PAIR_SECRET) == {CURRENT: version, LABEL: version}
    assert account.pair() == a_pair()


def test_a_login_claims_the_pair_that_it_displaces(account: Account, clock: Clock) -> None:
    displaced = account.put_pair(a_pair(1))

    version = _log_in(account, clock, a_pair(2))

    claim = claim_id(displaced)
    assert version == result_id(claim)
    assert account.strict.labels(PAIR_SECRET) == {CURRENT: version, PREVIOUS: displaced, LABEL: claim}
    assert account.pair() == a_pair(2)
    intent = parse_entry(str(account.strict.value(PAIR_SECRET, claim)))
    assert isinstance(intent, Intent)
    assert (intent.replaces, intent.grant) == (displaced, Grant.LOGIN)


def test_a_login_says_nothing_of_a_version_that_it_was_refreshed_from(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1))

    _log_in(account, clock, a_pair(2))

    assert account.pair().replaces is None


def test_a_login_keeps_refreshes_away_for_a_moment_only(account: Account, clock: Clock) -> None:
    displaced = account.put_pair(a_pair(1))

    _log_in(account, clock, a_pair(2))

    intent = parse_entry(str(account.strict.value(PAIR_SECRET, claim_id(displaced))))
    assert isinstance(intent, Intent)
    assert intent.dead_after <= NOW + HOLD + timedelta(minutes=1)


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


def test_a_login_waits_for_a_refresh_and_replaces_what_it_brings(account: Account, clock: Clock) -> None:
    """Saved side by side, the slower of the two would undo the other."""
    displaced = account.put_pair(a_pair(1))
    claim = _claimed(account, displaced, clock, dead_after=timedelta(minutes=6))
    refreshed = replace(a_pair(2), replaces=displaced)
    clock.on_pause = lambda: account.store().write_pair(result_id(claim), refreshed.to_json(), CURRENT)

    version = _log_in(account, clock, a_pair(3))

    assert clock.pauses
    assert account.strict.labels(PAIR_SECRET) | {LABEL: ""} == {CURRENT: version, PREVIOUS: result_id(claim), LABEL: ""}
    assert account.pair() == a_pair(3)
    assert account.pair(version_or_label=PREVIOUS) == refreshed


def test_a_login_follows_a_refresh_that_ended_without_a_pair(account: Account, clock: Clock) -> None:
    displaced = account.put_pair(a_pair(1))
    claim = _claimed(account, displaced, clock, dead_after=timedelta(minutes=6))
    refused = Outcome(replaces=displaced, ended=Ended.REFUSED, at=NOW, retry_at=NOW + timedelta(days=1))
    clock.on_pause = lambda: account.store().write_pair(result_id(claim), refused.to_json(), LABEL)

    version = _log_in(account, clock, a_pair(2))

    assert version == result_id(claim_id(result_id(claim)))
    assert account.pair() == a_pair(2)


def test_a_login_takes_over_once_the_holder_is_dead(account: Account, clock: Clock) -> None:
    displaced = account.put_pair(a_pair(1))
    claim = _claimed(account, displaced, clock, dead_after=timedelta(minutes=5))

    _log_in(account, clock, a_pair(2))

    assert timedelta(minutes=5) < clock.now() - NOW < timedelta(minutes=6)
    assert account.pair() == a_pair(2)
    closed = parse_entry(str(account.strict.value(PAIR_SECRET, result_id(claim))))
    assert isinstance(closed, Outcome)
    assert closed.ended is Ended.HOLDER_DIED


def test_a_login_waits_for_a_refresh_of_a_pair_that_is_current_no_more(account: Account, clock: Clock) -> None:
    """Its answer is still to come, and the next claim can follow that alone."""
    claim = _claimed(account, account.put_pair(a_pair(1)), clock, dead_after=timedelta(minutes=6))
    pasted = account.put_pair(a_pair(2))
    clock.on_pause = lambda: account.store().write_pair(result_id(claim), a_pair(3).to_json(), SUPERSEDED)

    version = _log_in(account, clock, a_pair(4))

    assert len(clock.pauses) == 1
    assert version == result_id(claim_id(result_id(claim)))
    labels = account.strict.labels(PAIR_SECRET)
    assert (labels[CURRENT], labels[PREVIOUS], labels[SUPERSEDED]) == (version, pasted, result_id(claim))


def test_a_dead_claim_on_a_pair_that_is_current_no_more_is_closed(account: Account, clock: Clock) -> None:
    """Else its holder, alive after all, would save beside the login and never know."""
    replaced = account.put_pair(a_pair(1))
    claim = _claimed(account, replaced, clock, dead_after=timedelta(minutes=-1))
    account.put_pair(a_pair(2))

    version = _log_in(account, clock, a_pair(3))

    assert clock.pauses == []
    closed = parse_entry(str(account.strict.value(PAIR_SECRET, result_id(claim))))
    assert isinstance(closed, Outcome)
    assert (closed.replaces, closed.ended) == (replaced, Ended.HOLDER_DIED)
    assert version == result_id(claim_id(result_id(claim)))


def test_labels_from_before_a_refresh_lead_a_login_to_places_that_are_taken(account: Account, clock: Clock) -> None:
    first = account.put_pair(a_pair(1))
    claim = _claimed(account, first, clock, dead_after=timedelta(minutes=6))
    account.store().write_pair(result_id(claim), a_pair(2).to_json(), CURRENT)
    before, views = account.strict.versions(PAIR_SECRET), [2, 1]

    def older(operation: str, name: str, count: int) -> int:
        return views.pop(0) if operation == "DescribeSecret" and views else 0

    account.strict.choose_view = older
    version = _log_in(account, clock, a_pair(3))

    assert len(clock.pauses) == 2
    assert version == result_id(claim_id(result_id(claim)))
    assert set(account.strict.versions(PAIR_SECRET)) - set(before) == {claim_id(result_id(claim)), version}
    assert account.strict.labels(PAIR_SECRET)[PREVIOUS] == result_id(claim)


def test_a_refresh_after_the_first_login_follows_that_login(account: Account, clock: Clock) -> None:
    first = _log_in(account, clock, a_pair(1))

    assert _log_in(account, clock, a_pair(2)) == result_id(claim_id(first))


def test_a_login_gives_up_in_time_and_writes_nothing(account: Account, clock: Clock) -> None:
    displaced = account.put_pair(a_pair(1))
    claim = _claimed(account, displaced, clock, dead_after=timedelta(hours=1))
    before = account.strict.versions(PAIR_SECRET)

    with pytest.raises(StoreUnavailable, match="try again"):
        _log_in(account, clock, a_pair(2))

    assert PATIENCE <= clock.now() - NOW < PATIENCE + timedelta(seconds=10)
    assert account.strict.versions(PAIR_SECRET) == before
    assert account.strict.labels(PAIR_SECRET) == {CURRENT: displaced, LABEL: claim}


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
    assert account.pair() == a_pair(3)


def test_a_pair_that_a_person_pasted_meanwhile_is_seen_and_replaced(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1))
    pasted: list[str] = []

    def paste_after_the_claim(operation: str, params: object, secret_name: str) -> None:
        if operation == "PutSecretValue" and not pasted:
            pasted.append("begun")
            pasted.append(account.put_pair(a_pair(2)))

    account.strict.after = paste_after_the_claim
    version = _log_in(account, clock, a_pair(3))

    labels = account.strict.labels(PAIR_SECRET)
    assert (labels[CURRENT], labels[PREVIOUS]) == (version, pasted[1])
    assert account.pair() == a_pair(3)
    # What came too late at first is kept, and not where it would hide another's claim.
    assert account.pair(version_or_label=SUPERSEDED) == a_pair(3)
    assert labels[LABEL] == claim_id(labels[SUPERSEDED])


def test_a_throttled_save_is_repeated(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1))
    failures = ["ThrottlingException", "InternalServiceError"]

    def fail_the_saves(operation: str, params: object, secret_name: str) -> None:
        labels = params["VersionStages"] if isinstance(params, dict) and operation == "PutSecretValue" else []
        if labels == [CURRENT] and failures:
            account.strict.fail("PutSecretValue", failures.pop())

    account.strict.before = fail_the_saves
    _log_in(account, clock, a_pair(2))

    assert failures == []
    assert account.pair() == a_pair(2)


def test_after_a_login_nothing_waits_any_more(account: Account, clock: Clock) -> None:
    """What was said about the dead pair is history, so that the new one is not held back for a day."""
    displaced = account.put_pair(a_pair(1))
    claim = _claimed(account, displaced, clock, dead_after=timedelta(minutes=5))
    refused = Outcome(replaces=displaced, ended=Ended.REFUSED, at=NOW, retry_at=NOW + timedelta(days=1))
    account.store().write_pair(result_id(claim), refused.to_json(), LABEL)

    _log_in(account, clock, a_pair(2))

    labels = account.strict.labels(PAIR_SECRET)
    spot = Claims(account.store(), clock.world(), clock.now() + timedelta(minutes=5)).spot(labels)
    assert spot is not None
    assert spot.outcome is None


def test_a_stale_read_of_the_displaced_pair_costs_it_no_key(account: Account, clock: Clock) -> None:
    account.put_pair(a_pair(1))
    account.strict.settle()
    account.put_pair(a_pair(2, extra={"note": "asked for by finance"}))
    ages = iter([1])
    account.strict.choose_view = lambda operation, name, count: next(ages, 0) if operation == "GetSecretValue" else 0

    _log_in(account, clock, a_pair(3))

    assert next(ages, None) is None
    assert account.pair() == a_pair(3, extra={"note": "asked for by finance"})
