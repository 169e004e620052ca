"""Adapter: an HTTP connection to a host, directly or through a proxy, that stands by an instant or not at all.

Whatever fails here, nothing of the request was sent. An instant is one of ``time.monotonic()``.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from http.client import HTTPException

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError

from .address import Address, Proxy

__all__ = ["NotConnected", "dial", "shut_down"]


class NotConnected(Exception):
    """No connection stands, and nothing of the request was sent; the text says why, in words of ours."""


def dial(address: Address, proxy: Proxy | None, tls: Callable[[], ssl.SSLContext], deadline: float) -> HTTPConnection:
    """A connection to *address* that stood before *deadline*. Raises NotConnected.

    It is made in a thread, because no other means ends a resolver that hangs.
    """
    made: Future[HTTPConnection] = Future()
    attempts: list[HTTPConnection] = []

    def make() -> None:
        try:
            made.set_result(_first_that_answers(address, proxy, tls, deadline, attempts))
        except NotConnected as error:
            made.set_exception(error)
        except Exception:  # noqa: BLE001 (what nobody foresaw sent nothing either)
            made.set_exception(NotConnected("the connection broke before it stood"))

    threading.Thread(target=make, name="virtuous-dial", daemon=True).start()
    try:
        return made.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        made.add_done_callback(_close_late)
        for attempt in attempts[-1:]:  # a proxy that drips would keep the thread for hours
            shut_down(attempt.sock)
        raise NotConnected("connecting took too long") from None


def shut_down(sock: socket.socket | None) -> None:
    """Ends whatever another thread waits for on *sock*."""
    with suppress(OSError):
        if sock:
            sock.shutdown(socket.SHUT_RDWR)


def _first_that_answers(
    address: Address,
    proxy: Proxy | None,
    tls: Callable[[], ssl.SSLContext],
    deadline: float,
    attempts: list[HTTPConnection],
) -> HTTPConnection:
    """By the first of the host's addresses that answers. Each is given an even share of the time that is left."""
    who, first = ("the proxy", proxy) if proxy else ("the host", address)
    try:
        found = socket.getaddrinfo(first.host, first.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        raise NotConnected(f"{who}'s name was not found") from None
    hosts = list(dict.fromkeys(str(target[0]) for *_, target in found))
    failure = ""
    for number, host in enumerate(hosts):
        seconds = max(0.001, (deadline - time.monotonic()) / (len(hosts) - number))
        connection = _connection(host, seconds, address, proxy, tls)
        attempts.append(connection)
        try:
            connection.connect()
        except Exception as error:  # noqa: BLE001 (whatever it was, nothing was sent)
            connection.close()
            failure = _why_not(error, who)
            if not isinstance(error, TimeoutError | HTTPError):
                break  # somebody answered there, and would do so again
        else:
            return connection
    raise NotConnected(failure)


def _connection(
    host: str, seconds: float, address: Address, proxy: Proxy | None, tls: Callable[[], ssl.SSLContext]
) -> HTTPConnection:
    """What urllib3 is to connect. *seconds* bound the TCP connection, and TLS once more."""
    if not address.is_https:
        return HTTPConnection(host, address.port, timeout=seconds)
    port = proxy.port if proxy else address.port
    connection = HTTPSConnection(host, port, timeout=seconds, server_hostname=address.host, ssl_context=tls())
    if proxy:
        headers = {"Host": address.authority}
        if proxy.authorization:
            headers["Proxy-Authorization"] = proxy.authorization.reveal()
        connection.set_tunnel(address.host, address.port, headers)
    return connection


def _close_late(made: Future[HTTPConnection]) -> None:
    if not made.exception():
        made.result().close()


def _why_not(error: Exception, who: str) -> str:
    """Why no connection stands, in words of ours and the proxy's status, which http.client tells in a text alone."""
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
    return (
        "the proxy gave no answer of HTTP"
        if isinstance(error, HTTPException)
        else "the connection broke before it stood"
    )
