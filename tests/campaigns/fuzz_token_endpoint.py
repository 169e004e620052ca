"""A long campaign of random answers against the real token endpoint, through a real socket.

Each answer starts as one that Virtuous could give and is then spoilt: in its status, headers, framing, JSON, bytes,
in how it is cut into pieces and in how the connection ends. Whatever comes, the endpoint must return a result of its
own types in time, show no secret, and keep a refresh token that arrived whole in a 200 whose headers frame it truly.

    python -m tests.campaigns.fuzz_token_endpoint --answers 100000 --seed 1
    python -m tests.campaigns.fuzz_token_endpoint --seed 1 --only 4711      one answer again, printed in full
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import random
import resource
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, get_args

from tests.leak_harness import LeakHarness
from token_refresher.refresh.model import Answer, Granted, Proof
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.secret_text import SecretText

REQUEST_SECONDS = 0.3
SLACK_SECONDS = 2.0  # what a busy machine may add
MOST_MEMORY = 64 * 1024 * 1024  # bytes that the process may grow by
BATCH = 100  # answers between two looks for leaks
NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)

STATUSES = [200] * 12 + [202, 204, 301, 307, 400, 400, 401, 403, 404, 408, 425, 429, 500, 502, 503, 520, 100, 103, 101]
CODES = ["invalid_grant", "invalid_request", "invalid_client", "awaiting_verification", "", "x", None, 5, {"code": 1}]
VALUES = [
    *[None, True, False, 0, -1, 1.5, 10**12, 10**400, float("nan"), float("inf"), "", " ", "soon", "1295999", "1e9"],
    *["\ud800", "é", "a\nb", '"', "\0", [], {}, [[]], "Wed, 25 Nov 2026 10:00:00 GMT", "99 Foo 0000", "x" * 5000],
]
HEADERS = [
    *["Date: Wed, 25 Nov 2026 10:00:00 GMT", "Date: soon", "Retry-After: 847", "Retry-After: -1", "Retry-After: x"],
    *["Content-Encoding: gzip", "Content-Type: text/html", "Connection: keep-alive", "Upgrade: x", "Trailer: x"],
    *["X: " + "y" * 70_000, "X" * 300, ": nameless", " continued", "Ünï: ö", "Set-Cookie: a={secret}", "{secret}"],
    *["Content-Length: {secret}", "Retry-After: {secret}", "Date: {secret}", "Location: https://x/?t={secret}"],
]


@dataclass(frozen=True, slots=True)
class Script:
    """What the server does with one connection. ``must_keep`` is a refresh token that may not get lost."""

    pieces: tuple[bytes, ...] = field(repr=False)
    ending: str
    must_keep: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


class Surprise(Exception):
    """What must not happen."""


def script(chance: random.Random, sent: str) -> Script:
    """An answer to a request that carried the secret *sent*."""
    number = chance.randrange(10**12)
    access_token, refresh_token = f"access-{number:012}-secret", f"refresh-{number:012}-secret"
    status = chance.choice(STATUSES)
    content = _content(chance, access_token, refresh_token) if status < 400 else _error(chance, sent)
    body, is_readable = _body(chance, content, sent)
    headers = [line.replace("{secret}", sent) for line in chance.sample(HEADERS, chance.choice([0, 0, 0, 1, 3]))]
    harmless = ("Date: ", "Retry-After: ", "Content-Type: ", "Content-Encoding: ")
    is_harmless = all(line.startswith(harmless) for line in headers)
    if "Content-Encoding: gzip" in headers and chance.random() < 0.7:
        is_bomb = chance.random() < 0.1
        body, is_readable = gzip.compress(b" " * 3_000_000 if is_bomb else body), is_readable and not is_bomb
    sound = _framed(chance, status, headers, body)
    whole = _damaged(chance, sound)
    ending = chance.choices(["close", "reset", "hang"], [94, 6, 0.3])[0]
    # A reset may overtake what was sent before it.
    must_arrive = status == 200 and is_readable and is_harmless and whole is sound and ending != "reset"
    return Script(
        pieces=_pieces(chance, whole),
        ending=ending,
        must_keep=refresh_token if must_arrive and content.get("refresh_token") == refresh_token else None,
        secrets=(access_token, refresh_token),
    )


def _good(access_token: str, refresh_token: str) -> dict[str, Any]:
    """What is good for both calls."""
    return {
        "access_token": access_token,
        "token_type": "bearer",
        "expires_in": 1_295_999,
        "refresh_token": refresh_token,
        "userName": "me@example.org",
        "twoFactorEnabled": "False",
        ".expires": "Thu, 10 Dec 2026 10:00:00 GMT",
        "organizationUserId": 4711,
        "organizationName": "Example Relief",
        "isEnabled": True,
    }


def _content(chance: random.Random, access_token: str, refresh_token: str) -> dict[str, Any]:
    content = _good(access_token, refresh_token)
    for key in chance.sample(sorted(content), chance.choice([0, 0, 1, 2, 5])):
        content[key] = chance.choice(VALUES)
        if chance.random() < 0.3:
            del content[key]
    return content


def _error(chance: random.Random, sent: str) -> dict[str, Any]:
    return {"error": chance.choice([*CODES, sent]), "error_description": f"wrong: {sent}"}


def _body(chance: random.Random, content: dict[str, Any], sent: str) -> tuple[bytes, bool]:
    """A body, and whether *content* can be read out of it."""
    body = json.dumps(content).encode()
    match chance.choices(["as it is", "followed", "HTML", "bytes", "nested"], [86, 3, 6, 3, 2])[0]:
        case "followed":
            return body + chance.choice([b"\n", b"{}", b"<!-- x -->", b"\0"]), True
        case "HTML":
            return f"<html><h1>{sent}</h1></html>".encode(), False
        case "bytes":
            return chance.randbytes(chance.randrange(200)), False
        case "nested":
            return b"[" * chance.choice([10, 3000, 200_000]), False
    return body, True


def _damaged(chance: random.Random, whole: bytes) -> bytes:
    """*whole* itself, or with some bytes changed, or cut short."""
    damage = chance.random()
    if damage < 0.1:
        return _mutated(chance, whole)
    return whole[: chance.randrange(len(whole))] if damage < 0.2 else whole


def _framed(chance: random.Random, status: int, headers: list[str], body: bytes) -> bytes:
    interim = chance.choice([b"", b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
    framing = chance.choice(["length", "length", "close", "chunked", "too long"])
    if framing == "chunked":
        headers = [*headers, "Transfer-Encoding: chunked"]
        size = chance.choice([1, 7, 1000]) if len(body) < 2000 else 100_000
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif framing != "close":
        headers = [*headers, f"Content-Length: {len(body) + (5 if framing == 'too long' else 0)}"]
    head = "".join(f"{line}\r\n" for line in [f"HTTP/1.1 {status} Text", *headers, ""])
    return interim + head.encode("latin-1", "replace") + body


def _mutated(chance: random.Random, data: bytes) -> bytes:
    mutated = bytearray(data)
    for _ in range(chance.choice([1, 1, 3, 20])):
        position = chance.randrange(len(mutated) + 1)
        mutated[position : position + chance.choice([0, 1, 1, 5])] = chance.randbytes(chance.choice([0, 1, 1, 5]))
    return bytes(mutated)


def _pieces(chance: random.Random, whole: bytes) -> tuple[bytes, ...]:
    cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(chance.choice([0, 0, 0, 1, 3])))
    return tuple(whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True))


class ScriptedServer:
    """Serves one connection after the other, each by the script that was set last."""

    def __init__(self) -> None:
        self.script = Script((), "close")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._is_closing = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._is_closing = True
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError):
                if self._is_closing:
                    return
                self._answer(connection, self.script)

    @staticmethod
    def _answer(connection: socket.socket, script: Script) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _receive_request(connection)
        for piece in script.pieces:
            connection.sendall(piece)
        if script.ending == "hang":
            while connection.recv(4096):
                pass
        if script.ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _receive_request(connection: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65_536) or b"\r\n\r\n"
    head, _, body = request.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length and (more := connection.recv(65_536)):
        body += more


def ask(chance: random.Random, server: ScriptedServer, harness: LeakHarness) -> tuple[Script, Answer | Proof]:
    """One request and its random answer. Raises Surprise; leaks show in *harness*."""
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
    if not isinstance(answer, get_args(Proof if call == "prove" else Answer)):
        raise Surprise(f"{call} returned {type(answer)}")
    if seconds > bound + SLACK_SECONDS:
        raise Surprise(f"{call} took {seconds:.2f} s")
    kept = isinstance(answer, Granted) and answer.refresh_token
    must_keep = None if call == "prove" else server.script.must_keep
    if must_keep and kept != SecretText(must_keep):
        raise Surprise(f"a refresh token was thrown away: {answer}")
    harness.watch(answer)
    return server.script, answer


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz_token_endpoint", description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--only", type=int, help="the number of one answer")
    chosen = parser.parse_args(argv)
    print(f"{chosen.answers} answers, seed {chosen.seed}", flush=True)
    numbers = range(chosen.answers) if chosen.only is None else [chosen.only]
    kinds: Counter[str] = Counter()
    surprises: list[str] = []
    started, memory = time.monotonic(), _peak_memory()
    harness = LeakHarness()
    harness.hears_libraries = True
    with ScriptedServer() as server, contextlib.ExitStack() as stack:
        stack.enter_context(harness.listening())
        for number in numbers:
            try:
                chance = random.Random(f"{chosen.seed}/{number}")
                script, answer = ask(chance, server, harness)
                kinds[type(answer).__name__] += 1
            except Exception as error:  # noqa: BLE001 (any exception at all is what is looked for)
                surprises.append(f"answer {number}: {type(error).__name__}: {error}")
            if chosen.only is not None:
                print(script.ending, *script.pieces, answer, sep="\n")
            if number % BATCH == BATCH - 1 or chosen.only is not None or number == numbers[-1]:
                surprises += [f"answers up to {number}: {leak}" for leak in harness.leaks()]
                harness.clear()
    grown = _peak_memory() - memory
    if grown > MOST_MEMORY:
        surprises.append(f"the process grew by {grown / 2**20:.0f} MiB")
    for name, count in kinds.most_common():
        print(f"{count:8} {name}")
    print(f"{sum(kinds.values())} answers, seed {chosen.seed}, {time.monotonic() - started:.0f} s, ", end="")
    print(f"{grown / 2**20:.0f} MiB of growth, {len(surprises)} surprises")
    for surprise in surprises[:20]:
        print(surprise)
    return 1 if surprises else 0


def _peak_memory() -> int:
    """Bytes. Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
