"""``make local`` says that it runs when it does, whatever an earlier run left."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.local_world import Place

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

PLACE = Place("test-of-local")


def local(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.deployed.local_world", command, PLACE.name],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    yield
    local("stop")


def endpoint() -> str:
    found = re.search(r"AWS_ENDPOINT_URL=(\S+)", PLACE.environment.read_text())
    assert found
    return found[1]


@pytest.mark.usefixtures("nothing_is_left")
def test_a_second_start_waits_for_the_second_world() -> None:
    for _ in range(2):
        output = local("start")
        assert "virtuous-token login" in output, "it said that it runs before anybody had logged in"
        assert "Running" in output
        with urllib.request.urlopen(f"{endpoint()}/_ministack/ready") as answer:
            assert answer.status == 200
        assert "Stopped." in local("stop")
