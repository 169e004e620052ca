"""One request to Virtuous through a real socket: what is sent, and that every way it can end is a result in time."""

import contextlib
import gzip
import json
import logging
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.fakes import virtuous as fake
from tests.fakes.relay import Relay, certificate
from tests.fakes.virtuous import Step, Virtuous
from tests.leak_harness import LeakHarness
from token_refresher import __version__
from token_refresher.refresh.model import Answer, Denied, Ending, Granted, NotGranted, Proved, Unclear
from token_refresher.virtuous.endpoint import TokenEndpoint
from token_refresher.virtuous.judgement import LARGEST_BODY, read_object
from virtuous_token.secret_text import SecretText

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
SHORT = 0.4  # seconds: the bound of a request where a test waits for it to be reached
SLACK = 2.0  # what a busy machine may add to it
HOST = "virtuous.example"  # a name that nobody has
TOO_LONG = NotGranted(Ending.UNREACHABLE, "connecting took too long")


@pytest.fixture
def virtuous() -> Iterator[Virtuous]:
    with Virtuous(now=NOW.timestamp) as stand_in:
        yield stand_in


@pytest.fixture
def endpoint(virtuous: Virtuous) -> TokenEndpoint:
    return endpoint_of(virtuous.base_url)


def endpoint_of(base_url: str, **settings: Any) -> TokenEndpoint:
    return TokenEndpoint(base_url, clock=lambda: NOW, **settings)


def refresh(endpoint: TokenEndpoint, virtuous: Virtuous) -> Answer:
    """A refresh with a refresh token that the stand-in issued."""
    return endpoint.refresh(SecretText(str(virtuous.issue_pair()["refresh_token"])))


@contextlib.contextmanager
def in_time(seconds: float = SHORT) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + SLACK


def test_a_refresh_is_one_url_encoded_post(endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
    token = str(virtuous.issue_pair()["refresh_token"])
    assert isinstance(endpoint.refresh(SecretText(token)), Granted)
    [request] = virtuous.requests
    assert (request.method, request.path) == ("POST", "/Token")
    assert request.form() == {"grant_type": "refresh_token", "refresh_token": token}
    headers = {name.lower(): value for name, value in request.headers}
    assert headers.pop("host") == f"127.0.0.1:{virtuous.port}"
    assert headers.pop("content-length") == str(len(request.body))
    assert headers == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "close",
        "content-type": "application/x-www-form-urlencoded",
        "user-agent": f"virtuous-token-refresher/{__version__}",
    }


def test_a_login_is_decoded_as_it_was_typed_and_names_its_code_otp() -> None:
    user, password = "zoë+b@x.org", "  a&b=c;d+e%2B'\"<>pässwörd-€-\U0001f600\nend\tand\x00nul  "
    with Virtuous(user=user, password=password, two_factor=True, now=NOW.timestamp) as virtuous:
        endpoint, secret = endpoint_of(virtuous.base_url), SecretText(password)
        assert endpoint.log_in(user, secret) == NotGranted(Ending.CODE_NEEDED, "one-time code needed")
        assert isinstance(endpoint.log_in(user, secret, SecretText(virtuous.one_time_code)), Granted)
        first, second = virtuous.requests
        form = {"grant_type": "password", "username": user, "password": password}
        assert (first.form(), second.form()) == (form, form | {"otp": virtuous.one_time_code})
        assert b"+" not in first.body


def test_what_cannot_be_sent_is_refused_unsent(
    endpoint: TokenEndpoint, virtuous: Virtuous, harness: LeakHarness
) -> None:
    password = harness.secret("password-\udce9")
    wrong = NotGranted(Ending.MISCONFIGURED, "a credential holds half a surrogate pair")
    assert endpoint.log_in("me@x.org", SecretText(password)) == wrong
    assert endpoint.refresh(SecretText("refresh-\ud800")) == wrong
    for token in ("two words", "line\nend", "half\ud800", ""):
        denied = harness.watch(endpoint.prove(SecretText(harness.secret(token))))
        assert denied == Denied("the access token holds a character that no header may carry")
    assert virtuous.requests == []


