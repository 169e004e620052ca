"""What is explored: ``BOUNDS`` to their ends in the tests, ``WIDE`` as far as time allows in ``make explore``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.explorer.processes import Kind
from tests.explorer.provider import KINDS
from tests.explorer.search import FORCED, LOGIN, RUN, SKEWS, first_state
from tests.explorer.world import CURRENT, Budget, State

AHEAD = Kind("run", max(SKEWS["run"]))
LAPTOP = Kind("login", max(SKEWS["login"]))
ONE_OF_EACH = Budget(kills=1, stale=1, lost=1, faults=1, late=1, ticks=1)
ADOPTING = Kind("login", adopts=True)
LOST = ("loses the oldest version", "loses the newest version")
FORM = ("opens the form", "saves the form")
ON_THE_PAIR = (
    "pastes a live pair",
    "pastes a dead pair",
    "pastes a dead refresh token",
    "rolls AWSCURRENT back",
    "removes REFRESHING",
    "moves REFRESHING back",
    "moves REFRESHING to AWSPREVIOUS",
    "moves REFRESHING to AWSCURRENT",
    "removes SUPERSEDED",
    "pastes the first pair",
    "keeps the tokens alone",
    "moves AWSCURRENT to REFRESHING",
    "replaces the key",
    "goes to a replica",
    "makes the pair secret again",
)

BOUNDS: Mapping[str, Callable[[], State]] = {
    "two runs, one killed": lambda: first_state((RUN, RUN), Budget(kills=1, ticks=2)),
    "two runs, a stale read": lambda: first_state((RUN, RUN), Budget(stale=1), refreshes=1),
    "a run and a login": lambda: first_state((RUN, LOGIN), Budget(switches=2)),
    "two first logins and a run": lambda: first_state((LOGIN, LOGIN, RUN), stored=False, published=False),
    "an edit and two runs": lambda: first_state((RUN, RUN), Budget(switches=1), FORM),
    "a slow run, a login and another run": lambda: first_state((RUN, LOGIN, RUN), Budget(switches=1)),
    "an adopted pair and a run": lambda: first_state((ADOPTING, RUN), Budget(switches=2), refreshes=1),
    "versions are lost": lambda: first_state((RUN, RUN), Budget(switches=1), LOST, refreshes=2),
    "a frozen run and another": lambda: first_state((RUN, RUN), Budget(freezes=1, ticks=2, switches=0)),
    **{
        f"a person {hand}": lambda hand=hand: first_state(  # type: ignore[misc]
            (RUN, RUN), Budget(switches=0), (hand,), refreshes=1
        )
        for hand in ON_THE_PAIR
    },
}

WIDE: Mapping[str, Callable[[], State]] = {
    "a run and a login in any order": lambda: first_state((RUN, LOGIN)),
    "one run, everything goes wrong once": lambda: first_state((RUN,), Budget(1, 1, 1, 1, 1, 1, 2), refreshes=1),
    "two runs, everything but a freeze goes wrong once": lambda: first_state(
        (RUN, RUN), ONE_OF_EACH._replace(switches=1)
    ),
    "three runs at once": lambda: first_state((RUN, RUN, RUN)),
    "three runs, two killed": lambda: first_state((RUN, RUN, RUN), Budget(kills=2, ticks=2, switches=1)),
    "a forced run, a run and a login": lambda: first_state((FORCED, RUN, LOGIN), Budget(switches=2)),
    "a laptop a day ahead and a run": lambda: first_state((LAPTOP, RUN), Budget(kills=1, late=1, ticks=2)),
    "a pair without a label and two runs": lambda: first_state(
        (RUN, RUN), Budget(stale=1, kills=1), labels=(CURRENT,), published=False
    ),
    "a form across two refreshes": lambda: first_state(
        (RUN, RUN, RUN), Budget(weeks=2, switches=0), FORM, provider="revoking"
    ),
    "a dead pair that is edited": lambda: first_state(
        (RUN, RUN), Budget(switches=1), ("pastes a dead pair", *FORM), refreshes=1
    ),
    "a pair is pasted twice": lambda: first_state(
        (RUN, RUN), Budget(switches=1), ("pastes a live pair", "pastes a dead pair"), refreshes=1
    ),
    "deleted and restored": lambda: first_state(
        (RUN, LOGIN), Budget(ticks=1, switches=1), ("deletes the pair secret", "restores the pair secret")
    ),
    "a clock ten minutes ahead": lambda: first_state((AHEAD, RUN), Budget(kills=1, ticks=2), refreshes=1),
    "made again, and a login": lambda: first_state(
        (RUN, LOGIN, RUN), Budget(switches=1), ("makes the pair secret again",)
    ),
    "a key is replaced after a failed attempt": lambda: first_state(
        (RUN, RUN, LOGIN), Budget(faults=1, ticks=6, switches=0), ("replaces the key",), refreshes=1
    ),
    "the proof is forbidden": lambda: first_state((RUN, RUN), Budget(weeks=2), ("closes the proof's address",)),
    "hardly any room": lambda: first_state((RUN, RUN), Budget(kills=1, ticks=2), ("pastes a live pair",), others=90),
    **{
        f"a person {hand}, and something else goes wrong": lambda hand=hand: first_state(  # type: ignore[misc]
            (RUN, RUN), Budget(stale=1, faults=1, ticks=1, switches=1), (hand,), refreshes=1
        )
        for hand in ON_THE_PAIR
    },
    **{
        f"a {kind} provider": lambda kind=kind: first_state(  # type: ignore[misc]
            (RUN, RUN), Budget(lost=1, freezes=1, ticks=2, switches=1), provider=kind, refreshes=1
        )
        for kind in KINDS
    },
}
