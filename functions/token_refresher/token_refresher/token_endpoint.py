"""Adapter: one request to Virtuous, over a connection of its own.

What can go wrong is told apart by *when* it does, not by an exception's type or text: before the connection stands
nothing was sent, afterwards the request may have arrived. No cookie, redirect, retry or pool is involved, and nothing
is logged here.

A proxy is taken from HTTPS_PROXY unless NO_PROXY names the host; loopback is never proxied. It must be an ``http://``
address (the traffic to Virtuous is encrypted end to end all the same) and may carry a user and a password.
"""

from __future__ import annotations

import http.client
import math
import socket
import ssl
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError

from virtuous_token.contract import can_be_header
from virtuous_token.secret_text import SecretText

from .address import LOOPBACK, Address
from .answers import Answer, Denied, Misconfigured, NothingSent, Proof, Unclear, Unknown
from .judgement import Response, judge_proof, judge_token

__all__ = ["REQUEST_SECONDS", "TokenEndpoint"]

# From the call to its result, if anything was sent: the bound within which a refresh token is at risk. Connections that
# do not stand after CONNECT_SECONDS are not used, so at least 30 seconds are left for an answer.
REQUEST_SECONDS = 45.0
CONNECT_SECONDS = 15.0
# For each address of the host, for the proxy's answer and for the TLS handshake.
STEP_SECONDS = 5.0
# A good answer has about two kilobytes.
LARGEST_BODY = 256 * 1024

USER_AGENT = "virtuous-token-refresher/1.0.0"
_COMMON_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": USER_AGENT,
}

# Everything that the network, a proxy or a server can cause; ssl and http.client have a ValueError for nonsense.
_FAILURES = (OSError, HTTPError, http.client.HTTPException, ValueError)


class TokenEndpoint:
    """Virtuous at *base_url*. What the network and the server do is a result, never an exception.

    *clock* gives the wall-clock time, aware. *connect_seconds* and *request_seconds* are the bounds described at
    CONNECT_SECONDS and REQUEST_SECONDS; a slow resolver can prolong a call beyond them, but then nothing was sent.
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
        self._host, self._port, self._is_https = Address.parse(base_url)
        self._proxy = _proxy_for(self._host)
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
        response = self._exchange("GET", "/api/Organization/Current", {"Authorization": f"Bearer {token}"})
        return judge_proof(response) if isinstance(response, Response) else Unclear(response.reason)

    def _post(self, **form: str) -> Answer:
        try:
            body = urlencode(form, quote_via=quote, safe="").encode("ascii")
        except UnicodeEncodeError:  # a lone surrogate; the exception holds the secret, so it ends here
            return Misconfigured("a credential holds a character that is none")
        started_at = self._clock()
        response = self._exchange("POST", "/Token", {"Content-Type": "application/x-www-form-urlencoded"}, body)
        return judge_token(response, started_at) if isinstance(response, Response) else response

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response | NothingSent | Unknown:
        started = time.monotonic()
        connection = self._connection()
        try:
            try:
                connection.hurry(started + self._connect_seconds)
                connection.connect()
                connection.hurry(started + self._request_seconds)
            except _FAILURES as error:
                return NothingSent(_why_unconnected(error))
            if time.monotonic() - started > self._connect_seconds:
                return NothingSent("connecting took too long")
            try:
                with suppress(BrokenPipeError, ConnectionResetError):  # an early answer can still be read
                    connection.request(method, path, body, {**_COMMON_HEADERS, **headers})
                return connection.receive()
            except TimeoutError:
                return Unknown("no answer in time")
            except _FAILURES:
                return Unknown("the connection broke before the answer")
        finally:
            connection.close()

    def _connection(self) -> _Connection:
        step = min(STEP_SECONDS, self._connect_seconds)
        if not self._is_https:
            return _Connection(self._host, self._port, timeout=step)
        if self._proxy is None:
            return _TLSConnection(self._host, self._port, timeout=step, ssl_context=self._ssl_context)
        connection = _TLSConnection(self._proxy.host, self._proxy.port, timeout=step, ssl_context=self._ssl_context)
        connection.set_tunnel(self._host, self._port, self._proxy.headers)
        return connection

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        """Made when it is first needed: reading the roots takes tens of milliseconds, and most runs send nothing."""
        context = self._given_ssl_context or ssl.create_default_context()
        context.sslsocket_class = _TLSSocket
        return context


@dataclass(frozen=True, slots=True)
class _Proxy:
    host: str
    port: int
    headers: Mapping[str, str] = field(repr=False)


if TYPE_CHECKING:
    _AnySocket = socket.socket
else:
    _AnySocket = object


class _Hurried(_AnySocket):
    """A socket on which every wait ends at one instant of the monotonic clock, however slowly the peer drips.

    A socket's own time-out begins anew with every byte.
    """

    deadline = math.inf

    def _hurry(self) -> None:
        seconds_left = self.deadline - time.monotonic()
        if seconds_left <= 0:
            raise TimeoutError
        if seconds_left < math.inf:
            self.settimeout(seconds_left)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._hurry()
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._hurry()
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self._hurry()
        super().sendall(*args, **kwargs)


class _Socket(_Hurried, socket.socket):
    pass


class _TLSSocket(_Hurried, ssl.SSLSocket):
    pass


class _FinalResponse(http.client.HTTPResponse):
    """Passes over every interim answer, as RFC 9110 section 15.2 wants it; http.client alone knows 100 only."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, http.HTTPStatus.CONTINUE if 101 < status < 200 else status, reason


