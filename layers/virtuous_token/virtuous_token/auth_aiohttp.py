"""The token for aiohttp: ``aiohttp.ClientSession(middlewares=[AiohttpAuth()])``. aiohttp has had these since 3.12."""

from __future__ import annotations

from contextvars import ContextVar

import aiohttp

from .auth_rules import AuthFromSource, may_be_repeated
from .secret_text import SecretText
from .token_source import TokenSource


class AiohttpAuth(AuthFromSource):
    """A client middleware that sets the ``Authorization`` header; after a 401 it sends the request once more, if there
    is another token.

    It goes to its ``base_url``, or where the source does not know that to the host of the first request. Any other
    request raises UntrustedURL, also one that a redirect leads to, since aiohttp does not tell the two apart. Also
    raises what ``source.async_token()`` raises. With a body that aiohttp does not hold in memory the caller gets the
    401, and the next request has the other token.
    """

    def __init__(self, source: TokenSource | None = None, *, allow_http: bool = False) -> None:
        super().__init__(source, allow_http=allow_http)
        self._first_address: str | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        was_redirected = _last_was_a_redirect.get()
        await self._source.async_token()  # the first read also tells which host the token is for
        self._require_trusted(request.url, has_proxy=request.proxy is not None, base_url=self._first_address)
        self._first_address = self._first_address or str(request.url.origin())
        sent = SecretText(await self._source.async_token())
        request.headers["Authorization"] = f"Bearer {sent.reveal()}"
        response = await handler(request)
        try:
            repeats = (
                response.status == 401
                and await self._source.async_report_rejected(sent.reveal())
                and may_be_repeated(request.method, was_redirected=was_redirected)
                and (request.body == b"" or isinstance(request.body, aiohttp.BytesPayload))
            )
            if repeats:
                request.headers["Authorization"] = f"Bearer {await self._source.async_token()}"
        except BaseException:  # cancelled, for instance: aiohttp does not know this response yet
            response.close()
            raise
        if repeats:
            response.release()
            response = await handler(request)
        _last_was_a_redirect.set(response.status in (301, 302, 303, 307, 308))
        return response


# aiohttp calls middlewares for each redirect as for a new request, in the caller's task. Where that is no redirect but
# the caller's next request, a POST that is refused is not repeated; its 401 is learned from all the same.
_last_was_a_redirect: ContextVar[bool] = ContextVar("virtuous_token_last_was_a_redirect", default=False)
