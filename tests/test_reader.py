"""The reader: one look at the clock, one read for all threads, nobody waits while a token works, none has expired."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from moto import mock_aws

from tests.fakes.one_bearer import DAY, HOUR, START, EpochClock, OneBearer, join_renewals
from tests.leak_harness import LeakHarness
from virtuous_token import (
    NotConfigured,
    TokenExpired,
    TokenReader,
    Unreachable,
    UnreadableSecret,
    _cached_token,
    bearer_token,
    secrets_manager,
)
from virtuous_token import reader as reader_module

NAME = "virtuous/default/bearer"
ARN = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:virtuous/default/bearer-AbCdEf"


@pytest.fixture
def source(harness: LeakHarness) -> Iterator[OneBearer]:
    source = OneBearer(EpochClock())
    for generation in range(1, 4):
        harness.secret(f"access-{generation}")
    yield source
    if source.gate is not None:
        source.gate.set()
    join_renewals()


@pytest.fixture
def reader(source: OneBearer) -> TokenReader:
    return TokenReader(NAME, client=source, clock=source.clock)


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets what would be drawn at random."""
    return lambda value: monkeypatch.setattr(_cached_token, "random_fraction", lambda: value)


def settled(reader: TokenReader) -> str:
    """A token, once the renewal that this began has ended."""
    token = reader.token()
    join_renewals()
    return token


def timed_out() -> ConnectTimeoutError:
    return ConnectTimeoutError(endpoint_url="https://secretsmanager.example", error="no answer")


def throttled() -> ClientError:
    return ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "GetSecretValue")


