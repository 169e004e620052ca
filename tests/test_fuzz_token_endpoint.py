"""A small share of the campaign ``fuzz_token_endpoint``, with Hypothesis in the place of chance."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.campaigns import fuzz_token_endpoint
from tests.campaigns.fuzz_token_endpoint import ScriptedServer, ask
from tests.leak_harness import LeakHarness
from tests.seed import SEED


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


def test_a_campaign_tells_its_count_and_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz_token_endpoint.main(["--answers", "20", "--seed", "7"]) == 0
    output = capsys.readouterr().out
    assert "20 answers, seed 7" in output
    assert "0 surprises" in output
