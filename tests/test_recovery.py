"""Which credential is tried next when a refresh token may be dead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import NOW
from token_refresher.journal import Attempt, Attempts, Ended, Grant
from token_refresher.recovery import candidates

CURRENT, PREVIOUS, PASSWORD = Grant.CURRENT, Grant.PREVIOUS, Grant.PASSWORD
JUST_NOW = timedelta(seconds=1)
NEARLY_A_DAY = timedelta(days=1) - timedelta(seconds=1)
A_DAY = timedelta(days=1)


def _ended(grant: Grant, ended: Ended, ago: timedelta = JUST_NOW) -> dict[Grant, Attempt]:
    return {grant: Attempt(NOW - ago, ended)}


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param({}, [CURRENT, PREVIOUS, PASSWORD], id="nothing was sent yet: the whole ladder, best first"),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED),
            [PREVIOUS, PASSWORD],
            id="a refused refresh token is not sent again",
        ),
        pytest.param(
            _ended(CURRENT, Ended.THROTTLED),
            [CURRENT, PREVIOUS, PASSWORD],
            id="a throttled one was not spent",
        ),
        pytest.param(
            _ended(CURRENT, Ended.UNREACHABLE),
            [CURRENT, PREVIOUS, PASSWORD],
            id="one that was never sent was not spent",
        ),
        pytest.param(
            _ended(CURRENT, Ended.MISCONFIGURED),
            [CURRENT, PREVIOUS, PASSWORD],
            id="a wrong address condemns no refresh token",
        ),
        pytest.param(
            _ended(CURRENT, Ended.UNKNOWN),
            [CURRENT, PREVIOUS, PASSWORD],
            id="one whose answer was lost may still be good",
        ),
        pytest.param(
            _ended(CURRENT, Ended.HOLDER_DIED),
            [CURRENT, PREVIOUS, PASSWORD],
            id="one whose holder died may still be good",
        ),
        pytest.param(
            _ended(CURRENT, Ended.CODE_NEEDED),
            [PREVIOUS],
            id="an account with a second factor never sees the password",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.REFUSED),
            [PASSWORD],
            id="both refresh tokens refused",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.UNKNOWN),
            [PASSWORD],
            id="the previous one is tried once, and doubt counts",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.HOLDER_DIED),
            [PASSWORD],
            id="the previous one is tried once, and a dead holder counts",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.THROTTLED),
            [PREVIOUS, PASSWORD],
            id="a throttled try of the previous one does not count",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.REFUSED) | _ended(PASSWORD, Ended.REFUSED),
            [],
            id="everything was refused: a person must log in",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.REFUSED) | _ended(PASSWORD, Ended.UNKNOWN),
            [],
            id="a password in doubt waits for tomorrow",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.REFUSED) | _ended(PASSWORD, Ended.UNREACHABLE),
            [PASSWORD],
            id="a password that was never sent may be sent",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED, NEARLY_A_DAY) | _ended(PREVIOUS, Ended.REFUSED, NEARLY_A_DAY),
            [PASSWORD],
            id="a second before the day is over",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED, A_DAY) | _ended(PREVIOUS, Ended.REFUSED, A_DAY),
            [CURRENT, PASSWORD],
            id="a day later the version's own token is tried again, the previous one never",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PASSWORD, Ended.REFUSED, NEARLY_A_DAY),
            [PREVIOUS],
            id="the password a second before its day is over",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PASSWORD, Ended.REFUSED, A_DAY),
            [PREVIOUS, PASSWORD],
            id="the password a day later",
        ),
        pytest.param(
            _ended(PASSWORD, Ended.CODE_NEEDED, 365 * A_DAY),
            [CURRENT, PREVIOUS],
            id="a year later the phone is still left in peace",
        ),
        pytest.param(
            _ended(Grant.LOGIN, Ended.HOLDER_DIED),
            [CURRENT, PREVIOUS, PASSWORD],
            id="a person's login that was never stored spent nothing of ours",
        ),
    ],
)
def test_candidates(attempts: Attempts, expected: list[Grant]) -> None:
    assert list(candidates(attempts, NOW)) == expected


@pytest.mark.parametrize("ended", Ended)
def test_an_operator_may_always_try_the_refresh_token(ended: Ended) -> None:
    assert next(candidates(_ended(CURRENT, ended), NOW, forced=True)) is CURRENT


def test_an_operator_who_forces_reopens_nothing_but_the_refresh_token() -> None:
    refused = {grant: Attempt(NOW, Ended.REFUSED) for grant in (CURRENT, PREVIOUS, PASSWORD)}

    assert list(candidates(refused, NOW, forced=True)) == [CURRENT]


def test_twenty_four_runs_of_a_day_send_each_dead_credential_once() -> None:
    """A dead token that is hammered hides its refusal behind the rate limit."""
    attempts: dict[Grant, Attempt] = {}
    sent = []
    for hour in range(24):
        now = NOW + timedelta(hours=hour)
        while grant := next(candidates(attempts, now), None):
            attempts[grant] = Attempt(now, Ended.REFUSED)
            sent.append(grant)

    assert sent == [CURRENT, PREVIOUS, PASSWORD]
