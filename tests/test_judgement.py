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


BUSY = "temporarily_unavailable"
DENIALS = [{"message": WORDS}, WORDS.encode(), json.dumps(WORDS).encode(), WORDS.upper().encode()]


def plain(ending: Ending, status: int) -> NotGranted:
    return NotGranted(ending, f"HTTP {status}")


def refused(status: int) -> NotGranted:
    return plain(Ending.REFUSED, status)


# The table: row, status, body, verdict.
MISCONFIGURED, UNKNOWN, UNREACHABLE = Ending.MISCONFIGURED, Ending.UNKNOWN, Ending.UNREACHABLE
NEEDED = NotGranted(Ending.CODE_NEEDED, "one-time code needed")
NO_TOKEN = NotGranted(UNKNOWN, "HTTP 200 without a usable token")
EMPTY = GOOD | {"access_token": None, "refresh_token": ""}
CASES: list[tuple[str, str, int, object, NotGranted]] = [
    ("202 with its word", "one-time code sent", 202, error("awaiting_verification"), NEEDED),
    ("202 without a body", "one-time code sent", 202, b"", NEEDED),
    ("202 is no success even with tokens in it", "one-time code sent", 202, GOOD, NEEDED),
    ("429 with a code", "rate limit", 429, error("invalid_grant"), NotGranted(Ending.THROTTLED, "HTTP 429")),
    *((f"{status}", "not served yet", status, HTML, plain(UNREACHABLE, status)) for status in (408, 425, 503)),
    ("500 with a code", "trouble behind the server", 500, error("invalid_grant"), plain(UNKNOWN, 500)),
    *(
        (f"{status} of a CDN", "trouble behind the server", status, HTML, plain(UNKNOWN, status))
        for status in (502, 520)
    ),
    *((f"{status}", "redirect", status, GOOD, plain(MISCONFIGURED, status)) for status in (302, 307)),
    *((f"{status}", "another success", status, GOOD, plain(UNKNOWN, status)) for status in (201, 204)),
    *(
        (f"{status} {code}", "refusing code", status, error(code), NotGranted(Ending.REFUSED, code))
        for status in (200, 400, 403)
        for code in ("invalid_grant", "invalid_request")
    ),
    *(
        (code, "configuration code", 400, error(code), NotGranted(MISCONFIGURED, code))
        for code in ("invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope")
    ),
    ("a code asked for with 400", "code asked for in an error", 400, error("awaiting_verification"), NEEDED),
    ("busy", "busy code", 400, error(BUSY), NotGranted(UNREACHABLE, BUSY)),
    *(("200 for nothing", "200 without a usable token", 200, body, NO_TOKEN) for body in ({}, HTML, EMPTY, [GOOD])),
    *(("its own code", "code of its own", status, error("token_too_old"), refused(status)) for status in (400, 401)),
    *(("Virtuous's words", "denied", 401, body, refused(401)) for body in DENIALS),
    *(
        (f"{status} of something in between: {body!r}", "any other 4xx", status, body, plain(MISCONFIGURED, status))
        for status in (400, 401, 403)
        for body in IN_BETWEEN
    ),
    *((f"{status}", "any other 4xx", status, HTML, plain(MISCONFIGURED, status)) for status in (404, 405, 415)),
    *((f"{status}", "no status of HTTP", status, GOOD, plain(UNKNOWN, status)) for status in (101, 999)),
]
ROWS = [pytest.param(*case, id=name) for name, *case in CASES]


@pytest.mark.parametrize(("row", "status", "body", "verdict"), ROWS)
def test_a_row_of_the_table_decides(row: str, status: int, body: object, verdict: Answer, harness: LeakHarness) -> None:
    harness.secret("hunter2")
    code = body.get("error") if isinstance(body, dict) else ""
    known = DENIED if row == "denied" else {"token_too_old": OWN_CODE}.get(str(code), code)
    assert deciding_rule(status, str(known)).name == row
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


def test_a_good_answer_is_granted() -> None:
    assert granted() == Granted(
        access_token=SecretText("access-2"),
        refresh_token=SecretText("refresh-2"),
        issued_at=START,
        expires_at=START + DAYS_15,
        user_name="me@example.org",
        two_factor_enabled=False,
    )


