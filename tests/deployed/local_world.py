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
from pathlib import Path
from shlex import quote

from tests.deployed.demo import Narrator, end_on_signals
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.world import World, open_world


def directory_of(name: str = "play") -> Path:
    """Where the world keeps its files, and an ``environment`` for a shell. *name* tells it from others."""
    return REPOSITORY / ".local" / name


def running(name: str) -> int | None:
    """The id of the process that holds the world; None where the lock on its file is free."""
    with contextlib.suppress(FileNotFoundError), directory_of(name).with_suffix(".pid").open() as kept:
        try:
            fcntl.flock(kept, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(kept.read())
    return None


def start(name: str) -> int:
    """Starts the world in the background and returns once it is deployed and logged in."""
    environment, log = directory_of(name) / "environment", directory_of(name).with_suffix(".log")
    if running(name) is None:
        log.parent.mkdir(exist_ok=True)
        environment.unlink(missing_ok=True)  # an earlier world's: it would look as if this one were ready
        command = [sys.executable, "-m", "tests.deployed.local_world", "serve", name]
        with log.open("wb") as written, log.open() as output:
            serving = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )
            try:
                while serving.poll() is None and not environment.exists():
                    print(output.read(), end="", flush=True)
                    time.sleep(0.2)  # a process that is starting can only be asked
            except KeyboardInterrupt:
                serving.terminate()
                serving.wait()
                return 130
            print(output.read(), end="")
        if serving.poll() is not None:
            print(f"FAILED. Logs: {directory_of(name)}", file=sys.stderr)
            return 1
    print(f"""
Running. The user of the stand-in for Virtuous: {environment.read_text().rpartition("# ")[2].strip()}. From a shell:
    . {environment}
    virtuous-token status
    virtuous-token login --connection acme
    virtuous-token check
The schedule fires every minute. End it with: make stop""")
    return 0


def serve(name: str) -> int:
    """Holds the world until it is terminated."""
    end_on_signals()
    with directory_of(name).with_suffix(".pid").open("a+") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept.truncate(0)
        print(os.getpid(), end="", file=kept, flush=True)
        with contextlib.suppress(KeyboardInterrupt), open_world(directory_of(name), Narrator()) as world:
            world.deploy()
            world.deploy_reader()
            world.log_in()
            _write_environment(world, directory_of(name) / "environment")
            threading.Event().wait()
    return 0


def stop(name: str) -> int:
    """Ends the world, if there is one, and returns when nothing of it is left."""
    if (process_id := running(name)) is None:
        print("Nothing is running.")
        return 0
    os.kill(process_id, signal.SIGTERM)
    with directory_of(name).with_suffix(".pid").open() as kept:
        fcntl.flock(kept, fcntl.LOCK_SH)  # it is not a child of ours: its end is the end of its lock
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


if __name__ == "__main__":
    command, name = [*sys.argv[1:], "play"][:2]
    sys.exit({"start": start, "serve": serve, "stop": stop}[command](name))
