"""The stand-in for Virtuous judges the product, so it is judged first, with the standard library's client."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.fakes.one_bearer import EpochClock
from tests.fakes.virtuous import (
    Step,
    Virtuous,
    answer,
    answer_lost,
    bad_gateway,
    code_needed,
    date,
    denied,
    drip,
    endless,
    headers,
    hook,
    late,
    raw,
    redirect,
    refused,
    reply,
    rewrite,
    throttled,
    truncated,
    unprocessed,
)

FORM = "application/x-www-form-urlencoded"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Heard:
    """What a client heard."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def send(
    virtuous: Virtuous,
    method: str,
    path: str,
    body: bytes | str | None = None,
    *,
    timeout_seconds: float = 5,
    **named: str,
) -> Heard:
    """One request on a connection of its own; *named* are its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", virtuous.port, timeout=timeout_seconds)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in named.items()})
        response = connection.getresponse()
        return Heard(response.status, response.headers, response.read())
    finally:
        connection.close()


def post(virtuous: Virtuous, fields: Mapping[str, str], timeout_seconds: float = 5) -> Heard:
    return send(virtuous, "POST", "/Token", urlencode(fields), timeout_seconds=timeout_seconds, Content_Type=FORM)


def log_in(virtuous: Virtuous, **more: str) -> Heard:
    login = {"grant_type": "password", "username": virtuous.user, "password": virtuous.password}
    return post(virtuous, login | more)


def refresh(virtuous: Virtuous, token: object, timeout_seconds: float = 5) -> Heard:
    return post(virtuous, {"grant_type": "refresh_token", "refresh_token": str(token)}, timeout_seconds)


def ask(virtuous: Virtuous, authorization: str) -> Heard:
    return send(virtuous, "GET", "/api/Organization/Current", Authorization=authorization)


@pytest.fixture
def virtuous() -> Iterator[Virtuous]:
    with Virtuous() as running:
        yield running


# Grants


def test_a_login_is_answered_as_virtuous_does(virtuous: Virtuous) -> None:
    heard = log_in(virtuous)
    content = heard.json()
    assert heard.status == 200
    assert heard.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert "Set-Cookie" in heard.headers
    assert re.fullmatch(r"access-1-[0-9a-f]{16}", content["access_token"])
    assert re.fullmatch(r"refresh-1-[0-9a-f]{16}", content["refresh_token"])
    assert list(content) == [
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "userName",
        "twoFactorEnabled",
        ".issued",
        ".expires",
    ]
    assert (content["token_type"], content["userName"], content["twoFactorEnabled"]) == (
        "bearer",
        "me@example.org",
        "False",
    )


def test_the_dates_of_an_answer_are_gmt_and_as_far_apart_as_the_token_lives() -> None:
    clock = EpochClock()
    with Virtuous(token_life_seconds=3599, now=clock) as virtuous:
        heard = log_in(virtuous)
    issued, expires = (parsedate_to_datetime(heard.json()[key]) for key in (".issued", ".expires"))
    assert heard.json()[".issued"].endswith(" GMT")
    assert issued.timestamp() == clock.now == parsedate_to_datetime(heard.headers["Date"]).timestamp()
    assert expires - issued == timedelta(seconds=3599)
    assert heard.json()["expires_in"] == 3599


def test_under_strict_rotation_a_refresh_token_works_once(virtuous: Virtuous) -> None:
    first = virtuous.issue_pair()
    second = refresh(virtuous, first["refresh_token"])
    again = refresh(virtuous, first["refresh_token"])
    assert (second.status, second.json()["refresh_token"]) == (200, virtuous.live_refresh_token)
    assert (again.status, again.json()) == (400, {"error": "invalid_grant"})
    assert refresh(virtuous, second.json()["refresh_token"]).status == 200
    assert virtuous.generation == 3


def test_a_reusable_refresh_token_goes_on_working_beside_its_successor() -> None:
    with Virtuous(rotation="reusable") as virtuous:
        first = virtuous.issue_pair()
        second = refresh(virtuous, first["refresh_token"])
        assert second.json()["refresh_token"] != first["refresh_token"]
        assert refresh(virtuous, first["refresh_token"]).status == 200
        assert refresh(virtuous, second.json()["refresh_token"]).status == 200


def test_without_rotation_a_refresh_names_no_refresh_token() -> None:
    with Virtuous(rotation="none") as virtuous:
        first = log_in(virtuous).json()
        second = refresh(virtuous, first["refresh_token"])
        assert second.status == 200
        assert "refresh_token" not in second.json()
        assert second.json()["access_token"] != first["access_token"]
        assert refresh(virtuous, first["refresh_token"]).status == 200


def test_of_eight_refreshes_at_once_one_is_granted() -> None:
    def now() -> float:
        time.sleep(0.001)  # lets the other threads in, between the look at a token and its use
        return time.time()

    with Virtuous(now=now) as virtuous:
        token = virtuous.issue_pair()["refresh_token"]
        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(lambda _: refresh(virtuous, token).status, range(8)))
        assert statuses == [200] + [400] * 7
        assert len(virtuous.token_requests) == 8


def test_one_users_refresh_leaves_anothers_token_alone() -> None:
    with Virtuous(users={"ann@example.org": "a", "bob@example.org": "b"}) as virtuous:
        ann, bob = virtuous.issue_pair(), virtuous.issue_pair("bob@example.org")
        assert refresh(virtuous, ann["refresh_token"]).json()["userName"] == "ann@example.org"
        assert refresh(virtuous, bob["refresh_token"]).json()["userName"] == "bob@example.org"


def test_a_refresh_token_ends_after_its_life() -> None:
    clock = EpochClock()
    with Virtuous(refresh_token_life_seconds=100, now=clock) as virtuous:
        token = virtuous.issue_pair()["refresh_token"]
        clock.now += 100
        assert refresh(virtuous, token).json() == {"error": "invalid_grant"}
        assert virtuous.live_refresh_token is None


def test_a_revoked_refresh_token_is_refused(virtuous: Virtuous) -> None:
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.revoke_refresh_token()
    assert refresh(virtuous, token).status == 400


@pytest.mark.parametrize(
    "password",
    [
        pytest.param("p+w", id="a plus"),
        pytest.param("a&b=c%d;e", id="the characters of a form"),
        pytest.param("%2B", id="something that is percent-encoded already"),
        pytest.param("  spaces at both ends ", id="spaces"),
        pytest.param("Zoë \N{WINKING FACE}", id="an accent and an emoji"),
    ],
)
def test_a_password_is_decoded_once(password: str) -> None:
    with Virtuous(users={"a+b@example.org": password}) as virtuous:
        assert log_in(virtuous).status == 200
        assert virtuous.requests[0].form() == {
            "grant_type": "password",
            "username": "a+b@example.org",
            "password": password,
        }


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param(
            {"grant_type": "password", "username": "me@example.org", "password": "x"}, "invalid_grant", id="password"
        ),
        pytest.param(
            {"grant_type": "password", "username": "you@example.org", "password": "x"}, "invalid_grant", id="user"
        ),
        pytest.param({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant", id="refresh token"),
        pytest.param({"grant_type": "refresh_token"}, "invalid_grant", id="no refresh token"),
        pytest.param({"grant_type": "client_credentials"}, "unsupported_grant_type", id="type of grant"),
        pytest.param({"username": "me@example.org"}, "unsupported_grant_type", id="no type of grant"),
    ],
)
def test_a_wrong_request_is_refused_with_its_error(virtuous: Virtuous, fields: dict[str, str], error: str) -> None:
    heard = post(virtuous, fields)
    assert (heard.status, heard.json()["error"]) == (400, error)
    assert virtuous.generation == 0


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        pytest.param("multipart/form-data; boundary=x", "--x--", 415, id="multipart"),
        pytest.param("application/json", "{}", 415, id="JSON"),
        pytest.param("", "grant_type=password", 415, id="no content type"),
        pytest.param(FORM, "no form", 400, id="not a form"),
        pytest.param(FORM, "grant_type=password&password=a&password=b", 400, id="a field named twice"),
        pytest.param(FORM, "grant_type=password&password=%FF", 400, id="not UTF-8"),
        pytest.param(FORM, "grant_type=password&password=é".encode(), 400, id="not percent-encoded"),
    ],
)
def test_a_body_that_is_no_proper_form_is_refused(
    virtuous: Virtuous, content_type: str, body: str | bytes, status: int
) -> None:
    heard = send(virtuous, "POST", "/Token", body, Content_Type=content_type)
    assert (heard.status, heard.json()) == (status, {"error": "invalid_request"})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("POST", "/token", 404, id="other case"),
        pytest.param("POST", "/api/Token", 404, id="under api"),
        pytest.param("POST", "/Token?grant_type=password", 404, id="fields in the address"),
        pytest.param("GET", "/", 404, id="root"),
        pytest.param("GET", "/Token", 405, id="token by GET"),
        pytest.param("POST", "/api/Organization/Current", 405, id="organisation by POST"),
    ],
)
def test_other_paths_and_methods_are_not_served(virtuous: Virtuous, method: str, path: str, status: int) -> None:
    body = f"grant_type=password&username={virtuous.user}&password={virtuous.password}" if method == "POST" else None
    assert send(virtuous, method, path, body, Content_Type=FORM).status == status
    assert virtuous.generation == 0


# One-time codes


def test_a_two_factor_login_needs_the_code_that_was_sent() -> None:
    with Virtuous(two_factor=True) as virtuous:
        asked = log_in(virtuous)
        assert (asked.status, asked.json()["error"]) == (202, "awaiting_verification")
        assert (virtuous.codes_sent, virtuous.generation) == (1, 0)
        assert log_in(virtuous, otp="nonsense").json()["error"] == "invalid_grant"
        granted = log_in(virtuous, otp=virtuous.last_code)
        assert (granted.status, granted.json()["twoFactorEnabled"]) == (200, "True")
        assert virtuous.codes_sent == 1


def test_a_code_works_once_and_a_newer_one_replaces_it() -> None:
    with Virtuous(two_factor=True) as virtuous:
        log_in(virtuous)
        first = virtuous.last_code
        log_in(virtuous)
        assert virtuous.codes_sent == 2
        assert log_in(virtuous, otp=first).status == 400
        assert log_in(virtuous, otp=virtuous.last_code).status == 200
        assert log_in(virtuous, otp=virtuous.last_code).status == 400


def test_a_wrong_password_sends_no_code() -> None:
    with Virtuous(two_factor=True) as virtuous:
        wrong = {"grant_type": "password", "username": virtuous.user, "password": "wrong"}
        assert post(virtuous, wrong).status == 400
        assert virtuous.codes_sent == 0


def test_a_refresh_asks_for_no_code() -> None:
    with Virtuous(two_factor=True) as virtuous:
        assert refresh(virtuous, virtuous.issue_pair()["refresh_token"]).status == 200
        assert virtuous.codes_sent == 0


# The organisation


def test_a_good_token_is_told_its_organisation(virtuous: Virtuous) -> None:
    heard = ask(virtuous, f"Bearer {virtuous.issue_pair()['access_token']}")
    assert heard.status == 200
    assert heard.json() == {
        "organizationUserId": 4711,
        "organizationName": "Example Relief",
        "organizationTimeZone": "Eastern Standard Time",
        "isAdministrator": True,
        "isEnabled": True,
    }
    assert len(virtuous.organization_requests) == 1


@pytest.mark.parametrize(
    "form",
    [
        pytest.param('Bearer "{}"', id="quotes"),
        pytest.param("Bearer  {}", id="two spaces"),
        pytest.param("bearer {}", id="lower case"),
        pytest.param("Bearer {} ", id="a space behind"),
        pytest.param("{}", id="no scheme"),
        pytest.param("Basic {}", id="another scheme"),
        pytest.param("Bearer x{}", id="another token"),
    ],
)
def test_any_other_form_of_the_header_is_denied(virtuous: Virtuous, form: str) -> None:
    heard = ask(virtuous, form.format(virtuous.issue_pair()["access_token"]))
    assert (heard.status, heard.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert heard.json() == {"message": "Authorization has been denied for this request."}


def test_no_header_and_two_headers_are_denied(virtuous: Virtuous) -> None:
    assert send(virtuous, "GET", "/api/Organization/Current").status == 401
    line = f"Authorization: Bearer {virtuous.issue_pair()['access_token']}\r\n"
    with socket.create_connection(("127.0.0.1", virtuous.port), timeout=5) as connection:
        connection.sendall(f"GET /api/Organization/Current HTTP/1.1\r\nHost: x\r\n{line}{line}\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_denial_can_be_plain_text() -> None:
    with Virtuous(denied_as="text") as virtuous:
        heard = ask(virtuous, "Bearer nothing")
    assert (heard.status, heard.body) == (401, b"Authorization has been denied for this request.")
    assert (heard.headers["Content-Type"], heard.headers["WWW-Authenticate"]) == ("text/plain", "Bearer")


def test_a_replaced_access_token_is_valid_to_its_own_end() -> None:
    clock = EpochClock()
    with Virtuous(token_life_seconds=100, now=clock) as virtuous:
        old = virtuous.issue_pair()
        clock.now += 60
        new = refresh(virtuous, old["refresh_token"]).json()
        assert virtuous.live_access_tokens == {old["access_token"], new["access_token"]}
        clock.now += 39
        assert ask(virtuous, f"Bearer {old['access_token']}").status == 200
        clock.now += 1
        assert ask(virtuous, f"Bearer {old['access_token']}").status == 401
        assert ask(virtuous, f"Bearer {new['access_token']}").status == 200


def test_a_revoked_access_token_is_denied_and_a_later_one_is_not(virtuous: Virtuous) -> None:
    old = virtuous.issue_pair()
    virtuous.revoke_access_tokens()
    new = refresh(virtuous, old["refresh_token"]).json()
    assert ask(virtuous, f"Bearer {old['access_token']}").status == 401
    assert ask(virtuous, f"Bearer {new['access_token']}").status == 200


def test_the_organisation_can_be_switched_and_disabled(virtuous: Virtuous) -> None:
    header = f"Bearer {virtuous.issue_pair()['access_token']}"
    virtuous.switch_organization("99", "Other Relief")
    virtuous.disable_organization()
    content = ask(virtuous, header).json()
    assert (content["organizationUserId"], content["organizationName"]) == ("99", "Other Relief")
    assert content["isEnabled"] is False


# Steps whose answer arrives


def test_steps_are_taken_in_order_and_then_all_is_normal(virtuous: Virtuous) -> None:
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.script(reply(503), throttled(847))
    assert [refresh(virtuous, token).status for _ in range(4)] == [503, 429, 200, 400]


def test_a_step_waits_for_its_own_kind_of_call(virtuous: Virtuous) -> None:
    virtuous.script(reply(503))
    virtuous.script_organization(reply(520))
    assert send(virtuous, "GET", "/Token").status == 405
    assert ask(virtuous, "Bearer x").status == 520
    assert ask(virtuous, "Bearer x").status == 401
    assert log_in(virtuous).status == 503


@pytest.mark.parametrize(
    ("step", "status", "body"),
    [
        pytest.param(reply(520), 520, b"", id="any status"),
        pytest.param(reply(200, b"\xff\x00"), 200, b"\xff\x00", id="any body"),
        pytest.param(reply(200, "é"), 200, "é".encode(), id="text is UTF-8"),
        pytest.param(refused("invalid_request", 401), 401, b'{"error": "invalid_request"}', id="refused"),
        pytest.param(throttled(), 429, b"", id="throttled"),
        pytest.param(code_needed(), 202, b'{"error": "awaiting_verification"}', id="a code is needed"),
    ],
)
def test_an_answer_in_place_of_the_normal_one_grants_nothing(
    virtuous: Virtuous, step: Step, status: int, body: bytes
) -> None:
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.script(step)
    heard = refresh(virtuous, token)
    assert (heard.status, heard.body) == (status, body)
    assert (virtuous.generation, virtuous.live_refresh_token) == (1, token)


def test_an_answer_in_place_of_the_normal_one_can_hide_a_grant(virtuous: Virtuous) -> None:
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.script(bad_gateway(granted=True))
    heard = refresh(virtuous, token)
    assert (heard.status, heard.headers["Content-Type"]) == (502, "text/html")
    assert b"<html>" in heard.body
    assert virtuous.generation == 2
    assert virtuous.live_refresh_token != token


def test_a_reply_brings_its_headers(virtuous: Virtuous) -> None:
    virtuous.script(reply(429, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), throttled(847))
    assert log_in(virtuous).headers["Retry-After"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    assert log_in(virtuous).headers["Retry-After"] == "847"


@pytest.mark.parametrize("status", [302, 303, 307, 308])
def test_a_redirect_names_another_address(virtuous: Virtuous, status: int) -> None:
    virtuous.script(redirect("http://127.0.0.1:9/Token", status))
    heard = log_in(virtuous)
    assert (heard.status, heard.headers["Location"]) == (status, "http://127.0.0.1:9/Token")
    assert virtuous.generation == 0


def test_fields_of_a_good_answer_can_be_changed_added_and_dropped(virtuous: Virtuous) -> None:
    virtuous.script(answer(expires_in="soon", refresh_token=None, scope="all", drop=(".expires",)))
    content = log_in(virtuous).json()
    assert (content["expires_in"], content["refresh_token"], content["scope"]) == ("soon", None, "all")
    assert ".expires" not in content
    assert content["access_token"] in virtuous.live_access_tokens
    assert virtuous.live_refresh_token is not None


def test_an_undeserved_answer_is_not_dressed_up(virtuous: Virtuous) -> None:
    virtuous.script(answer(expires_in=1))
    assert refresh(virtuous, "nonsense").json() == {"error": "invalid_grant"}


def test_the_body_of_a_good_answer_can_be_rewritten(virtuous: Virtuous) -> None:
    virtuous.script(rewrite(lambda body: b"\xef\xbb\xbf" + body))
    assert log_in(virtuous).body.startswith(b'\xef\xbb\xbf{"access_token": "access-1-')


def test_headers_of_a_good_answer_can_be_changed(virtuous: Virtuous) -> None:
    virtuous.script(headers({"content-type": "text/html", "Set-Cookie": None, "X-New": "1"}))
    heard = log_in(virtuous)
    assert heard.headers.get_all("Content-Type") == ["text/html"]
    assert (heard.headers["Set-Cookie"], heard.headers["X-New"]) == (None, "1")
    assert heard.status == 200


@pytest.mark.parametrize("text", ["Wed, 25 Nov 2026 00:10:00 GMT", "rubbish", None])
def test_the_date_header_can_be_wrong_or_missing(virtuous: Virtuous, text: str | None) -> None:
    virtuous.script(date(text))
    assert log_in(virtuous).headers["Date"] == text


def test_steps_combine(virtuous: Virtuous) -> None:
    seen: list[str] = []
    virtuous.script(hook(lambda request: seen.append(request.path)) | answer(scope="all") | date(None) | drip(0))
    heard = log_in(virtuous)
    assert (heard.json()["scope"], heard.headers["Date"], seen) == ("all", None, ["/Token"])


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(answer_lost("closed") | reply(503), id="a lost answer that is no grant"),
        pytest.param(unprocessed("closed") | late(0), id="an unprocessed request that is late"),
    ],
)
def test_a_combination_grants_only_if_each_part_does(virtuous: Virtuous, step: Step) -> None:
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.script(step)
    with pytest.raises(http.client.RemoteDisconnected):
        refresh(virtuous, token)
    assert virtuous.live_refresh_token == token


def test_where_parts_contradict_each_other_the_right_one_holds(virtuous: Virtuous) -> None:
    virtuous.script(reply(502) | reply(503), answer_lost("closed") | drip(0))
    assert log_in(virtuous).status == 503
    assert log_in(virtuous).status == 200


def test_the_proof_call_can_be_denied_whatever_the_token(virtuous: Virtuous) -> None:
    virtuous.script_organization(denied(), answer(isEnabled="False"))
    header = f"Bearer {virtuous.issue_pair()['access_token']}"
    assert ask(virtuous, header).status == 401
    assert ask(virtuous, header).json()["isEnabled"] == "False"


# Steps whose answer does not arrive, or not as it should


@pytest.mark.parametrize(
    ("step", "fault", "granted"),
    [
        pytest.param(answer_lost("reset"), ConnectionResetError, True, id="reset after the grant"),
        pytest.param(answer_lost("closed"), http.client.RemoteDisconnected, True, id="closed after the grant"),
        pytest.param(answer_lost("hang"), TimeoutError, True, id="hung after the grant"),
        pytest.param(unprocessed("reset"), ConnectionResetError, False, id="reset before the grant"),
        pytest.param(unprocessed("closed"), http.client.RemoteDisconnected, False, id="closed before the grant"),
        pytest.param(unprocessed("hang"), TimeoutError, False, id="hung before the grant"),
        pytest.param(truncated(), http.client.IncompleteRead, True, id="shorter than announced"),
        pytest.param(truncated(chunked=True), http.client.IncompleteRead, True, id="cut off in a chunk"),
        pytest.param(truncated(how="reset"), ConnectionResetError, True, id="reset within the body"),
        pytest.param(truncated(how="hang"), TimeoutError, True, id="stalled within the body"),
        pytest.param(drip(60), TimeoutError, True, id="dripping slower than the client waits"),
        pytest.param(late(60), TimeoutError, True, id="later than the client waits"),
        pytest.param(raw(b"SSH-2.0-OpenSSH\r\n"), http.client.BadStatusLine, False, id="not HTTP"),
        pytest.param(raw(b"\x16\x03", granted=True), http.client.BadStatusLine, True, id="not HTTP after the grant"),
    ],
)
def test_an_answer_gets_lost_after_or_before_the_grant(
    virtuous: Virtuous, step: Step, fault: type[Exception], granted: bool
) -> None:
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.script(step)
    with pytest.raises(fault):
        refresh(virtuous, token, timeout_seconds=0.2 if fault is TimeoutError else 5)
    assert virtuous.generation == (2 if granted else 1)
    assert (virtuous.live_refresh_token == token) is not granted
    assert virtuous.token_requests[0].form()["refresh_token"] == token


def test_a_truncated_body_begins_as_the_whole_one(virtuous: Virtuous) -> None:
    virtuous.script(truncated(20))
    with pytest.raises(http.client.IncompleteRead) as caught:
        log_in(virtuous)
    assert caught.value.partial == b'{"access_token": "ac'


@pytest.mark.parametrize("head", [False, True], ids=["body", "head and body"])
def test_a_dripping_answer_arrives_whole(virtuous: Virtuous, head: bool) -> None:
    virtuous.script(drip(0.001, 8, head=head))
    began = time.monotonic()
    heard = log_in(virtuous)
    assert heard.json()["access_token"] in virtuous.live_access_tokens
    assert time.monotonic() - began > len(heard.body) / 8 * 0.001


def test_an_endless_answer_ends_with_the_clients_patience(virtuous: Virtuous) -> None:
    virtuous.script(endless())
    connection = http.client.HTTPConnection("127.0.0.1", virtuous.port, timeout=5)
    connection.request(
        "POST",
        "/Token",
        urlencode({"grant_type": "password", "username": virtuous.user, "password": virtuous.password}),
        {"Content-Type": FORM},
    )
    response = connection.getresponse()
    assert len(response.read(3_000_000)) == 3_000_000
    response.close()
    connection.close()


def test_a_late_answer_is_granted_before_it_comes(virtuous: Virtuous) -> None:
    held: list[int] = []
    virtuous.script(hook(lambda _: held.append(virtuous.generation), after_grant=True) | late(0.01))
    assert log_in(virtuous).status == 200
    assert held == [1]


# Requests in flight


@pytest.mark.parametrize(("after_grant", "generation"), [(False, 0), (True, 1)], ids=["before", "after"])
def test_a_held_request_lets_others_pass(virtuous: Virtuous, after_grant: bool, generation: int) -> None:
    hold = virtuous.hold(after_grant=after_grant)
    virtuous.script(hold.step)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(log_in, virtuous)
        assert hold.arrived.wait(5)
        assert virtuous.generation == generation
        assert log_in(virtuous).status == 200
        assert not held.done()
        hold.released.set()
        assert held.result().json()["access_token"].startswith(f"access-{2 - generation}-")


def test_a_hook_may_use_the_stand_in(virtuous: Virtuous) -> None:
    token = virtuous.issue_pair()["refresh_token"]
    virtuous.script(hook(lambda _: virtuous.revoke_refresh_token()))
    assert refresh(virtuous, token).status == 400


def idle(virtuous: Virtuous) -> None:
    """A connection on which nothing is asked."""
    with socket.create_connection(("127.0.0.1", virtuous.port), timeout=10) as connection:
        connection.recv(1)


def half(virtuous: Virtuous) -> None:
    """A request whose body never comes."""
    with socket.create_connection(("127.0.0.1", virtuous.port), timeout=10) as connection:
        connection.sendall(b"POST /Token HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        connection.recv(1)


@pytest.mark.parametrize(
    ("step", "client"),
    [
        pytest.param(answer_lost("hang"), log_in, id="hung"),
        pytest.param(late(60), log_in, id="late"),
        pytest.param(drip(60), log_in, id="dripping"),
        pytest.param(endless(), log_in, id="endless"),
        pytest.param(truncated(how="hang"), log_in, id="stalled"),
        pytest.param(None, log_in, id="held"),
        pytest.param(reply(500), half, id="half a request"),
        pytest.param(reply(500), idle, id="an idle connection"),
    ],
)
def test_closing_ends_what_is_in_flight(step: Step | None, client: Callable[[Virtuous], object]) -> None:
    virtuous = Virtuous()
    reached = threading.Event()
    virtuous.script(hook(lambda _: reached.set(), after_grant=True) | (step or virtuous.hold(after_grant=True).step))

    def run() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            client(virtuous)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        if client is log_in:
            assert reached.wait(5)
        else:
            while len(threads_of(virtuous)) < 2:
                time.sleep(0.001)  # until the server has taken the connection, which it does by itself
        began = time.monotonic()
        virtuous.close()
        assert time.monotonic() - began < 2
        running.result(5)
    assert threads_of(virtuous) == []


def threads_of(virtuous: Virtuous) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"virtuous:{virtuous.port}"]


def test_after_its_end_no_thread_and_no_socket_is_left() -> None:
    with Virtuous() as virtuous:
        kept_open = http.client.HTTPConnection("127.0.0.1", virtuous.port, timeout=5)
        kept_open.request("GET", "/")
        kept_open.getresponse().read()
        assert len(threads_of(virtuous)) == 2
    assert threads_of(virtuous) == []
    kept_open.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", virtuous.port), timeout=5)
    virtuous.close()


def test_a_connection_is_kept_while_answers_are_whole(virtuous: Virtuous) -> None:
    virtuous.script(reply(503, "busy"), drip(0), answer(scope="all"))
    connection = http.client.HTTPConnection("127.0.0.1", virtuous.port, timeout=5)
    connection.connect()
    first = connection.sock
    for _ in range(4):
        connection.request("POST", "/Token", "grant_type=x", {"Content-Type": FORM})
        connection.getresponse().read()
        assert connection.sock is first
    connection.close()


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param({"Connection": "close"}, id="no length"),
        pytest.param({"Transfer-Encoding": "chunked"}, id="chunks"),
        pytest.param({"Content-Length": "6"}, id="another length"),
    ],
)
def test_a_reply_with_its_own_framing_is_sent_as_given_and_ends_the_connection(
    virtuous: Virtuous, framing: dict[str, str]
) -> None:
    virtuous.script(reply(503, "6\r\nbroken\r\n0\r\n\r\n", framing))
    with socket.create_connection(("127.0.0.1", virtuous.port), timeout=5) as connection:
        connection.sendall(b"POST /Token HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        with connection.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    assert sorted(line for line in lines if not line.startswith("Date")) == [
        f"{name}: {value}" for name, value in framing.items()
    ]
    assert body == b"6\r\nbroken\r\n0\r\n\r\n"


def test_half_a_request_is_not_processed(virtuous: Virtuous) -> None:
    token = virtuous.issue_pair()["refresh_token"]
    body = f"grant_type=refresh_token&refresh_token={token}"
    with socket.create_connection(("127.0.0.1", virtuous.port), timeout=5) as connection:
        head = f"POST /Token HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(body) + 1}\r\n\r\n"
        connection.sendall((head + body).encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert (virtuous.live_refresh_token, virtuous.requests) == (token, [])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"POST /Token HTTP/1.1\r\nHost: x\r\n\r\n", 411, id="no length"),
        pytest.param(b"POST /Token HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 411, id="no number"),
        pytest.param(b"POST /Token HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n", 413, id="too long"),
    ],
)
def test_a_body_of_no_sensible_length_is_not_read(virtuous: Virtuous, head: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", virtuous.port), timeout=5) as connection:
        connection.sendall(head)
        assert connection.makefile("rb").readline().split()[1] == str(status).encode()
    assert virtuous.requests == []


# Secrets


def test_it_knows_every_secret_it_issued_and_shows_none() -> None:
    with Virtuous(two_factor=True) as virtuous:
        log_in(virtuous)
        code = virtuous.last_code
        heard = log_in(virtuous, otp=code)
        virtuous.script(answer_lost("closed"))
        with pytest.raises(http.client.RemoteDisconnected):
            refresh(virtuous, heard.json()["refresh_token"])
        ask(virtuous, f"Bearer {heard.json()['access_token']}")
        cookie = heard.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
        issued = {virtuous.password, code, cookie, heard.json()["access_token"], heard.json()["refresh_token"]}
        lost = {virtuous.live_refresh_token, *virtuous.live_access_tokens}
        assert virtuous.secrets() >= issued | lost
        shown = f"{virtuous.requests} {virtuous.events} {virtuous}"
        assert "/Token" in shown
        assert [secret for secret in virtuous.secrets() if secret in shown] == []


def test_the_state_counts_refreshes(virtuous: Virtuous) -> None:
    first = log_in(virtuous).json()
    virtuous.script(bad_gateway())
    for _ in range(3):
        refresh(virtuous, first["refresh_token"])
    assert virtuous.state() == {"refreshes": {"accepted": 1, "refused": 1}}
