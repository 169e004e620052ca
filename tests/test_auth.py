"""requests, httpx, urllib3 and aiohttp with the token: one header, to Virtuous only, and what a 401 leads to."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import pickle
import socket
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import anyio
import httpx
import pytest
import requests
import urllib3

import virtuous_token
from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.one_bearer import OneBearer, frames_of
from tests.leak_harness import LeakHarness
from virtuous_token import StaticToken, TokenReader, TokenSource, UntrustedURL, process_reader
from virtuous_token.auth_aiohttp import AiohttpAuth
from virtuous_token.auth_httpx import HttpxAuth
from virtuous_token.auth_requests import RequestsAuth
from virtuous_token.auth_urllib3 import Urllib3Auth

PACKAGE = str(Path(virtuous_token.__file__).parent)
VIRTUOUS = "https://api.virtuoussoftware.com"


class Received(NamedTuple):
    method: str
    path: str
    authorization: str | None
    body: bytes
    x_from: tuple[str, ...] = ()


@dataclass
class Api:
    """A server on loopback that takes one token, redirects some paths, and remembers what it was sent."""

    url: str
    accepted: str = "access-1"
    received: list[Received] = field(default_factory=list)
    redirects: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def tokens(self) -> list[str | None]:
        return [request.authorization for request in self.received]


@pytest.fixture
def serve() -> Iterator[Callable[[], Api]]:
    def begin() -> Api:
        api = Api("")

        class Handler(JsonHandler):
            def judge(self) -> None:
                sent, x_from = self.headers.get("Authorization"), self.headers.get_all("X-From", ())
                api.received.append(Received(self.command, self.path, sent, self.read_body(), tuple(x_from)))
                content = {"message": "Authorization has been denied for this request."}
                if self.path in api.redirects:
                    status, location = api.redirects[self.path]
                    self.answer(status, content, Location=location)
                else:
                    self.answer(200 if sent == f"Bearer {api.accepted}" else 401, content)

            def read_body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

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
    with OneBearer() as source:
        yield source


@pytest.fixture
def reader(source: OneBearer) -> TokenReader:
    return source.reader()


@pytest.fixture
def rotated(source: OneBearer, reader: TokenReader, api: Api) -> TokenReader:
    """It holds access-1, while Virtuous takes access-2 alone."""
    reader.token()
    api.accepted = source.rotate()
    return reader


def with_requests(source: TokenSource, method: str, url: str, body: Any = None) -> int:
    with requests.Session() as session:
        session.auth = RequestsAuth(source)
        return session.request(method, url, data=body, timeout=10).status_code


def with_httpx(source: TokenSource, method: str, url: str, body: Any = None) -> int:
    with httpx.Client(auth=HttpxAuth(source), follow_redirects=True, trust_env=False) as client:
        return client.request(method, url, content=body).status_code


async def httpx_sends(source: TokenSource, method: str, url: str, body: Any = None) -> int:
    async with httpx.AsyncClient(auth=HttpxAuth(source), follow_redirects=True, trust_env=False) as client:
        return (await client.request(method, url, content=_asynchronous(body))).status_code


def with_urllib3(source: TokenSource, method: str, url: str, body: Any = None) -> int:
    with Urllib3Auth(source) as pool:
        return pool.request(method, url, body=body, timeout=10, retries=urllib3.Retry(3, connect=0)).status


async def aiohttp_sends(source: TokenSource, method: str, url: str, body: Any = None) -> int:
    async with (
        aiohttp.ClientSession(middlewares=[AiohttpAuth(source)]) as session,
        session.request(method, url, data=_asynchronous(body) if isinstance(body, Generator) else body) as response,
    ):
        return response.status


def _asynchronous(body: Any) -> Any:
    """Asynchronous clients take no generator but an asynchronous one."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in body:
            yield piece

    return body if isinstance(body, str | bytes | None) else pieces()


Send = Callable[..., int]


def on_asyncio(sends: Any) -> Send:
    return partial(anyio.run, sends)


with_aiohttp = on_asyncio(aiohttp_sends)
SENDERS = {
    "requests": with_requests,
    "httpx": with_httpx,
    "httpx on asyncio": on_asyncio(httpx_sends),
    "urllib3": with_urllib3,
    "aiohttp": with_aiohttp,
}
every_client = pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)


