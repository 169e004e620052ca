"""Callers of one reader: what happens to one of them touches neither the read under way nor the others."""

from __future__ import annotations

import asyncio
import contextlib
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
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest

from tests.fakes.one_bearer import DAY, HOUR, START, EpochClock, OneBearer, join_renewals
from tests.leak_harness import LeakHarness
from virtuous_token import NotConfigured, TokenReader, Unreachable, async_bearer_token, bearer_token
from virtuous_token import reader as reader_module

NAME = "virtuous/default/bearer"
ARN = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:virtuous/default/bearer-AbCdEf"


@pytest.fixture
def source(harness: LeakHarness) -> Iterator[OneBearer]:
    source = OneBearer(EpochClock())
    for generation in range(1, 5):
        harness.secret(f"access-{generation}")
    source.gate = threading.Event()
    yield source
    if source.gate is not None:
        source.gate.set()
    join_renewals()


@pytest.fixture
def reader(source: OneBearer) -> TokenReader:
    return TokenReader(NAME, client=source, clock=source.clock)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Interrupted(BaseException):
    """What a person or a time limit raises in the caller's frame. botocore turns an Exception into one of its own."""


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


def opened(source: OneBearer) -> None:
    """Lets the reads of *source* go on."""
    assert source.gate is not None
    source.gate.set()


class TestInterrupts:
    def test_a_caller_that_is_interrupted_while_it_reads_leaves_the_read_to_the_others(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor, on_alarm: Any
    ) -> None:
        others: list[Future[str]] = []

        def interrupt() -> None:
            others.extend(pool.submit(reader.token) for _ in range(4))
            gate, source.gate = source.gate, None
            assert gate is not None
            raise Interrupted

        on_alarm(interrupt)
        with pytest.raises(Interrupted):
            reader.token()
        assert [other.result(10) for other in others] == ["access-1"] * 4
        assert (reader.token(), source.reads) == ("access-1", 2)

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

    @pytest.mark.parametrize("ask", ["token", "authorization", "access_token"])
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
        assert "access-1" in str(seen) or ask == "access_token"
        assert source.reads == 2

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
                with contextlib.suppress(Unreachable):  # the innermost has none
                    seen.append(reader.token(timeout=None))

        logger, handler = logging.getLogger("of.the"), Sends()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        began = time.monotonic()
        try:
            logger.info("the program begins")
        finally:
            logger.removeHandler(handler)
        assert time.monotonic() - began < 5
        assert seen == ["access-1"] * 2

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

    def test_a_finalizer_in_the_reading_thread_does_not_wait_for_itself(self, source: OneBearer) -> None:
        seen: list[str] = []
        reader: TokenReader

        class Asks:
            def __del__(self) -> None:
                seen.append(reader.token())

        class Collecting(OneBearer):
            def get_secret_value(self, **asked: str) -> Any:
                asks: Any = Asks()
                asks.itself = asks
                del asks
                gc.collect()
                return super().get_secret_value(**asked)

        reader = TokenReader(NAME, client=Collecting(source.clock), clock=source.clock)
        assert reader.token() == "access-1"
        assert set(seen) == {"access-1"}


