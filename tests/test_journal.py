"""The journal's entries and ids: two releases that run side by side must agree on every one of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.seed import SEED
from tests.support import NOW, a_pair
from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.journal import (
    FIRST_PAIR_ID,
    Attempt,
    CredentialKind,
    Entry,
    History,
    Intent,
    Outcome,
    ancestors,
    backoff,
    beside_id,
    chain_end,
    claim_id,
    merged,
    parse_entry,
    result_id,
)
from token_refresher.refresh.model import Ending, StoredVersion, Versions
from virtuous_token.errors import UnreadableSecret

GOLDEN = Path(__file__).parent / "golden"
VERSION = "11111111-1111-4111-8111-111111111111"
HOLDER = "22222222-2222-4222-8222-222222222222"
ENTRY = "33333333-3333-4333-8333-333333333333"
BY_HAND = "a version id that a person chose, 47 characters"

INTENT = Intent(
    replaces=VERSION,
    holder=HOLDER,
    kind=CredentialKind.PREVIOUS,
    started_at=NOW,
    dead_after=NOW + timedelta(minutes=6),
    history=History({"refresh_token": Attempt(NOW - timedelta(seconds=2), Ending.REFUSED)}, failures=1),
)
OUTCOME = Outcome(
    replaces=VERSION,
    result=Ending.THROTTLED,
    at=NOW + timedelta(seconds=3),
    retry_at=NOW + timedelta(seconds=850),
    history=History({**INTENT.history.attempts, "previous_refresh_token": Attempt(NOW, Ending.THROTTLED)}, failures=2),
)

INTENT_1_1 = Intent(
    replaces=VERSION,
    holder=HOLDER,
    kind=CredentialKind.SUPERSEDED,
    started_at=NOW,
    dead_after=NOW + timedelta(minutes=6),
    holds_for=timedelta(minutes=6),
    credential="c6d7e8f9",
    history=History(
        attempts={
            "0a1b2c3d": Attempt(NOW - timedelta(seconds=2), Ending.REFUSED),
            "password": Attempt(NOW - timedelta(seconds=1), Ending.UNREACHABLE),
        },
        failures=2,
        spent=("4e5f6071", "8293a4b5"),
        newest=VERSION,
    ),
)
OUTCOME_1_1 = INTENT_1_1.ends(Ending.THROTTLED, NOW + timedelta(seconds=3), wait=timedelta(seconds=847))
GOLDEN_ENTRIES = [
    ("intent-v1.json", INTENT),
    ("outcome-v1.json", OUTCOME),
    ("intent-v1.1.json", INTENT_1_1),
    ("outcome-v1.1.json", OUTCOME_1_1),
]

instants = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda instant: instant.replace(microsecond=0)
)
histories = st.builds(
    History,
    attempts=st.dictionaries(st.text(), st.builds(Attempt, instants, st.sampled_from(Ending))),
    failures=st.integers(0, 10**6),
    spent=st.none() | st.lists(st.text()).map(tuple),
    newest=st.none() | st.text(min_size=1),
)
entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        Intent,
        replaces=st.text(),
        holder=st.text(),
        kind=st.sampled_from(CredentialKind),
        started_at=instants,
        dead_after=instants,
        holds_for=st.none() | st.integers(0, 10**6).map(lambda seconds: timedelta(seconds=seconds)),
        credential=st.none() | st.text(min_size=1),
        history=histories,
    ),
    st.builds(
        Outcome,
        replaces=st.text(),
        result=st.sampled_from(Ending),
        at=instants,
        retry_at=st.none() | instants,
        history=histories,
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


def test_the_first_login_and_a_pair_beside_its_slot_have_the_same_ids_in_every_release() -> None:
    assert FIRST_PAIR_ID == "63e939fd-66a3-53d4-ba7b-88d647b7c912"
    assert beside_id(VERSION) == "eb6502aa-8ebb-57ce-8921-5080821217f3"


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
    stored = parse_entry(INTENT._replace(dead_after=NOW + timedelta(seconds=1.9)).to_json())

    assert isinstance(stored, Intent)
    assert stored.dead_after == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(("name", "entry"), GOLDEN_ENTRIES)
def test_what_any_version_wrote_parses_for_ever(name: str, entry: Entry) -> None:
    assert parse_entry((GOLDEN / name).read_text()) == entry


@pytest.mark.parametrize(("name", "entry"), GOLDEN_ENTRIES)
def test_what_is_written_today_holds_all_that_any_version_wrote(name: str, entry: Entry) -> None:
    written, golden = json.loads(entry.to_json()), json.loads((GOLDEN / name).read_text())

    assert golden.items() <= written.items()


def test_unknown_keys_are_ignored() -> None:
    grown = {**json.loads(INTENT.to_json()), "version": 2, "region": "us-east-1"}

    assert parse_entry(json.dumps(grown)) == INTENT


def test_an_entry_without_its_history_counts_as_the_first_attempt() -> None:
    stored = json.loads(OUTCOME.to_json())
    del stored["attempts"], stored["failures"]

    assert parse_entry(json.dumps(stored)) == OUTCOME._replace(history=History())


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
        pytest.param(_changed(INTENT, holds_for_seconds="long"), id="a duration in words"),
        pytest.param(_changed(INTENT, holds_for_seconds=1e300), id="an endless duration"),
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
    assert entry.result is Ending.UNKNOWN


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


# The chain


def _listed(*version_ids: str, start: datetime = NOW) -> Versions:
    return Versions(
        tuple(StoredVersion(version_id, start + timedelta(seconds=n)) for n, version_id in enumerate(version_ids))
    )


CLAIM = claim_id(VERSION)
RESULT = result_id(CLAIM)
LOGIN = claim_id(RESULT)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        pytest.param([], None, id="no version"),
        pytest.param([VERSION], VERSION, id="one pair"),
        pytest.param([VERSION, ENTRY, HOLDER], VERSION, id="nothing was claimed: the oldest, whatever came after it"),
        pytest.param([VERSION, CLAIM], CLAIM, id="a claim"),
        pytest.param([VERSION, CLAIM, RESULT], RESULT, id="what came of it"),
        pytest.param([VERSION, CLAIM, RESULT, ENTRY], RESULT, id="and a pair that a person stored later"),
        pytest.param([VERSION, CLAIM, RESULT, LOGIN], LOGIN, id="a login in the next claim's place"),
        pytest.param([ENTRY, RESULT, LOGIN], LOGIN, id="what came before is removed"),
        pytest.param([VERSION, CLAIM, RESULT, beside_id(RESULT)], RESULT, id="a pair beside the slot is no part of it"),
        pytest.param([VERSION, ENTRY, claim_id(ENTRY), CLAIM], CLAIM, id="of two chains the one that went on last"),
    ],
)
def test_the_chains_end(listed: list[str], expected: str | None) -> None:
    end = chain_end(_listed(*listed))

    assert (end.version_id if end else None) == expected


def test_versions_of_one_instant_are_told_apart_by_the_chain() -> None:
    at_once = Versions(tuple(StoredVersion(version_id, NOW) for version_id in (RESULT, LOGIN, CLAIM, VERSION)))

    end = chain_end(at_once)

    assert end is not None
    assert end.version_id == LOGIN


def test_ancestors_are_all_that_the_end_follows() -> None:
    versions = _listed(VERSION, CLAIM, ENTRY, RESULT, LOGIN)

    assert ancestors(LOGIN, versions) == {LOGIN, RESULT, CLAIM, VERSION}
    assert ancestors(ENTRY, versions) == {ENTRY}


@settings(deadline=None)
@seed(SEED)
@given(st.lists(st.integers(0, 2), max_size=30), st.lists(st.integers(0, 40), max_size=8))
def test_a_chain_of_any_steps_ends_where_it_was_last_written(steps: list[int], by_hand: list[int]) -> None:
    """A step is a claim and its result, or a login; pairs stored by hand come in between."""
    chain = [VERSION]
    for step in steps:
        chain += [claim_id(chain[-1])] if step == 2 else [claim_id(chain[-1]), result_id(claim_id(chain[-1]))]
    listed = list(chain)
    for number, place in enumerate(by_hand):
        listed.insert(1 + place % len(listed), f"by-hand-{number:032}")

    end = chain_end(_listed(*listed))

    assert end is not None
    assert end.version_id == chain[-1]
    assert ancestors(chain[-1], _listed(*listed)) == set(chain)


def test_fingerprints_are_merged_newest_first_and_twenty_are_kept() -> None:
    assert merged(["c"], ["b", "a"], ["a", "c", "0"]) == ("c", "b", "a", "0")
    assert merged([str(number) for number in range(30)]) == tuple(str(number) for number in range(20))


# What follows an intent, and when


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(days=1), -timedelta(days=1)])
def test_a_holder_is_dead_by_secrets_managers_clock_and_the_stored_duration(ahead: timedelta) -> None:
    """Whatever its own clock said when it named an instant."""
    holds_for = timedelta(minutes=6)
    intent = INTENT_1_1._replace(started_at=NOW + ahead, dead_after=NOW + ahead + holds_for, holds_for=holds_for)

    assert not intent.is_dead(NOW, NOW + timedelta(minutes=6))
    assert intent.is_dead(NOW, NOW + timedelta(minutes=6, seconds=1))


def test_a_holder_of_version_1_0_is_dead_at_the_instant_that_it_named() -> None:
    assert not INTENT.is_dead(NOW - timedelta(days=1), INTENT.dead_after)
    assert INTENT.is_dead(NOW, INTENT.dead_after + timedelta(seconds=1))


def test_an_intent_ends_with_its_own_attempt_added_to_the_earlier_ones() -> None:
    ended = INTENT.ends(Ending.THROTTLED, OUTCOME.at, wait=timedelta(seconds=847))

    assert ended == OUTCOME


@pytest.mark.parametrize("before", [None, *Ending])
@pytest.mark.parametrize("result", Ending)
def test_a_verdict_stands_until_another_takes_its_place(before: Ending | None, result: Ending) -> None:
    """A refused credential does not become a promising one because the next try met a throttled server."""
    others = {"0a0a0a0a": Attempt(NOW, Ending.REFUSED)}
    history = History(others | ({"1b1b1b1b": Attempt(NOW, before)} if before else {}))
    again = INTENT._replace(credential="1b1b1b1b", started_at=NOW + timedelta(days=1), history=history)

    ended = again.ends(result, NOW + timedelta(days=1, seconds=30))

    stands = before if before and before.is_verdict and not result.is_verdict else result
    assert ended.result is stands
    assert ended.history.attempts == others | {"1b1b1b1b": Attempt(NOW + timedelta(days=1), stands)}


def test_the_newest_twenty_attempts_are_remembered() -> None:
    attempts = {f"{number:08x}": Attempt(NOW, Ending.REFUSED) for number in range(20)}

    ended = INTENT._replace(credential="new", history=History(attempts)).ends(Ending.UNKNOWN, NOW)

    assert list(ended.history.attempts) == [*list(attempts)[1:], "new"]


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