class TestInMemory:
    def test_the_first_call_reads_the_current_version_and_later_ones_read_nothing(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        assert source.asked == []
        assert [reader.token() for _ in range(3)] == ["access-1"] * 3
        assert reader.authorization() == "Bearer access-1"
        assert source.asked == [(NAME, "AWSCURRENT")]
        assert repr(reader) == f"TokenReader('{NAME}')"

    def test_readers_of_two_secrets_never_mix(self, source: OneBearer) -> None:
        other = OneBearer(source.clock)
        other.rotate()
        readers = [TokenReader("a", client=client, clock=source.clock) for client in (source, other)]
        assert [reader.token() for reader in readers * 2] == ["access-1", "access-2"] * 2

    def test_one_look_at_the_clock_answers(self, source: OneBearer) -> None:
        looks: list[float] = []

        def clock() -> float:
            looks.append(START)
            return START

        reader = TokenReader(NAME, client=source, clock=clock)
        reader.token()
        looks.clear()
        reader.token()
        assert looks == [START]

    @pytest.mark.parametrize("fails", [False, True], ids=["and it works", "and it fails"])
    def test_64_threads_on_a_cold_reader_make_one_read(
        self, fails: bool, reader: TokenReader, source: OneBearer
    ) -> None:
        source.gate, source.failure = threading.Event(), timed_out() if fails else None
        with ThreadPoolExecutor(64) as pool:
            answers = [pool.submit(reader.token) for _ in range(64)]
            assert source.arrived.wait(30)
            source.gate.set()
            assert {type(answer.exception(30)) for answer in answers} == {Unreachable if fails else type(None)}
        assert source.reads == 1

    @pytest.mark.parametrize("fails", [False, True], ids=["and it works", "and it fails"])
    def test_threads_that_come_when_the_read_has_just_ended_make_no_other(self, fails: bool, source: OneBearer) -> None:
        source.failure = timed_out() if fails else None
        interval = sys.getswitchinterval()
        try:
            sys.setswitchinterval(1e-6)  # threads are stopped between any two steps
            with ThreadPoolExecutor(16) as pool:
                for reads in range(1, 31):
                    reader = TokenReader(NAME, client=source, clock=source.clock)
                    for answer in [pool.submit(reader.token) for _ in range(16)]:
                        answer.exception(30)
                    assert source.reads == reads
        finally:
            sys.setswitchinterval(interval)


class TestRenewal:
    def test_an_old_token_is_served_while_another_thread_reads(self, reader: TokenReader, source: OneBearer) -> None:
        reader.token()
        threads = threading.active_count()
        source.rotate()
        source.clock.now += HOUR
        source.gate = threading.Event()
        assert [reader.token(), reader.authorization()] == ["access-1", "Bearer access-1"]
        assert source.arrived.wait(30)
        assert reader.token() == "access-1"
        source.gate.set()
        join_renewals()
        assert (reader.token(), source.reads, threading.active_count()) == ("access-2", 2, threads)

    @pytest.mark.parametrize("max_age_seconds", [5, HOUR])
    def test_a_reader_in_use_has_a_new_token_within_its_maximum_age(
        self, max_age_seconds: float, source: OneBearer
    ) -> None:
        reader = TokenReader(NAME, client=source, clock=source.clock, max_age_seconds=max_age_seconds)
        for _ in range(20):
            settled(reader)
            source.clock.now += max_age_seconds / 6
        rotated_at = source.clock.now
        source.rotate()
        while settled(reader) == "access-1":
            source.clock.now += max_age_seconds / 100
        assert source.clock.now - rotated_at <= max_age_seconds * 1.02

    @pytest.mark.parametrize(
        ("drawn", "life_seconds", "read_after", "fresh_seconds"),
        [
            pytest.param(0, 15 * DAY, 0, HOUR, id="a long life is read again at the maximum age"),
            pytest.param(1, 15 * DAY, 0, HOUR / 2, id="a first read lasts half the maximum age at least"),
            pytest.param(0, None, 0, HOUR, id="a token without an end has the maximum age"),
            pytest.param(0, HOUR, 0, HOUR / 2, id="a planned refresh within the maximum age is waited for"),
            pytest.param(0, HOUR, HOUR / 3, HOUR / 6, id="also when it is near"),
            pytest.param(0, HOUR, HOUR / 2, HOUR / 2 * 0.75, id="once it is past, three quarters of what is left"),
            pytest.param(1, HOUR, HOUR / 2, HOUR / 4, id="or half of that"),
            pytest.param(0, HOUR, HOUR - 100, 75, id="a token that nears its end is read ever more often"),
        ],
    )
    def test_when_a_token_is_read_again(
        self,
        drawn: float,
        life_seconds: float | None,
        read_after: float,
        fresh_seconds: float,
        chance: Callable[[float], None],
    ) -> None:
        chance(drawn)
        source = OneBearer(EpochClock(), life_seconds)
        reader = TokenReader(NAME, client=source, clock=source.clock)
        source.clock.now += read_after
        reader.token()
        source.clock.now += fresh_seconds - 0.01
        settled(reader)
        assert source.reads == 1
        source.clock.now += 0.01
        settled(reader)
        assert source.reads == 2

    def test_a_later_read_moves_by_a_hundredth_of_the_maximum_age(
        self, reader: TokenReader, source: OneBearer, chance: Callable[[float], None]
    ) -> None:
        chance(1)
        reads = []
        for seconds in (0, HOUR / 2, HOUR * 0.99 - 0.01, 0.02):
            source.clock.now += seconds
            settled(reader)
            reads.append(source.reads)
        assert reads == [1, 2, 2, 3]

    @pytest.mark.parametrize(
        ("life_seconds", "least_apart"),
        [
            pytest.param(15 * DAY, 20 * 60, id="that began in the same second"),
            pytest.param(HOUR, 2 * 60, id="whose token is refreshed at one moment"),
        ],
    )
    def test_many_readers_are_spread(self, life_seconds: float, least_apart: float) -> None:
        source = OneBearer(EpochClock(), life_seconds)
        readers = [TokenReader(NAME, client=source, clock=source.clock) for _ in range(200)]
        for reader in readers:
            reader.token()
        due = sorted(reader._shared.cached.refresh_after for reader in readers)
        assert due[-1] - due[0] > least_apart
        assert max(sum(1 for at in due if begin <= at < begin + 10) for begin in due) < 50


class TestFailures:
    def test_are_not_seen_while_the_token_works_and_are_spaced(
        self, reader: TokenReader, source: OneBearer, chance: Callable[[float], None]
    ) -> None:
        chance(0.5)
        reader.token()
        source.failure = throttled()
        source.clock.now += HOUR
        tries = []
        for second in range(2 * 3600):
            before = source.reads
            assert settled(reader) == "access-1"
            if source.reads > before:
                tries.append(second)
            source.clock.now += 1
        assert tries == [0, 900, 4500]

    def test_without_a_token_they_are_raised_again_without_another_read_and_are_not_logged(
        self,
        reader: TokenReader,
        source: OneBearer,
        chance: Callable[[float], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        chance(0.5)
        source.failure = throttled()
        tries = []
        for tenth in range(1500):
            before = source.reads
            with pytest.raises(Unreachable, match="ThrottlingException"):
                reader.token()
            if source.reads > before:
                tries.append(tenth)
            source.clock.now = START + (tenth + 1) / 10
        assert tries == [0, 10, 30, 70, 150, 310, 630, 1230]
        assert [record for record in caplog.records if record.name == "virtuous_token"] == []
        source.failure = None
        source.clock.now += 90
        assert reader.token() == "access-1"

    @pytest.mark.parametrize(
        ("life_seconds", "served_seconds"),
        [
            pytest.param(15 * DAY, 15 * DAY - 10, id="to its end, less what a request takes"),
            pytest.param(None, DAY, id="for a day where nobody knows the end"),
        ],
    )
    def test_a_token_is_served_on_failed_reads_then_there_is_one_clear_error(
        self, life_seconds: float | None, served_seconds: float
    ) -> None:
        source = OneBearer(EpochClock(), life_seconds)
        reader = TokenReader(NAME, client=source, clock=source.clock)
        reader.token()
        source.failure = timed_out()
        source.clock.now = START + served_seconds - 0.01
        assert settled(reader) == "access-1"
        source.clock.now += 0.01
        with pytest.raises(Unreachable, match="ConnectTimeoutError"):
            reader.token()

    def test_a_stored_token_that_is_over_is_an_error_that_says_since_when(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        source.clock.now += 16 * DAY
        with pytest.raises(
            TokenExpired, match=r"its end: 2026-12-10T10:00:00Z; .* due at 2026-12-02T22:00:00Z.*alarms"
        ):
            reader.token()

    def test_a_stored_value_that_was_spoiled_does_not_touch_the_token_in_hand(
        self, reader: TokenReader, source: OneBearer, caplog: pytest.LogCaptureFixture
    ) -> None:
        reader.token()
        source.value = "{}"
        source.clock.now += HOUR
        assert (settled(reader), reader.token()) == ("access-1", "access-1")
        assert [record.getMessage() for record in caplog.records] == [
            f"the token could not be read again: secret '{NAME}': the bearer secret has no access_token"
        ]

    def test_after_one_the_reader_makes_another_client(
        self, source: OneBearer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[str] = []
        client = secrets_manager.SecretClient(source)

        def open_client(secret_id: str, _: float) -> secrets_manager.SecretClient:
            opened.append(secret_id)
            return client

        monkeypatch.setattr(secrets_manager.SecretClient, "open", open_client)
        reader = TokenReader(NAME, clock=source.clock)
        source.failure = ClientError({"Error": {"Code": "ExpiredTokenException"}}, "GetSecretValue")
        with pytest.raises(NotConfigured):
            reader.token()
        source.failure = None
        for seconds in (2, HOUR):
            source.clock.now += seconds
            settled(reader)
        assert opened == [NAME, NAME]


class TestTheClock:
    def test_a_token_that_ended_while_the_process_was_frozen_is_not_served(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        reader.token()
        source.clock.now += 14 * DAY
        source.rotate()
        source.clock.now += 2 * DAY
        assert reader.token() == "access-2"

    @pytest.mark.parametrize(
        ("seconds", "failure"),
        [
            pytest.param(DAY, None, id="the next read"),
            pytest.param(0, "throttled", id="a pause after a failure"),
            pytest.param(20 * DAY, "expired", id="a token whose end it was ahead of"),
        ],
    )
    def test_one_that_is_set_back_delays_nothing(
        self, seconds: float, failure: str | None, reader: TokenReader, source: OneBearer
    ) -> None:
        source.clock.now += seconds
        source.failure = throttled() if failure == "throttled" else None
        if failure is None:
            reader.token()
        else:
            with pytest.raises((Unreachable, TokenExpired)):
                reader.token()
        source.failure = None
        source.clock.now -= max(seconds, DAY)
        assert settled(reader) == "access-1"
        assert source.reads == 2

    def test_a_read_that_was_frozen_with_its_function_does_not_wedge_the_reader(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        reader.token()
        source.clock.now += HOUR
        frozen = source.gate = threading.Event()
        source.arrived.clear()
        reader.token()
        assert source.arrived.wait(30)
        source.gate = None
        source.rotate()
        source.clock.now += 60
        deadline = time.monotonic() + 10
        while reader.token() == "access-1" and time.monotonic() < deadline:
            time.sleep(0.001)  # lets the renewal in, up to the deadline
        frozen.set()
        join_renewals()
        assert (reader.token(), source.reads) == ("access-2", 3)


class TestAfterA401:
    def test_each_new_token_is_taken_up_at_once(self, reader: TokenReader, source: OneBearer) -> None:
        first = token = reader.token()
        for _ in range(3):
            source.rotate()
            assert reader.report_rejected(token)
            assert (token := reader.token()) == source.token
        assert reader.report_rejected(first)  # it was replaced meanwhile, which costs no read
        assert source.reads == 4

    @pytest.mark.parametrize(("cool_down_seconds", "reads"), [(60, 3), (0, 121)])
    def test_a_token_that_stays_refused_costs_one_read_in_a_cool_down(
        self, cool_down_seconds: float, reads: int, source: OneBearer
    ) -> None:
        reader = TokenReader(NAME, client=source, clock=source.clock, cool_down_seconds=cool_down_seconds)
        token = reader.token()
        for second in range(120):
            assert not reader.report_rejected(token)
            source.clock.now = START + second + 1
        assert source.reads == reads

    def test_64_threads_that_complain_make_one_read_and_others_have_the_token_in_hand(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        old = reader.token()
        source.rotate()
        source.gate = threading.Event()
        source.arrived.clear()
        with ThreadPoolExecutor(64) as pool:
            answers = [pool.submit(reader.report_rejected, old) for _ in range(64)]
            assert source.arrived.wait(30)
            assert reader.token() == old
            source.gate.set()
            assert {answer.result(30) for answer in answers} == {True}
        assert source.reads == 2

    @pytest.mark.parametrize("fails", [False, True], ids=["which works", "which fails"])
    def test_a_read_that_began_before_the_401_does_not_answer_it(
        self, fails: bool, reader: TokenReader, source: OneBearer
    ) -> None:
        old = reader.token()
        source.clock.now += HOUR
        source.gate, source.failure = threading.Event(), timed_out() if fails else None
        source.arrived.clear()
        reader.token()
        assert source.arrived.wait(30)
        source.rotate()
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(reader.report_rejected, old) for _ in range(4)]
            source.gate.set()
            assert [answer.result(30) for answer in answers] == [not fails] * 4
        assert reader.token() == ("access-1" if fails else "access-2")
        assert source.reads <= 3

    def test_there_is_another_only_if_it_works(self, reader: TokenReader, source: OneBearer) -> None:
        assert reader.report_rejected("access-0")  # which a cold reader reads for
        assert source.reads == 1
        source.clock.now += 16 * DAY
        assert not reader.report_rejected("access-0")


IN_A_PROCESS = """
import json, os, sys, threading, time
from virtuous_token import TokenReader

now = 1_800_000_000.0
block = False

class Client:
    reads = []
    def get_secret_value(self, *, SecretId, VersionStage):
        self.reads.append(os.getpid())
        if block:
            began.set()
            threading.Event().wait()
        return {"SecretString": json.dumps({"access_token": f"access-{len(self.reads)}"})}

began = threading.Event()
reader = TokenReader("bearer", client=Client(), clock=lambda: now)
assert reader.token() == "access-1"
now, block = now + 3600, True
assert reader.token() == "access-1"
began.wait()
"""


@pytest.mark.parametrize(
    ("program", "output"),
    [
        pytest.param(f"{IN_A_PROCESS}print('the end')", "the end", id="a process ends in the midst of a read"),
        pytest.param(
            f"{IN_A_PROCESS}import atexit; atexit.register(lambda: print(reader.token()))",
            "access-1",
            id="a token can be had while the process ends",
        ),
        pytest.param(
            "import sys, virtuous_token; names = {'asyncio', 'boto3', 'botocore', 'dataclasses', 'email', 'inspect', "
            "'json', 'ssl', 'urllib'}; print(names & set(sys.modules))",
            "set()",
            id="the package imports nothing that takes long",
        ),
        pytest.param(
            "import os, sys; os.environ |= {'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b'}\n"
            "from virtuous_token.secrets_manager import SecretClient\n"
            f"config = SecretClient.open({ARN!r}, 30).client.meta.config\n"
            "print(config.connect_timeout, config.read_timeout, 'botocore' in sys.modules, 'boto3' in sys.modules)",
            "2.0 5.0 True False",
            id="a read imports botocore and not boto3, and its client gives up soon",
        ),
    ],
)
def test_in_a_process_of_its_own(program: str, output: str) -> None:
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path}\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (output, "", 0)


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"max_age_seconds": 0}, id="no age at all, which would mean a read for each call"),
            pytest.param({"max_age_seconds": float("nan")}, id="an age that is no number"),
            pytest.param({"max_age_seconds": float("inf")}, id="an age without end"),
            pytest.param({"cool_down_seconds": -1}, id="a negative cool-down"),
            pytest.param({"timeout_seconds": 0}, id="no time to wait"),
            pytest.param({"secret_id": " "}, id="a blank name"),
        ],
    )
    def test_senseless_ones_are_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="|".join(settings)):
            TokenReader(**settings)

    def test_the_environment_names_the_secret_of_the_processs_reader(
        self, source: OneBearer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reader = TokenReader(client=source, clock=source.clock)
        monkeypatch.setitem(reader_module._of_the_process, "reader", reader)
        monkeypatch.delenv("VIRTUOUS_BEARER_SECRET", raising=False)
        with pytest.raises(NotConfigured, match="VIRTUOUS_BEARER_SECRET"):
            bearer_token()
        reader.forget()
        monkeypatch.setenv("VIRTUOUS_BEARER_SECRET", " from-the-environment\n")
        assert [bearer_token(), bearer_token()] == ["access-1", "access-1"]
        assert source.asked == [("from-the-environment", "AWSCURRENT")]


def frames_of(error: BaseException | None) -> Iterator[FrameType]:
    """The frames that an error leads to, its causes' included."""
    while error is not None:
        step = error.__traceback__
        while step is not None:
            yield step.tb_frame
            step = step.tb_next
        error = error.__cause__ or error.__context__


class TestNothingLeaks:
    @pytest.mark.parametrize(
        ("stored", "advice"),
        [
            pytest.param({"access_token": "s3cret-1", "refresh_token": "s3cret-2"}, "/bearer", id="a pair"),
            pytest.param({"access_token": "s3cret-1\ns3cret-2"}, "control", id="a newline within the token"),
            pytest.param({"access_token": ["s3cret-1"]}, "no access_token", id="a token that is no text"),
            pytest.param(["s3cret-1"], "not a JSON object", id="a list"),
            pytest.param("s3cret-1", "not a JSON object", id="plain text"),
        ],
    )
    def test_a_value_that_cannot_be_used_is_in_no_error_in_no_frame_and_in_no_memory(
        self, stored: object, advice: str, reader: TokenReader, source: OneBearer
    ) -> None:
        source.value = json.dumps(stored)
        with pytest.raises(UnreadableSecret, match=advice) as raised:
            reader.token()
        assert "s3cret" not in str(raised.value)
        for frame in frames_of(raised.value):
            if frame.f_code.co_name != "test_a_value_that_cannot_be_used_is_in_no_error_in_no_frame_and_in_no_memory":
                assert "s3cret" not in repr(frame.f_locals)
        assert "s3cret" not in repr([vars(reader._shared), vars(reader._secret)])

    def test_a_pasted_token_is_cleaned_of_quotes_and_space(self, reader: TokenReader, source: OneBearer) -> None:
        source.value = json.dumps({"access_token": ' "access-1"\n'})
        assert reader.authorization() == "Bearer access-1"

    def test_the_token_is_in_no_log_at_debug(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setattr(logging.getLogger("botocore.parsers"), "level", logging.NOTSET)
        caplog.set_level(logging.DEBUG)
        with mock_aws():
            client = secrets_manager.SecretClient.open(ARN, 30).client
            secret = client.create_secret(Name=NAME, SecretString=json.dumps({"access_token": "access-not-for-logs"}))
            caplog.clear()
            assert TokenReader(secret["ARN"]).token() == "access-not-for-logs"
        lines = [record.getMessage() for record in caplog.records]
        assert any(NAME in line for line in lines), "the log was not seen at all"
        assert not [line for line in lines if "access-not-for-logs" in line]
