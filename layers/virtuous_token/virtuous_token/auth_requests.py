"""The token for requests: ``requests.get(url, auth=RequestsAuth(reader))``, or ``session.auth = RequestsAuth(reader)``.

Give it only to requests that go to Virtuous: it adds the token to every one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import requests
from requests.auth import AuthBase
from requests.utils import rewind_body

from .reader import TokenReader

__all__ = ["RequestsAuth"]


class RequestsAuth(AuthBase):
    """Sets the ``Authorization`` header; after a 401 reads the token anew and sends the request once more.

    The second request goes out only with a *different* token, and only where the body can be sent again: none, text,
    bytes, or a file that can seek. Otherwise the caller gets the 401. May be shared by threads and sessions.
    """

    def __init__(self, reader: TokenReader) -> None:
        self._reader = reader

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        token = self._reader.token()
        request.headers["Authorization"] = f"Bearer {token}"
        request.hooks["response"].append(partial(self._sent_again, token))
        return request

    def _sent_again(self, token: str, response: requests.Response, **settings: Any) -> requests.Response:
        """The answer to a second try, or *response* where there is none to make.

        After a redirect to another host the header is gone: that host's 401 says nothing about the token.
        """
        refused = response.request
        if response.status_code != 401 or refused.headers.get("Authorization") != f"Bearer {token}":
            return response
        if not _can_be_sent_again(refused) or not self._reader.rejected(token):
            return response
        # The connection goes back to its pool before it is used again.
        response.content  # noqa: B018
        response.close()
        again = refused.copy()
        if not isinstance(again.body, str | bytes | None):
            rewind_body(again)
        again.headers["Authorization"] = self._reader.authorization()
        connection: Any = response.connection
        answer: requests.Response = connection.send(again, **settings)
        answer.history.append(response)
        answer.request = again
        return answer


def _can_be_sent_again(request: requests.PreparedRequest) -> bool:
    """Where requests knows the position that a file's body began at, it can go back to it."""
    position = getattr(request, "_body_position", None)
    return isinstance(request.body, str | bytes | None) or (isinstance(position, int) and hasattr(request.body, "seek"))
