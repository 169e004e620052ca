"""The token for httpx: ``httpx.Client(auth=HttpxAuth(reader))``, and the same for ``httpx.AsyncClient``.

Give it only to clients that talk to Virtuous: it adds the token to every request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import anyio.to_thread
import httpx

from .reader import TokenReader

__all__ = ["HttpxAuth"]


class HttpxAuth(httpx.Auth):
    """Sets the ``Authorization`` header; after a 401 reads the token anew and sends the request once more.

    The second request goes out only with a *different* token, and only where the body can be sent again: none, or one
    that httpx holds in memory (``json``, ``data``, text or bytes). Otherwise the caller gets the 401. In an
    AsyncClient, on asyncio or trio, reads wait in another thread. May be shared by clients, threads and loops.
    """

    def __init__(self, reader: TokenReader) -> None:
        self._reader = reader

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._reader.token()
        response = yield _with_token(request, token)
        if _refuses(response, token) and _can_be_sent_again(request) and self._reader.rejected(token):
            yield _with_token(request, self._reader.token())

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = self._reader.token_without_waiting()
        if token is None:
            token = await anyio.to_thread.run_sync(self._reader.token)
        response = yield _with_token(request, token)
        if (
            _refuses(response, token)
            and _can_be_sent_again(request)
            and await anyio.to_thread.run_sync(self._reader.rejected, token)
        ):
            yield _with_token(request, await anyio.to_thread.run_sync(self._reader.token))


def _with_token(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _refuses(response: httpx.Response, token: str) -> bool:
    """After a redirect to another host the header is gone: that host's 401 says nothing about the token."""
    return response.status_code == 401 and response.request.headers.get("Authorization") == f"Bearer {token}"


def _can_be_sent_again(request: httpx.Request) -> bool:
    return isinstance(request.stream, httpx.ByteStream)
