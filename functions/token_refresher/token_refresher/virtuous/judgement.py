"""Core: what an HTTP answer of Virtuous means, whatever a server, a CDN or a proxy did to its body.

``RULES`` is the whole judgement of ``/Token``: the first row that fits decides, by status, then by the error code of
RFC 6749 section 5.2 or by Virtuous's own words for a refusal. What has neither came from something in between and
condemns no credential. No word of the body gets into a verdict but the codes known here.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from virtuous_token.contract import can_be_header, parse_instant
from virtuous_token.secret_text import SecretText

from ..refresh.formats import printable
from ..refresh.model import Answer, Denied, Ending, Granted, NotGranted, Proof, Proved, Unclear

LONGEST_LIFE = timedelta(days=30)  # twice what Virtuous documents for an access token: half of it is safe to wait
LONGEST_WAIT = timedelta(days=1)  # the schedule comes round every few hours
LONGEST_TOKEN = 24_000  # two such, escaped as JSON, fit into a secret's 65,536 bytes
LONGEST_NAME = 500
LARGEST_BODY = 256 * 1024  # a good answer has about two kilobytes

_CODE = r"[a-z][a-z0-9_]*"  # every code of RFC 6749 and its extensions looks so
# Of HTTP, with or without its zone, and RFC 3339. Another zone's name, or a clock of twelve hours, is not understood.
_DATE = (
    r"[^:]*[0-9]{2}:[0-9]{2}:[0-9]{2}( [0-9]{4})?( (GMT|UTC?|Z|[+-][0-9]{4}))?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_NUMBER = r"\s*[+-]?[0-9]+(\.[0-9]*)?\s*"


class Response(NamedTuple):
    """An HTTP answer as it arrived. ``headers`` have lower-case names; ``complete`` is False if its end is missing."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    complete: bool = True

    def __repr__(self) -> str:
        return f"<Response {self.status}>"  # the rest may hold tokens


class Rule(NamedTuple):
    """One row: ``statuses`` and, unless None, ``codes`` must fit. docs/decisions/answers.md says why it is so."""

    name: str
    statuses: Collection[int]
    codes: Collection[str] | None
    ending: Ending


OWN_CODE = "a code of its own"  # in the form of RFC 6749, and not of the table
DENIED = "authorization has been denied for this request."  # how Virtuous refuses, in JSON or in plain text
_MISCONFIGURED = ("invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope")
_JUDGED = (200, *range(400, 500))  # a 200 gets here only without a usable token

RULES = (
    Rule("one-time code sent", [202], None, Ending.CODE_NEEDED),
    Rule("rate limit", [429], None, Ending.THROTTLED),
    Rule("not served yet", [408, 425, 503], None, Ending.UNREACHABLE),
    Rule("trouble behind the server", range(500, 600), None, Ending.UNKNOWN),
    Rule("redirect", range(300, 400), None, Ending.MISCONFIGURED),
    Rule("another success", range(201, 300), None, Ending.UNKNOWN),
    Rule("refusing code", _JUDGED, ["invalid_grant", "invalid_request"], Ending.REFUSED),
    Rule("configuration code", _JUDGED, _MISCONFIGURED, Ending.MISCONFIGURED),
    Rule("code asked for in an error", _JUDGED, ["awaiting_verification"], Ending.CODE_NEEDED),
    Rule("busy code", _JUDGED, ["temporarily_unavailable"], Ending.UNREACHABLE),
    Rule("200 without a usable token", [200], None, Ending.UNKNOWN),
    Rule("code of its own", [400, 401], [OWN_CODE], Ending.REFUSED),
    Rule("denied", [401], [DENIED], Ending.REFUSED),
    Rule("any other 4xx", range(400, 500), None, Ending.MISCONFIGURED),
    Rule("no status of HTTP", range(1000), None, Ending.UNKNOWN),
)

_KNOWN_CODES = {code for rule in RULES for code in rule.codes or ()} - {OWN_CODE, DENIED}


def judge_token(response: Response, started_at: datetime) -> Answer:
    """What an answer to a POST to ``/Token`` means. Lifetimes count from *started_at*, when the request began."""
    answer, oddities = _parse(response)
    if response.status == 200 and answer is not None and (granted := _grant(response, answer, oddities, started_at)):
        return granted
    code = _error_code(response, answer)
    rule = deciding_rule(response.status, code)
    reason = code if code in _KNOWN_CODES and rule.codes else f"HTTP {response.status}"
    if rule.ending is Ending.CODE_NEEDED:
        reason = "one-time code needed"
    elif reason == "HTTP 200":
        reason += " without a usable token" if response.complete else " cut short"
    is_for_later = rule.ending in (Ending.THROTTLED, Ending.UNREACHABLE)
    return NotGranted(rule.ending, reason, _retry_after(response.headers, started_at) if is_for_later else None)


