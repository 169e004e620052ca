"""Real refreshes and logins, taken apart call by call.

A process is a deterministic function of the replies it gets. So it is run from its start with the replies so far, up
to the first call that has none: that call is its next step. Nothing is threaded and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any, NamedTuple
from unittest.mock import patch

import botocore.exceptions

from tests.fakes.secrets_manager import StrictSecretsManager
from token_refresher.aws.secret_store import SecretStore
from token_refresher.refresh.formats import SecretNames, TokenPair
from token_refresher.refresh.login import store_login
from token_refresher.refresh.model import RefreshError, Services
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

    @property
    def is_read(self) -> bool:
        return self.operation.startswith(("Get", "List", "Describe"))

    @property
    def shows_labels(self) -> bool:
        """A write shows the labels that it moves; a version that is read by its id says nothing of what is current."""
        return "VersionId" not in self.arguments

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


@dataclass(eq=False, slots=True)
class History:
    """What a process was answered so far, ``value`` last. Equal histories are the same object."""

    name: str
    kind: Kind
    value: Any
    at: datetime
    before: History | None = None
    _after: dict[tuple[object, datetime], History] = field(default_factory=dict)
    _next: Step | ProcessEnd | None = None

    def answered(self, value: Any, at: datetime) -> History:
        key = (identity(value), at)
        if key not in self._after:
            self._after[key] = History(self.name, self.kind, value, at, self)
        return self._after[key]

    def next(self) -> Step | ProcessEnd:
        """The real code's next call, or how it ended."""
        if self._next is None:
            replies, one = [self], self.before
            while one is not None:
                replies.append(one)
                one = one.before
            self._next = run(replies[::-1])
        return self._next


@dataclass
class _NextStep(BaseException):
    """Leaves a process at the first call that has no reply yet."""

    step: Step


@dataclass(slots=True)
class _Outside:
    """Stands for everything outside a process: gives the replies so far, then stops it or asks for another."""

    replies: list[History]
    answer: Callable[[Step], History] | None
    given: int = 1
    exceptions = EXCEPTIONS

    def now(self) -> datetime:
        return self.replies[self.given - 1].at + self.replies[0].kind.skew

    def ask(self, operation: str, **arguments: Any) -> Any:
        if self.given == len(self.replies):
            if self.answer is None:
                raise _NextStep(Step(operation, arguments))
            self.replies.append(self.answer(Step(operation, arguments)))
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
    def refresh(self, refresh_token: SecretText) -> Any:
        return self.ask("refresh", token=refresh_token.reveal())

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Any:
        return self.ask("log_in", token="the password")

    def prove(self, access_token: SecretText) -> Any:
        return self.ask("prove", token=access_token.reveal())

    def pause(self, seconds: float) -> None:
        self.ask("pause", seconds=seconds)


def run(replies: list[History], answer: Callable[[Step], History] | None = None) -> Step | ProcessEnd:
    """A process from its start with these *replies*, then to its next call, or to its end with what *answer* says."""
    begun, outside = replies[0], _Outside(replies, answer)
    store = SecretStore(outside, NAMES)  # type: ignore[arg-type]
    services = Services(outside, outside.now, outside.pause)
    draws = count()

    def draw(size: int) -> bytes:
        """uuid4() draws from os.urandom: the same process must draw the same when it is run again."""
        return sha256(f"{begun.name} {next(draws)}".encode()).digest()[:size]

    with patch("os.urandom", draw):
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
