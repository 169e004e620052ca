"""Callers of one reader: what happens to one of them touches neither the read under way nor the others."""

from __future__ import annotations

import asyncio
import copy
import errno
import gc
import json
import logging
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest

from tests.fakes.one_bearer import HOUR, START, EpochClock, OneBearer, join_renewals
from tests.leak_harness import LeakHarness
from virtuous_token import NotConfigured, TokenReader, Unreachable, async_bearer_token, bearer_token
from virtuous_token import reader as reader_module
from virtuous_token.waiting import wait_until_called

NAME = "virtuous/default/bearer"
ARN = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:virtuous/default/bearer-AbCdEf"


@pytest.fixture
def source(harness: LeakHarness) -> Iterator[OneBearer]:
    """Its reads wait until they are let go on, see :func:`opened`."""
    source = OneBearer(EpochClock())
    for generation in range(1, 5):
        harness.secret(f"access-{generation}")
    source.gate = threading.Event()
    yield source
    opened(source)
    join_renewals()


@pytest.fixture
def reader(source: OneBearer) -> TokenReader:
    return TokenReader(NAME, client=source, clock=source.clock)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def opened(source: OneBearer) -> None:
    """Lets the reads of *source* go on, those to come as well."""
    gate, source.gate = source.gate, None
    if gate is not None:
        gate.set()


