"""Runs real refreshers against the strict Secrets Manager and a strict provider, one call at a time, in any order.

A refresher is a deterministic function of the answers it gets. So it is run from its start with the answers so far, up
to the first call that has none: that call is its next step. A world is a value, and each step makes another; nothing is
threaded and nothing waits. What may happen at each step: another refresher goes on, time passes, a process is killed, a
read is stale, an answer is lost, a call fails, a person stores a pair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import patch

import botocore.exceptions

from tests.fakes.secrets_manager import AwsError, StrictSecretsManager
from token_refresher import claim
from token_refresher.answers import Answer, Granted, Later, NothingSent, Proof, Proved, Refused, Unknown
from token_refresher.journal import LABEL
from token_refresher.ports import CURRENT, Services
from token_refresher.refresh import OutcomeWord, Policy, refresh_connection
from token_refresher.secret_store import SecretStore
from virtuous_token.contract import SecretNames, TokenPair
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

NAMES = SecretNames.of("virtuous", "default")
START = datetime(2026, 11, 25, 10, tzinfo=UTC)
INVOCATION = timedelta(seconds=300)
TICK = timedelta(seconds=200)  # two of them outlast a holder (300 s and a minute), one does not
LIFE = timedelta(days=15)
FIRST = "00000000-0000-4000-8000-000000000001"

EXCEPTIONS = StrictSecretsManager().client().exceptions


class Step(NamedTuple):
    """A call that a refresher is about to make."""

    operation: str
    arguments: tuple[tuple[str, Any], ...]


class Reply(NamedTuple):
    """What came back, and when."""

    value: Any
    at: datetime


class Raised(NamedTuple):
    """An AWS code, or the name of a botocore exception."""

    name: str


class _NextStep(BaseException):
    """Leaves a refresher at the first call that has no reply yet."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.operation)
        self.step = step


class _Replay:
    """Stands for everything outside a refresher: gives the recorded replies, then stops it."""

    def __init__(self, replies: tuple[Reply, ...]) -> None:
        self.replies = replies
        self.given = 1  # the first is the start itself
        self.exceptions = EXCEPTIONS

    def now(self) -> datetime:
        return self.replies[self.given - 1].at

    def ask(self, operation: str, **arguments: Any) -> Any:
        if self.given == len(self.replies):
            raise _NextStep(Step(operation, tuple(sorted(arguments.items(), key=str))))
        reply = self.replies[self.given].value
        self.given += 1
        if not isinstance(reply, Raised):
            return reply
        if hasattr(botocore.exceptions, reply.name):
            raise getattr(botocore.exceptions, reply.name)(endpoint_url="none", error="none")
        raise EXCEPTIONS.from_code(reply.name)({"Error": {"Code": reply.name}}, operation)

    # The part of a boto3 client that the store uses.
    def describe_secret(self, **arguments: Any) -> Any:
        return self.ask("DescribeSecret", **arguments)

    def get_secret_value(self, **arguments: Any) -> Any:
        return self.ask("GetSecretValue", **arguments)

    def put_secret_value(self, **arguments: Any) -> Any:
        arguments["VersionStages"] = tuple(arguments["VersionStages"])
        return self.ask("PutSecretValue", **arguments)

    def list_secret_version_ids(self, **arguments: Any) -> Any:
        return self.ask("ListSecretVersionIds", **arguments)

    def update_secret_version_stage(self, **arguments: Any) -> Any:
        return self.ask("UpdateSecretVersionStage", **arguments)

    # The provider.
    def refresh(self, refresh_token: SecretText) -> Answer:
        answer: Answer = self.ask("refresh", token=refresh_token.reveal())
        return answer

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        answer: Answer = self.ask("log_in", username=username)
        return answer

    def prove(self, access_token: SecretText) -> Proof:
        proof: Proof = self.ask("prove", token=access_token.reveal())
        return proof

    def pause(self, seconds: float) -> None:
        self.ask("pause", seconds=seconds)


@cache
def next_step(name: str, replies: tuple[Reply, ...], force: bool = False) -> Step | OutcomeWord:
    """The real code's next call after *replies*, or its outcome."""
    replay = _Replay(replies)
    numbers = iter(range(100))
    try:
        with patch.object(claim, "uuid4", lambda: f"{name}-{next(numbers)}"):  # the one thing that is random
            result = refresh_connection(
                "default",
                SecretStore(replay, NAMES),  # type: ignore[arg-type]
                Services(replay, replay.now, replay.pause),
                Policy("https://api.virtuoussoftware.com"),
                deadline=replies[0].at + INVOCATION,
                force=force,
            )
    except _NextStep as stop:
        return stop.step
    return result.outcome


