"""A local AWS on loopback: starting it, and ending all of it whatever happens."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

REPOSITORY = Path(__file__).resolve().parents[2]
INTERPRETER = REPOSITORY / ".venv-local-aws" / "bin" / "python"
REGION = "us-east-1"
SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 10.0


class LocalAwsFailed(Exception):
    """The local AWS did not come up; the text says where its log is."""


@contextlib.contextmanager
def local_aws(directory: Path) -> Iterator[str]:
    """Serves AWS with permissions enforced and yields its address. Log and temporary files go to *directory*.

    Nothing of it is left at the end, nor after this process was killed.
    """
    if not INTERPRETER.exists():
        raise LocalAwsFailed("the local AWS is not installed: make .venv-local-aws")
    # Below those that systems give to whoever asks for any: none takes it before the local AWS does.
    for port in random.sample(range(20_000, 32_000), 20):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            break
    log, scratch = directory / "local-aws.log", directory / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": f"{INTERPRETER.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "BIND_HOST": "127.0.0.1",  # by default every interface
        "MINISTACK_HOST": "127.0.0.1",  # in the addresses that it hands out
        "GATEWAY_PORT": str(port),
        "AUTH": "true",  # permissions are enforced
        "IOT_MTLS_ENABLED": "false",
        "SFTP_ENABLED": "false",
        "MINISTACK_REGION": REGION,
    }
    command = [str(INTERPRETER), "-m", "tests.deployed.ministack_with_overlay"]
    with (
        log.open("wb") as output,
        process_group(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        _wait_until_ready(process, port, log)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def process_group(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Runs *command* as the leader of a process group; at the end the whole group is gone. Options are Popen's."""
    process: subprocess.Popen[bytes] = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_STOP)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def aws_environment(endpoint: str, base: Mapping[str, str], directory: Path) -> dict[str, str]:
    """*base* without any trace of a real AWS account, pointed at *endpoint* as its administrator."""
    nowhere = str(directory / "no-aws-configuration")
    kept = {name: value for name, value in base.items() if not name.startswith(("AWS_", "SAM_", "VIRTUOUS_"))}
    return kept | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline, direct = time.monotonic() + SECONDS_TO_START, build_opener(ProxyHandler({}))
    while True:
        with contextlib.suppress(OSError), direct.open(f"http://127.0.0.1:{port}/_ministack/ready", timeout=2):
            return  # any answer but 2xx is an OSError
        if process.poll() is not None or time.monotonic() > deadline:
            raise LocalAwsFailed(f"the local AWS has not come up (status {process.returncode}); its log is {log}")
        time.sleep(0.1)  # a process that is starting can only be asked, up to the deadline
