"""Where a person's answers come from: the terminal, or the lines of standard input.

A secret is never an argument and never echoed. What is piped is read whole before anything else runs, so that no other
prompt (botocore's for an MFA code) can take a line that was meant for us.
"""

from __future__ import annotations

import getpass
import io
import sys
import warnings
from typing import Protocol

import click

from .failures import CommandFailed

__all__ = ["Answers", "Piped", "Terminal", "open_answers"]

# Byte-order marks, which PowerShell and some editors put before the first line.
_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class Answers(Protocol):
    """Asks a person, or takes what was piped."""

    def ask(self, what: str) -> str:
        """A line without white space round it. Raises click.UsageError where there is none."""

    def ask_hidden(self, what: str) -> str:
        """A line that is not echoed, to the letter. Raises click.UsageError where there is none."""

    def confirm(self, question: str) -> bool:
        """True if the person says yes. Raises CommandFailed where nobody can be asked."""


class Terminal:
    """A person at a terminal."""

    def ask(self, what: str) -> str:
        while not (answer := _line(input_line(what)).strip()):
            click.echo(f"{what} is needed; Ctrl-C ends.", err=True)
        return answer

    def ask_hidden(self, what: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            try:
                while not (answer := _line(getpass.getpass(f"{what} (not shown): ", stream=sys.stderr))):
                    click.echo(f"{what} is needed; Ctrl-C ends.", err=True)
            except getpass.GetPassWarning:
                raise CommandFailed(
                    "This terminal would show what you type.", "pipe it: virtuous-token login < file, a line each"
                ) from None
        return answer

    def confirm(self, question: str) -> bool:
        return click.confirm(question, default=False, err=True)


class Piped:
    """The lines of standard input, which is no terminal."""

    def __init__(self, data: bytes) -> None:
        try:
            text = data.decode(next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8"))
        except UnicodeDecodeError:
            raise click.UsageError("Standard input is not UTF-8.") from None
        self._lines = [_line(line) for line in text.split("\n")]

    def ask(self, what: str) -> str:
        return self.ask_hidden(what).strip()

    def ask_hidden(self, what: str) -> str:
        line = self._lines.pop(0) if self._lines else ""
        if not line:
            raise click.UsageError(f"Standard input ended before the {what.lower()}, or its line is empty.")
        return line

    def confirm(self, question: str) -> bool:
        raise CommandFailed(f"Nobody can be asked: {question}", "the same again with --yes, or in a terminal")


def open_answers() -> Answers:
    """The terminal; or the whole of standard input, after which standard input is empty for everybody else."""
    if sys.stdin.isatty():
        return Terminal()
    answers = Piped(sys.stdin.buffer.read())
    sys.stdin = io.StringIO()
    return answers


def input_line(what: str) -> str:
    """One line from the terminal. The prompt goes to standard error, since results go to standard output."""
    click.echo(f"{what}: ", err=True, nl=False)
    line = sys.stdin.readline()
    if not line:
        raise click.Abort
    return line


def _line(text: str) -> str:
    """*text* without a line end, and without the mark that a paste may bring along."""
    return text.rstrip("\r\n").lstrip("\ufeff")
