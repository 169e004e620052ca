"""Known ways in which a person's hand, a slow run or a wrong clock once broke the journal, each as one schedule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.explorer.plays import Play
from tests.explorer.processes import Kind
from tests.explorer.search import LOGIN, RUN, first_state, unwell
from tests.explorer.world import Budget

A_DAY_AHEAD = Kind("login", timedelta(days=1))


def edited_during_a_refresh(looks: int) -> Play:
    play = Play(first_state((RUN, RUN))).person("opens the form")
    play.until(0, "saves").person("saves the form").until(1, "looks", looks=looks)
    return play.ends(0).ends(1)


def edited_before_the_look_of_a_refresh(looks: int) -> Play:
    play = Play(first_state((RUN, RUN))).person("opens the form")
    play.until(0, "sends").person("saves the form").until(1, "looks", looks=looks)
    return play.ends(0).ends(1)


def logged_in_while_a_run_waits_for_its_proof() -> Play:
    play = Play(first_state((RUN, LOGIN, RUN))).until(0, "publishes").ends(1).ends(2).ends(0)
    assert play.published() == f"access-{play.state.provider.newest}"
    return play


def logged_in_while_a_run_recovers() -> Play:
    play = Play(first_state((RUN, LOGIN, RUN), published=False)).until(0, "publishes").ends(1).ends(2).ends(0)
    assert play.published() == f"access-{play.state.provider.newest}"
    return play


def form_opened_before_refreshes_and_saved_after_them(refreshes: int, provider: str) -> Play:
    runs = (RUN,) * (refreshes + 1)
    play = Play(first_state(runs, provider=provider)).person("opens the form")
    for i in range(refreshes):
        play.weeks_pass(min(i, 1)).ends(i)
    return play.person("saves the form").minutes_pass().ends(refreshes)


def rolled_back_after_refreshes(refreshes: int, provider: str) -> Play:
    play = Play(first_state((RUN,), refreshes=refreshes, provider=provider))
    return play.person("rolls AWSCURRENT back").ends(0)


def dead_pair_pasted_during_a_refresh(before: str) -> Play:
    play = Play(first_state((RUN, RUN), refreshes=1)).until(0, before).person("pastes a dead pair")
    return play.ends(0).minutes_pass(2).ends(1)


def dead_pair_pasted_and_the_labels_read_before_ours_was_kept(looks: int) -> Play:
    play = Play(first_state((RUN, RUN))).until(0, "sends").person("pastes a dead pair")
    return play.until(1, "looks", looks=looks).ends(0).ends(1)


def last_candidate_ends_in_doubt() -> Play:
    play = Play(first_state((RUN,), Budget(faults=1))).person("pastes a dead pair").until(0, "sends")
    play.until(0, "records").until(0, "sends")
    return play.meets(0, "502").ends(0)


def holder_of_the_last_candidate_dies() -> Play:
    play = Play(first_state((RUN,))).person("pastes a dead pair").until(0, "records").until(0, "sends")
    return play.dies(0)


def label_after_a_failed_attempt(hand: str) -> Play:
    play = Play(first_state((RUN,), Budget(faults=1), refreshes=1)).until(0, "sends").meets(0, "502").ends(0)
    return play.person(hand)


def label_while_idle(hand: str) -> Play:
    return Play(first_state((), refreshes=2)).person(hand)


def proof_forbidden_until_the_readers_token_ends() -> Play:
    play = Play(first_state((RUN, RUN, RUN))).ends(0).person("closes the proof's address")
    return play.weeks_pass().ends(1).weeks_pass().ends(2)


def login_a_day_ahead_interrupted(before: str, looks: int = 0) -> Play:
    return Play(first_state((A_DAY_AHEAD,))).until(0, before, looks=looks).dies(0)


def two_first_logins(looks: int) -> Play:
    play = Play(first_state((LOGIN, LOGIN), stored=False, published=False)).until(0, "looks", looks=looks)
    return play.until(1, "saves").ends(0).ends(1)


def dead_pair_refused_then_a_login_then_a_rollback() -> Play:
    play = Play(first_state((RUN, LOGIN, RUN), refreshes=1)).person("pastes a dead pair")
    play.until(0, "records").until(0, "claims").ends(1)
    return play.person("rolls AWSCURRENT back").ends(2)


def first_login_in_the_moment_of_a_first_paste() -> Play:
    play = Play(first_state((LOGIN, RUN), stored=False, published=False)).until(0, "saves").person("pastes no pair")
    return play.ends(0).person("pastes a dead refresh token").person("pastes a dead pair")


def pair_secret_made_again(refreshes: int) -> Play:
    play = Play(first_state((LOGIN, *(RUN,) * (refreshes + 1), LOGIN, RUN), stored=False, published=False)).ends(0)
    for i in range(1, refreshes + 2):
        play.ends(i).weeks_pass()
    play.person("makes the pair secret again").ends(refreshes + 2).ends(refreshes + 3)
    assert play.published() == f"access-{play.state.provider.newest}"
    return play


def version_lost_while_another_claims(lost: str) -> Play:
    play = Play(first_state((RUN, RUN), refreshes=1)).until(1, "claims").person(lost).until(0, "sends")
    assert play.ends(1).ended(1).word == "busy"
    return play.ends(0)


def key_replaced_after_a_failed_attempt(then: str) -> Play:
    play = Play(first_state((RUN, RUN, LOGIN), Budget(faults=1), refreshes=1)).until(0, "sends").meets(0, "429").ends(0)
    play.person("replaces the key").minutes_pass(0 if then == "login" else 6)
    return play.ends(2 if then == "login" else 1)


def spent_token_adopted(provider: str) -> Play:
    play = Play(first_state((Kind("login", adopts=True), RUN), refreshes=1, provider=provider)).ends(0).ends(1)
    assert play.ended(1).word == "refreshed"
    return play


def first_pair_put_back(refreshes: int) -> Play:
    play = Play(first_state((RUN,), refreshes=refreshes, provider="revoking")).person("pastes the first pair").ends(0)
    assert play.ended(0).word == "refreshed"
    return play


def clock_ten_minutes_ahead() -> Play:
    """It takes nobody for dead who is alive."""
    play = Play(first_state((RUN, Kind("run", timedelta(minutes=10))))).until(0, "saves").ends(1)
    assert play.ended(1).word == "busy"
    return play.ends(0)


CASES = {
    "a pair secret is made again after a login": lambda: pair_secret_made_again(0),
    "a pair secret is made again after three refreshes": lambda: pair_secret_made_again(3),
    "the oldest version is lost before a claim": lambda: version_lost_while_another_claims("loses the oldest version"),
    "an intent is lost before a claim": lambda: version_lost_while_another_claims("loses the second oldest version"),
    "a key is replaced, and a run follows": lambda: key_replaced_after_a_failed_attempt("run"),
    "a key is replaced, and a login follows": lambda: key_replaced_after_a_failed_attempt("login"),
    "a spent token is adopted": lambda: spent_token_adopted("strict"),
    "a spent token is adopted, and reuse ends the line": lambda: spent_token_adopted("revoking"),
    "the first pair is put back after many refreshes": lambda: first_pair_put_back(25),
    "a run whose clock is ten minutes ahead meets a claim": clock_ten_minutes_ahead,
    "an edit with the same tokens, then a run that reads the labels": lambda: edited_during_a_refresh(1),
    "the same, the run reads a value as well": lambda: edited_during_a_refresh(2),
    "the same, the run reads the bearer as well": lambda: edited_during_a_refresh(3),
    "an edit between claim and save": lambda: edited_before_the_look_of_a_refresh(1),
    "an edit between claim and save, the run reads a value as well": lambda: edited_before_the_look_of_a_refresh(2),
    "a login while a run waits for its proof": logged_in_while_a_run_waits_for_its_proof,
    "a login while a run recovers": logged_in_while_a_run_recovers,
    "a form across one refresh": lambda: form_opened_before_refreshes_and_saved_after_them(1, "strict"),
    "a form across two refreshes": lambda: form_opened_before_refreshes_and_saved_after_them(2, "strict"),
    "a form, and reuse ends the line": lambda: form_opened_before_refreshes_and_saved_after_them(1, "revoking"),
    "a form across two, and reuse ends the line": lambda: form_opened_before_refreshes_and_saved_after_them(
        2, "revoking"
    ),
    "a rollback": lambda: rolled_back_after_refreshes(1, "strict"),
    "a rollback, and reuse ends the line": lambda: rolled_back_after_refreshes(2, "revoking"),
    "a dead pair pasted before a save": lambda: dead_pair_pasted_during_a_refresh("saves"),
    "a dead pair pasted before a request": lambda: dead_pair_pasted_during_a_refresh("sends"),
    "a dead pair, and labels read before ours was kept": lambda: (
        dead_pair_pasted_and_the_labels_read_before_ours_was_kept(1)
    ),
    "the same, and a value was read": lambda: dead_pair_pasted_and_the_labels_read_before_ours_was_kept(2),
    "the same, and the bearer was looked at": lambda: dead_pair_pasted_and_the_labels_read_before_ours_was_kept(3),
    "the last candidate ends in doubt": last_candidate_ends_in_doubt,
    "the holder of the last candidate dies": holder_of_the_last_candidate_dies,
    **{
        f"a person {hand} {when}": lambda hand=hand, play=play: play(hand)  # type: ignore[misc]
        for hand in (
            "removes REFRESHING",
            "moves REFRESHING back",
            "moves REFRESHING to AWSCURRENT",
            "moves REFRESHING to AWSPREVIOUS",
        )
        for when, play in (("after a failed attempt", label_after_a_failed_attempt), ("while idle", label_while_idle))
        if not (hand == "moves REFRESHING to AWSCURRENT" and when == "while idle")
    },
    "the proof is forbidden until the readers' token ends": proof_forbidden_until_the_readers_token_ends,
    "a login a day ahead dies before its save": lambda: login_a_day_ahead_interrupted("saves"),
    "a login a day ahead dies after its first look": lambda: login_a_day_ahead_interrupted("looks", 1),
    "two first logins": lambda: two_first_logins(0),
    "two first logins, both looked": lambda: two_first_logins(1),
    "a dead pair is refused, then a login, then a rollback": dead_pair_refused_then_a_login_then_a_rollback,
    "a first login in the moment of a first paste": first_login_in_the_moment_of_a_first_paste,
}


@pytest.mark.parametrize("play", [pytest.param(play, id=name) for name, play in CASES.items()])
def test_nothing_is_sent_twice_lost_or_stuck(play: Callable[[], Play]) -> None:
    state = play().state
    assert state.wrong == ""
    assert unwell(state) == ""
