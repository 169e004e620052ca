"""Real refreshes and logins, taken apart call by call.

A process is a deterministic function of the replies it gets. So it is run from its start with the replies so far, up
to the first call that has none: that call is its next step. Nothing is threaded and nothing waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

import botocore.exceptions

from tests.fakes.secrets_manager import StrictSecretsManager
from token_refresher.aws.secret_store import SecretStore
from token_refresher.refresh.formats import SecretNames, TokenPair
from token_refresher.refresh.login import store_login
from token_refresher.refresh.model import Answer, Proof, RefreshError, Services
from token_refresher.refresh.refresh import Policy, refresh_connection
from virtuous_token.secret_text import SecretText

NAMES = SecretNames.of("virtuous", "default")
INVOCATION = timedelta(seconds=300)
PATIENCE = timedelta(seconds=8)  # of a login: much shorter than an operator's, for the sake of few states

EXCEPTIONS = StrictSecretsManager().client().exceptions


class Kind(NamedTuple):
    """``job`` is run, forced or login; ``skew`` what its host's clock is ahead by.

    ``adopts``: the login stores a pair that somebody had already, the first that was given out.
    """

    job: str = "run"
    skew: timedelta = timedelta()
    adopts: bool = False


class Step(NamedTuple):
    """A call that a process is about to make."""

    operation: str
    arguments: Mapping[str, Any]

    @property
    def secret(self) -> str:
        return str(self.arguments.get("SecretId", ""))

    def __str__(self) -> str:
        labels = "+".join(self.arguments.get("VersionStages", ()))
        which = self.arguments.get("VersionStage", "") if "VersionId" not in self.arguments else "by id"
        words = (self.operation, self.secret.rpartition("/")[2], labels, which, self.arguments.get("token", ""))
        return " ".join(word for word in words if word)


class ProcessEnd(NamedTuple):
    """What a process came to: an outcome word, ``stored`` or ``gave up`` for a login, ``raised`` for a defect."""

    word: str
    reason: str = ""
    pair_at_risk: bool = False

    def __str__(self) -> str:
        return f"{self.word} ({self.reason})" if self.reason else self.word


class Raised(NamedTuple):
    """An AWS code, or the name of a botocore exception."""

    name: str


def identity(value: Any) -> object:
    """The same for the same answer alone; a repr hides tokens."""
    return repr(value) if isinstance(value, dict) else value


class History:
    """What a process was answered so far. Equal histories are the same object."""

    __slots__ = ("_after", "_next", "at", "before", "kind", "length", "name", "value")

    def __init__(self, name: str, kind: Kind, value: Any, at: datetime, before: History | None = None) -> None:
        self.name, self.kind, self.value, self.at, self.before = name, kind, value, at, before
        self.length: int = before.length + 1 if before else 1
        self._after: dict[tuple[object, datetime], History] = {}
        self._next: Step | ProcessEnd | None = None

    def answered(self, value: Any, at: datetime) -> History:
        key = (identity(value), at)
        if key not in self._after:
            self._after[key] = History(self.name, self.kind, value, at, self)
        return self._after[key]

    def replies(self) -> list[History]:
        """Oldest first; the first is the start itself."""
        found, one = [], self
        while one is not None:
            found.append(one)
            one = one.before  # type: ignore[assignment]
        return found[::-1]

    def next(self) -> Step | ProcessEnd:
        """The real code's next call, or how it ended."""
        if self._next is None:
            self._next = _run(_Outside(self.replies()))
        return self._next

    def through(self, answer: Callable[[Step], History]) -> ProcessEnd:
        """Goes on to the end, with *answer* saying the history after each step."""
        ended = _run(_Outside(self.replies(), answer))
        assert isinstance(ended, ProcessEnd)
        return ended


class _NextStep(BaseException):
    """Leaves a process at the first call that has no reply yet."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.operation)
        self.step = step


class _Outside:
    """Stands for everything outside a process: gives the replies so far, then stops it or asks for another."""

    exceptions = EXCEPTIONS

    def __init__(self, replies: list[History], answer: Callable[[Step], History] | None = None) -> None:
        self.replies = replies
        self.answer = answer
        self.given = 1

    def now(self) -> datetime:
        return self.replies[self.given - 1].at + self.replies[0].kind.skew

    def ask(self, operation: str, **arguments: Any) -> Any:
        if self.given == len(self.replies):
            step = Step(operation, arguments)
            if self.answer is None:
                raise _NextStep(step)
            self.replies.append(self.answer(step))
        reply = self.replies[self.given].value
        self.given += 1
        if not isinstance(reply, Raised):
            return reply
        if hasattr(botocore.exceptions, reply.name):
            raise getattr(botocore.exceptions, reply.name)(endpoint_url="none", error="none")
        raise EXCEPTIONS.from_code(reply.name)({"Error": {"Code": reply.name}}, operation)

    # A boto3 client.
    def __getattr__(self, method: str) -> Callable[..., Any]:
        operation = method.title().replace("_", "")
        return lambda **arguments: self.ask(operation, **arguments)

    # The provider.
    def refresh(self, refresh_token: SecretText) -> Answer:
        answer: Answer = self.ask("refresh", token=refresh_token.reveal())
        return answer

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        answer: Answer = self.ask("log_in", token="the password")
        return answer

    def prove(self, access_token: SecretText) -> Proof:
        proof: Proof = self.ask("prove", token=access_token.reveal())
        return proof

    def pause(self, seconds: float) -> None:
        self.ask("pause", seconds=seconds)


def _run(outside: _Outside) -> Step | ProcessEnd:
    begun = outside.replies[0]
    store = SecretStore(outside, NAMES)  # type: ignore[arg-type]
    services = Services(outside, outside.now, outside.pause)
    with _repeatable_uuids(begun.name):
        try:
            if begun.kind.job == "login":
                pair, give_up_at = TokenPair.parse(begun.value), outside.now() + PATIENCE
                store_login(store, services, pair, give_up_at=give_up_at, adopted=begun.kind.adopts)
                return ProcessEnd("stored")
            policy = Policy("https://api.virtuoussoftware.com")
            deadline = outside.now() + INVOCATION
            force = begun.kind.job == "forced"
            result = refresh_connection("default", store, services, policy, deadline=deadline, force=force)
        except _NextStep as stop:
            return stop.step
        except RefreshError as error:
            return ProcessEnd("gave up", str(error)) if begun.kind.job == "login" else ProcessEnd("raised", repr(error))
        except Exception as error:  # noqa: BLE001 (a defect is what is looked for)
            return ProcessEnd("raised", repr(error))
    return ProcessEnd(str(result.outcome), result.reason, result.pair_at_risk)


@contextmanager
def _repeatable_uuids(name: str) -> Iterator[None]:
    """uuid4() draws from os.urandom: the same process must draw the same when it is run again."""
    count = 0

    def draw(size: int) -> bytes:
        nonlocal count
        count += 1
        return sha256(f"{name} {count}".encode()).digest()[:size]

    real, os.urandom = os.urandom, draw
    try:
        yield
    finally:
        os.urandom = real
