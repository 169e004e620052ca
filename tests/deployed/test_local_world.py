"""``make local`` says that it runs when it does, whatever an earlier run left."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request

import pytest

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.local_world import directory_of

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

NAME = "test-of-local"


def local(command: str) -> str:
    command_line = [sys.executable, "-m", "tests.deployed.local_world", command, NAME]
    return subprocess.run(command_line, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_a_second_start_waits_for_the_second_world() -> None:
    try:
        for _ in range(2):
            output = local("start")
            assert "virtuous-token login" in output, "it said that it runs before anybody had logged in"
            assert "Running" in output
            (endpoint,) = re.findall(r"AWS_ENDPOINT_URL=(\S+)", (directory_of(NAME) / "environment").read_text())
            with urllib.request.urlopen(f"{endpoint}/_ministack/ready") as answer:
                assert answer.status == 200
            assert "Stopped." in local("stop")
    finally:
        local("stop")
