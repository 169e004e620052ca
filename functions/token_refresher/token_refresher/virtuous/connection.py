"""Adapter: a connection to a host, directly or through a proxy, that stands by an instant or not at all.

An instant is one of ``time.monotonic()``. The host's addresses are tried as RFC 8305 has it: each gets a head start
before the next, and the first that answers is taken, so that addresses which swallow packets cost little.
"""

from __future__ import annotations

import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import chain, zip_longest
from typing import Any, Protocol, cast

from urllib3.util import ssl_wrap_socket

from .address import Address, Proxy
from .transcript import framed

__all__ = ["Connection", "NotConnected", "connect", "shut_down_at"]

HEAD_START_SECONDS = 0.25  # RFC 8305 section 5
LARGEST_HEAD = 64 * 1024


class NotConnected(Exception):
    """No connection stands, and nothing of the request was sent; the text says why, in words of ours."""


class Connection(Protocol):
    """What a socket, TLS over it and TLS within TLS have in common."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


def connect(address: Address, proxy: Proxy | None, tls: Callable[[], ssl.SSLContext], deadline: float) -> Connection:
    """A connection to *address* that stood before *deadline*. Raises NotConnected."""
    who, first = ("the proxy", proxy) if proxy else ("the host", address)
    with ExitStack() as unused:
        try:
            connection: Any = unused.enter_context(closing(_dialled(first.host, first.port, deadline, who)))
            with shut_down_at(connection, deadline):
                if first.is_https:
                    connection = unused.enter_context(closing(_secured(connection, first.host, tls(), who)))
                if proxy:
                    _open_tunnel(connection, proxy, address)
                    secured = _secured(connection, address.host, tls(), "the host", within_tls=proxy.is_https)
                    connection = unused.enter_context(closing(secured))
        except socket.gaierror:
            raise NotConnected(f"{who}'s name was not found") from None
        except (OSError, ValueError, NotConnected) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
                raise NotConnected("connecting took too long") from None
            raise (
                error if isinstance(error, NotConnected) else NotConnected("the connection broke before it stood")
            ) from None
        if time.monotonic() >= deadline:
            raise NotConnected("connecting took too long")
        unused.pop_all()
        return cast("Connection", connection)


@contextmanager
def shut_down_at(connection: Connection, deadline: float) -> Iterator[None]:
    """Ends every wait on *connection* at *deadline*, however slowly the peer drips: the peer seems to be gone then."""
    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as handle:
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), _shut_down, [handle])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut_down(handle: socket.socket) -> None:
    with suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)


def _dialled(host: str, port: int, deadline: float, who: str) -> socket.socket:
    """The first of the host's addresses that answers."""
    waiting = _alternating(_resolved(host, port, deadline))
    head_start = min(HEAD_START_SECONDS, max(0.0, deadline - time.monotonic()) / 2 / max(1, len(waiting)))
    next_at, failure = 0.0, OSError()
    with selectors.DefaultSelector() as selector, ExitStack() as losers:
        while waiting or selector.get_map():
            now = time.monotonic()
            if now >= deadline:
                raise TimeoutError
            if waiting and now >= next_at:
                family, kind, protocol, _, target = waiting.pop(0)
                try:  # a machine without IPv6 may lack the family as a whole
                    attempt = losers.enter_context(socket.socket(family, kind, protocol))
                    attempt.setblocking(False)
                    with suppress(BlockingIOError):
                        attempt.connect(target)
                except OSError as error:
                    failure = error
                    continue
                selector.register(attempt, selectors.EVENT_WRITE)
                next_at = now + head_start
            until = min(next_at, deadline) if waiting else deadline
            for key, _ in selector.select(max(0.0, until - now)):
                attempt = cast("socket.socket", key.fileobj)
                selector.unregister(attempt)
                if not (error_number := attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                    connected = socket.socket(fileno=attempt.detach())
                    connected.setblocking(True)
                    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return connected
                next_at, failure = 0.0, OSError(error_number, "")
    if isinstance(failure, TimeoutError):
        raise failure
    raise NotConnected(f"{who} refused the connection or cannot be reached")


def _alternating(found: list[Any]) -> list[Any]:
    """The same, the families taken in turn and the resolver's order kept within each (RFC 8305 section 4)."""
    families: dict[Any, list[Any]] = {}
    for one in found:
        families.setdefault(one[0], []).append(one)
    return [one for one in chain.from_iterable(zip_longest(*families.values())) if one]


def _resolved(host: str, port: int, deadline: float) -> list[Any]:
    """The host's addresses. In a thread, because no other means ends a resolver that hangs."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            answers.put(error)

    thread = threading.Thread(target=resolve, name="virtuous-resolver", daemon=True)
    thread.start()
    try:
        found = answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise TimeoutError from None
    thread.join()
    if isinstance(found, Exception):
        raise found
    return cast("list[Any]", found)


def _secured(connection: Any, host: str, tls: ssl.SSLContext, who: str, *, within_tls: bool = False) -> Any:
    where = "TLS" if who == "the host" else f"TLS with {who}"
    try:
        return ssl_wrap_socket(connection, server_hostname=host, ssl_context=tls, tls_in_tls=within_tls)
    except ssl.SSLCertVerificationError as error:
        raise NotConnected(f"{where}: {error.verify_message}") from None
    except ssl.SSLError:
        raise NotConnected(f"{where} failed") from None


def _open_tunnel(connection: Connection, proxy: Proxy, address: Address) -> None:
    """CONNECT (RFC 9110 section 9.3.6). Of the proxy's answer the status counts; no byte behind its head is read."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": address.authority, **proxy.headers}.items())
    connection.sendall(f"CONNECT {address.authority} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"))
    raw, byte = b"", b"?"
    while byte and len(raw) < LARGEST_HEAD:
        byte = connection.recv(1)
        raw += byte
        if byte in b"\n" and (answer := framed(raw, ended=not byte)):
            if 200 <= answer.status < 300:
                return
            raise NotConnected(f"the proxy answered HTTP {answer.status}")
    raise NotConnected("the proxy gave no answer of HTTP")
