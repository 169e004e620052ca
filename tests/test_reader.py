"""The reader: one look at the clock, one read for all threads, nobody waits while a token works, none has expired."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from moto import mock_aws

from tests.fakes.one_bearer import DAY, HOUR, START, EpochClock, OneBearer, join_renewals
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.leak_harness import LeakHarness
from virtuous_token import (
    NoSuchSecret,
    NotAllowed,
    NotConfigured,
    NotLoggedIn,
    NoToken,
    TokenExpired,
    TokenReader,
    Unreachable,
    UnreadableSecret,
    VirtuousTokenError,
    _cached_token,
    bearer_token,
    secrets_manager,
)
from virtuous_token import (
    reader as reader_module,
)

NAME = "virtuous/default/bearer"
ARN = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:virtuous/default/bearer-AbCdEf"


@pytest.fixture
def clock() -> EpochClock:
    return EpochClock()


@pytest.fixture
def source(clock: EpochClock, harness: LeakHarness) -> Iterator[OneBearer]:
    source = OneBearer(clock)
    for generation in range(1, 4):
        harness.secret(f"access-{generation}")
    yield source
    if source.gate is not None:
        source.gate.set()
    join_renewals()


@pytest.fixture
def reader(source: OneBearer, clock: EpochClock) -> TokenReader:
    return TokenReader(NAME, client=source, clock=clock)


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets what would be drawn at random."""

    def set_to(value: float) -> None:
        monkeypatch.setattr(_cached_token, "random_fraction", lambda: value)

    return set_to


def timed_out() -> ConnectTimeoutError:
    return ConnectTimeoutError(endpoint_url="https://secretsmanager.example", error="no answer")


def throttled() -> ClientError:
    return ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "GetSecretValue")


class TestInMemory:
    def test_the_first_call_reads_and_later_ones_do_not(self, reader: TokenReader, source: OneBearer) -> None:
        assert [reader.token() for _ in range(3)] == ["access-1"] * 3
        assert reader.authorization() == "Bearer access-1"
        assert source.reads == 1

    def test_making_a_reader_reads_nothing(self, reader: TokenReader, source: OneBearer) -> None:
        assert source.reads == 0

    def test_always_asks_for_the_current_version_by_its_label(self, reader: TokenReader, source: OneBearer) -> None:
        reader.token()
        assert source.asked == [(NAME, "AWSCURRENT")]

    def test_readers_of_two_secrets_never_mix(self, clock: EpochClock) -> None:
        one, other = OneBearer(clock), OneBearer(clock)
        other.rotate()
        readers = TokenReader("one", client=one, clock=clock), TokenReader("other", client=other, clock=clock)
        assert [reader.token() for reader in readers * 2] == ["access-1", "access-2"] * 2

    def test_one_look_at_the_clock_answers(self, source: OneBearer) -> None:
        looks = 0

        def clock() -> float:
            nonlocal looks
            looks += 1
            return START

        reader = TokenReader(NAME, client=source, clock=clock)
        reader.token()
        looks = 0
        reader.token()
        reader.authorization()
        assert looks == 2

    def test_repr_shows_the_secrets_name_alone(self, reader: TokenReader) -> None:
        reader.token()
        assert repr(reader) == f"TokenReader('{NAME}')"


