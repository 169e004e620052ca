"""In tests no name but loopback's is resolved, and nothing else is connected to."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any

__all__ = ["NotLoopback", "asked_for", "is_loopback", "watch"]

# What was asked for beyond loopback, in this process: libraries make an error of their own of the refusal.
asked_for: list[str] = []

# AI_PASSIVE's and "no host": what a listener asks for itself.
OWN = (None, "", "localhost", "0.0.0.0", "::")
# Names that are asked for on purpose: the answer is "no such name", here and at once. The first two are reserved for
# such use (RFC 6761), the last is a misspelt Region's.
NOBODYS = (".example", ".invalid", ".eu-wset-1.amazonaws.com")


class NotLoopback(Exception):
    """A test would have left this machine. No OSError, which the product takes for trouble of the network."""


def is_loopback(host: object) -> bool:
    """Whether *host*, a name or an address as ``socket`` takes it, is this machine's own."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in OWN:
        return True
    try:
        return ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        return False


def watch() -> None:
    """From here on this process raises NotLoopback instead; it cannot be undone.

    By audit hooks, which see what C code and every thread does as well ("Audit events table", Python Library
    Reference).
    """
    sys.addaudithook(_look)


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if isinstance(host, str) and host.endswith(NOBODYS):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    if not is_loopback(host):
        asked_for.append(f"{host!r}: {event}")
        raise NotLoopback(asked_for[-1])
