"""The stored formats: what version 1 wrote is read for ever, odd values are named and never quoted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from tests.seed import SEED
from token_refresher.refresh.formats import SecretNames, TokenPair
from virtuous_token.contract import Bearer, can_be_header, format_instant, parse_instant, parse_object
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

GOLDEN = Path(__file__).parent / "golden"
ISSUED_AT = datetime(2026, 11, 25, 10, tzinfo=UTC)
EXPIRES_AT = datetime(2026, 12, 10, 9, 59, 59, tzinfo=UTC)


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text(encoding="utf-8")


class TestGoldenFiles:
    """These files never change: secrets of this form are out there."""

    def test_a_pair_of_version_1_is_read(self) -> None:
        assert TokenPair.parse(golden("pair")) == TokenPair(
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

    def test_a_pair_of_version_1_is_written_as_it_was_read(self) -> None:
        assert json.loads(TokenPair.parse(golden("pair")).to_json()) == json.loads(golden("pair"))

    def test_a_bearer_of_version_1_is_read(self) -> None:
        assert Bearer.parse(golden("bearer")) == Bearer(
            access_token=SecretText("golden-access-1"),
            token_type="Bearer",
            issued_at=ISSUED_AT,
            expires_at=EXPIRES_AT,
            next_refresh_at=datetime(2026, 12, 2, 21, 59, 59, tzinfo=UTC),
            base_url="https://api.virtuoussoftware.com",
            organization_name="Example Relief Ærø",
        )

    def test_a_bearer_of_version_1_is_written_with_every_key_that_this_version_knows(self) -> None:
        stored = json.loads(golden("bearer"))
        del stored["key_of_a_later_version"]
        assert json.loads(Bearer.parse(golden("bearer")).to_json()) == stored


class TestPair:
    def test_the_least_that_a_person_may_store_is_an_access_token(self) -> None:
        assert TokenPair.parse('{"access_token": "access-1"}') == TokenPair(SecretText("access-1"))

    def test_absent_values_are_not_written(self) -> None:
        assert json.loads(TokenPair(SecretText("access-1")).to_json()) == {
            "version": 1,
            "access_token": "access-1",
            "token_type": "Bearer",
        }

    def test_one_value_has_one_text(self) -> None:
        pair = TokenPair.parse(golden("pair"))
        assert TokenPair.parse(pair.to_json()).to_json() == pair.to_json()

    def test_no_unknown_key_takes_the_place_of_a_known_one(self) -> None:
        pair = TokenPair(SecretText("access-1"), extra={"access_token": "stale", "kept": 1})
        assert json.loads(pair.to_json()) == {
            "version": 1,
            "access_token": "access-1",
            "token_type": "Bearer",
            "kept": 1,
        }

    @pytest.mark.parametrize(
        "absent",
        [
            pytest.param(None, id="null"),
            pytest.param("", id="empty"),
            pytest.param(' "" ', id="an empty pair of quotes"),
        ],
    )
    def test_a_refresh_token_that_is_none_is_absent(self, absent: object) -> None:
        text = json.dumps({"access_token": "access-1", "refresh_token": absent})
        assert TokenPair.parse(text).refresh_token is None

    @pytest.mark.parametrize(
        "unusable",
        [
            pytest.param("refresh 1", id="a blank inside"),
            pytest.param("refresh-1\nrefresh-2", id="a newline inside"),
            pytest.param("refresh\t1", id="a tab"),
            pytest.param("refresh\u00a01", id="a blank that does not break"),
            pytest.param("refresh\u200b1", id="a blank without width"),
            pytest.param("\ufeffrefresh-1", id="a byte order mark"),
            pytest.param("\u201crefresh-1\u201d", id="typographic quotes"),
            pytest.param('"refresh-1', id="a lone quote"),
            pytest.param("\"'refresh-1'\"", id="two pairs of quotes"),
            pytest.param('refresh"1', id="a quote inside"),
            pytest.param("réfresh-1", id="an accent"),
            pytest.param("refresh\x001", id="a NUL"),
            pytest.param(["refresh-1"], id="a list"),
            pytest.param(7, id="a number"),
        ],
    )
    @pytest.mark.parametrize("key", ["access_token", "refresh_token"])
    def test_what_no_token_can_hold_is_told_and_not_quoted(self, key: str, unusable: object) -> None:
        text = json.dumps({"access_token": "access-1", "refresh_token": "refresh-1", "spent": [], key: unusable})
        with pytest.raises(UnreadableSecret, match=key) as error:
            TokenPair.parse(text)
        assert "fresh" not in str(error.value).replace("refresh_token", "")

    @pytest.mark.parametrize("granted", ['odd "one"', " odd ", "odd\tone", "\u00f8dd"])
    def test_a_granted_refresh_token_may_hold_what_a_pasted_one_may_not(self, granted: str) -> None:
        """It is kept to the letter; what a person then writes in its place is not."""
        pair = TokenPair(SecretText("access-1"), SecretText(granted))
        stored = json.loads(pair.to_json())
        assert TokenPair.parse(json.dumps(stored | {"note": "edited"})).refresh_token == SecretText(granted)
        with pytest.raises(UnreadableSecret):
            TokenPair.parse(json.dumps(stored | {"refresh_token": "pasted with a blank"}))

    @pytest.mark.parametrize("spent", [(), ("0a1b2c3d", "4e5f6071")])
    def test_fingerprints_of_spent_tokens_survive(self, spent: tuple[str, ...]) -> None:
        pair = TokenPair(SecretText("access-1"), spent=spent)
        assert TokenPair.parse(pair.to_json()) == pair
        assert ("spent" in json.loads(pair.to_json())) == bool(spent)

    @pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(), timedelta(minutes=10), timedelta(days=1)])
    def test_a_token_is_not_younger_than_the_version_that_holds_it(self, ahead: timedelta) -> None:
        """Whatever its writer's clock said: it lives as long as the writer was told, from then on."""
        issued_at = ISSUED_AT + ahead
        pair = TokenPair(SecretText("access-1"), issued_at=issued_at, expires_at=issued_at + timedelta(hours=1))
        dated = pair.dated_by(ISSUED_AT)
        assert dated.issued_at == min(issued_at, ISSUED_AT)
        assert dated.expires_at == min(issued_at, ISSUED_AT) + timedelta(hours=1)

    def test_tokens_that_were_pasted_with_quotes_and_space_are_cleaned(self) -> None:
        text = json.dumps({"access_token": " 'access-1'\n", "refresh_token": ' "refresh-1" '})
        assert TokenPair.parse(text) == TokenPair(SecretText("access-1"), SecretText("refresh-1"))

    def test_an_identifier_that_is_a_number_becomes_text(self) -> None:
        text = json.dumps({"access_token": "access-1", "organization_id": 4711})
        assert TokenPair.parse(text).organization_id == "4711"

    @pytest.mark.parametrize(
        "odd",
        [
            pytest.param("tomorrow", id="words"),
            pytest.param(1764064800, id="a number"),
            pytest.param(None, id="null"),
            pytest.param("2026-13-01T00:00:00Z", id="a thirteenth month"),
            pytest.param("0001-01-01T00:00:00+14:00", id="before the first year once it is UTC"),
        ],
    )
    def test_an_unreadable_instant_hides_no_token(self, odd: object) -> None:
        text = json.dumps({"access_token": "access-1", "expires_at": odd})
        assert TokenPair.parse(text).expires_at is None

    @pytest.mark.parametrize(
        "odd",
        [
            pytest.param("1969-12-31T23:59:59Z", id="before 1970"),
            pytest.param("9000-01-01T00:00:00Z", id="so late that adding a lifetime would leave the calendar"),
        ],
    )
    def test_an_instant_that_no_token_can_have_hides_no_token(self, odd: str) -> None:
        with pytest.raises(ValueError, match="1970"):
            parse_instant(odd)
        assert TokenPair.parse(json.dumps({"access_token": "access-1", "issued_at": odd})).issued_at is None

    @pytest.mark.parametrize("flag", [True, False])
    def test_a_second_factor_that_is_known_is_kept(self, flag: bool) -> None:
        pair = TokenPair(SecretText("access-1"), two_factor_enabled=flag)
        assert json.loads(pair.to_json())["two_factor_enabled"] is flag
        assert TokenPair.parse(pair.to_json()) == pair

    @pytest.mark.parametrize("odd", [None, "true", 1, [True]])
    def test_a_second_factor_that_is_no_flag_is_unknown(self, odd: object) -> None:
        pair = TokenPair.parse(json.dumps({"access_token": "access-1", "two_factor_enabled": odd}))
        assert pair.two_factor_enabled is None
        assert "two_factor_enabled" not in pair.extra

    def test_a_journal_entry_is_no_pair(self) -> None:
        with pytest.raises(UnreadableSecret, match="journal entry"):
            TokenPair.parse('{"version": 1, "entry": "intent", "access_token": "access-1"}')


