"""The harness that every test runs under: no secret that a stand-in issued may appear where a person could read it.

Watched are all log records, standard output and error (not with ``pytest -s``), exceptions with their causes and
contexts, also those that ``pytest.raises`` caught, and what a test hands to ``harness.watch``. Secrets are those of
every ``Virtuous`` that a test makes, and what it names with ``harness.secret``. They are looked for as they are,
percent-encoded, in base64 and escaped as in JSON or a repr.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

import pytest

from tests.fakes.virtuous import Virtuous

SHORTEST = 6  # what is shorter would be found by chance
CONTEXT = 40  # characters shown round a find

# At DEBUG these log what they send: no concern of ours while a test itself uses them. That the product holds them at
# INFO is seen by the tests that set ``harness.hears_libraries``.
LIBRARIES = ("boto3", "botocore", "botocore.parsers", "urllib3")

# What every record has and what is no text of the program's.
_PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) - {"args", "msg", "exc_info", "exc_text", "stack_info"}

T = TypeVar("T")


class LeakHarness:
    """Collects what one test makes visible, and knows the secrets that must not be in it."""

    def __init__(self) -> None:
        self.hears_libraries = False
        self.records: list[logging.LogRecord] = []
        self.stand_ins: list[Virtuous] = []  # what they issue is secret
        self._seen: list[tuple[str, str]] = []
        self._secrets: set[str] = set()

    def secret(self, text: str) -> str:
        """*text*, which from now on is a secret."""
        self._secrets.add(text)
        return text

    def watch(self, value: T, name: str = "a watched value") -> T:
        """*value*, which must hold no secret: in its repr, its str or as JSON."""
        if isinstance(value, BaseException):
            self._seen += ((name, text) for text in _texts_of(value))
        else:
            self._seen.append((name, f"{value!r}\n{value}\n{json.dumps(value, default=repr)}"))
        return value

    def clear(self) -> None:
        """Forget what was seen and what is secret."""
        for found in (self.records, self._seen, self._secrets, self.stand_ins):
            found.clear()

    def leaks(self) -> list[str]:
        """Where a secret was seen; the secret itself is masked."""
        seen = self._seen + [(f"a log record of {record.name}", _text_of(record)) for record in self.records]
        if not seen:
            return []
        secrets = self._secrets.union(*(stand_in.secrets() for stand_in in self.stand_ins))
        long_enough = [secret for secret in secrets if len(secret) >= SHORTEST]
        forms = sorted({form for secret in long_enough for form in _forms(secret)}, key=len, reverse=True)
        return [f"{channel}: {_excerpt(text, form)}" for channel, text in seen for form in forms if form in text]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Sees every log record that is made meanwhile, whichever handlers its logger has, from DEBUG on.

        Levels are afterwards what they were: the product changes those of the libraries.
        """
        make = logging.getLogRecordFactory()
        levels = {logger: logger.level for logger in map(logging.getLogger, ("", *LIBRARIES))}

        def see(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = make(*args, **kwargs)
            # A record that is made from a dictionary has neither a name nor a level yet.
            is_theirs = str(record.name).startswith(LIBRARIES) and (record.levelno or 0) <= logging.DEBUG
            if self.hears_libraries or not is_theirs:
                self.records.append(record)
            return record

        logging.setLogRecordFactory(see)
        logging.getLogger().setLevel(logging.DEBUG)
        try:
            yield
        finally:
            logging.setLogRecordFactory(make)
            for logger, level in levels.items():
                logger.setLevel(level)


def _forms(secret: str) -> set[str]:
    """What *secret* is looked for as."""
    data = secret.encode("utf-8", "surrogatepass")
    in_json = json.dumps(secret)[1:-1]
    encoded = {quote(data, safe=""), quote(data), quote_plus(data)}
    forms = {secret, in_json, json.dumps(in_json)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    small = {re.sub("%..", lambda found: found[0].lower(), text) for text in encoded}
    forms |= {repr(secret)[1:-1], repr(data)[2:-1], *encoded, *small}
    for offset in range(3):
        # Six bits are one character: what also holds bits of a neighbour is cut off.
        whole = base64.b64encode(b"\0" * offset + data).decode()
        core = whole[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]
        forms |= {core, core.replace("+", "-").replace("/", "_")}
    return forms


def _excerpt(text: str, form: str) -> str:
    start = text.index(form)
    return repr(f"{text[max(0, start - CONTEXT) : start]}***{text[start + len(form) : start + len(form) + CONTEXT]}")


def _text_of(record: logging.LogRecord) -> str:
    texts = [record.getMessage()]
    texts += [repr(value) for name, value in vars(record).items() if name not in _PLAIN_FIELDS and value]
    if record.exc_info and record.exc_info[1]:
        texts += _texts_of(record.exc_info[1])
    return "\n".join(texts)


def _texts_of(error: BaseException) -> Iterator[str]:
    """All that *error*, its causes and its contexts say, whether or not a traceback would show it."""
    chain, seen = [error], {id(error)}
    while chain:
        current = chain.pop()
        yield f"{current}\n{current!r}\n{current.args!r}\n{vars(current)!r}"
        parts = current.exceptions if isinstance(current, BaseExceptionGroup) else ()
        new = [it for it in (current.__cause__, current.__context__, *parts) if it is not None and id(it) not in seen]
        seen |= set(map(id, new))
        chain += new


# How it is put round every test.

_HARNESS = pytest.StashKey[LeakHarness]()
_running: list[LeakHarness] = []


@pytest.fixture(autouse=True)
def harness(request: pytest.FixtureRequest) -> Generator[LeakHarness]:
    """Fails the test if a secret becomes visible; see the module."""
    request.node.stash[_HARNESS] = harness = LeakHarness()
    _running.append(harness)
    with harness.listening():
        yield harness
    _running.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """Judges after the test, and again after its fixtures are torn down."""
    report = yield
    harness = item.stash.get(_HARNESS, None)
    if harness is not None and call.when != "setup":
        for name, text in report.sections:
            if "log" not in name:
                harness.watch(text, name)
        if call.excinfo is not None and not isinstance(call.excinfo.value, pytest.skip.Exception):
            harness.watch(call.excinfo.value, "the exception that ended the test")
        if leaks := harness.leaks():
            text = "\n".join(["A secret became visible.", *dict.fromkeys(leaks)])
            if report.outcome == "failed":
                report.sections.append(("Leak harness", text))
            else:
                report.outcome, report.longrepr = "failed", text
    if harness is not None and call.when == "teardown":
        harness.clear()
    return report


def pytest_configure() -> None:
    """Lets the harness of the running test see what only passes through a test."""
    _after(Virtuous, "__init__", lambda harness, stand_in, _: harness.stand_ins.append(stand_in))
    _after(pytest.CaptureFixture, "readouterr", lambda harness, _, read: harness.watch(f"{read[0]}{read[1]}", "output"))
    _after(pytest.ExceptionInfo, "fill_unfilled", lambda harness, caught, _: harness.watch(caught.value, "an error"))


def _after(kind: type[Any], name: str, tell: Any) -> None:
    """Calls *tell* with the harness, the object and the result after every call of a method."""
    method = getattr(kind, name)

    def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        for harness in _running:
            tell(harness, self, result)
        return result

    setattr(kind, name, observed)
