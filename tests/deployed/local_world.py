"""``make local`` and ``make stop``: the demo's world, left running to play with.

One process holds the world and ends it when it is terminated. It keeps its process id in a file that it locks, so the
id is never taken for that of another process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from tests.deployed.demo import Narrator, end_on_signals
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.world import World, open_world

__all__ = ["main"]

SECONDS_TO_STOP = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where one such world keeps its files. *name* tells it from others of the same checkout."""

    name: str = "play"

    @property
    def directory(self) -> Path:
        return REPOSITORY / ".local" / self.name

    @property
    def environment(self) -> Path:
        return self.directory / "environment"

    @property
    def process_id(self) -> Path:
        return self.directory.with_suffix(".pid")

    def running(self) -> int | None:
        """The id of the process that holds the world; None where the lock on its file is free."""
        with contextlib.suppress(FileNotFoundError), self.process_id.open() as kept:
            try:
                fcntl.flock(kept, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(kept.read())
        return None

    def how_to_use(self) -> str:
        user = self.environment.read_text().rpartition("# ")[2].strip()
        return f"""
Running. The user of the stand-in for Virtuous: {user}. From a shell:
    . {self.environment}
    virtuous-token status
    virtuous-token login --connection acme
    virtuous-token check
The schedule fires every minute. End it with: make stop"""


def start(place: Place) -> int:
    """Starts the world in the background and returns once it is deployed and logged in."""
    if place.running() is not None:
        print(f"It is running already. {place.how_to_use()}")
        return 0
    log = place.directory.with_suffix(".log")
    log.parent.mkdir(exist_ok=True)
    place.environment.unlink(missing_ok=True)  # an earlier world's: it would look as if this one were ready
    command = [sys.executable, "-m", "tests.deployed.local_world", "serve", place.name]
    with log.open("wb") as written:
        serving = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=written, stderr=written, start_new_session=True
        )
    try:
        with log.open() as output:
            is_over = False
            while not is_over:
                is_over = serving.poll() is not None or place.environment.exists()
                print(output.read(), end="", flush=True)
                time.sleep(0 if is_over else 0.2)  # a process that is starting can only be asked
    except KeyboardInterrupt:
        serving.terminate()
        serving.wait()
        return 130
    if serving.poll() is not None:
        print(f"FAILED. Logs: {place.directory}", file=sys.stderr)
        return 1
    print(place.how_to_use())
    return 0


def serve(place: Place) -> int:
    """Holds the world until it is terminated."""
    end_on_signals()
    with place.process_id.open("a+") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept.truncate(0)
        print(os.getpid(), end="", file=kept, flush=True)
        with contextlib.suppress(KeyboardInterrupt), open_world(place.directory, Narrator()) as world:
            world.deploy()
            world.deploy_reader()
            world.log_in()
            _write_environment(world, place.environment)
            threading.Event().wait()
    return 0


def stop(place: Place) -> int:
    """Ends the world, if there is one, and returns when nothing of it is left."""
    if (process_id := place.running()) is None:
        print("Nothing is running.")
        return 0
    os.kill(process_id, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    while place.running() is not None:
        if time.monotonic() > deadline:
            print(f"Process {process_id} did not end within {SECONDS_TO_STOP:.0f} seconds.", file=sys.stderr)
            return 1
        time.sleep(0.1)  # not a child of ours, so it cannot be waited for, only asked
    print("Stopped.")
    return 0


def _write_environment(world: World, path: Path) -> None:
    """For a shell to read. The file appears whole, since ``start`` waits for it."""
    wanted = {name: value for name, value in world.environment.items() if name.startswith(("AWS_", "VIRTUOUS_"))}
    wanted["VIRTUOUS_BASE_URL"] = world.virtuous.base_url
    lines = [f"export {name}={quote(value)}" for name, value in sorted(wanted.items())]
    lines += [f"export PATH={quote(str(Path(sys.executable).parent))}:$PATH"]
    lines += [f"# e-mail {world.virtuous.user}, password {world.virtuous.password}"]
    unfinished = path.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text("\n".join(lines) + "\n")
    unfinished.rename(path)


def main(argv: Sequence[str] | None = None) -> int:
    """``start``, ``serve`` or ``stop``, and the world's name where it is not ``play``.

    Exit status: 0 done, 1 failed, 2 misused.
    """
    commands = {"start": start, "serve": serve, "stop": stop}
    command, *names = (sys.argv[1:] if argv is None else argv) or [""]
    if command not in commands:
        print(f"usage: python -m tests.deployed.local_world {'|'.join(commands)} [name]", file=sys.stderr)
        return 2
    return commands[command](Place(*names))


if __name__ == "__main__":
    sys.exit(main())
