"""The local AWS is one that the refresher's journal can be trusted on, and it ends with whoever started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.world import World
from tests.facts import FACTS, Fact

pytestmark = pytest.mark.deployed


@pytest.mark.parametrize("fact", FACTS, ids=[fact.name for fact in FACTS])
def test_it_does_what_aws_does(empty_world: World, fact: Fact) -> None:
    manager, name = empty_world.client("secretsmanager"), f"overlay/{uuid4()}"
    manager.create_secret(Name=name)

    fact.check(manager, name)


def test_it_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from tests.deployed.local_aws import local_aws

with local_aws(Path({str(tmp_path)!r})) as endpoint:
    print(endpoint, flush=True)
    time.sleep(600)  # until the test kills this process
"""
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    with starter:
        assert starter.stdout is not None
        port = urlsplit(starter.stdout.readline()).port
        assert port is not None
        assert is_open(port)
        os.kill(starter.pid, signal.SIGKILL)

    deadline = time.monotonic() + 10
    while is_open(port):
        assert time.monotonic() < deadline, "the local AWS outlives its starter"
        time.sleep(0.05)  # the local AWS notices by itself that its starter is gone; the deadline judges


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
