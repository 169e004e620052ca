"""Random answers against the real token endpoint, through a real socket. A campaign of the same name asks many more.

Each answer starts as one that Virtuous could give and is then spoilt: in its status, headers, framing, JSON, bytes, in
how it is cut into pieces and in how the connection ends. Whatever comes, the endpoint must return a result of its own
types in time, show no secret, and keep a refresh token that arrived whole in a 200 whose headers frame it truly.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.leak_harness import LeakHarness
from tests.seed import SEED
from token_refresher.refresh.model import Answer, Granted, Proof
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.secret_text import SecretText

REQUEST_SECONDS = 0.3
SLACK_SECONDS = 2.0  # what a busy machine may add
NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)

STATUSES = [200] * 12 + [202, 204, 301, 307, 400, 400, 401, 403, 404, 408, 429, 500, 502, 503, 520, 100, 101]
CODES = ["invalid_grant", "invalid_client", "awaiting_verification", "", None, 5, {"code": 1}]
VALUES = [
    *[None, True, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", " ", "soon", "1295999", "1e9"],
    *["\ud800", "é", "a\nb", '"', "\0", [], {}, "Wed, 25 Nov 2026 10:00:00 GMT", "99 Foo 0000", "x" * 5000],
]
HARMLESS = ["Date: Wed, 25 Nov 2026 10:00:00 GMT", "Date: {secret}", "Retry-After: 847", "Retry-After: {secret}"]
HEADERS = [
    *HARMLESS,
    *["Content-Encoding: gzip", "Connection: keep-alive", "Upgrade: x", "X: " + "y" * 70_000, ": nameless"],
    *[" continued", "Ünï: ö", "{secret}", "Content-Length: {secret}", "Location: https://x/?t={secret}"],
]


class Script(NamedTuple):
    """What the server does with one connection. ``must_keep`` is a refresh token that may not get lost."""

    pieces: tuple[bytes, ...]
    ending: str
    must_keep: str | None = None
    secrets: tuple[str, ...] = ()


def script(chance: random.Random, sent: str) -> Script:
    """An answer to a request that carried the secret *sent*."""
    number = chance.randrange(10**12)
    tokens = {"access_token": f"access-{number:012}-secret", "refresh_token": f"refresh-{number:012}-secret"}
    status = chance.choice(STATUSES)
    content: dict[str, Any] = {"error": chance.choice([*CODES, sent]), "error_description": f"wrong: {sent}"}
    if status < 400:  # good for both calls
        content = {**tokens, "token_type": "bearer", "expires_in": 1_295_999, "organizationName": "Example Relief"}
        for key in chance.sample(sorted(content), chance.choice([0, 0, 1, 2])):
            content[key] = chance.choice(VALUES)
    body, is_readable = json.dumps(content).encode(), True
    if chance.random() < 0.12:
        html = f"<html><h1>{sent}</h1></html>".encode()
        body, is_readable = chance.choice([html, chance.randbytes(200), b"[" * 200_000]), False
    headers = chance.sample(HEADERS, chance.choice([0, 0, 0, 1, 3]))
    if chance.random() < 0.1:
        headers, body = ["Content-Encoding: gzip"], gzip.compress(body)
    is_harmless = all(line in HARMLESS or line == "Content-Encoding: gzip" for line in headers)
    sound = _framed(chance, status, [line.replace("{secret}", sent) for line in headers], body)
    whole = _damaged(chance, sound)
    ending = chance.choices(["close", "reset", "hang"], [94, 6, 0.3])[0]
    # A reset may overtake what was sent before it.
    must_arrive = status == 200 and is_readable and is_harmless and whole is sound and ending != "reset"
    is_granted = must_arrive and content.get("refresh_token") == tokens["refresh_token"]
    cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(chance.choice([0, 0, 0, 1, 3])))
    pieces = tuple(whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True))
    return Script(pieces, ending, tokens["refresh_token"] if is_granted else None, tuple(tokens.values()))


def _framed(chance: random.Random, status: int, headers: list[str], body: bytes) -> bytes:
    framing = chance.choice(["length", "length", "close", "chunked", "too long"])
    if framing == "chunked":
        headers = [*headers, "Transfer-Encoding: chunked"]
        size = chance.choice([1, 7, 1000]) if len(body) < 2000 else 100_000
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif framing != "close":
        headers = [*headers, f"Content-Length: {len(body) + (5 if framing == 'too long' else 0)}"]
    head = "".join(f"{line}\r\n" for line in [f"HTTP/1.1 {status} Text", *headers, ""])
    return chance.choice([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"]) + head.encode("latin-1", "replace") + body


def _damaged(chance: random.Random, whole: bytes) -> bytes:
    """*whole* itself, or with some bytes changed, or cut short."""
    position, damage = chance.randrange(len(whole)), chance.random()
    if damage < 0.1:
        return whole[:position] + chance.randbytes(chance.choice([0, 1, 5])) + whole[position + 1 :]
    return whole[:position] if damage < 0.2 else whole


class ScriptedServer:
    """Serves one connection after the other, each by the script that was set last."""

    def __init__(self) -> None:
        self.script = Script((), "close")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._answer(connection, self.script)

    @staticmethod
    def _answer(connection: socket.socket, script: Script) -> None:
        head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
        if head.startswith(b"POST") and not body:
            connection.recv(65_536)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in script.pieces:
            connection.sendall(piece)
        while script.ending == "hang" and connection.recv(4096):
            pass
        if script.ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ask(chance: random.Random, server: ScriptedServer, harness: LeakHarness) -> Answer | Proof:
    """One request and its random answer. Raises AssertionError; leaks show in *harness*."""
    sent = harness.secret(f"sent-{chance.randrange(10**12):012}+/=")
    server.script = script(chance, sent)
    for issued in server.script.secrets:
        harness.secret(issued)
    # Where nothing hangs, a busy machine may take its time.
    bound = REQUEST_SECONDS if server.script.ending == "hang" else REQUEST_SECONDS + SLACK_SECONDS
    endpoint = TokenEndpoint(server.base_url, clock=lambda: NOW, request_seconds=bound)
    started = time.monotonic()
    call = chance.choice(["refresh", "log_in", "prove"])
    answer: Answer | Proof
    if call == "prove":
        answer = endpoint.prove(SecretText(sent))
    elif call == "log_in":
        answer = endpoint.log_in("me@example.org", SecretText(sent))
    else:
        answer = endpoint.refresh(SecretText(sent))
    seconds = time.monotonic() - started
    assert type(answer) in get_args(Proof if call == "prove" else Answer)
    assert seconds <= bound + SLACK_SECONDS, f"{call} took {seconds:.2f} s"
    must_keep = None if call == "prove" else server.script.must_keep
    kept = isinstance(answer, Granted) and answer.refresh_token
    assert not must_keep or kept == SecretText(must_keep), f"a refresh token was thrown away: {answer}"
    harness.watch(answer)
    return answer


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with contextlib.closing(ScriptedServer()) as serving:
        yield serving


@seed(SEED)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=False))
def test_whatever_comes_is_a_result_in_time(
    chance: random.Random, server: ScriptedServer, harness: LeakHarness
) -> None:
    harness.hears_libraries = True
    ask(chance, server, harness)
