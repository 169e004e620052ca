"""From one connection to ten thousand, in one invocation: ``python -m tests.campaigns.sweep``.

Secrets Manager throttles at AWS's published rates and answers after 10 ms, Virtuous after 500 ms; each is a process of
its own. ``--write docs/costs.md`` puts the numbers into that page and draws them in ``sweep.svg`` beside it. Exit 1
where a promise does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.campaigns.page import replace_between
from tests.campaigns.sweep_world import Invocation, world

# Four writes a refresh, and 50 writes a second in a Region ("Secrets Manager quotas").
CEILING = 12.5
WRITES = ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage")
FRESH, DUE = timedelta(hours=1), timedelta(days=9)
SIZES = (100, 300, 1_000, 3_000, 10_000)


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario's run."""

    title: str
    connections: int
    due: int
    invocations: Sequence[Invocation]
    admitted: Mapping[str, int]
    throttled: Mapping[str, int]
    faults: Sequence[str]

    @property
    def seconds(self) -> float:
        return max(invocation.seconds for invocation in self.invocations)

    @property
    def calls(self) -> int:
        return sum(self.admitted.values())

    @property
    def writes(self) -> int:
        return sum(self.admitted.get(operation, 0) for operation in WRITES)

    @property
    def peak_mb(self) -> float:
        return max(invocation.peak_mb for invocation in self.invocations)

    @property
    def refreshed(self) -> int:
        return sum(_outcomes(invocation)["refreshed"] for invocation in self.invocations)

    @property
    def throttled_calls(self) -> int:
        return sum(self.throttled.values())

    @property
    def cpu_seconds(self) -> float:
        return sum(invocation.cpu_seconds for invocation in self.invocations)

    def row(self) -> str:
        rate = f"{self.refreshed / self.seconds:.2f}" if self.refreshed else "-"
        return (
            f"{self.title:<38}{self.seconds:>8.1f}{self.calls:>8}{self.writes:>8}{self.throttled_calls:>10}"
            f"{self.peak_mb:>8.0f}{self.cpu_seconds:>8.1f}{rate:>8}"
        )


HEADER = f"{'':<38}{'seconds':>8}{'calls':>8}{'writes':>8}{'throttled':>10}{'MB':>8}{'CPU s':>8}{'a second':>8}"


def measure(title: str, *, fresh: int, due: int, at_once: int = 1) -> Measured:
    with world() as there:
        there.log_in(due, age=DUE)
        there.log_in(fresh, age=FRESH)
        invocations = there.invoke({}, at_once=at_once)
        admitted, throttled = there.secrets_manager.ask("calls")
        return Measured(title, fresh + due, due, invocations, admitted, throttled, there.faults())


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 the promises hold, 1 one does not."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.sweep", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the numbers into this page, with a chart")
    chosen = parser.parse_args(argv)
    print(HEADER)
    growth = [_shown(measure(f"{size:,} connections, none due", fresh=size, due=0)) for size in SIZES]
    due = _shown(measure("1,000 connections, all due", fresh=0, due=1_000))
    shared = _shown(measure("10,000, 700 due, two invocations", fresh=9_300, due=700, at_once=2))
    if chosen.write:
        from tests.campaigns.sweep_chart import draw

        replace_between(chosen.write, "measured", _table([*growth, due, shared]))
        seconds, megabytes = [run.seconds for run in growth], [run.peak_mb for run in growth]
        draw(SIZES, seconds, megabytes, chosen.write.with_name("sweep.svg"))
    broken = [*_broken_by_fresh(growth), *_broken_by_due(due), *_broken_by_shared(shared)]
    print("\n".join(broken) or "every promise holds")
    return bool(broken)


def _broken_by_fresh(growth: Sequence[Measured]) -> list[str]:
    tenth, whole = growth[-3], growth[-1]
    return _unless(
        {
            f"10,000 fresh took {whole.calls} calls, not 750 at most": whole.calls <= 750,
            f"10,000 fresh took {whole.seconds:.1f} s, not 30 at most": whole.seconds <= 30,
            f"10,000 fresh took {whole.peak_mb:.0f} MB, not 256 at most": whole.peak_mb <= 256,
            "time grows faster than the number of connections": whole.seconds <= 12 * max(tenth.seconds, 0.5),
            "memory grows faster than the number of connections": whole.peak_mb <= 12 * tenth.peak_mb,
        }
    ) + [fault for measured in growth for fault in measured.faults]


def _broken_by_due(due: Measured) -> list[str]:
    rate = due.refreshed / due.seconds
    return _unless(
        {
            f"{due.refreshed} of {due.due} due were refreshed": due.refreshed == due.due,
            f"{rate:.2f} refreshes a second are below 95 % of {CEILING}": rate >= 0.95 * CEILING,
            "throttling surfaced": not _throttling_surfaced(due),
        }
    ) + list(due.faults)


def _broken_by_shared(shared: Measured) -> list[str]:
    least = 4 * shared.due
    return _unless(
        {
            f"{shared.refreshed} of {shared.due} due were refreshed": shared.refreshed == shared.due,
            f"{shared.writes - least} of {shared.writes} writes were wasted": shared.writes <= 1.05 * least,
            "throttling surfaced": not _throttling_surfaced(shared),
        }
    ) + list(shared.faults)


def _unless(promises: Mapping[str, bool]) -> list[str]:
    return [f"BROKEN: {what}" for what, holds in promises.items() if not holds]


def _throttling_surfaced(measured: Measured) -> bool:
    return any("ThrottlingException" in invocation.log for invocation in measured.invocations)


def _table(runs: Sequence[Measured]) -> str:
    rows = [
        [
            run.title,
            f"{run.seconds:.1f}",
            f"{run.calls:,}",
            f"{run.writes:,}",
            f"{run.throttled_calls}",
            f"{run.peak_mb:.0f}",
            f"{run.cpu_seconds:.1f}",
        ]
        for run in runs
    ]
    head = ["a sweep over", "seconds", "calls", "writes among them", "throttled", "peak MB", "CPU seconds"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---", *["---:"] * 6], *rows])


def _outcomes(invocation: Invocation) -> Counter[str]:
    return Counter(str(word) for word in invocation.answer.get("outcomes", {}).values())


def _shown(measured: Measured) -> Measured:
    print(measured.row(), flush=True)
    for fault in measured.faults:
        print(f"    {fault}")
    return measured


if __name__ == "__main__":
    sys.exit(main())
