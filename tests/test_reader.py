"""The reader: one read for all threads, nobody waits while a token works, none has expired."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from moto import mock_aws

from tests.fakes.one_bearer import DAY, HOUR, NAME, START, OneBearer, frames_of, join_renewals
from tests.fakes.week import Week, live
from tests.leak_harness import LeakHarness
from virtuous_token import (
    NotConfigured,
    TokenExpired,
    TokenReader,
    Unreachable,
    UnreadableSecret,
    async_bearer_token,
    bearer_token,
    process_reader,
)

ARN = f"arn:aws:secretsmanager:eu-west-3:123456789012:secret:{NAME}-AbCdEf"
TIMED_OUT = ConnectTimeoutError(endpoint_url="https://secretsmanager.example", error="no answer")
Chance = Callable[[float], None]
THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "GetSecretValue")


@pytest.fixture
def source(harness: LeakHarness) -> Iterator[OneBearer]:
    for generation in range(1, 4):
        harness.secret(f"access-{generation}")
    with OneBearer() as source:
        yield source


@pytest.fixture
def reader(source: OneBearer) -> TokenReader:
    return source.reader()


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> Chance:
    """Sets what is drawn at random, from 0 to 1."""
    return lambda value: monkeypatch.setattr(os, "urandom", lambda size: int(value * (256**size - 1)).to_bytes(size))


@pytest.fixture
def clients(source: OneBearer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clients that readers make for themselves: each is *source*."""
    made: list[str] = []

    def make(_: object, service: str, **__: object) -> OneBearer:
        made.append(service)
        return source

    monkeypatch.setattr("botocore.session.Session.create_client", make)
    return made


def settled(reader: TokenReader) -> str:
    """A token, once the renewal that this began has ended."""
    token = reader.token()
    join_renewals()
    return token


fails_or_not = pytest.mark.parametrize("failure", [None, TIMED_OUT], ids=["which works", "which fails"])


