"""Orders of steps beyond what the tests have time for: ``python -m tests.campaigns.explore``.

*argv* is [schedules] [seed] [processes]. Explores the bounds below, each to its end or to AT_MOST states, then random
schedules, each with the next seed, with a process for each processor. Exit status 1 where a property breaks; the
shortest schedule that shows it is printed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial

from tests.explorer.people import HANDS
from tests.explorer.processes import Kind
from tests.explorer.provider import KINDS
from tests.explorer.search import FORCED, LOGIN, RUN, Finding, explore, first_state, kind_of, random_schedule, shortened
from tests.explorer.world import CURRENT, Budget, State
from tests.seed import SEED

SCHEDULES = 50_000
CHUNK = 500
AT_MOST = 30_000
AHEAD = Kind("run", timedelta(minutes=10))
LAPTOP = Kind("login", timedelta(days=1))
TWO, THREE = (RUN, RUN), (RUN, RUN, RUN)
FORM = ("opens the form", "saves the form")
EACH_ONCE = Budget(kills=1, stale=1, lost=1, faults=1, late=1, ticks=1)

WIDE: Mapping[str, Callable[[], State]] = {
    "a run and a login in any order": partial(first_state, (RUN, LOGIN)),
    "one run, everything goes wrong once": partial(first_state, (RUN,), Budget(1, 1, 1, 1, 1, 1, 2), refreshes=1),
    "two runs, everything but a freeze goes wrong once": partial(first_state, TWO, EACH_ONCE._replace(switches=1)),
    "three runs at once": partial(first_state, THREE),
    "three runs, two killed": partial(first_state, THREE, Budget(kills=2, ticks=2, switches=1)),
    "a forced run, a run and a login": partial(first_state, (FORCED, RUN, LOGIN), Budget(switches=2)),
    "a laptop a day ahead and a run": partial(first_state, (LAPTOP, RUN), Budget(kills=1, late=1, ticks=2)),
    "a pair without a label and two runs": partial(
        first_state, TWO, Budget(stale=1, kills=1), labels=(CURRENT,), published=False
    ),
    "a form across two refreshes": partial(first_state, THREE, Budget(weeks=2, switches=0), FORM, provider="revoking"),
    "a dead pair that is edited": partial(
        first_state, TWO, Budget(switches=1), ("pastes a dead pair", *FORM), refreshes=1
    ),
    "a pair is pasted twice": partial(
        first_state, TWO, Budget(switches=1), ("pastes a live pair", "pastes a dead pair"), refreshes=1
    ),
    "deleted and restored": partial(
        first_state, (RUN, LOGIN), Budget(ticks=1, switches=1), ("deletes the pair secret", "restores the pair secret")
    ),
    "a clock ten minutes ahead": partial(first_state, (AHEAD, RUN), Budget(kills=1, ticks=2), refreshes=1),
    "made again, and a login": partial(
        first_state, (RUN, LOGIN, RUN), Budget(switches=1), ("makes the pair secret again",)
    ),
    "a key is replaced after a failed attempt": partial(
        first_state, (RUN, RUN, LOGIN), Budget(faults=1, ticks=6, switches=0), ("replaces the key",), refreshes=1
    ),
    "the proof is forbidden": partial(first_state, TWO, Budget(weeks=2), ("closes the proof's address",)),
    "hardly any room": partial(first_state, TWO, Budget(kills=1, ticks=2), ("pastes a live pair",), others=90),
    **{
        f"a person {hand}, and something else goes wrong": partial(
            first_state, TWO, Budget(stale=1, faults=1, ticks=1, switches=1), (hand,), refreshes=1
        )
        for hand in HANDS
    },
    **{
        f"a {kind} provider": partial(
            first_state, TWO, Budget(lost=1, freezes=1, ticks=2, switches=1), provider=kind, refreshes=1
        )
        for kind in KINDS
    },
}


def main(argv: Sequence[str]) -> int:
    schedules, seed, processes = (*map(int, argv), *(SCHEDULES, SEED, os.cpu_count() or 1)[len(argv) :])
    starts = range(seed, seed + schedules, CHUNK)
    found = 0
    with ProcessPoolExecutor(processes) as workers:
        for part in (workers.map(_explore, WIDE), workers.map(partial(_play, seed + schedules), starts)):
            found += sum(map(_shown, part))
    print(f"{found} findings in {len(WIDE)} bounds and {schedules} random schedules, seeds {seed} and on")
    return 1 if found else 0


def _explore(name: str) -> tuple[str, list[Finding]]:
    began = time.process_time()
    explored = explore(WIDE[name](), at_most=AT_MOST)
    extent = "all" if explored.is_complete else "the first"
    seconds = time.process_time() - began
    description = f"{name}: {extent} {explored.states} states, {explored.ends} ends, {explored.quiet} left alone"
    return f"{description}, {seconds:.0f} s", [explored.finding] if explored.finding else []


def _play(end: int, start: int) -> tuple[str, list[Finding]]:
    began = time.process_time()
    seeds = range(start, min(start + CHUNK, end))
    found: dict[str, Finding] = {}
    steps = 0
    for seed in seeds:
        first, made, what = random_schedule(seed)
        steps += len(made)
        if what and kind_of(what) not in found:
            finding = shortened(first, made)
            found[kind_of(what)] = finding._replace(what=f"seed {seed}: {finding.what}")
    return f"seeds {start} to {seeds[-1]}: {steps} steps, {time.process_time() - began:.0f} s", [*found.values()]


def _shown(part: tuple[str, list[Finding]]) -> int:
    description, found = part
    print(description, flush=True)
    for finding in found:
        print(f"  {finding.what}", *finding.schedule, sep="\n    ", flush=True)
    return len(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