def test_the_proof_is_one_get_with_the_token_in_its_header(endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
    token = str(virtuous.issue_pair()["access_token"])
    assert endpoint.prove(SecretText(token)) == Proved("4711", "Example Relief", True)
    [request] = virtuous.requests
    assert (request.method, request.path, request.body) == ("GET", "/api/Organization/Current", b"")
    assert request.header("Authorization") == f"Bearer {token}"


def test_a_redirect_is_not_followed(endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
    with Virtuous() as elsewhere:
        redirect = fake.redirect(f"{elsewhere.base_url}/Token", 307)
        virtuous.script(redirect)
        virtuous.script_organization(redirect)
        assert refresh(endpoint, virtuous) == NotGranted(Ending.MISCONFIGURED, "HTTP 307")
        assert endpoint.prove(SecretText("access-1")) == Unclear("HTTP 307")
        assert elsewhere.requests == []
    assert len(virtuous.requests) == 2


CHUNKED = "Transfer-Encoding: chunked"


def ok(*lines: str) -> bytes:
    """The head of a good answer."""
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def chunks(body: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:], b""))


BROKEN = NotGranted(Ending.UNKNOWN, "the connection broke before the answer")
CUT_SHORT = NotGranted(Ending.UNKNOWN, "HTTP 200 cut short")
WAYS_TO_END: dict[str, tuple[Step, NotGranted]] = {
    "throttled": (fake.throttled(847), NotGranted(Ending.THROTTLED, "HTTP 429", timedelta(seconds=847))),
    "lost by a reset": (fake.answer_lost("reset"), BROKEN),
    "lost by a close": (fake.answer_lost("closed"), BROKEN),
    "another protocol": (fake.raw(b"SSH-2.0-x\r\n"), BROKEN),
    "a header without an end": (fake.raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000), BROKEN),
    "truncated": (fake.truncated(), CUT_SHORT),
    "truncated in a chunk": (fake.truncated(chunked=True), CUT_SHORT),
    "no size of a chunk": (fake.raw(ok(CHUNKED) + b"zz\r\n{}"), CUT_SHORT),
}


@pytest.mark.parametrize("way", WAYS_TO_END)
def test_each_way_to_end_is_a_result_of_one_post(way: str, endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
    step, answer = WAYS_TO_END[way]
    virtuous.script(step)
    assert refresh(endpoint, virtuous) == answer
    assert len(virtuous.token_requests) == 1


@pytest.mark.parametrize(
    "step",
    [fake.answer_lost("hang"), fake.drip(SHORT / 4, head=True), fake.drip(SHORT / 4)],
    ids=["no answer", "a dripping head", "a dripping body"],
)
def test_no_answer_takes_longer_than_the_bound_and_no_thread_is_left(step: Step) -> None:
    before = threading.active_count()
    with Virtuous(now=NOW.timestamp) as virtuous, in_time():
        virtuous.script(step)
        answer = refresh(endpoint_of(virtuous.base_url, request_seconds=SHORT), virtuous)
    assert isinstance(answer, NotGranted)
    assert answer.ending is Ending.UNKNOWN
    assert threading.active_count() == before


SHORTER = fake.raw(ok("Content-Length: 9999") + b'{"refresh_token":"refresh-2"}')


@pytest.mark.parametrize(
    "step",
    [fake.truncated(10**6, chunked=True, how="reset"), fake.endless(), SHORTER],
    ids=["a reset", "an endless body", "a body that is shorter than its length"],
)
def test_tokens_that_arrived_whole_are_kept_though_the_end_is_missing(
    step: Step, endpoint: TokenEndpoint, virtuous: Virtuous
) -> None:
    virtuous.script(step)
    with in_time():
        answer = refresh(endpoint, virtuous)
    assert isinstance(answer, Granted)
    assert "the answer's end is missing" in answer.oddities


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "no length": lambda body: ok() + body,
    "a length that is no number": lambda body: ok("Content-Length: many") + body,
    "chunked": lambda body: ok(CHUNKED) + chunks(body),
    "chunked without the last chunk": lambda body: ok(CHUNKED) + chunks(body)[:-7],
    "chunked and a length": lambda body: ok("Content-Length: 3", CHUNKED) + chunks(body),
    "gzip in chunks": lambda body: ok("Content-Encoding: gzip", CHUNKED) + chunks(gzip.compress(body)),
    "gzip named deflate": lambda body: ok("Content-Encoding: deflate") + gzip.compress(body),
    "gzip that no header names": lambda body: ok() + gzip.compress(body),
    "gzip in two members": lambda body: ok() + gzip.compress(body[:5]) + gzip.compress(body[5:]),
    "gzip without its checksum": lambda body: ok("Content-Encoding: gzip") + gzip.compress(body)[:-8],
    "gzip with a wrong checksum": lambda body: ok() + gzip.compress(body)[:-8] + b"wrong sum",
    "zlib": lambda body: ok("Content-Encoding: deflate") + zlib.compress(body),
    "raw deflate": lambda body: ok("Content-Encoding: deflate") + zlib.compress(body, wbits=-15),
    "no compression where one is named": lambda body: ok("Content-Encoding: gzip") + body,
    "UTF-16 without a mark": lambda body: ok() + body.decode().encode("utf-16-le"),
}


