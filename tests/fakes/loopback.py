"""Servers on loopback for fakes and tests."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

__all__ = ["JsonHandler", "Server", "serving"]


class Server(socketserver.ThreadingTCPServer):
    """Serves in a thread for each connection while its ``with`` lasts; nothing is left of it afterwards."""

    request_queue_size = 128

    def __init__(self, handler: Callable[..., socketserver.BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.port: int = self.server_address[1]
        self.connections: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._acceptor.join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()  # waits for the threads that serve

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        request.close()  # an orderly end before it would undo a reset

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # the client went away, as it may at any moment
            raise


class JsonHandler(BaseHTTPRequestHandler):
    """A handler that answers in JSON, keeps connections and says nothing."""

    protocol_version = "HTTP/1.1"
    content_type = "application/json"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for an acknowledgement

    def answer(self, status: int, content: object, **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", self.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Its address without a slash at the end, as long as the block lasts."""
    with Server(handler) as server:
        yield f"http://127.0.0.1:{server.port}"
