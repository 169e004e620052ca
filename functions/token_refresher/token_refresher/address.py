"""Core: the address that tokens and passwords may be sent to."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["LOOPBACK", "Address"]

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# Nothing else may be in it: urlsplit passes over newlines, tabs, leading spaces and an empty query silently.
_ALLOWED = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+/?")


class Address(NamedTuple):
    """A host, its port, and whether it is spoken to by TLS."""

    host: str
    port: int
    is_https: bool

    @classmethod
    def parse(cls, base_url: str) -> Address:
        """https, or http on loopback, and a host alone. Raises ValueError, which does not quote what may be secret."""
        try:
            parts = urlsplit(base_url) if _ALLOWED.fullmatch(base_url) else None
            host, port = (parts.hostname or "", parts.port) if parts else ("", None)
        except ValueError:
            host = ""
        if not host or not parts or not all(0 < len(label) < 64 for label in host.split(".")):
            raise ValueError("a base URL is https://host, without a path, user, query or fragment")
        if parts.scheme == "http" and host not in LOOPBACK:
            raise ValueError("a base URL begins with https://; http:// is for loopback only")
        return cls(host, port or (443 if parts.scheme == "https" else 80), parts.scheme == "https")
