"""Core: the JSON object in an answer's body, whatever the headers say of the body.

What a server, a CDN or a proxy did to an answer that grants must cost no token: compressed unasked, mislabelled, in
another encoding, with its end missing.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

__all__ = ["LARGEST_BODY", "read_object", "readable_body"]

LARGEST_BODY = 256 * 1024  # a good answer has about two kilobytes

_BLANKS = "\ufeff \t\r\n\f\v\0"
_CHARSET = r"charset\s*=\s*[\"']?([\w.:-]+)"
# Python decodes them, but no server writes in them, and they are slow or warn.
_NO_CHARSETS = ("idna", "punycode", "unicode-escape", "unicodeescape")
# Possessive, or a megabyte of digits would take hours.
_CHUNK_SIZE = rb"\s*+([0-9a-fA-F]{1,16}+)[^\n]*+\n"
_GZIP_OR_ZLIB, _RAW_DEFLATE = 47, -15  # zlib's "wbits"


def readable_body(body: bytes, headers: Mapping[str, str]) -> bytes:
    """*body* such that it begins with a JSON object, if it does so once chunks are joined and compression is undone."""
    for plain in (body, _joined(body)):
        for wbits in (None, _GZIP_OR_ZLIB, _RAW_DEFLATE):
            candidate = plain if wbits is None else _inflated(plain, wbits)
            if read_object(candidate, headers):
                return candidate
    return body


def _joined(data: bytes) -> bytes:
    """The content of chunks: http.client joins them only where a header says exactly "chunked"."""
    body, position, pattern = bytearray(), 0, re.compile(_CHUNK_SIZE)
    while size := pattern.match(data, position):
        position = size.end() + int(size[1], 16)
        body += data[size.end() : position]
        if position == size.end():
            break
    return bytes(body)


def _inflated(data: bytes, wbits: int) -> bytes:
    """As much of *data* as can be decompressed, up to the largest body. gzip may have several members."""
    body, inflater = bytearray(), zlib.decompressobj(wbits)
    with suppress(zlib.error):
        for byte in data:  # one by one, because an error costs the piece that it is found in
            body += inflater.decompress(bytes([byte]))
            if len(body) >= LARGEST_BODY:
                break
            if inflater.eof:
                inflater = zlib.decompressobj(wbits)
    return bytes(body[:LARGEST_BODY])


def read_object(body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, Any], list[str]] | None:
    """The JSON object that *body* begins with, and what is odd about it; None where it begins with none.

    RFC 8259 wants UTF-8. Another encoding is understood as well, be it declared in *headers*, marked by its first bytes
    or neither; bytes that fit none cost what they stand in and no more.
    """
    for text, is_utf8 in _texts(body, headers):
        text = text.lstrip(_BLANKS)
        if not text.startswith("{"):
            continue
        try:
            answer, end = json.JSONDecoder(parse_int=_integer).raw_decode(text)
        except (ValueError, RecursionError):
            continue
        oddities = [] if is_utf8 else ["the answer is not UTF-8"]
        if text[end:].strip():
            oddities.append("something follows the JSON object")
        return answer, oddities
    return None


def _texts(body: bytes, headers: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """*body* as text in every encoding that it may be in, and whether that is UTF-8."""
    with suppress(ValueError):
        yield body.decode("utf-8"), True
    declared = re.search(_CHARSET, headers.get("content-type", ""), re.IGNORECASE)
    charset = declared[1].lower().replace("_", "-") if declared else "utf-8"
    for encoding in (charset, json.detect_encoding(body), "utf-8"):
        with suppress(LookupError, ValueError):
            start = "no" if encoding in _NO_CHARSETS else body[:256].decode(encoding, "replace").lstrip(_BLANKS)
            if not start or start.startswith("{"):  # replacing every character of another encoding is slow
                yield body.decode(encoding, "replace"), False


def _integer(digits: str) -> float:
    """An integer; a float where int() would refuse, because it has thousands of digits."""
    return int(digits) if len(digits) < 100 else float(digits)