# The header


@every_client
def test_the_header_is_set(send: Send, reader: TokenReader, api: Api) -> None:
    assert send(reader, "GET", api.url) == 200
    assert api.received == [Received("GET", "/api", "Bearer access-1", b"")]


def test_without_an_argument_the_token_is_that_of_bearer_token() -> None:
    for kind in (RequestsAuth, HttpxAuth, Urllib3Auth, AiohttpAuth):
        assert repr(kind()).endswith(f"({process_reader()!r})")


# Where the token may go


API_URL = f"{VIRTUOUS}/api"
HTTP = "http://api.virtuoussoftware.com"
MOCK = "http://virtuous-mock:8080"
NO_ADDRESSES = ("not a URL", "https://example.com:port", "example.com", "ftp://example.com", "https:///api")


@pytest.mark.parametrize(
    ("url", "base_url", "allow_http", "is_trusted"),
    [
        pytest.param(API_URL, None, False, True, id="https, and nobody knows the host"),
        pytest.param("http://127.0.0.1:8080/api", None, False, True, id="loopback"),
        pytest.param("http://[::1]:8080/api", None, False, True, id="loopback by IPv6"),
        pytest.param("http://api.localhost/api", None, False, True, id="loopback by name"),
        pytest.param("https://API.VirtuousSoftware.com.:443", f"{VIRTUOUS}/", False, True, id="the host otherwise"),
        pytest.param(HTTP, None, False, False, id="http"),
        pytest.param("http://127.0.0.1.example.com/api", None, False, False, id="a name that begins like loopback"),
        pytest.param("ftp://localhost/api", None, False, False, id="another scheme"),
        pytest.param("https://example.com/api", VIRTUOUS, False, False, id="another host"),
        pytest.param(f"{VIRTUOUS}.example.com", VIRTUOUS, False, False, id="a host that begins like it"),
        pytest.param("https://xapi.virtuoussoftware.com", VIRTUOUS, False, False, id="a host that ends like it"),
        pytest.param(f"{VIRTUOUS}:8443/api", VIRTUOUS, False, False, id="another port"),
        pytest.param("http://localhost/api", VIRTUOUS, False, False, id="loopback where the host is known"),
        pytest.param(MOCK, None, True, True, id="http where it is allowed"),
        pytest.param(MOCK, MOCK, True, True, id="http where it is allowed, to the token's own address"),
        pytest.param(MOCK, VIRTUOUS, True, False, id="http where it is allowed, to another"),
        *(
            pytest.param("https://example.com/api", none, False, False, id=f"no base URL: {none}")
            for none in NO_ADDRESSES
        ),
    ],
)
def test_which_url_gets_the_token(url: str, base_url: str | None, allow_http: bool, is_trusted: bool) -> None:
    request = requests.Request("GET", url).prepare()
    auth = RequestsAuth(StaticToken("access-1", base_url), allow_http=allow_http)
    with nullcontext() if is_trusted else pytest.raises(UntrustedURL, match="nothing was sent"):
        auth(request)
    assert request.headers.get("Authorization") == ("Bearer access-1" if is_trusted else None)


@every_client
def test_a_request_that_is_not_for_the_host_that_the_first_read_tells_is_not_sent(
    send: Send, source: OneBearer, reader: TokenReader, api: Api
) -> None:
    source.value = json.dumps({"access_token": "access-1", "base_url": VIRTUOUS})
    with pytest.raises(UntrustedURL):
        send(reader, "GET", api.url)
    assert api.received == []


@every_client
def test_a_url_that_parsers_read_differently_does_not_get_the_token(send: Send, api: Api) -> None:
    misleading = f"{api.url.removesuffix('/api')}\\@api.virtuoussoftware.com/api"
    # Some clients refuse such a URL themselves.
    with pytest.raises((UntrustedURL, ValueError, httpx.HTTPError, aiohttp.ClientError, requests.RequestException)):
        send(StaticToken("access-1", VIRTUOUS), "GET", misleading)
    assert api.tokens in ([], [None])


