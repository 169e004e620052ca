"""Answers that carry a body in every odd way that servers, CDNs and proxies have, and what curl reads of them."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import importlib
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CURL = shutil.which("curl")

_gzip = functools.partial(gzip.compress, mtime=0)  # a seed gives the same bytes at any time

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "gzip in two members": lambda data: _gzip(data[: len(data) // 2]) + _gzip(data[len(data) // 2 :]),
    "gzip without its trailer": lambda data: _gzip(data)[:-8],
    "gzip with a wrong checksum": lambda data: _gzip(data)[:-8] + b"checksum",
    "gzip with more behind it": lambda data: _gzip(data) + b"\0\0more",
    "gzip, cut short": lambda data: _gzip(data)[:-40],
    "zlib": zlib.compress,
    "raw deflate": lambda data: zlib.compress(data, wbits=-15),
    "bzip2, which no client reads": bz2.compress,
}
# What urllib3 undoes them with.
ZSTANDARD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
for coding, library in (("br", "brotli"), ("zstd", ZSTANDARD)):
    with contextlib.suppress(ImportError):
        CODINGS[coding] = importlib.import_module(library).compress
CODING_NAMES = [
    *[
        "gzip",
        "x-gzip",
        "Gzip",
        "deflate",
        "gzip, identity",
        "identity",
        "gzip, gzip",
        "gzip;q=1",
        "br",
        "zstd",
        "none",
    ],
    *["", "utf-8", " gzip ", "gzip,", "deflate, gzip"],
]
CHARSETS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "cp037"]
STATUS_LINES = [
    *["HTTP/1.1 200 OK"] * 8,
    *[
        "HTTP/1.0 200 OK",
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 200 Gr\xfcn",
        "HTTP/2 200",
        "HTTP 200 OK",
    ],
    *[
        "HTTP/1.1 200OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1\t200 OK",
        "http/1.1 200 OK",
        "HTTP/0.9 200 OK",
        "\r\nHTTP/1.1 200 OK",
    ],
]
ODD_LINES = [
    *[
        "X: " + "y" * 70_000,
        "no colon",
        ": no name",
        "Set-Cookie : a=b",
        "X:\r\n folded",
        "X: a\r\n\tb\r\n c",
        "\x80\xff: \xfe",
    ],
    *[
        "Connection: keep-alive",
        "Upgrade: h2c",
        "Trailer: X",
        "TE: chunked",
        "Date: yesterday",
        "X:",
        "X" * 300,
        " folded",
    ],
    *[
        "Content-Type: application/json; charset=utf-16",
        'Content-Type: text/html; charset="iso-8859-1"',
        "Content-Type: x",
    ],
    "\r\n".join(f"X-{number}: y" for number in range(150)),
]
CHUNKED = [
    *["Transfer-Encoding: chunked"] * 4,
    *[
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked ",
        "transfer-encoding:chunked",
        "TRANSFER-ENCODING: Chunked",
    ],
    *[
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
    ],
    *[
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "X: y",
        "Transfer-Encoding: x",
    ],
    "Content-Length: 7\r\nTransfer-Encoding: chunked",
]
INTERIM = [
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    "HTTP/1.1 102 Processing\n\n",
]


def answer(chance: random.Random, content: dict[str, Any]) -> bytes:
    """An answer of status 200 that carries *content*, framed so that some client could read it, or none."""
    charset = chance.choice(CHARSETS) if chance.random() < 0.2 else "utf-8"
    body = json.dumps(content).encode(charset)
    lines = chance.sample(ODD_LINES, chance.choice([0, 0, 0, 1, 2]))
    if charset != "utf-8" and chance.random() < 0.7:
        lines.append(f"Content-Type: application/json; charset={charset}")
    for _ in range(chance.choice([0, 0, 1, 1, 1, 2])):
        coding = chance.choice(sorted(CODINGS))
        body = CODINGS[coding](body)
        name = {"zlib": "deflate", "raw deflate": "deflate", "br": "br", "zstd": "zstd"}.get(coding, "gzip")
        lines.append(f"Content-Encoding: {name if chance.random() < 0.6 else chance.choice(CODING_NAMES)}")
    framing = chance.choice(["length", "length", "chunked", "chunked", "close", "wrong length"])
    if framing == "chunked":
        lines.append(chance.choice(CHUNKED))
        body = _chunks(chance, body)
    elif framing == "length":
        length = len(body)
        forms = [f"Content-Length: {length}"] * 4 + [f"Content-Length: {length}\r\nContent-Length: {length}"]
        forms += [f"Content-Length : {length}", f"content-length:{length}", f"Content-Length: {length}, {length}"]
        lines.append(chance.choice([*forms, f"Content-Length: 00{length}", f"Content-Length: +{length}"]))
    elif framing == "wrong length":
        lengths = [
            "-1",
            "",
            "x",
            "0",
            str(len(body) + 9),
            str(max(0, len(body) - 9)),
            "9" * 30,
            "1e9",
            f"{len(body)}.0",
        ]
        lines.append(f"Content-Length: {chance.choice(lengths)}")
    chance.shuffle(lines)
    end = "\n" if chance.random() < 0.1 else "\r\n"
    head = end.join([chance.choice(STATUS_LINES), *lines, "", ""])
    before = "".join(chance.choices(INTERIM, k=chance.choice([0, 0, 0, 0, 1, 3])))
    return (before + head).encode("latin-1") + body + chance.choice([b"", b"", b"", b"\r\n", b"more", b"{}"])


def _chunks(chance: random.Random, body: bytes) -> bytes:
    """*body* in chunks, as odd as chunks come."""
    size = chance.choice([1, 7, 100, 1000, 1_000_000]) if len(body) < 2000 else 100_000
    form = chance.choice(["%x", "%x", "%x", "%X", "%08x", "%x ", " %x", "%x;name=value", "%x; a", '%x;a="b"'])
    end = chance.choice(["\r\n", "\r\n", "\r\n", "\n"])
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    joined = b"".join((form % len(part) + end).encode() + part + end.encode() for part in parts)
    return joined + chance.choice([f"0{end}{end}", f"000{end}{end}", f"0{end}X: y{end}{end}", f"0{end}", ""]).encode()


def read_by_curl(answers: Sequence[bytes]) -> list[dict[str, Any] | None]:
    """For each answer the JSON object that curl reads out of it, None where it reads none."""
    if CURL is None:
        raise RuntimeError("curl is not installed")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        thread = threading.Thread(target=_serve, args=(listener, answers))
        thread.start()
        port = listener.getsockname()[1]
        orders = [f'url = "http://127.0.0.1:{port}/{number}"\noutput = "{number}"' for number in range(len(answers))]
        options = [
            CURL,
            "--silent",
            "--compressed",
            "--no-keepalive",
            "--noproxy",
            "*",
            "--max-time",
            "5",
            "--config",
            "-",
        ]
        subprocess.run(options, input="\n".join(orders).encode(), cwd=folder, check=False)
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"END / HTTP/1.1\r\n\r\n")
            thread.join()
        return [_object_in(Path(folder) / str(number)) for number in range(len(answers))]


def _object_in(file: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(file.read_bytes())
        return found if isinstance(found, dict) else None
    return None


def _serve(listener: socket.socket, answers: Sequence[bytes]) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65_536) or b"\r\n\r\n"
            if request.startswith(b"END"):
                return
            if request.startswith(b"GET /"):
                connection.sendall(answers[int(request[5:].split()[0])])
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
