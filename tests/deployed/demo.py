"""``make demo``: the main job on this machine, from deployment to a refreshed token in a reader's hand.

Exit status 0 means that all of what is told at the end was observed.
"""

from __future__ import annotations

import signal
import sys
import time

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.story import SCHEDULE, Story, expect
from tests.deployed.world import World, open_world

DIRECTORY = REPOSITORY / ".local" / "demo"


class Narrator:
    """Prints each step as it begins, with the seconds since the start, and remembers the last one."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.step = "start"

    def __call__(self, step: str) -> None:
        self.step = step
        print(f"{time.monotonic() - self.began:5.0f} s  {step}", flush=True)


def observe(world: World) -> list[str]:
    """Lives through the story once, and tells what was seen. StepFailed where something else was."""
    world.deploy()
    world.deploy_reader()
    story = Story(world)
    seen = [step() for step in (story.log_in, story.be_refreshed, story.be_refused_the_pair)]
    grants = world.grants("password"), world.grants("refresh_token")
    asked_for = [run.outcomes for run in world.runs() if run.source != SCHEDULE and run.outcomes]
    expect(grants == (1, 1), "one grant by password and one by refresh token", grants)
    expect(len(asked_for) == 1 and "refreshed" not in asked_for[0].values(), "one run for the login", asked_for)
    return [*seen, "Virtuous granted one login and one refresh, and nobody but the schedule asked for that"]


def end_on_signals() -> None:
    """A termination unwinds as Ctrl-C does, so that everything started is stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))


def main() -> int:
    """Exit status: 0 all observed, 1 not."""
    end_on_signals()
    narrator = Narrator()
    try:
        with open_world(DIRECTORY, narrator) as world:
            seen = observe(world)
            narrator("Stop everything")
    except KeyboardInterrupt:
        print("\nInterrupted; everything was stopped.", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 (whatever it was: the step and the logs are what helps)
        print(f"\nFAILED in the step: {narrator.step}\n{type(error).__name__}: {error}", file=sys.stderr)
        print(f"Logs: {DIRECTORY}", file=sys.stderr)
        return 1
    print("\nAs promised:")
    for sentence in seen:
        print(f"  - {sentence}")
    print(f"\nThe schedule refreshed the token and the reader has it. {time.monotonic() - narrator.began:.0f} seconds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
