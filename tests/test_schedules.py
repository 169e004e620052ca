"""Single schedules written down by hand, and each call on each path failing once.

``unwell`` (run in every state) is the judge: three quiet runs, or a login and a run, must lead to a healthy pair.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.explorer.moves import TICK, WEEK, killed, moves, started, went_on
from tests.explorer.people import HANDS
from tests.explorer.processes import NAMES, Kind, Step
from tests.explorer.search import LOGIN, RUN, explore, first_state, unwell
from tests.explorer.world import Budget, State, entry_in, pair_in

ADOPTING = Kind("login", adopts=True)
A_DAY_AHEAD = Kind("login", timedelta(days=1))
TEN_MINUTES_AHEAD = Kind("run", timedelta(minutes=10))
LABEL_IS_ELSEWHERE = ("removes REFRESHING", "moves REFRESHING back", "moves REFRESHING to AWSPREVIOUS")
Schedules = dict[str, tuple[Callable[[], State], str]]  # the first state, and what happens


def milestone(step: Step) -> str:
    """What a process is about to do: looks, claims, sends, records, saves or publishes."""
    if step.operation in ("refresh", "log_in"):
        return "sends"
    if step.is_read or step.operation == "prove":
        return "looks"
    if step.secret == NAMES.bearer:
        return "publishes"
    entry = entry_in(step.arguments["SecretString"])
    if entry is None:
        return "saves"
    return "claims" if entry["entry"] == "intent" else "records"


def played(state: State, schedule: str) -> State:
    """Steps hold whatever calls the product makes in between, and are told apart by commas.

    "0 sends": process 0 goes on until it is about to; "0 looks 2": until it looked twice and is about to look again;
    "0 ends", "0 ends busy" (that is how), "0 dies", "0 meets 502" (its next call does); "minutes", "weeks 2"; "readers"
    checks that they have the newest token. Anything else is what a person does.
    """
    for step in filter(None, schedule.split(", ")):
        subject, _, rest = step.partition(" ")
        if subject.isdigit():
            state = _went(state, int(subject), *rest.split(" ", 1))
        elif subject in ("minutes", "weeks"):
            state = state.later((TICK if subject == "minutes" else WEEK) * int(rest or 1))
        elif subject == "readers":
            pair = pair_in(state.bearer_secret.versions[state.bearer_secret.labels["AWSCURRENT"]].value)
            assert pair is not None
            assert pair.access_token.reveal() == f"access-{state.provider.newest}"
        else:
            after = HANDS[step](state)
            assert after is not None, f"nobody {step} here"
            state = after
    return state


def _went(state: State, i: int, what: str, more: str = "") -> State:
    if what == "dies":
        return killed(state, i)
    if what == "meets":
        mine = [move for move in moves(state) if move.description.startswith(f"{state.processes[i].kind.job} {i}:")]
        return next(move for move in mine if more in move.description).make()
    if state.processes[i].status == "not started":
        state = started(state, i)
    looks, word = (int(more or 0), "") if what == "looks" else (0, more)
    while state.processes[i].status == "running" and not state.wrong:
        step = state.next_step(i)
        assert isinstance(step, Step)
        if milestone(step) == what:
            if not looks:
                return state
            looks -= 1
        state = went_on(state, i, step)
    ended = state.processes[i].ended
    assert not word or (ended and ended.word == word)
    return state


def due(*processes: Kind, **beginning: Any) -> Callable[[], State]:
    return partial(first_state, processes, Budget(faults=1), **beginning)


def first(*processes: Kind) -> Callable[[], State]:
    return due(*processes, stored=False, published=False)


SCHEDULES: Schedules = {
    "AWSCURRENT is rolled back, and forth again before a run publishes": (
        due(RUN, RUN),
        "0 ends, rolls AWSCURRENT back, 1 publishes, rolls AWSCURRENT back, 1 ends, readers",
    ),
    "a pair secret is made again after a login": (
        first(LOGIN, RUN, LOGIN, RUN),
        "0 ends, 1 ends, weeks, makes the pair secret again, 2 ends, 3 ends, readers",
    ),
    "a pair secret is made again after two refreshes": (
        first(LOGIN, RUN, RUN, RUN, LOGIN, RUN),
        "0 ends, 1 ends, weeks, 2 ends, weeks, 3 ends, weeks, makes the pair secret again, 4 ends, 5 ends, readers",
    ),
    "the oldest version is lost before a claim": (
        due(RUN, RUN, refreshes=1),
        "1 claims, loses the oldest version, 0 sends, 1 ends busy, 0 ends",
    ),
    "an intent is lost before a claim": (
        due(RUN, RUN, refreshes=1),
        "1 claims, loses the second oldest version, 0 sends, 1 ends busy, 0 ends",
    ),
    "a key is replaced, and a run follows": (
        due(RUN, RUN, refreshes=1),
        "0 sends, 0 meets 429, 0 ends, replaces the key, minutes 6, 1 ends",
    ),
    "a key is replaced, and a login follows": (
        due(RUN, LOGIN, refreshes=1),
        "0 sends, 0 meets 429, 0 ends, replaces the key, 1 ends",
    ),
    "a spent token is adopted": (due(ADOPTING, RUN, refreshes=1), "0 ends, 1 ends refreshed"),
    "a spent token is adopted, and reuse ends the line": (
        due(ADOPTING, RUN, refreshes=1, provider="revoking"),
        "0 ends, 1 ends refreshed",
    ),
    "a spent pair is adopted, and pushes the live one out of the labels": (
        due(ADOPTING, RUN, refreshes=2),
        "0 ends, moves REFRESHING back, pastes a dead pair, 1 ends refreshed",
    ),
    "an adopted pair waits for a slow run": (due(RUN, ADOPTING, refreshes=1), "0 saves, 1 ends gave up, 0 ends"),
    "a login meets an end that can't be read for a moment": (
        due(LOGIN, ADOPTING, RUN, refreshes=1),
        "keeps the tokens alone, 0 looks 1, 0 meets AccessDenied, 0 ends, 1 ends, 2 ends",
    ),
    "a run meets a pair that can't be read for a moment, another knows it": (
        due(RUN, RUN),
        "keeps the tokens alone, 0 claims, 1 looks 3, 1 meets AccessDenied, 1 sends, 0 ends, 1 ends",
    ),
    "all of the chain is lost": (
        due(RUN, LOGIN),
        "pastes an access token, 0 ends, removes REFRESHING, pastes the first pair, loses the newest version, 1 ends",
    ),
    "the first pair is put back after many refreshes": (
        due(RUN, refreshes=25, provider="revoking"),
        "pastes the first pair, 0 ends refreshed",
    ),
    "a run whose clock is ten minutes ahead meets a claim": (
        due(RUN, TEN_MINUTES_AHEAD),
        "0 saves, 1 ends busy, 0 ends",
    ),
    **{
        f"an edit with the same tokens before a run {before}, another has looked {looks} times": (
            due(RUN, RUN),
            f"opens the form, 0 {before}, saves the form, 1 looks {looks}, 0 ends, 1 ends",
        )
        for before, looks in (("saves", 1), ("saves", 2), ("saves", 3), ("sends", 1), ("sends", 2))
    },
    "a login while a run waits for its proof": (due(RUN, LOGIN, RUN), "0 publishes, 1 ends, 2 ends, 0 ends, readers"),
    "a login while a run recovers": (
        due(RUN, LOGIN, RUN, published=False),
        "0 publishes, 1 ends, 2 ends, 0 ends, readers",
    ),
    **{
        f"a form across {refreshes}, the provider is {kind}": (due(RUN, RUN, RUN, provider=kind), schedule)
        for kind in ("strict", "revoking")
        for refreshes, schedule in (
            ("a refresh", "opens the form, 0 ends, saves the form, minutes, 1 ends"),
            ("two refreshes", "opens the form, 0 ends, weeks, 1 ends, saves the form, minutes, 2 ends"),
        )
    },
    "a rollback": (due(RUN, refreshes=1), "rolls AWSCURRENT back, 0 ends"),
    "a rollback, and reuse ends the line": (
        due(RUN, refreshes=2, provider="revoking"),
        "rolls AWSCURRENT back, 0 ends",
    ),
    **{
        f"a dead pair pasted before a run {before}": (
            due(RUN, RUN, refreshes=1),
            f"0 {before}, pastes a dead pair, 0 ends, minutes 2, 1 ends",
        )
        for before in ("saves", "sends")
    },
    **{
        f"a dead pair, and another has looked {looks} times before ours was kept": (
            due(RUN, RUN),
            f"0 sends, pastes a dead pair, 1 looks {looks}, 0 ends, 1 ends",
        )
        for looks in (1, 2, 3)
    },
    "the last candidate ends in doubt": (
        due(RUN),
        "pastes a dead pair, 0 records, 0 sends, 0 meets 502, 0 ends",
    ),
    "the holder of the last candidate dies": (due(RUN), "pastes a dead pair, 0 records, 0 sends, 0 dies"),
    **{
        f"a person {hand} after a failed attempt": (due(RUN, refreshes=1), f"0 sends, 0 meets 502, 0 ends, {hand}")
        for hand in (*LABEL_IS_ELSEWHERE, "moves REFRESHING to AWSCURRENT")
    },
    **{f"a person {hand} while idle": (due(refreshes=2), hand) for hand in LABEL_IS_ELSEWHERE},
    "the proof is forbidden until the readers' token ends": (
        due(RUN, RUN, RUN),
        "0 ends, closes the proof's address, weeks, 1 ends, weeks, 2 ends",
    ),
    "a login a day ahead dies before its save": (due(A_DAY_AHEAD), "0 saves, 0 dies"),
    "a login a day ahead dies after its first look": (due(A_DAY_AHEAD), "0 looks 1, 0 dies"),
    "two first logins": (first(LOGIN, LOGIN), "1 saves, 0 ends, 1 ends"),
    "two first logins, both looked": (first(LOGIN, LOGIN), "0 looks 1, 1 saves, 0 ends, 1 ends"),
    "a dead pair is refused, then a login, then a rollback": (
        due(RUN, LOGIN, RUN, refreshes=1),
        "pastes a dead pair, 0 records, 0 claims, 1 ends, rolls AWSCURRENT back, 2 ends",
    ),
    "a first login in the moment of a first paste": (
        first(LOGIN, RUN),
        "0 saves, pastes no pair, 0 ends, pastes a dead refresh token, pastes a dead pair",
    ),
}


@pytest.mark.parametrize(("begun", "schedule"), SCHEDULES.values(), ids=SCHEDULES)
def test_nothing_is_sent_twice_lost_or_stuck(begun: Callable[[], State], schedule: str) -> None:
    state = played(begun(), schedule)
    assert state.wrong == ""
    assert unwell(state) == ""


WAYS = {
    "fails, with or without its effect": Budget(faults=1),
    "is done later": Budget(late=1),
    "loses its answer": Budget(lost=1),
    "is the last before a kill": Budget(kills=1, ticks=1),
    "is followed by a frozen while": Budget(freezes=1, ticks=2),
    "gets a proof of no use": Budget(proofs=1),
    "reads what was": Budget(stale=1),
}
PATHS: Schedules = {
    "a refresh": (due(RUN, refreshes=1), ""),
    "left unpublished": (due(RUN, RUN), "0 publishes, 0 dies"),
    "a dead holder": (due(RUN, RUN), "0 sends, 0 dies, minutes 2"),
    "a second candidate": (due(RUN), "pastes a dead pair"),
    "the stored password": (due(RUN, password=True), "pastes a dead pair, pastes a dead pair"),
    "superseded": (due(RUN), "0 saves, pastes a live pair"),
    "superseded before the look": (due(RUN), "0 sends, pastes a dead pair, 0 looks"),
    "a login took the place": (due(RUN, LOGIN), "0 saves, 1 ends"),
    "a login": (due(LOGIN, refreshes=1), ""),
    "a first login": (first(LOGIN), ""),
    "a login over a dead holder": (due(RUN, LOGIN), "0 sends, 0 dies, minutes 2"),
    "a login over a live holder": (due(RUN, LOGIN), "0 sends"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("begun", "schedule"), PATHS.values(), ids=PATHS)
def test_one_failing_call_loses_no_pair_and_leaves_nothing_stuck(
    begun: Callable[[], State], schedule: str, way: Budget
) -> None:
    explored = explore(played(begun(), schedule)._replace(budget=way._replace(switches=0)))
    assert explored.finding is None
    assert explored.is_complete
