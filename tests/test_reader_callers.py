"""Callers of one reader: what happens to one of them touches neither the read under way nor the others."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.fakes.one_bearer import DAY, HOUR, NAME, START, OneBearer, join_renewals
from tests.leak_harness import LeakHarness
from virtuous_token import NotConfigured, StaticToken, TokenReader, Unreachable, process_reader

ARN = f"arn:aws:secretsmanager:eu-west-3:123456789012:secret:{NAME}-AbCdEf"


@pytest.fixture
def source(harness: LeakHarness) -> Iterator[OneBearer]:
    for generation in range(1, 5):
        harness.secret(f"access-{generation}")
    with OneBearer() as source:
        yield source


@pytest.fixture
def reader(source: OneBearer) -> TokenReader:
    return source.reader()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Interrupted(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


class SoftTimeLimit(Exception):
    """As Celery's, which botocore would take for an error of its own."""


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Callable[..., object]], object]]:
    """Says what the handler of a signal does."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda work: signal.signal(signal.SIGALRM, lambda *_: work())
    signal.signal(signal.SIGALRM, before)


def alarm() -> None:
    signal.raise_signal(signal.SIGALRM)


class TestInterrupts:
    @pytest.mark.parametrize("raised", [Interrupted, SoftTimeLimit])
    def test_a_caller_that_is_interrupted_while_it_reads_leaves_the_read_to_the_others(
        self,
        raised: type[BaseException],
        reader: TokenReader,
        source: OneBearer,
        pool: ThreadPoolExecutor,
        on_alarm: Any,
    ) -> None:
        others: list[Future[str]] = []

        def interrupt() -> None:
            source.during = lambda: None
            others.extend(pool.submit(reader.token) for _ in range(4))
            raise raised

        on_alarm(interrupt)
        source.during = alarm
        with pytest.raises(raised):
            reader.token()
        assert [other.result(10) for other in others] == ["access-1"] * 4
        assert (reader.token(), source.reads) == ("access-1", 2)

    def test_what_is_raised_while_botocore_prepares_a_read_comes_out_as_itself(
        self, on_alarm: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt() -> None:
            raise SoftTimeLimit

        on_alarm(interrupt)
        monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: alarm())
        with pytest.raises(SoftTimeLimit):
            TokenReader(ARN).token()

    def test_a_caller_that_is_interrupted_while_it_waits_fails_alone(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor, on_alarm: Any
    ) -> None:
        def interrupt() -> None:
            raise Interrupted

        def ask() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            reader.token()

        source.hold()
        reading = pool.submit(reader.token)
        assert source.arrived.wait(10)
        on_alarm(interrupt)
        with pytest.raises(Interrupted):
            ask()
        source.let_go()
        assert (reading.result(10), reader.token(), source.reads) == ("access-1", "access-1", 1)

    @pytest.mark.parametrize("asks", ["a signal handler", "a finalizer", "a logging handler"])
    def test_who_asks_in_the_midst_of_its_own_threads_read_makes_one_of_its_own(
        self, asks: str, reader: TokenReader, source: OneBearer, on_alarm: Any
    ) -> None:
        seen: list[str] = []
        logger = logging.getLogger("of.the.client")

        def ask(*_: object) -> None:
            with suppress(Unreachable):  # there is no third read within the second
                seen.append(reader.token())

        class Sends(logging.Handler):
            emit: Any = ask

        class Asks:
            __del__ = ask

        def collect() -> None:
            garbage: Any = Asks()
            garbage.itself = garbage
            del garbage
            gc.collect()

        on_alarm(ask)
        logger.addHandler(handler := Sends())
        source.during = {
            "a signal handler": alarm,
            "a finalizer": collect,
            "a logging handler": lambda: logger.warning("looking for credentials"),
        }[asks]
        began = time.monotonic()
        # A handler of logging holds a lock that the client needs too.
        (ask if asks != "a logging handler" else lambda: logger.warning("the program begins"))()
        assert (seen, source.reads, time.monotonic() - began < 20) == (["access-1"] * 2, 2, True)
        logger.removeHandler(handler)


class TestBounds:
    def test_a_caller_that_cannot_wait_fails_alone(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor
    ) -> None:
        source.hold()
        patient = pool.submit(reader.token)
        assert source.arrived.wait(10)
        began = time.monotonic()
        for ask in (reader.token, reader.authorization, lambda timeout: asyncio.run(reader.async_token(timeout))):
            with pytest.raises(Unreachable, match=r"within 0\.02 s"):
                ask(timeout=0.02)
        assert not reader.report_rejected("access-0", timeout=0.02)
        assert time.monotonic() - began < 20
        source.let_go()
        assert patient.result(10) == "access-1"

    def test_who_waited_has_the_reads_result_and_begins_no_other(
        self, source: OneBearer, pool: ThreadPoolExecutor
    ) -> None:
        reader = source.reader(timeout_seconds=0.2)
        source.hold()
        reading = pool.submit(reader.token)
        assert source.arrived.wait(10)
        for answer in [pool.submit(reader.token) for _ in range(7)]:
            assert "within 0.2 s" in str(answer.exception(10))
        assert source.reads == 1
        source.let_go()
        assert (reading.result(10), reader.token(), source.reads) == ("access-1", "access-1", 1)

    @pytest.mark.parametrize(
        "environment",
        [
            pytest.param({"AWS_ENDPOINT_URL": "{silent}"}, id="Secrets Manager"),
            pytest.param(
                {
                    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
                    "AWS_WEB_IDENTITY_TOKEN_FILE": "{identity}",
                    "AWS_ENDPOINT_URL_STS": "{silent}",
                },
                id="STS",
            ),
            pytest.param(
                {
                    "AWS_EC2_METADATA_DISABLED": "false",
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "{silent}",
                    "AWS_METADATA_SERVICE_TIMEOUT": "60",
                },
                id="the metadata service, which has a bound of its own",
            ),
        ],
    )
    def test_one_bound_holds_for_everything_that_can_hang(
        self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "identity").write_text("web identity")
        if "AWS_ENDPOINT_URL" in environment:
            environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "a", **environment}
        with socket.create_server(("127.0.0.1", 0)) as silent:
            places = {"silent": f"http://127.0.0.1:{silent.getsockname()[1]}", "identity": str(tmp_path / "identity")}
            for name, value in environment.items():
                monkeypatch.setenv(name, value.format(**places))
            reader = TokenReader(ARN)
            began = time.monotonic()
            with pytest.raises(Unreachable, match="within 1 s"):
                reader.token(timeout=1)
            assert time.monotonic() - began < 10
            assert not reader.report_rejected("access-0", timeout=0)
            if "{silent}" in (environment.get("AWS_ENDPOINT_URL"), environment.get("AWS_ENDPOINT_URL_STS")):
                began = time.monotonic()
                with pytest.raises(Unreachable):
                    TokenReader(ARN, timeout_seconds=1.2).token()
                assert time.monotonic() - began < 15
        join_renewals()


class TestWhatTheProcessRefuses:
    @pytest.mark.parametrize("step", ["start", "__init__"], ids=["no thread starts", "none can be made"])
    def test_without_a_thread_to_be_had_the_caller_reads_and_an_event_loop_does_not(
        self, step: str, reader: TokenReader, source: OneBearer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, step, refuse)
        with pytest.raises(Unreachable, match="no thread"):
            asyncio.run(reader.async_token())
        assert (reader.cached_token(), source.reads) == (None, 0)
        source.clock.now += 90
        assert (reader.token(), source.reads) == ("access-1", 1)
        source.rotate()
        source.clock.now += HOUR
        assert (reader.token(timeout=5), reader.token()) == ("access-1", "access-2")

    @pytest.mark.parametrize("refusal", [OSError(24, "not told"), MemoryError(), LookupError("not told")])
    def test_an_error_that_is_not_awss_becomes_one_of_ours_and_takes_nobody_a_token_that_works(
        self, refusal: Exception, reader: TokenReader, source: OneBearer
    ) -> None:
        reader.token()
        source.failure = refusal
        source.clock.now += HOUR
        for _ in range(3):
            assert reader.token() == "access-1"
            join_renewals()
        assert source.reads == 2
        reader.forget()
        with pytest.raises(Unreachable, match=type(refusal).__name__) as raised:
            reader.token()
        assert "not told" not in str(raised.value)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestEventLoops:
    def test_one_thread_reads_for_64_tasks(self, backend: str, reader: TokenReader, source: OneBearer) -> None:
        before = threading.active_count()
        tokens: list[str] = []

        async def ask() -> None:
            tokens.append(await reader.async_token())

        async def story() -> int:
            limiter = anyio.to_thread.current_default_thread_limiter()
            limiter.total_tokens = 1
            await limiter.acquire_on_behalf_of("the program, whose threads are all taken")
            async with anyio.create_task_group() as group:
                for _ in range(64):
                    group.start_soon(ask)
                while not source.arrived.is_set():
                    await anyio.sleep(0.001)
                most = threading.active_count()
                source.let_go()
            return most

        source.hold()
        assert anyio.run(story, backend=backend) - before == 1
        assert (tokens, source.reads) == (["access-1"] * 64, 1)
        source.rotate()
        assert anyio.run(reader.async_report_rejected, "access-1", backend=backend)
        assert reader.token() == "access-2"

    def test_a_cancelled_task_is_gone_at_once_and_the_loop_ends_before_the_read(
        self, backend: str, reader: TokenReader, source: OneBearer
    ) -> None:
        async def story() -> bool:
            with anyio.move_on_after(0.02) as scope:
                await reader.async_token()
            return scope.cancelled_caught

        source.hold()
        began = time.monotonic()
        assert anyio.run(story, backend=backend)
        assert time.monotonic() - began < 20
        source.let_go()  # the read ends where no loop is there to be told
        assert (reader.token(), source.reads) == ("access-1", 1)
        join_renewals()

    def test_a_wait_is_bounded_and_goes_on_from_a_read_that_somebody_began(
        self, backend: str, source: OneBearer
    ) -> None:
        reader = source.reader(timeout_seconds=0.2)
        source.hold()
        assert reader.cached_token() is None  # which begins a read
        assert source.arrived.wait(10)
        with pytest.raises(Unreachable, match=r"within 0\.2 s"):
            anyio.run(reader.async_token, backend=backend)
        source.let_go()
        join_renewals()
        assert (anyio.run(reader.async_token, backend=backend), source.reads) == ("access-1", 1)


class TestTheObject:
    def test_says_what_the_secret_says_and_a_token_comes_with_its_end(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        assert (reader.base_url, reader.organization_name, reader.expires_at) == (None, None, None)
        told = {"base_url": "https://api.example.org", "organization_name": "Relief"}
        source.value = json.dumps({**json.loads(source.value), **told})
        both = reader.access_token()
        assert (reader.base_url, reader.organization_name) == (both.base_url, "Relief") == tuple(told.values())
        assert both.expires_at is not None
        assert (both.token, both.expires_at.timestamp()) == ("access-1", START + 15 * DAY)
        assert (reader.expires_at, asyncio.run(reader.async_access_token())) == (both.expires_at, both)
        assert "access-1" not in f"{both!r} {both}"

    def test_a_copy_is_the_same_reader_and_a_pickle_holds_the_settings_alone(self, reader: TokenReader) -> None:
        assert copy.copy(reader) is copy.deepcopy([reader])[0] is reader
        pickled = pickle.dumps(TokenReader(NAME, max_age_seconds=600, cool_down_seconds=5, timeout_seconds=7))
        assert pickle.dumps(pickle.loads(pickled)) == pickled
        assert pickle.loads(pickle.dumps(process_reader())) is process_reader()
        with pytest.raises(TypeError, match="client of yours"):
            pickle.dumps(reader)

    def test_a_closed_one_has_no_token_and_says_so(self, reader: TokenReader, source: OneBearer) -> None:
        async def story() -> str:
            async with reader as same:
                return await same.async_token()

        with reader as same:
            assert same is reader
            assert asyncio.run(story()) == "access-1"
        reader.forget()
        with pytest.raises(NotConfigured, match="closed"):
            reader.token()
        with pytest.raises(NotConfigured, match="closed"):
            asyncio.run(reader.async_token())
        assert (reader.cached_token(), reader.report_rejected("access-1"), reader.base_url) == (None, False, None)
        assert source.reads == 1

    def test_closing_ends_the_wait_of_others(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor
    ) -> None:
        source.hold()
        asked = [pool.submit(reader.token) for _ in range(2)]
        assert source.arrived.wait(10)
        reader.close()
        assert wait(asked, 10, FIRST_COMPLETED).done  # while the read goes on
        source.let_go()
        assert {type(one.exception(10)) for one in asked} == {NotConfigured}

    def test_forgetting_begins_anew(self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor) -> None:
        reader.token()
        source.rotate()
        reader.forget()
        assert (reader.expires_at, reader.token(), source.reads) == (None, "access-2", 2)
        reader.forget()
        late = source.hold()
        waiting = pool.submit(reader.token)
        assert source.arrived.wait(10)
        source.hold().set()
        source.rotate()
        reader.forget()
        assert reader.token() == "access-3"
        late.set()
        assert (waiting.result(10), reader.token()) == ("access-3", "access-3")


def test_a_fixed_token_is_a_source_that_keeps_it_out_of_sight_and_has_no_other_to_try() -> None:
    with StaticToken("access-1", "https://api.example.org") as source:
        assert (source.token(), source.authorization(timeout=1)) == ("access-1", "Bearer access-1")
        assert (source.cached_token(), source.base_url) == ("access-1", "https://api.example.org")
        assert (source.report_rejected("access-1"), source.rejected("access-0")) == (False, True)
    assert "access-1" not in repr(source)
    with pytest.raises(TypeError):
        pickle.dumps(source)


@pytest.mark.parametrize("token", ["", "two words", "line\n", "Ä"])
def test_a_fixed_token_that_cannot_be_a_header_is_refused_unseen(token: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII") as raised:
        StaticToken(token)
    assert not token or token not in str(raised.value)
