"""Where a person's answers come from: the terminal, or the lines of standard input.

A secret is never an argument and never echoed. What is piped is read whole before anything else runs, so that no other
prompt (botocore's for an MFA code) can take a line that was meant for us.
"""

from __future__ import annotations

import getpass
import io
import sys
import warnings

import click

from .remedies import CommandFailed, Remedy

# Byte-order marks, which PowerShell and some editors put before the first line.
_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# What a terminal keeps of a line before its end, in bytes: Linux, termios(3), "Canonical and noncanonical mode"; macOS,
# MAX_CANON. It drops the rest without a word.
LONGEST_LINE = 1_023 if sys.platform == "darwin" else 4_095


class Terminal:
    """A person at a terminal. *piped* is the same command with a pipe for what the terminal can't take.

    Prompts go to standard error, since results go to standard output.
    """

    def __init__(self, piped: Remedy) -> None:
        self._piped = piped

    def ask(self, what: str) -> str:
        """A line without white space round it."""
        return self._whole(what, str(click.prompt(what, err=True))).strip()

    def ask_hidden(self, what: str) -> str:
        """A line that is not echoed, to the letter. Raises CommandFailed where the terminal would show or cut it."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            try:
                return self._whole(what, str(click.prompt(f"{what} (not shown)", hide_input=True, err=True)))
            except getpass.GetPassWarning:
                raise CommandFailed("This terminal would show what you type.", self._piped) from None

    def confirm(self, question: str) -> bool:
        """True if the person says yes."""
        return click.confirm(question, err=True)

    def _whole(self, what: str, answer: str) -> str:
        if len(answer.encode(errors="surrogateescape")) >= LONGEST_LINE:
            raise CommandFailed(
                f"The {what} is cut: a terminal takes {LONGEST_LINE:,} characters of a line and drops the rest.",
                "put it into a file, a line for each answer, and pipe that",
                self._piped,
            )
        return answer.lstrip("\ufeff")  # a mark that a paste may bring along


class Piped:
    """The lines of standard input, which is no terminal. Raises click.UsageError where one is missing."""

    def __init__(self, data: bytes) -> None:
        try:
            text = data.decode(next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8"))
        except UnicodeDecodeError:
            raise click.UsageError("Standard input is not UTF-8.") from None
        self._lines = [line.rstrip("\r").lstrip("\ufeff") for line in text.split("\n")]

    def ask(self, what: str) -> str:
        return self.ask_hidden(what).strip()

    def ask_hidden(self, what: str) -> str:
        line = self._lines.pop(0) if self._lines else ""
        if not line:
            raise click.UsageError(f"Standard input ended before the {what.lower()}, or its line is empty.")
        return line

    def confirm(self, question: str) -> bool:
        raise CommandFailed(f"Nobody can be asked: {question}", "the same again with --yes, or in a terminal")


Answers = Terminal | Piped


def open_answers(piped: Remedy = "") -> Answers:
    """The terminal; or the whole of standard input, after which standard input is empty for everybody else."""
    if sys.stdin.isatty():
        return Terminal(piped)
    answers = Piped(sys.stdin.buffer.read())
    sys.stdin = io.StringIO()
    return answers
