"""Known ways in which a person's hand, a slow run or a wrong clock once broke the journal, each as one schedule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.explorer.plays import Play
from tests.explorer.processes import Kind
from tests.explorer.search import LOGIN, RUN, first_state, unwell
from tests.explorer.world import Budget

A_DAY_AHEAD = Kind("login", timedelta(days=1))
TEN_MINUTES_AHEAD = Kind("run", timedelta(minutes=10))
ADOPTING = Kind("login", adopts=True)
ONE_FAULT = Budget(faults=1)
HANDS = ("removes REFRESHING", "moves REFRESHING back", "moves REFRESHING to AWSPREVIOUS")


def play(*processes: Kind, budget: Budget = ONE_FAULT, **beginning: Any) -> Play:
    return Play(first_state(processes, budget, **beginning))


def first(*processes: Kind) -> Play:
    return play(*processes, stored=False, published=False)


def ended_with(played: Play, i: int, word: str) -> Play:
    assert played.ended(i).word == word
    return played


def readers_have_the_newest(played: Play) -> Play:
    assert played.published() == f"access-{played.state.provider.newest}"
    return played


def edited_during_a_refresh(before: str, looks: int) -> Play:
    played = play(RUN, RUN).person("opens the form").until(0, before).person("saves the form")
    return played.until(1, "looks", looks=looks).ends(0).ends(1)


def form_opened_before_refreshes_and_saved_after_them(refreshes: int, provider: str) -> Play:
    played = play(*(RUN,) * (refreshes + 1), provider=provider).person("opens the form")
    for i in range(refreshes):
        played.weeks_pass(min(i, 1)).ends(i)
    return played.person("saves the form").minutes_pass().ends(refreshes)


def pair_secret_made_again(refreshes: int) -> Play:
    played = first(LOGIN, *(RUN,) * (refreshes + 1), LOGIN, RUN).ends(0)
    for i in range(1, refreshes + 2):
        played.ends(i).weeks_pass()
    return played.person("makes the pair secret again").ends(refreshes + 2).ends(refreshes + 3)


def version_lost_while_another_claims(lost: str) -> Play:
    played = play(RUN, RUN, refreshes=1).until(1, "claims").person(lost).until(0, "sends").ends(1)
    return ended_with(played, 1, "busy").ends(0)


def after_a_failed_attempt(*more: Kind, meets: str = "502") -> Play:
    return play(RUN, *more, refreshes=1).until(0, "sends").meets(0, meets).ends(0)


def dead_pair_pasted(*more: Kind) -> Play:
    return play(RUN, *more).person("pastes a dead pair").until(0, "records").until(0, "sends")


def rolled_back_and_forth_during_a_run() -> Play:
    played = play(RUN, RUN).ends(0).person("rolls AWSCURRENT back").until(1, "publishes")
    return played.person("rolls AWSCURRENT back").ends(1)


CASES: dict[str, Callable[[], Play]] = {
    "AWSCURRENT is rolled back, and forth again before a run publishes": lambda: readers_have_the_newest(
        rolled_back_and_forth_during_a_run()
    ),
    "a pair secret is made again after a login": lambda: readers_have_the_newest(pair_secret_made_again(0)),
    "a pair secret is made again after three refreshes": lambda: readers_have_the_newest(pair_secret_made_again(3)),
    "the oldest version is lost before a claim": lambda: version_lost_while_another_claims("loses the oldest version"),
    "an intent is lost before a claim": lambda: version_lost_while_another_claims("loses the second oldest version"),
    "a key is replaced, and a run follows": lambda: (
        after_a_failed_attempt(RUN, meets="429").person("replaces the key").minutes_pass(6).ends(1)
    ),
    "a key is replaced, and a login follows": lambda: (
        after_a_failed_attempt(LOGIN, meets="429").person("replaces the key").ends(1)
    ),
    **{
        f"a spent token is adopted, and the provider is {kind}": lambda kind=kind: ended_with(  # type: ignore[misc]
            play(ADOPTING, RUN, refreshes=1, provider=kind).ends(0).ends(1), 1, "refreshed"
        )
        for kind in ("strict", "revoking")
    },
    "a spent pair is adopted, and pushes the live one out of the labels": lambda: ended_with(
        play(ADOPTING, RUN, refreshes=2).ends(0).person("moves REFRESHING back").person("pastes a dead pair").ends(1),
        1,
        "refreshed",
    ),
    "an adopted pair waits for a slow run": lambda: ended_with(
        play(RUN, ADOPTING, refreshes=1).until(0, "saves").ends(1).ends(0), 1, "gave up"
    ),
    "a login meets an end that can't be read for a moment": lambda: (
        play(LOGIN, ADOPTING, RUN, refreshes=1)
        .person("keeps the tokens alone")
        .until(0, "looks", looks=1)
        .meets(0, "meets AccessDenied")
        .ends(0)
        .ends(1)
        .ends(2)
    ),
    "a run meets a pair that can't be read for a moment, another knows it": lambda: (
        play(RUN, RUN)
        .person("keeps the tokens alone")
        .until(0, "claims")
        .until(1, "looks", looks=3)
        .meets(1, "meets AccessDenied")
        .until(1, "sends")
        .ends(0)
        .ends(1)
    ),
    "all of the chain is lost": lambda: (
        play(RUN, LOGIN)
        .person("pastes an access token")
        .ends(0)
        .person("removes REFRESHING")
        .person("pastes the first pair")
        .person("loses the newest version")
        .ends(1)
    ),
    "the first pair is put back after many refreshes": lambda: ended_with(
        play(RUN, refreshes=25, provider="revoking").person("pastes the first pair").ends(0), 0, "refreshed"
    ),
    "a run whose clock is ten minutes ahead meets a claim": lambda: ended_with(
        play(RUN, TEN_MINUTES_AHEAD).until(0, "saves").ends(1).ends(0), 1, "busy"
    ),
    **{
        f"an edit with the same tokens before a run {before}, another has looked {looks} times": (
            lambda before=before, looks=looks: edited_during_a_refresh(before, looks)  # type: ignore[misc]
        )
        for before, looks in (("saves", 1), ("saves", 2), ("saves", 3), ("sends", 1), ("sends", 2))
    },
    "a login while a run waits for its proof": lambda: readers_have_the_newest(
        play(RUN, LOGIN, RUN).until(0, "publishes").ends(1).ends(2).ends(0)
    ),
    "a login while a run recovers": lambda: readers_have_the_newest(
        play(RUN, LOGIN, RUN, published=False).until(0, "publishes").ends(1).ends(2).ends(0)
    ),
    **{
        f"a form across {refreshes}, the provider is {kind}": (
            lambda refreshes=refreshes, kind=kind: form_opened_before_refreshes_and_saved_after_them(  # type: ignore[misc]
                refreshes, kind
            )
        )
        for refreshes in (1, 2)
        for kind in ("strict", "revoking")
    },
    "a rollback": lambda: play(RUN, refreshes=1).person("rolls AWSCURRENT back").ends(0),
    "a rollback, and reuse ends the line": lambda: (
        play(RUN, refreshes=2, provider="revoking").person("rolls AWSCURRENT back").ends(0)
    ),
    **{
        f"a dead pair pasted before a run {before}": lambda before=before: (  # type: ignore[misc]
            play(RUN, RUN, refreshes=1).until(0, before).person("pastes a dead pair").ends(0).minutes_pass(2).ends(1)
        )
        for before in ("saves", "sends")
    },
    **{
        f"a dead pair, and another has looked {looks} times before ours was kept": lambda looks=looks: (  # type: ignore[misc]
            play(RUN, RUN).until(0, "sends").person("pastes a dead pair").until(1, "looks", looks=looks).ends(0).ends(1)
        )
        for looks in (1, 2, 3)
    },
    "the last candidate ends in doubt": lambda: dead_pair_pasted().meets(0, "502").ends(0),
    "the holder of the last candidate dies": lambda: dead_pair_pasted().dies(0),
    **{
        f"a person {hand} after a failed attempt": lambda hand=hand: after_a_failed_attempt().person(hand)  # type: ignore[misc]
        for hand in (*HANDS, "moves REFRESHING to AWSCURRENT")
    },
    **{
        f"a person {hand} while idle": lambda hand=hand: play(refreshes=2).person(hand)  # type: ignore[misc]
        for hand in HANDS
    },
    "the proof is forbidden until the readers' token ends": lambda: (
        play(RUN, RUN, RUN).ends(0).person("closes the proof's address").weeks_pass().ends(1).weeks_pass().ends(2)
    ),
    "a login a day ahead dies before its save": lambda: play(A_DAY_AHEAD).until(0, "saves").dies(0),
    "a login a day ahead dies after its first look": lambda: play(A_DAY_AHEAD).until(0, "looks", looks=1).dies(0),
    "two first logins": lambda: first(LOGIN, LOGIN).until(1, "saves").ends(0).ends(1),
    "two first logins, both looked": lambda: (
        first(LOGIN, LOGIN).until(0, "looks", looks=1).until(1, "saves").ends(0).ends(1)
    ),
    "a dead pair is refused, then a login, then a rollback": lambda: (
        play(RUN, LOGIN, RUN, refreshes=1)
        .person("pastes a dead pair")
        .until(0, "records")
        .until(0, "claims")
        .ends(1)
        .person("rolls AWSCURRENT back")
        .ends(2)
    ),
    "a first login in the moment of a first paste": lambda: (
        first(LOGIN, RUN)
        .until(0, "saves")
        .person("pastes no pair")
        .ends(0)
        .person("pastes a dead refresh token")
        .person("pastes a dead pair")
    ),
}


@pytest.mark.parametrize("played", [pytest.param(play, id=name) for name, play in CASES.items()])
def test_nothing_is_sent_twice_lost_or_stuck(played: Callable[[], Play]) -> None:
    state = played().state
    assert state.wrong == ""
    assert unwell(state) == ""
