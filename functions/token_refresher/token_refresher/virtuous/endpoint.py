"""Adapter: one request to Virtuous, over an HTTP connection of its own (urllib3's, without its pools and retries).

What can go wrong is told apart by *when* it does, not by an exception's type or text: before the connection stands
nothing was sent, afterwards the request may have arrived. No cookie or redirect is involved, and nothing is logged.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import cached_property
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError

from virtuous_token.contract import can_be_header
from virtuous_token.secret_text import SecretText

from .. import __version__
from ..refresh.model import Answer, Denied, Ending, NotGranted, Proof, Unclear
from .address import parse_base_url, proxy_on_the_way_to
from .judgement import LARGEST_BODY, Response, judge_proof, judge_token

# From the call to its result: the bound within which a refresh token is at risk. A connection that does not stand after
# CONNECT_SECONDS is not used, so at least 30 seconds are left for an answer.
REQUEST_SECONDS = 45.0
CONNECT_SECONDS = 15.0
USER_AGENT = f"virtuous-token-refresher/{__version__}"

_COMMON_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # who compresses all the same is understood
    "Connection": "close",
    "User-Agent": USER_AGENT,
}


class TokenEndpoint:
    """Virtuous at *base_url*. What the network and the server do is a result, never an exception.

    *clock* gives the wall-clock time, aware. The two bounds hold whatever resolver, proxy or server does. Without an
    *ssl_context* certificates are verified against the system's roots (SSL_CERT_FILE names others).
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
        self._address = parse_base_url(base_url)
        self._proxy = proxy_on_the_way_to(self._address)
        self._clock = clock
        self._connect_seconds = connect_seconds
        self._request_seconds = request_seconds
        self._given_ssl_context = ssl_context
        # It warns with the text of headers that it can't parse, and nobody knows what stands in them.
        logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

    def refresh(self, refresh_token: SecretText) -> Answer:
        """One POST with the refresh grant (RFC 6749 section 6)."""
        return self._post(grant_type="refresh_token", refresh_token=refresh_token.reveal())

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        """One POST with the password grant; *code* is the one-time code that CODE_NEEDED asked for."""
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
            body = urlencode(form, quote_via=quote, safe="").encode()
        except UnicodeEncodeError:  # a lone surrogate; the exception holds the secret, so it ends here
            return NotGranted(Ending.MISCONFIGURED, "a credential holds half a surrogate pair")
        started_at = self._clock()
        response = self._exchange("POST", "/Token", {"Content-Type": "application/x-www-form-urlencoded"}, body)
        return judge_token(response, started_at) if isinstance(response, Response) else response

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Response | NotGranted:
        started = time.monotonic()
        deadline = started + self._request_seconds
        connection = self._connected(min(started + self._connect_seconds, deadline))
        if isinstance(connection, NotGranted):
            return connection
        with closing(connection), _shut_down_at(connection, deadline):
            response = _answer(connection, deadline, method, path, body=body, headers={**_COMMON_HEADERS, **headers})
        is_late = time.monotonic() >= deadline
        return response or NotGranted(
            Ending.UNKNOWN, "no answer in time" if is_late else "the connection broke before the answer"
        )

    def _connected(self, deadline: float) -> HTTPConnection | NotGranted:
        """A connection that stood before *deadline*, or why there is none; nothing was sent then.

        It is made in a thread, because no other means ends a resolver that hangs.
        """
        first = self._proxy or self._address
        kind = HTTPSConnection if self._address.is_https else HTTPConnection
        connection, made = kind(first.host, first.port), Future[None]()

        def connect() -> None:
            try:
                if isinstance(connection, HTTPSConnection):
                    connection.ssl_context = self._ssl_context
                if self._proxy:
                    basic = self._proxy.authorization
                    headers = {"Proxy-Authorization": basic.reveal()} if basic else {}
                    connection.set_tunnel(self._address.host, self._address.port, headers)
                # urllib3 tries one address after the other: each is given an even share of the time.
                found = socket.getaddrinfo(first.host, first.port, type=socket.SOCK_STREAM)
                connection.timeout = max(0.001, (deadline - time.monotonic()) / len(found))
                connection.connect()
                made.set_result(None)
            except Exception as error:  # noqa: BLE001 (whatever it was, nothing was sent)
                made.set_exception(error)

        try:
            threading.Thread(target=connect, name="virtuous-connect", daemon=True).start()
            made.result(max(0.0, deadline - time.monotonic()))
        except Exception as error:  # noqa: BLE001 (from the thread, or none could be started: nothing was sent)
            made.add_done_callback(lambda _: connection.close())
            _shut_down(connection.sock)  # a proxy that drips would keep the thread for hours
            return NotGranted(Ending.UNREACHABLE, _why_not(error, "the proxy" if self._proxy else "the host"))
        return connection

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        """Made when it is first needed: reading the roots takes tens of milliseconds, and most runs send nothing."""
        # OpenSSL takes SSL_CERT_FILE by itself, but an empty one for no roots at all.
        roots = ssl.get_default_verify_paths().openssl_cafile if os.environ.get("SSL_CERT_FILE") == "" else None
        return self._given_ssl_context or ssl.create_default_context(cafile=roots)


def _answer(connection: HTTPConnection, deadline: float, method: str, path: str, **request: Any) -> Response | None:
    """Sends one request; its answer, None where no head of one came. A body counts as far as it came."""
    try:
        with suppress(OSError):  # an early answer can still be read
            connection.request(
                method, path, **request, preload_content=False, decode_content=False, enforce_content_length=False
            )
        response = connection.getresponse()
    except (HTTPError, HTTPException, OSError):
        return None
    body, is_ended = b"", False
    with closing(response), suppress(HTTPError, HTTPException, OSError):
        while not is_ended and len(body) < LARGEST_BODY:
            body += (piece := response.read1(LARGEST_BODY))
            is_ended = not piece
    is_complete = is_ended and not response.length_remaining and time.monotonic() < deadline
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status, headers, body, is_complete)


@contextmanager
def _shut_down_at(connection: HTTPConnection, deadline: float) -> Iterator[None]:
    """Ends every wait on *connection* at *deadline*, however slowly the peer drips: the peer seems to be gone then."""
    connection.timeout = None  # no other bound is needed
    with socket.fromfd(connection.sock.fileno(), socket.AF_INET, socket.SOCK_STREAM) as handle:
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), _shut_down, [handle])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut_down(sock: socket.socket | None) -> None:
    """Ends whatever another thread waits for on *sock*."""
    with suppress(OSError):
        if sock:
            sock.shutdown(socket.SHUT_RDWR)


def _why_not(error: Exception, who: str) -> str:
    """Why no connection stands, in words of ours and the proxy's status, which http.client tells in a text alone."""
    if isinstance(error, NameResolutionError | socket.gaierror | UnicodeError):
        return f"{who}'s name was not found"
    if isinstance(error, NewConnectionError):
        return f"{who} refused the connection or cannot be reached"
    if isinstance(error, TimeoutError | HTTPError):
        return "connecting took too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    if answered := re.match(r"Tunnel connection failed: ([0-9]{3})\b", str(error)):
        return f"the proxy answered HTTP {answered[1]}"
    if isinstance(error, HTTPException):
        return "the proxy gave no answer of HTTP"
    return "the connection broke before it stood"
