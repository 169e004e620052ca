"""From a thousand connections to ten thousand, in one invocation: ``python -m tests.campaigns.sweep``.

Secrets Manager throttles at AWS's published rates and answers after 10 ms, Virtuous after 500 ms. Prints one line a
scenario. Exit 1 where a promise does not hold.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from tests.campaigns.sweep_world import Invocation, world
from tests.fakes.secrets_manager_http import RequestRates

# Four writes a refresh, and 50 writes a second in a Region ("Secrets Manager quotas").
CEILING = 12.5
WRITES = ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage")


class Measured(NamedTuple):
    """One scenario's run."""

    invocations: Sequence[Invocation]
    admitted: Mapping[str, int]
    throttled: int
    faults: Sequence[str]

    @property
    def seconds(self) -> float:
        return max(invocation.seconds for invocation in self.invocations)

    @property
    def peak_mb(self) -> float:
        return max(invocation.peak_mb for invocation in self.invocations)

    @property
    def calls(self) -> int:
        return sum(self.admitted.values())

    @property
    def writes(self) -> int:
        return sum(self.admitted.get(operation, 0) for operation in WRITES)

    @property
    def refreshed(self) -> int:
        return sum(
            [*invocation.answer.get("outcomes", {}).values()].count("refreshed") for invocation in self.invocations
        )

    @property
    def failures(self) -> list[str]:
        """Tokens lost and the like, and throttling where somebody must see it."""
        is_seen = any("ThrottlingException" in invocation.log for invocation in self.invocations)
        return [*self.faults, *(["throttling surfaced"] if is_seen else [])]


FORM = "{:<36}{:>9}{:>9}{:>9}{:>11}{:>9}{:>9}"


def measure(title: str, *, fresh: int = 0, due: int = 0, at_once: int = 1) -> Measured:
    rates = RequestRates()
    with world(rates) as there:
        there.log_in(due, age=timedelta(days=9))
        there.log_in(fresh, age=timedelta(hours=1))
        invocations = there.invoke(at_once)
        run = Measured(invocations, rates.admitted, sum(rates.refused.values()), there.faults())
    cpu_seconds = sum(invocation.cpu_seconds for invocation in invocations)
    numbers = f"{run.seconds:.1f}", run.calls, run.writes, run.throttled, f"{run.peak_mb:.0f}", f"{cpu_seconds:.1f}"
    print(FORM.format(title, *numbers), flush=True)
    return run


def main() -> int:
    """Exit status: 0 the promises hold, 1 one does not."""
    print(FORM.format("", "seconds", "calls", "writes", "throttled", "MB", "CPU s"))
    tenth = measure("1,000 connections, none due", fresh=1_000)
    fresh = measure("10,000 connections, none due", fresh=10_000)
    due = measure("1,000 connections, all due", due=1_000)
    shared = measure("10,000, 700 due, two invocations", fresh=9_300, due=700, at_once=2)
    rate = due.refreshed / due.seconds
    promises = {
        f"10,000 fresh take 750 calls at most: {fresh.calls}": fresh.calls <= 750,
        f"and 30 seconds at most: {fresh.seconds:.1f}": fresh.seconds <= 30,
        f"and 256 MB at most: {fresh.peak_mb:.0f}": fresh.peak_mb <= 256,
        "time grows no faster than the number of connections": fresh.seconds <= 12 * max(tenth.seconds, 0.5),
        f"all that are due are refreshed: {due.refreshed} of 1,000": due.refreshed == 1_000,
        f"at 94 % of {CEILING} a second at least: {rate:.2f}": rate >= 0.94 * CEILING,
        f"two invocations refresh all that are due: {shared.refreshed} of 700": shared.refreshed == 700,
        f"and waste 10 % of the writes at most: {shared.writes} for 2,800": shared.writes <= 1.1 * 2_800,
    }
    broken = [f"BROKEN: {what}" for what, holds in promises.items() if not holds]
    broken += [f"BROKEN: {failure}" for run in (tenth, fresh, due, shared) for failure in run.failures]
    print("\n".join(broken) or "every promise holds")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
