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
from datetime import UTC, datetime
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
from token_refresher.virtuous.body import LARGEST_BODY, readable_body
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.secret_text import SecretText

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
SHORT = 0.4  # seconds: the bound of a request where a test waits for it to be reached
SLACK = 2.0  # what a busy machine may add to it
HOST = "virtuous.test"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def virtuous() -> Iterator[Virtuous]:
    with Virtuous(now=NOW.timestamp) as stand_in:
        yield stand_in


@pytest.fixture
def endpoint(virtuous: Virtuous) -> TokenEndpoint:
    return endpoint_of(virtuous.base_url)


def endpoint_of(base_url: str, **settings: Any) -> TokenEndpoint:
    return TokenEndpoint(base_url, clock=lambda: NOW, **settings)


def ending_of(answer: Answer) -> Ending | None:
    return answer.ending if isinstance(answer, NotGranted) else None


def log_in(endpoint: TokenEndpoint, virtuous: Virtuous) -> Answer:
    return endpoint.log_in(virtuous.user, SecretText(virtuous.password))


def refresh(endpoint: TokenEndpoint, virtuous: Virtuous) -> Answer:
    """A refresh with a refresh token that the stand-in issued."""
    return endpoint.refresh(SecretText(str(virtuous.issue_pair()["refresh_token"])))


class TestWhatIsSent:
    def test_a_refresh_is_one_url_encoded_post(self, endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
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

    def test_a_login_with_a_code_names_it_otp(self) -> None:
        with Virtuous(two_factor=True, now=NOW.timestamp) as virtuous:
            endpoint = endpoint_of(virtuous.base_url)
            assert log_in(endpoint, virtuous) == NotGranted(Ending.CODE_NEEDED, "one-time code needed")
            code = SecretText(virtuous.last_code)
            assert isinstance(endpoint.log_in(virtuous.user, SecretText(virtuous.password), code), Granted)
            assert [sorted(request.form()) for request in virtuous.requests] == [
                ["grant_type", "password", "username"],
                ["grant_type", "otp", "password", "username"],
            ]

    @pytest.mark.parametrize(
        ("username", "password"),
        [
            pytest.param("me@x.org", "a&b=c;d%e", id="the form's own signs"),
            pytest.param("me@x.org", "already %2B encoded", id="what looks encoded is encoded again"),
            pytest.param("me@x.org", "smile-\U0001f600-smile", id="an emoji"),
            pytest.param("me@x.org", "line\nend\tand\x00nul", id="control characters"),
        ],
    )
    def test_what_is_decoded_is_what_was_typed(self, username: str, password: str) -> None:
        with Virtuous(users={username: password}, now=NOW.timestamp) as virtuous:
            assert isinstance(endpoint_of(virtuous.base_url).log_in(username, SecretText(password)), Granted)
            [request] = virtuous.requests
            assert request.form() == {"grant_type": "password", "username": username, "password": password}
            assert b"+" not in request.body

    def test_a_lone_surrogate_is_refused_unsent(
        self, endpoint: TokenEndpoint, virtuous: Virtuous, harness: LeakHarness
    ) -> None:
        password = harness.secret("password-\udce9")
        wrong = NotGranted(Ending.MISCONFIGURED, "a credential holds half a surrogate pair")
        assert endpoint.log_in("me@x.org", SecretText(password)) == wrong
        assert endpoint.refresh(SecretText("refresh-\ud800")) == wrong
        assert virtuous.requests == []

    def test_the_proof_is_one_get_with_the_token_in_its_header(
        self, endpoint: TokenEndpoint, virtuous: Virtuous
    ) -> None:
        token = str(virtuous.issue_pair()["access_token"])
        assert endpoint.prove(SecretText(token)) == Proved("4711", "Example Relief", True)
        [request] = virtuous.requests
        assert (request.method, request.path, request.body) == ("GET", "/api/Organization/Current", b"")
        assert request.header("Authorization") == f"Bearer {token}"

    @pytest.mark.parametrize("token", ["two words", "line\nend", '"quoted"', "'ticked'", "ümlaut", "half\ud800", ""])
    def test_a_token_that_no_header_may_carry_is_denied_unsent(
        self, token: str, endpoint: TokenEndpoint, virtuous: Virtuous, harness: LeakHarness
    ) -> None:
        harness.secret(token)
        denied = harness.watch(endpoint.prove(SecretText(token)))
        assert denied == Denied("the access token holds a character that no header may carry")
        assert virtuous.requests == []

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, status: int, endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
        with Virtuous() as elsewhere:
            redirect = fake.redirect(f"{elsewhere.base_url}/Token", status)
            virtuous.script(redirect, redirect)
            virtuous.script_organization(redirect)
            assert refresh(endpoint, virtuous) == NotGranted(Ending.MISCONFIGURED, f"HTTP {status}")
            assert log_in(endpoint, virtuous) == NotGranted(Ending.MISCONFIGURED, f"HTTP {status}")
            assert endpoint.prove(SecretText("access-1")) == Unclear(f"HTTP {status}")
            assert elsewhere.requests == []
        assert len(virtuous.requests) == 3


CODE = "one-time code needed"
BROKEN = "the connection broke before the answer"
WAYS_TO_END: dict[str, tuple[Step, Ending, str]] = {
    "refused": (fake.refused(), Ending.REFUSED, "invalid_grant"),
    "401 in Virtuous's words": (fake.denied(), Ending.REFUSED, "HTTP 401"),
    "a code is asked for": (fake.code_needed(), Ending.CODE_NEEDED, CODE),
    "a proxy's 502": (fake.bad_gateway(), Ending.UNKNOWN, "HTTP 502"),
    "lost by a reset": (fake.answer_lost("reset"), Ending.UNKNOWN, BROKEN),
    "lost by a close": (fake.answer_lost("closed"), Ending.UNKNOWN, BROKEN),
    "truncated": (fake.truncated(), Ending.UNKNOWN, "HTTP 200 cut short"),
    "truncated in a chunk": (fake.truncated(chunked=True), Ending.UNKNOWN, "HTTP 200 cut short"),
    "nothing at all": (fake.raw(b""), Ending.UNKNOWN, BROKEN),
    "another protocol": (fake.raw(b"SSH-2.0-x\r\n"), Ending.UNKNOWN, BROKEN),
    "a header without an end": (fake.raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000), Ending.UNKNOWN, BROKEN),
    "no size of a chunk": (
        fake.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
        Ending.UNKNOWN,
        "HTTP 200 cut short",
    ),
    "another protocol offered": (fake.raw(b"HTTP/1.1 101 Switching\r\n\r\n"), Ending.UNKNOWN, "HTTP 101"),
}


