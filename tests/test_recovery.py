"""Which credential is tried next when a refresh token may be dead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import NOW
from token_refresher.journal import Attempt, Attempts, Ended, Grant
from token_refresher.recovery import candidates

CURRENT, PREVIOUS, SUPERSEDED, PASSWORD = Grant.CURRENT, Grant.PREVIOUS, Grant.SUPERSEDED, Grant.PASSWORD
JUST_NOW = timedelta(seconds=1)
NEARLY_A_DAY = timedelta(days=1) - timedelta(seconds=1)
A_DAY = timedelta(days=1)


def _ended(grant: Grant, ended: Ended, ago: timedelta = JUST_NOW) -> dict[Grant, Attempt]:
    return {grant: Attempt(NOW - ago, ended)}


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param(
            {}, [CURRENT, PREVIOUS, SUPERSEDED, PASSWORD], id="nothing was sent yet: the whole ladder, best first"
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED),
            [PREVIOUS, SUPERSEDED, PASSWORD],
            id="a refused refresh token is not sent again",
        ),
        pytest.param(
            _ended(CURRENT, Ended.THROTTLED),
            [CURRENT, PREVIOUS, SUPERSEDED, PASSWORD],
            id="a throttled one was not spent",
        ),
        pytest.param(
            _ended(CURRENT, Ended.UNREACHABLE),
            [CURRENT, PREVIOUS, SUPERSEDED, PASSWORD],
            id="one that was never sent was not spent",
        ),
        pytest.param(
            _ended(CURRENT, Ended.MISCONFIGURED),
            [CURRENT, PREVIOUS, SUPERSEDED, PASSWORD],
            id="a wrong address condemns no refresh token",
        ),
        pytest.param(
            _ended(CURRENT, Ended.UNKNOWN),
            [CURRENT, PREVIOUS, SUPERSEDED, PASSWORD],
            id="one whose answer was lost may still be good",
        ),
        pytest.param(
            _ended(CURRENT, Ended.HOLDER_DIED),
            [CURRENT, PREVIOUS, SUPERSEDED, PASSWORD],
            id="one whose holder died may still be good",
        ),
        pytest.param(
            _ended(CURRENT, Ended.CODE_NEEDED),
            [],
            id="a code asked for on a refresh token ends all tries",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.REFUSED),
            [SUPERSEDED, PASSWORD],
            id="both refresh tokens refused",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.UNKNOWN),
            [SUPERSEDED, PASSWORD],
            id="the previous one is tried once, and doubt counts",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.HOLDER_DIED),
            [SUPERSEDED, PASSWORD],
            id="the previous one is tried once, and a dead holder counts",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.THROTTLED),
            [PREVIOUS, SUPERSEDED, PASSWORD],
            id="a throttled try of the previous one does not count",
        ),
        pytest.param(
            {grant: Attempt(NOW, Ended.REFUSED) for grant in (CURRENT, PREVIOUS, SUPERSEDED, PASSWORD)},
            [],
            id="everything was refused: a person must log in",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.REFUSED) | _ended(PASSWORD, Ended.UNKNOWN),
            [SUPERSEDED],
            id="a password in doubt waits for tomorrow",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PREVIOUS, Ended.REFUSED) | _ended(PASSWORD, Ended.UNREACHABLE),
            [SUPERSEDED, PASSWORD],
            id="a password that was never sent may be sent",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED, NEARLY_A_DAY) | _ended(PREVIOUS, Ended.REFUSED, NEARLY_A_DAY),
            [SUPERSEDED, PASSWORD],
            id="a second before the day is over",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED, A_DAY) | _ended(PREVIOUS, Ended.REFUSED, A_DAY),
            [CURRENT, SUPERSEDED, PASSWORD],
            id="a day later the version's own token is tried again, the previous one never",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PASSWORD, Ended.REFUSED, NEARLY_A_DAY),
            [PREVIOUS, SUPERSEDED],
            id="the password a second before its day is over",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(PASSWORD, Ended.REFUSED, A_DAY),
            [PREVIOUS, SUPERSEDED, PASSWORD],
            id="the password a day later",
        ),
        pytest.param(
            _ended(PASSWORD, Ended.CODE_NEEDED, 365 * A_DAY),
            [CURRENT, PREVIOUS, SUPERSEDED],
            id="a year later the phone is still left in peace",
        ),
        pytest.param(
            _ended(PREVIOUS, Ended.CODE_NEEDED, 365 * A_DAY),
            [],
            id="nor after a code that the previous token asked for",
        ),
        pytest.param(
            _ended(CURRENT, Ended.REFUSED) | _ended(SUPERSEDED, Ended.UNKNOWN),
            [PREVIOUS, PASSWORD],
            id="a superseded one is tried once, and doubt counts",
        ),
        pytest.param(
            _ended(Grant.LOGIN, Ended.HOLDER_DIED),
            [CURRENT, PREVIOUS, SUPERSEDED, PASSWORD],
            id="a person's login that was never stored spent nothing of ours",
        ),
    ],
)
def test_candidates(attempts: Attempts, expected: list[Grant]) -> None:
    assert list(candidates(attempts, NOW)) == expected


@pytest.mark.parametrize("ended", Ended)
def test_an_operator_may_always_try_the_refresh_token(ended: Ended) -> None:
    assert next(candidates(_ended(CURRENT, ended), NOW, forced=True)) is CURRENT


@pytest.mark.parametrize("asked_on", [CURRENT, PREVIOUS, SUPERSEDED])
def test_once_a_code_was_asked_for_on_a_refresh_token_force_alone_tries_again_and_once(asked_on: Grant) -> None:
    attempts = _ended(asked_on, Ended.CODE_NEEDED, 365 * A_DAY)

    assert list(candidates(attempts, NOW)) == []
    assert list(candidates(attempts, NOW, forced=True)) == [CURRENT]


def test_an_operator_who_forces_reopens_nothing_but_the_refresh_token() -> None:
    refused = {grant: Attempt(NOW, Ended.REFUSED) for grant in (CURRENT, PREVIOUS, SUPERSEDED, PASSWORD)}

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

    assert sent == [CURRENT, PREVIOUS, SUPERSEDED, PASSWORD]
