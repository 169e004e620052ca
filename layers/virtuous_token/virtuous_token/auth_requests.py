"""The token for requests: ``requests.get(url, auth=RequestsAuth())``, or ``session.auth = RequestsAuth()``."""

from __future__ import annotations

from functools import partial
from typing import Any

import requests
from requests.auth import AuthBase
from requests.exceptions import UnrewindableBodyError
from requests.hooks import dispatch_hook
from requests.utils import rewind_body
from urllib3.util import parse_url

from .auth_rules import AuthFromSource, is_in_memory, may_be_repeated, sent_token
from .secret_text import SecretText
from .token_source import TokenSource


class RequestsAuth(AuthFromSource, AuthBase):
    """Sets the ``Authorization`` header; after a 401 sends the request once more, if there is another token.

    Raises UntrustedURL for a request that must not get the token, and what ``source.token()`` raises. With a body that
    is neither in memory nor can seek the caller gets the 401, and the next request has the other token. The first
    answer is in the ``history`` of the second.
    """

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        self._source.token()  # the first read also tells which host the token is for
        self._require_trusted(parse_url(request.url or ""))
        request.headers["Authorization"] = f"Bearer {self._source.token()}"
        request.hooks["response"].append(_AfterA401(self._source, request.url))
        return request


class _AfterA401:
    """A hook that requests calls with each response, those that redirect included.

    requests pickles a response with the hooks of its request. A copy of this hook does nothing, so that neither the
    source of the token nor this package travels along.
    """

    __slots__ = ("_source", "_url")

    def __init__(self, source: TokenSource, url: str | None) -> None:
        self._source = source
        self._url = url

    def __call__(self, response: requests.Response, **settings: Any) -> requests.Response:
        """The answer to the second request, or *response* where there is none."""
        refused = response.request
        sent = SecretText(sent_token(refused.headers.get("Authorization")) or "")
        if response.status_code != 401 or not sent or not self._source.report_rejected(sent.reveal()):
            return response
        again = refused.copy()
        if not may_be_repeated(refused.method, was_redirected=refused.url != self._url) or not _is_rewound(again):
            return response
        # The connection goes back to its pool before it is used again.
        response.content  # noqa: B018
        response.close()
        again.headers["Authorization"] = f"Bearer {self._source.token()}"
        connection: Any = response.connection
        answer: requests.Response = connection.send(again, **settings)
        answer.history.append(response)
        answer.request = again
        return answer

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (dispatch_hook, "response", {})

    def __repr__(self) -> str:
        return "<sends the request again after a 401>"


def _is_rewound(request: requests.PreparedRequest) -> bool:
    """True if the body can be sent again; a file is then back at the position where it began."""
    if is_in_memory(request.body):
        return True
    try:
        rewind_body(request)
    except (UnrewindableBodyError, OSError, ValueError):
        return False
    return True
