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
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from tests.deployed.demo import Narrator, end_on_signals
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.world import World, open_world

__all__ = ["main"]

DIRECTORY = REPOSITORY / ".local" / "play"
ENVIRONMENT = DIRECTORY / "environment"
LOG = REPOSITORY / ".local" / "play.log"
PROCESS_ID = REPOSITORY / ".local" / "play.pid"
SECONDS_TO_STOP = 60.0


def start() -> int:
    """Starts the world in the background and returns once it is deployed and logged in."""
    if _running() is not None:
        print(f"It is running already. {_how_to_use()}")
        return 0
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as output:
        serving = subprocess.Popen(
            [sys.executable, "-m", "tests.deployed.local_world", "serve"],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with LOG.open() as told:
            while serving.poll() is None and not ENVIRONMENT.exists():
                print(told.read(), end="", flush=True)
                time.sleep(0.2)  # shows what the starting process wrote since, until it is ready or has ended
            print(told.read(), end="", flush=True)
    except KeyboardInterrupt:
        serving.terminate()
        serving.wait()
        return 130
    if serving.poll() is not None:
        print(f"FAILED. Logs: {DIRECTORY}", file=sys.stderr)
        return 1
    print(_how_to_use())
    return 0


def serve() -> int:
    """Holds the world until it is terminated."""
    end_on_signals()
    with _process_id_kept(), contextlib.suppress(KeyboardInterrupt), open_world(DIRECTORY, Narrator()) as world:
        world.deploy()
        world.deploy_reader()
        world.log_in()
        _write_environment(world)
        threading.Event().wait()
    return 0


def stop() -> int:
    """Ends the world, if there is one, and returns when nothing of it is left."""
    process_id = _running()
    if process_id is None:
        print("Nothing is running.")
        return 0
    os.kill(process_id, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    while _running() is not None:
        if time.monotonic() > deadline:
            print(f"Process {process_id} did not end within {SECONDS_TO_STOP:.0f} seconds.", file=sys.stderr)
            return 1
        time.sleep(0.1)  # not a child of ours, so it cannot be waited for, only asked
    print("Stopped.")
    return 0


@contextlib.contextmanager
def _process_id_kept() -> Iterator[None]:
    with PROCESS_ID.open("a+") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept.truncate(0)
        kept.write(str(os.getpid()))
        kept.flush()
        yield


def _running() -> int | None:
    """The id of the process that holds the world; None where the lock on its file is free."""
    with contextlib.suppress(FileNotFoundError), PROCESS_ID.open() as kept:
        try:
            fcntl.flock(kept, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(kept.read())
    return None


def _write_environment(world: World) -> None:
    """For a shell to read. The file appears whole, since ``start`` waits for it."""
    wanted = {name: value for name, value in world.environment.items() if name.startswith(("AWS_", "VIRTUOUS_"))}
    wanted["VIRTUOUS_BASE_URL"] = world.virtuous.base_url
    lines = [f"export {name}={quote(value)}" for name, value in sorted(wanted.items())]
    lines += [
        f"export PATH={quote(str(Path(sys.executable).parent))}:$PATH",
        f"# The user of the stand-in for Virtuous: {world.virtuous.user}, password {world.virtuous.password}",
    ]
    unfinished = ENVIRONMENT.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text("\n".join(lines) + "\n")
    unfinished.rename(ENVIRONMENT)


def _how_to_use() -> str:
    return f"""
Running. To use it from a shell:
    . {ENVIRONMENT}
    virtuous-token --base-url $VIRTUOUS_BASE_URL status
    virtuous-token --base-url $VIRTUOUS_BASE_URL check
    sam logs --stack-name virtuous-token-refresher
The schedule fires every minute. End it with: make stop"""


def main(argv: Sequence[str] | None = None) -> int:
    """``start``, ``serve`` or ``stop``. Exit status: 0 done, 1 failed, 2 misused."""
    commands = {"start": start, "serve": serve, "stop": stop}
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"usage: python -m tests.deployed.local_world {'|'.join(commands)}", file=sys.stderr)
        return 2
    return commands[arguments[0]]()


if __name__ == "__main__":
    sys.exit(main())
