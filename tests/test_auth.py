"""requests, httpx and urllib3 with the reader: one header, and after a 401 one more try with another token."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio
import httpx
import pytest
import requests
import urllib3

from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.one_bearer import Clock, OneBearer, join_renewals
from tests.fakes.virtuous import Virtuous
from tests.leak_harness import LeakHarness
from virtuous_token import TokenReader
from virtuous_token.auth_httpx import HttpxAuth
from virtuous_token.auth_requests import RequestsAuth
from virtuous_token.auth_urllib3 import Urllib3Auth


class Received(NamedTuple):
    method: str
    path: str
    authorization: str | None
    body: bytes


@dataclass
class Api:
    """A server on loopback that takes one token, and remembers what it was sent."""

    url: str
    accepted: str = "access-1"
    received: list[Received] = field(default_factory=list)
    redirect_to: str | None = None

    @property
    def tokens(self) -> list[str | None]:
        return [request.authorization for request in self.received]


@pytest.fixture
def serve() -> Iterator[Callable[[], Api]]:
    def begin() -> Api:
        api = Api("")

        class Handler(JsonHandler):
            def judge(self) -> None:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                sent = self.headers.get("Authorization")
                api.received.append(Received(self.command, self.path, sent, body))
                told = {"message": "Authorization has been denied for this request."}
                if api.redirect_to:
                    self.answer(307, told, Location=api.redirect_to)
                else:
                    self.answer(200 if sent == f"Bearer {api.accepted}" else 401, told)

            do_GET = do_POST = judge  # noqa: N815 - the names that http.server calls

        api.url = f"{servers.enter_context(serving(Handler))}/api"
        return api

    with ExitStack() as servers:
        yield begin


@pytest.fixture
def api(serve: Callable[[], Api]) -> Api:
    return serve()


@pytest.fixture
def source(harness: LeakHarness) -> Iterator[OneBearer]:
    harness.secret("access-1")
    harness.secret("access-2")
    yield OneBearer(Clock())
    join_renewals()


@pytest.fixture
def reader(source: OneBearer) -> TokenReader:
    return TokenReader("bearer", client=source, clock=source.clock)


def with_requests(reader: TokenReader, method: str, url: str, body: Any) -> int:
    with requests.Session() as session:
        session.auth = RequestsAuth(reader)
        return session.request(method, url, data=body, timeout=10).status_code


def with_httpx(reader: TokenReader, method: str, url: str, body: Any) -> int:
    with httpx.Client(auth=HttpxAuth(reader), follow_redirects=True, trust_env=False) as client:
        return client.request(method, url, content=body).status_code


def with_httpx_and_asyncio(reader: TokenReader, method: str, url: str, body: Any) -> int:
    async def story() -> int:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in body:
                yield piece

        content = body if isinstance(body, str | bytes | None) else pieces()
        async with httpx.AsyncClient(auth=HttpxAuth(reader), follow_redirects=True, trust_env=False) as client:
            return (await client.request(method, url, content=content)).status_code

    return asyncio.run(story())


def with_urllib3(reader: TokenReader, method: str, url: str, body: Any) -> int:
    with urllib3.PoolManager() as pool:
        return Urllib3Auth(reader, pool).request(method, url, body=body, timeout=10).status


Send = Callable[[TokenReader, str, str, Any], int]
SENDERS = [
    pytest.param(with_requests, id="requests"),
    pytest.param(with_httpx, id="httpx"),
    pytest.param(with_httpx_and_asyncio, id="httpx on asyncio"),
    pytest.param(with_urllib3, id="urllib3"),
]
every_client = pytest.mark.parametrize("send", SENDERS)


@every_client
def test_the_header_is_set(send: Send, reader: TokenReader, api: Api) -> None:
    assert send(reader, "GET", api.url, None) == 200
    assert api.received == [Received("GET", "/api", "Bearer access-1", b"")]


@every_client
def test_virtuous_takes_it(send: Send, source: OneBearer, reader: TokenReader) -> None:
    with Virtuous() as virtuous:
        source.value = json.dumps({"access_token": virtuous.issue_pair()["access_token"]})
        url = f"{virtuous.base_url}/api/Organization/Current"
        assert send(reader, "GET", url, None) == 200
        virtuous.revoke_access_tokens()
        source.value = json.dumps({"access_token": virtuous.issue_pair()["access_token"]})
        assert send(reader, "GET", url, None) == 200
        assert len(virtuous.organization_requests) == 3


@every_client
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(None, id="no body"),
        pytest.param(b'{"contact": 1}', id="bytes"),
        pytest.param("name=Åsa", id="text"),
    ],
)
def test_after_a_401_another_token_is_tried_once(
    body: bytes | str | None, send: Send, source: OneBearer, reader: TokenReader, api: Api
) -> None:
    reader.token()
    api.accepted = source.rotate()
    assert send(reader, "POST", api.url, body) == 200
    wire = body.encode() if isinstance(body, str) else body or b""
    assert api.received == [
        Received("POST", "/api", "Bearer access-1", wire),
        Received("POST", "/api", "Bearer access-2", wire),
    ]
    assert source.reads == 2


@every_client
def test_the_same_token_is_not_sent_again(send: Send, source: OneBearer, reader: TokenReader, api: Api) -> None:
    api.accepted = "another"
    assert send(reader, "POST", api.url, b"body") == 401
    assert api.tokens == ["Bearer access-1"]
    assert source.reads == 2


@every_client
def test_a_second_401_is_the_callers(send: Send, source: OneBearer, reader: TokenReader, api: Api) -> None:
    reader.token()
    source.rotate()
    api.accepted = "another"
    assert send(reader, "GET", api.url, None) == 401
    assert api.tokens == ["Bearer access-1", "Bearer access-2"]


@every_client
def test_a_body_that_is_gone_is_not_sent_again(send: Send, source: OneBearer, reader: TokenReader, api: Api) -> None:
    reader.token()
    api.accepted = source.rotate()
    assert send(reader, "POST", api.url, iter([b"once", b"only"])) == 401
    assert [request.body for request in api.received] == [b"onceonly"]


@pytest.mark.parametrize("send", [SENDERS[0], SENDERS[3]])
def test_a_file_is_sent_again_from_where_it_began(send: Send, source: OneBearer, reader: TokenReader, api: Api) -> None:
    reader.token()
    api.accepted = source.rotate()
    file = io.BytesIO(b"skipped and sent")
    file.seek(len(b"skipped "))
    assert send(reader, "POST", api.url, file) == 200
    assert [request.body for request in api.received] == [b"and sent", b"and sent"]


@every_client
def test_another_hosts_401_after_a_redirect_says_nothing_about_the_token(
    send: Send, source: OneBearer, reader: TokenReader, api: Api, serve: Callable[[], Api]
) -> None:
    elsewhere = serve()
    api.redirect_to = elsewhere.url.replace("127.0.0.1", "localhost")
    reader.token()
    source.rotate()
    assert send(reader, "GET", api.url, None) == 401
    assert elsewhere.tokens == [None]
    assert source.reads == 1


@every_client
def test_a_read_that_fails_leaves_the_401(send: Send, source: OneBearer, reader: TokenReader, api: Api) -> None:
    reader.token()
    source.value = "spoiled"
    api.accepted = "another"
    assert send(reader, "GET", api.url, None) == 401


def test_requests_remembers_the_first_answer_in_the_history(source: OneBearer, reader: TokenReader, api: Api) -> None:
    reader.token()
    api.accepted = source.rotate()
    answer = requests.get(api.url, auth=RequestsAuth(reader), timeout=10)
    assert [earlier.status_code for earlier in answer.history] == [401]
    assert answer.request.headers["Authorization"] == "Bearer access-2"


def test_urllib3_keeps_the_other_headers(reader: TokenReader, api: Api) -> None:
    with urllib3.PoolManager(headers={"X-From": "the pool", "authorization": "Basic xyz"}) as pool:
        assert Urllib3Auth(reader, pool).request("GET", api.url, timeout=10).status == 200
        assert Urllib3Auth(reader, pool).request("POST", api.url, json={"a": 1}, timeout=10).status == 200
    assert api.tokens == ["Bearer access-1", "Bearer access-1"]
    assert json.loads(api.received[1].body) == {"a": 1}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cold_read_does_not_stop_the_loop_of_httpx(
    backend: str, source: OneBearer, reader: TokenReader, api: Api
) -> None:
    gate = source.gate = threading.Event()

    async def story() -> list[int]:
        async with (
            httpx.AsyncClient(auth=HttpxAuth(reader), trust_env=False) as client,
            anyio.create_task_group() as group,
        ):
            statuses: list[int] = []

            async def ask() -> None:
                statuses.append((await client.get(api.url)).status_code)

            group.start_soon(ask)
            while not source.arrived.is_set():
                await anyio.sleep(0.001)
            gate.set()  # only a loop that goes on comes here
        return statuses

    assert anyio.run(story, backend=backend) == [200]
