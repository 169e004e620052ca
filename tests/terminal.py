"""A command at a terminal of its own, and somebody who types."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.deployed.local_aws import process_group

__all__ = ["COMMAND", "plain", "typed_at_a_terminal"]

COMMAND = [sys.executable, "-m", "virtuous_token_cli"]
SECONDS = 90.0
# A session's leader gets the first terminal that it opens as its own, so that getpass finds it under /dev/tty.
_TAKES_ITS_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(2), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


def plain(shown: str) -> str:
    """What was shown, without what colours and moves it."""
    return _ESCAPES.sub("", shown).replace("\r\n", "\n")


def typed_at_a_terminal(
    command: Sequence[str],
    answers: Sequence[tuple[str, str]],
    *,
    environment: Mapping[str, str],
    directory: Path,
    piped: str | None = None,
    columns: int = 80,
    seconds: float = SECONDS,
) -> tuple[int, str]:
    """Types each answer once the text before it is shown; the exit status, and all that was shown.

    With *piped*, standard input is a pipe that holds it, and the terminal is what is left. AssertionError where a text
    or the end does not come for *seconds*.
    """
    terminal, its_end = pty.openpty()
    sizes = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"}
    shown = ""
    with process_group(
        [sys.executable, "-c", _TAKES_ITS_TERMINAL, *command],
        cwd=directory,
        env={**environment, **sizes},
        stdin=its_end if piped is None else subprocess.PIPE,
        stdout=its_end,
        stderr=its_end,
    ) as process:
        os.close(its_end)
        if process.stdin:
            process.stdin.write((piped or "").encode())
            process.stdin.close()
        try:
            for prompt, answer in answers:
                shown = _read(terminal, shown, prompt, seconds)
                time.sleep(0.2)  # getpass throws away what was typed before it had turned the echo off
                os.write(terminal, f"{answer}\n".encode())
                shown += "\0"  # the next prompt comes after this
            shown = _read(terminal, shown, None, seconds)
            process.wait(seconds)
        finally:
            os.close(terminal)
    return process.returncode, shown.replace("\0", "")


def _read(terminal: int, shown: str, until: str | None, seconds: float) -> str:
    """What was shown so far, once *until* is in what came after the last answer; None: to the end."""
    deadline = time.monotonic() + seconds
    while until is None or until not in plain(shown.rpartition("\0")[2]):
        if not select.select([terminal], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise AssertionError(f"waited for {until!r}; shown: {shown}")
        data = b""
        with contextlib.suppress(OSError):  # how Linux says that nobody holds the other end any more
            data = os.read(terminal, 4096)
        if not data:
            assert until is None, f"it ended before {until!r}; shown: {shown}"
            return shown
        shown += data.decode(errors="replace")
    return shown