def judge_proof(response: Response) -> Proof:
    """What an answer to a GET of ``/api/Organization/Current`` says of the access token."""
    answer, oddities = _parse(response)
    if response.status in (401, 403) and _is_denied(response, answer):
        return Denied(f"HTTP {response.status}")
    if response.status != 200:
        return Unclear(f"HTTP {response.status}")
    if answer is None:
        return Unclear("HTTP 200 without a JSON object")
    found = _Reader(answer, oddities)
    organization_id = found.name("organizationUserId", may_be_number=True)
    name = found.name("organizationName")
    if organization_id is None and name is None:
        return Unclear("HTTP 200 without an organisation")
    return Proved(organization_id, name, found.flag("isEnabled"), tuple(oddities))


def deciding_rule(status: int, code: str) -> Rule:
    """The first row that fits. *code* is what ``Rule.codes`` can hold, or empty where the body says nothing of them."""
    return next(rule for rule in RULES if status in rule.statuses and (rule.codes is None or code in rule.codes))


def _error_code(response: Response, answer: Mapping[str, Any] | None) -> str:
    code = answer.get("error") if answer else None
    if isinstance(code, str) and re.fullmatch(_CODE, code):
        return code if code in _KNOWN_CODES else OWN_CODE
    return DENIED if _is_denied(response, answer) else ""


def _is_denied(response: Response, answer: Mapping[str, Any] | None) -> bool:
    """True if Virtuous itself refuses, by its words or as RFC 6750 section 3 has it."""
    said = answer.get("message") if answer else response.body[:100].decode("utf-8", "replace").strip('"')
    scheme = response.headers.get("www-authenticate", "").partition(" ")[0]
    return (isinstance(said, str) and said.strip().lower() == DENIED) or (not response.body and scheme == "Bearer")


def _parse(response: Response) -> tuple[dict[str, Any] | None, list[str]]:
    """The JSON object in the body, None where none is whole, and what is odd about it."""
    oddities = [] if response.complete else ["the answer's end is missing"]
    answer, odd = read_object(response.body) or (None, [])
    return answer, oddities + odd


def read_object(body: bytes) -> tuple[dict[str, Any], list[str]] | None:
    """The JSON object that *body*, as it is or decompressed, begins with, and what is odd about it; None for none."""
    gzip_or_zlib, raw_deflate = 47, -15  # zlib's "wbits"
    return _decoded(body) or _decoded(_inflated(body, gzip_or_zlib)) or _decoded(_inflated(body, raw_deflate))


def _inflated(data: bytes, wbits: int) -> bytes:
    """As much of *data* as can be decompressed, every member of a gzip, up to the largest body."""
    body, inflater = bytearray(), zlib.decompressobj(wbits)
    with suppress(zlib.error):
        for byte in data:  # one by one, because an error costs the piece that it is found in
            body += inflater.decompress(bytes([byte]))
            if len(body) >= LARGEST_BODY:
                break
            if inflater.eof:
                inflater = zlib.decompressobj(wbits)
    return bytes(body[:LARGEST_BODY])


def _decoded(body: bytes) -> tuple[dict[str, Any], list[str]] | None:
    """Bytes that are not UTF-8, UTF-16 or UTF-32 cost what they stand in and no more."""
    encoding = json.detect_encoding(body)
    text = body.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if not text.startswith("{"):
        return None
    try:  # int() refuses a number that has thousands of digits
        decoder = json.JSONDecoder(parse_int=lambda digits: int(digits) if len(digits) < 100 else float(digits))
        answer, end = decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    oddities = [] if encoding.startswith("utf-8") and "\ufffd" not in text else ["the answer is not UTF-8"]
    return answer, [*oddities, "something follows the JSON object"] if text[end:].strip(" \t\r\n") else oddities


