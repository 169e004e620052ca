"""``make demo``: the main job on this machine, from deployment to a refreshed token in a reader's hand.

The stack is deployed as it would be to AWS, somebody logs in, and then only the schedule acts. Exit status 0 means that
everything in the table at the end was observed.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.world import World, open_world

__all__ = ["end_on_signals", "main"]

DIRECTORY = REPOSITORY / ".local" / "demo"


@dataclass(frozen=True, slots=True)
class Observation:
    """One line of the table: what was looked at, what was seen, and whether that is as promised."""

    what: str
    seen: str
    holds: bool


class Narrator:
    """Prints each step as it begins, with the seconds since the start, and remembers the last one."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.step = "start"

    def __call__(self, step: str) -> None:
        self.step = step
        print(f"{time.monotonic() - self.began:5.0f} s  {step}", flush=True)


def observe(world: World) -> list[Observation]:
    """Lives through the story once."""
    world.deploy()
    world.deploy_reader()
    world.log_in()
    world.say("The reader calls Virtuous")
    before = world.read_as_reader()
    scheduled = world.wait_for_the_schedule()
    world.say("The reader calls Virtuous again, until it has the new token")
    after = world.wait("the new token", lambda: None if (seen := world.read_as_reader()) == before else seen)
    world.say("The reader tries to read the pair secret")
    refused = world.reader_reads("virtuous/default/tokens")
    others = [run for run in world.runs() if not run.is_scheduled]
    logins = sum(event.call == "password" for event in world.virtuous.events)
    refreshes = world.refreshes_accepted()
    return [
        Observation("token that the reader sent before", f"generation {before[1]}", before[1] == 1),
        Observation("token that the reader sent after", f"generation {after[1]}", after[1] == 2),
        Observation("what Virtuous answered the reader", f"{before[0]}, then {after[0]}", before[0] == after[0] == 200),
        Observation("the refresh was run by", scheduled.source, scheduled.is_scheduled),
        Observation(
            "runs that somebody else asked for",
            f"{len(others)} (the login's, to publish), {sum(run.has_refreshed for run in others)} refreshed",
            len(others) == 1 and not any(run.has_refreshed for run in others),
        ),
        Observation(
            "grants that Virtuous made", f"{logins} by password, {refreshes} by refresh token", logins == refreshes == 1
        ),
        Observation("the reader asking for the pair secret", refused, refused == "AccessDeniedException"),
    ]


def show(observations: Sequence[Observation]) -> None:
    """Prints the table."""
    widths = [max(len(row.what) for row in observations), max(len(row.seen) for row in observations)]
    print()
    for row in observations:
        print(
            f"  {row.what:<{widths[0]}}  {row.seen:<{widths[1]}}  {'as promised' if row.holds else 'NOT AS PROMISED'}"
        )
    print()


def end_on_signals() -> None:
    """Lets a termination unwind as Ctrl-C does, so that everything started is stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))


def main() -> int:
    """Exit status: 0 all observed, 1 not."""
    end_on_signals()
    narrator = Narrator()
    try:
        with open_world(DIRECTORY, narrator) as world:
            observations = observe(world)
            narrator("Stop everything")
    except KeyboardInterrupt:
        print("\nInterrupted; everything was stopped.", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 (whatever it was: the step and the logs are what helps)
        print(f"\nFAILED in the step: {narrator.step}\n{type(error).__name__}: {error}", file=sys.stderr)
        print(f"Logs: {DIRECTORY}", file=sys.stderr)
        return 1
    show(observations)
    if not all(row.holds for row in observations):
        print(f"FAILED: not everything was as promised. Logs: {DIRECTORY}", file=sys.stderr)
        return 1
    print(f"The schedule refreshed the token and the reader has it. {time.monotonic() - narrator.began:.0f} seconds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
