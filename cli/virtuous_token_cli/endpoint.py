"""Virtuous, as this machine reaches it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import click

from token_refresher.virtuous.endpoint import TokenEndpoint

__all__ = ["open_endpoint"]


def open_endpoint(base_url: str, clock: Callable[[], datetime]) -> TokenEndpoint:
    """Raises click.UsageError for a proxy in this machine's environment that can't be used."""
    try:
        return TokenEndpoint(base_url, clock=clock)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