def chunks(body: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:], b""))


def ok(*lines: str) -> bytes:
    """The head of a good answer."""
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


CHUNKED = "Transfer-Encoding: chunked"
FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "a length": lambda body: ok(f"Content-Length: {len(body)}") + body,
    "no length": lambda body: ok() + body,
    "a length that is no number": lambda body: ok("Content-Length: many") + body,
    "a length that is too large": lambda body: ok("Content-Length: 100000") + body,
    "chunked": lambda body: ok(CHUNKED) + chunks(body),
    "chunked and a length": lambda body: ok("Content-Length: 3", CHUNKED) + chunks(body),
    "chunks without an end": lambda body: ok(CHUNKED) + chunks(body)[:-7],
    "gzip": lambda body: ok("Content-Encoding: gzip") + gzip.compress(body),
    "gzip in chunks": lambda body: ok("Content-Encoding: gzip", CHUNKED) + chunks(gzip.compress(body)),
    "gzip named deflate": lambda body: ok("Content-Encoding: deflate") + gzip.compress(body),
    "gzip that no header names": lambda body: ok() + gzip.compress(body),
    "gzip in two members": lambda body: ok() + gzip.compress(body[:5]) + gzip.compress(body[5:]),
    "zlib": lambda body: ok("Content-Encoding: deflate") + zlib.compress(body),
    "zlib named gzip": lambda body: ok("Content-Encoding: gzip") + zlib.compress(body),
    "raw deflate": lambda body: ok("Content-Encoding: deflate") + zlib.compress(body, wbits=-15),
    "no compression where one is named": lambda body: ok("Content-Encoding: gzip") + body,
    "an interim answer": lambda body: b"HTTP/1.1 100 Continue\r\n\r\n" + ok() + body,
    "UTF-16": lambda body: ok() + body.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda body: ok() + body.decode().encode("utf-16-le"),
}


def resolve_localhost_as(found: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **named: found if host == "localhost" else resolve(host, *rest, **named),
    )


