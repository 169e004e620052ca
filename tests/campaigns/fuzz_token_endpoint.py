"""Many random answers against the real token endpoint: what ``tests/test_fuzz_token_endpoint.py`` asks a hundred times.

python -m tests.campaigns.fuzz_token_endpoint --answers 100000 --seed 1
python -m tests.campaigns.fuzz_token_endpoint --seed 1 --only 4711      one answer again, printed in full
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from collections import Counter
from collections.abc import Sequence

from tests.leak_harness import LeakHarness
from tests.test_fuzz_token_endpoint import ScriptedServer, ask

BATCH = 100  # answers between two looks for leaks


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz_token_endpoint", description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--only", type=int, help="the number of one answer")
    chosen = parser.parse_args(argv)
    numbers = range(chosen.answers) if chosen.only is None else [chosen.only]
    kinds: Counter[str] = Counter()
    surprises: list[str] = []
    harness = LeakHarness()
    harness.hears_libraries = True
    with contextlib.closing(ScriptedServer()) as server, harness.listening():
        for number in numbers:
            try:
                answer = ask(random.Random(f"{chosen.seed}/{number}"), server, harness)
                kinds[type(answer).__name__] += 1
            except Exception as error:  # noqa: BLE001 (any exception at all is what is looked for)
                surprises.append(f"answer {number}: {type(error).__name__}: {error}")
            if chosen.only is not None:
                print(*server.script, sep="\n")
            if number % BATCH == BATCH - 1 or number == numbers[-1]:
                surprises += [f"answers up to {number}: {leak}" for leak in harness.leaks()]
                harness.clear()
    print(", ".join(f"{count} {name}" for name, count in kinds.most_common()))
    print(f"{len(numbers)} answers, seed {chosen.seed}, {len(surprises)} surprises", *surprises[:20], sep="\n")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
