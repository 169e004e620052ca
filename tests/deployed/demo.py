"""``make demo``: the main job on this machine, from deployment to a refreshed token in a reader's hand.

The stack is deployed as it would be to AWS, somebody logs in, and then only the schedule acts. Exit status 0 means that
everything in the table at the end was observed.
"""

from __future__ import annotations

import signal
import sys
import time

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.story import Story
from tests.deployed.world import World, open_world

__all__ = ["Narrator", "end_on_signals", "main"]

DIRECTORY = REPOSITORY / ".local" / "demo"


class Narrator:
    """Prints each step as it begins, with the seconds since the start, and remembers the last one."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.step = "start"

    def __call__(self, step: str) -> None:
        self.step = step
        print(f"{time.monotonic() - self.began:5.0f} s  {step}", flush=True)


def observe(world: World) -> list[tuple[str, str, bool]]:
    """Lives through the story once: what was looked at, what was seen, and whether that is as promised."""
    world.deploy()
    world.deploy_reader()
    story = Story(world)
    for step in (story.log_in, story.be_refreshed, story.be_refused_the_pair):
        step()
    asked_for = [run for run in world.runs() if not run.is_scheduled and run.outcomes]
    grants = world.grants("password"), world.grants("refresh_token")
    return [
        ("token that the reader sent before", story.first[1], story.first[1] == "generation 1"),
        ("token that the reader sent after", story.latest[1], story.latest[1] == "generation 2"),
        ("what Virtuous answered the reader", f"{story.first[0]}, then {story.latest[0]}", True),
        (
            "runs that somebody asked for",
            f"{len(asked_for)} (the login's, to publish), {sum(run.refreshed for run in asked_for)} refreshed",
            len(asked_for) == 1 and not asked_for[0].refreshed,
        ),
        ("refreshes that the schedule ran", f"{grants[1]}", grants[1] == 1),
        ("grants that Virtuous made", f"{grants[0]} by password, {grants[1]} by refresh token", grants == (1, 1)),
        ("the reader asking for the pair secret", "AccessDeniedException", True),
    ]


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
    print()
    for what, seen, holds in observations:
        print(f"  {what:<37}  {seen:<40}  {'as promised' if holds else 'NOT AS PROMISED'}")
    if not all(holds for _, _, holds in observations):
        print(f"\nFAILED: not everything was as promised. Logs: {DIRECTORY}", file=sys.stderr)
        return 1
    print(f"\nThe schedule refreshed the token and the reader has it. {time.monotonic() - narrator.began:.0f} seconds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
