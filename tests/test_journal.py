"""The journal's entries and ids: two releases that run side by side must agree on every one of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.seed import SEED
from tests.support import NOW, a_pair
from token_refresher.journal import (
    Attempt,
    Ended,
    Entry,
    Grant,
    Intent,
    Outcome,
    backoff,
    claim_id,
    parse_entry,
    result_id,
)
from virtuous_token.contract import TokenPair
from virtuous_token.errors import UnreadableSecret

GOLDEN = Path(__file__).parent / "golden"
VERSION = "11111111-1111-4111-8111-111111111111"
HOLDER = "22222222-2222-4222-8222-222222222222"
ENTRY = "33333333-3333-4333-8333-333333333333"
BY_HAND = "a version id that a person chose, 47 characters"

INTENT = Intent(
    replaces=VERSION,
    holder=HOLDER,
    grant=Grant.PREVIOUS,
    started_at=NOW,
    dead_after=NOW + timedelta(minutes=6),
    attempts={Grant.CURRENT: Attempt(NOW - timedelta(seconds=2), Ended.REFUSED)},
    failures=1,
)
OUTCOME = Outcome(
    replaces=VERSION,
    ended=Ended.THROTTLED,
    at=NOW + timedelta(seconds=3),
    retry_at=NOW + timedelta(seconds=850),
    attempts={**INTENT.attempts, Grant.PREVIOUS: Attempt(NOW, Ended.THROTTLED)},
    failures=2,
)

instants = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda instant: instant.replace(microsecond=0)
)
attempts = st.dictionaries(st.sampled_from(Grant), st.builds(Attempt, instants, st.sampled_from(Ended)))
entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        Intent,
        replaces=st.text(),
        holder=st.text(),
        grant=st.sampled_from(Grant),
        started_at=instants,
        dead_after=instants,
        attempts=attempts,
        failures=st.integers(0, 10**6),
    ),
    st.builds(
        Outcome,
        replaces=st.text(),
        ended=st.sampled_from(Ended),
        at=instants,
        retry_at=st.none() | instants,
        attempts=attempts,
        failures=st.integers(0, 10**6),
    ),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


# Ids


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        pytest.param(VERSION, "edc11ed7-0b5e-55f4-8e27-b8c09107ac60", id="after a version of ours"),
        pytest.param(BY_HAND, "34ca377c-9edd-5869-bee6-ac1ff3921640", id="after a version that a person named"),
    ],
)
def test_a_claim_has_the_same_id_in_every_release(slot: str, expected: str) -> None:
    assert claim_id(slot) == expected


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        pytest.param(ENTRY, "0ed47649-1a0f-5095-8e90-4893d18515ee", id="a claim of ours"),
        pytest.param(BY_HAND, "ba507a72-4367-53f4-8a6d-66c507d5eef3", id="a label that a person put elsewhere"),
    ],
)
def test_a_result_slot_has_the_same_id_in_every_release(claim: str, expected: str) -> None:
    assert result_id(claim) == expected


@settings(deadline=None)  # a busy machine is no defect
@seed(SEED)
@given(st.text())
def test_an_id_is_one_that_secrets_manager_accepts(slot: str) -> None:
    """ClientRequestToken takes 32 to 64 characters (API Reference, PutSecretValue)."""
    claim = claim_id(slot)

    assert 32 <= len(claim) <= 64
    assert 32 <= len(result_id(claim)) <= 64


def test_each_slot_is_followed_by_a_claim_of_its_own() -> None:
    ids = [claim_id(slot) for slot in (VERSION, HOLDER, ENTRY, BY_HAND)]
    ids += [result_id(claim) for claim in ids]

    assert all(one != other for one, other in combinations(ids, 2))


# Entries


@settings(deadline=None)
@seed(SEED)
@given(entries)
def test_an_entry_comes_back_as_it_was_written(entry: Entry) -> None:
    assert parse_entry(entry.to_json()) == entry


def test_an_instant_is_stored_in_whole_seconds_rounded_down() -> None:
    stored = parse_entry(replace(INTENT, dead_after=NOW + timedelta(seconds=1.9)).to_json())

    assert isinstance(stored, Intent)
    assert stored.dead_after == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(("name", "entry"), [("intent-v1.json", INTENT), ("outcome-v1.json", OUTCOME)])
def test_what_version_one_wrote_parses_for_ever(name: str, entry: Entry) -> None:
    assert parse_entry((GOLDEN / name).read_text()) == entry


@pytest.mark.parametrize(("name", "entry"), [("intent-v1.json", INTENT), ("outcome-v1.json", OUTCOME)])
def test_what_is_written_today_holds_all_that_version_one_wrote(name: str, entry: Entry) -> None:
    written, golden = json.loads(entry.to_json()), json.loads((GOLDEN / name).read_text())

    assert golden.items() <= written.items()


def test_unknown_keys_are_ignored() -> None:
    grown = {**json.loads(INTENT.to_json()), "version": 2, "region": "us-east-1"}

    assert parse_entry(json.dumps(grown)) == INTENT


def test_an_entry_without_its_history_counts_as_the_first_attempt() -> None:
    stored = json.loads(OUTCOME.to_json())
    del stored["attempts"], stored["failures"]

    assert parse_entry(json.dumps(stored)) == replace(OUTCOME, attempts={}, failures=0)


def _changed(entry: Entry, /, **changes: Any) -> str:
    return json.dumps({**json.loads(entry.to_json()), **changes})


def _without(entry: Entry, key: str) -> str:
    return json.dumps({name: value for name, value in json.loads(entry.to_json()).items() if name != key})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="a version that is not there yet"),
        pytest.param("", id="nothing"),
        pytest.param("{}", id="an empty object"),
        pytest.param("[]", id="a list"),
        pytest.param("access-1", id="plain text"),
        pytest.param("[" * 100_000, id="too deep to parse"),
        pytest.param(a_pair().to_json(), id="a token pair"),
        pytest.param(_changed(INTENT, entry="promise"), id="an entry of another kind"),
        pytest.param(_without(INTENT, "entry"), id="no kind"),
        pytest.param(_without(INTENT, "replaces"), id="an intent for no version"),
        pytest.param(_without(OUTCOME, "replaces"), id="an outcome for no version"),
        pytest.param(_without(INTENT, "dead_after"), id="an intent that never dies"),
        pytest.param(_changed(INTENT, started_at="soon"), id="an instant in words"),
        pytest.param(_changed(INTENT, dead_after=1795608360), id="an instant in seconds"),
        pytest.param(_changed(OUTCOME, at="0001-01-01T00:00:00+23:00"), id="an instant before the calendar"),
        pytest.param(_changed(OUTCOME, retry_at=True), id="a retry_at that is true"),
        pytest.param(_changed(OUTCOME, attempts=["refresh_token"]), id="attempts in a list"),
        pytest.param(_changed(OUTCOME, attempts={"refresh_token": "refused"}), id="an attempt without its instant"),
        pytest.param(_changed(OUTCOME, failures="many"), id="failures in words"),
        pytest.param(_changed(OUTCOME, failures=float("inf")), id="endless failures"),
    ],
)
def test_anything_else_is_no_entry(text: str | None) -> None:
    assert parse_entry(text) is None


def test_a_claim_with_a_grant_that_only_a_later_version_knows_still_counts() -> None:
    for grant in ("client_credentials", ["refresh_token"]):
        entry = parse_entry(_changed(INTENT, grant=grant))
        assert isinstance(entry, Intent)
        assert (entry.replaces, entry.dead_after) == (INTENT.replaces, INTENT.dead_after)


def test_an_ending_that_only_a_later_version_knows_leaves_a_doubt() -> None:
    entry = parse_entry(_changed(OUTCOME, outcome="exploded"))
    assert isinstance(entry, Outcome)
    assert entry.ended is Ended.UNKNOWN


@settings(deadline=None)
@seed(SEED)
@given(st.sampled_from([INTENT, OUTCOME]), st.data())
def test_no_value_of_any_key_raises(entry: Entry, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(json.loads(entry.to_json()))))

    parsed = parse_entry(_changed(entry, **{key: data.draw(json_values)}))

    assert parsed is None or isinstance(parsed, Intent | Outcome)


@pytest.mark.parametrize("entry", [INTENT, OUTCOME])
def test_an_entry_is_never_taken_for_a_token_pair(entry: Entry) -> None:
    with pytest.raises(UnreadableSecret, match="journal entry"):
        TokenPair.parse(entry.to_json())


# What follows an intent, and when


def test_an_intent_ends_with_its_own_attempt_added_to_the_earlier_ones() -> None:
    ended = INTENT.ends(Ended.THROTTLED, OUTCOME.at, retry_at=OUTCOME.retry_at)

    assert ended == OUTCOME


def test_a_second_attempt_with_one_credential_replaces_the_first_in_the_history() -> None:
    before = {Grant.CURRENT: Attempt(NOW, Ended.THROTTLED)}
    again = replace(INTENT, grant=Grant.CURRENT, started_at=NOW + timedelta(days=1), attempts=before)

    ended = again.ends(Ended.UNKNOWN, NOW + timedelta(days=1, seconds=30))

    assert ended.attempts == {Grant.CURRENT: Attempt(NOW + timedelta(days=1), Ended.UNKNOWN)}


@pytest.mark.parametrize("verdict", [ended for ended in Ended if ended.is_verdict])
@pytest.mark.parametrize("later", [ended for ended in Ended if not ended.is_verdict])
def test_a_verdict_stands_when_the_next_attempt_brings_none(verdict: Ended, later: Ended) -> None:
    again = replace(INTENT, grant=Grant.CURRENT, attempts={Grant.CURRENT: Attempt(NOW, verdict)})

    ended = again.ends(later, NOW + timedelta(days=1))

    assert ended.ended is verdict
    assert ended.attempts == {Grant.CURRENT: Attempt(again.started_at, verdict)}


def test_a_verdict_takes_the_place_of_the_one_before() -> None:
    again = replace(INTENT, grant=Grant.CURRENT, attempts={Grant.CURRENT: Attempt(NOW, Ended.REFUSED)})

    assert again.ends(Ended.CODE_NEEDED, NOW).ended is Ended.CODE_NEEDED


def test_a_verdict_on_one_credential_says_nothing_of_another() -> None:
    assert INTENT.attempts[Grant.CURRENT].ended is Ended.REFUSED
    assert INTENT.ends(Ended.UNKNOWN, NOW).ended is Ended.UNKNOWN


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [
        pytest.param(1, 30, id="soon after the first"),
        pytest.param(2, 90, id="three times as long after the second"),
        pytest.param(5, 2430, id="still growing"),
        pytest.param(6, 3600, id="an hour at most"),
        pytest.param(10**6, 3600, id="an hour after any number"),
    ],
)
def test_the_wait_after_attempts_without_a_verdict(failures: int, seconds: int) -> None:
    assert backoff(failures) == timedelta(seconds=seconds)


def test_a_day_of_failures_writes_fewer_versions_than_secrets_manager_keeps() -> None:
    """About 100 versions fit, and none younger than a day is removed: two for each attempt."""
    versions, failures, elapsed = 0, 0, timedelta()
    while elapsed < timedelta(days=1):
        failures += 1
        versions += 2
        elapsed += backoff(failures)

    assert versions <= 60


def test_what_may_be_sent_again_and_what_is_in_doubt_never_overlap() -> None:
    spent_nothing = {ended for ended in Ended if ended.nothing_spent}
    in_doubt = {ended for ended in Ended if ended.in_doubt}

    assert spent_nothing == {Ended.MISCONFIGURED, Ended.THROTTLED, Ended.UNREACHABLE}
    assert in_doubt == {Ended.UNKNOWN, Ended.HOLDER_DIED}
