"""The stored formats: what version 1 wrote is read for ever, odd values are named and never quoted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from token_refresher.refresh.formats import SecretNames, TokenPair
from virtuous_token.contract import Bearer, can_be_header, format_instant, parse_instant
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

GOLDEN = Path(__file__).parent / "golden"
ISSUED_AT = datetime(2026, 11, 25, 10, tzinfo=UTC)
EXPIRES_AT = datetime(2026, 12, 10, 9, 59, 59, tzinfo=UTC)
ACCESS = SecretText("access-1")


def test_a_pair_of_version_1_is_read_and_written_as_it_was() -> None:
    """The golden files never change: secrets of this form are out there."""
    golden = (GOLDEN / "pair.json").read_text(encoding="utf-8")
    pair = TokenPair.parse(golden)
    assert pair == TokenPair(
        access_token=SecretText("golden-access-1"),
        refresh_token=SecretText('golden-refresh-1 with "any" text'),
        token_type="Bearer",
        issued_at=ISSUED_AT,
        expires_at=EXPIRES_AT,
        refresh_token_issued_at=ISSUED_AT,
        refresh_token_expires_at=ISSUED_AT + timedelta(days=365),
        user_name="service@example.org",
        organization_id="4711",
        organization_name="Example Relief Ærø",
        replaces="0d5ba2f0-6d0c-5b8a-9f5e-1f2f3f4f5f6f",
        extra={"note_of_an_operator": {"kept": ["as", 1, None, True]}},
    )
    assert json.loads(pair.to_json()) == json.loads(golden)
    assert TokenPair.parse(pair.to_json()).to_json() == pair.to_json()


def test_a_bearer_of_version_1_is_read_and_written_with_every_key_that_this_version_knows() -> None:
    golden = (GOLDEN / "bearer.json").read_text(encoding="utf-8")
    bearer = Bearer.parse(golden)
    assert bearer == Bearer(
        access_token=SecretText("golden-access-1"),
        token_type="Bearer",
        issued_at=ISSUED_AT,
        expires_at=EXPIRES_AT,
        next_refresh_at=datetime(2026, 12, 2, 21, 59, 59, tzinfo=UTC),
        base_url="https://api.virtuoussoftware.com",
        organization_name="Example Relief Ærø",
    )
    assert json.loads(bearer.to_json()) | {"key_of_a_later_version": "ignored"} == json.loads(golden)


@pytest.mark.parametrize(
    ("pair", "written"),
    [
        pytest.param(TokenPair(ACCESS), {}, id="an access token alone is the least"),
        pytest.param(TokenPair(ACCESS, extra={"access_token": "stale", "kept": 1}), {"kept": 1}, id="unknown keys"),
        pytest.param(TokenPair(ACCESS, spent=("0a1b2c3d", "4e")), {"spent": ["0a1b2c3d", "4e"]}, id="what is spent"),
        pytest.param(TokenPair(ACCESS, two_factor_enabled=True), {"two_factor_enabled": True}, id="a second factor"),
    ],
)
def test_what_is_known_is_written_and_comes_back(pair: TokenPair, written: dict[str, Any]) -> None:
    least = {"version": 1, "access_token": "access-1", "token_type": "Bearer"}
    assert json.loads(pair.to_json()) == least | written
    assert json.loads(TokenPair.parse(pair.to_json()).to_json()) == least | written


@pytest.mark.parametrize(
    ("stored", "field", "read"),
    [
        pytest.param({"refresh_token": None}, "refresh_token", None, id="no refresh token"),
        pytest.param({"refresh_token": ' "r-1" '}, "refresh_token", SecretText("r-1"), id="pasted with its quotes"),
        pytest.param({"organization_id": 4711}, "organization_id", "4711", id="a number for a name"),
        pytest.param({"expires_at": "tomorrow"}, "expires_at", None, id="an instant in words"),
        pytest.param({"expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at", None, id="before the first year"),
        pytest.param({"issued_at": "9000-01-01T00:00:00Z"}, "issued_at", None, id="later than a lifetime allows"),
        pytest.param({"two_factor_enabled": "true"}, "two_factor_enabled", None, id="a flag in words"),
        pytest.param({"spent": "0a1b2c3d"}, "spent", (), id="a list that is none"),
    ],
)
def test_what_a_person_stored_oddly_hides_no_token(stored: dict[str, Any], field: str, read: object) -> None:
    pair = TokenPair.parse(json.dumps({"access_token": "access-1"} | stored))
    assert getattr(pair, field) == read
    assert pair.extra == {}


@pytest.mark.parametrize(
    "unusable",
    [
        pytest.param("refresh 1", id="a blank inside"),
        pytest.param("refresh-1\nrefresh-2", id="a newline inside"),
        pytest.param("refresh\u00a01", id="a blank that does not break"),
        pytest.param("\u201crefresh-1\u201d", id="typographic quotes"),
        pytest.param('"refresh-1', id="a lone quote"),
        pytest.param("réfresh-1", id="an accent"),
        pytest.param(["refresh-1"], id="a list"),
        pytest.param(7, id="a number"),
    ],
)
@pytest.mark.parametrize("key", ["access_token", "refresh_token"])
def test_what_no_token_can_hold_is_told_and_not_quoted(key: str, unusable: object) -> None:
    text = json.dumps({"access_token": "access-1", "refresh_token": "refresh-1", "spent": [], key: unusable})
    with pytest.raises(UnreadableSecret, match=key) as error:
        TokenPair.parse(text)
    assert "fresh" not in str(error.value).replace("refresh_token", "")
    assert not can_be_header(str(unusable)) or not isinstance(unusable, str)


@pytest.mark.parametrize("granted", ['odd "one"', " odd ", "odd\tone", "\u00f8dd"])
def test_a_granted_refresh_token_may_hold_what_a_pasted_one_may_not(granted: str) -> None:
    """It is kept to the letter; what a person then writes in its place is not."""
    stored = json.loads(TokenPair(ACCESS, SecretText(granted)).to_json())
    assert TokenPair.parse(json.dumps(stored | {"note": "edited"})).refresh_token == SecretText(granted)
    with pytest.raises(UnreadableSecret):
        TokenPair.parse(json.dumps(stored | {"refresh_token": "pasted with a blank"}))


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (TokenPair.parse, '{"version": 1, "entry": "intent", "access_token": "access-1"}', "journal entry"),
        (Bearer.parse, '{"access_token": "access-1", "refresh_token": "refresh-1"}', "/bearer"),
        (Bearer.parse, '{"access_token": "access-1", "entry": "outcome"}', "/bearer"),
    ],
)
def test_one_secrets_value_is_not_taken_for_anothers(parse: Any, text: str, problem: str) -> None:
    with pytest.raises(UnreadableSecret, match=problem):
        parse(text)


def test_the_type_of_a_readers_token_is_always_bearer() -> None:
    assert Bearer.parse('{"access_token": "access-1", "token_type": "bearer"}').token_type == "Bearer"


@pytest.mark.parametrize("parse", [TokenPair.parse, Bearer.parse], ids=["pair", "bearer"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(None, "is empty", id="bytes in place of text"),
        pytest.param("s3cret", "not a JSON object", id="plain text"),
        pytest.param('{"access_token": "s3cret"', "not a JSON object", id="cut off"),
        pytest.param('["s3cret"]', "not a JSON object", id="a list"),
        pytest.param("[" * 100_000, "not a JSON object", id="nested without end"),
        pytest.param('{"access_token": null}', "has no access_token", id="null"),
        pytest.param('{"access_token": "\\"\\""}', "has no access_token", id="nothing but quotes"),
        pytest.param('{"access_token": "s3cret\\r\\nX: s3cret"}', "a space, a quote", id="a header within"),
    ],
)
def test_what_cannot_be_read_is_told_without_the_value(parse: Any, text: str | None, problem: str) -> None:
    with pytest.raises(UnreadableSecret, match=problem) as raised:
        parse(text)
    assert "s3cret" not in str(raised.value)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)


def test_instants_are_written_in_utc_with_whole_seconds() -> None:
    instant = datetime(2026, 11, 25, 12, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert format_instant(instant) == "2026-11-25T10:00:00Z"
    with pytest.raises(ValueError, match="zone"):
        format_instant(datetime(2026, 11, 25))  # noqa: DTZ001
    assert parse_instant("2026-11-25T10:00:00") == ISSUED_AT
    with pytest.raises(ValueError, match="1970"):
        parse_instant("1969-12-31T23:59:59Z")


@pytest.mark.parametrize("token", ["a", "v_eyJ.abc-_~+/=", "!#$%&()*"])
@pytest.mark.parametrize("other", ["", " ", "\n", "'", "\x7f"])
def test_visible_ascii_but_quotes_may_be_a_header(token: str, other: str) -> None:
    assert can_be_header(token)
    assert not can_be_header(other)


def test_the_names_of_a_connections_secrets() -> None:
    names = ("virtuous/acme-2/tokens", "virtuous/acme-2/bearer", "virtuous/acme-2/login")
    assert SecretNames.of("virtuous", "acme-2") == names


@pytest.mark.parametrize("name", ["", "Acme", "a/b", "a b", "ä", "a\n"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        SecretNames.of("virtuous", name)
