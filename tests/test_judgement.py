"""What every answer of Virtuous means: each row of the table, each type of value, and whatever else bytes can be."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
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
    deciding_rule,
    judge_proof,
    judge_token,
)
from virtuous_token.secret_text import SecretText

START = datetime(2026, 11, 25, 10, 0, 0, 250_000, tzinfo=UTC)
BY_DATE = datetime(2026, 12, 10, 10, tzinfo=UTC)
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
GRANTED = Granted(
    access_token=SecretText("access-2"),
    refresh_token=SecretText("refresh-2"),
    issued_at=START,
    expires_at=START + timedelta(seconds=1_295_999),
    user_name="me@example.org",
    two_factor_enabled=False,
)
ABSENT = "<absent>"
HTML = b"<html><body><h1>Sorry</h1></body></html>"
WORDS = "Authorization has been denied for this request."
VIRTUOUS_DENIES: list[object] = [{"message": WORDS}, WORDS.encode(), json.dumps(WORDS).encode(), WORDS.upper().encode()]
# What says nothing of a credential, because Virtuous did not write it.
IN_BETWEEN: list[object] = [
    b"",
    HTML,
    b"<html><title>Just a moment...</title></html>",
    f"<html>{WORDS}</html>".encode(),
    b"Unauthorized",
    {"message": "Forbidden"},
    {"message": None},
    {"error": {"code": "invalid_grant", "message": WORDS}},
    {"error": "Unauthorized", "status": 401, "path": "/Token"},
    {"error": ""},
    [WORDS],
]


def content_of(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def judged(status: int, body: object = b"", headers: dict[str, str] | None = None, *, complete: bool = True) -> Answer:
    return judge_token(Response(status, headers or {}, content_of(body), complete), START)


def error(code: object) -> dict[str, object]:
    return {"error": code, "error_description": "the password hunter2 is wrong"}


# The table of /Token: row, status, body, verdict.
CODE, NO_TOKEN = "one-time code needed", "HTTP 200 without a usable token"
ROWS: list[tuple[str, int, object, Ending, str]] = [
    ("one-time code sent", 202, error("awaiting_verification"), Ending.CODE_NEEDED, CODE),
    ("one-time code sent", 202, GOOD, Ending.CODE_NEEDED, CODE),
    ("rate limit", 429, error("invalid_grant"), Ending.THROTTLED, "HTTP 429"),
    *(("not served yet", status, HTML, Ending.UNREACHABLE, f"HTTP {status}") for status in (408, 425, 503)),
    ("trouble behind the server", 500, error("invalid_grant"), Ending.UNKNOWN, "HTTP 500"),
    ("trouble behind the server", 520, HTML, Ending.UNKNOWN, "HTTP 520"),
    ("redirect", 307, GOOD, Ending.MISCONFIGURED, "HTTP 307"),
    ("another success", 201, GOOD, Ending.UNKNOWN, "HTTP 201"),
    *(("refusing code", status, error("invalid_grant"), Ending.REFUSED, "invalid_grant") for status in (200, 400, 403)),
    ("refusing code", 400, error("invalid_request"), Ending.REFUSED, "invalid_request"),
    *(
        ("configuration code", status, error(code), Ending.MISCONFIGURED, code)
        for status in (400, 401)
        for code in ("invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope")
    ),
    ("code asked for in an error", 400, error("awaiting_verification"), Ending.CODE_NEEDED, CODE),
    ("busy code", 400, error("temporarily_unavailable"), Ending.UNREACHABLE, "temporarily_unavailable"),
    *(
        ("200 without a usable token", 200, body, Ending.UNKNOWN, NO_TOKEN)
        for body in ({}, HTML, [GOOD], GOOD | {"access_token": None, "refresh_token": ""}, b'{"a":' + b"[" * 100_000)
    ),
    *(("code of its own", status, error("token_too_old"), Ending.REFUSED, f"HTTP {status}") for status in (400, 401)),
    *(("denied", 401, body, Ending.REFUSED, "HTTP 401") for body in VIRTUOUS_DENIES),
    *(
        ("any other 4xx", status, body, Ending.MISCONFIGURED, f"HTTP {status}")
        for status in (400, 401, 403)
        for body in IN_BETWEEN
    ),
    ("any other 4xx", 415, error("multipart"), Ending.MISCONFIGURED, "HTTP 415"),
    ("no status of HTTP", 999, GOOD, Ending.UNKNOWN, "HTTP 999"),
]


@pytest.mark.parametrize(
    ("row", "status", "body", "ending", "reason"),
    [pytest.param(*case, id=f"{case[0]}: {case[1]} {str(case[2])[:60]}") for case in ROWS],
)
def test_a_row_of_the_table_decides(
    row: str, status: int, body: object, ending: Ending, reason: str, harness: LeakHarness
) -> None:
    harness.secret("hunter2")
    answer = harness.watch(judged(status, body))
    assert answer == NotGranted(ending, reason)
    rule = next(rule for rule in RULES if rule.name == row)
    assert (status in rule.statuses, rule.ending) == (True, ending)


def test_every_row_of_the_table_has_a_test_and_every_status_a_row() -> None:
    assert {row for row, *_ in ROWS} == {rule.name for rule in RULES}
    for status in range(1000):
        for code in ("", OWN_CODE, DENIED, "invalid_grant"):
            assert deciding_rule(status, code)


def test_the_page_on_the_judgement_names_every_row_in_order_with_its_verdict_and_its_codes() -> None:
    page = (Path(__file__).parents[1] / "docs/decisions/answers.md").read_text().partition("**What was weighed.**")[0]
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| [^|]", line)]
    rows = [(name, verdict, re.findall("`([a-z_]+)`", answer)) for name, answer, verdict, _ in cells[1:]]

    assert rows == [
        (rule.name, rule.ending.replace("_", " "), [c for c in rule.codes or () if c not in (OWN_CODE, DENIED)])
        for rule in RULES
    ]


NO_HEADER, NO_TEXT = "holds a character that no header may carry", "is blank or holds half a surrogate pair"
AT_11 = datetime(2026, 11, 25, 11, tzinfo=UTC)
# What is odd of a value costs that value alone: by key and oddity, the values.
ODD: dict[tuple[str, str], tuple[object, ...]] = {
    ("access_token", "is empty"): (None, ""),
    ("access_token", "is not a text"): (12, ["access-2"]),
    ("access_token", NO_HEADER): ("access\n2", '"a"', "a b", "ä", "\ud800"),
    ("access_token", "is too long to be stored"): ("a" * LONGEST_TOKEN,),
    ("refresh_token", "is empty"): (None, ""),
    ("refresh_token", "is not a text"): (7,),
    ("refresh_token", NO_TEXT): (" ", "\udfff"),
    ("refresh_token", "is too long to be stored"): ("é" * LONGEST_TOKEN,),
    ("expires_in", "is too far ahead"): (10**12, math.inf, "9" * 400),
    ("expires_in", "is unreadable"): (True, False, math.nan, "soon", "1_000", "", [1], {"seconds": 1}, "-1e9"),
    ("expires_in", "is over already"): (0, 0.9, -1, -math.inf, "-5"),
    # A date whose zone or clock is not understood is no date.
    (".expires", "is unreadable"): (
        *("soon", "", 1_795_600_000, "Thu, 99 Dec 2026 10:00:00 GMT", "Mon, 07 Dec 2026", "2026-12-07"),
        *("Mon, 07 Dec 2026 14:30:05 CET", "Mon, 07 Dec 2026 14:30:05 EST", "Mon, 07 Dec 2026 14:30:05 +9900"),
        *("Mon, 07 Dec 2026 02:30:05 PM", "12/07/2026 14:30:05", "2026-12-07T14:30:05 CET"),
    ),
    (".expires", "is over already"): ("Tue, 24 Nov 2026 10:00:00 GMT",),
    ("twoFactorEnabled", "is neither true nor false"): ("maybe", 1),
    ("userName", "is unusable"): ("\ud800", "x" * 501, 5),
    ("token_type", "is not bearer"): ("mac", None, 5, ["bearer"]),
}
WITHOUT: dict[str, dict[str, object]] = {
    "access_token": {"access_token": None},
    "refresh_token": {"refresh_token": None},
    "expires_in": {"expires_at": BY_DATE},
    "twoFactorEnabled": {"two_factor_enabled": None},
    "userName": {"user_name": None},
}
DATES = (
    *(
        "Wed, 25 Nov 2026 11:00:00 GMT",
        "25 Nov 2026 11:00:00",
        "Wed, 25 Nov 2026 13:00:00 +0200",
        "2026-11-25T11:00:00Z",
    ),
    "Sun, 25 Nov 2026 11:00:00 GMT",  # a wrong weekday
    *("Wed Nov 25 11:00:00 2026", "Wednesday, 25-Nov-26 11:00:00 GMT"),  # C's asctime, RFC 850
)
# And what is fine: seconds count from the start of the request, rounded down; the earlier of two ends counts.
FINE: list[tuple[str, object, Mapping[str, object]]] = [
    ("refresh_token", ABSENT, {"refresh_token": None}),
    ("refresh_token", 'a "b"\n€', {"refresh_token": SecretText('a "b"\n€')}),
    *(
        ("expires_in", value, {"expires_at": START + timedelta(hours=1)})
        for value in (3600, 3600.9, "3600", " 3600.7 ")
    ),
    ("expires_in", ABSENT, {"expires_at": BY_DATE}),
    *((".expires", date, {"expires_at": AT_11}) for date in DATES),
    (".expires", ABSENT, {}),
    *(("twoFactorEnabled", value, {"two_factor_enabled": True}) for value in ("True", " true ", True)),
    ("twoFactorEnabled", None, {"two_factor_enabled": None}),
    # No control or direction character of a name gets any further.
    *(
        ("userName", value, {"user_name": read})
        for value, read in (("Zoë", "Zoë"), ("a\x1b[2J", "a [2J"), ("a\u202eb\u200b\u2028c\x00", "a b c"))
    ),
]
VALUES = [(key, value, changes, "") for key, value, changes in FINE]
VALUES += [
    (key, value, WITHOUT.get(key, {}), f"{key} {what}") for (key, what), values in ODD.items() for value in values
]


@pytest.mark.parametrize(
    ("key", "value", "changes", "oddity"), [pytest.param(*case, id=f"{case[0]} {case[1]!r:.50}") for case in VALUES]
)
def test_a_value_is_read_or_named_as_odd_and_costs_no_other(
    key: str, value: object, changes: dict[str, Any], oddity: str
) -> None:
    content = {name: inner for name, inner in (GOOD | {key: value}).items() if inner != ABSENT}
    assert judged(200, content) == GRANTED._replace(**changes, oddities=(oddity,) if oddity else ())


def test_a_life_is_cut_where_it_is_too_long_and_named_where_nobody_tells_it() -> None:
    longest = judged(200, GOOD | {".expires": None, "expires_in": 10**12})
    assert isinstance(longest, Granted)
    assert longest.expires_at == START + LONGEST_LIFE
    oddity = "the answer does not say when the access token ends"
    assert judged(200, GOOD | {".expires": None, "expires_in": None}) == GRANTED._replace(
        expires_at=None, oddities=(oddity,)
    )


BODY = json.dumps(GOOD).encode()


NO_UTF8, MOST_DIGITS = "the answer is not UTF-8", BODY.replace(b"1295999", b"9" * 5000)
ODD_BODIES: dict[str, tuple[bytes, dict[str, Any], tuple[str, ...]]] = {
    "a byte order mark before it, a line end after it": (b"\xef\xbb\xbf" + BODY + b"\r\n", {}, ()),
    "HTML after it": (BODY + HTML, {}, ("something follows the JSON object",)),
    "Latin-1": (BODY.replace(b"me@", b"m\xe9@"), {"user_name": "m\ufffd@example.org"}, (NO_UTF8,)),
    "a token in broken bytes": (
        BODY.replace(b"refresh-2", b"refresh-\xff"),
        {"refresh_token": None},
        (NO_UTF8, f"refresh_token {NO_TEXT}"),
    ),
    "a number of thousands of digits": (MOST_DIGITS, {"expires_at": BY_DATE}, ("expires_in is too far ahead",)),
}


@pytest.mark.parametrize("case", ODD_BODIES)
def test_tokens_are_read_out_of_an_odd_body(case: str) -> None:
    body, changes, oddities = ODD_BODIES[case]
    assert judged(200, body) == GRANTED._replace(**changes, oddities=oddities)


def test_of_a_broken_transfer_a_whole_object_counts_and_half_of_one_is_unknown() -> None:
    assert judged(200, BODY, complete=False) == GRANTED._replace(oddities=("the answer's end is missing",))
    assert judged(200, BODY[:-1], complete=False) == NotGranted(Ending.UNKNOWN, "HTTP 200 cut short")


NOON = "Wed, 25 Nov 2026 12:00:00 GMT"
WAITS: dict[str, tuple[str, str, float | None]] = {
    "seconds": ("847", "", 847),
    "no seconds, with spaces": (" 0 ", "", 0),
    "longer than a day": ("9" * 5000, "", 86_400),
    "negative": ("-5", "", None),
    "a fraction": ("1.5", "", None),
    "a date": ("Wed, 25 Nov 2026 10:05:00 GMT", "", 299.75),
    "a date in a zone that is not understood": ("Wed, 25 Nov 2026 10:05:00 CET", "", None),
    "a date by a clock two hours ahead": ("Wed, 25 Nov 2026 12:05:00 GMT", NOON, 300),
    "a date that has passed": ("Wed, 25 Nov 2026 09:00:00 GMT", "", None),
    "a date in fifty years": ("Wed, 25 Nov 2076 09:00:00 GMT", "", 86_400),
}


@pytest.mark.parametrize("case", WAITS)
def test_the_wait_that_the_server_asks_for_is_read(case: str) -> None:
    retry_after, date, seconds = WAITS[case]
    for status in (429, 503):
        answer = judged(status, b"", {"retry-after": retry_after, "date": date})
        assert isinstance(answer, NotGranted)
        assert answer.retry_after == (None if seconds is None else timedelta(seconds=seconds))
    assert judged(401, b"", {"retry-after": "847"}) == NotGranted(Ending.MISCONFIGURED, "HTTP 401")


def test_the_skew_is_told_and_does_not_move_the_end() -> None:
    for date, seconds in (NOON, 7199.75), ("Wed, 25 Nov 2026 09:50:00 GMT", -600.25):
        assert judged(200, GOOD, {"date": date}) == GRANTED._replace(clock_skew=timedelta(seconds=seconds))
    assert judged(200, GOOD, {"date": "?"}) == GRANTED


ORGANIZATION = {"organizationUserId": 4711, "organizationName": "Example Relief", "isEnabled": True}
PROOFS: list[tuple[int, object, Proof]] = [
    (200, ORGANIZATION, Proved("4711", "Example Relief", True)),
    (
        200,
        ORGANIZATION | {"organizationUserId": [1], "isEnabled": "perhaps"},
        Proved(None, "Example Relief", None, ("organizationUserId is unusable", "isEnabled is neither true nor false")),
    ),
    (200, HTML, Unclear("HTTP 200 without a JSON object")),
    (200, {}, Unclear("HTTP 200 without an organisation")),
    *((status, body, Denied(f"HTTP {status}")) for status in (401, 403) for body in VIRTUOUS_DENIES),
    *(
        (status, body, Unclear(f"HTTP {status}"))
        for status in (401, 403)
        for body in (*IN_BETWEEN, {"message": "hunter2"}, b"hunter2", {"error": "invalid_grant"})
    ),
    (429, HTML, Unclear("HTTP 429")),
]


@pytest.mark.parametrize(
    ("status", "body", "verdict"), [pytest.param(*case, id=f"{case[0]} {str(case[1])[:60]}") for case in PROOFS]
)
def test_the_proof_is_judged(status: int, body: object, verdict: Proof, harness: LeakHarness) -> None:
    harness.secret("hunter2")
    assert harness.watch(judge_proof(Response(status, {}, content_of(body)))) == verdict


def test_a_bearer_challenge_without_a_body_refuses_the_token() -> None:
    assert judge_proof(Response(401, {"www-authenticate": 'Bearer error="invalid_token"'})) == Denied("HTTP 401")
    assert judge_proof(Response(401, {"www-authenticate": "Basic"})) == Unclear("HTTP 401")
    assert judge_proof(Response(401, {"www-authenticate": "Bearer"}, HTML)) == Unclear("HTTP 401")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@seed(SEED)
@given(
    status=st.sampled_from([200, 202, 400, 401, 429]) | st.integers(0, 999),
    body=st.binary() | st.dictionaries(st.sampled_from([*GOOD, "error"]), ANYTHING).map(content_of),
    headers=st.fixed_dictionaries({}, optional={"retry-after": st.text(), "date": st.text()}),
    complete=st.booleans(),
)
def test_any_answer_has_a_meaning(status: int, body: bytes, headers: dict[str, str], complete: bool) -> None:
    response = Response(status, headers, body, complete)
    assert isinstance(judge_token(response, START), get_args(Answer))
    assert isinstance(judge_proof(response), get_args(Proof))