@every_client
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another host", "another port"])
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_after_a_redirect_to_another_host_a_401_says_nothing_about_the_token(
    send: Send, source: OneBearer, reader: TokenReader, api: Api, serve: Callable[[], Api], host: str, hops: int
) -> None:
    elsewhere = serve()
    api.redirects["/api"] = (307, elsewhere.url.replace("127.0.0.1", host))
    if hops == 2:
        elsewhere.redirects["/api"] = (302, "/there")
    if hops == 3:  # and back
        elsewhere.redirects["/api"] = (302, f"{api.url}/back")
    reader.token()
    source.rotate()
    if send is with_aiohttp:  # it can't tell a redirect from a new request
        with pytest.raises(UntrustedURL):
            send(reader, "GET", api.url)
        assert elsewhere.tokens == []
    else:
        assert send(reader, "GET", api.url) == 401
        assert elsewhere.tokens + api.tokens[1:] == [None] * min(hops, 2)
    assert source.reads == 1


@every_client
def test_a_token_for_loopback_is_not_given_to_a_proxy(
    send: Send, reader: TokenReader, api: Api, serve: Callable[[], Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve().url.removesuffix("/api")
    if send in (with_urllib3, with_aiohttp):  # these ask no environment
        monkeypatch.setattr(urllib3, "PoolManager", lambda: urllib3.ProxyManager(proxy))
        request = aiohttp.ClientSession.request
        monkeypatch.setattr(aiohttp.ClientSession, "request", lambda *a, **kw: request(*a, **kw, proxy=proxy))
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UntrustedURL, match="NO_PROXY"):
        send(reader, "GET", api.url)
    assert api.received == []


# After a 401


@every_client
@pytest.mark.parametrize("body", [None, b'{"contact": 1}', "name=Asa"], ids=["no body", "bytes", "text"])
def test_after_a_401_another_token_is_tried_once(
    body: bytes | str | None, send: Send, source: OneBearer, rotated: TokenReader, api: Api
) -> None:
    assert send(rotated, "POST", api.url, body) == 200
    wire = body.encode() if isinstance(body, str) else body or b""
    assert api.received == [Received("POST", "/api", f"Bearer access-{generation}", wire) for generation in (1, 2)]
    assert source.reads == 2


@every_client
@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        pytest.param("access-1", ["access-1"], id="the same token is not sent again"),
        pytest.param("access-2", ["access-1", "access-2"], id="the second 401 is the caller's"),
        pytest.param(None, ["access-1"], id="the read fails"),
    ],
)
def test_a_401_that_nothing_mends_is_the_callers(
    stored: str | None, sent: list[str], send: Send, source: OneBearer, reader: TokenReader, api: Api
) -> None:
    reader.token()
    source.value = json.dumps({"access_token": stored}) if stored else "spoiled"
    api.accepted = "another"
    assert send(reader, "POST", api.url, b"body") == 401
    assert api.tokens == [f"Bearer {token}" for token in sent]
    assert source.reads == 2


class Pipe(io.RawIOBase):
    """A file that can be read once."""

    def __init__(self) -> None:
        self._pieces = [b"once only"]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._pieces.pop() if self._pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


@every_client
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda: (piece for piece in (b"once ", b"only")), id="a generator"),
        pytest.param(lambda: io.BufferedReader(Pipe()), id="a pipe"),
    ],
)
def test_a_401_to_a_body_that_cannot_be_sent_again_is_learned_from(
    body: Callable[[], Any], send: Send, source: OneBearer, rotated: TokenReader, api: Api
) -> None:
    statuses = [send(rotated, "POST", api.url, body() if step < 2 else None) for step in range(3)]
    assert statuses == [401, 200, 200]
    assert [request.body for request in api.received] == [b"once only", b"once only", b""]
    assert source.reads == 2


@pytest.mark.parametrize("send", [with_requests, with_urllib3])
def test_a_file_is_sent_again_from_where_it_began(send: Send, rotated: TokenReader, api: Api) -> None:
    file = io.BytesIO(b"skipped and sent")
    file.seek(len(b"skipped "))
    assert send(rotated, "POST", api.url, file) == 200
    assert [request.body for request in api.received] == [b"and sent", b"and sent"]