class TestBearer:
    @pytest.mark.parametrize(
        "stored",
        [
            pytest.param({"access_token": "access-1", "refresh_token": "refresh-1"}, id="a pair"),
            pytest.param({"access_token": "access-1", "entry": "outcome"}, id="a journal entry"),
        ],
    )
    def test_what_belongs_into_the_pair_secret_is_refused(self, stored: dict[str, str]) -> None:
        with pytest.raises(UnreadableSecret, match="/bearer"):
            Bearer.parse(json.dumps(stored))

    def test_the_type_of_the_token_is_always_bearer(self) -> None:
        assert Bearer.parse('{"access_token": "access-1", "token_type": "bearer"}').token_type == "Bearer"


class TestUnreadable:
    @pytest.mark.parametrize("parse", [TokenPair.parse, Bearer.parse], ids=["pair", "bearer"])
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            pytest.param(None, "is empty", id="bytes in place of text"),
            pytest.param("", "is empty", id="empty"),
            pytest.param(" \n", "is empty", id="blank"),
            pytest.param("s3cret", "not a JSON object", id="plain text"),
            pytest.param('{"access_token": "s3cret"', "not a JSON object", id="cut off"),
            pytest.param('["s3cret"]', "not a JSON object", id="a list"),
            pytest.param("[" * 100_000, "not a JSON object", id="nested without end"),
            pytest.param("{}", "has no access_token", id="an empty object"),
            pytest.param('{"access_token": null}', "has no access_token", id="null"),
            pytest.param('{"access_token": "\\"\\""}', "has no access_token", id="nothing but quotes"),
            pytest.param('{"access_token": 12345}', "has no access_token", id="a number"),
            pytest.param('{"access_token": "s3cret s3cret"}', "a space, a quote", id="a space within"),
            pytest.param('{"access_token": "s3cret\\r\\nX: s3cret"}', "a space, a quote", id="a header within"),
            pytest.param('{"access_token": "s3cret\\u00e9"}', "a space, a quote", id="an accent"),
        ],
    )
    def test_is_told_without_the_value(self, parse: Any, text: str | None, problem: str) -> None:
        with pytest.raises(UnreadableSecret, match=problem) as raised:
            parse(text)
        assert "s3cret" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__context__ is None

    def test_the_text_begins_with_what_it_is_about(self) -> None:
        with pytest.raises(UnreadableSecret, match=r"^the login of acme is empty$"):
            parse_object("", "the login of acme")