class TestHowItEnds:
    @pytest.mark.parametrize("way", WAYS_TO_END)
    def test_each_way_to_end_is_a_result_of_one_post(
        self, way: str, endpoint: TokenEndpoint, virtuous: Virtuous
    ) -> None:
        step, ending, reason = WAYS_TO_END[way]
        virtuous.script(step)
        assert refresh(endpoint, virtuous) == NotGranted(ending, reason)
        assert len(virtuous.token_requests) == 1

    @pytest.mark.parametrize(
        "step",
        [
            pytest.param(fake.answer_lost("hang"), id="no answer"),
            pytest.param(fake.drip(SHORT / 4, head=True), id="a dripping head"),
            pytest.param(fake.drip(SHORT / 4), id="a dripping body"),
            pytest.param(fake.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 50) | fake.late(SHORT / 2), id="only 100s"),
        ],
    )
    def test_no_answer_takes_longer_than_the_bound(self, step: Step, virtuous: Virtuous) -> None:
        endpoint = endpoint_of(virtuous.base_url, request_seconds=SHORT)
        virtuous.script(step)
        started = time.monotonic()
        assert ending_of(refresh(endpoint, virtuous)) is Ending.UNKNOWN
        assert time.monotonic() - started < SHORT + SLACK

    @pytest.mark.parametrize(
        "step",
        [
            pytest.param(fake.headers({"Content-Length": "100000"}), id="closed early"),
            pytest.param(fake.truncated(10**6, chunked=True, how="reset"), id="reset before the last chunk"),
            pytest.param(fake.truncated(10**6, chunked=True, how="hang"), id="never closed"),
        ],
    )
    def test_tokens_that_arrived_whole_are_kept_though_the_end_is_missing(self, step: Step, virtuous: Virtuous) -> None:
        endpoint = endpoint_of(virtuous.base_url, request_seconds=SHORT)
        virtuous.script(step)
        answer = refresh(endpoint, virtuous)
        assert isinstance(answer, Granted)
        assert answer.oddities == ("the answer's end is missing",)

    def test_an_endless_body_is_cut(self, endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
        virtuous.script(fake.endless())
        answer = refresh(endpoint, virtuous)
        assert isinstance(answer, Granted)
        assert answer.oddities == ("the answer's end is missing",)

    @pytest.mark.parametrize("way", FRAMINGS)
    def test_a_body_is_read_however_it_was_framed(self, way: str, endpoint: TokenEndpoint, virtuous: Virtuous) -> None:
        """The grant keeps its tokens, and the proof its organisation."""
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
    def test_the_largest_body_of_anything_takes_seconds_and_little_memory(self, pattern: bytes) -> None:
        body, started = pattern * (LARGEST_BODY // len(pattern)), time.monotonic()
        tracemalloc.start()
        readable_body(body)
        assert tracemalloc.get_traced_memory()[1] < 40 * LARGEST_BODY
        tracemalloc.stop()
        assert time.monotonic() - started < 20

    def test_no_thread_is_left(self) -> None:
        before = threading.active_count()
        with Virtuous() as virtuous:
            virtuous.script(fake.answer_lost("hang"))
            refresh(endpoint_of(virtuous.base_url, request_seconds=SHORT), virtuous)
        assert threading.active_count() == before


class TestNothingIsSent:
    def test_a_refused_connection(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        answer = endpoint_of(f"http://127.0.0.1:{port}").refresh(SecretText("refresh-1"))
        assert answer == NotGranted(Ending.UNREACHABLE, "the host refused the connection or cannot be reached")

    def test_a_name_that_is_not_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        answer = endpoint_of(f"https://{HOST}").refresh(SecretText("refresh-1"))
        assert answer == NotGranted(Ending.UNREACHABLE, "the host's name was not found")

    def test_a_connection_that_stands_too_late_is_not_used(
        self, virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve, delayed = socket.getaddrinfo, threading.Event()

        def resolve_slowly(*arguments: Any, **named: Any) -> Any:
            delayed.wait(SHORT)
            return resolve(*arguments, **named)

        monkeypatch.setattr(socket, "getaddrinfo", resolve_slowly)
        endpoint = endpoint_of(virtuous.base_url, connect_seconds=SHORT / 2)
        assert refresh(endpoint, virtuous) == NotGranted(Ending.UNREACHABLE, "connecting took too long")
        assert virtuous.requests == []

    def test_a_resolver_that_hangs_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hanging = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hanging.wait(30))
        started = time.monotonic()
        answer = endpoint_of(f"https://{HOST}", connect_seconds=SHORT).refresh(SecretText("refresh-1"))
        hanging.set()
        assert answer == NotGranted(Ending.UNREACHABLE, "connecting took too long")
        assert time.monotonic() - started < SHORT + SLACK

    @pytest.mark.parametrize("silent", [1, 3, 12])
    def test_addresses_that_swallow_packets_before_a_good_one(
        self, silent: int, virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A listener whose queue is full answers nothing, like a host that drops packets."""
        with contextlib.ExitStack() as stack:
            found = []
            for number in range(silent):
                swallowing = stack.enter_context(socket.socket())
                swallowing.bind((f"127.0.0.{number + 2}", virtuous.port))
                swallowing.listen(0)
                for _ in range(2):
                    filler = stack.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(swallowing.getsockname())
                found.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", swallowing.getsockname()))
            found.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", virtuous.port)))
            resolve_localhost_as(found, monkeypatch)
            endpoint = endpoint_of(f"http://localhost:{virtuous.port}", connect_seconds=SLACK)
            assert isinstance(refresh(endpoint, virtuous), Granted)
        assert len(virtuous.token_requests) == 1

    def test_a_handshake_that_never_ends(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = endpoint_of(f"https://127.0.0.1:{silent.getsockname()[1]}", connect_seconds=SHORT)
            started = time.monotonic()
            assert endpoint.refresh(SecretText("refresh-1")) == NotGranted(
                Ending.UNREACHABLE, "connecting took too long"
            )
            assert time.monotonic() - started < SHORT + SLACK

    def test_a_server_that_speaks_no_tls(self, virtuous: Virtuous) -> None:
        answer = refresh(endpoint_of(f"https://127.0.0.1:{virtuous.port}"), virtuous)
        assert answer == NotGranted(Ending.UNREACHABLE, "TLS failed")
        assert virtuous.requests == []

    def test_a_certificate_that_nobody_trusts_or_of_another_host(self, virtuous: Virtuous, tmp_path: Path) -> None:
        server, client = certificate(tmp_path, HOST)
        with Relay(virtuous.port, tls=server) as relay:
            for context, why in ((None, "self-signed certificate"), (client, "Hostname mismatch")):
                answer = refresh(endpoint_of(f"https://localhost:{relay.port}", ssl_context=context), virtuous)
                assert ending_of(answer) is Ending.UNREACHABLE
                assert f"TLS: {why}" in repr(answer)
        assert virtuous.requests == []


class TestOverTls:
    @pytest.fixture
    def secure(self, virtuous: Virtuous, tmp_path: Path) -> Iterator[tuple[Relay, Any]]:
        server, client = certificate(tmp_path, HOST)
        with Relay(virtuous.port, tls=server) as relay:
            yield relay, client

    def via(self, proxy: Relay, client: Any, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> TokenEndpoint:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss-word@127.0.0.1:{proxy.port}")
        return endpoint_of(f"https://{HOST}", ssl_context=client, **settings)

    def test_the_roots_are_those_of_ssl_cert_file(
        self, virtuous: Virtuous, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An empty variable, which CloudFormation makes of an empty parameter, leaves the system's."""
        server, _ = certificate(tmp_path, "localhost")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        with Relay(virtuous.port, tls=server) as relay:
            assert isinstance(refresh(endpoint_of(f"https://localhost:{relay.port}"), virtuous), Granted)
        system = ssl.get_default_verify_paths()._replace(openssl_cafile=str(tmp_path / "certificate.pem"))
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: system)
        monkeypatch.setenv("SSL_CERT_FILE", "")
        with Relay(virtuous.port, tls=server) as relay:
            assert isinstance(refresh(endpoint_of(f"https://localhost:{relay.port}"), virtuous), Granted)

    def test_a_dripping_answer_is_bounded(self, virtuous: Virtuous, tmp_path: Path) -> None:
        server, client = certificate(tmp_path, "localhost")
        virtuous.script(fake.drip(SHORT / 4, head=True))
        with Relay(virtuous.port, tls=server) as relay:
            endpoint = endpoint_of(f"https://localhost:{relay.port}", ssl_context=client, request_seconds=SHORT)
            started = time.monotonic()
            assert refresh(endpoint, virtuous) == NotGranted(Ending.UNKNOWN, "no answer in time")
            assert time.monotonic() - started < SHORT + SLACK

    def test_a_proxy_sees_the_host_and_nothing_of_the_request(
        self, virtuous: Virtuous, secure: tuple[Relay, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        relay, client = secure
        with Relay(relay.port) as proxy:
            assert isinstance(refresh(self.via(proxy, client, monkeypatch), virtuous), Granted)
        [head] = proxy.heads
        assert head.startswith(f"CONNECT {HOST}:443 HTTP/1.".encode())
        assert b"Basic dXNlcjpwQHNzLXdvcmQ=\r\n" in head
        assert len(virtuous.token_requests) == 1

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            pytest.param("HTTP/1.1 407 Who are you", "the proxy answered HTTP 407", id="407"),
            pytest.param("SSH-2.0-server", "the proxy gave no answer of HTTP", id="another protocol"),
            pytest.param("", "the proxy gave no answer of HTTP", id="nothing"),
        ],
    )
    def test_what_a_proxy_refuses_is_told_by_its_status(
        self, said: str, reason: str, virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch, harness: LeakHarness
    ) -> None:
        harness.secret("p@ss-word")
        body = harness.secret("the-page-of-the-proxy")
        with Relay(virtuous.port, answer=f"{said}\r\n\r\n{body}".encode() if said else b"") as proxy:
            endpoint = self.via(proxy, None, monkeypatch)
            answer, proof = refresh(endpoint, virtuous), endpoint.prove(SecretText("access-1"))
        assert harness.watch(answer) == NotGranted(Ending.UNREACHABLE, reason)
        assert harness.watch(proof) == Unclear(reason)
        assert virtuous.requests == []

    def test_a_proxy_that_is_down_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Relay(1) as proxy:
            pass
        answer = self.via(proxy, None, monkeypatch).refresh(SecretText("refresh-1"))
        assert answer == NotGranted(Ending.UNREACHABLE, "the proxy refused the connection or cannot be reached")

    def test_a_dripping_proxy_is_bounded(self, virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch) -> None:
        with Relay(virtuous.port, drip_seconds=SHORT / 4) as proxy:
            endpoint = self.via(proxy, None, monkeypatch, connect_seconds=SHORT)
            started = time.monotonic()
            assert refresh(endpoint, virtuous) == NotGranted(Ending.UNREACHABLE, "connecting took too long")
            assert time.monotonic() - started < SHORT + SLACK

    def test_loopback_is_never_proxied(self, virtuous: Virtuous, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        assert isinstance(refresh(endpoint_of(virtuous.base_url), virtuous), Granted)

    @pytest.mark.parametrize("exception", [HOST, ".test", "other.test, virtuous.test", "*", f"{HOST}:443"])
    def test_no_proxy_names_hosts_that_are_not_proxied(self, exception: str, monkeypatch: pytest.MonkeyPatch) -> None:
        resolve = socket.getaddrinfo

        def resolve_loopback(host: str, *arguments: Any, **named: Any) -> Any:
            if host == HOST:
                raise socket.gaierror(socket.EAI_NONAME, "not known")
            return resolve(host, *arguments, **named)

        monkeypatch.setattr(socket, "getaddrinfo", resolve_loopback)
        with Relay(1) as proxy:
            self.via(proxy, None, monkeypatch).refresh(SecretText("refresh-1"))
            assert len(proxy.heads) == 1
            monkeypatch.setenv("NO_PROXY", exception)
            self.via(proxy, None, monkeypatch).refresh(SecretText("refresh-1"))
            assert len(proxy.heads) == 1

    def test_the_credentials_of_a_proxy_may_hold_any_character(
        self, monkeypatch: pytest.MonkeyPatch, harness: LeakHarness
    ) -> None:
        password = harness.secret("p€ss-wörd")
        with Relay(1) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:{quote(password)}@127.0.0.1:{proxy.port}")
            harness.watch(endpoint_of(f"https://{HOST}").refresh(SecretText("refresh-1")))
        assert b64encode(f"user:{password}".encode()) in proxy.heads[0]


class TestNothingLeaks:
    def test_an_error_that_echoes_the_password(
        self, endpoint: TokenEndpoint, virtuous: Virtuous, harness: LeakHarness
    ) -> None:
        virtuous.script(
            fake.reply(400, f'{{"error":"invalid_grant","error_description":"{virtuous.password}"}}'),
            fake.reply(400, f'{{"error":"{virtuous.password}"}}'),
            fake.reply(500, virtuous.password, {"Retry-After": virtuous.password, "Date": virtuous.password}),
            fake.raw(f"HTTP/1.1 400 {virtuous.password}\r\n\r\n".encode()),
            fake.raw(f"{virtuous.password}\r\n\r\n".encode()),
        )
        for _ in range(5):
            harness.watch(log_in(endpoint, virtuous))

    def test_urllib3_at_debug_tells_no_secret(
        self, endpoint: TokenEndpoint, virtuous: Virtuous, harness: LeakHarness
    ) -> None:
        harness.hears_libraries = True
        logging.getLogger("urllib3").setLevel(logging.DEBUG)
        broken = f"HTTP/1.1 200 OK\r\nSet-Cookie: {virtuous.password}\r\n{virtuous.password}\r\nA: b\r\n\r\n{{}}"
        virtuous.script(fake.raw(broken.encode()), fake.truncated(), fake.answer_lost("reset"))
        for _ in range(4):
            harness.watch(log_in(endpoint, virtuous))
        harness.watch(endpoint.prove(SecretText(str(virtuous.issue_pair()["access_token"]))))
