"""Adapter: what the bytes of an HTTP/1 answer say, read at least as leniently as curl and browsers read them.

The status line, the headers and the framing are taken at their word first. Where that gives no JSON object, the same
bytes are read in every other way that could: the length ignored, chunks joined, compressions undone, in any order and
whatever the headers call them. What a server, a CDN or a proxy did to an answer that grants costs no token then.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from .judgement import Response, read_object

__all__ = ["LARGEST_ANSWER", "LARGEST_BODY", "framed", "read_response"]

# A good answer has about two kilobytes. The larger bound is for the bytes as they came, headers and all.
LARGEST_BODY = 256 * 1024
LARGEST_ANSWER = 1024 * 1024
# Chunks in chunks, compressed twice: nobody has seen more, and a search must end.
MOST_LAYERS = 4
MOST_READINGS = 16

# Chrome passes over four bytes of rubbish before the status line, curl reads "HTTP 200".
_STATUS_LINE = re.compile(
    rb".{0,4}?HTTP(?:/[0-9]+(?:\.[0-9]+)?)?[ \t]+([0-9]{3})(?![0-9])[^\n]*\n", re.DOTALL | re.IGNORECASE
)
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_BLANK_LINE = re.compile(rb"\n[ \t]*\r?\n")
_CONTINUATION = re.compile(rb"\r?\n[ \t]+")
_LENGTH = re.compile(r"\s*\+?[0-9]{1,18}\s*")
# Possessive, or a megabyte of digits would take hours.
_CHUNK_SIZE = re.compile(rb"\s*+([0-9a-fA-F]{1,16}+)[^\n]*+\n")


def framed(raw: bytes, *, ended: bool) -> Response | None:
    """The final answer in *raw* as its own headers divide it, None where none has begun.

    *ended* says that the peer closed the connection.
    """
    start = 0
    while line := _STATUS_LINE.match(raw, start):
        status = int(line[1])
        end = _EMPTY_LINE.search(raw, line.end() - 1)
        if end is None and not ended:
            return None
        start = end.end() if end else len(raw)
        # Interim answers are passed over (RFC 9110 section 15.2), a last one that nothing follows is the answer.
        if status >= 200 or (ended and start == len(raw)):
            fields = _fields(raw[line.end() : end.start() + 1 if end else None])
            blank = _BLANK_LINE.search(raw, line.end() - 1)
            return _divided(
                status, fields, raw[start:], raw[blank.end() :] if blank else b"", ended=ended and end is not None
            )
    return None


def read_response(raw: bytes, *, ended: bool) -> Response | None:
    """The answer in *raw*, with the body that holds a JSON object if any reading of the bytes does."""
    answer = framed(raw, ended=ended)
    if answer is None:
        return None
    for body in _readings([answer.body, *answer.others]):
        if read_object(body, answer.headers):
            complete = answer.complete or (ended and body != answer.body)
            return Response(answer.status, answer.headers, body, complete)
    return Response(answer.status, answer.headers, answer.body[:LARGEST_BODY], answer.complete)


def _fields(head: bytes) -> list[tuple[str, str]]:
    lines = _CONTINUATION.sub(b" ", head).decode("latin-1").split("\n")
    return [
        (name.strip().lower(), value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon
    ]


def _divided(status: int, fields: list[tuple[str, str]], rest: bytes, other: bytes, *, ended: bool) -> Response:
    codings = " ".join(value.lower() for name, value in fields if name == "transfer-encoding")
    announced = ",".join(value for name, value in fields if name == "content-length").split(",")
    lengths = {int(value) for value in announced if _LENGTH.fullmatch(value)}
    if status in (204, 304):
        body, complete = b"", True
    elif "chunked" in codings:
        body, complete = _joined(rest)
    elif len(lengths) == 1:
        body, complete = rest[: min(lengths)], len(rest) >= min(lengths)
    else:
        body, complete = rest, ended
    first_of_each = dict(reversed(fields))
    return Response(status, first_of_each, body, complete, (rest, other))


def _joined(data: bytes) -> tuple[bytes, bool]:
    """The content of chunks, and whether the last one came."""
    body, position = bytearray(), 0
    while size := _CHUNK_SIZE.match(data, position):
        position = size.end() + int(size[1], 16)
        body += data[size.end() : position]
        if position == size.end():
            return bytes(body), True
    return bytes(body), False


def _decoded(coding: str, data: bytes) -> bytes:
    """*data* with *coding* undone, up to the largest body; as much of it as came before an error."""
    body = bytearray()
    # In small pieces after an error, because it costs the piece that it is found in (a wrong checksum: all of it).
    for piece_size in (LARGEST_BODY, 1 + len(data) // 4096):
        body.clear()
        response = HTTPResponse(io.BytesIO(data), {"content-encoding": coding}, preload_content=False)
        with suppress(HTTPError):
            for piece in response.stream(piece_size):
                body += piece
                if len(body) >= LARGEST_BODY:
                    break
            break
    return bytes(body[:LARGEST_BODY])


# What can have been done to a body. gzip may have several members, deflate a zlib header or none; br and zstd are
# undone where urllib3 finds their libraries.
_LAYERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: _joined(data)[0],
    *(
        partial(_decoded, coding)
        for coding in ("gzip", "deflate", "br", "zstd")
        if coding in HTTPResponse.CONTENT_DECODERS
    ),
)


def _readings(bodies: Iterable[bytes]) -> Iterator[bytes]:
    """Every way to read *bodies*, those that take the headers at their word first."""
    readings = list(dict.fromkeys(bodies))
    for _ in range(MOST_LAYERS):
        yield from readings
        inner = (undo(data) for data in readings for undo in _LAYERS)
        readings = [data for data in dict.fromkeys(inner) if data and data not in readings][:MOST_READINGS]