@pytest.mark.parametrize("way", FRAMINGS)
def test_a_body_is_read_however_it_was_framed(way: str, endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
    tokens = {"access_token": "access-2", "refresh_token": "refresh-2", "token_type": "bearer", "expires_in": 3599}
    virtuous.script(fake.raw(FRAMINGS[way](json.dumps(tokens).encode()), granted=True))
    answer = refresh(endpoint, virtuous)
    assert isinstance(answer, Granted)
    assert (answer.access_token, answer.refresh_token) == (SecretText("access-2"), SecretText("refresh-2"))
    organization = {"organizationUserId": 4711, "organizationName": "Example Relief", "isEnabled": True}
    virtuous.script_organization(fake.raw(FRAMINGS[way](json.dumps(organization).encode())))
    proof = endpoint.prove(SecretText("access-2"))
    assert isinstance(proof, Proved)
    assert (proof.organization_id, proof.organization_name) == ("4711", "Example Relief")


@pytest.mark.parametrize("pattern", [b"1", b"\n", b"1\nx\n", b'{"a":', b" ", gzip.compress(b" " * 20_000_000)])
def test_the_largest_body_of_anything_takes_seconds_and_little_memory(pattern: bytes) -> None:
    tracemalloc.start()
    with in_time(18):
        read_object(pattern * (LARGEST_BODY // len(pattern)))
    assert tracemalloc.get_traced_memory()[1] < 40 * LARGEST_BODY
    tracemalloc.stop()


def test_the_clock_is_asked_before_the_request(virtuous: Virtuous) -> None:
    times = iter([NOW, NOW + timedelta(days=1)])
    answer = refresh(TokenEndpoint(virtuous.base_url, clock=lambda: next(times)), virtuous)
    assert isinstance(answer, Granted)
    assert (answer.issued_at, answer.clock_skew) == (NOW, timedelta())


def reason_of(endpoint: TokenEndpoint) -> str:
    """Why a refresh and a proof sent nothing."""
    answer, proof = endpoint.refresh(SecretText("refresh-1")), endpoint.prove(SecretText("access-1"))
    assert isinstance(answer, NotGranted)
    assert (answer.ending, proof) == (Ending.UNREACHABLE, Unclear(answer.reason))
    return answer.reason


@pytest.mark.parametrize(
    ("url", "proxy", "reason"),
    [
        ("http://127.0.0.1:1", None, "the host refused the connection or cannot be reached"),
        (f"https://{HOST}", None, "the host's name was not found"),
        (f"https://{HOST}", "http://127.0.0.1:1", "the proxy refused the connection or cannot be reached"),
        (f"https://{HOST}", f"http://{HOST}", "the proxy's name was not found"),
    ],
)
def test_who_cannot_be_reached_is_named(
    url: str, proxy: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert reason_of(endpoint_of(url)) == reason


def test_a_resolver_that_hangs_is_bounded_and_what_it_finds_later_is_not_used(
    virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, may_answer = socket.getaddrinfo, threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **named: may_answer.wait(30) and resolve(*args, **named))
    before = set(threading.enumerate())
    with in_time():
        assert refresh(endpoint_of(virtuous.base_url, connect_seconds=SHORT), virtuous) == TOO_LONG
    may_answer.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(SLACK)
    assert virtuous.requests == []


def test_an_error_that_nobody_foresaw_has_sent_nothing(
    endpoint: TokenEndpoint, virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: None)
    assert reason_of(endpoint) == "the connection broke before it stood"
    assert virtuous.requests == []


@contextlib.contextmanager
def swallowing_packets(port: int, count: int) -> Iterator[list[str]]:
    """Addresses with listeners whose queues are full: they answer nothing, like hosts that drop packets."""
    addresses = [f"127.0.0.{number + 2}" for number in range(count)]
    with contextlib.ExitStack() as stack:
        for address in addresses:
            listener = stack.enter_context(socket.socket())
            listener.bind((address, port))
            listener.listen(0)
            for _ in range(2):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((address, port))
        yield addresses


def test_addresses_that_swallow_packets_or_refuse_hide_no_good_one(
    virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = endpoint_of(virtuous.base_url, connect_seconds=SLACK)
    with swallowing_packets(virtuous.port, 3) as silent:
        bad = [*silent, *(f"127.0.1.{number}" for number in range(1, 20))]
        for addresses, answer in ([*bad, "127.0.0.1"], Granted), (bad, NotGranted):
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, virtuous.port)) for name in addresses]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=found, **__: found)
            with in_time(SLACK):
                assert isinstance(refresh(endpoint, virtuous), answer)
    assert len(virtuous.token_requests) == 1


def test_a_handshake_that_never_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, in_time():
        endpoint = endpoint_of(f"https://127.0.0.1:{silent.getsockname()[1]}", connect_seconds=SHORT)
        assert endpoint.refresh(SecretText("refresh-1")) == TOO_LONG


def test_a_server_that_proves_nothing_by_tls(virtuous: Virtuous, tmp_path: Path) -> None:
    assert reason_of(endpoint_of(f"https://127.0.0.1:{virtuous.port}")) == "TLS failed"
    for named, reason in (("localhost", "TLS: self-signed certificate"), (HOST, "TLS: Hostname mismatch")):
        server, client = certificate(tmp_path, named)
        with Relay(virtuous.port, tls=server) as relay:
            trusted = client if named == HOST else None
            assert reason_of(endpoint_of(f"https://localhost:{relay.port}", ssl_context=trusted)).startswith(reason)
    assert virtuous.requests == []


def via(proxy: Relay, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> TokenEndpoint:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{quote('p€ss@wörd')}@127.0.0.1:{proxy.port}")
    return endpoint_of(f"https://{HOST}", **settings)


def test_the_roots_are_those_of_ssl_cert_file(
    virtuous: Virtuous, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty variable, which CloudFormation makes of an empty parameter, leaves the system's."""
    server, _ = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with Relay(virtuous.port, tls=server) as relay:
        assert isinstance(refresh(endpoint_of(f"https://localhost:{relay.port}"), virtuous), Granted)
        system = ssl.get_default_verify_paths()._replace(openssl_cafile=str(tmp_path / "certificate.pem"))
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: system)
        monkeypatch.setenv("SSL_CERT_FILE", "")
        assert isinstance(refresh(endpoint_of(f"https://localhost:{relay.port}"), virtuous), Granted)


def test_a_dripping_answer_over_tls_is_bounded(virtuous: Virtuous, tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "localhost")
    virtuous.script(fake.drip(SHORT / 4, head=True))
    with Relay(virtuous.port, tls=server) as relay, in_time():
        endpoint = endpoint_of(f"https://localhost:{relay.port}", ssl_context=client, request_seconds=SHORT)
        assert refresh(endpoint, virtuous) == NotGranted(Ending.UNKNOWN, "no answer in time")


def test_a_proxy_sees_the_host_its_credentials_and_nothing_of_the_request(
    virtuous: Virtuous, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harness: LeakHarness
) -> None:
    server, client = certificate(tmp_path, HOST)
    harness.secret("p€ss@wörd")
    with Relay(virtuous.port, tls=server) as relay, Relay(relay.port) as proxy:
        answer = refresh(via(proxy, monkeypatch, ssl_context=client), virtuous)
    assert isinstance(harness.watch(answer), Granted)
    [head] = proxy.heads
    assert head.startswith(f"CONNECT {HOST}:443 HTTP/1.".encode())
    assert b"Basic %b\r\n" % b64encode("user:p€ss@wörd".encode()) in head
    assert len(virtuous.token_requests) == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("HTTP/1.1 407 Who are you", "the proxy answered HTTP 407"),
        ("SSH-2.0-server", "the proxy gave no answer of HTTP"),
        ("", "the proxy gave no answer of HTTP"),
    ],
)
def test_what_a_proxy_refuses_is_told_by_its_status(
    said: str, reason: str, virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch, harness: LeakHarness
) -> None:
    harness.secret("p€ss@wörd")
    body = harness.secret("the-page-of-the-proxy")
    with Relay(virtuous.port, answer=f"{said}\r\n\r\n{body}".encode() if said else b"") as proxy:
        assert harness.watch(reason_of(via(proxy, monkeypatch))) == reason
    assert virtuous.requests == []