def _grant(response: Response, answer: Mapping[str, Any], oddities: list[str], started_at: datetime) -> Granted | None:
    found = _Reader(answer, oddities)
    access_token = found.token("access_token", in_a_header=True)
    refresh_token = found.token("refresh_token")
    if access_token is None and refresh_token is None:
        return None
    token_type = answer.get("token_type")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        oddities.append("token_type is not bearer")
    return Granted(
        access_token=access_token,
        refresh_token=refresh_token,
        issued_at=started_at,
        expires_at=found.end_of_life(started_at),
        user_name=found.name("userName"),
        two_factor_enabled=found.flag("twoFactorEnabled"),
        oddities=tuple(oddities),
        # What the clocks differ by and, never more than a request takes, the answer's way.
        clock_skew=date - started_at if (date := _date(response.headers.get("date"))) else None,
    )


class _Reader(NamedTuple):
    """Reads values of an answer. What is there and unusable reads as None and is noted."""

    answer: Mapping[str, Any]
    oddities: list[str]

    def token(self, key: str, *, in_a_header: bool = False) -> SecretText | None:
        value = self.answer.get(key)
        if key in self.answer and (what := _why_unusable(value, in_a_header=in_a_header)):
            self.oddities.append(f"{key} {what}")
        elif value:
            return SecretText(str(value))
        return None

    def name(self, key: str, *, may_be_number: bool = False) -> str | None:
        value = self.answer.get(key)
        if may_be_number and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and len(value) <= LONGEST_NAME and (name := printable(value)):
            return name
        if value is not None:
            self.oddities.append(f"{key} is unusable")
        return None

    def flag(self, key: str) -> bool | None:
        value = self.answer.get(key)
        is_readable = isinstance(value, str | bool)
        flag = {"true": True, "false": False}.get(str(value).strip().lower()) if is_readable else None
        if flag is None and value is not None:
            self.oddities.append(f"{key} is neither true nor false")
        return flag

    def end_of_life(self, started_at: datetime) -> datetime | None:
        """The earlier of what ``expires_in`` and ``.expires`` say; None if neither says anything usable."""
        ends = []
        told, expires = self.answer.get("expires_in"), self.answer.get(".expires")
        for key, value, end in (("expires_in", told, _after(started_at, told)), (".expires", expires, _date(expires))):
            if value is None:
                continue
            if end is None:
                self.oddities.append(f"{key} is unreadable")
            elif end <= started_at:
                self.oddities.append(f"{key} is over already")
            elif end > started_at + LONGEST_LIFE:
                self.oddities.append(f"{key} is too far ahead")
                ends.append(started_at + LONGEST_LIFE)
            else:
                ends.append(end)
        if not ends:
            self.oddities.append("the answer does not say when the access token ends")
        return min(ends, default=None)


def _why_unusable(token: object, *, in_a_header: bool) -> str:
    """Empty where it can be used. A lone surrogate is in no encoding, and U+FFFD stands for broken bytes."""
    if not isinstance(token, str) or not token:
        return "is empty" if token in (None, "") else "is not a text"
    if in_a_header and not can_be_header(token):
        return "holds a character that no header may carry"
    if not token.strip() or re.search("[\ud800-\udfff\ufffd]", token):
        return "is blank or holds half a surrogate pair"
    return "is too long to be stored" if len(json.dumps(token)) > LONGEST_TOKEN else ""


def _after(started_at: datetime, value: object) -> datetime | None:
    """*value* seconds, rounded down, after *started_at*. A number or a text of one; a bool is none."""
    if isinstance(value, str) and re.fullmatch(_NUMBER, value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    most = LONGEST_LIFE.total_seconds() + 1
    return started_at + timedelta(seconds=math.floor(max(-1, min(value, most))))


def _date(text: object) -> datetime | None:
    """An HTTP date or an RFC 3339 instant, else None. A wrong weekday does not matter, a missing zone is UTC."""
    if not isinstance(text, str) or not re.fullmatch(_DATE, text := text.strip()):
        return None
    for parse in (parsedate_to_datetime, parse_instant):
        try:
            date = parse(text)
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def _retry_after(headers: Mapping[str, str], started_at: datetime) -> timedelta | None:
    """RFC 9110 section 10.2.3: seconds, or a date by the server's own clock. A day at most; None for anything else."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch("[0-9]+", text):
        return timedelta(seconds=min(float(text), LONGEST_WAIT.total_seconds()))
    if (date := _date(text)) is None:
        return None
    wait = date - (_date(headers.get("date")) or started_at)
    return min(wait, LONGEST_WAIT) if wait > timedelta() else None
