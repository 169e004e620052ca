"""Which credential is sent next when a refresh token may be dead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import NOW, Account, a_pair, a_version
from token_refresher.refresh.candidates import StoredPairs, may_be_sent
from token_refresher.refresh.claim import Head
from token_refresher.refresh.journal import FIRST_PAIR_ID, LABEL, SUPERSEDED, Attempt, CredentialKind, History
from token_refresher.refresh.model import CURRENT as AWSCURRENT
from token_refresher.refresh.model import PREVIOUS, Ending, StoredVersion, StoreUnavailable, Versions

CURRENT, PASSWORD = CredentialKind.CURRENT, CredentialKind.PASSWORD
OTHERS = [CredentialKind.SUPERSEDED, CredentialKind.NEWEST, CredentialKind.PREVIOUS, CredentialKind.FIRST]
REFUSED, CODE_NEEDED = Ending.REFUSED, Ending.CODE_NEEDED
A_SECOND, A_DAY = timedelta(seconds=1), timedelta(days=1)


def _sent(kind: CredentialKind, result: Ending, ago: timedelta, *, forced: bool = False) -> bool:
    return may_be_sent(kind, Attempt(NOW - ago, result), NOW, forced=forced)


@pytest.mark.parametrize("kind", CredentialKind)
def test_what_was_never_sent_may_be_sent(kind: CredentialKind) -> None:
    assert may_be_sent(kind, None, NOW)


@pytest.mark.parametrize("kind", [CURRENT, *OTHERS])
@pytest.mark.parametrize("result", [result for result in Ending if not result.is_verdict])
def test_only_a_verdict_uses_a_refresh_token_up(kind: CredentialKind, result: Ending) -> None:
    assert _sent(kind, result, A_SECOND)


@pytest.mark.parametrize(
    ("kind", "result", "after_a_second", "after_a_day"),
    [
        pytest.param(CURRENT, REFUSED, False, True, id="the current token is tried once a day"),
        *[pytest.param(kind, REFUSED, False, False, id=f"a refused {kind} never again") for kind in OTHERS],
        *[pytest.param(kind, CODE_NEEDED, False, False, id=f"{kind} asked for a code") for kind in [CURRENT, *OTHERS]],
        pytest.param(PASSWORD, REFUSED, False, True, id="a refused password once a day"),
        pytest.param(PASSWORD, Ending.UNKNOWN, False, True, id="a password in doubt once a day"),
        pytest.param(PASSWORD, Ending.HOLDER_DIED, False, True, id="so is one whose holder died"),
        pytest.param(PASSWORD, Ending.UNREACHABLE, True, True, id="a password that was not sent"),
        pytest.param(PASSWORD, Ending.THROTTLED, True, True, id="a password that was not served"),
        pytest.param(PASSWORD, CODE_NEEDED, False, False, id="the phone is left in peace"),
    ],
)
def test_a_credential_after_its_last_attempt(
    kind: CredentialKind, result: Ending, after_a_second: bool, after_a_day: bool
) -> None:
    assert _sent(kind, result, A_SECOND) is after_a_second
    assert _sent(kind, result, A_DAY - A_SECOND) is after_a_second
    assert _sent(kind, result, A_DAY) is after_a_day


@pytest.mark.parametrize("result", Ending)
def test_an_operator_may_force_the_current_refresh_token_and_no_other(result: Ending) -> None:
    assert _sent(CURRENT, result, A_SECOND, forced=True)
    for kind in (*OTHERS, PASSWORD):
        assert _sent(kind, result, A_SECOND, forced=True) is _sent(kind, result, A_SECOND)


def test_refresh_tokens_are_tried_in_this_order() -> None:
    """Each of them may be the only live one: what came between the chain's pairs was put there by a person."""
    current, superseded, newest, previous = (a_version() for _ in range(4))
    under = {current: (AWSCURRENT,), superseded: (SUPERSEDED,), newest: (), previous: (PREVIOUS,), FIRST_PAIR_ID: ()}
    account = Account()
    for generation, (version, labels) in enumerate(under.items()):
        account.store().write_pair(version, a_pair(generation).to_json(), *labels or ("ANY",))
    versions = Versions(tuple(StoredVersion(version, NOW, labels) for version, labels in under.items()))
    head = Head(current, History(spent=(), newest=newest))
    stored = StoredPairs(account.store(), versions, current, a_pair(0), head)

    assert [(kind, token.reveal()) for kind, _, token in stored.refresh_tokens(())] == [
        (kind, f"refresh-{generation}") for generation, kind in enumerate([CURRENT, *OTHERS])
    ]


@pytest.mark.parametrize("label", [PREVIOUS, SUPERSEDED, LABEL])
def test_nothing_is_sent_while_a_version_that_a_label_names_cannot_be_read(label: str) -> None:
    """It may know as spent what would be sent."""
    current, listed = a_version(), a_version()
    versions = Versions((StoredVersion(listed, NOW, (label,)), StoredVersion(current, NOW, (AWSCURRENT,))))
    stored = StoredPairs(Account().store(), versions, current, a_pair(), Head(current, History()))

    with pytest.raises(StoreUnavailable, match="can't be read yet"):
        stored.spent()
