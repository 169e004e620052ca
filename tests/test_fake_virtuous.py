"""The stand-in for Virtuous judges the product, so it is judged first, with the standard library's client."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.fakes import virtuous as fake
from tests.fakes.one_bearer import EpochClock
from tests.fakes.virtuous import Step, Virtuous

FORM = "application/x-www-form-urlencoded"
LOGIN = "grant_type=password&username=a%2Bb%40example.org&password={password}"
REFRESH = "grant_type=refresh_token&refresh_token={refresh}"
TOKEN, CURRENT = "POST /Token", "GET /api/Organization/Current"
ODD = "p+w a&b=c%2B Zoë \N{WINKING FACE} "  # what a form escapes, and what is escaped already


@pytest.fixture
def virtuous() -> Iterator[Virtuous]:
    with Virtuous(user="a+b@example.org", password=ODD, now=EpochClock()) as running:
        yield running


def ask(
    virtuous: Virtuous, request: str, body: str = "", named: dict[str, str] | None = None, seconds: float = 5
) -> tuple[int, str]:
    """Status and body of the answer to one request on a connection of its own; *named* are its headers."""
    method, path = request.split()
    body = body.replace("{password}", quote_plus(ODD))
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", virtuous.port, timeout=seconds)) as connection:
        connection.request(method, path, body, {"Content-Type": FORM} | (named or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def refresh(virtuous: Virtuous, token: object, seconds: float = 5) -> tuple[int, Any]:
    status, text = ask(virtuous, TOKEN, REFRESH.format(refresh=token), seconds=seconds)
    return status, json.loads(text or "null")


REQUESTS: dict[str, tuple[str, str, dict[str, str], int, str]] = {
    "a login": (TOKEN, LOGIN, {}, 200, '"access_token": "access-2-'),
    "a refresh": (TOKEN, REFRESH, {}, 200, '"refresh_token": "refresh-2-'),
    "a wrong password": (TOKEN, LOGIN + "x", {}, 400, "The user name or password is incorrect."),
    "an unknown refresh token": (TOKEN, REFRESH + "x", {}, 400, '{"error": "invalid_grant"}'),
    "multipart": (TOKEN, LOGIN, {"Content-Type": "multipart/form-data; boundary=x"}, 415, "invalid_request"),
    "another path": ("POST /api/Token", LOGIN, {}, 404, ""),
    "a live token": (CURRENT, "", {"Authorization": "Bearer {access}"}, 200, '"organizationUserId": 4711'),
    "a token in quotes": (CURRENT, "", {"Authorization": 'Bearer "{access}"'}, 401, "Authorization has been denied"),
    "no header": (CURRENT, "", {}, 401, "Authorization has been denied"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_has_its_answer(virtuous: Virtuous, case: str) -> None:
    request, body, headers, status, shown = REQUESTS[case]
    pair = virtuous.issue_pair()
    named = {name: value.format(access=pair["access_token"]) for name, value in headers.items()}
    answer = ask(virtuous, request, body.replace("{refresh}", str(pair["refresh_token"])), named)
    assert (answer[0], shown in answer[1]) == (status, True)
    assert virtuous.generation == (2 if "-2-" in shown else 1)


def test_a_good_answer_has_the_documented_keys_and_as_many_seconds_as_its_dates(virtuous: Virtuous) -> None:
    answer = json.loads(ask(virtuous, TOKEN, LOGIN)[1])
    assert {answer.pop("access_token")} == virtuous.live_access_tokens
    assert answer == {
        "token_type": "bearer",
        "expires_in": 1_295_999,
        "refresh_token": virtuous.live_refresh_token,
        "userName": "a+b@example.org",
        "twoFactorEnabled": "False",
        ".issued": "Wed, 25 Nov 2026 10:00:00 GMT",
        ".expires": "Thu, 10 Dec 2026 09:59:59 GMT",
    }


def test_a_two_factor_login_needs_the_code_and_no_secret_is_shown(virtuous: Virtuous) -> None:
    virtuous.two_factor = True
    codes = "", "&otp=1", f"&otp={virtuous.one_time_code}"
    assert [ask(virtuous, TOKEN, LOGIN + code)[0] for code in codes] == [202, 400, 200]
    issued = {ODD, virtuous.one_time_code, *virtuous.live_access_tokens, *virtuous.live_refresh_tokens}
    assert {secret.partition("-")[0] for secret in virtuous.secrets() - issued} == {"cookie"}
    shown = f"{virtuous.requests} {virtuous.events} {virtuous}"
    assert "/Token" in shown
    assert not [secret for secret in virtuous.secrets() if secret in shown]


# Each step, what a client gets of a refresh, and whether the refresh was granted.
STEPS: dict[str, tuple[Step, object, bool]] = {
    "another answer in place of a grant": (fake.reply(502, "[]", granted=True), (502, []), True),
    "another answer and no grant": (fake.reply(503), (503, None), False),
    "a close after the grant": (fake.answer_lost("closed"), http.client.RemoteDisconnected, True),
    "a reset after the grant": (fake.answer_lost("reset"), ConnectionResetError, True),
    "silence after the grant": (fake.answer_lost("hang"), TimeoutError, True),
    "shorter than announced": (fake.truncated(), http.client.IncompleteRead, True),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_step_changes_one_exchange(virtuous: Virtuous, case: str) -> None:
    step, expected, granted = STEPS[case]
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.script_organization(fake.denied())  # waits for its own kind of call
    virtuous.script(step)
    if isinstance(expected, type):
        with pytest.raises(expected):
            refresh(virtuous, token, seconds=0.2 if expected is TimeoutError else 5)
    else:
        assert refresh(virtuous, token) == expected
    assert (virtuous.generation, virtuous.live_refresh_token == token) == (2 if granted else 1, not granted)
    assert refresh(virtuous, token)[0] == (400 if granted else 200)