class Interrupted(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


class SoftTimeLimit(Exception):
    """As Celery's, which botocore would take for an error of its own."""


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Runs something in a signal handler of the main thread, a moment from now."""
    before = signal.getsignal(signal.SIGALRM)

    def arrange(work: Callable[[], object]) -> None:
        def handle(_: int, __: FrameType | None) -> None:
            work()

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    yield arrange
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


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
            others.extend(pool.submit(reader.token) for _ in range(4))
            source.gate = None
            raise raised

        on_alarm(interrupt)
        with pytest.raises(raised):
            reader.token()
        assert [other.result(10) for other in others] == ["access-1"] * 4
        assert (reader.token(), source.reads) == ("access-1", 2)

    def test_what_is_raised_while_botocore_prepares_a_read_comes_out_as_itself(
        self, on_alarm: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt() -> None:
            raise SoftTimeLimit

        monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: time.sleep(5))
        on_alarm(interrupt)
        with pytest.raises(SoftTimeLimit):
            TokenReader(ARN).token()

    def test_a_caller_that_is_interrupted_while_it_waits_fails_alone(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor, on_alarm: Any
    ) -> None:
        def interrupt() -> None:
            raise Interrupted

        reading = pool.submit(reader.token)
        assert source.arrived.wait(10)
        on_alarm(interrupt)
        with pytest.raises(Interrupted):
            reader.token()
        opened(source)
        assert (reading.result(10), reader.token(), source.reads) == ("access-1", "access-1", 1)

    @pytest.mark.parametrize("ask", ["token", "access_token"])
    def test_a_handler_that_asks_in_the_midst_of_its_own_threads_read_makes_one_of_its_own(
        self, ask: str, reader: TokenReader, source: OneBearer, on_alarm: Any
    ) -> None:
        seen: list[object] = []

        def handle() -> None:
            gate, source.gate = source.gate, None
            seen.append(getattr(reader, ask)())
            assert gate is not None
            gate.set()

        on_alarm(handle)
        assert reader.token() == "access-1"
        assert (len(seen), source.reads) == (1, 2)

    def test_a_handler_has_the_token_in_hand(self, reader: TokenReader, source: OneBearer, on_alarm: Any) -> None:
        opened(source)
        old = reader.token()
        source.gate = threading.Event()
        seen: list[str] = []

        def handle() -> None:
            seen.append(reader.token())
            opened(source)

        on_alarm(handle)
        assert not reader.report_rejected(old)
        assert seen == [old]

    def test_a_logging_handler_that_needs_the_first_token_gets_it(self, source: OneBearer) -> None:
        opened(source)
        seen: list[str] = []

        class Logs(OneBearer):
            def get_secret_value(self, **asked: str) -> Any:
                logging.getLogger("of.the.client").info("looking for credentials")
                return super().get_secret_value(**asked)

        reader = TokenReader(NAME, client=Logs(source.clock), clock=source.clock)

        class Sends(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                with suppress(Unreachable):  # the innermost has none
                    seen.append(reader.token())

        logger, handler = logging.getLogger("of.the"), Sends()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        began = time.monotonic()
        try:
            logger.info("the program begins")
        finally:
            logger.removeHandler(handler)
        assert (time.monotonic() - began < 5, seen) == (True, ["access-1"] * 2)

    def test_a_finalizer_in_the_reading_thread_does_not_wait_for_itself(self, source: OneBearer) -> None:
        opened(source)
        seen: list[str] = []
        readers: list[TokenReader] = []

        class Asks:
            def __del__(self) -> None:
                seen.append(readers[0].token())

        class Collecting(OneBearer):
            def get_secret_value(self, **asked: str) -> Any:
                asks: Any = Asks()
                asks.itself = asks
                del asks
                gc.collect()
                return super().get_secret_value(**asked)

        readers.append(TokenReader(NAME, client=Collecting(source.clock), clock=source.clock))
        assert (readers[0].token(), set(seen)) == ("access-1", {"access-1"})


SILENT: list[Any] = [
    pytest.param({"AWS_ENDPOINT_URL": "{silent}"}, True, id="Secrets Manager"),
    pytest.param(
        {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
            "AWS_WEB_IDENTITY_TOKEN_FILE": "{identity}",
            "AWS_ENDPOINT_URL_STS": "{silent}",
        },
        True,
        id="STS",
    ),
    pytest.param({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{silent}/credentials"}, True, id="a container's credentials"),
    pytest.param(
        {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "{silent}",
            "AWS_METADATA_SERVICE_TIMEOUT": "60",
        },
        False,
        id="the metadata service, which has a bound of its own",
    ),
    pytest.param({"AWS_ENDPOINT_URL": "http://silent.example"}, False, id="name resolution, which has none"),
]


class TestBounds:
    def test_a_caller_that_cannot_wait_fails_alone(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor
    ) -> None:
        patient = pool.submit(reader.token)
        assert source.arrived.wait(10)
        began = time.monotonic()
        for ask in (reader.token, reader.authorization, lambda timeout: asyncio.run(reader.async_token(timeout))):
            with pytest.raises(Unreachable, match=r"within 0\.02 s"):
                ask(timeout=0.02)
        assert not reader.report_rejected("access-0", timeout=0.02)
        assert time.monotonic() - began < 5
        opened(source)
        assert patient.result(10) == "access-1"

    def test_who_waited_has_the_reads_result_and_begins_no_other(
        self, source: OneBearer, pool: ThreadPoolExecutor
    ) -> None:
        reader = TokenReader(NAME, client=source, clock=source.clock, timeout_seconds=0.2)
        reading = pool.submit(reader.token)
        assert source.arrived.wait(10)
        for answer in [pool.submit(reader.token) for _ in range(7)]:
            assert "within 0.2 s" in str(answer.exception(10))
        assert source.reads == 1
        opened(source)
        assert (reading.result(10), reader.token(), source.reads) == ("access-1", "access-1", 1)

    @pytest.mark.parametrize(("environment", "is_ours"), SILENT)
    def test_one_bound_holds_for_everything_that_can_hang(
        self, environment: dict[str, str], is_ours: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "identity").write_text("web identity")
        resolve, let_go = socket.getaddrinfo, threading.Event()

        def resolving(host: Any, *others: Any, **more: Any) -> Any:
            if host == "silent.example":
                let_go.wait(30)
                raise socket.gaierror("nobody knows")
            return resolve(host, *others, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolving)
        with ExitStack() as ends:
            silent = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
            ends.callback(let_go.set)
            places = {"silent": f"http://127.0.0.1:{silent.getsockname()[1]}", "identity": str(tmp_path / "identity")}
            keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            for name in keys:
                monkeypatch.delenv(name, raising=False)
            for name, value in (
                {name: "a" for name in keys if "AWS_ENDPOINT_URL" in environment} | environment
            ).items():
                monkeypatch.setenv(name, value.format(**places))
            reader = TokenReader(ARN)
            began = time.monotonic()
            with pytest.raises(Unreachable, match="within 1 s"):
                reader.token(timeout=1)
            assert time.monotonic() - began < 4
            assert not reader.report_rejected("access-0", timeout=0)
            if is_ours:
                began = time.monotonic()
                with pytest.raises(Unreachable):
                    TokenReader(ARN, timeout_seconds=1.2).token()
                assert time.monotonic() - began < 15  # botocore's own bound for a container's credentials is 9 seconds
        join_renewals()


class TestWhatTheProcessRefuses:
    @pytest.fixture(params=["start", "__init__"], ids=["none starts", "none can be made"])
    def no_threads(self, source: OneBearer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError("can't start new thread")

        opened(source)
        monkeypatch.setattr(threading.Thread, request.param, refuse)

    @pytest.mark.usefixtures("no_threads")
    def test_without_a_thread_to_be_had_the_caller_reads_and_an_event_loop_does_not(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        with pytest.raises(Unreachable, match="no thread"):
            asyncio.run(reader.async_token())
        assert (reader.cached_token(), source.reads) == (None, 0)
        source.clock.now += 90
        assert (reader.token(), source.reads) == ("access-1", 1)
        source.rotate()
        source.clock.now += HOUR
        assert (reader.token(timeout=5), reader.token()) == ("access-1", "access-2")

    @pytest.mark.parametrize(
        "refusal", [OSError(errno.EMFILE, "Too many open files"), MemoryError(), ImportError("no file")]
    )
    def test_a_token_that_works_is_taken_from_nobody(
        self, refusal: Exception, reader: TokenReader, source: OneBearer
    ) -> None:
        opened(source)
        reader.token()
        source.failure = refusal
        source.clock.now += HOUR
        for _ in range(3):
            assert reader.token() == "access-1"
            join_renewals()
        assert source.reads == 2

    def test_an_error_that_is_not_awss_becomes_one_of_ours(self, reader: TokenReader, source: OneBearer) -> None:
        opened(source)
        source.failure = LookupError("a fault of the client that was given")
        with pytest.raises(Unreachable, match="LookupError") as raised:
            reader.token()
        assert "a fault" not in str(raised.value)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestEventLoops:
    def test_one_thread_reads_for_64_tasks(self, backend: str, reader: TokenReader, source: OneBearer) -> None:
        before = threading.active_count()
        tokens: list[str] = []

        async def ask() -> None:
            tokens.append(await reader.async_token())

        async def story() -> int:
            async with anyio.create_task_group() as group:
                for _ in range(64):
                    group.start_soon(ask)
                while not source.arrived.is_set():
                    await anyio.sleep(0.001)
                most = threading.active_count()
                opened(source)
            return most

        assert anyio.run(story, backend=backend) - before == 1
        assert (tokens, source.reads) == (["access-1"] * 64, 1)

    def test_64_tasks_that_complain_make_one_read(self, backend: str, reader: TokenReader, source: OneBearer) -> None:
        opened(source)
        old = reader.token()
        source.rotate()
        answers: list[bool] = []

        async def complain() -> None:
            answers.append(await reader.async_report_rejected(old))

        async def story() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(64):
                    group.start_soon(complain)

        anyio.run(story, backend=backend)
        assert (answers, source.reads) == ([True] * 64, 2)

    def test_a_cancelled_task_is_gone_at_once_and_the_loop_ends_before_the_read(
        self, backend: str, reader: TokenReader, source: OneBearer
    ) -> None:
        async def story() -> bool:
            with anyio.move_on_after(0.02) as scope:
                await reader.async_token()
            return scope.cancelled_caught

        began = time.monotonic()
        assert anyio.run(story, backend=backend)
        assert time.monotonic() - began < 5
        opened(source)  # the read ends where no loop is there to be told
        assert (reader.token(), source.reads) == ("access-1", 1)

    def test_a_wait_is_bounded_and_goes_on_from_a_read_that_somebody_began(
        self, backend: str, source: OneBearer
    ) -> None:
        reader = TokenReader(NAME, client=source, clock=source.clock, timeout_seconds=0.2)
        assert reader.cached_token() is None  # which begins a read
        assert source.arrived.wait(10)
        with pytest.raises(Unreachable, match=r"within 0\.2 s"):
            anyio.run(reader.async_token, backend=backend)
        opened(source)
        join_renewals()
        assert (anyio.run(reader.async_token, backend=backend), source.reads) == ("access-1", 1)

    def test_what_has_happened_already_is_not_waited_for(self, backend: str) -> None:
        kept: list[Callable[[], None]] = []

        def register(wake: Callable[[], None]) -> None:
            kept.append(wake)
            wake()
            wake()

        anyio.run(wait_until_called, register, 30, backend=backend)
        kept[0]()  # after the end of the loop


class TestTheObject:
    @pytest.fixture(autouse=True)
    def _open(self, source: OneBearer) -> None:
        opened(source)

    def test_says_what_the_secret_says_and_a_token_comes_with_its_end(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        assert (reader.base_url, reader.organization_name, reader.expires_at) == (None, None, None)
        stored = json.loads(source.value or "")
        source.value = json.dumps({**stored, "base_url": "https://api.example.org", "organization_name": "Relief"})
        both = reader.access_token()
        assert (reader.base_url, reader.organization_name) == ("https://api.example.org", "Relief")
        assert both.expires_at is not None
        assert (both.token, both.expires_at, both.expires_at.timestamp()) == (
            *("access-1", reader.expires_at),
            START + 15 * 24 * HOUR,
        )
        assert asyncio.run(reader.async_access_token()) == both
        assert "access-1" not in f"{both!r} {both} {reader._shared.cached!r}"

    def test_a_copy_is_the_same_reader_and_a_pickle_holds_the_settings_alone(self, reader: TokenReader) -> None:
        assert copy.copy(reader) is copy.deepcopy([reader])[0] is reader
        other = TokenReader(NAME, max_age_seconds=600, cool_down_seconds=5, timeout_seconds=7)
        assert pickle.loads(pickle.dumps(other))._settings == other._settings
        assert pickle.loads(pickle.dumps(reader_module.process_reader())) is reader_module.process_reader()
        with pytest.raises(TypeError, match="client of yours"):
            pickle.dumps(reader)

    def test_a_closed_one_has_no_token_and_says_so(self, reader: TokenReader, source: OneBearer) -> None:
        async def story() -> str:
            async with reader as same:
                return await same.async_token()

        with reader as same:
            assert same is reader
            assert asyncio.run(story()) == "access-1"
        reader.close()
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
        source.gate = threading.Event()
        asked = [pool.submit(reader.token) for _ in range(2)]
        assert source.arrived.wait(10)
        reader.close()
        opened(source)
        assert {type(one.exception(10)) for one in asked} == {NotConfigured}

    def test_forgetting_begins_anew(self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor) -> None:
        reader.token()
        source.rotate()
        reader.forget()
        assert (reader.expires_at, reader.token(), source.reads) == (None, "access-2", 2)
        gate = source.gate = threading.Event()
        source.arrived.clear()
        reader.forget()
        waiting = pool.submit(reader.token)
        assert source.arrived.wait(10)
        source.gate = None
        source.rotate()
        reader.forget()
        assert reader.token() == "access-3"
        gate.set()
        assert (waiting.result(10), reader.token()) == ("access-3", "access-3")

    def test_the_process_has_one_reader_for_threads_and_tasks(
        self, reader: TokenReader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(reader_module._of_the_process, "reader", reader)
        assert reader_module.process_reader() is reader
        assert [bearer_token(), asyncio.run(async_bearer_token())] == ["access-1", "access-1"]
