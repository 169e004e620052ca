"""What the objects for requests, httpx, urllib3 and aiohttp have in common.

The token goes to Virtuous only: over https, or over http to loopback; and where the source of the token knows the
address that the token is for, to that host and port alone. Over http it goes through no proxy, which would see it.

A 401 to a request that carried the token is always reported to the source. Whether the request is sent again is asked
afterwards: once, if the source has another token and the body is still there. What is sent again is the very request
that was refused: after a redirect only where its method is safe, since the server may have acted on a POST before.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from .errors import UntrustedURL
from .reader import process_reader
from .token_source import TokenSource

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Those of RFC 9110 section 9.2.1 that clients use: they change nothing, so nobody minds a second one.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class AuthFromSource:
    """Takes the token from *source*, without one as :func:`bearer_token` does. *allow_http* is for development: http to
    other hosts than loopback. May be shared by threads, clients, tasks and event loops."""

    def __init__(self, source: TokenSource | None = None, *, allow_http: bool = False) -> None:
        self._source: TokenSource = process_reader() if source is None else source
        self._allow_http = allow_http

    def _require_trusted(self, url: Any, *, has_proxy: bool | None = None, base_url: str | None = None) -> None:
        """Raises UntrustedURL where the token must not be sent to *url*, which has a scheme, a host and a port as the
        client itself parsed them. *has_proxy*: a proxy gets the request; the environment is asked where the client does
        not tell (None). *base_url* counts if the source has none."""
        scheme, host, base_url = (url.scheme or "http").lower(), _canonical(url.host), self._source.base_url or base_url
        where = f"nothing was sent to {scheme}://{host}"
        if scheme != "https" and not (scheme == "http" and (self._allow_http or _is_loopback(host))):
            raise UntrustedURL(f"{where}: the token goes out over https only")
        if scheme == "http" and (_has_environment_proxy(scheme, url.host) if has_proxy is None else has_proxy):
            raise UntrustedURL(f"{where}: a proxy would see the token; add the host to NO_PROXY")
        trusted = _host_and_port(base_url) if base_url else None
        if base_url and trusted is None:
            raise UntrustedURL(f"{where}: the token's base_url is no address, so nobody may get it: correct it")
        if base_url and trusted != (host, url.port or _DEFAULT_PORTS[scheme]):
            raise UntrustedURL(f"{where}: the token is for {base_url} alone")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r})"


def _has_environment_proxy(scheme: str, host: str | None) -> bool:
    """True if the environment names a proxy for such a URL."""
    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host or "")


def sent_token(authorization: str | bytes | None) -> str | None:
    """The token in an ``Authorization`` header; None where there is none, as after a redirect to another host."""
    return authorization[7:] if isinstance(authorization, str) and authorization.startswith("Bearer ") else None


def may_be_repeated(method: str | None, *, was_redirected: bool) -> bool:
    return not was_redirected or (method or "").upper() in _SAFE_METHODS


def is_in_memory(body: object) -> bool:
    """True for a body that is read from memory, as often as it is sent: none, text or bytes."""
    return body is None or isinstance(body, str | bytes | bytearray | memoryview)


def _host_and_port(base_url: str) -> tuple[str, int] | None:
    """None where *base_url* is not the address of an http or https server."""
    try:
        parts = urlsplit(base_url)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (_canonical(parts.hostname), port) if parts.hostname else None


def _canonical(host: str | None) -> str:
    return (host or "").strip("[]").rstrip(".").lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761 section 6.3