class TestInMemory:
    def test_the_first_call_reads_the_current_version_and_later_ones_read_nothing(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        assert source.asked == []
        assert [reader.token() for _ in range(3)] == ["access-1"] * 3
        assert reader.authorization() == "Bearer access-1"
        assert source.asked == [(NAME, "AWSCURRENT")]
        assert repr(reader) == f"TokenReader('{NAME}')"

    @fails_or_not
    def test_threads_that_come_while_a_cold_reader_reads_or_when_it_just_has_make_no_other_read(
        self, failure: Exception | None, source: OneBearer
    ) -> None:
        source.failure = failure
        interval = sys.getswitchinterval()
        try:
            sys.setswitchinterval(1e-6)  # threads are stopped between any two steps
            with ThreadPoolExecutor(16) as pool:
                for reads in range(1, 31):
                    reader = source.reader()
                    source.hold()
                    answers = [pool.submit(reader.token) for _ in range(16)]
                    assert source.arrived.wait(30)
                    source.let_go()
                    answers += [pool.submit(reader.token) for _ in range(16)]
                    kinds = {type(answer.exception(30)) for answer in answers}
                    assert (kinds, source.reads) == ({Unreachable if failure else type(None)}, reads)
        finally:
            sys.setswitchinterval(interval)


class TestRenewal:
    def test_an_old_token_is_served_while_another_thread_reads(self, reader: TokenReader, source: OneBearer) -> None:
        reader.token()
        threads = threading.active_count()
        source.rotate()
        source.clock.now += HOUR
        source.hold()
        assert [reader.token(), reader.authorization()] == ["access-1", "Bearer access-1"]
        assert source.arrived.wait(30)
        assert reader.token() == "access-1"
        source.let_go()
        join_renewals()
        assert (reader.token(), source.reads, threading.active_count()) == ("access-2", 2, threads)

    @pytest.mark.parametrize(
        ("drawn", "life_seconds", "read_after", "fresh_seconds"),
        [
            pytest.param(0, 15 * DAY, 0, HOUR, id="a long life is read again at the maximum age"),
            pytest.param(1, 15 * DAY, 0, HOUR / 2, id="a first read lasts half the maximum age at least"),
            pytest.param(0, None, 0, HOUR, id="a token without an end has the maximum age"),
            pytest.param(0, HOUR, 0, HOUR / 2, id="a planned refresh within the maximum age is waited for"),
            pytest.param(0, HOUR, HOUR / 2, HOUR / 2 * 0.75, id="once it is past, three quarters of what is left"),
            pytest.param(1, HOUR, HOUR / 2, HOUR / 4, id="or half of that"),
            pytest.param(0, HOUR, HOUR - 100, 75, id="a token that nears its end is read ever more often"),
        ],
    )
    def test_when_a_token_is_read_again(
        self, drawn: float, life_seconds: float | None, read_after: float, fresh_seconds: float, chance: Chance
    ) -> None:
        chance(drawn)
        source = OneBearer(life_seconds)
        reader = source.reader()
        source.clock.now += read_after
        reader.token()
        source.clock.now += fresh_seconds - 0.01
        settled(reader)
        assert source.reads == 1
        source.clock.now += 0.02
        settled(reader)
        assert source.reads == 2

    @pytest.mark.parametrize("max_age_seconds", [5, HOUR])
    def test_a_later_read_moves_by_a_hundredth_of_the_maximum_age(
        self, max_age_seconds: float, source: OneBearer, chance: Chance
    ) -> None:
        chance(1)
        reader = source.reader(max_age_seconds=max_age_seconds)
        reads = []
        for ages in (0, 0.51, 0.989, 0.002):
            source.clock.now += ages * max_age_seconds
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
        source = OneBearer(life_seconds)
        readers = [source.reader() for _ in range(200)]
        for reader in readers:
            reader.token()
        due: list[float] = []
        while readers:
            source.clock.now += 10
            for reader in list(readers):
                before = source.reads
                settled(reader)
                if source.reads > before:
                    readers.remove(reader)
                    due.append(source.clock.now)
        assert due[-1] - due[0] > least_apart
        assert max(due.count(at) for at in due) < 50

    @pytest.mark.parametrize(
        ("life_seconds", "most_calls_a_day"),
        [
            pytest.param(15 * DAY, 25, id="a token of fifteen days"),
            pytest.param(4 * HOUR, 40, id="a token of four hours"),
        ],
    )
    def test_in_a_week_with_rotations_throttling_and_an_outage_nobody_waits_or_gets_a_token_that_is_over(
        self, life_seconds: float, most_calls_a_day: int, chance: Chance
    ) -> None:
        chance(0.5)
        week = Week(life_seconds)
        seen = live(week, TokenReader(NAME, client=week, clock=week.clock).token, join_renewals)
        assert (seen.waits, seen.errors, seen.expired) == (0, 0, 0)
        assert seen.busiest_day <= most_calls_a_day
        assert seen.slowest_change_seconds <= HOUR


class TestFailures:
    @pytest.mark.parametrize(
        ("is_in_hand", "every_seconds", "tries"),
        [
            pytest.param(True, 60, [0, 900, 4500, 8100], id="nobody sees them while the token works"),
            pytest.param(False, 1, [0, 1, 3, 7, 15, 31, 63, 123], id="without a token they are raised again"),
        ],
    )
    def test_are_spaced(
        self,
        is_in_hand: bool,
        every_seconds: float,
        tries: list[float],
        reader: TokenReader,
        source: OneBearer,
        chance: Chance,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        chance(0.5)
        seen: AbstractContextManager[Any] = pytest.raises(Unreachable, match="ThrottlingException")
        if is_in_hand:
            reader.token()
            source.clock.now += HOUR
            seen = nullcontext()
        source.failure = THROTTLED
        reads = []
        for step in range(150):
            before = source.reads
            with seen:
                assert settled(reader) == "access-1"
            reads += [step * every_seconds] * (source.reads - before)
            source.clock.now += every_seconds
        assert reads == tries
        lines = [record.getMessage() for record in caplog.records if record.name == "virtuous_token"]
        assert [line[:36] for line in lines] == ["the token could not be read again: r"] * is_in_hand * len(tries)
        source.failure = None
        source.rotate()
        source.clock.now += HOUR
        assert [settled(reader), reader.token()][-1] == "access-2"

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
        source = OneBearer(life_seconds)
        reader = source.reader()
        reader.token()
        source.failure = TIMED_OUT
        source.clock.now = START + served_seconds - 0.01
        assert settled(reader) == "access-1"
        source.clock.now += 0.01
        with pytest.raises(Unreachable, match="ConnectTimeoutError"):
            reader.token()
        source.failure = None
        source.rotate()
        source.clock.now += HOUR
        assert reader.token() == "access-2"  # though the old one was in hand when this process was frozen

    def test_a_stored_token_that_is_over_is_an_error_that_says_since_when(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        source.clock.now += 16 * DAY
        with pytest.raises(
            TokenExpired, match=r"its end: 2026-12-10T10:00:00Z; .* due at 2026-12-02T22:00:00Z.*alarms"
        ):
            reader.token()

    def test_after_one_and_when_told_to_forget_the_reader_makes_another_client(
        self, source: OneBearer, clients: list[str]
    ) -> None:
        reader = TokenReader(ARN, clock=source.clock)
        source.failure = ClientError({"Error": {"Code": "ExpiredTokenException"}}, "GetSecretValue")
        with pytest.raises(NotConfigured):
            reader.token()
        source.failure = None
        for seconds in (2, HOUR):
            source.clock.now += seconds
            settled(reader)
        assert len(clients) == 2
        reader.forget()
        assert (reader.token(), len(clients)) == ("access-1", 3)


class TestTheClock:
    @pytest.mark.parametrize(
        ("seconds", "failure"),
        [
            pytest.param(DAY, None, id="the next read"),
            pytest.param(0, THROTTLED, id="a pause after a failure"),
            pytest.param(20 * DAY, None, id="a token whose end it was ahead of"),
        ],
    )
    def test_one_that_is_set_back_delays_nothing(
        self, seconds: float, failure: Exception | None, reader: TokenReader, source: OneBearer
    ) -> None:
        source.clock.now += seconds
        source.failure = failure
        with nullcontext() if seconds == DAY else pytest.raises((Unreachable, TokenExpired)):
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
        frozen = source.hold()
        reader.token()
        assert source.arrived.wait(30)
        source.rotate()
        source.clock.now += 60
        source.hold().set()
        assert reader.report_rejected("access-1")  # which waits for a read that is under way
        frozen.set()
        join_renewals()
        assert (reader.token(), source.reads) == ("access-2", 3)


class TestAfterA401:
    def test_each_new_token_is_taken_up_at_once(self, reader: TokenReader, source: OneBearer) -> None:
        first = token = reader.token()
        for _ in range(3):
            rotated = source.rotate()
            assert reader.report_rejected(token)
            assert (token := reader.token()) == rotated
        assert reader.report_rejected(first)  # it was replaced meanwhile, which costs no read
        assert source.reads == 4

    @pytest.mark.parametrize(("cool_down_seconds", "reads"), [(60, 3), (0, 121)])
    def test_a_token_that_stays_refused_costs_one_read_in_a_cool_down(
        self, cool_down_seconds: float, reads: int, source: OneBearer
    ) -> None:
        reader = source.reader(cool_down_seconds=cool_down_seconds)
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
        source.hold()
        with ThreadPoolExecutor(64) as pool:
            answers = [pool.submit(reader.report_rejected, old) for _ in range(64)]
            assert source.arrived.wait(30)
            assert reader.token() == old
            source.let_go()
            assert {answer.result(30) for answer in answers} == {True}
        assert source.reads == 2

    @fails_or_not
    def test_a_read_that_began_before_the_401_does_not_answer_it(
        self, failure: Exception | None, reader: TokenReader, source: OneBearer
    ) -> None:
        old = reader.token()
        source.clock.now += HOUR
        source.hold()
        source.failure = failure
        reader.token()
        assert source.arrived.wait(30)
        source.rotate()
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(reader.report_rejected, old) for _ in range(4)]
            source.let_go()
            assert [answer.result(30) for answer in answers] == [failure is None] * 4
        assert reader.token() == ("access-1" if failure else "access-2")
        assert source.reads <= 3

    def test_there_is_another_only_if_it_works(self, reader: TokenReader, source: OneBearer) -> None:
        assert reader.report_rejected("access-0")  # which a cold reader reads for
        assert source.reads == 1
        source.clock.now += 16 * DAY
        assert not reader.report_rejected("access-0")


IN_A_PROCESS = """
import atexit, json, threading
from virtuous_token import TokenReader

now, block, began = 1_800_000_000.0, False, threading.Event()

class Client:
    def get_secret_value(self, **_):
        if block:
            began.set()
            threading.Event().wait()
        return {"SecretString": json.dumps({"access_token": "access-1"})}

reader = TokenReader("bearer", client=Client(), clock=lambda: now)
reader.token()
now, block = now + 3600, True
reader.token()
began.wait()
atexit.register(lambda: print(reader.token()))
"""


@pytest.mark.parametrize(
    ("program", "output"),
    [
        pytest.param(IN_A_PROCESS, "access-1", id="a process ends in the midst of a read, and still gives a token"),
        pytest.param(
            "import sys, virtuous_token; names = {'asyncio', 'boto3', 'botocore', 'dataclasses', 'email', 'inspect', "
            "'json', 'ssl', 'urllib'}; print(names & set(sys.modules))",
            "set()",
            id="the package imports nothing that takes long",
        ),
        pytest.param(
            f"import sys, virtuous_token; virtuous_token.TokenReader({ARN!r}).report_rejected('access-0')\n"
            "print('botocore' in sys.modules, 'boto3' in sys.modules)",
            "True False",
            id="a read imports botocore and not boto3",
        ),
    ],
)
def test_in_a_process_of_its_own(program: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "missing")
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path}\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (output, "", 0)


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"max_age_seconds": 0}, id="no age at all, which would mean a read for each call"),
            pytest.param({"max_age_seconds": float("nan")}, id="an age that is no number"),
            pytest.param({"cool_down_seconds": -1}, id="a negative cool-down"),
            pytest.param({"timeout_seconds": 0}, id="no time to wait"),
            pytest.param({"secret_id": " "}, id="a blank name"),
        ],
    )
    def test_senseless_ones_are_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="|".join(settings)):
            TokenReader(**settings)

    def test_the_environment_names_the_secret_of_the_processs_one_reader(
        self, clients: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(NotConfigured, match="VIRTUOUS_BEARER_SECRET"):
            bearer_token()
        process_reader().forget()
        monkeypatch.setenv("VIRTUOUS_BEARER_SECRET", f" {NAME}\n")
        assert [bearer_token(), asyncio.run(async_bearer_token()), process_reader().token()] == ["access-1"] * 3
        assert len(clients) == 1
        process_reader().forget()


class TestNothingLeaks:
    @pytest.mark.parametrize(
        ("stored", "advice"),
        [
            pytest.param({"access_token": "s3cret-1", "refresh_token": "s3cret-2"}, "/bearer", id="a pair"),
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
            if frame.f_code.co_filename != __file__:
                assert "s3cret" not in repr(frame.f_locals)
        parts = [reader, *vars(reader).values()]
        assert "s3cret" not in repr([vars(part) for part in parts if type(part).__module__.startswith("virtuous_")])

    def test_the_token_is_in_no_log_at_debug(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setattr(logging.getLogger("botocore.parsers"), "level", logging.NOTSET)
        caplog.set_level(logging.DEBUG)
        with mock_aws():
            client = boto3.client("secretsmanager", region_name="eu-west-3")
            secret = client.create_secret(Name=NAME, SecretString=json.dumps({"access_token": "access-not-for-logs"}))
            caplog.clear()
            assert TokenReader(secret["ARN"]).token() == "access-not-for-logs"
        assert any(NAME in line for line in caplog.messages), "the log was not seen at all"
        assert not [line for line in caplog.messages if "access-not-for-logs" in line]
