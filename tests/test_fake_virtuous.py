"""The stand-in for Virtuous judges the product, so it is judged first, with the standard library's client."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.fakes import virtuous as fake
from tests.fakes.one_bearer import EpochClock
from tests.fakes.virtuous import Rotation, Step, Virtuous

FORM = "application/x-www-form-urlencoded"
LOGIN = "grant_type=password&username={user}&password={password}"
REFRESH = "grant_type=refresh_token&refresh_token={refresh}"
CURRENT = "GET /api/Organization/Current"
ODD = "p+w a&b=c%2B Zoë \N{WINKING FACE} "  # what a form escapes, and what is escaped already


@pytest.fixture
def virtuous() -> Iterator[Virtuous]:
    with Virtuous(users={"a+b@example.org": ODD}, now=EpochClock()) as running:
        yield running


def ask(
    virtuous: Virtuous, request: str, body: str = "", named: dict[str, str] | None = None, seconds: float = 5
) -> tuple[int, str]:
    """Status and body of the answer to one request on a connection of its own; *named* are its headers."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", virtuous.port, timeout=seconds)) as connection:
        method, path = request.split()
        connection.request(method, path, body, {"Content-Type": FORM} | (named or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def post(virtuous: Virtuous, token: object = None, seconds: float = 5, more: str = "") -> tuple[int, Any]:
    """A refresh with *token*, without one a login; status and JSON of the answer."""
    login = LOGIN.format(user=quote_plus(virtuous.user), password=quote_plus(virtuous.password)) + more
    body = REFRESH.format(refresh=token) if token else login
    status, text = ask(virtuous, "POST /Token", body, seconds=seconds)
    return status, json.loads(text or "null")


def show(virtuous: Virtuous, token: object) -> int:
    return ask(virtuous, CURRENT, named={"Authorization": f"Bearer {token}"})[0]


REQUESTS: dict[str, tuple[str, str, dict[str, str], int, str]] = {
    "a login": ("POST /Token", LOGIN, {}, 200, '"access_token": "access-2-'),
    "a refresh": ("POST /Token", REFRESH, {}, 200, '"refresh_token": "refresh-2-'),
    "a wrong password": ("POST /Token", LOGIN + "x", {}, 400, "The user name or password is incorrect."),
    "an unknown refresh token": ("POST /Token", REFRESH + "x", {}, 400, '{"error": "invalid_grant"}'),
    "multipart": ("POST /Token", LOGIN, {"Content-Type": "multipart/form-data; boundary=x"}, 415, "invalid_request"),
    "another path": ("POST /api/Token", LOGIN, {}, 404, ""),
    "a live token": (CURRENT, "", {"Authorization": "Bearer {access}"}, 200, '"organizationUserId": 4711'),
    "a token in quotes": (CURRENT, "", {"Authorization": 'Bearer "{access}"'}, 401, "Authorization has been denied"),
    "no header": (CURRENT, "", {}, 401, "Authorization has been denied"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_has_its_answer(virtuous: Virtuous, case: str) -> None:
    request, body, headers, status, shown = REQUESTS[case]
    pair = virtuous.issue_pair()
    words = {"user": quote_plus(virtuous.user), "password": quote_plus(ODD)}
    words |= {"access": str(pair["access_token"]), "refresh": str(pair["refresh_token"])}
    named = {name: value.format(**words) for name, value in headers.items()}
    answer = ask(virtuous, request, body.format(**words), named)
    assert (answer[0], shown in answer[1]) == (status, True)
    assert virtuous.generation == (2 if "-2-" in shown else 1)


def test_a_good_answer_has_the_documented_keys_and_as_many_seconds_as_its_dates(virtuous: Virtuous) -> None:
    _, answer = post(virtuous)
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


@pytest.mark.parametrize(
    ("rotation", "is_given", "again"), [("strict", True, 400), ("reusable", True, 200), ("none", False, 200)]
)
def test_a_refresh_token_works_once_or_on_and_on(rotation: Rotation, is_given: bool, again: int) -> None:
    with Virtuous(rotation=rotation) as virtuous:
        token = virtuous.issue_pair()["refresh_token"]
        status, answer = post(virtuous, token)
        assert (status, "refresh_token" in answer, post(virtuous, token)[0]) == (200, is_given, again)


def test_of_eight_refreshes_at_once_one_is_granted() -> None:
    def now() -> float:
        time.sleep(0.001)  # lets the other threads in, between the look at a token and its use
        return time.time()

    with Virtuous(now=now) as virtuous, ThreadPoolExecutor(8) as pool:
        token = virtuous.issue_pair()["refresh_token"]
        assert sorted(pool.map(lambda _: post(virtuous, token)[0], range(8))) == [200] + [400] * 7
        assert virtuous.state() == {"refreshes": {"accepted": 1, "refused": 7}}


def test_a_two_factor_login_needs_the_code_sent_last_and_once(virtuous: Virtuous) -> None:
    virtuous.two_factor = True
    status, answer = post(virtuous)
    first = virtuous.last_code
    assert (status, answer["error"], post(virtuous)[0], virtuous.codes_sent) == (202, "awaiting_verification", 202, 2)
    codes = [first, virtuous.last_code, virtuous.last_code]
    assert [post(virtuous, more=f"&otp={code}")[0] for code in codes] == [400, 200, 400]
    assert post(virtuous, virtuous.live_refresh_token)[1]["twoFactorEnabled"] == "True"
    assert virtuous.codes_sent == 2


def test_a_replaced_access_token_is_valid_to_its_own_end_unless_it_is_revoked(virtuous: Virtuous) -> None:
    clock: Any = virtuous._now
    pair = virtuous.issue_pair()
    clock.now += 1_000_000
    new = post(virtuous, pair["refresh_token"])[1]["access_token"]
    assert [show(virtuous, token) for token in (pair["access_token"], new)] == [200, 200]
    clock.now += 295_999
    assert [show(virtuous, token) for token in (pair["access_token"], new)] == [401, 200]
    virtuous.revoke_access_tokens()
    assert show(virtuous, new) == 401
    clock.now += 365 * 86_400
    assert virtuous.live_refresh_token is None


# Each step, what a client gets of a refresh, and whether the refresh was granted.
STEPS: dict[str, tuple[Step, object, bool]] = {
    "another answer in place of a grant": (fake.reply(502, "[]", granted=True), (502, []), True),
    "another field": (fake.rewrite(lambda _: b"{}") | fake.answer(scope="all"), (200, {"scope": "all"}), True),
    "the right one of two": (fake.reply(502, granted=True) | fake.reply(503), (503, None), False),
    "a close after the grant": (fake.answer_lost("closed"), http.client.RemoteDisconnected, True),
    "silence after the grant": (fake.answer_lost("hang"), TimeoutError, True),
    "a reset before the grant": (fake.unprocessed("reset"), ConnectionResetError, False),
    "shorter than announced": (fake.truncated(), http.client.IncompleteRead, True),
    "later than the client waits": (fake.late(60), TimeoutError, True),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_step_changes_one_exchange(virtuous: Virtuous, case: str) -> None:
    step, expected, granted = STEPS[case]
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.script_organization(fake.denied())  # waits for its own kind of call
    virtuous.script(step)
    if isinstance(expected, type):
        with pytest.raises(expected):
            post(virtuous, token, seconds=0.2 if expected is TimeoutError else 5)
    else:
        assert post(virtuous, token) == expected
    assert (virtuous.generation, virtuous.live_refresh_token == token) == (2 if granted else 1, not granted)
    assert post(virtuous, token)[0] == (400 if granted else 200)
    sent = [(event.call, event.generation_sent) for event in virtuous.events]
    assert sent == [("refresh_token", 1)] * 2


@pytest.mark.parametrize("step", [fake.late(60), fake.drip(60), fake.endless(), fake.answer_lost("hang"), None])
def test_closing_ends_what_is_in_flight_and_leaves_no_thread(step: Step | None) -> None:
    """The last is held; another request passes meanwhile."""
    before, virtuous, reached = set(threading.enumerate()), Virtuous(), threading.Event()
    arrives = fake.hook(lambda _: reached.set(), after_grant=True)
    virtuous.script(arrives | (step or virtuous.hold(after_grant=True).step))
    with ThreadPoolExecutor(1) as pool, socket.create_connection(("127.0.0.1", virtuous.port)):  # the latter is idle
        pool.submit(post, virtuous, seconds=60)
        assert reached.wait(5)
        assert (virtuous.generation, post(virtuous)[0]) == (1, 200)
        virtuous.close()
    assert set(threading.enumerate()) == before


def test_it_knows_every_secret_it_issued_and_shows_none(virtuous: Virtuous) -> None:
    virtuous.two_factor = True
    post(virtuous)
    _, answer = post(virtuous, more=f"&otp={virtuous.last_code}")
    issued = {ODD, virtuous.last_code, answer["access_token"], answer["refresh_token"]}
    assert virtuous.secrets() > issued
    assert {secret.partition("-")[0] for secret in virtuous.secrets() - issued} == {"cookie"}
    shown = f"{virtuous.requests} {virtuous.events} {virtuous}"
    assert "/Token" in shown
    assert [secret for secret in virtuous.secrets() if secret in shown] == []
