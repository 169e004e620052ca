"""Forks: a child has a token whatever its parent was doing, and a fork waits for nothing that may hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.one_bearer import NAME
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import served
from tests.fork_instants import INSTANTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")

ROOT = Path(__file__).parents[1]
# Python 3.12 and later warn of a fork beside threads, which is what is tried here.
PREPARATION = """
import json, logging, multiprocessing, os, signal, sys, threading, time, warnings
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
OF_MULTIPROCESSING = """
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
# What a program does, the program, and what it prints.
PROGRAMS: dict[str, tuple[str, str]] = {
    **{
        f"a reader goes to the processes of multiprocessing by {method}": (
            OF_MULTIPROCESSING.replace("{method!r}", repr(method)),
            "['access-1', 'access-1'] access-1\n",
        )
        for method in ("fork", "spawn", "forkserver")
    },
    "a fork does not wait for a read that hangs, and its child reads by itself": (
        """
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
""",
        "0 True\naccess-1 1\n",
    ),
    "a handler that interrupts the wait forks twice, and the child of its child gets the token": (
        """
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
threading.Thread(target=reader.token, daemon=True).start()
Client.arrived.wait(30)
signal.setitimer(signal.ITIMER_REAL, 0.2)
token = reader.token()  # in the parent, and in the child of the child, which comes back from the handler
if children[-1] == 0:
    os._exit(0 if token == "access-1" else 3)
print(token, os.waitpid(children[-1], 0)[1])
""",
        "access-1 0\n",
    ),
    "a fork in the reading thread itself waits for nothing": (
        """
class Forking(Client):
    def get_secret_value(self, **_):
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - began < 5)
        return {"SecretString": self.value}
print(TokenReader("a/b", client=Forking()).token())
""",
        "7 True\naccess-1\n",
    ),
    "children of one parent do not come due together": (
        """
now = 1_800_000_000
Client.gate.set()
reader = TokenReader("a/b", client=Client(), clock=lambda: now)
reader.token()
def minutes():
    global now
    for minute in range(61):
        if Client.reads > 1:
            return minute
        now += 60
        reader.token()
        [thread.join() for thread in threading.enumerate() if thread.name == "virtuous-token-read"]
due = []
for _ in range(16):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, str(minutes()).encode())
        os._exit(0)
    os.wait()
    due.append(int(os.read(reading, 99)))
print(len(set(due)) > 5, max(due) - min(due) > 10, max(due) <= minutes())
""",
        "True True True\n",
    ),
    "the standard library's logging works on both sides": (
        """
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
""",
        "0\n0\n0\naccess-1\n",
    ),
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    strict = StrictSecretsManager(region="eu-west-1")
    value = json.dumps({"access_token": "access-1", "expires_at": "2100-01-01T00:00:00Z"})
    strict.call("CreateSecret", {"Name": NAME, "SecretString": value, "ClientRequestToken": "0" * 32})
    with served(strict) as address:
        yield address


def printed(endpoint: str, folder: Path, *arguments: str) -> str:
    """What a program prints in a process of its own, whose Secrets Manager is the one at *endpoint*."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT / "layers" / "virtuous_token"), str(ROOT)]),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": endpoint,
        "VIRTUOUS_BEARER_SECRET": NAME,
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_at_each_of_25_instants_of_a_cold_first_read_the_child_gets_the_token(endpoint: str, tmp_path: Path) -> None:
    assert printed(endpoint, tmp_path, "-m", "tests.fork_instants") == f"{INSTANTS}\n"


@pytest.mark.parametrize(("program", "output"), PROGRAMS.values(), ids=PROGRAMS)
def test_both_sides_of_a_fork_go_on(program: str, output: str, endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PREPARATION + program)
    assert printed(endpoint, tmp_path, str(tmp_path / "program.py")) == output
