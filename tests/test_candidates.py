"""Which credential is sent next when a refresh token may be dead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import NOW, Account, Clock, a_pair, a_version
from token_refresher.refresh.candidates import known_spent, password_may_be_sent, stored_pairs
from token_refresher.refresh.journal import Attempt, History, late_pair_id
from token_refresher.refresh.model import CURRENT, Ending, StoredVersion, StoreUnavailable, Versions

A_SECOND, A_DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("result", "after_a_second", "after_a_day"),
    [
        pytest.param(Ending.REFUSED, False, True, id="it was refused"),
        pytest.param(Ending.UNKNOWN, False, True, id="it is in doubt"),
        pytest.param(Ending.HOLDER_DIED, False, True, id="its holder died"),
        pytest.param(Ending.UNREACHABLE, True, True, id="it was not sent"),
        pytest.param(Ending.THROTTLED, True, True, id="it was not served"),
        pytest.param(Ending.CODE_NEEDED, False, False, id="the phone is left in peace"),
    ],
)
def test_a_stored_password_after_its_last_attempt(result: Ending, after_a_second: bool, after_a_day: bool) -> None:
    for ago, may in ((A_SECOND, after_a_second), (A_DAY - A_SECOND, after_a_second), (A_DAY, after_a_day)):
        assert password_may_be_sent(Attempt(NOW - ago, result), NOW) is may


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
