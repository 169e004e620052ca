"""``virtuous-token refresh``: has the function refresh. The command itself sends no refresh token."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import BotoCoreError, ClientError
from rich.progress import track

from .aws import explained
from .remedies import CommandFailed
from .screen import open_console
from .stack import Stack

__all__ = ["refreshed"]

# Invocations at a time: a new account runs ten functions at once, and the rest of it needs some of these.
AT_A_TIME = 4


def refreshed(stack: Stack, names: list[str]) -> Iterator[tuple[str, str | CommandFailed]]:
    """Of each the outcome word, or why the function could not be asked; in the order of *names*."""

    def ended_of(name: str) -> str | CommandFailed:
        try:
            return stack.refresh(name, force=True)
        except CommandFailed as failure:
            return failure
        except (ClientError, BotoCoreError) as error:
            return explained(error, stack.aws.log_in_again)

    talk = open_console(err=True)
    pool = ThreadPoolExecutor(AT_A_TIME)
    try:
        ended = pool.map(ended_of, names)
        bar = track(ended, "Refreshing", len(names), console=talk, transient=True, disable=not talk.is_terminal)
        yield from zip(names, list(bar), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C no further one is begun