@every_client
@pytest.mark.parametrize(
    ("method", "status", "expected", "sent"),
    [
        pytest.param("GET", 302, 200, ["GET /api", "GET /moved", "GET /moved"], id="a GET"),
        pytest.param("POST", 303, 200, ["POST /api", "GET /moved", "GET /moved"], id="a POST, seen elsewhere"),
        pytest.param("POST", 307, 401, ["POST /api", "POST /moved"], id="a POST that is redirected as a POST"),
    ],
)
def test_after_a_redirect_only_a_refused_get_is_sent_again(
    send: Send, rotated: TokenReader, api: Api, method: str, status: int, expected: int, sent: list[str]
) -> None:
    api.redirects["/api"] = (status, "/moved?page=2#end")
    if send is with_urllib3:  # which repeats nothing after a redirect
        expected, sent = 401, sent[:2]
    assert send(rotated, method, api.url, b"body" if method == "POST" else None) == expected
    assert [f"{request.method} {request.path.removesuffix('?page=2')}" for request in api.received] == sent
    assert api.received[-1].body == (b"body" if status == 307 else b"")
    assert rotated.token() == "access-2"


def test_aiohttp_sends_the_token_to_the_first_host_alone_where_nobody_knows_the_host(
    api: Api, serve: Callable[[], Api]
) -> None:
    async def story(*urls: str) -> None:
        async with aiohttp.ClientSession(middlewares=[AiohttpAuth(StaticToken("access-1"))]) as session:

            async def get(url: str) -> None:
                async with session.get(url):
                    pass

            for url in urls:
                # As a middleware that ends requests which take too long: a redirect is a new request in a new task.
                await asyncio.create_task(get(url))

    elsewhere = serve()
    with pytest.raises(UntrustedURL, match="the token is for http"):
        asyncio.run(story(api.url, api.url, elsewhere.url))
    assert (api.tokens, elsewhere.tokens) == (["Bearer access-1"] * 2, [])


# urllib3's own


def test_urllib3_keeps_repeated_headers_and_those_of_the_pool(rotated: TokenReader, api: Api) -> None:
    headers = urllib3.HTTPHeaderDict([("X-From", "one"), ("X-From", "two"), ("authorization", "Basic xyz")])
    with urllib3.PoolManager(headers={"X-From": "the pool"}) as pool:
        Urllib3Auth(rotated, pool).request("GET", api.url, headers=headers)
        Urllib3Auth(rotated, pool).request("GET", api.url)
    # urllib3 joins what it is given twice, or sends it twice: both say the same.
    assert [", ".join(request.x_from) for request in api.received] == ["one, two", "one, two", "the pool"]
    assert api.tokens == ["Bearer access-1", "Bearer access-2", "Bearer access-2"]


@pytest.mark.parametrize(
    ("call", "body"),
    [
        pytest.param(lambda pool, url: pool.request("POST", url, json={"a": 1}), b'{"a":1}', id="json"),
        pytest.param(lambda pool, url: pool.request("GET", url, fields={"a": "1"}), b"", id="fields in the URL"),
        pytest.param(lambda pool, url: pool.urlopen("POST", url, body=b"x"), b"x", id="urlopen"),
    ],
)
def test_urllib3_has_the_verbs_of_its_pool(
    call: Callable[[Urllib3Auth, str], Any], body: bytes, rotated: TokenReader, api: Api
) -> None:
    with Urllib3Auth(rotated) as pool:
        assert call(pool, api.url).status == 200
    assert api.tokens == ["Bearer access-1", "Bearer access-2"]
    assert [request.body for request in api.received] == [body, body]


@pytest.mark.parametrize("is_the_pools", [False, True], ids=["of the request", "of the pool"])
def test_urllib3_leaves_a_401_to_the_auth_object_where_a_retry_would_repeat_it(
    is_the_pools: bool, rotated: TokenReader, api: Api
) -> None:
    retries = urllib3.Retry(3, status_forcelist=[401, 503])
    options = {} if is_the_pools else {"retries": retries}
    with urllib3.PoolManager(retries=retries) if is_the_pools else urllib3.PoolManager() as pool:
        assert Urllib3Auth(rotated, pool).request("GET", api.url, **options).status == 200
    assert api.tokens == ["Bearer access-1", "Bearer access-2"]


