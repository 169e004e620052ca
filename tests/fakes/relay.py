"""A relay on loopback in front of another server: it ends TLS, or it is a proxy that understands CONNECT."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import threading
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Relay:
    """Passes every connection on to *target_port*, decrypted with *tls* or after a CONNECT.

    As a proxy it answers with *answer*, a byte at a time with *drip_seconds* between; it passes on what follows only
    if that answer is a 200. ``heads`` are the requests that it understood as a proxy.
    """

    def __init__(
        self,
        target_port: int,
        *,
        tls: ssl.SSLContext | None = None,
        answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
        drip_seconds: float = 0,
    ) -> None:
        self.heads: list[bytes] = []
        self._target_port = target_port
        self._tls = tls
        self._answer = answer
        self._drip_seconds = drip_seconds
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with socket.socket() as waker:
            waker.connect(("127.0.0.1", self.port))
        self._threads[0].join()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._sockets):
            end.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="relay", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            self._sockets.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                self._sockets.remove(connection)
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._sockets.append(connection)
            elif not self._connect(connection):
                connection.shutdown(socket.SHUT_RDWR)
                return
            try:
                target = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                connection.shutdown(socket.SHUT_RDWR)
                raise
            self._sockets.append(target)
            self._start(_pump, connection, target)
            _pump(target, connection)

    def _connect(self, connection: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096) or b"\r\n\r\n"
        self.heads.append(head)
        size = 1 if self._drip_seconds else len(self._answer) or 1
        for position in range(0, len(self._answer), size):
            self._closing.wait(self._drip_seconds)
            connection.sendall(self._answer[position : position + size])
        return b" 200 " in self._answer.partition(b"\r\n")[0]


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for *host*, and a client's context that trusts this one alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    day, names = dt.timedelta(days=1), x509.SubjectAlternativeName([x509.DNSName(host)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=signed.public_bytes(serialization.Encoding.PEM).decode())
