"""The pace at which the function calls Secrets Manager: under its published rates, and shared with others."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.fakes.secrets_manager import AwsError, StrictSecretsManager
from tests.fakes.secrets_manager_http import RequestRates, served
from token_refresher.aws.pacing import WRITES_PER_SECOND, Pace, pace

THROTTLED = {"Error": {"Code": "ThrottlingException"}}


class Seconds:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _pace(per_second: float) -> tuple[Pace, Seconds]:
    seconds = Seconds()
    return Pace(per_second, clock=seconds, sleep=seconds.sleep), seconds


def _calls_until(end: float, seconds: Seconds, kept: Pace, rates: RequestRates | None = None) -> int:
    """How many calls pass before *end*, if each is made as soon as it may be."""
    passed = 0
    while seconds.now < end:
        kept.wait()
        try:
            if rates:
                rates.admit("PutSecretValue")
        except AwsError:
            kept.observe(THROTTLED)
        else:
            kept.observe()
            passed += 1
    return passed


def test_calls_are_spaced_evenly_and_a_pause_is_made_up_for_by_one_call_alone() -> None:
    kept, seconds = _pace(50)
    for began in (0, 100):
        seconds.now = began
        kept.wait()
        assert seconds.now == began  # the first waits for nobody
        for _ in range(101):
            kept.wait()
        assert round(seconds.now, 6) == began + 2  # one call more than the pace in all


def test_callers_that_come_now_a_little_late_and_now_a_little_early_keep_the_whole_pace() -> None:
    kept, seconds = _pace(50)
    for late in [0.03, 0.01] * 50:
        kept.wait()
        seconds.now += late
    assert round(seconds.now, 3) == 2


def test_where_others_use_the_rate_too_the_pace_falls_to_what_passes_and_comes_back() -> None:
    kept, seconds = _pace(50)
    rates = RequestRates({("PutSecretValue",): 20}, clock=seconds)
    _calls_until(10, seconds, kept, rates)
    rates.refused.clear()

    shared = _calls_until(20, seconds, kept, rates)
    alone = _calls_until(60, seconds, kept)

    assert 190 <= shared <= 200
    assert rates.refused["PutSecretValue"] <= 30  # once in a while
    assert alone >= 40 * 50 - 400  # it needs some seconds to come back


def test_an_operator_who_logs_in_meanwhile_gets_through() -> None:
    """A write now and then, between two of the sweep's: what is refused then is the sweep's, which repeats it."""
    kept, seconds = _pace(WRITES_PER_SECOND)
    rates = RequestRates(clock=seconds)
    for second in range(2, 60, 2):
        _calls_until(second, seconds, kept, rates)
        seconds.now += 0.004
        rates.admit("PutSecretValue")

    assert rates.refused["PutSecretValue"] <= 29
    assert rates.admitted["PutSecretValue"] >= 57 * (WRITES_PER_SECOND - 1)


def test_calls_go_on_however_little_passes() -> None:
    kept, seconds = _pace(50)
    for _ in range(20):
        kept.wait()
        kept.observe(THROTTLED)
    began = seconds.now
    kept.wait()
    assert seconds.now - began <= 0.21


@pytest.mark.parametrize(
    ("paced_at", "admitted", "puts", "refused"),
    [
        pytest.param(18, 20, 25, range(1), id="under the published rate it meets no throttling"),
        pytest.param(40, 3, 6, range(1, 5), id="what is throttled slows it down, and is repeated in its turn"),
    ],
)
def test_a_client_is_paced(paced_at: int, admitted: int, puts: int, refused: range) -> None:
    rates = RequestRates({("CreateSecret",): 100, ("PutSecretValue", "UpdateSecretVersionStage"): admitted})
    with served(StrictSecretsManager(), rates=rates) as address:
        config = Config(retries={"mode": "standard", "total_max_attempts": 5})
        session = boto3.session.Session("none", "none", region_name="us-east-1")
        client: Any = session.client("secretsmanager", endpoint_url=address, config=config)
        pace(client, paced_at)
        client.create_secret(Name="a")
        for number in range(puts):
            client.put_secret_value(SecretId="a", SecretString=str(number))
        client.close()

    assert rates.admitted["PutSecretValue"] == puts
    assert rates.refused["PutSecretValue"] in refused
