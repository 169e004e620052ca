"""Adapter: one request to Virtuous, over a connection of its own.

What can go wrong is told apart by *when* it does, not by an exception's type or text: before the connection stands
nothing was sent, afterwards the request may have arrived. No cookie, redirect, retry or pool is involved, and nothing
is logged here.

A proxy is taken from HTTPS_PROXY unless NO_PROXY names the host, both as ``urllib.request`` reads them; loopback is
never proxied. The traffic to Virtuous is encrypted end to end all the same.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from functools import cached_property
from urllib.parse import quote, urlencode
from urllib.request import getproxies, proxy_bypass

from virtuous_token.contract import can_be_header
from virtuous_token.secret_text import SecretText

from .. import __version__
from ..refresh.model import Answer, Denied, Ending, NotGranted, Proof, Unclear
from .address import LOOPBACK, Address, Proxy
from .connection import Connection, NotConnected, connect, shut_down_at
from .judgement import Response, judge_proof, judge_token
from .transcript import LARGEST_ANSWER, framed, read_response

__all__ = ["REQUEST_SECONDS", "TokenEndpoint"]

# From the call to its result, if anything was sent: the bound within which a refresh token is at risk. Connections that
# do not stand after CONNECT_SECONDS are not used, so at least 30 seconds are left for an answer.
REQUEST_SECONDS = 45.0
CONNECT_SECONDS = 15.0

USER_AGENT = f"virtuous-token-refresher/{__version__}"
# Who compresses all the same is understood as well.
_COMMON_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": USER_AGENT,
}


class TokenEndpoint:
    """Virtuous at *base_url*. What the network and the server do is a result, never an exception.

    *clock* gives the wall-clock time, aware. *connect_seconds* and *request_seconds* are the bounds described at
    CONNECT_SECONDS and REQUEST_SECONDS, whatever the resolver, the proxy or the server does.
    Without an *ssl_context* certificates are verified against the system's roots (SSL_CERT_FILE names others).
    Raises ValueError for a *base_url* or a proxy that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Callable[[], datetime],
        connect_seconds: float = CONNECT_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._address = Address.parse(base_url)
        self._proxy = _proxy_for(self._address)
        self._clock = clock
        self._connect_seconds = connect_seconds
        self._request_seconds = request_seconds
        self._given_ssl_context = ssl_context

    def refresh(self, refresh_token: SecretText) -> Answer:
        """One POST with the refresh grant (RFC 6749 section 6)."""
        return self._post(grant_type="refresh_token", refresh_token=refresh_token.reveal())

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        """One POST with the password grant; *code* is the one-time code that CodeNeeded asked for."""
        form = {"grant_type": "password", "username": username, "password": password.reveal()}
        return self._post(**form, otp=code.reveal()) if code else self._post(**form)

    def prove(self, access_token: SecretText) -> Proof:
        """One GET that needs a valid access token. One that no header may carry is denied unsent."""
        token = access_token.reveal()
        if not can_be_header(token):
            return Denied("the access token holds a character that no header may carry")
        response = self._exchange("GET /api/Organization/Current", {"Authorization": f"Bearer {token}"})
        return judge_proof(response) if isinstance(response, Response) else Unclear(response.reason)

    def _post(self, **form: str) -> Answer:
        try:
            body = urlencode(form, quote_via=quote, safe="")
        except UnicodeEncodeError:  # a lone surrogate; the exception holds the secret, so it ends here
            return NotGranted(Ending.MISCONFIGURED, "a credential holds half a surrogate pair")
        started_at = self._clock()
        described = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        response = self._exchange("POST /Token", described, body)
        return judge_token(response, started_at) if isinstance(response, Response) else response

    def _exchange(self, what: str, headers: dict[str, str], body: str = "") -> Response | NotGranted:
        fields = {"Host": self._address.origin_host, **_COMMON_HEADERS, **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request = f"{what} HTTP/1.1\r\n{head}\r\n{body}".encode("ascii")
        started = time.monotonic()
        deadline = started + self._request_seconds
        try:
            connection = connect(
                self._address, self._proxy, lambda: self._ssl_context, min(started + self._connect_seconds, deadline)
            )
        except NotConnected as error:
            return NotGranted(Ending.UNREACHABLE, str(error))
        with closing(connection):
            with shut_down_at(connection, deadline):
                raw, is_closed = _sent(request, connection, deadline)
            is_late = time.monotonic() >= deadline
            answer = read_response(raw, ended=is_closed and not is_late)
        return answer or NotGranted(
            Ending.UNKNOWN, "no answer in time" if is_late else "the connection broke before the answer"
        )

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        """Made when it is first needed: reading the roots takes tens of milliseconds, and most runs send nothing."""
        # OpenSSL takes SSL_CERT_FILE by itself, but an empty one for no roots at all.
        roots = ssl.get_default_verify_paths().openssl_cafile if os.environ.get("SSL_CERT_FILE") == "" else None
        return self._given_ssl_context or ssl.create_default_context(cafile=roots)


def _sent(request: bytes, connection: Connection, deadline: float) -> tuple[bytes, bool]:
    """Sends *request*; the bytes that came back, and whether the peer then closed the connection."""
    with suppress(OSError):  # an early answer can still be read
        connection.sendall(request)
    raw = b""
    with suppress(OSError):
        while len(raw) < LARGEST_ANSWER and time.monotonic() < deadline:
            piece = connection.recv(65_536) or b""  # urllib3's TLS within TLS says 0 at the end
            raw += piece
            if not piece or ((answer := framed(raw, ended=False)) and answer.complete):
                return raw, not piece
    return raw, False


def _proxy_for(address: Address) -> Proxy | None:
    url = getproxies().get("https")
    if not url or not address.is_https or address.host in LOOPBACK or proxy_bypass(address.authority):
        return None
    return Proxy.parse(url)
