"""Which credential is sent next when a refresh token may be dead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import NOW, Account, Clock, a_pair, a_version
from token_refresher.refresh.candidates import known_spent, password_may_be_sent, stored_pairs, token_may_be_sent
from token_refresher.refresh.journal import Attempt, History, late_pair_id
from token_refresher.refresh.model import CURRENT, Ending, StoredVersion, StoreUnavailable, Versions

REFUSED, CODE_NEEDED = Ending.REFUSED, Ending.CODE_NEEDED
A_SECOND, A_DAY = timedelta(seconds=1), timedelta(days=1)


def _sent(which: str, result: Ending, ago: timedelta, *, forced: bool = False) -> bool:
    attempt = Attempt(NOW - ago, result)
    if which == "password":
        return password_may_be_sent(attempt, NOW)
    return token_may_be_sent(attempt, NOW, is_current=which == "current", forced=forced)


@pytest.mark.parametrize("result", [result for result in Ending if not result.is_verdict])
def test_only_a_verdict_uses_a_refresh_token_up(result: Ending) -> None:
    assert _sent("current", result, A_SECOND)
    assert _sent("other", result, A_SECOND)


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
    assert _sent(which, result, A_SECOND, forced=True) is (which == "current" or after_a_second)


def test_refresh_tokens_are_tried_newest_first_whatever_labels_they_carry() -> None:
    """Each may be the only live one. One whose key is gone is passed over, and so is an entry of the journal."""
    clock = Clock()
    account = Account(now=clock.now)
    for generation, label in enumerate(("SOME", CURRENT, "ANY", "SUPERSEDED")):
        clock.pause(1)
        account.put("virtuous/default/tokens", a_pair(generation).to_json(), label)
    account.put("virtuous/default/tokens", '{"entry": "intent"}', "REFRESHING")
    versions, store = account.store().pair_versions(), account.store()

    def tokens() -> list[str]:
        found = stored_pairs(store, versions, str(versions.under(CURRENT)), a_pair(1))
        return [pair.refresh_token.reveal() for pair in found if pair.refresh_token]

    assert tokens() == [f"refresh-{generation}" for generation in (1, 3, 2, 0)]
    account.strict.replace_key("virtuous/default/tokens")
    assert tokens() == ["refresh-1", "refresh-0"]  # what is under AWSCURRENT and AWSPREVIOUS gets the new key


def test_nothing_is_sent_while_a_pair_that_came_late_cannot_be_read() -> None:
    """It may know as spent what would be sent."""
    listed = StoredVersion(late_pair_id(a_version()), NOW)
    with pytest.raises(StoreUnavailable, match="can't be read yet"):
        known_spent(Account().store(), Versions((listed,), "arn", NOW), History(newest=a_version()))