def test_a_dripping_proxy_is_bounded_and_keeps_no_thread(virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    with Relay(virtuous.port, drip_seconds=SHORT / 2) as proxy:
        with in_time():
            assert refresh(via(proxy, monkeypatch, connect_seconds=SHORT), virtuous) == TOO_LONG
        with in_time():  # the whole answer would take 8 seconds
            for thread in [one for one in set(threading.enumerate()) - before if one.name == "virtuous-connect"]:
                thread.join()


def test_neither_loopback_nor_what_no_proxy_names_is_proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    with Relay(1) as proxy:
        via(proxy, monkeypatch).refresh(SecretText("refresh-1"))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        for url in ("http://127.0.0.1:1", "https://localhost:1", "https://[::1]:1"):
            endpoint_of(url).refresh(SecretText("refresh-1"))
        for named in (HOST, ".example", f"other.example, {HOST}", "*", f"{HOST}:443"):
            monkeypatch.setenv("NO_PROXY", named)
            via(proxy, monkeypatch).refresh(SecretText("refresh-1"))
    assert len(proxy.heads) == 1


def test_answers_that_echo_the_password_show_it_nowhere_with_urllib3_at_debug(
    endpoint: TokenEndpoint, virtuous: Virtuous, harness: LeakHarness
) -> None:
    harness.hears_libraries = True
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    password = virtuous.password
    steps = [
        fake.reply(400, f'{{"error":"invalid_grant","error_description":"{password}"}}'),
        fake.reply(400, f'{{"error":"{password}"}}'),
        fake.reply(500, password, {"Retry-After": password, "Date": password}),
        fake.raw(f"HTTP/1.1 400 {password}\r\n\r\n".encode()),
        fake.raw(f"HTTP/1.1 200 OK\r\nSet-Cookie: {password}\r\n{password}\r\nA: b\r\n\r\n{{}}".encode()),
        fake.truncated(),
        fake.answer_lost("reset"),
    ]
    virtuous.script(*steps)
    for _ in steps:
        assert isinstance(harness.watch(endpoint.log_in(virtuous.user, SecretText(password))), NotGranted)
    assert isinstance(harness.watch(endpoint.log_in(virtuous.user, SecretText(password))), Granted)
    assert isinstance(harness.watch(refresh(endpoint, virtuous)), Granted)
    harness.watch(endpoint.prove(SecretText(str(virtuous.issue_pair()["access_token"]))))