class TestOneFlight:
    def test_64_threads_on_a_cold_reader_make_one_read(self, reader: TokenReader, source: OneBearer) -> None:
        source.gate = threading.Event()
        ready = threading.Barrier(65)

        def ask() -> str:
            ready.wait(30)
            return reader.token()

        with ThreadPoolExecutor(64) as pool:
            answers = [pool.submit(ask) for _ in range(64)]
            ready.wait(30)
            assert source.arrived.wait(30)
            source.gate.set()
            assert {answer.result(30) for answer in answers} == {"access-1"}
        assert source.reads == 1

    @pytest.mark.parametrize("fails", [False, True], ids=["and it works", "and it fails"])
    def test_threads_that_come_when_the_read_has_just_ended_make_no_other(
        self, fails: bool, source: OneBearer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if fails:
            source.failure = timed_out()
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

    def test_threads_that_wait_for_a_read_that_fails_all_get_its_error(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        source.gate, source.failure = threading.Event(), timed_out()
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(reader.token) for _ in range(8)]
            assert source.arrived.wait(30)
            source.gate.set()
            assert {type(answer.exception(30)) for answer in answers} == {Unreachable}
        assert source.reads == 1

    def test_an_error_that_is_not_awss_becomes_one_of_ours(self, reader: TokenReader, source: OneBearer) -> None:
        source.failure = RuntimeError("a fault of the client that was given")
        with pytest.raises(Unreachable, match="RuntimeError") as raised:
            reader.token()
        assert "a fault" not in str(raised.value)


class TestRenewal:
    def test_an_old_token_is_served_while_another_thread_reads(self, reader: TokenReader, source: OneBearer) -> None:
        reader.token()
        source.rotate()
        source.clock.now += HOUR
        source.gate = threading.Event()
        assert [reader.token(), reader.authorization()] == ["access-1", "Bearer access-1"]
        assert source.arrived.wait(30)
        assert reader.token() == "access-1"
        source.gate.set()
        join_renewals()
        assert reader.token() == "access-2"
        assert source.reads == 2

    def test_a_reader_in_use_has_a_new_token_within_its_maximum_age(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        reader.token()
        for _ in range(20):
            source.clock.now += 600
            reader.token()
            join_renewals()
        rotated_at = source.clock.now
        source.rotate()
        while reader.token() == "access-1":
            join_renewals()
            source.clock.now += 1
        assert source.clock.now - rotated_at <= HOUR + 1

    def test_a_short_maximum_age_is_kept_too(self, source: OneBearer) -> None:
        reader = TokenReader(NAME, client=source, clock=source.clock, max_age_seconds=5)
        reader.token()
        source.rotate()
        source.clock.now += 5
        reader.token()
        join_renewals()
        assert reader.token() == "access-2"

    def test_no_thread_is_left_when_the_read_has_ended(self, reader: TokenReader, source: OneBearer) -> None:
        before = threading.active_count()
        reader.token()
        source.clock.now += HOUR
        reader.token()
        join_renewals()
        assert threading.active_count() == before

    def test_a_system_without_threads_to_spare_still_gets_the_old_token(
        self, reader: TokenReader, source: OneBearer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        reader.token()
        source.clock.now += HOUR
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert [reader.token(), reader.token()] == ["access-1", "access-1"]
        monkeypatch.undo()
        source.clock.now += 1200
        reader.token()
        join_renewals()
        assert source.reads == 2

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
        clock: EpochClock,
        chance: Callable[[float], None],
    ) -> None:
        chance(drawn)
        source = OneBearer(clock, life_seconds)
        reader = TokenReader(NAME, client=source, clock=clock)
        clock.now += read_after
        reader.token()
        read_at = clock.now
        clock.now = read_at + fresh_seconds - 0.01
        reader.token()
        join_renewals()
        assert source.reads == 1
        clock.now = read_at + fresh_seconds
        reader.token()
        join_renewals()
        assert source.reads == 2

    def test_a_later_read_moves_by_a_hundredth_of_the_maximum_age(
        self, reader: TokenReader, source: OneBearer, chance: Callable[[float], None]
    ) -> None:
        chance(1)
        reader.token()
        source.clock.now += HOUR / 2
        reader.token()
        join_renewals()
        source.clock.now += HOUR * 0.99 - 0.01
        reader.token()
        join_renewals()
        assert source.reads == 2
        source.clock.now += 0.02
        reader.token()
        join_renewals()
        assert source.reads == 3

    @pytest.mark.parametrize(
        ("life_seconds", "least_apart"),
        [
            pytest.param(15 * DAY, 20 * 60, id="that began in the same second"),
            pytest.param(HOUR, 2 * 60, id="whose token is refreshed at one moment"),
        ],
    )
    def test_many_readers_are_spread(self, life_seconds: float, least_apart: float, clock: EpochClock) -> None:
        source = OneBearer(clock, life_seconds)
        readers = [TokenReader(NAME, client=source, clock=clock) for _ in range(200)]
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
            assert reader.token() == "access-1"
            join_renewals()
            if source.reads > before:
                tries.append(second)
            source.clock.now += 1
        assert tries == [0, 900, 4500]

    def test_a_token_is_served_to_its_end_then_one_clear_error(self, reader: TokenReader, source: OneBearer) -> None:
        reader.token()
        source.failure = timed_out()
        source.clock.now = START + 15 * DAY - 10.01
        assert reader.token() == "access-1"
        join_renewals()
        source.clock.now += 0.01
        with pytest.raises(Unreachable, match="ConnectTimeoutError"):
            reader.token()

    def test_without_a_token_they_are_raised_again_without_another_read(
        self, reader: TokenReader, source: OneBearer, chance: Callable[[float], None]
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

    def test_that_are_raised_are_not_logged_as_well(
        self, reader: TokenReader, source: OneBearer, caplog: pytest.LogCaptureFixture
    ) -> None:
        source.failure = throttled()
        with pytest.raises(Unreachable):
            reader.token()
        assert [record for record in caplog.records if record.name == "virtuous_token"] == []

    def test_end_as_soon_as_a_read_works(self, reader: TokenReader, source: OneBearer) -> None:
        source.failure = throttled()
        with pytest.raises(Unreachable):
            reader.token()
        source.failure = None
        source.clock.now += 2
        assert reader.token() == "access-1"
        assert reader._shared.failure is None

    def test_a_token_without_an_end_is_served_for_a_day_on_failed_reads(self, clock: EpochClock) -> None:
        source = OneBearer(clock, None)
        reader = TokenReader(NAME, client=source, clock=clock)
        reader.token()
        source.failure = timed_out()
        clock.now = START + DAY - 1
        assert reader.token() == "access-1"
        join_renewals()
        clock.now = START + DAY
        with pytest.raises(Unreachable):
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
        reader.token()
        join_renewals()
        assert reader.token() == "access-1"
        assert [record.getMessage() for record in caplog.records] == [
            f"the token could not be read again: secret '{NAME}': the bearer secret has no access_token"
        ]

    def test_after_one_the_reader_makes_another_client(
        self, clock: EpochClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = OneBearer(clock)
        connections = []

        def opened(secret_id: str, _: float) -> secrets_manager.SecretClient:
            connections.append(secret_id)
            return secrets_manager.SecretClient(source)

        monkeypatch.setattr(secrets_manager.SecretClient, "open", opened)
        reader = TokenReader(NAME, clock=clock)
        source.failure = ClientError({"Error": {"Code": "ExpiredTokenException"}}, "GetSecretValue")
        with pytest.raises(NotConfigured):
            reader.token()
        source.failure = None
        clock.now += 2
        reader.token()
        clock.now += HOUR
        reader.token()
        join_renewals()
        assert connections == [NAME, NAME]


class TestTheClock:
    def test_a_token_that_ended_while_the_process_was_frozen_is_not_served(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        reader.token()
        source.clock.now += 14 * DAY
        source.rotate()
        source.clock.now += 2 * DAY
        assert reader.token() == "access-2"

    def test_a_clock_that_is_set_back_does_not_prolong_a_pause(self, reader: TokenReader, source: OneBearer) -> None:
        source.failure = throttled()
        with pytest.raises(Unreachable):
            reader.token()
        source.failure = None
        source.clock.now -= DAY
        assert reader.token() == "access-1"

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
        reader.token()
        deadline = time.monotonic() + 10
        while reader.token() == "access-1" and time.monotonic() < deadline:
            time.sleep(0.001)  # lets the renewal in, up to the deadline
        frozen.set()
        join_renewals()
        assert reader.token() == "access-2"
        assert source.reads == 3


class TestRejected:
    def test_reads_again_and_says_that_there_is_another_token(self, reader: TokenReader, source: OneBearer) -> None:
        old = reader.token()
        source.rotate()
        assert reader.report_rejected(old)
        assert reader.token() == "access-2"

    def test_says_that_there_is_none_and_reads_once_in_a_cool_down(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        old = reader.token()
        assert [reader.report_rejected(old) for _ in range(5)] == [False] * 5
        assert source.reads == 2
        source.clock.now += 60
        source.rotate()
        assert reader.report_rejected(old)
        assert source.reads == 3

    def test_without_a_cool_down_each_complaint_makes_one_read(self, source: OneBearer) -> None:
        reader = TokenReader(NAME, client=source, clock=source.clock, cool_down_seconds=0)
        old = reader.token()
        assert [reader.report_rejected(old) for _ in range(3)] == [False] * 3
        assert source.reads == 4

    def test_64_threads_that_complain_make_one_read(self, reader: TokenReader, source: OneBearer) -> None:
        old = reader.token()
        source.rotate()
        source.gate = threading.Event()
        source.arrived.clear()
        with ThreadPoolExecutor(64) as pool:
            answers = [pool.submit(reader.report_rejected, old) for _ in range(64)]
            assert source.arrived.wait(30)
            source.gate.set()
            assert {answer.result(30) for answer in answers} == {True}
        assert source.reads == 2

    def test_a_token_that_was_replaced_meanwhile_costs_no_read(self, reader: TokenReader, source: OneBearer) -> None:
        old = reader.token()
        source.rotate()
        reader.report_rejected(old)
        assert reader.report_rejected(old)
        assert source.reads == 2

    def test_a_read_that_began_before_the_complaint_does_not_answer_it(
        self, reader: TokenReader, source: OneBearer
    ) -> None:
        old = reader.token()
        source.clock.now += HOUR
        source.gate = threading.Event()
        source.arrived.clear()
        reader.token()
        assert source.arrived.wait(30)
        source.rotate()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(reader.report_rejected, old)
            source.gate.set()
            assert answer.result(30)
        assert reader.token() == "access-2"

    def test_a_failed_read_means_no_other_token_and_no_error(self, reader: TokenReader, source: OneBearer) -> None:
        old = reader.token()
        source.failure = throttled()
        assert not reader.report_rejected(old)
        assert reader.token() == old

    def test_other_callers_get_the_token_in_hand_meanwhile(self, reader: TokenReader, source: OneBearer) -> None:
        old = reader.token()
        source.gate = threading.Event()
        source.arrived.clear()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(reader.report_rejected, old)
            assert source.arrived.wait(30)
            assert reader.token() == old
            source.gate.set()
            assert not answer.result(30)

    def test_on_a_cold_reader_reads(self, reader: TokenReader, source: OneBearer) -> None:
        assert reader.report_rejected("access-0")
        assert source.reads == 1


IN_A_PROCESS = """
import json, os, sys, threading, time
from virtuous_token import TokenReader

now = 1_800_000_000.0
gate = threading.Event()
block = False

class Client:
    reads = []
    def get_secret_value(self, *, SecretId, VersionStage):
        self.reads.append(os.getpid())
        if block:
            began.set()
            gate.wait()
        return {"SecretString": json.dumps({"access_token": f"access-{len(self.reads)}"})}
    def describe_secret(self, *, SecretId):
        return {}

began = threading.Event()
reader = TokenReader("bearer", client=Client(), clock=lambda: now)
assert reader.token() == "access-1"
now, block = now + 3600, True
assert reader.token() == "access-1"
began.wait()
"""


def run(program: str) -> str:
    """What a process prints in which a read in the background is under way, and does not end."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS + program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class TestProcesses:
    def test_a_process_ends_in_the_middle_of_a_read(self) -> None:
        assert run("print('the end')") == "the end\n"

    def test_a_token_can_be_had_while_the_process_ends(self) -> None:
        assert run("import atexit; atexit.register(lambda: print(reader.token()))") == "access-1\n"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
    def test_a_child_does_not_wait_for_its_parents_read(self) -> None:
        story = """
import warnings
warnings.simplefilter("ignore")  # Python 3.12 and later warn of a fork beside threads, which is what is tried here
child = os.fork()
if child == 0:
    block = False
    assert reader.token() == "access-1"
    while reader.token() == "access-1":
        time.sleep(0.001)  # lets the renewal in; the test has a time-out
    print(reader.token(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
        assert run(story) == "access-3\n"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
    def test_a_child_makes_a_client_of_its_own(self) -> None:
        story = """
import warnings
from virtuous_token import secrets_manager
warnings.simplefilter("ignore")  # as above
block, makers = False, []
kind = secrets_manager.SecretClient
kind.open = lambda *_: makers.append(os.getpid()) or kind(Client())
reader = TokenReader("bearer", clock=lambda: now)
reader.token()
child = os.fork()
now += 365 * 24 * 3600  # what is in hand has expired on both sides, so each reads
reader.token()
assert makers == ([os.getppid(), os.getpid()] if child == 0 else [os.getpid()]), makers
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
        assert run(story) == "0\n"

    def test_importing_the_package_imports_neither_boto3_nor_what_takes_long(self) -> None:
        heavy = ["asyncio", "boto3", "botocore", "dataclasses", "email", "inspect", "json", "ssl", "urllib"]
        program = f"import sys, virtuous_token; print([name for name in {heavy} if name in sys.modules])"
        found = subprocess.run(
            [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path}; {program}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert found.stdout == "[]\n"

    def test_a_read_imports_botocore_but_not_boto3(self) -> None:
        program = """
import sys
os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
from virtuous_token.secrets_manager import SecretClient
SecretClient.open("arn:aws:secretsmanager:eu-west-3:123456789012:secret:bearer-AbCdEf", 30)
print("botocore" in sys.modules, "boto3" in sys.modules)
"""
        assert run(program) == "True False\n"


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"max_age_seconds": 0}, id="no age at all, which would mean a read for each call"),
            pytest.param({"max_age_seconds": float("nan")}, id="an age that is no number"),
            pytest.param({"max_age_seconds": float("inf")}, id="an age without end"),
            pytest.param({"cool_down_seconds": -1}, id="a negative cool-down"),
            pytest.param({"secret_id": " "}, id="a blank name"),
        ],
    )
    def test_senseless_ones_are_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"max_age_seconds|cool_down_seconds|secret_id"):
            TokenReader(**settings)

    def test_the_environment_names_the_secret(
        self, source: OneBearer, clock: EpochClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reader = TokenReader(client=source, clock=clock)
        monkeypatch.setenv("VIRTUOUS_BEARER_SECRET", " from-the-environment\n")
        assert reader.token() == "access-1"
        assert source.asked == [("from-the-environment", "AWSCURRENT")]

    def test_without_a_name_the_error_tells_where_to_put_it(
        self, source: OneBearer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("VIRTUOUS_BEARER_SECRET", raising=False)
        with pytest.raises(NotConfigured, match="VIRTUOUS_BEARER_SECRET"):
            TokenReader(client=source).token()

    def test_bearer_token_is_the_environments_from_one_reader(
        self, source: OneBearer, clock: EpochClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(reader_module._of_the_process, "reader", TokenReader(client=source, clock=clock))
        monkeypatch.setenv("VIRTUOUS_BEARER_SECRET", NAME)
        assert [bearer_token(), bearer_token()] == ["access-1", "access-1"]
        assert source.asked == [(NAME, "AWSCURRENT")]

    def test_its_own_client_has_short_timeouts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        config = secrets_manager.SecretClient.open(ARN, 30).client.meta.config
        assert (config.connect_timeout, config.read_timeout) == (2, 5)


class TestSecretsManagersAnswers:
    """Against the strict Secrets Manager, through a real botocore client."""

    @pytest.fixture
    def strict(self) -> StrictSecretsManager:
        return StrictSecretsManager()

    @pytest.fixture
    def stored(self, strict: StrictSecretsManager) -> Any:
        """A client; the secret has a value."""
        client = strict.client()
        client.create_secret(Name=NAME, SecretString=json.dumps({"access_token": "access-1"}))
        return client

    def test_a_value_is_read(self, stored: Any) -> None:
        assert TokenReader(NAME, client=stored).token() == "access-1"

    def test_an_operators_move_of_the_label_is_followed(self, stored: Any) -> None:
        first = stored.describe_secret(SecretId=NAME)["VersionIdsToStages"]
        stored.put_secret_value(SecretId=NAME, SecretString=json.dumps({"access_token": "access-2"}))
        reader = TokenReader(NAME, client=stored)
        assert reader.token() == "access-2"
        current = stored.get_secret_value(SecretId=NAME)["VersionId"]
        stored.update_secret_version_stage(
            SecretId=NAME, VersionStage="AWSCURRENT", MoveToVersionId=next(iter(first)), RemoveFromVersionId=current
        )
        assert reader.report_rejected("access-2")
        assert reader.token() == "access-1"

    def test_no_secret_of_that_name(self, strict: StrictSecretsManager) -> None:
        with pytest.raises(NoSuchSecret, match=r"there is no secret 'virtuous/default/bearer'.*AWS_REGION"):
            TokenReader(NAME, client=strict.client()).token()

    def test_a_secret_without_a_value(self, strict: StrictSecretsManager) -> None:
        client = strict.client()
        client.create_secret(Name=NAME)
        with pytest.raises(NotLoggedIn, match="virtuous-token login"):
            TokenReader(NAME, client=client).token()

    def test_one_that_cannot_be_told_from_a_missing_one(self, strict: StrictSecretsManager) -> None:
        strict.fail("DescribeSecret", "AccessDeniedException")
        with pytest.raises(NotLoggedIn, match=r"or does not exist.*virtuous-token login"):
            TokenReader(NAME, client=strict.client()).token()

    @pytest.mark.parametrize("described", [True, False], ids=["and can be described", "and cannot be described"])
    def test_a_secret_that_is_marked_for_deletion(
        self, described: bool, strict: StrictSecretsManager, stored: Any
    ) -> None:
        stored.delete_secret(SecretId=NAME)
        if not described:
            strict.fail("DescribeSecret", "AccessDeniedException")
        with pytest.raises(NoSuchSecret, match=r"marked for deletion.*restore-secret"):
            TokenReader(NAME, client=stored).token()

    def test_a_key_that_refuses(self, strict: StrictSecretsManager, stored: Any) -> None:
        strict.refuse_kms(NAME, "kms:Decrypt")
        with pytest.raises(NotAllowed, match=r"reader policy.*kms:Decrypt"):
            TokenReader(NAME, client=stored).token()

    @pytest.mark.parametrize(
        ("code", "kind", "advice"),
        [
            pytest.param("AccessDeniedException", NotAllowed, "reader policy", id="no permission"),
            pytest.param("DecryptionFailure", NotAllowed, "kms:Decrypt", id="a key that is disabled"),
            pytest.param("UnrecognizedClientException", NotConfigured, "renew them", id="unknown credentials"),
            pytest.param("ExpiredTokenException", NotConfigured, "renew them", id="credentials that are over"),
            pytest.param("ValidationException", NotConfigured, "for a name or an ARN", id="a name that cannot be"),
            pytest.param("ThrottlingException", Unreachable, "later calls try again", id="throttled"),
            pytest.param("InternalServiceError", Unreachable, "later calls try again", id="trouble at AWS"),
            pytest.param("SomethingNew", Unreachable, "SomethingNew", id="a code that nobody knows yet"),
            pytest.param("ReadTimeoutError", Unreachable, "could not be reached", id="no answer in time"),
            pytest.param("EndpointConnectionError", Unreachable, "could not be reached", id="no connection"),
        ],
    )
    def test_a_refusal_says_what_to_do(
        self, code: str, kind: type[NoToken], advice: str, strict: StrictSecretsManager, stored: Any
    ) -> None:
        strict.fail("GetSecretValue", code)
        with pytest.raises(kind, match=advice) as raised:
            TokenReader(NAME, client=stored).token()
        assert raised.value.__cause__ is None
        assert raised.value.__context__ is None


def frames_of(error: BaseException) -> Iterator[FrameType]:
    """The frames that an error leads to, its causes' included."""
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is None:
            continue
        chain += [link.__cause__, link.__context__]
        step = link.__traceback__
        while step is not None:
            yield step.tb_frame
            step = step.tb_next


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
    def test_a_value_that_cannot_be_used_is_in_no_error_and_in_no_frame_that_it_leads_to(
        self, stored: object, advice: str, reader: TokenReader, source: OneBearer
    ) -> None:
        source.value = json.dumps(stored)
        with pytest.raises(UnreadableSecret, match=advice) as raised:
            reader.token()
        assert "s3cret" not in str(raised.value)
        here = sys._getframe()
        for frame in frames_of(raised.value):
            if frame is not here:
                assert "s3cret" not in repr(frame.f_locals)

    def test_no_refresh_token_stays_in_the_readers_memory(self, reader: TokenReader, source: OneBearer) -> None:
        source.value = json.dumps({"access_token": "access-1", "refresh_token": "refresh-1"})
        with pytest.raises(UnreadableSecret):
            reader.token()
        source.value = None
        reached, queue = set(), [reader]
        while queue:
            thing = queue.pop()
            if id(thing) not in reached and not isinstance(thing, type | OneBearer | type(sys)):
                reached.add(id(thing))
                assert "refresh-1" not in str(thing)
                queue += gc.get_referents(thing) if isinstance(thing, TokenReader | _cached_token.CachedToken) else []

    def test_a_pasted_token_is_cleaned_of_quotes_and_space(self, reader: TokenReader, source: OneBearer) -> None:
        source.value = json.dumps({"access_token": ' "access-1"\n'})
        assert reader.authorization() == "Bearer access-1"

    def test_the_token_is_in_no_log_at_debug(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        parsers = logging.getLogger("botocore.parsers")
        monkeypatch.setattr(parsers, "level", logging.NOTSET)
        caplog.set_level(logging.DEBUG)
        with mock_aws():
            client = secrets_manager.SecretClient.open(ARN, 30).client
            secret = client.create_secret(Name=NAME, SecretString=json.dumps({"access_token": "access-not-for-logs"}))
            caplog.clear()
            assert TokenReader(secret["ARN"]).token() == "access-not-for-logs"
        lines = [record.getMessage() for record in caplog.records]
        assert any(NAME in line for line in lines), "the log was not seen at all"
        assert not [line for line in lines if "access-not-for-logs" in line]

    def test_every_error_of_the_package_is_in_its_tree(self) -> None:
        kinds = {NoSuchSecret, NotAllowed, NotConfigured, NotLoggedIn, TokenExpired, Unreachable}
        assert all(issubclass(kind, NoToken) for kind in kinds)
        assert issubclass(NoToken, VirtuousTokenError)
        assert issubclass(UnreadableSecret, VirtuousTokenError)


def test_the_instant_of_the_fake_is_the_clocks() -> None:
    source = OneBearer(EpochClock())
    expires_at = json.loads(source.value or "")["expires_at"]
    assert datetime.fromisoformat(expires_at) == datetime.fromtimestamp(START + 15 * DAY, UTC)
