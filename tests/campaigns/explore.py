"""Orders of steps beyond what the tests have time for: ``python -m tests.campaigns.explore``.

*argv* is [schedules] [seed] [processes]. Explores all bounds of ``tests/explorer/campaign.py``, each to its end or to
AT_MOST states, then random schedules, with a process for each processor. Exit status 1 where a property breaks; the
shortest schedule that shows it is printed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

from tests.explorer.campaign import BOUNDS, WIDE
from tests.explorer.search import Finding, explore, kind_of, random_schedule, shortened
from tests.seed import SEED

SCHEDULES = 50_000
CHUNK = 500
AT_MOST = 30_000
ALL_BOUNDS = {**WIDE, **BOUNDS}


class Chunk(NamedTuple):
    """What one piece of the campaign saw. ``seen`` counts states, or steps of random schedules."""

    description: str
    seen: int
    found: tuple[Finding, ...]
    seconds: float


def main(argv: Sequence[str]) -> int:
    """*argv*: how many random schedules, the seed of the first (the next has the next seed), how many processes."""
    schedules, seed, workers_at_most = (*map(int, argv), *(SCHEDULES, SEED, os.cpu_count() or 1)[len(argv) :])
    with ProcessPoolExecutor(workers_at_most) as workers:
        bounds = [_shown(chunk) for chunk in workers.map(_explore, ALL_BOUNDS)]
        print(f"{sum(chunk.seen for chunk in bounds)} states of {len(bounds)} bounds", flush=True)
        starts = range(seed, seed + schedules, CHUNK)
        played = [_shown(chunk) for chunk in workers.map(partial(_play, seed + schedules), starts)]
    steps = sum(chunk.seen for chunk in played)
    print(f"{schedules} random schedules of {steps} steps, seeds {seed} to {seed + schedules - 1}")
    found = sum(len(chunk.found) for chunk in (*bounds, *played))
    print(f"{found} findings, {sum(chunk.seconds for chunk in (*bounds, *played)):.0f} s of processor time")
    return 1 if found else 0


def _explore(name: str) -> Chunk:
    began = time.process_time()
    explored = explore(ALL_BOUNDS[name](), at_most=AT_MOST)
    extent = "all" if explored.is_complete else "the first"
    description = f"{name}: {extent} {explored.states} states, {explored.ends} ends, {explored.quiet} left alone"
    return Chunk(description, explored.states, tuple(explored.findings.values()), time.process_time() - began)


def _play(end: int, start: int) -> Chunk:
    began = time.process_time()
    seeds = range(start, min(start + CHUNK, end))
    found: dict[str, Finding] = {}
    steps = 0
    for seed in seeds:
        first, made, what = random_schedule(seed)
        steps += len(made)
        if what and kind_of(what) not in found:
            short = shortened(first, kind_of(what), made)
            found[kind_of(what)] = Finding(f"seed {seed}: {short.what}", short.schedule)
    description = f"seeds {seeds[0]} to {seeds[-1]}: {steps} steps"
    return Chunk(description, steps, tuple(found.values()), time.process_time() - began)


def _shown(chunk: Chunk) -> Chunk:
    print(f"{chunk.description}, {chunk.seconds:.0f} s", flush=True)
    for finding in chunk.found:
        print(f"  {finding.what}", *finding.schedule, sep="\n    ", flush=True)
    return chunk


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