class Provider(NamedTuple):
    """Accepts each refresh token once, and gives another for it; with *reusable* any that it ever gave out.

    A login begins another line of tokens and leaves the others alone.
    """

    newest: int = 1
    live: frozenset[int] = frozenset({1})
    sent: tuple[tuple[int, bool], ...] = ()
    logins: int = 0
    reusable: bool = False

    def refresh(self, token: str, now: datetime) -> tuple[Provider, Answer]:
        number = int(token.removeprefix("refresh-"))
        accepted = self.reusable or number in self.live
        after = self._replace(sent=(*self.sent, (number, accepted)))
        if not accepted:
            return after, Refused("invalid_grant")
        return after._replace(live=self.live - {number})._issue(now)

    def log_in(self, now: datetime) -> tuple[Provider, Answer]:
        return self._replace(logins=self.logins + 1)._issue(now)

    def _issue(self, now: datetime) -> tuple[Provider, Answer]:
        new = self.newest + 1
        answer = Granted(SecretText(f"access-{new}"), SecretText(f"refresh-{new}"), now, now + LIFE)
        return self._replace(newest=new, live=self.live | {new}), answer


class Refresher(NamedTuple):
    """One process. ``outcome`` is None while it runs, "killed" when it was."""

    replies: tuple[Reply, ...] = ()
    outcome: str | None = None
    granted: int = 0

    @property
    def deadline(self) -> datetime:
        return self.replies[0].at + INVOCATION

    @property
    def runs(self) -> bool:
        return bool(self.replies) and self.outcome is None


class Budget(NamedTuple):
    """How much may go wrong in one exploration."""

    kills: int = 0
    stale_reads: int = 0
    lost_answers: int = 0
    faults: int = 0
    ticks: int = 3
    hands: int = 0  # a person stores another pair, which is due


