"""What every answer of Virtuous means: each row of the table, each type of value, and whatever else bytes can be."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from tests.leak_harness import LeakHarness
from tests.seed import SEED
from token_refresher.refresh.model import Answer, Denied, Ending, Granted, NotGranted, Proof, Proved, Unclear
from token_refresher.virtuous.judgement import (
    DENIED,
    LONGEST_LIFE,
    LONGEST_TOKEN,
    OWN_CODE,
    RULES,
    Response,
    Rule,
    deciding_rule,
    judge_proof,
    judge_token,
)
from virtuous_token.secret_text import SecretText

START = datetime(2026, 11, 25, 10, 0, 0, 250_000, tzinfo=UTC)
DAYS_15 = timedelta(seconds=1_295_999)
GOOD: dict[str, Any] = {
    "access_token": "access-2",
    "token_type": "bearer",
    "expires_in": 1_295_999,
    "refresh_token": "refresh-2",
    "userName": "me@example.org",
    "twoFactorEnabled": "False",
    ".issued": "Wed, 25 Nov 2026 10:00:00 GMT",
    ".expires": "Thu, 10 Dec 2026 10:00:00 GMT",
}
HTML = b"<html><body><h1>Sorry</h1></body></html>"


def judged(status: int, body: object = b"", headers: dict[str, str] | None = None, *, complete: bool = True) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge_token(Response(status, headers or {}, content, complete), START)


def granted(*drop: str, **changed: Any) -> Granted:
    """What becomes of the good answer with some keys changed or dropped; ``expires_`` stands for ``.expires``."""
    content = {**GOOD, **{(".expires" if key == "expires_" else key): value for key, value in changed.items()}}
    answer = judged(200, {key: value for key, value in content.items() if key not in drop})
    assert isinstance(answer, Granted)
    return answer


def error(code: object) -> dict[str, object]:
    return {"error": code, "error_description": "the password hunter2 is wrong"}


KNOWN_CODES = {
    "awaiting_verification",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
}

WORDS = "Authorization has been denied for this request."
# What says nothing of a credential, because Virtuous did not write it.
IN_BETWEEN: list[object] = [
    b"",
    HTML,
    b"<html><title>Just a moment...</title></html>",
    f"<html>{WORDS}</html>".encode(),
    b"Unauthorized",
    b"no",
    {"message": "Forbidden"},
    {"message": "Unauthorized"},
    {"message": None},
    {"error": {"code": "invalid_grant", "message": WORDS}},
    {"error": "Unauthorized", "status": 401, "path": "/Token"},
    {"error": ""},
    [WORDS],
]


def refused(reason: str) -> NotGranted:
    return NotGranted(Ending.REFUSED, reason)


# The table: row, status, body, verdict.
CODE, NO_TOKEN = "one-time code needed", "HTTP 200 without a usable token"
ROWS = [
    *(
        pytest.param(row, status, body, NotGranted(ending, reason), id=name)
        for name, row, status, body, ending, reason in (
            ("202 with its word", "one-time code sent", 202, error("awaiting_verification"), Ending.CODE_NEEDED, CODE),
            ("202 without a body", "one-time code sent", 202, b"", Ending.CODE_NEEDED, CODE),
            ("202 is no success even with tokens in it", "one-time code sent", 202, GOOD, Ending.CODE_NEEDED, CODE),
            ("429", "rate limit", 429, b"", Ending.THROTTLED, "HTTP 429"),
            ("429 with a code", "rate limit", 429, error("invalid_grant"), Ending.THROTTLED, "HTTP 429"),
            ("503 in HTML", "not served yet", 503, HTML, Ending.UNREACHABLE, "HTTP 503"),
            ("408, the request did not arrive whole", "not served yet", 408, b"", Ending.UNREACHABLE, "HTTP 408"),
            ("425, too early", "not served yet", 425, b"", Ending.UNREACHABLE, "HTTP 425"),
            ("500 with a code", "trouble behind the server", 500, error("invalid_grant"), Ending.UNKNOWN, "HTTP 500"),
            ("502 in HTML from a proxy", "trouble behind the server", 502, HTML, Ending.UNKNOWN, "HTTP 502"),
            ("504", "trouble behind the server", 504, b"", Ending.UNKNOWN, "HTTP 504"),
            ("520 from the CDN", "trouble behind the server", 520, b"", Ending.UNKNOWN, "HTTP 520"),
            ("302", "redirect", 302, HTML, Ending.MISCONFIGURED, "HTTP 302"),
            ("307", "redirect", 307, GOOD, Ending.MISCONFIGURED, "HTTP 307"),
            ("201 with tokens", "another success", 201, GOOD, Ending.UNKNOWN, "HTTP 201"),
            ("204", "another success", 204, b"", Ending.UNKNOWN, "HTTP 204"),
            ("400 invalid_grant", "refusing code", 400, error("invalid_grant"), Ending.REFUSED, "invalid_grant"),
            ("400 invalid_request", "refusing code", 400, error("invalid_request"), Ending.REFUSED, "invalid_request"),
            ("an error in a 200", "refusing code", 200, error("invalid_grant"), Ending.REFUSED, "invalid_grant"),
            ("403 invalid_grant", "refusing code", 403, error("invalid_grant"), Ending.REFUSED, "invalid_grant"),
            ("no client", "configuration code", 400, error("invalid_client"), Ending.MISCONFIGURED, "invalid_client"),
            ("401 client", "configuration code", 401, error("invalid_client"), Ending.MISCONFIGURED, "invalid_client"),
            (
                "client",
                "configuration code",
                400,
                error("unauthorized_client"),
                Ending.MISCONFIGURED,
                "unauthorized_client",
            ),
            (
                "wrong grant type",
                "configuration code",
                400,
                error("unsupported_grant_type"),
                Ending.MISCONFIGURED,
                "unsupported_grant_type",
            ),
            ("wrong scope", "configuration code", 400, error("invalid_scope"), Ending.MISCONFIGURED, "invalid_scope"),
            (
                "a code asked for with 400",
                "code asked for in an error",
                400,
                error("awaiting_verification"),
                Ending.CODE_NEEDED,
                CODE,
            ),
            (
                "busy, said with 400",
                "busy code",
                400,
                error("temporarily_unavailable"),
                Ending.UNREACHABLE,
                "temporarily_unavailable",
            ),
            ("200, empty", "200 without a usable token", 200, {}, Ending.UNKNOWN, NO_TOKEN),
            ("200 in HTML", "200 without a usable token", 200, HTML, Ending.UNKNOWN, NO_TOKEN),
            (
                "200 with empty tokens",
                "200 without a usable token",
                200,
                GOOD | {"access_token": None, "refresh_token": ""},
                Ending.UNKNOWN,
                NO_TOKEN,
            ),
            ("200, list", "200 without a usable token", 200, [GOOD], Ending.UNKNOWN, NO_TOKEN),
            ("404 in HTML", "any other 4xx", 404, HTML, Ending.MISCONFIGURED, "HTTP 404"),
            ("405", "any other 4xx", 405, b"", Ending.MISCONFIGURED, "HTTP 405"),
            ("415", "any other 4xx", 415, error("multipart"), Ending.MISCONFIGURED, "HTTP 415"),
            ("101", "no status of HTTP", 101, b"", Ending.UNKNOWN, "HTTP 101"),
            ("999", "no status of HTTP", 999, GOOD, Ending.UNKNOWN, "HTTP 999"),
        )
    ),
    *(
        pytest.param("code of its own", status, error("token_too_old"), refused(f"HTTP {status}"), id=f"{status} code")
        for status in (400, 401)
    ),
    *(
        pytest.param("denied", 401, body, refused("HTTP 401"), id=f"401 in Virtuous's words: {body!r}")
        for body in ({"message": WORDS}, WORDS.encode(), json.dumps(WORDS).encode())
    ),
    *(
        pytest.param(
            "any other 4xx",
            status,
            body,
            NotGranted(Ending.MISCONFIGURED, f"HTTP {status}"),
            id=f"{status} of something in between: {body!r}",
        )
        for status in (400, 401, 403)
        for body in IN_BETWEEN
    ),
]


@pytest.mark.parametrize(("row", "status", "body", "verdict"), ROWS)
def test_a_row_of_the_table_decides(row: str, status: int, body: object, verdict: Answer, harness: LeakHarness) -> None:
    harness.secret("hunter2")
    code = body.get("error") if isinstance(body, dict) else ""
    known = {"token_too_old": OWN_CODE}.get(str(code), DENIED if row == "denied" else "")
    assert deciding_rule(status, str(code) if isinstance(code, str) and code in KNOWN_CODES else known).name == row
    assert harness.watch(judged(status, body)) == verdict


def test_every_row_of_the_table_has_a_test() -> None:
    assert {case.values[0] for case in ROWS} == {rule.name for rule in RULES}


def test_the_page_on_the_judgement_names_every_row_in_order_with_its_verdict_and_its_codes() -> None:
    page = (Path(__file__).parents[1] / "docs/decisions/answers.md").read_text()
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| [^|]", line)]
    rows = [(name, verdict, re.findall("`([a-z_]+)`", answer)) for name, answer, verdict, _ in cells[1:]]

    assert rows == [(rule.name, rule.ending.replace("_", " "), codes_on_the_page(rule)) for rule in RULES]


def codes_on_the_page(rule: Rule) -> list[str]:
    return [code for code in rule.codes or () if code not in (OWN_CODE, DENIED)]


def test_every_status_has_a_row() -> None:
    for status in range(1000):
        for code in ("", OWN_CODE, DENIED, "invalid_grant"):
            assert deciding_rule(status, code)


def test_a_good_answer_is_granted() -> None:
    assert granted() == Granted(
        access_token=SecretText("access-2"),
        refresh_token=SecretText("refresh-2"),
        issued_at=START,
        expires_at=START + DAYS_15,
        user_name="me@example.org",
        two_factor_enabled=False,
    )


@pytest.mark.parametrize(
    ("changed", "oddity"),
    [
        pytest.param({"access_token": None}, "access_token is empty", id="null"),
        pytest.param({"access_token": ""}, "access_token is empty", id="empty"),
        pytest.param({"access_token": 12}, "access_token is not a text", id="a number"),
        pytest.param({"access_token": ["access-2"]}, "access_token is not a text", id="a list"),
        pytest.param(
            {"access_token": "access\n2"}, "access_token holds a character that no header may carry", id="\\n"
        ),
        pytest.param({"access_token": '"a"'}, "access_token holds a character that no header may carry", id="quoted"),
        pytest.param({"access_token": "a b"}, "access_token holds a character that no header may carry", id="a space"),
        pytest.param({"access_token": "ä"}, "access_token holds a character that no header may carry", id="an umlaut"),
        pytest.param({"access_token": "\ud800"}, "access_token holds a character that no header may carry", id="half"),
        pytest.param({"access_token": "a" * LONGEST_TOKEN}, "access_token is too long to be stored", id="too long"),
    ],
)
def test_a_new_refresh_token_is_kept_beside_a_useless_access_token(changed: dict[str, Any], oddity: str) -> None:
    answer = granted(**changed)
    assert (answer.access_token, answer.refresh_token) == (None, SecretText("refresh-2"))
    assert answer.oddities == (oddity,)


@pytest.mark.parametrize(
    ("refresh_token", "oddity"),
    [
        pytest.param(None, "refresh_token is empty", id="null"),
        pytest.param("", "refresh_token is empty", id="empty"),
        pytest.param(" ", "refresh_token is blank or holds half a surrogate pair", id="blank"),
        pytest.param(7, "refresh_token is not a text", id="a number"),
        pytest.param("\udfff", "refresh_token is blank or holds half a surrogate pair", id="a lone surrogate"),
        pytest.param("é" * LONGEST_TOKEN, "refresh_token is too long to be stored", id="too long"),
    ],
)
def test_a_useless_refresh_token_is_none_and_named(refresh_token: object, oddity: str) -> None:
    answer = granted(refresh_token=refresh_token)
    assert (answer.access_token, answer.refresh_token) == (SecretText("access-2"), None)
    assert answer.oddities == (oddity,)


def test_a_missing_refresh_token_is_nothing_odd() -> None:
    answer = granted("refresh_token")
    assert (answer.refresh_token, answer.oddities) == (None, ())


def test_a_refresh_token_may_hold_what_no_header_may() -> None:
    assert granted(refresh_token='a "b"\n€').refresh_token == SecretText('a "b"\n€')


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        pytest.param(3599, 3599, id="an integer"),
        pytest.param(3599.9, 3599, id="a fraction is rounded down"),
        pytest.param("3599", 3599, id="a text of a number"),
        pytest.param(" 3599.7 ", 3599, id="a text of a fraction"),
        pytest.param(1, 1, id="one second"),
        pytest.param(10**12, LONGEST_LIFE.total_seconds(), id="beyond every life"),
        pytest.param(10**5000, LONGEST_LIFE.total_seconds(), id="thousands of digits"),
        pytest.param(math.inf, LONGEST_LIFE.total_seconds(), id="Infinity"),
        pytest.param("9" * 400, LONGEST_LIFE.total_seconds(), id="a text beyond every number"),
    ],
)
def test_a_life_is_counted_from_the_start_of_the_request(expires_in: object, seconds: float) -> None:
    body = json.dumps(GOOD | {".expires": None, "expires_in": "?"}).replace('"?"', json_of(expires_in))
    answer = judged(200, body.encode())
    assert isinstance(answer, Granted)
    assert answer.expires_at == START + timedelta(seconds=seconds)


def json_of(value: object) -> str:
    """As json.dumps, but for an integer of any length."""
    return "1" + "0" * 5000 if value == 10**5000 else json.dumps(value)


@pytest.mark.parametrize(
    ("expires_in", "oddity"),
    [
        pytest.param(True, "is unreadable", id="true is no number"),
        pytest.param(False, "is unreadable", id="false"),
        pytest.param(math.nan, "is unreadable", id="NaN"),
        pytest.param("soon", "is unreadable", id="a word"),
        pytest.param("1_000", "is unreadable", id="a Python number"),
        pytest.param("", "is unreadable", id="empty"),
        pytest.param([], "is unreadable", id="a list"),
        pytest.param({"seconds": 1}, "is unreadable", id="an object"),
        pytest.param(0, "is over already", id="zero"),
        pytest.param(0.9, "is over already", id="less than a second"),
        pytest.param(-1, "is over already", id="negative"),
        pytest.param(-math.inf, "is over already", id="minus Infinity"),
        pytest.param("-1e9", "is unreadable", id="a text with an exponent"),
    ],
)
def test_a_useless_expires_in_falls_back_to_the_date(expires_in: object, oddity: str) -> None:
    answer = granted(expires_in=expires_in)
    assert answer.expires_at == datetime(2026, 12, 10, 10, tzinfo=UTC)
    assert answer.oddities == (f"expires_in {oddity}",)
    assert answer.refresh_token == SecretText("refresh-2")


@pytest.mark.parametrize(
    ("expires", "at"),
    [
        pytest.param("Wed, 25 Nov 2026 11:00:00 GMT", 11, id="as Virtuous sends it"),
        pytest.param("Sun, 25 Nov 2026 11:00:00 GMT", 11, id="a wrong weekday"),
        pytest.param("25 Nov 2026 11:00:00", 11, id="neither weekday nor zone"),
        pytest.param("Wed, 25 Nov 2026 13:00:00 +0200", 11, id="another zone"),
        pytest.param("Wed Nov 25 11:00:00 2026", 11, id="as C's asctime writes it"),
        pytest.param("Wednesday, 25-Nov-26 11:00:00 GMT", 11, id="as RFC 850 has it"),
        pytest.param("2026-11-25T11:00:00Z", 11, id="RFC 3339"),
    ],
)
def test_the_earlier_of_two_ends_counts(expires: str, at: int) -> None:
    answer = granted(expires_=expires)
    assert answer.expires_at == datetime(2026, 11, 25, at, tzinfo=UTC)
    assert answer.oddities == ()
    assert granted(expires_in=3599).expires_at == START + timedelta(seconds=3599)


@pytest.mark.parametrize(
    ("expires", "oddity"),
    [
        pytest.param("soon", "is unreadable", id="a word"),
        pytest.param("Thu, 99 Dec 2026 10:00:00 GMT", "is unreadable", id="no day of any month"),
        pytest.param("", "is unreadable", id="empty"),
        *(
            pytest.param(date, "is unreadable", id=date)
            for date in (
                "Mon, 07 Dec 2026 14:30:05 CET",
                "Mon, 07 Dec 2026 02:30:05 PM GMT",
                "Mon, 07 Dec 2026 02:30:05 PM",
                "Mon, 07 Dec 2026 14:30:05 America/New_York",
                "Mon, 07 Dec 2026 14:30:05 +9900",
                "Mon, 07 Dec 2026",
                "2026-12-07",
                "2026-12-07T14:30:05 CET",
                "12/07/2026 14:30:05",
            )
        ),
        pytest.param(1_795_600_000, "is unreadable", id="a number"),
        pytest.param("Tue, 24 Nov 2026 10:00:00 GMT", "is over already", id="yesterday"),
    ],
)
def test_a_useless_date_falls_back_to_expires_in(expires: object, oddity: str) -> None:
    answer = granted(expires_=expires)
    assert answer.expires_at == START + DAYS_15
    assert answer.oddities == (f".expires {oddity}",)


def test_a_life_that_nobody_tells_is_none_and_named() -> None:
    answer = granted(".expires", "expires_in")
    assert answer.expires_at is None
    assert answer.oddities == ("the answer does not say when the access token ends",)


def test_a_life_that_is_told_once_is_nothing_odd() -> None:
    assert granted(".expires").oddities == granted("expires_in").oddities == ()


@pytest.mark.parametrize(
    ("value", "read", "oddities"),
    [
        pytest.param("True", True, (), id="a text"),
        pytest.param(False, False, (), id="a boolean"),
        pytest.param(None, None, (), id="null"),
        pytest.param("maybe", None, ("twoFactorEnabled is neither true nor false",), id="a word"),
        pytest.param(1, None, ("twoFactorEnabled is neither true nor false",), id="a number"),
    ],
)
def test_a_flag_is_a_boolean_or_its_name(value: object, read: bool | None, oddities: tuple[str, ...]) -> None:
    answer = granted(twoFactorEnabled=value)
    assert (answer.two_factor_enabled, answer.oddities) == (read, oddities)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        pytest.param("Zoë", "Zoë", id="beyond ASCII"),
        pytest.param("a\x1b[2J", "a [2J", id="a terminal's escape"),
        pytest.param("a\u202eb\u200b\u2028c\x00", "a b c", id="direction, zero width, a line separator, a nul"),
        pytest.param("\ud800", None, id="a lone surrogate"),
        pytest.param("x" * 501, None, id="too long"),
        pytest.param(5, None, id="a number"),
    ],
)
def test_a_name_is_printable_or_none(name: object, read: str | None) -> None:
    assert granted(userName=name).user_name == read


@pytest.mark.parametrize("token_type", ["mac", None, 5, ["bearer"]])
def test_another_token_type_is_named(token_type: object) -> None:
    assert granted(token_type=token_type).oddities == ("token_type is not bearer",)


@pytest.mark.parametrize(
    ("change", "oddity"),
    [
        pytest.param(lambda body: b"\xef\xbb\xbf" + body, None, id="a byte order mark"),
        pytest.param(lambda body: body + b"\r\n", None, id="a line end after it"),
        pytest.param(lambda body: body + HTML, "something follows the JSON object", id="HTML after it"),
        pytest.param(lambda body: body.replace(b"me@", b"m\xe9@"), "the answer is not UTF-8", id="Latin-1"),
    ],
)
def test_tokens_are_read_out_of_an_odd_body(change: Any, oddity: str | None) -> None:
    answer = judged(200, change(json.dumps(GOOD).encode()))
    assert isinstance(answer, Granted)
    assert answer.refresh_token == SecretText("refresh-2")
    assert answer.oddities == ((oddity,) if oddity else ())


def test_a_whole_object_counts_though_the_transfer_broke() -> None:
    answer = judged(200, GOOD, complete=False)
    assert isinstance(answer, Granted)
    assert answer.oddities == ("the answer's end is missing",)


def test_an_object_cut_short_is_unknown() -> None:
    assert judged(200, json.dumps(GOOD).encode()[:-1], complete=False) == NotGranted(
        Ending.UNKNOWN, "HTTP 200 cut short"
    )


def test_nesting_beyond_every_measure_is_unknown() -> None:
    assert judged(200, b'{"a":' + b"[" * 100_000) == NotGranted(Ending.UNKNOWN, "HTTP 200 without a usable token")


def test_a_token_in_broken_bytes_is_not_kept() -> None:
    body = json.dumps(GOOD).encode().replace(b"refresh-2", b"refresh-\xff")
    answer = judged(200, body)
    assert isinstance(answer, Granted)
    assert answer.refresh_token is None


@pytest.mark.parametrize(
    ("retry_after", "date", "wait"),
    [
        pytest.param("847", None, timedelta(seconds=847), id="seconds"),
        pytest.param("0", None, timedelta(), id="no seconds"),
        pytest.param(" 60 ", None, timedelta(seconds=60), id="with spaces"),
        pytest.param("99999999999", None, timedelta(days=1), id="longer than a day"),
        pytest.param("9" * 5000, None, timedelta(days=1), id="thousands of digits"),
        pytest.param("-5", None, None, id="negative"),
        pytest.param("1.5", None, None, id="a fraction"),
        pytest.param("later", None, None, id="a word"),
        pytest.param("Wed, 25 Nov 2026 10:05:00 CET", None, None, id="a date in a zone that is not understood"),
        pytest.param("", None, None, id="empty"),
        pytest.param("Wed, 25 Nov 2026 10:05:00 GMT", None, timedelta(minutes=5, microseconds=-250_000), id="a date"),
        pytest.param(
            "Wed, 25 Nov 2026 12:05:00 GMT",
            "Wed, 25 Nov 2026 12:00:00 GMT",
            timedelta(minutes=5),
            id="a date by a clock two hours ahead",
        ),
        pytest.param("Wed, 25 Nov 2026 09:00:00 GMT", None, None, id="a date that has passed"),
        pytest.param("Wed, 25 Nov 2076 09:00:00 GMT", None, timedelta(days=1), id="a date in fifty years"),
    ],
)
def test_the_wait_that_the_server_asks_for_is_read(retry_after: str, date: str | None, wait: timedelta | None) -> None:
    headers = {"retry-after": retry_after} | ({"date": date} if date else {})
    for status in (429, 503):
        answer = judged(status, b"", headers)
        assert isinstance(answer, NotGranted)
        assert answer.retry_after == wait


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        pytest.param(format_datetime(START + timedelta(minutes=10), usegmt=True), 600 - 0.25, id="ten minutes ahead"),
        pytest.param(format_datetime(START - timedelta(minutes=10), usegmt=True), -600 - 0.25, id="ten minutes behind"),
        pytest.param("yesterday", None, id="unreadable"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_the_skew_is_told_and_does_not_move_the_end(date: str | None, skew: float | None) -> None:
    answer = judged(200, {**GOOD, ".expires": None}, {"date": date} if date else {})
    assert isinstance(answer, Granted)
    assert answer.clock_skew == (None if skew is None else timedelta(seconds=skew))
    assert answer.expires_at == START + DAYS_15


# The call that proves a token.

ORGANIZATION = {"organizationUserId": 4711, "organizationName": "Example Relief", "isEnabled": True}


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        pytest.param(200, ORGANIZATION, Proved("4711", "Example Relief", True), id="200 with native types"),
        pytest.param(
            200,
            {"organizationUserId": "4711", "organizationName": "Example Relief", "isEnabled": "False"},
            Proved("4711", "Example Relief", False),
            id="200 with texts, a disabled organisation",
        ),
        pytest.param(
            200,
            {"organizationUserId": [1], "organizationName": "Example Relief", "isEnabled": "perhaps"},
            Proved(
                None,
                "Example Relief",
                None,
                ("organizationUserId is unusable", "isEnabled is neither true nor false"),
            ),
            id="200 with odd values",
        ),
        pytest.param(200, HTML, Unclear("HTTP 200 without a JSON object"), id="200 in HTML"),
        pytest.param(200, {}, Unclear("HTTP 200 without an organisation"), id="200 with nothing in it"),
        *(
            pytest.param(status, body, Denied(f"HTTP {status}"), id=f"{status} in Virtuous's words: {body!r}")
            for status in (401, 403)
            for body in ({"message": WORDS}, WORDS.encode(), json.dumps(WORDS).encode(), WORDS.upper().encode())
        ),
        *(
            pytest.param(status, body, Unclear(f"HTTP {status}"), id=f"{status} of something in between: {body!r}")
            for status in (401, 403)
            for body in (*IN_BETWEEN, {"message": "hunter2"}, b"hunter2", {"error": "invalid_grant"})
        ),
        pytest.param(429, b"", Unclear("HTTP 429"), id="429"),
        pytest.param(302, b"", Unclear("HTTP 302"), id="a redirect"),
        pytest.param(404, HTML, Unclear("HTTP 404"), id="404"),
        pytest.param(503, HTML, Unclear("HTTP 503"), id="503"),
    ],
)
def test_the_proof_is_judged(status: int, body: object, verdict: Proof, harness: LeakHarness) -> None:
    harness.secret("hunter2")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert harness.watch(judge_proof(Response(status, {}, content))) == verdict


def test_a_bearer_challenge_without_a_body_refuses_the_token() -> None:
    assert judge_proof(Response(401, {"www-authenticate": 'Bearer error="invalid_token"'})) == Denied("HTTP 401")
    assert judge_proof(Response(401, {"www-authenticate": "Basic"})) == Unclear("HTTP 401")
    assert judge_proof(Response(401, {"www-authenticate": "Bearer"}, HTML)) == Unclear("HTTP 401")


# Whatever it is.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.fixed_dictionaries({}, optional={"retry-after": st.text(), "date": st.text()})


@seed(SEED)
@given(
    status=st.sampled_from([200, 202, 400, 401, 429]) | st.integers(0, 999),
    body=st.binary() | st.dictionaries(st.sampled_from([*GOOD, "error"]), VALUES).map(lambda o: json.dumps(o).encode()),
    headers=HEADERS,
    complete=st.booleans(),
)
def test_any_answer_has_a_meaning(status: int, body: bytes, headers: dict[str, str], complete: bool) -> None:
    response = Response(status, headers, body, complete)
    assert isinstance(judge_token(response, START), get_args(Answer))
    assert isinstance(judge_proof(response), get_args(Proof))


@seed(SEED)
@given(changed=st.dictionaries(st.sampled_from([key for key in GOOD if key != "refresh_token"]), VALUES))
def test_nothing_odd_beside_it_costs_a_new_refresh_token(changed: dict[str, object]) -> None:
    answer = judged(200, GOOD | changed)
    assert isinstance(answer, Granted)
    assert answer.refresh_token == SecretText("refresh-2")
    assert answer.expires_at is None or START < answer.expires_at <= START + LONGEST_LIFE
