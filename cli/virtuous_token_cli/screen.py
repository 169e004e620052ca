"""What is written to the terminal, whatever its encoding and width, and whatever characters are stored.

Results go to standard output, talk to standard error.
"""

from __future__ import annotations

import codecs
import io
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from rich.console import Console

# Wider than any line: what is piped is for a program, or for a pager that can scroll.
UNCUT = 100_000
_INSTEAD = {"━": "#", "╌": "-", "─": "-", "…": "."}
# Unicode's bidirectional formatting characters (UAX 9, section 2), which reorder what is shown beside them.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str) -> str:
    """*text* without characters that control a terminal, end a line or turn its direction."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_control(character) else character for character in text)


def _is_control(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


class Line(NamedTuple):
    """What is said. A command is never broken, so that it can be copied; a sentence is, where a terminal ends."""

    text: str
    colour: str | None = None
    is_command: bool = False


def say(line: Line | str, *, err: bool = False, nl: bool = True) -> None:
    """A line of its own, unless *nl* is False. What is no terminal gets it whole."""
    text, colour, is_command = line if isinstance(line, Line) else Line(line)
    text, stream = clean(text), sys.stderr if err else sys.stdout
    if not is_command and nl and stream.isatty():
        indent = " " * (len(text) - len(text.lstrip()))
        width = max(shutil.get_terminal_size().columns, 20)
        text = textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    click.echo(click.style(text, fg=colour) if colour else text, file=stream, nl=nl)


def open_console(*, err: bool = False) -> Console:
    """For tables and what moves. Where it is no terminal, nothing is cut."""
    from rich.console import Console

    width = None if (sys.stderr if err else sys.stdout).isatty() else UNCUT
    return Console(stderr=err, highlight=False, markup=False, width=width)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says *what* is going on for as long as it does, where somebody sees it."""
    if not sys.stderr.isatty():
        yield
        return
    with open_console(err=True).status(what, spinner="line"):
        yield


def prepare_streams() -> None:
    """From here on a character that a stream's encoding lacks becomes another one."""
    codecs.register_error("virtuous-token", _another)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="virtuous-token")


def _another(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # Without its accent, if that is what the encoding lacks.
    plain = [unicodedata.normalize("NFKD", lacking)[0] for lacking in error.object[error.start : error.end]]
    return "".join(_INSTEAD.get(found, found if found.isascii() else "?") for found in plain), error.end
