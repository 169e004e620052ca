"""Orders of steps beyond what the tests have time for: ``python -m benchmarks.explore [schedules] [seed]``.

Explores all bounds of ``tests/explorer/campaign.py`` to their ends, then random schedules. Exit status 1 where a
property breaks; the shortest schedule that shows it is printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tests.explorer.campaign import BOUNDS, WIDE
from tests.explorer.search import Finding, explore, kind_of, random_schedule, shortened
from tests.seed import SEED

SCHEDULES = 50_000


def main(argv: Sequence[str]) -> int:
    """*argv*: how many random schedules, and the seed of the first; the next has the next seed."""
    schedules, seed = (*map(int, argv), *(SCHEDULES, SEED)[len(argv) :])
    began = time.monotonic()
    found = _explore_bounds() + _play_at_random(schedules, seed)
    print(f"{len(found)} findings, {time.monotonic() - began:.0f} s")
    return 1 if found else 0


def _explore_bounds() -> list[Finding]:
    found: list[Finding] = []
    states = 0
    for name, first in {**BOUNDS, **WIDE}.items():
        explored = explore(first())
        states += explored.states
        print(f"{name}: {explored.states} states, {explored.ends} ends, {explored.quiet} left alone", flush=True)
        for finding in explored.findings.values():
            _show(name, finding)
            found.append(finding)
    print(f"{states} states of {len(BOUNDS) + len(WIDE)} bounds")
    return found


def _play_at_random(schedules: int, seed: int) -> list[Finding]:
    found: dict[str, Finding] = {}
    steps = 0
    for number in range(seed, seed + schedules):
        first, made, what = random_schedule(number)
        steps += len(made)
        if what and kind_of(what) not in found:
            found[kind_of(what)] = shortened(first, kind_of(what), made)
            _show(f"seed {number}", found[kind_of(what)])
    print(f"{schedules} random schedules of {steps} steps, seeds {seed} to {seed + schedules - 1}")
    return list(found.values())


def _show(where: str, finding: Finding) -> None:
    print(f"  {where}: {finding.what}", *finding.schedule, sep="\n    ", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
