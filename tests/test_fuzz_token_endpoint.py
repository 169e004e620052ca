"""A small share of the campaign ``fuzz_token_endpoint``, with Hypothesis in the place of chance."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.campaigns import fuzz_token_endpoint
from tests.campaigns.framings import CURL, answer, read_by_curl
from tests.campaigns.fuzz_token_endpoint import ScriptedServer, ask
from tests.leak_harness import LeakHarness
from tests.seed import SEED
from token_refresher.refresh.model import Granted
from token_refresher.virtuous.judgement import judge_token
from token_refresher.virtuous.transcript import read_response


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as serving:
        yield serving


@seed(SEED)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=False))
def test_whatever_comes_is_a_result_in_time(
    chance: random.Random, server: ScriptedServer, harness: LeakHarness
) -> None:
    harness.hears_libraries = True
    ask(chance, server, harness)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_what_curl_reads_we_read() -> None:
    """A few hundred odd framings, and curl itself as the judge."""
    raw = [answer(random.Random(f"{SEED}/{number}"), content(number)) for number in range(600)]
    read = read_by_curl(raw)
    ours = [judged(one) for one in raw]
    assert sum(found is not None for found in read) > 100
    lost = [number for number, found in enumerate(read) if found and ours[number] != found["refresh_token"]]
    assert not lost, raw[lost[0]]


def content(number: int) -> dict[str, Any]:
    return {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}", "userName": "zoë@x.org"}


def judged(raw: bytes) -> str | None:
    """The refresh token that the product reads out of an answer."""
    response = read_response(raw, ended=True)
    answer = response and judge_token(response, datetime(2026, 11, 25, 10, tzinfo=UTC))
    return answer.refresh_token.reveal() if isinstance(answer, Granted) and answer.refresh_token else None


def test_a_campaign_tells_its_count_and_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz_token_endpoint.main(["--answers", "20", "--seed", "7"]) == 0
    output = capsys.readouterr().out
    assert "20 answers, seed 7" in output
    assert "0 surprises" in output