NO_HEADER = "holds a character that no header may carry"
HALF = "is blank or holds half a surrogate pair"


@pytest.mark.parametrize(
    ("value", "oddity"),
    [
        *((nothing, "is empty") for nothing in (None, "")),
        *((other, "is not a text") for other in (12, ["access-2"])),
        *((unsafe, NO_HEADER) for unsafe in ("access\n2", '"a"', "a b", "ä", "\ud800")),
        ("a" * LONGEST_TOKEN, "is too long to be stored"),
    ],
)
def test_a_new_refresh_token_is_kept_beside_a_useless_access_token(value: object, oddity: str) -> None:
    answer = granted(access_token=value)
    assert (answer.access_token, answer.refresh_token) == (None, SecretText("refresh-2"))
    assert answer.oddities == (f"access_token {oddity}",)


@pytest.mark.parametrize(
    ("value", "oddity"),
    [
        *((nothing, "is empty") for nothing in (None, "")),
        *((broken, HALF) for broken in (" ", "\udfff", "refresh-\ufffd")),
        (7, "is not a text"),
        ("é" * LONGEST_TOKEN, "is too long to be stored"),
    ],
)
def test_a_useless_refresh_token_is_none_and_named(value: object, oddity: str) -> None:
    answer = granted(refresh_token=value)
    assert (answer.access_token, answer.refresh_token) == (SecretText("access-2"), None)
    assert answer.oddities == (f"refresh_token {oddity}",)


def test_another_token_type_is_named() -> None:
    for token_type in ("mac", None, 5, ["bearer"]):
        assert granted(token_type=token_type).oddities == ("token_type is not bearer",)


def test_a_missing_refresh_token_is_nothing_odd() -> None:
    answer = granted("refresh_token")
    assert (answer.refresh_token, answer.oddities) == (None, ())


def test_a_refresh_token_may_hold_what_no_header_may() -> None:
    assert granted(refresh_token='a "b"\n€').refresh_token == SecretText('a "b"\n€')


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        *((hour, 3599) for hour in (3599, 3599.9, "3599", " 3599.7 ")),
        (1, 1),
        *((beyond, LONGEST_LIFE.total_seconds()) for beyond in (10**12, 10**5000, math.inf, "9" * 400)),
    ],
    ids=lambda value: repr(value)[:12] if value != 10**5000 else "thousands of digits",
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
        *(
            (value, "is unreadable")
            for value in (True, False, math.nan, "soon", "1_000", "", [1], {"seconds": 1}, "-1e9")
        ),
        *((value, "is over already") for value in (0, 0.9, -1, -math.inf)),
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
    "expires",
    [
        *("soon", "", "Thu, 99 Dec 2026 10:00:00 GMT", 1_795_600_000, "12/07/2026 14:30:05"),
        *("Mon, 07 Dec 2026 14:30:05 CET", "Mon, 07 Dec 2026 14:30:05 America/New_York", "2026-12-07T14:30:05 CET"),
        *("Mon, 07 Dec 2026 02:30:05 PM GMT", "Mon, 07 Dec 2026 02:30:05 PM", "Mon, 07 Dec 2026 14:30:05 +9900"),
        *("Mon, 07 Dec 2026", "2026-12-07"),
    ],
)
def test_a_date_that_is_not_understood_is_no_date(expires: object) -> None:
    """The zone of a clock is part of it, and so is the half of the day."""
    answer = granted(expires_=expires)
    assert answer.expires_at == START + DAYS_15
    assert answer.oddities == (".expires is unreadable",)


def test_a_date_that_has_passed_is_no_end() -> None:
    answer = granted(expires_="Tue, 24 Nov 2026 10:00:00 GMT")
    assert (answer.expires_at, answer.oddities) == (START + DAYS_15, (".expires is over already",))


def test_a_life_that_nobody_tells_is_none_and_named() -> None:
    answer = granted(".expires", "expires_in")
    assert answer.expires_at is None
    assert answer.oddities == ("the answer does not say when the access token ends",)