def test_urllib3_loses_the_token_with_the_host_whatever_else_a_retry_removes(
    reader: TokenReader, api: Api, serve: Callable[[], Api]
) -> None:
    elsewhere = serve()
    api.redirects["/api"] = (302, elsewhere.url)
    retries = urllib3.Retry(3, remove_headers_on_redirect=["X-Own"])
    with urllib3.PoolManager(retries=retries) as pool:
        Urllib3Auth(reader, pool).request("GET", api.url)
        Urllib3Auth(reader, pool).request("GET", api.url, retries=retries)
    assert elsewhere.tokens == [None, None]


# What keeps quiet


def test_answers_of_requests_have_their_history_and_can_be_pickled_and_copied(rotated: TokenReader, api: Api) -> None:
    answer = requests.get(api.url, auth=RequestsAuth(rotated), timeout=10)
    assert [earlier.status_code for earlier in answer.history] == [401]
    for copied in (pickle.loads(pickle.dumps(answer)), copy.deepcopy(answer)):
        assert (copied.status_code, len(copied.history)) == (200, len(answer.history))
        with requests.Session() as session:
            assert session.send(copied.request).status_code == 200  # the request of a copy can still be sent
    assert b"virtuous_token" not in pickle.dumps(answer.request.hooks)
    assert "access-" not in repr(answer.request.hooks)


@every_client
@pytest.mark.parametrize("trouble", ["nobody listens", "untrusted", "no token", "refused, then nobody listens"])
def test_no_local_of_ours_shows_a_token_when_a_request_fails(
    send: Send, source: OneBearer, reader: TokenReader, trouble: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
        if trouble == "untrusted":
            url = "http://192.0.2.1/api"
        if trouble == "no token":
            source.value = "spoiled"
        with ExitStack() as open_now:
            if trouble == "refused, then nobody listens":
                reader.token()
                source.rotate()
                url = open_now.enter_context(serving(_RefusesAndHangsUp))
            with pytest.raises(Exception) as raised:  # noqa: PT011 - each client has errors of its own
                send(reader, "GET", url)
    ours = [frame for frame in frames_of(raised.value) if frame.f_code.co_filename.startswith(PACKAGE)]
    assert "access-" not in repr([frame.f_locals for frame in ours])
    assert ours or send not in (with_requests, with_urllib3) or trouble == "nobody listens"


class _RefusesAndHangsUp(JsonHandler):
    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        if self.headers["Authorization"] == "Bearer access-1":
            self.answer(401, {})
        else:
            self.close_connection = True


# Event loops


@pytest.mark.parametrize(
    ("sends", "backend"),
    [
        pytest.param(httpx_sends, "asyncio", id="httpx on asyncio"),
        pytest.param(httpx_sends, "trio", id="httpx on trio"),
        pytest.param(aiohttp_sends, "asyncio", id="aiohttp"),
    ],
)
def test_nothing_that_waits_is_called_on_an_event_loop(
    sends: Callable[..., Any], backend: str, rotated: TokenReader, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated.forget()
    for waits in ("token", "access_token", "report_rejected"):
        monkeypatch.setattr(TokenReader, waits, None)
    assert anyio.run(sends, rotated, "GET", api.url, backend=backend) == 200


def test_aiohttp_closes_a_refused_answer_where_the_wait_that_follows_is_cancelled() -> None:
    closed = threading.Event()

    class Handler(JsonHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            self.send_response(401)
            self.send_header("Content-Length", "10")  # which never come
            self.end_headers()
            if self.rfile.read(1) == b"":
                closed.set()

    class Waiting(StaticToken):
        async def async_report_rejected(self, token: str, timeout: float | None = None) -> bool:
            await asyncio.Event().wait()
            return False

    async def story() -> bool:
        async with aiohttp.ClientSession(middlewares=[AiohttpAuth(Waiting("refused"))]) as session:
            asked = asyncio.create_task(session.get(url))
            await asyncio.wait([asked], timeout=0.2)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError) as kept:  # and with it the frames, and the answer in them
                await asked
            return await asyncio.to_thread(closed.wait, 5) and kept is not None

    with serving(Handler) as url:
        assert asyncio.run(story())