class TestBounds:
    def test_a_caller_that_cannot_wait_fails_alone(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor
    ) -> None:
        patient = pool.submit(reader.token)
        assert source.arrived.wait(10)
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"within 0\.\d+ s"):
            reader.token(timeout=0.02)
        with pytest.raises(Unreachable, match="within 0 s"):
            reader.authorization(timeout=0)
        with pytest.raises(Unreachable, match=r"within 0\.\d+ s"):
            asyncio.run(reader.async_token(timeout=0.02))
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

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_they_hold_on_an_event_loop(self, backend: str, source: OneBearer) -> None:
        reader = TokenReader(NAME, client=source, clock=source.clock, timeout_seconds=0.1)
        with pytest.raises(Unreachable, match=r"within 0\.1 s"):
            anyio.run(reader.async_token, backend=backend)
        assert source.reads == 1

    @pytest.mark.parametrize(
        "environment",
        [
            pytest.param({"AWS_ENDPOINT_URL": "{silent}"}, id="Secrets Manager"),
            pytest.param(
                {
                    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
                    "AWS_WEB_IDENTITY_TOKEN_FILE": "{identity}",
                    "AWS_ENDPOINT_URL_STS": "{silent}",
                    "AWS_ACCESS_KEY_ID": "",
                },
                id="STS",
            ),
            pytest.param(
                {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{silent}/credentials", "AWS_ACCESS_KEY_ID": ""},
                id="a container's credentials",
            ),
            pytest.param(
                {
                    "AWS_EC2_METADATA_DISABLED": "false",
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "{silent}",
                    "AWS_METADATA_SERVICE_TIMEOUT": "60",
                    "AWS_ACCESS_KEY_ID": "",
                },
                id="the metadata service",
            ),
            pytest.param({"AWS_ENDPOINT_URL": "http://silent.example"}, id="name resolution"),
        ],
    )
    def test_one_bound_holds_for_everything_that_can_hang(
        self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
            given = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", **environment}
            for name, value in given.items():
                monkeypatch.setenv(name, value.format(**places))
            for name in [name for name, value in given.items() if not value]:
                monkeypatch.delenv(name)
                monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
            reader = TokenReader(ARN)
            began = time.monotonic()
            with pytest.raises(Unreachable, match=r"within [\d.]+ s"):
                reader.token(timeout=1)
            assert time.monotonic() - began < 4
            assert not reader.report_rejected("access-0", timeout=0)
            if "silent.example" in str(environment) or "AWS_METADATA_SERVICE_TIMEOUT" in environment:
                return  # bounded by the system and by that setting
            began = time.monotonic()
            with pytest.raises(Unreachable):
                TokenReader(ARN, timeout_seconds=1.2).token()
            assert time.monotonic() - began < 15  # botocore's own bound for a container's credentials is 9 seconds


class TestWhatTheProcessRefuses:
    @pytest.fixture(params=["start", "__init__"], ids=["none starts", "none can be made"])
    def no_threads(
        self, reader: TokenReader, source: OneBearer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError("can't start new thread")

        opened(source)
        monkeypatch.setattr(threading.Thread, request.param, refuse)

    @pytest.mark.usefixtures("no_threads")
    def test_without_a_thread_to_be_had_the_caller_reads(self, reader: TokenReader, source: OneBearer) -> None:
        assert (reader.token(), source.reads) == ("access-1", 1)
        source.rotate()
        source.clock.now += HOUR
        assert (reader.token(timeout=5), reader.token()) == ("access-1", "access-2")

    @pytest.mark.usefixtures("no_threads")
    def test_an_event_loop_does_not_read_itself(self, reader: TokenReader, source: OneBearer) -> None:
        with pytest.raises(Unreachable, match="no thread"):
            asyncio.run(reader.async_token())
        assert source.reads == 0

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

    def test_one_whose_own_read_is_interrupted_leaves_it_to_the_others(
        self, reader: TokenReader, source: OneBearer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        opened(source)
        with monkeypatch.context() as without_threads:
            without_threads.setattr(threading.Thread, "start", refuse)
            source.failure = KeyboardInterrupt()
            with pytest.raises(KeyboardInterrupt):
                reader.token()
        source.failure = None
        assert reader.token() == "access-1"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestEventLoops:
    def test_one_thread_reads_for_64_tasks(self, backend: str, reader: TokenReader, source: OneBearer) -> None:
        before = threading.active_count()
        tokens: list[str] = []

        async def story() -> int:
            async with anyio.create_task_group() as group:

                async def ask() -> None:
                    tokens.append(await reader.async_token())

                for _ in range(64):
                    group.start_soon(ask)
                while not source.arrived.is_set():
                    await anyio.sleep(0.001)
                most = threading.active_count()
                opened(source)
            return most

        assert anyio.run(story, backend=backend) - before == 1
        assert tokens == ["access-1"] * 64
        assert source.reads == 1

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
        assert answers == [True] * 64
        assert source.reads == 2

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
        opened(source)
        assert reader.token() == "access-1"
        assert source.reads == 1

    def test_a_task_that_does_not_wait_begins_the_read(
        self, backend: str, reader: TokenReader, source: OneBearer
    ) -> None:
        assert reader.cached_token() is None
        assert source.arrived.wait(10)
        opened(source)
        assert anyio.run(reader.async_token, backend=backend) == "access-1"
        assert source.reads == 1


class TestRejected:
    @pytest.fixture(autouse=True)
    def _open(self, source: OneBearer) -> None:
        opened(source)

    def test_a_second_login_within_the_cool_down_is_taken_up_at_once(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        token = reader.token()
        for _ in range(3):
            source.rotate()
            assert reader.report_rejected(token)
            assert (token := reader.token()) == source.token
        assert source.reads == 4

    def test_a_token_that_stays_refused_costs_one_read_in_a_cool_down(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        token = reader.token()
        for second in range(120):
            assert not reader.report_rejected(token)
            source.clock.now = START + second + 1
        assert source.reads == 3

    def test_another_token_that_has_expired_is_none_to_try(self, reader: TokenReader, source: OneBearer) -> None:
        reader.token()
        source.clock.now += 16 * DAY
        assert not reader.report_rejected("access-0")

    def test_one_that_waits_for_a_read_that_fails_begins_no_other(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor
    ) -> None:
        token = reader.token()
        source.clock.now += HOUR
        source.gate, source.failure = threading.Event(), OSError("no route")
        source.arrived.clear()
        reader.token()
        assert source.arrived.wait(10)
        answers = [pool.submit(reader.report_rejected, token) for _ in range(4)]
        opened(source)
        assert [answer.result(10) for answer in answers] == [False] * 4
        assert source.reads <= 3


class TestTheClock:
    def test_one_that_was_ahead_and_is_put_right_does_not_delay_the_next_read(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        opened(source)
        source.clock.now += DAY
        reader.token()
        source.clock.now -= DAY
        source.rotate()
        assert reader.token() == "access-1"
        join_renewals()
        assert (reader.token(), source.reads) == ("access-2", 2)

    def test_one_that_was_ahead_of_a_tokens_end_hides_it_no_longer(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        opened(source)
        source.clock.now += 20 * DAY
        with pytest.raises(Exception, match="expired"):
            reader.token()
        source.clock.now -= 20 * DAY
        assert reader.token() == "access-1"


class TestTheObject:
    @pytest.fixture(autouse=True)
    def _open(self, source: OneBearer) -> None:
        opened(source)

    def test_says_what_the_secret_says(self, reader: TokenReader, source: OneBearer) -> None:
        assert (reader.base_url, reader.organization_name, reader.expires_at) == (None, None, None)
        stored = json.loads(source.value or "")
        source.value = json.dumps({**stored, "base_url": "https://api.example.org", "organization_name": "Relief"})
        reader.token()
        assert (reader.base_url, reader.organization_name) == ("https://api.example.org", "Relief")
        assert reader.expires_at is not None
        assert reader.expires_at.timestamp() == START + 15 * DAY

    def test_a_copy_is_the_same_reader(self, reader: TokenReader) -> None:
        assert copy.copy(reader) is copy.deepcopy([reader])[0] is reader

    def test_a_pickle_holds_the_settings_and_no_token(self, source: OneBearer) -> None:
        reader = TokenReader(NAME, max_age_seconds=600, cool_down_seconds=5, timeout_seconds=7)
        assert pickle.loads(pickle.dumps(reader)).__reduce__()[1:] == reader.__reduce__()[1:]
        assert pickle.loads(pickle.dumps(reader_module.process_reader())) is reader_module.process_reader()

    def test_one_with_a_given_client_says_why_it_cannot_be_pickled(self, reader: TokenReader) -> None:
        with pytest.raises(TypeError, match="client of yours"):
            pickle.dumps(reader)

    def test_a_closed_one_has_no_token_and_says_so(self, reader: TokenReader, source: OneBearer) -> None:
        with reader as same:
            assert same is reader
            reader.token()
        for _ in range(2):
            with pytest.raises(NotConfigured, match="closed"):
                reader.token()
            reader.close()
        with pytest.raises(NotConfigured, match="closed"):
            asyncio.run(reader.async_token())
        assert (reader.cached_token(), reader.report_rejected("access-1"), reader.base_url) == (None, False, None)
        assert source.reads == 1

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

    def test_a_token_and_its_end_come_from_one_read(self, reader: TokenReader, source: OneBearer) -> None:
        both = reader.access_token()
        assert (both.token, both.expires_at) == ("access-1", reader.expires_at)
        assert asyncio.run(reader.async_access_token()) == both
        assert "access-1" not in f"{both!r} {both}"

    def test_is_closed_at_the_end_of_an_asynchronous_block(self, reader: TokenReader) -> None:
        async def story() -> str:
            async with reader as same:
                return await same.async_token()

        assert asyncio.run(story()) == "access-1"
        with pytest.raises(NotConfigured, match="closed"):
            reader.token()

    def test_closing_ends_the_wait_of_others(
        self, reader: TokenReader, source: OneBearer, pool: ThreadPoolExecutor
    ) -> None:
        source.gate = threading.Event()
        reading = pool.submit(reader.token)
        assert source.arrived.wait(10)
        waiting = pool.submit(reader.token)
        reader.close()
        assert isinstance(waiting.exception(10), NotConfigured)
        opened(source)
        assert isinstance(reading.exception(10), NotConfigured)

    def test_the_process_has_one_reader_for_threads_and_tasks(
        self, source: OneBearer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = TokenReader(NAME, client=source, clock=source.clock)
        monkeypatch.setitem(reader_module._of_the_process, "reader", one)
        assert reader_module.process_reader() is one
        assert [bearer_token(), asyncio.run(async_bearer_token())] == ["access-1", "access-1"]