def test_a_life_that_is_told_once_is_nothing_odd() -> None:
    assert granted(".expires").oddities == granted("expires_in").oddities == ()


@pytest.mark.parametrize(
    ("value", "read", "oddities"),
    [
        *((value, read, ()) for value, read in (("True", True), (False, False), (None, None))),
        *((value, None, ("twoFactorEnabled is neither true nor false",)) for value in ("maybe", 1)),
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


@pytest.mark.parametrize(
    ("change", "oddity"),
    [
        (lambda body: b"\xef\xbb\xbf" + body, None),
        (lambda body: body + b"\r\n", None),
        (lambda body: body + HTML, "something follows the JSON object"),
        (lambda body: body.replace(b"me@", b"m\xe9@"), "the answer is not UTF-8"),
    ],
    ids=["a byte order mark", "a line end after it", "HTML after it", "Latin-1"],
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


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        *((text, None, seconds) for text, seconds in (("847", 847), ("0", 0), (" 60 ", 60))),
        *((text, None, 86_400) for text in ("99999999999", "9" * 5000, "Wed, 25 Nov 2076 09:00:00 GMT")),
        *((text, None, None) for text in ("-5", "1.5", "later", "", "Wed, 25 Nov 2026 10:05:00 CET")),
        ("Wed, 25 Nov 2026 09:00:00 GMT", None, None),
        ("Wed, 25 Nov 2026 10:05:00 GMT", None, 299.75),
        pytest.param("Wed, 25 Nov 2026 12:05:00 GMT", "Wed, 25 Nov 2026 12:00:00 GMT", 300, id="a clock that is ahead"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_wait_that_the_server_asks_for_is_understood_or_not_used(
    retry_after: str, date: str | None, seconds: float | None
) -> None:
    headers = {"retry-after": retry_after} | ({"date": date} if date else {})
    for status in (429, 503):
        answer = judged(status, b"", headers)
        assert isinstance(answer, NotGranted)
        assert answer.retry_after == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        (format_datetime(START + timedelta(minutes=10), usegmt=True), 600 - 0.25),
        (format_datetime(START - timedelta(minutes=10), usegmt=True), -600 - 0.25),
        *((useless, None) for useless in ("yesterday", "Wed, 25 Nov 2026 10:05:00 CET", None)),
    ],
)
def test_the_skew_is_told_and_does_not_move_the_end(date: str | None, skew: float | None) -> None:
    answer = judged(200, {**GOOD, ".expires": None}, {"date": date} if date else {})
    assert isinstance(answer, Granted)
    assert answer.clock_skew == (None if skew is None else timedelta(seconds=skew))
    assert answer.expires_at == START + DAYS_15


# The call that proves a token.

ORGANIZATION = {"organizationUserId": 4711, "organizationName": "Example Relief", "isEnabled": True}


DISABLED = ORGANIZATION | {"organizationUserId": "4711", "isEnabled": "False"}
ODD = ORGANIZATION | {"organizationUserId": [1], "isEnabled": "perhaps"}
ODDITIES = ("organizationUserId is unusable", "isEnabled is neither true nor false")


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        pytest.param(200, ORGANIZATION, Proved("4711", "Example Relief", True), id="native types"),
        pytest.param(200, DISABLED, Proved("4711", "Example Relief", False), id="texts, a disabled organisation"),
        pytest.param(200, ODD, Proved(None, "Example Relief", None, ODDITIES), id="odd values"),
        pytest.param(200, HTML, Unclear("HTTP 200 without a JSON object"), id="200 in HTML"),
        pytest.param(200, {}, Unclear("HTTP 200 without an organisation"), id="200 with nothing in it"),
        *((status, body, Denied(f"HTTP {status}")) for status in (401, 403) for body in DENIALS),
        *(
            (status, body, Unclear(f"HTTP {status}"))
            for status in (401, 403)
            for body in (*IN_BETWEEN, {"message": "hunter2"}, b"hunter2", {"error": "invalid_grant"})
        ),
        *((status, HTML, Unclear(f"HTTP {status}")) for status in (302, 404, 429, 503)),
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
