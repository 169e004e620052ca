"""A command at a terminal of its own, and somebody who types."""

from __future__ import annotations

import importlib
import io
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

pexpect: Any = importlib.import_module("pexpect")  # it has no types

__all__ = ["COMMAND", "plain", "typed_at_a_terminal"]

COMMAND = [sys.executable, "-m", "virtuous_token_cli"]
SECONDS = 90.0
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

    With *piped*, standard input is a file that holds it, and the terminal is what is left. pexpect.TIMEOUT or EOF where
    a text or the end does not come for *seconds*.
    """
    sizes = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"}
    options: dict[str, Any] = {"cwd": str(directory), "env": {**environment, **sizes}, "dimensions": (40, columns)}
    options |= {"timeout": seconds, "encoding": "utf-8", "codec_errors": "replace"}
    options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # who runs the tests may ignore it
    shown, line = io.StringIO(), shlex.join(command)
    with tempfile.NamedTemporaryFile("w") as file:
        if piped is not None:
            file.write(piped)
            file.flush()
            line += f" <{shlex.quote(file.name)}"
        child = pexpect.spawn("/bin/sh", ["-c", f"exec {line}"], **options)
        child.logfile_read, child.delaybeforesend = shown, 0.2  # getpass throws away what came before the echo was off
        try:
            for prompt, answer in answers:
                end = r"\s" if prompt.endswith(" ") else ""
                child.expect(r"(?:\x1b\S*)?\s*".join(map(re.escape, prompt.split())) + end)
                child.send(answer) if answer in ("\x03", "\x04") else child.sendline(answer)
            child.expect(pexpect.EOF)
        finally:
            child.close(force=True)
    return child.exitstatus, shown.getvalue()
