"""The journal's entries and ids: two releases that run side by side must agree on every one of them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.seed import SEED
from tests.support import NOW, a_pair
from token_refresher.refresh.journal import (
    Attempt,
    Entry,
    History,
    Intent,
    Outcome,
    backoff,
    chain_end,
    claim_id,
    late_pair_id,
    merged,
    parse_entry,
    result_id,
)
from token_refresher.refresh.model import Ending, StoredVersion, Versions
from token_refresher.virtuous.judgement import LONGEST_TOKEN
from virtuous_token.secret_text import SecretText

VERSION = "11111111-1111-4111-8111-111111111111"
ENTRY = "33333333-3333-4333-8333-333333333333"
BY_HAND = "a version id that a person chose, 47 characters"

INTENT = Intent(
    replaces=VERSION,
    holder="22222222-2222-4222-8222-222222222222",
    credential="c6d7e8f9",
    started_at=NOW,
    holds_for=timedelta(minutes=6),
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
OUTCOME = INTENT.ends(Ending.THROTTLED, NOW + timedelta(seconds=3), wait=timedelta(seconds=847))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def _listed(*version_ids: str) -> Versions:
    listed = (StoredVersion(version_id, NOW + timedelta(seconds=n)) for n, version_id in enumerate(version_ids))
    return Versions(tuple(listed), "arn:aws:secretsmanager:us-east-1:123456789012:secret:v/a/tokens-AbCdEf", NOW)


ROOT = chain_end(_listed())
CLAIM = claim_id(ROOT)
RESULT = result_id(CLAIM)
LOGIN = claim_id(RESULT)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(ROOT, "c0f37fcb-75f2-5c12-a8a6-a98545f80b7f", id="where a chain begins, from the secret's ARN"),
        pytest.param(claim_id(VERSION), "edc11ed7-0b5e-55f4-8e27-b8c09107ac60", id="a claim after a version of ours"),
        pytest.param(claim_id(BY_HAND), "34ca377c-9edd-5869-bee6-ac1ff3921640", id="after one that a person named"),
        pytest.param(result_id(ENTRY), "0ed47649-1a0f-5095-8e90-4893d18515ee", id="the result of a claim"),
        pytest.param(result_id(BY_HAND), "ba507a72-4367-53f4-8a6d-66c507d5eef3", id="of what a person put there"),
        pytest.param(late_pair_id(VERSION), "6565cba2-6e79-3ec0-940f-dfb444435277", id="a pair that came late"),
    ],
)
def test_an_id_is_the_same_in_every_release(made: str, expected: str) -> None:
    assert made == expected


# Entries


@pytest.mark.parametrize(("name", "entry"), [("intent-v1.json", INTENT), ("outcome-v1.json", OUTCOME)])
def test_what_any_version_wrote_parses_for_ever_and_is_still_written(name: str, entry: Entry) -> None:
    golden = (Path(__file__).parent / "golden" / name).read_text()
    assert parse_entry(golden) == entry
    assert json.loads(golden).items() <= json.loads(entry.to_json()).items()


def _changed(entry: Entry, /, *left_out: str, **changes: Any) -> str:
    stored = json.loads(entry.to_json()) | changes
    return json.dumps({key: value for key, value in stored.items() if key not in left_out})


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        pytest.param(OUTCOME._replace(retry_at=None).to_json(), OUTCOME._replace(retry_at=None), id="no retry_at"),
        pytest.param(_changed(INTENT, version=2, region="us-east-1"), INTENT, id="unknown keys are ignored"),
        pytest.param(
            _changed(OUTCOME, "attempts", "failures", "spent", "newest"),
            OUTCOME._replace(history=History()),
            id="without its history it counts as the first attempt",
        ),
        pytest.param(
            _changed(OUTCOME, outcome="exploded"),
            OUTCOME._replace(result=Ending.UNKNOWN),
            id="an ending that only a later version knows leaves a doubt",
        ),
    ],
)
def test_an_entry_of_another_release_is_read(text: str, entry: Entry) -> None:
    assert parse_entry(text) == entry


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="a version that is not there yet"),
        pytest.param("[" * 100_000, id="too deep to parse"),
        pytest.param(a_pair().to_json(), id="a token pair"),
        pytest.param(_changed(INTENT, entry="promise"), id="an entry of another kind"),
        pytest.param(_changed(INTENT, "holds_for_seconds"), id="an intent that never dies"),
        pytest.param(_changed(INTENT, started_at="soon"), id="an instant in words"),
        pytest.param(_changed(OUTCOME, at="0001-01-01T00:00:00+23:00"), id="an instant before the calendar"),
        pytest.param(_changed(OUTCOME, attempts=["refresh_token"]), id="attempts in a list"),
        pytest.param(_changed(OUTCOME, attempts={"refresh_token": "refused"}), id="an attempt without its instant"),
        pytest.param(_changed(INTENT, holds_for_seconds=1e300), id="an endless duration"),
    ],
)
def test_anything_else_is_no_entry(text: str | None) -> None:
    assert parse_entry(text) is None


@settings(deadline=None)
@seed(SEED)
@given(st.sampled_from([INTENT, OUTCOME]), st.data())
def test_no_value_of_any_key_raises(entry: Entry, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(json.loads(entry.to_json()))))
    parsed = parse_entry(_changed(entry, **{key: data.draw(json_values)}))
    assert parsed is None or isinstance(parsed, Intent | Outcome)


# The chain


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        pytest.param([], ROOT, id="no version"),
        pytest.param([VERSION, ENTRY], ROOT, id="what people stored"),
        pytest.param([VERSION, CLAIM], CLAIM, id="a claim"),
        pytest.param([VERSION, CLAIM, RESULT], RESULT, id="what came of it"),
        pytest.param([VERSION, CLAIM, RESULT, ENTRY, BY_HAND], RESULT, id="and pairs that people stored later"),
        pytest.param([VERSION, CLAIM, RESULT, LOGIN], LOGIN, id="a login in the next claim's place"),
        pytest.param([CLAIM, LOGIN], LOGIN, id="what came between is removed"),
        pytest.param([LOGIN], LOGIN, id="all that came before is removed"),
        pytest.param([CLAIM, RESULT, late_pair_id(RESULT)], RESULT, id="a pair beside the slot is no part of it"),
        pytest.param([LOGIN, late_pair_id(RESULT)], LOGIN, id="nor where the slot is removed"),
    ],
)
def test_the_chains_end(listed: list[str], expected: str) -> None:
    assert chain_end(_listed(*listed)) == expected


def test_fingerprints_are_merged_newest_first_and_two_hundred_are_kept() -> None:
    assert merged(["c"], ["b", "a"], ["a", "c", "0"]) == ("c", "b", "a", "0")
    assert merged([str(number) for number in range(300)]) == tuple(str(number) for number in range(200))


def test_an_entry_and_a_pair_with_all_that_is_remembered_fit_into_a_secret() -> None:
    """Secrets Manager takes 64 KB, and Virtuous's answer two tokens of the largest size."""
    spent = tuple(f"{number:08x}" for number in range(200))
    attempts = {f"{number:08x}": Attempt(NOW, Ending.MISCONFIGURED) for number in range(30)}
    full = INTENT._replace(history=History(attempts, 10**6, spent, VERSION)).ends(Ending.UNKNOWN, NOW)
    pair = a_pair(
        access_token=SecretText("a" * LONGEST_TOKEN), refresh_token=SecretText("r" * LONGEST_TOKEN), spent=spent
    )
    assert list(full.history.attempts) == [*list(attempts)[-19:], INTENT.credential]
    assert len(full.to_json()) < 6_000
    assert len(pair.to_json()) < 65_536


# What follows an intent, and when


def test_a_holder_is_dead_by_secrets_managers_clock_and_the_stored_duration() -> None:
    """Whatever its own clock said when it named an instant."""
    intent = INTENT._replace(started_at=NOW + timedelta(days=1))
    assert not intent.is_dead(NOW, NOW + timedelta(minutes=6))
    assert intent.is_dead(NOW, NOW + timedelta(minutes=6, seconds=1))


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
