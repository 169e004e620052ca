"""Interleavings of refreshers beyond what the tests have time for: ``python -m benchmarks.explore``.

Exit status 1 where an order of steps spends a credential twice, loses a pair or gets stuck; its steps are printed.
"""

from __future__ import annotations

import sys
import time

from tests.exploration import Budget, State, explore

BOUNDS = [
    (2, Budget(kills=1, stale_reads=1, lost_answers=1, ticks=2)),
    (2, Budget(kills=2, stale_reads=1, lost_answers=1, ticks=2)),
    (2, Budget(hands=1, kills=1, ticks=2)),
    (3, Budget(kills=1, stale_reads=1, lost_answers=1, ticks=0)),
    (3, Budget(hands=1, ticks=0)),
]


def main() -> int:
    """Explores one bound after the other."""
    is_broken = False
    for refreshers, budget in BOUNDS:
        began = time.monotonic()
        explored = explore(State.first(refreshers, budget))
        print(f"{refreshers} refreshers, {budget}: {explored.states} states, {explored.ends} ends", end="")
        print(f", {len(explored.broken)} broken, {time.monotonic() - began:.0f} s", flush=True)
        for what, steps in explored.broken.items():
            print(f"  {what}", *steps, sep="\n    ")
        is_broken = is_broken or bool(explored.broken)
    return 1 if is_broken else 0


if __name__ == "__main__":
    sys.exit(main())
