"""The token for httpx: ``httpx.Client(auth=HttpxAuth())``, and the same for ``httpx.AsyncClient``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import httpx

from .auth_rules import AuthFromSource, may_be_repeated, sent_token


class HttpxAuth(AuthFromSource, httpx.Auth):
    """Sets the ``Authorization`` header; after a 401 sends the request once more, if there is another token.

    Raises UntrustedURL for a request that must not get the token, and what ``source.token()`` raises. With a body that
    httpx does not hold in memory the caller gets the 401, and the next request has the other token.
    """

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._source.token()  # the first read also tells which host the token is for
        self._require_trusted(request.url)
        _set_token(request, self._source.token())
        response = yield request
        refused = response.request
        if _is_refused(response) and self._source.report_rejected(_token_of(refused)) and _can_be_sent_again(response):
            _set_token(refused, self._source.token())
            yield refused

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        await self._source.async_token()
        self._require_trusted(request.url)
        _set_token(request, await self._source.async_token())
        response = yield request
        refused = response.request
        if (
            _is_refused(response)
            and await self._source.async_report_rejected(_token_of(refused))
            and _can_be_sent_again(response)
        ):
            _set_token(refused, await self._source.async_token())
            yield refused


def _set_token(request: httpx.Request, token: str) -> None:
    request.headers["Authorization"] = f"Bearer {token}"


def _token_of(request: httpx.Request) -> str:
    return sent_token(request.headers.get("Authorization")) or ""


def _is_refused(response: httpx.Response) -> bool:
    return response.status_code == 401 and bool(_token_of(response.request))


def _can_be_sent_again(response: httpx.Response) -> bool:
    request = response.request
    return isinstance(request.stream, httpx.ByteStream) and may_be_repeated(
        request.method, was_redirected=bool(response.history)
    )
