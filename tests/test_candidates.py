"""Which credential is sent next when a refresh token may be dead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import NOW, Account, a_pair, a_version
from token_refresher.refresh.candidates import StoredPairs, password_may_be_sent, token_may_be_sent
from token_refresher.refresh.claim import Head
from token_refresher.refresh.journal import SUPERSEDED, Attempt, History, late_pair_id
from token_refresher.refresh.model import CURRENT, PREVIOUS, Ending, StoredVersion, StoreUnavailable, Versions

REFUSED, CODE_NEEDED = Ending.REFUSED, Ending.CODE_NEEDED
A_SECOND, A_DAY = timedelta(seconds=1), timedelta(days=1)


def _sent(which: str, result: Ending, ago: timedelta, *, forced: bool = False) -> bool:
    attempt = Attempt(NOW - ago, result)
    if which == "password":
        return password_may_be_sent(attempt, NOW)
    return token_may_be_sent(attempt, NOW, is_current=which == "current", forced=forced)


def test_what_was_never_sent_may_be_sent() -> None:
    assert password_may_be_sent(None, NOW)
    assert token_may_be_sent(None, NOW, is_current=True)
    assert token_may_be_sent(None, NOW, is_current=False)


@pytest.mark.parametrize("which", ["current", "other"])
@pytest.mark.parametrize("result", [result for result in Ending if not result.is_verdict])
def test_only_a_verdict_uses_a_refresh_token_up(which: str, result: Ending) -> None:
    assert _sent(which, result, A_SECOND)


@pytest.mark.parametrize(
    ("which", "result", "after_a_second", "after_a_day"),
    [
        pytest.param("current", REFUSED, False, True, id="the current token is tried once a day"),
        pytest.param("other", REFUSED, False, False, id="another that was refused, never again"),
        pytest.param("current", CODE_NEEDED, False, False, id="the current token asked for a code"),
        pytest.param("other", CODE_NEEDED, False, False, id="another asked for a code"),
        pytest.param("password", REFUSED, False, True, id="a refused password once a day"),
        pytest.param("password", Ending.UNKNOWN, False, True, id="a password in doubt once a day"),
        pytest.param("password", Ending.HOLDER_DIED, False, True, id="so is one whose holder died"),
        pytest.param("password", Ending.UNREACHABLE, True, True, id="a password that was not sent"),
        pytest.param("password", Ending.THROTTLED, True, True, id="a password that was not served"),
        pytest.param("password", CODE_NEEDED, False, False, id="the phone is left in peace"),
    ],
)
def test_a_credential_after_its_last_attempt(
    which: str, result: Ending, after_a_second: bool, after_a_day: bool
) -> None:
    assert _sent(which, result, A_SECOND) is after_a_second
    assert _sent(which, result, A_DAY - A_SECOND) is after_a_second
    assert _sent(which, result, A_DAY) is after_a_day


@pytest.mark.parametrize("result", Ending)
def test_an_operator_may_force_the_current_refresh_token_and_no_other(result: Ending) -> None:
    assert _sent("current", result, A_SECOND, forced=True)
    assert _sent("other", result, A_SECOND, forced=True) is _sent("other", result, A_SECOND)


def _versions(under: dict[str, tuple[str, ...]]) -> Versions:
    return Versions(tuple(StoredVersion(version, NOW, labels) for version, labels in under.items()), "arn", NOW)


def test_refresh_tokens_are_tried_in_this_order() -> None:
    """Each of them may be the only live one: what came between the chain's pairs was put there by a person."""
    current, superseded, newest, previous = (a_version() for _ in range(4))
    under = {current: (CURRENT,), superseded: (SUPERSEDED,), newest: (), previous: (PREVIOUS,)}
    account = Account()
    for generation, (version, labels) in enumerate(under.items()):
        account.store().write_pair(version, a_pair(generation).to_json(), *labels or ("ANY",))
    head = Head(current, History(newest=newest))
    stored = StoredPairs(account.store(), _versions(under), current, a_pair(0), head)

    assert [token.reveal() for _, token in stored.refresh_tokens(())] == [f"refresh-{n}" for n in range(4)]


def test_nothing_is_sent_while_a_pair_that_came_late_cannot_be_read() -> None:
    """It may know as spent what would be sent."""
    current, listed = a_version(), late_pair_id(a_version())
    versions = _versions({listed: (SUPERSEDED,), current: (CURRENT,)})
    stored = StoredPairs(Account().store(), versions, current, a_pair(), Head(current, History()))

    with pytest.raises(StoreUnavailable, match="can't be read yet"):
        stored.spent()


def test_a_pair_whose_key_is_gone_is_no_candidate() -> None:
    account = Account()
    current, lost = account.put_pair(a_pair(0)), a_version()
    account.store().write_pair(lost, a_pair(1).to_json(), SUPERSEDED)
    account.strict.replace_key("virtuous/default/tokens")
    versions = account.store().pair_versions()
    stored = StoredPairs(account.store(), versions, current, a_pair(0), Head(current, History()))

    assert [token.reveal() for _, token in stored.refresh_tokens(())] == ["refresh-0"]
