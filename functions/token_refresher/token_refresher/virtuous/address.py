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
_BASE_URL = r"(https?)://([A-Za-z0-9.:\[\]-]+)/?"
_PROXY = r"(?i:http://)?(?:([^/?#]*)@)?([A-Za-z0-9._:\[\]-]+)/?"


class Address(NamedTuple):
    """A host, its port, and whether it is spoken to by TLS. ``authorization`` is a header's value, for a proxy."""

    host: str
    port: int
    is_https: bool = False
    authorization: SecretText | None = None


def parse_base_url(base_url: str) -> Address:
    """https, or http on loopback, and a host alone. Raises ValueError, which does not quote what may be secret."""
    matched = re.fullmatch(_BASE_URL, base_url)
    scheme, found = matched.groups() if matched else ("", "")
    if not (parts := _host_and_port(found)):
        raise ValueError("a base URL is https://host, without a path, user, query or fragment")
    host, port = parts
    if scheme == "http" and host not in _LOOPBACK:
        raise ValueError("a base URL begins with https://; http:// is for loopback only")
    return Address(host, port or (443 if scheme == "https" else 80), scheme == "https")


def parse_proxy(url: str) -> Address:
    """A proxy for CONNECT. No scheme means ``http://``. Raises ValueError, which quotes nothing of *url*."""
    matched = re.fullmatch(_PROXY, url) if url.isascii() and url.isprintable() else None
    user, found = matched.groups() if matched else (None, "")
    if not (parts := _host_and_port(found)):
        raise ValueError("HTTPS_PROXY must be an http:// address: http://user:password@host:port")
    host, port = parts
    credentials = unquote(user if ":" in user else f"{user}:") if user else ""
    basic = SecretText(f"Basic {b64encode(credentials.encode()).decode()}")
    return Address(host, port or 80, authorization=basic if credentials else None)


def proxy_on_the_way_to(address: Address) -> Address | None:
    """What the environment names for *address*; loopback is never proxied. Raises ValueError."""
    url = getproxies().get("https")
    if not url or not address.is_https or address.host in _LOOPBACK:
        return None
    return None if proxy_bypass(f"{address.host}:{address.port}") else parse_proxy(url)


def _host_and_port(found: str) -> tuple[str, int | None] | None:
    """None where a port is no port, and where a label is empty or too long."""
    try:
        parts = urlsplit(f"//{found}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    return (host, port) if all(0 < len(label) < 64 for label in host.split(".")) else None
