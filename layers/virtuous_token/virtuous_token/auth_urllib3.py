"""The token for urllib3: ``Urllib3Auth(reader).request("GET", url)`` in place of ``urllib3.request("GET", url)``.

Use it only for requests to Virtuous: it adds the token to every one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import urllib3

from .reader import TokenReader

__all__ = ["Urllib3Auth"]


class Urllib3Auth:
    """Sends requests through *pool* (a new PoolManager where none is given) with the ``Authorization`` header.

    After a 401 it reads the token anew and sends the request once more, only with a *different* token, and only where
    the body can be sent again: none, ``fields``, ``json``, text, bytes, or a file that can seek. Otherwise the caller
    gets the 401. May be shared by threads.
    """

    def __init__(self, reader: TokenReader, pool: urllib3.PoolManager | None = None) -> None:
        self._reader = reader
        self._pool = pool if pool is not None else urllib3.PoolManager()

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Any = None, **others: Any
    ) -> urllib3.BaseHTTPResponse:
        """As ``urllib3.PoolManager.request``, which also explains *others*."""
        start = _start_of(body)
        token = self._reader.token()
        response = self._pool.request(method, url, headers=self._with_token(headers, token), body=body, **others)
        if response.status != 401 or _was_redirected(response) or start == _NOWHERE:
            return response
        if not self._reader.rejected(token):
            return response
        # The connection goes back to its pool before it is used again.
        response.drain_conn()
        response.release_conn()
        if start is not None:
            body.seek(start)
        return self._pool.request(
            method, url, headers=self._with_token(headers, self._reader.token()), body=body, **others
        )

    def _with_token(self, headers: Mapping[str, str] | None, token: str) -> dict[str, str]:
        given = self._pool.headers if headers is None else headers
        kept = {name: value for name, value in given.items() if name.lower() != "authorization"}
        return {**kept, "Authorization": f"Bearer {token}"}


_NOWHERE = -1


def _start_of(body: Any) -> int | None:
    """Where a file's body begins; None for one that needs no going back, _NOWHERE for one that cannot go back."""
    if isinstance(body, str | bytes | bytearray | None):
        return None
    try:
        return int(body.tell()) if body.seekable() else _NOWHERE
    except (AttributeError, OSError, ValueError):
        return _NOWHERE


def _was_redirected(response: urllib3.BaseHTTPResponse) -> bool:
    """Then the 401 may be another host's, which never saw the token and says nothing about it."""
    return response.retries is not None and any(step.redirect_location for step in response.retries.history)