@dataclass(frozen=True, slots=True)
class State:
    """One moment of the whole world."""

    strict: StrictSecretsManager
    provider: Provider
    refreshers: tuple[Refresher, ...]
    budget: Budget
    now: datetime = START
    lost: bool = False  # an answer was lost, or its holder was killed with it in hand

    @classmethod
    def first(cls, refreshers: int, budget: Budget, *, login: bool = False) -> State:
        """A due pair of generation 1, published, and *refreshers* that have not begun."""
        strict = StrictSecretsManager(lambda: START)
        for name in NAMES[:2]:
            strict.call("CreateSecret", {"Name": name})
            labels = [CURRENT, LABEL] if name == NAMES.pair else [CURRENT]
            strict.call("PutSecretValue", _put(name, FIRST, _due_pair(1), labels))
        if login:
            value = '{"username": "u", "password": "p"}'
            strict.call("CreateSecret", {"Name": NAMES.login, "SecretString": value, "ClientRequestToken": FIRST})
        strict.settle()
        return cls(strict, Provider(), (Refresher(),) * refreshers, budget)

    def key(self) -> object:
        """Equal for two states that nobody inside can tell apart from here on."""
        secrets = tuple(
            (name, tuple(secret.versions.items()), tuple(sorted(secret.labels.items())))
            for name, secret in self.strict._secrets.items()
        )
        views: object = ()
        if self.budget.stale_reads:
            views = tuple(
                (name, tuple(tuple(sorted(view.labels.items())) for view in earlier if view))
                for name, earlier in self.strict._earlier.items()
            )
        return secrets, views, self.provider, self.refreshers, self.budget, self.now, self.lost

    def pair(self) -> TokenPair:
        """What AWSCURRENT is on. Raises UnreadableSecret where that is no pair."""
        return TokenPair.parse(str(self.strict.value(NAMES.pair)))

    def saved(self, generation: int) -> bool:
        """True if some version of the pair secret holds that generation's refresh token."""
        wanted = re.compile(rf'"refresh-{generation}"')
        return any(wanted.search(str(v.value)) for v in self.strict.secret(NAMES.pair).versions.values())

    def moves(self) -> Iterator[tuple[str, State]]:
        """Everything that can happen next, with a sentence for it."""
        for i, refresher in enumerate(self.refreshers):
            name = f"refresher {i}"
            if not refresher.replies:
                yield f"{name} starts", self._with(i, Refresher((Reply("start", self.now),)))
            elif refresher.runs:
                yield from ((f"{name}: {told}", after) for told, after in self._steps(i, refresher))
                if self.budget.kills:
                    held = refresher.granted and not self.saved(refresher.granted)
                    killed = self._with(i, refresher._replace(outcome="killed", replies=refresher.replies[:1]))
                    yield (
                        f"{name} is killed",
                        replace(killed, budget=self._spent("kills"), lost=self.lost or bool(held)),
                    )
        if self.budget.hands:
            yield "a person stores a pair", self._stored_by_hand()
        if self.budget.ticks and not any(r.runs and r.deadline < self.now + TICK for r in self.refreshers):
            yield "time passes", replace(self, now=self.now + TICK, budget=self._spent("ticks"))

    def _stored_by_hand(self) -> State:
        provider, _ = self.provider.log_in(self.now)
        strict = self._fork()
        version = f"00000000-0000-4000-8000-{provider.newest:012}"
        strict.call("PutSecretValue", _put(NAMES.pair, version, _due_pair(provider.newest), [CURRENT]))
        return replace(self, strict=strict, provider=provider, budget=self._spent("hands"))

    def _fork(self) -> StrictSecretsManager:
        strict = self.strict.fork()
        strict.log.clear()
        strict.now = lambda: self.now
        return strict

    def _steps(self, i: int, refresher: Refresher) -> Iterator[tuple[str, State]]:
        step = next_step(f"holder-{i}", refresher.replies)
        if isinstance(step, OutcomeWord):  # ended: its past does not matter any more
            yield f"ends {step}", self._with(i, Refresher(refresher.replies[:1], step, refresher.granted))
            return
        operation, arguments = step.operation, dict(step.arguments)
        if operation == "pause":
            yield "waits", self._replied(i, None)
        elif operation == "prove":
            yield "proves", self._replied(i, Proved(organization_id="77"))
        elif operation in ("refresh", "log_in"):
            yield from self._posts(i, operation, arguments)
        else:
            yield from self._calls(i, operation, arguments)

    def _posts(self, i: int, operation: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, State]]:
        provider, answer = (
            self.provider.refresh(arguments["token"], self.now)
            if operation == "refresh"
            else self.provider.log_in(self.now)
        )
        granted = provider.newest if isinstance(answer, Granted) else self.refreshers[i].granted
        told = f"sends {arguments.get('token', 'the password')}: {type(answer).__name__}"
        after = self._with(i, self.refreshers[i]._replace(granted=granted))
        yield told, replace(after._replied(i, answer), provider=provider)
        if self.budget.lost_answers:
            lost = replace(self, lost=True, provider=provider, budget=self._spent("lost_answers"))
            yield f"{told}, and the answer is lost", lost._replied(i, Unknown("read timeout"))
        if self.budget.faults:
            for missed in (NothingSent("connection refused"), Later("429", throttled=True), Unknown("read timeout")):
                failed = replace(self, budget=self._spent("faults"))
                yield f"meets {missed.reason} before it is served", failed._replied(i, missed)

    def _calls(self, i: int, operation: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, State]]:
        params: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()
        }
        told = f"{operation} {params.get('VersionStages', '')}{params.get('SecretId', '').rpartition('/')[2]}"
        yield told, self._called(i, operation, params)
        if operation == "GetSecretValue" and self.budget.stale_reads and params.get("VersionId", FIRST) != FIRST:
            missed = replace(self, budget=self._spent("stale_reads"))
            yield f"{told} is not there yet", missed._replied(i, Raised("ResourceNotFoundException"))
        if operation == "DescribeSecret" and self.budget.stale_reads:
            for age in range(1, self.strict.views(params["SecretId"]) + 1):
                stale = replace(self, budget=self._spent("stale_reads"))
                yield f"{told}, {age} writes ago", stale._called(i, operation, params, age=age)
        if self.budget.faults:
            failed = replace(self, budget=self._spent("faults"))
            yield f"{told} is throttled", failed._replied(i, Raised("ThrottlingException"))
            if operation in ("PutSecretValue", "UpdateSecretVersionStage"):
                happened = failed._called(i, operation, params)
                yield (
                    f"{told} times out with its effect done",
                    replace(self._with_strict(happened.strict), budget=failed.budget)._replied(
                        i, Raised("ReadTimeoutError")
                    ),
                )

    def _called(self, i: int, operation: str, params: Mapping[str, Any], *, age: int = 0) -> State:
        strict = self._fork()
        if age:
            strict.choose_view = lambda operation, name, count: age
        try:
            value: object = strict.call(operation, params)
        except AwsError as refusal:
            value = Raised(refusal.code)
        if operation == "ListSecretVersionIds" and isinstance(value, dict):
            # As botocore gives it; the instants matter to nobody here, since all versions are young.
            value["Versions"] = [{**version, "CreatedDate": self.now} for version in value["Versions"]]
        strict.choose_view = None
        return self._with_strict(strict)._replied(i, _hashable(value))

    def _with(self, i: int, refresher: Refresher) -> State:
        return replace(self, refreshers=(*self.refreshers[:i], refresher, *self.refreshers[i + 1 :]))

    def _with_strict(self, strict: StrictSecretsManager) -> State:
        return replace(self, strict=strict)

    def _replied(self, i: int, value: object) -> State:
        refresher = self.refreshers[i]
        return self._with(i, refresher._replace(replies=(*refresher.replies, Reply(value, self.now))))

    def _spent(self, what: str) -> Budget:
        return self.budget._replace(**{what: getattr(self.budget, what) - 1})


