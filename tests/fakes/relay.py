"""A relay on loopback in front of another server: it ends TLS, or it is a proxy that understands CONNECT."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import threading
import time
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Relay(ThreadingTCPServer):
    """Passes every connection on to *target_port*, decrypted with *tls* or after a CONNECT.

    As a proxy it answers with *answer*, a byte at a time with *drip_seconds* between; it passes on what follows only
    if that answer is a 200. ``heads`` are the requests that it understood as a proxy. Its threads end with their
    clients.
    """

    def __init__(
        self,
        target_port: int,
        *,
        tls: ssl.SSLContext | None = None,
        answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
        drip_seconds: float = 0,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.heads: list[bytes] = []
        self.port: int = self.server_address[1]
        self.target_port = target_port
        self.tls = tls
        self.answer = answer
        self.drip_seconds = drip_seconds
        self._acceptor = threading.Thread(target=self.serve_forever, args=[0.01], name="relay")

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._acceptor.join()
        self.server_close()


class _Passing(BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            client = self.request
            if self.server.tls:
                client = stack.enter_context(self.server.tls.wrap_socket(client, server_side=True))
            elif not self._connect(client):
                return
            target = stack.enter_context(socket.create_connection(("127.0.0.1", self.server.target_port)))
            forth = threading.Thread(target=_pump, args=(client, target))
            forth.start()
            _pump(target, client)
            forth.join()

    def _connect(self, client: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096) or b"\r\n\r\n"
        self.server.heads.append(head)
        answer, size = self.server.answer, 1 if self.server.drip_seconds else 4096
        for position in range(0, len(answer), size):
            time.sleep(self.server.drip_seconds)
            client.sendall(answer[position : position + size])
        return b" 200 " in answer.partition(b"\r\n")[0]


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
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=signed.public_bytes(serialization.Encoding.PEM).decode())
