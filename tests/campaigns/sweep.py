"""From one connection to ten thousand, in one invocation: ``python -m tests.campaigns.sweep``.

Secrets Manager throttles at AWS's published rates and answers after 10 ms, Virtuous after 500 ms; each is a process of
its own. Exit 1 where a promise does not hold.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from tests.campaigns.sweep_world import Invocation, world

# Four writes a refresh, and 50 writes a second in a Region ("Secrets Manager quotas").
CEILING = 12.5
LEAST_OF_THE_CEILING = 0.94
WRITES = ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage")
FRESH, DUE = timedelta(hours=1), timedelta(days=9)
SIZES = (100, 1_000, 10_000)
HEADER = f"{'':<38}{'seconds':>8}{'calls':>8}{'writes':>8}{'throttled':>10}{'MB':>8}{'CPU s':>8}{'a second':>9}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario's run."""

    title: str
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
        answers = [invocation.answer.get("outcomes", {}) for invocation in self.invocations]
        return sum(word == "refreshed" for outcomes in answers for word in outcomes.values())

    @property
    def throttling_surfaced(self) -> bool:
        return any("ThrottlingException" in invocation.log for invocation in self.invocations)

    def row(self) -> str:
        rate = f"{self.refreshed / self.seconds:.2f}" if self.refreshed else "-"
        cpu = sum(invocation.cpu_seconds for invocation in self.invocations)
        return (
            f"{self.title:<38}{self.seconds:>8.1f}{self.calls:>8}{self.writes:>8}{sum(self.throttled.values()):>10}"
            f"{self.peak_mb:>8.0f}{cpu:>8.1f}{rate:>9}"
        )


def measure(title: str, *, fresh: int, due: int, at_once: int = 1) -> Measured:
    with world() as there:
        there.log_in(due, age=DUE)
        there.log_in(fresh, age=FRESH)
        invocations = there.invoke({}, at_once=at_once)
        admitted, throttled = there.secrets_manager.ask("calls")
        measured = Measured(title, due, invocations, admitted, throttled, there.faults())
    print(measured.row(), flush=True)
    return measured


def main() -> int:
    """Exit status: 0 the promises hold, 1 one does not."""
    print(HEADER)
    growth = [measure(f"{size:,} connections, none due", fresh=size, due=0) for size in SIZES]
    due = measure("1,000 connections, all due", fresh=0, due=1_000)
    shared = measure("10,000, 700 due, two invocations", fresh=9_300, due=700, at_once=2)
    tenth, whole = growth[-2:]
    rate, least = due.refreshed / due.seconds, 4 * shared.due
    promises = {
        f"10,000 fresh took {whole.calls} calls, not 750 at most": whole.calls <= 750,
        f"10,000 fresh took {whole.seconds:.1f} s, not 30 at most": whole.seconds <= 30,
        f"10,000 fresh took {whole.peak_mb:.0f} MB, not 256 at most": whole.peak_mb <= 256,
        "time grows faster than the number of connections": whole.seconds <= 15 * max(tenth.seconds, 0.5),
        f"{due.refreshed} of {due.due} due were refreshed": due.refreshed == due.due,
        f"{rate:.2f} refreshes a second are below 94 % of {CEILING}": rate >= LEAST_OF_THE_CEILING * CEILING,
        f"{shared.refreshed} of {shared.due} due were refreshed by two": shared.refreshed == shared.due,
        f"{shared.writes - least} of {shared.writes} writes were wasted": shared.writes <= 1.05 * least,
        "throttling surfaced": not (due.throttling_surfaced or shared.throttling_surfaced),
    }
    broken = [what for what, holds in promises.items() if not holds]
    broken += [fault for measured in (*growth, due, shared) for fault in measured.faults]
    print("\n".join(f"BROKEN: {what}" for what in broken) or "every promise holds")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