class TestMasking:
    @pytest.mark.parametrize("parse", [TokenPair.parse, Bearer.parse], ids=["pair", "bearer"])
    def test_no_token_shows(self, parse: Any) -> None:
        parsed = parse('{"access_token": "s3cret-1", "other": "s3cret-2"}')
        assert "s3cret" not in f"{parsed} {parsed!r}"


class TestInstants:
    def test_are_written_in_utc_with_whole_seconds(self) -> None:
        instant = datetime(2026, 11, 25, 12, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
        assert format_instant(instant) == "2026-11-25T10:00:00Z"

    def test_without_a_zone_are_refused_when_written_and_utc_when_read(self) -> None:
        with pytest.raises(ValueError, match="zone"):
            format_instant(datetime(2026, 11, 25))  # noqa: DTZ001
        assert parse_instant("2026-11-25T10:00:00") == ISSUED_AT

    @seed(SEED)
    @given(st.datetimes(datetime(1970, 1, 1), datetime(8999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
    def test_are_read_as_they_were_written(self, instant: datetime) -> None:
        assert parse_instant(format_instant(instant)) == instant.replace(microsecond=0)


class TestHeaderSafety:
    @pytest.mark.parametrize("token", ["a", "v_eyJ.abc-_~+/=", "!#$%&()*"])
    def test_visible_ascii_may_be_a_header(self, token: str) -> None:
        assert can_be_header(token)

    @pytest.mark.parametrize("token", ["", " a", "a\n", "a b", '"a"', "a'", "\x7f", "é", "a\x00", "​a"])
    def test_anything_else_may_not(self, token: str) -> None:
        assert not can_be_header(token)


class TestNames:
    def test_of_a_connection(self) -> None:
        assert SecretNames.of("virtuous", "acme-2") == (
            "virtuous/acme-2/tokens",
            "virtuous/acme-2/bearer",
            "virtuous/acme-2/login",
        )

    @pytest.mark.parametrize("name", ["", "Acme", "a/b", "a b", "ä", "a\n"])
    def test_others_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="lower-case"):
            SecretNames.of("virtuous", name)
