"""The token for aiohttp: ``aiohttp.ClientSession(middlewares=[AiohttpAuth()])``. aiohttp has had these since 3.12."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

import aiohttp
from yarl import URL

from .auth_rules import may_be_repeated, require_trusted, sent_token
from .reader import process_reader
from .token_source import TokenSource

__all__ = ["AiohttpAuth"]


class AiohttpAuth:
    """A client middleware that sets the ``Authorization`` header; after a 401 it sends the request once more, if there
    is another token.

    Without *source* the token is the one of :func:`bearer_token`. Raises UntrustedURL for a request that must not get
    the token, and what ``source.async_token()`` raises.

    JSON, forms, text and bytes can be sent again. With any other body the caller gets the 401, and the next request has
    the other token.

    Where the source does not know the token's ``base_url``, the token goes to the first host alone that gets it.

    May be shared by sessions and tasks. A wait for the token takes no thread of its own and ends when it is cancelled.
    """

    def __init__(self, source: TokenSource | None = None) -> None:
        self._source: TokenSource = process_reader() if source is None else source
        self._first_address: str | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        # aiohttp calls middlewares for each redirect as for a new request; both run in the caller's task.
        redirect = _last_redirect.get()
        is_redirected = redirect is not None and redirect.url == request.url
        if redirect is not None and is_redirected and not redirect.keeps_token:
            response = await handler(request)
        else:
            response = await self._send(request, handler, is_redirected=is_redirected)
        _last_redirect.set(_redirect_in(request, response))
        return response

    async def _send(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, *, is_redirected: bool
    ) -> aiohttp.ClientResponse:
        await self._source.async_token()  # the first read also tells which host the token is for
        self._require_trusted(request.url)
        request.headers["Authorization"] = f"Bearer {await self._source.async_token()}"
        response = await handler(request)
        try:
            repeats = (
                response.status == 401
                and await self._source.async_rejected(_token_of(request))
                and may_be_repeated(request.method, was_redirected=is_redirected)
                and _can_be_sent_again(request.body)
            )
            if repeats:
                request.headers["Authorization"] = f"Bearer {await self._source.async_token()}"
        except BaseException:  # cancelled, for instance: aiohttp does not know this response yet
            response.close()
            raise
        if repeats:
            response.release()
            response = await handler(request)
        return response

    def _require_trusted(self, url: URL) -> None:
        """Where nobody knows the host, it is the first that was asked: another middleware may run each request in its
        own task, where a redirect looks like a new request."""
        require_trusted(url.scheme, url.host, url.port, self._source.base_url or self._first_address)
        if url.scheme == "https" and self._first_address is None:
            self._first_address = str(url.origin())

    def __repr__(self) -> str:
        return f"AiohttpAuth({self._source!r})"


class _Redirect(NamedTuple):
    url: URL
    keeps_token: bool


_last_redirect: ContextVar[_Redirect | None] = ContextVar("virtuous_token_last_redirect", default=None)


def _redirect_in(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse) -> _Redirect | None:
    """Where *response* leads to. As in the other clients the token goes along to the same scheme, host and port only,
    and does not come back later."""
    location = response.headers.get("Location") or response.headers.get("URI")
    if response.status not in (301, 302, 303, 307, 308) or not location:
        return None
    try:
        url = request.url.join(URL(location)).with_fragment(None).with_user(None)
        return _Redirect(url, bool(_token_of(request)) and url.origin() == request.url.origin())
    except ValueError:  # no URL: aiohttp will say so
        return None


def _token_of(request: aiohttp.ClientRequest) -> str:
    return sent_token(request.headers.get("Authorization")) or ""


def _can_be_sent_again(body: object) -> bool:
    return body == b"" or isinstance(body, aiohttp.BytesPayload)
