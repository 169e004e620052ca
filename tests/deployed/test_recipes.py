"""The programs of the pages on reading against the deployed stack, with no more than the reader policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployed.world import World
from tests.recipes import PROGRAMS, run

pytestmark = pytest.mark.deployed


@pytest.fixture(scope="module")
def reader_environment(deployed_world: World) -> Iterator[dict[str, str]]:
    """What points a program at the local AWS as a user who has the stack's reader policy alone."""
    with deployed_world.reader_user() as environment:
        yield environment | {"NO_PROXY": "127.0.0.1,localhost"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reads_the_token_and_calls_virtuous(
    name: str, deployed_world: World, reader_environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(name, deployed_world.virtuous.base_url, reader_environment, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("Example Relief\n", "", 0)
