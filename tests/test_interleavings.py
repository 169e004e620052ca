"""Every order in which real refreshers can take their steps, up to the stated bounds; and random orders beyond them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.exploration import Budget, State, broken_in_the_end, broken_now, explore, undisturbed
from tests.seed import SEED

BOUNDS = [
    pytest.param(1, Budget(kills=1, stale_reads=1, lost_answers=1, faults=1), id="one refresher, one of each mishap"),
    pytest.param(2, Budget(kills=1, stale_reads=1, ticks=2), id="two refreshers, one killed and one stale read"),
    pytest.param(2, Budget(kills=1, lost_answers=1, ticks=2), id="two refreshers, one killed and one lost answer"),
    pytest.param(2, Budget(faults=1, ticks=0), id="two refreshers, one failing call"),
    pytest.param(2, Budget(hands=1, ticks=0), id="two refreshers, and a person stores a pair"),
    pytest.param(3, Budget(ticks=0), id="three refreshers at once"),
]


@pytest.mark.parametrize(("refreshers", "budget"), BOUNDS)
def test_no_order_of_steps_spends_twice_or_loses_a_pair(refreshers: int, budget: Budget) -> None:
    explored = explore(State.first(refreshers, budget))
    print(f"{explored.states} states, {explored.ends} ends, {explored.excused} of them after a lost answer")
    assert explored.ends > 0
    assert explored.broken == {}


def test_without_a_lost_answer_or_a_kill_no_end_is_excused() -> None:
    explored = explore(State.first(2, Budget(stale_reads=1, ticks=0)))
    assert explored.excused == 0


@pytest.mark.parametrize("login", [pytest.param(True, id="a login is stored"), pytest.param(False, id="no login")])
def test_a_lost_answer_ends_in_a_working_pair_or_asks_for_a_login(login: bool) -> None:
    """The strict provider accepts neither the lost token's predecessor nor the one before: only a login helps."""

    def check(state: State) -> str | None:
        after, outcomes = undisturbed(state, (timedelta(minutes=10), timedelta(minutes=70), timedelta(hours=23)))
        works = after.pair().refresh_token is not None and after.saved(after.provider.newest)
        ends_well = works if login else works or "login_required" in outcomes
        return None if ends_well else f"neither a working pair nor a call for a person: {outcomes}"

    explored = explore(State.first(1, Budget(kills=1, lost_answers=1), login=login), check_end=check)
    assert explored.excused > 0
    assert explored.broken == {}


class AnyOrder(RuleBasedStateMachine):
    """Three refreshers and far more mishaps than can be enumerated."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State.first(3, Budget(kills=3, stale_reads=4, lost_answers=1, faults=4, ticks=5, hands=1))

    @precondition(lambda self: not all(refresher.outcome for refresher in self.state.refreshers))
    @rule(choice=st.integers(min_value=0, max_value=10_000))
    def something_happens(self, choice: int) -> None:
        moves = list(self.state.moves())
        told, self.state = moves[choice % len(moves)]
        note(told)

    @precondition(lambda self: all(refresher.outcome for refresher in self.state.refreshers))
    @rule()
    def nobody_runs_any_more(self) -> None:
        assert broken_in_the_end(self.state) is None

    @invariant()
    def nothing_is_broken(self) -> None:
        assert broken_now(self.state) is None


AnyOrder.TestCase.settings = settings(
    max_examples=300, stateful_step_count=80, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
TestAnyOrder = seed(SEED)(AnyOrder.TestCase)
