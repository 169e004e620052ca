"""A relay on loopback in front of another server: it ends TLS, or it is a proxy that understands CONNECT."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import threading
import time
from pathlib import Path
from socketserver import BaseRequestHandler

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .loopback import Server


class Relay(Server):
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
        super().__init__(_Relayed)
        self.heads: list[bytes] = []
        self.target = ("127.0.0.1", target_port)
        self.tls = tls
        self.answer = answer
        self.drip_seconds = drip_seconds


class _Relayed(BaseRequestHandler):
    server: Relay
    request: socket.socket

    def handle(self) -> None:
        relay = self.server
        if relay.tls is None and not self._connect():
            return
        tls = relay.tls
        with (
            tls.wrap_socket(self.request, server_side=True) if tls else self.request as connection,
            socket.create_connection(relay.target) as target,
        ):
            relay.connections += [connection, target]
            back = threading.Thread(target=_pump, args=(target, connection))
            back.start()
            _pump(connection, target)
            back.join()

    def _connect(self) -> bool:
        relay, head = self.server, b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(4096) or b"\r\n\r\n"
        relay.heads.append(head)
        size = 1 if relay.drip_seconds else len(relay.answer) or 1
        for position in range(0, len(relay.answer), size):
            time.sleep(relay.drip_seconds)  # this is what dripping is: the client under test must give up before
            self.request.sendall(relay.answer[position : position + size])
        return b" 200 " in relay.answer.partition(b"\r\n")[0]


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
