"""What a caller of the package may write, for ``mypy --strict``; ``assert_type`` fails the check, nothing is run."""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

import boto3
import botocore.session
import httpx
import requests
import urllib3

from virtuous_token import (
    AccessToken,
    NoToken,
    StaticToken,
    TokenReader,
    TokenSource,
    UnreadableSecret,
    VirtuousTokenError,
    async_bearer_token,
    bearer_token,
)
from virtuous_token.auth_httpx import HttpxAuth
from virtuous_token.auth_requests import RequestsAuth
from virtuous_token.auth_urllib3 import Urllib3Auth
from virtuous_token.contract import Bearer
from virtuous_token.secret_text import SecretText

URL = "https://api.virtuoussoftware.com/api/Organization/Current"
reader = TokenReader("virtuous/default/bearer", max_age_seconds=600, cool_down_seconds=30.0)


def in_a_function(text: str) -> None:
    assert_type(TokenReader(client=boto3.client("secretsmanager")), TokenReader)
    assert_type(TokenReader(client=botocore.session.get_session().create_client("secretsmanager")), TokenReader)
    assert_type(reader.token(timeout=0.5), str)
    assert_type(reader.base_url, str | None)
    assert_type(reader.expires_at, datetime | None)
    sources: list[TokenSource] = [reader, StaticToken("access-1", "https://api.virtuoussoftware.com")]
    assert_type(sources[0].token(), str)
    assert_type(reader.access_token(timeout=1), AccessToken)
    assert_type(reader.cached_token(), str | None)
    assert_type(reader.report_rejected("access-1"), bool)
    assert_type(bearer_token(), str)
    assert_type(requests.get(URL, auth=RequestsAuth(reader), timeout=30), requests.Response)
    assert_type(httpx.get(URL, auth=HttpxAuth(reader)), httpx.Response)
    assert_type(Urllib3Auth(reader).request("GET", URL), urllib3.BaseHTTPResponse)
    try:
        assert_type(Bearer.parse(text).access_token, SecretText)
    except (UnreadableSecret, NoToken) as known:
        problem: VirtuousTokenError = known
        raise problem from None


async def in_a_coroutine() -> None:
    assert_type(await reader.async_token(), str)
    assert_type(await async_bearer_token(), str)
    assert_type(await reader.async_report_rejected("access-1"), bool)
    async with httpx.AsyncClient(auth=HttpxAuth(reader)) as client:
        assert_type(await client.get(URL), httpx.Response)


def mistakes() -> None:
    """Each is an error that mypy must find: an ignore that is not needed is an error, too."""
    TokenReader(max_age_seconds="an hour")  # type: ignore[arg-type]
    TokenReader("bearer", 600)  # type: ignore[call-arg]
    reader.report_rejected()  # type: ignore[call-arg]
