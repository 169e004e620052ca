"""The bearer secret as a read finds it. The first read imports this module, and with it all that it needs of AWS."""

from __future__ import annotations

from typing import Any

from .contract import Bearer, format_instant
from .errors import TokenExpired, UnreadableSecret
from .secret_name import shown
from .secrets_manager import Connection, connect

__all__ = ["bearer_in", "connection_to", "expired"]


def connection_to(secret_id: str, client: Any) -> Connection:
    """A connection through *client*, or one of its own where that is None. Raises NoToken."""
    return connect(secret_id) if client is None else Connection(client)


def bearer_in(secret_id: str, connection: Connection) -> Bearer:
    """What the secret holds now. Raises NoToken or UnreadableSecret."""
    bearer = _parsed(connection.read(secret_id))
    if isinstance(bearer, str):
        raise UnreadableSecret(f"secret {shown(secret_id)}: {bearer}")
    return bearer


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
