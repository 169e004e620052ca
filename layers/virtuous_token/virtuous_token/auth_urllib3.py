"""The token for urllib3: ``Urllib3Auth().request("GET", url)`` in place of ``urllib3.request("GET", url)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.util import parse_url

from .auth_rules import AuthFromSource, is_in_memory
from .secret_text import SecretText
from .token_source import TokenSource


class Urllib3Auth(AuthFromSource):
    """Sends requests through *pool* (a new PoolManager where none is given) with the ``Authorization`` header.

    After a 401 it sends the request once more, if there is another token. Raises UntrustedURL for a request that must
    not get the token, and what ``source.token()`` raises. With a body that is neither in memory nor can seek, and after
    a redirect, the caller gets the 401, and the next request has the other token. A 401 in a Retry's
    ``status_forcelist`` is left to this object. As a context manager it closes the pool's connections at the end.
    """

    def __init__(
        self,
        source: TokenSource | None = None,
        pool: urllib3.PoolManager | None = None,
        *,
        allow_http: bool = False,
    ) -> None:
        super().__init__(source, allow_http=allow_http)
        self._pool = pool if pool is not None else urllib3.PoolManager()

    def request(self, method: str, url: str, body: Any = None, **options: Any) -> urllib3.BaseHTTPResponse:
        """As ``urllib3.PoolManager.request``, which explains *options*."""
        return self._send(self._pool.request, method, url, {**options, "body": body})

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> urllib3.BaseHTTPResponse:
        """As ``urllib3.PoolManager.urlopen``."""
        return self._send(self._pool.urlopen, method, url, {**options, "redirect": redirect})

    def __enter__(self) -> Urllib3Auth:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    def _send(
        self, send: Callable[..., urllib3.BaseHTTPResponse], method: str, url: str, options: dict[str, Any]
    ) -> urllib3.BaseHTTPResponse:
        rewind = _way_back(options.get("body"))
        headers = options.pop("headers", None)
        self._source.token()  # the first read also tells which host the token is for
        self._require_trusted(parse_url(url), has_proxy=self._pool.proxy is not None)
        self._adapt_retries(options)
        sent = SecretText(self._source.token())
        response = send(method, url, headers=self._with_token(headers, sent), **options)
        places = _redirects(url, response)
        if response.status != 401 or any(_origin(place) != _origin(url) for place in places):
            return response
        if not self._source.report_rejected(sent.reveal()) or rewind is None or places:
            return response
        # The connection goes back to its pool before it is used again.
        response.drain_conn()
        response.release_conn()
        rewind()
        again = SecretText(self._source.token())
        return send(method, url, headers=self._with_token(headers, again), **options)

    def _adapt_retries(self, options: dict[str, Any]) -> None:
        """A Retry that removes other headers on a redirect to another host removes this one too. One that repeats a 401
        would do so with the token that was refused, and hide it from this object."""
        retries = options.get("retries", self._pool.connection_pool_kw.get("retries"))
        if isinstance(retries, urllib3.Retry):
            options["retries"] = retries.new(
                remove_headers_on_redirect=frozenset(retries.remove_headers_on_redirect) | {"authorization"},
                status_forcelist=frozenset(retries.status_forcelist or ()) - {401},
            )

    def _with_token(self, headers: Mapping[str, str] | None, token: SecretText) -> urllib3.HTTPHeaderDict:
        complete = urllib3.HTTPHeaderDict(self._pool.headers if headers is None else headers)
        complete["Authorization"] = f"Bearer {token.reveal()}"
        return complete


def _way_back(body: Any) -> Callable[[], object] | None:
    """What takes *body* back to where it is now; None where nothing can."""
    if is_in_memory(body):
        return lambda: None
    try:
        return partial(body.seek, body.tell()) if body.seekable() else None
    except (AttributeError, OSError, ValueError):
        return None


def _redirects(url: str, response: urllib3.BaseHTTPResponse) -> list[str]:
    """Where redirects led to, until *response* came: urllib3 tells them in the history of its retries."""
    history = response.retries.history if response.retries is not None else ()
    return [urljoin(step.url or url, step.redirect_location) for step in history if step.redirect_location]


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    parsed = parse_url(url)
    return parsed.scheme, parsed.host, parsed.port or (443 if parsed.scheme == "https" else 80)