class _Connection(HTTPConnection):
    """One connection for one exchange, with a deadline."""

    response_class = _FinalResponse
    debuglevel = 0  # whatever http.client's global says: at 1 it prints the request, body and all
    _deadline = math.inf

    def hurry(self, deadline: float) -> None:
        """From now on every wait on this connection ends at *deadline*, an instant of the monotonic clock."""
        self._deadline = deadline
        if self.sock is not None:
            cast("_Hurried", self.sock).deadline = deadline

    def receive(self) -> Response:
        """The answer to the request; as much of it as came, if its beginning came at all."""
        # http.client's own method: urllib3's logs header lines that it cannot parse, as a warning.
        answer = http.client.HTTPConnection.getresponse(self)
        with answer:
            headers = {name.lower(): value for name, value in answer.getheaders()}
            body, expected, is_complete = bytearray(), answer.length, False
            with suppress(*_FAILURES):
                while len(body) < LARGEST_BODY and len(body) != expected:
                    if not (chunk := answer.read1(65_536)):
                        break
                    body += chunk
                is_complete = len(body) == expected or (expected is None and not chunk)
            return Response(answer.status, headers, _unpacked(bytes(body), headers), is_complete)

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        hurried = _Socket(fileno=connected.detach())
        hurried.settimeout(self.timeout)
        hurried.deadline = self._deadline
        return hurried


class _TLSConnection(_Connection, HTTPSConnection):
    pass


def _unpacked(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Undoes a compression that nobody asked for, up to the largest body: a token in it must not be lost."""
    if headers.get("content-encoding", "").lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(wbits=47).decompress(body, LARGEST_BODY)  # 47: gzip or zlib, whichever it is
    except zlib.error:
        return body


def _why_unconnected(error: Exception) -> str:
    match error:
        case NameResolutionError():
            return "the host's name was not found"
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}"
        case ssl.SSLError():
            return "TLS failed"
        case NewConnectionError():
            return "the host refused the connection or cannot be reached"
        case TimeoutError() | ConnectTimeoutError():
            return "connecting took too long"
        case _:
            return "the connection broke before it stood"


def _proxy_for(host: str) -> _Proxy | None:
    address = getproxies().get("https")
    if not address or host in LOOPBACK or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        proxy, port = (parts.hostname if parts.scheme == "http" else None), parts.port or 80
    except ValueError:  # it quotes parts of the address, which may hold a password
        proxy = None
    if not proxy:
        raise ValueError("HTTPS_PROXY must be an http:// address")
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    headers = {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"} if parts.username else {}
    return _Proxy(proxy, port, headers)