def _due_pair(generation: int) -> TokenPair:
    return TokenPair(
        access_token=SecretText(f"access-{generation}"),
        refresh_token=SecretText(f"refresh-{generation}"),
        issued_at=START - timedelta(days=8),
        expires_at=START + timedelta(days=7),
        organization_id="77",
    )


def _put(name: str, version: str, pair: TokenPair, labels: list[str]) -> dict[str, Any]:
    return {"SecretId": name, "SecretString": pair.to_json(), "ClientRequestToken": version, "VersionStages": labels}


class _Frozen(dict[str, Any]):
    """An answer of Secrets Manager that can be part of a key; nobody changes it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(str(self))


def _hashable(value: object) -> object:
    return _Frozen(value) if isinstance(value, dict) else value


def broken_now(state: State) -> str | None:
    """What no state may show."""
    try:
        state.pair()
    except UnreadableSecret as error:
        return f"AWSCURRENT is not on a pair: {error}"
    if not state.lost and not all(accepted for _, accepted in state.provider.sent):
        return "a refresh token was sent twice"
    return None


def undisturbed(state: State, pauses: tuple[timedelta, ...]) -> tuple[State, list[str]]:
    """One more refresher after each of *pauses*, while nothing goes wrong; the outcomes in turn."""
    outcomes = []
    state = replace(state, budget=Budget(ticks=0))
    for pause in pauses:
        i = len(state.refreshers)
        refresher = Refresher((Reply("start", state.now + pause),))
        state = replace(state, now=state.now + pause, refreshers=(*state.refreshers, refresher))
        while state.refreshers[i].runs:
            (_, state), *others = state._steps(i, state.refreshers[i])
            assert not others
        outcomes.append(str(state.refreshers[i].outcome))
    return state, outcomes


def broken_in_the_end(state: State) -> str | None:
    """What may not be left once nobody runs any more and three more runs were not disturbed."""
    after, outcomes = undisturbed(state, (timedelta(minutes=10), timedelta(minutes=70), timedelta(minutes=70)))
    told = f"{outcomes}"
    live = {SecretText(f"refresh-{number}") for number in after.provider.live}
    if not after.lost and after.pair().refresh_token not in live:
        return f"the live refresh token is lost: {told}"
    if after.strict.labels(NAMES.bearer).get(CURRENT) != after.strict.labels(NAMES.pair)[CURRENT]:
        return f"the bearer is out of step: {told}"
    if OutcomeWord.BUSY in outcomes[1:]:
        return f"stuck: {told}"
    return broken_now(after)


class Explored(NamedTuple):
    states: int
    ends: int
    excused: int
    broken: dict[str, tuple[str, ...]]


def explore(first: State, *, check_end: Callable[[State], str | None] = broken_in_the_end) -> Explored:
    """Every interleaving from *first*; the first path to each kind of breakage."""
    seen: set[object] = set()
    todo: list[tuple[State, Any]] = [(first, None)]
    broken: dict[str, tuple[str, ...]] = {}
    ends = excused = 0
    while todo:
        state, path = todo.pop()
        key = state.key()
        if key in seen:
            continue
        seen.add(key)
        if what := broken_now(state):
            broken.setdefault(what, _told(path))
        if all(refresher.outcome for refresher in state.refreshers):
            ends += 1
            excused += state.lost
            if what := check_end(state):
                broken.setdefault(what, _told(path))
            continue
        todo += [(after, (path, label)) for label, after in state.moves()]
    return Explored(len(seen), ends, excused, broken)


def _told(path: Any) -> tuple[str, ...]:
    labels = []
    while path:
        path, label = path
        labels.append(label)
    return tuple(reversed(labels))
