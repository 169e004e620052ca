"""Core: the addresses that tokens and passwords may be sent to, and the proxy on the way."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from virtuous_token.secret_text import SecretText

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# Nothing else may be in it: urlsplit passes over newlines, tabs, leading spaces and an empty query silently.
_ALLOWED = r"(https?)://([A-Za-z0-9.:\[\]-]+)/?"
_ALLOWED_PROXY = r"(?i:http://)?(?:([^/?#]*)@)?([A-Za-z0-9._:\[\]-]+)/?"


def _host_and_port(found: str) -> tuple[str, int | None] | None:
    """None where a port is no port, and where a label is empty or too long."""
    try:
        parts = urlsplit(f"//{found}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    return (host, port) if all(0 < len(label) < 64 for label in host.split(".")) else None


class Address(NamedTuple):
    """A host, its port, and whether it is spoken to by TLS."""

    host: str
    port: int
    is_https: bool

    @classmethod
    def parse(cls, base_url: str) -> Address:
        """https, or http on loopback, and a host alone. Raises ValueError, which does not quote what may be secret."""
        matched = re.fullmatch(_ALLOWED, base_url)
        scheme, found = matched.groups() if matched else ("", "")
        if not (parts := _host_and_port(found)):
            raise ValueError("a base URL is https://host, without a path, user, query or fragment")
        host, port = parts
        if scheme == "http" and host not in _LOOPBACK:
            raise ValueError("a base URL begins with https://; http:// is for loopback only")
        return cls(host, port or (443 if scheme == "https" else 80), scheme == "https")


class Proxy(NamedTuple):
    """A proxy for CONNECT, spoken to without TLS. ``credentials`` are ``user:password``."""

    host: str
    port: int
    credentials: SecretText | None = None

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """An address without a scheme means ``http://``. Raises ValueError, which quotes nothing of *url*."""
        matched = re.fullmatch(_ALLOWED_PROXY, url) if url.isascii() and url.isprintable() else None
        user, found = matched.groups() if matched else (None, "")
        if not (parts := _host_and_port(found)):
            raise ValueError("HTTPS_PROXY must be an http:// address: http://user:password@host:port")
        host, port = parts
        return cls(host, port or 80, SecretText(unquote(user if ":" in user else f"{user}:")) if user else None)

    def headers(self) -> dict[str, str]:
        """What CONNECT carries."""
        if self.credentials is None:
            return {}
        return {"Proxy-Authorization": f"Basic {b64encode(self.credentials.reveal().encode()).decode()}"}

    @classmethod
    def on_the_way_to(cls, address: Address) -> Proxy | None:
        """What the environment names for *address*; loopback is never proxied. Raises ValueError."""
        url = getproxies().get("https")
        if not url or not address.is_https or address.host in _LOOPBACK:
            return None
        return None if proxy_bypass(f"{address.host}:{address.port}") else cls.parse(url)
