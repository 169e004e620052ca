"""The token for urllib3: ``Urllib3Auth().request("GET", url)`` in place of ``urllib3.request("GET", url)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.util import parse_url

from .auth_rules import is_in_memory, require_trusted
from .reader import process_reader
from .secret_text import SecretText
from .token_source import TokenSource


class Urllib3Auth:
    """Sends requests through *pool* (a new PoolManager where none is given) with the ``Authorization`` header.

    After a 401 it sends the request once more, if there is another token. Without *source* the token is that of
    :func:`bearer_token`. Raises UntrustedURL for a request that must not get the token, and what ``source.token()``
    raises. With a body that is neither in memory nor can seek, and after a redirect, the caller gets the 401, and the
    next request has the other token. A 401 in a Retry's ``status_forcelist`` is left to this object.

    *allow_http* is for development: http to other hosts than loopback. May be shared by threads. As a context manager
    it closes the pool's connections at the end.
    """

    def __init__(
        self,
        source: TokenSource | None = None,
        pool: urllib3.PoolManager | None = None,
        *,
        allow_http: bool = False,
    ) -> None:
        self._source: TokenSource = process_reader() if source is None else source
        self._allow_http = allow_http
        self._pool = pool if pool is not None else urllib3.PoolManager()

    def request(self, method: str, url: str, body: Any = None, **options: Any) -> urllib3.BaseHTTPResponse:
        """As ``urllib3.PoolManager.request``, which explains *options*."""
        return self._send(self._pool.request, method, url, {**options, "body": body})

    def request_encode_url(self, method: str, url: str, fields: Any = None, **options: Any) -> urllib3.BaseHTTPResponse:
        """As ``urllib3.PoolManager.request_encode_url``."""
        return self._send(self._pool.request_encode_url, method, url, {**options, "fields": fields})

    def request_encode_body(
        self, method: str, url: str, fields: Any = None, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """As ``urllib3.PoolManager.request_encode_body``."""
        return self._send(self._pool.request_encode_body, method, url, {**options, "fields": fields})

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> urllib3.BaseHTTPResponse:
        """As ``urllib3.PoolManager.urlopen``."""
        return self._send(self._pool.urlopen, method, url, {**options, "redirect": redirect})

    def clear(self) -> None:
        """As ``urllib3.PoolManager.clear``: closes the connections that nobody uses."""
        self._pool.clear()

    def __enter__(self) -> Urllib3Auth:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __repr__(self) -> str:
        return f"Urllib3Auth({self._source!r})"

    def _send(
        self, send: Callable[..., urllib3.BaseHTTPResponse], method: str, url: str, options: dict[str, Any]
    ) -> urllib3.BaseHTTPResponse:
        start = _start_of(options.get("body"))
        headers = options.pop("headers", None)
        self._source.token()  # the first read also tells which host the token is for
        self._require_trusted(url)
        self._adapt_retries(options)
        sent = SecretText(self._source.token())
        response = send(method, url, headers=self._with_token(headers, sent), **options)
        places = _redirects(url, response)
        if response.status != 401 or any(_origin(place) != _origin(url) for place in places):
            return response
        if not self._source.report_rejected(sent.reveal()) or start == _NOWHERE or places:
            return response
        # The connection goes back to its pool before it is used again.
        response.drain_conn()
        response.release_conn()
        if start is not None:
            options["body"].seek(start)
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

    def _require_trusted(self, url: str) -> None:
        parsed, has_proxy = parse_url(url), self._pool.proxy is not None
        require_trusted(
            parsed.scheme,
            parsed.host,
            parsed.port,
            self._source.base_url,
            allow_http=self._allow_http,
            has_proxy=has_proxy,
        )

    def _with_token(self, headers: Mapping[str, str] | None, token: SecretText) -> urllib3.HTTPHeaderDict:
        complete = urllib3.HTTPHeaderDict(self._pool.headers if headers is None else headers)
        complete["Authorization"] = f"Bearer {token.reveal()}"
        return complete


_NOWHERE = -1


def _start_of(body: Any) -> int | None:
    """Where a file's body begins; None for one that needs no going back, _NOWHERE for one that cannot go back."""
    if is_in_memory(body):
        return None
    try:
        return int(body.tell()) if body.seekable() else _NOWHERE
    except (AttributeError, OSError, ValueError):
        return _NOWHERE


def _redirects(url: str, response: urllib3.BaseHTTPResponse) -> list[str]:
    """Where redirects led to, until *response* came: urllib3 tells them in the history of its retries."""
    history = response.retries.history if response.retries is not None else ()
    return [urljoin(step.url or url, step.redirect_location) for step in history if step.redirect_location]


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    parsed = parse_url(url)
    return parsed.scheme, parsed.host, parsed.port or (443 if parsed.scheme == "https" else 80)
