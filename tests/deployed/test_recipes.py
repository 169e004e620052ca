"""The programs of the pages on reading against the deployed stack, with no more than the reader policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deployed.world import World
from tests.recipes import PROGRAMS, run

pytestmark = pytest.mark.deployed


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reads_the_token_and_calls_virtuous(name: str, deployed_world: World, tmp_path: Path) -> None:
    environment = deployed_world.as_reader() | {"NO_PROXY": "127.0.0.1,localhost"}

    done = run(name, deployed_world.virtuous.base_url, environment, tmp_path)

    assert (done.stdout, done.stderr, done.returncode) == ("Example Relief\n", "", 0)
