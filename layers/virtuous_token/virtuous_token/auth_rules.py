"""What the objects for requests, httpx, urllib3 and aiohttp have in common.

The token goes to Virtuous only: over https, or over http to loopback; and where the source of the token knows the
address that the token is for, to that host and port alone. A request to another URL raises UntrustedURL before it is
sent. A redirect to another host or port is followed without the token.

A 401 to a request that carried the token is always reported to the source. Whether the request is sent again is asked
afterwards. It is sent again once, if the source has another token and the body is still there. What is sent again is
the very request that was refused: after a redirect that is the last one, and only where its method is safe, since the
server may have acted on a POST before it redirected it.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from .errors import UntrustedURL

__all__ = ["is_in_memory", "may_be_repeated", "require_trusted", "sent_token"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Those of RFC 9110 section 9.2.1 that clients use: they change nothing, so nobody minds a second one.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def require_trusted(scheme: str | None, host: str | None, port: int | None, base_url: str | None) -> None:
    """Raises UntrustedURL where the token must not be sent to a URL of these parts, as the client itself parsed it."""
    scheme, host = (scheme or "http").lower(), _canonical(host)
    if scheme != "https" and not (scheme == "http" and _is_loopback(host)):
        raise UntrustedURL(f"nothing was sent to {scheme}://{host}: the token goes out over https only")
    trusted = _host_and_port(base_url)
    if trusted is not None and trusted != (host, port or _DEFAULT_PORTS[scheme]):
        raise UntrustedURL(f"nothing was sent to {scheme}://{host}: the token is for {base_url} alone")


def sent_token(authorization: str | None) -> str | None:
    """The token in an ``Authorization`` header; None where there is none, as after a redirect to another host."""
    return authorization[7:] if authorization and authorization.startswith("Bearer ") else None


def may_be_repeated(method: str | None, *, was_redirected: bool) -> bool:
    return not was_redirected or (method or "").upper() in _SAFE_METHODS


def is_in_memory(body: object) -> bool:
    """True for a body that is read from memory, as often as it is sent: none, text or bytes."""
    return body is None or isinstance(body, str | bytes | bytearray | memoryview)


def _host_and_port(base_url: str | None) -> tuple[str, int | None] | None:
    """None where *base_url* is absent, or no URL."""
    try:
        parts = urlsplit(base_url or "")
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (_canonical(parts.hostname), port) if parts.hostname else None


def _canonical(host: str | None) -> str:
    return (host or "").strip("[]").rstrip(".").lower()


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
