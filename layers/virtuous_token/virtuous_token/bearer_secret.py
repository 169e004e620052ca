"""The bearer secret as a read finds it. The first read imports this module, and with it all that it needs of AWS."""

from __future__ import annotations

from typing import Any

from . import held_token
from .contract import Bearer, format_instant
from .errors import TokenExpired, UnreadableSecret
from .held_token import HeldToken
from .secret_name import shown
from .secrets_manager import Connection, connect

__all__ = ["bearer_in", "connection_to", "expired", "hold"]

# The request that carries the token must arrive before the token ends, and clocks differ by some seconds.
LAST_SECONDS_UNUSED = 10.0
# A token whose end nobody knows (an API key) may be revoked any day, so failed reads do not prolong it for ever.
UNKNOWN_LIFE_SECONDS = 86_400.0


def connection_to(secret_id: str, client: Any) -> Connection:
    """A connection through *client*, or one of its own where that is None. Raises NoToken."""
    return connect(secret_id) if client is None else Connection(client)


def bearer_in(secret_id: str, connection: Connection) -> Bearer:
    """What the secret holds now. Raises NoToken or UnreadableSecret."""
    bearer = _parsed(connection.read(secret_id))
    if isinstance(bearer, str):
        raise UnreadableSecret(f"secret {shown(secret_id)}: {bearer}")
    return bearer


def hold(bearer: Bearer, number: int, read_at: float, max_age_seconds: float, *, is_first: bool) -> HeldToken:
    """The token of *bearer*, which read *number* brought. *is_first*: the process held none before."""
    seconds = _seconds_until_the_next_read(bearer, read_at, max_age_seconds, is_first=is_first)
    if bearer.expires_at is None:
        usable_until = read_at + max(UNKNOWN_LIFE_SECONDS, seconds)
    else:
        usable_until = bearer.expires_at.timestamp() - LAST_SECONDS_UNUSED
    refresh_after = min(read_at + seconds, usable_until)
    held = HeldToken(bearer.access_token.reveal(), number, read_at, refresh_after, usable_until)
    held.expires_at, held.base_url, held.organization_name = (
        bearer.expires_at,
        bearer.base_url,
        bearer.organization_name,
    )
    return held


def expired(bearer: Bearer, secret_id: str) -> TokenExpired:
    """The error for a bearer whose time has passed."""
    plan = f"its end: {format_instant(bearer.expires_at)}" if bearer.expires_at else "its end is unknown"
    if bearer.next_refresh_at:
        plan += f"; its refresh was due at {format_instant(bearer.next_refresh_at)}"
    return TokenExpired(
        f"the token in secret {shown(secret_id)} has expired ({plan}): look at the refresher's alarms, and run "
        "`virtuous-token status`"
    )


def _parsed(text: str) -> Bearer | str:
    """The bearer, or what is wrong with it: raised from here, an error's traceback would lead to the secret's text."""
    try:
        return Bearer.parse(text)
    except UnreadableSecret as unreadable:
        return str(unreadable)


def _seconds_until_the_next_read(bearer: Bearer, now: float, max_age_seconds: float, *, is_first: bool) -> float:
    """The least of three, each moved at random so that many readers do not come due together.

    The maximum age; the first time anything from its half on, so that processes which began together stay apart.
    Soon after the planned refresh. At the latest when three quarters of the token's remaining life have passed.
    """
    seconds = max_age_seconds * (1 - held_token.random_fraction() * (0.5 if is_first else 0.01))
    if bearer.expires_at is None:
        return seconds
    expires_at = bearer.expires_at.timestamp()
    if bearer.next_refresh_at is not None:
        planned_at = bearer.next_refresh_at.timestamp()
        if now < planned_at:
            seconds = min(seconds, planned_at - now + held_token.random_fraction() * (expires_at - planned_at) / 10)
    return min(seconds, (expires_at - now) * (0.75 - held_token.random_fraction() / 4))
