"""The token for urllib3: ``Urllib3Auth().request("GET", url)`` in place of ``urllib3.request("GET", url)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urljoin

import urllib3
from urllib3.util import parse_url

from .auth_rules import is_in_memory, may_be_repeated, require_trusted
from .reader import process_reader
from .secret_text import SecretText
from .token_source import TokenSource

__all__ = ["Urllib3Auth"]


class Urllib3Auth:
    """Sends requests through *pool* (a new PoolManager where none is given) with the ``Authorization`` header.

    After a 401 it sends the request once more, if there is another token. Without *source* the token is the one of
    :func:`bearer_token`. Raises UntrustedURL for a request that must not get the token, and what ``source.token()``
    raises.

    ``fields``, ``json``, text and bytes can be sent again, and files that can seek. With any other body the caller gets
    the 401, and the next request has the other token.

    May be shared by threads. As a context manager it closes the pool's connections at the end.
    """

    def __init__(self, source: TokenSource | None = None, pool: urllib3.PoolManager | None = None) -> None:
        self._source: TokenSource = process_reader() if source is None else source
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
        self._lose_the_token_with_the_host(options)
        sent = SecretText(self._source.token())
        response = send(method, url, headers=self._with_token(headers, sent), **options)
        last = _last_request(method, url, response)
        if response.status != 401 or last.has_changed_host or not self._source.rejected(sent.reveal()):
            return response
        if start == _NOWHERE or not may_be_repeated(last.method, was_redirected=last.is_redirected):
            return response
        # The connection goes back to its pool before it is used again.
        response.drain_conn()
        response.release_conn()
        if last.is_redirected and send != self._pool.request_encode_body:
            options.pop("fields", None)  # the URL of the redirect holds them
        if last.has_lost_body:
            send, headers = self._pool.urlopen, self._without_content_headers(headers)
            options = {name: value for name, value in options.items() if name not in _BODY_OPTIONS}
        elif start is not None:
            options["body"].seek(start)
        again = SecretText(self._source.token())
        return send(last.method, last.url, headers=self._with_token(headers, again), **options)

    def _lose_the_token_with_the_host(self, options: dict[str, Any]) -> None:
        """A Retry that removes other headers on a redirect to another host removes this one too."""
        retries = options.get("retries", self._pool.connection_pool_kw.get("retries"))
        if isinstance(retries, urllib3.Retry):
            removed = frozenset(retries.remove_headers_on_redirect) | {"authorization"}
            options["retries"] = retries.new(remove_headers_on_redirect=removed)

    def _require_trusted(self, url: str) -> None:
        parsed = parse_url(url)
        require_trusted(parsed.scheme, parsed.host, parsed.port, self._source.base_url)

    def _with_token(self, headers: Mapping[str, str] | None, token: SecretText) -> urllib3.HTTPHeaderDict:
        complete = urllib3.HTTPHeaderDict(self._pool.headers if headers is None else headers)
        complete["Authorization"] = f"Bearer {token.reveal()}"
        return complete

    def _without_content_headers(self, headers: Mapping[str, str] | None) -> urllib3.HTTPHeaderDict:
        """What is left when a redirect has taken the body away."""
        left = urllib3.HTTPHeaderDict(self._pool.headers if headers is None else headers)
        for name in [name for name in left if name.lower().startswith("content-")]:
            del left[name]
        return left


_NOWHERE = -1
_BODY_OPTIONS = frozenset({"body", "fields", "json", "encode_multipart", "multipart_boundary", "body_pos", "chunked"})


def _start_of(body: Any) -> int | None:
    """Where a file's body begins; None for one that needs no going back, _NOWHERE for one that cannot go back."""
    if is_in_memory(body):
        return None
    try:
        return int(body.tell()) if body.seekable() else _NOWHERE
    except (AttributeError, OSError, ValueError):
        return _NOWHERE


class _LastRequest(NamedTuple):
    method: str
    url: str
    is_redirected: bool
    has_changed_host: bool
    has_lost_body: bool


def _last_request(method: str, url: str, response: urllib3.BaseHTTPResponse) -> _LastRequest:
    """The request that *response* answers, after all redirects: urllib3 tells them in the history of its retries."""
    history = response.retries.history if response.retries is not None else ()
    redirects = [step for step in history if step.redirect_location]
    has_changed_host = has_lost_body = False
    for step in redirects:
        before, url = step.url or url, urljoin(step.url or url, step.redirect_location)
        has_changed_host |= _origin(before) != _origin(url)
        if step.status == 303:
            method, has_lost_body = "GET", True
    return _LastRequest(method, url, bool(redirects), has_changed_host, has_lost_body)


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    parsed = parse_url(url)
    port = parsed.port or {"http": 80, "https": 443}.get(parsed.scheme or "")
    return parsed.scheme, parsed.host, port
