"""Forks: a child has a token whatever its parent was doing, and a fork waits for nothing that may hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import served
from tests.fork_instants import INSTANTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")

ROOT = Path(__file__).parents[1]
NAME = "virtuous/default/bearer"
# Python 3.12 and later warn of a fork beside threads, which is what is tried here.
PREPARATION = """
import json, multiprocessing, os, signal, sys, threading, time, warnings
from virtuous_token import TokenReader
warnings.simplefilter("ignore")

class Client:
    value = json.dumps({"access_token": "access-1"})
    gate = threading.Event()
    arrived = threading.Event()
    reads = 0
    def get_secret_value(self, **_):
        Client.reads += 1
        self.arrived.set()
        self.gate.wait(60)
        return {"SecretString": self.value}
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    strict = StrictSecretsManager(region="eu-west-1")
    value = json.dumps({"access_token": "access-1", "expires_at": "2100-01-01T00:00:00Z"})
    strict.call("CreateSecret", {"Name": NAME, "SecretString": value, "ClientRequestToken": "0" * 32})
    with served(strict) as address:
        yield address


@pytest.fixture
def run(endpoint: str, tmp_path: Path) -> Callable[..., str]:
    """What a program prints in a process of its own, whose Secrets Manager is the one on loopback."""

    def run(*arguments: str, program: str = "") -> str:
        (tmp_path / "program.py").write_text(PREPARATION + program)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT / "layers" / "virtuous_token"), str(ROOT)]),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": endpoint,
            "VIRTUOUS_BEARER_SECRET": NAME,
        }
        command = [sys.executable, *(arguments or [str(tmp_path / "program.py")])]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


@pytest.mark.parametrize("reader", ["virtuous_token", "bearer_token"])
def test_at_each_of_25_instants_of_a_cold_first_read_the_child_gets_the_token(
    reader: str, run: Callable[..., str]
) -> None:
    assert run("-m", "tests.fork_instants", reader, "30") == f"{INSTANTS} {INSTANTS}\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_reader_goes_to_the_processes_of_multiprocessing(method: str, run: Callable[..., str]) -> None:
    program = f"""
def work(reader, answers):
    answers.put(reader.token())

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    reader = TokenReader(max_age_seconds=600)
    threading.Thread(target=reader.token, daemon=True).start()
    answers = context.SimpleQueue()
    workers = [context.Process(target=work, args=(reader, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    print([answers.get() for _ in workers], reader.token())
    for worker in workers:
        worker.join(60)
"""
    assert run(program=program) == "['access-1', 'access-1'] access-1\n"


def test_a_fork_does_not_wait_for_a_read_that_hangs_and_its_child_reads_by_itself(run: Callable[..., str]) -> None:
    program = """
reader = TokenReader("a/b", client=Client())
threading.Thread(target=reader.token, daemon=True).start()
Client.arrived.wait(30)
began = time.monotonic()
child = os.fork()
if child == 0:
    Client.gate.set()
    os._exit(0 if reader.token() == "access-1" and Client.reads == 2 else 3)
took = time.monotonic() - began
print(os.waitpid(child, 0)[1], took < 5)
Client.gate.set()
print(reader.token(), Client.reads)
"""
    assert run(program=program) == "0 True\naccess-1 1\n"


def test_a_child_of_a_child_of_a_handler_that_interrupts_the_wait_gets_the_token(run: Callable[..., str]) -> None:
    program = """
reader = TokenReader("a/b", client=Client())
children = []
def handle(*_):
    children.append(os.fork())
    if children[-1] == 0:
        children[-1] = os.fork()  # nested
        if children[-1]:
            os._exit(os.waitpid(children[-1], 0)[1] != 0)
        Client.gate.set()
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.2)
if os.getpid() == int(os.environ.setdefault("PARENT", str(os.getpid()))):
    threading.Thread(target=lambda: (time.sleep(2), Client.gate.set()), daemon=True).start()
token = reader.token()  # in the parent, and in the child of the child, which comes back from the handler
if children[-1] == 0:
    os._exit(0 if token == "access-1" else 3)
print(token, os.waitpid(children[-1], 0)[1])
"""
    assert run(program=program) == "access-1 0\n"


def test_a_fork_in_the_reading_thread_itself_waits_for_nothing(run: Callable[..., str]) -> None:
    program = """
class Forking(Client):
    def get_secret_value(self, **_):
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - began < 0.4)
        return {"SecretString": self.value}
print(TokenReader("a/b", client=Forking()).token())
"""
    assert run(program=program) == "7 True\naccess-1\n"


def test_children_of_one_parent_do_not_come_due_together(run: Callable[..., str]) -> None:
    program = """
Client.gate.set()
reader = TokenReader("a/b", client=Client())
reader.token()
due = [reader._shared.cached.refresh_after]
for _ in range(16):
    reading, writing = os.pipe()
    if os.fork() == 0:
        assert reader.token() == "access-1"
        os.write(writing, repr(reader._shared.cached.refresh_after).encode())
        os._exit(0)
    os.wait()
    due.append(float(os.read(reading, 99)))
print(len(set(due)), max(due) == due[0], max(due) - min(due) > 600, Client.reads)
"""
    assert run(program=program) == "17 True True 1\n"


def test_the_standard_librarys_logging_works_on_both_sides(run: Callable[..., str]) -> None:
    program = """
import logging
logging.basicConfig(handlers=[logging.NullHandler()])
reader = TokenReader()
threading.Thread(target=reader.token, daemon=True).start()
for _ in range(3):
    child = os.fork()
    logging.getLogger("a").warning("still here") if child else None
    if child == 0:
        logging.getLogger("b").setLevel(10)
        threading.Thread(target=logging.getLogger, args=("c",)).start()
        os._exit(0 if reader.token() == "access-1" else 3)
    threading.Thread(target=logging.getLogger, args=(f"d{child}",)).start()  # stuck if the lock were left held
    print(os.waitpid(child, 0)[1])
print(reader.token())
"""
    assert run(program=program) == "0\n0\n0\naccess-1\n"
