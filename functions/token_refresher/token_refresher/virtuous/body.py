"""Core: the JSON object in an answer's body, whatever the headers say of the body.

What a server, a CDN or a proxy did to an answer that grants must cost no token: compressed unasked, mislabelled, in
UTF-16, with its end missing.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from typing import Any

LARGEST_BODY = 256 * 1024  # a good answer has about two kilobytes
_GZIP_OR_ZLIB, _RAW_DEFLATE = 47, -15  # zlib's "wbits"


def readable_body(body: bytes) -> bytes:
    """*body*, decompressed if it begins with a JSON object then."""
    if not read_object(body):
        for wbits in (_GZIP_OR_ZLIB, _RAW_DEFLATE):
            if read_object(plain := _inflated(body, wbits)):
                return plain
    return body


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


def read_object(body: bytes) -> tuple[dict[str, Any], list[str]] | None:
    """The JSON object that *body* begins with, and what is odd about it; None where it begins with none.

    RFC 8259 wants UTF-8, and ``json`` knows UTF-16 and UTF-32 by their first bytes. Bytes that fit none cost what they
    stand in and no more.
    """
    encoding = json.detect_encoding(body)
    text = body.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if not text.startswith("{"):
        return None
    try:
        answer, end = json.JSONDecoder(parse_int=_integer).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    oddities = [] if encoding.startswith("utf-8") and "\ufffd" not in text else ["the answer is not UTF-8"]
    return answer, [*oddities, "something follows the JSON object"] if text[end:].strip(" \t\r\n") else oddities


def _integer(digits: str) -> float:
    """An integer; a float where int() would refuse, because it has thousands of digits."""
    return int(digits) if len(digits) < 100 else float(digits)
