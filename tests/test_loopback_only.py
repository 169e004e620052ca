"""The guard of tests/conftest.py: in tests only loopback is reached."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from tests.loopback_only import NotLoopback, is_loopback

ELSEWHERE = ("192.0.2.1", 80)  # TEST-NET-1, RFC 5737: nobody's


def a_datagram() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ELSEWHERE)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda: socket.getaddrinfo("scheduler.us-east-1.amazonaws.com", 443), id="a name"),
        pytest.param(lambda: socket.gethostbyname("example.org"), id="a name in the old way"),
        pytest.param(lambda: socket.create_connection(ELSEWHERE, timeout=0.1), id="an address"),
        pytest.param(a_datagram, id="a datagram"),
    ],
)
def test_nothing_but_loopback_is_asked(ask: Callable[[], object], left_this_machine: list[str]) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            ask()
        except NotLoopback as refused:
            caught.append(refused)

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert len(caught) == len(left_this_machine) == 2
    left_this_machine.clear()


def test_a_name_that_is_nobodys_does_not_exist() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("silent.example", 443)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("localhost", True, id="its name"),
        pytest.param(b"127.8.0.1", True, id="any of its addresses"),
        pytest.param("::1", True, id="in IPv6"),
        pytest.param("localhost.example.org", False, id="a name that begins alike"),
        pytest.param("169.254.169.254", False, id="the metadata service"),
    ],
)
def test_what_is_loopback(host: object, expected: bool) -> None:
    assert is_loopback(host) is expected
