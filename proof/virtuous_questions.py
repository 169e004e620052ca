"""Three questions about Virtuous that nobody has answered in public, asked of the live service with a real login.

The tokens stay in this process. What is kept of an answer is its status, the RFC 6749 error code and the names of keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode

import urllib3

from .observations import NotAsExpected, Observation, Seen, observe

__all__ = ["COST", "ask_virtuous"]

BASE_URL = "https://api.virtuoussoftware.com"
NEVER_ISSUED = "no-such-refresh-token"
COST = (
    "This logs in to Virtuous once and sends one refresh token twice. If Virtuous then revokes that login's tokens, "
    "only the login made here is lost; connections that you keep are other logins."
)
# RFC 6749 section 5.2 allows these characters; anything longer or else is no error code.
_ERROR_CODE = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]{1,60}")


@dataclass(frozen=True, slots=True)
class _Answered:
    """One answer of /Token; the tokens stay out of its repr."""

    status: int
    error: str
    keys: tuple[str, ...]
    content: Mapping[str, Any] = field(repr=False)

    @property
    def refresh_token(self) -> str:
        token = self.content.get("refresh_token")
        return token if isinstance(token, str) else ""

    def __str__(self) -> str:
        return f"{self.status} {self.error}".strip()


def ask_virtuous(username: str, password: str) -> Iterator[Observation]:
    """One observation for each question. Raises NotAsExpected where the login itself is refused."""
    http = urllib3.PoolManager()
    login = _post(http, grant_type="password", username=username, password=password)
    if login.status != 200 or not login.refresh_token:
        raise NotAsExpected(f"expected: tokens for the login; seen: {login}")
    yield observe("Virtuous: a refresh token used twice", partial(_used_twice, http, login))
    yield observe("Virtuous: what a dead token is answered", partial(_dead_token, http))
    yield observe("Virtuous: whether the 365 days start again", partial(_life_of_refresh_tokens, login))


def _used_twice(http: urllib3.PoolManager, login: _Answered) -> Seen:
    first = _post(http, grant_type="refresh_token", refresh_token=login.refresh_token)
    if first.status != 200:
        raise NotAsExpected(f"expected: 200 for the first use; seen: {first}")
    replaced = bool(first.refresh_token) and first.refresh_token != login.refresh_token
    second = _post(http, grant_type="refresh_token", refresh_token=login.refresh_token)
    newest = first.refresh_token or login.refresh_token
    after = _post(http, grant_type="refresh_token", refresh_token=newest)
    return Seen(
        f"the first use {'brought another refresh token' if replaced else 'left the refresh token as it was'}; the "
        f"second use of the first one was answered {second}; the newest one then {after}"
    )


def _dead_token(http: urllib3.PoolManager) -> Seen:
    answered = _post(http, grant_type="refresh_token", refresh_token=NEVER_ISSUED)
    return Seen(f"a refresh token that never existed was answered {answered}")


def _life_of_refresh_tokens(login: _Answered) -> Seen:
    keys = [key for key in login.keys if "refresh" in key.lower() and key != "refresh_token"]
    if not keys:
        raise NotAsExpected("expected: a key that says when the refresh token ends; seen: " + ", ".join(login.keys))
    return Seen(f"the answer has the keys {', '.join(keys)}")


def _post(http: urllib3.PoolManager, **fields: str) -> _Answered:
    response = http.request(
        "POST",
        f"{BASE_URL}/Token",
        body=urlencode(fields),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        redirect=False,
        retries=False,
        timeout=urllib3.Timeout(connect=10, read=45),
    )
    try:
        content = json.loads(response.data)
    except ValueError:
        content = None
    content = content if isinstance(content, dict) else {}
    error = content.get("error")
    code = error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else ""
    return _Answered(response.status, code, tuple(sorted(content)), content)
