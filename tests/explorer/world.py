"""One moment of everything that plays a part: secrets, provider, processes, people, time. Each step makes another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, NamedTuple

from tests.explorer.processes import INVOCATION, NAMES, History, Kind, ProcessEnd, Raised, Step, identity
from tests.explorer.provider import LIFE, Provider
from tests.fakes.secrets_manager import AwsError, Secret, StrictSecretsManager
from token_refresher.refresh import formats
from virtuous_token.secret_text import SecretText

START = datetime(2026, 11, 25, 10, tzinfo=UTC)
CURRENT, PREVIOUS, REFRESHING, SUPERSEDED = "AWSCURRENT", "AWSPREVIOUS", "REFRESHING", "SUPERSEDED"
# A read may be this old. The journal counts on less than five minutes.
STALE_FOR = timedelta(seconds=250)


class Budget(NamedTuple):
    """How much may still go wrong. ``switches``: how often another process goes on before the one at work ends."""

    kills: int = 0
    freezes: int = 0
    stale: int = 0
    lost: int = 0  # answers of the provider that get lost on the way
    faults: int = 0
    late: int = 0  # requests that time out and take effect at an instant of their own
    ticks: int = 0
    weeks: int = 0
    proofs: int = 0  # proofs that say nothing, or that the token is refused
    switches: int = 1_000_000


class Moment(NamedTuple):
    """The pair secret at one instant, and the versions that its AWSCURRENT had come to until then."""

    secret: Secret
    reigns: tuple[str, ...]


class Process(NamedTuple):
    """``granted`` is the number of the pair that the provider gave it, ``brought`` of one that a person typed a
    password for; ``misled``: it met a stale read or a fault.

    ``looked`` is the pair secret as this process last saw its labels, ``published`` what it made current for readers.
    ``pairs`` and ``bearers`` are what the secrets were since this process last saw them: it can't know of what changed
    afterwards.
    """

    kind: Kind
    history: History | None = None
    status: str = "not started"  # running, frozen, killed, ended
    held: Any = None  # the reply that a frozen process gets when it goes on
    ended: ProcessEnd | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    granted: int = 0
    brought: int = 0
    refused: str = ""  # the token of a verdict that it did not write down yet
    misled: bool = False
    looked: Secret | None = None
    published: str | None = None
    pairs: tuple[Moment, ...] = ()
    bearers: tuple[Secret, ...] = ()

    @property
    def in_progress(self) -> bool:
        return self.status in ("running", "frozen")

    def outlived(self, now: datetime) -> bool:
        """True once nobody need count on this process any more."""
        return self.started_at is not None and now > self.started_at + INVOCATION

    def key(self) -> object:
        return self.history, self.status, identity(self.held), self.ended, self.started_at, self.ended_at


class View(NamedTuple):
    """What a stale read of a secret may show until then."""

    shows: Secret
    until: datetime


class Verdict(NamedTuple):
    """A refresh token was refused, and the process that learnt it wrote something down afterwards."""

    token: str
    at: datetime


class Late(NamedTuple):
    """A request of a process that takes effect some time, or never: AWS refuses a signature older than 15 minutes."""

    operation: str
    arguments: Mapping[str, Any]
    process: int
    sent_at: datetime


class State(NamedTuple):
    """``interned``: equal secrets and beginnings are the same objects, so that states compare fast.

    ``reigns``: the versions that AWSCURRENT of the pair secret came to, oldest first. ``chain_newest``: the last pair
    that a process saved. ``lost``: numbers of pairs whose answer was lost, or whose holder died with it.
    ``forgotten``: numbers of pairs whose key a person took away. ``wrong`` is the first property that broke.
    """

    interned: dict[object, Any]
    secrets: Mapping[str, Secret]
    provider: Provider
    processes: tuple[Process, ...]
    budget: Budget
    hands: tuple[str, ...] = ()  # what people may still do
    now: datetime = START
    views: tuple[View, ...] = ()
    late: tuple[Late, ...] = ()
    forms: tuple[str, ...] = ()  # values in a console's form that was not saved yet
    deeds: int = 0  # how many versions people made
    at_work: int = -1
    reigns: tuple[str, ...] = ()
    chain_newest: str = ""
    deleted_at: datetime | None = None
    verdicts: tuple[Verdict, ...] = ()
    lost: frozenset[int] = frozenset()
    forgotten: frozenset[int] = frozenset()
    wrong: str = ""

    @property
    def pair_secret(self) -> Secret:
        return self.secrets[NAMES.pair]

    @property
    def bearer_secret(self) -> Secret:
        return self.secrets[NAMES.bearer]

    def key(self) -> object:
        """Equal for two states that nobody can tell apart from here on."""
        return (
            self.stored_key(),
            tuple((id(view.shows), view.until) for view in self.views),
            tuple(process.key() for process in self.processes),
            tuple(repr(late) for late in self.late),
            self.budget,
            self.at_work if self.budget.switches < 1000 else None,
            tuple(sorted(self.hands)),
            self.forms,
        )

    def stored_key(self) -> object:
        """Equal for two states in which a process that begins now finds the same."""
        secrets = tuple(id(secret) for secret in self.secrets.values())
        known = self.verdicts, self.lost, self.forgotten
        return secrets, self.provider, self.now, self.reigns, known, self.wrong

    def called(self, operation: str, params: Mapping[str, Any], *, view: Secret | None = None) -> tuple[State, Any]:
        """The state after a call to Secrets Manager and its answer, as botocore gives it. *view*: a stale read's."""
        seen = self.secrets if view is None else {**self.secrets, view.name: view}
        after, answer = _answered(seen, operation, params, self.now)
        if view is not None or after is None:
            return self, answer
        return self.with_secrets(after), answer

    def with_secrets(self, secrets: Mapping[str, Secret]) -> State:
        secrets = {name: self._interned(secret) for name, secret in secrets.items()}
        changed = [before for name, before in self.secrets.items() if secrets.get(name, before) is not before]
        views = [View(before, self.now + STALE_FOR) for before in changed if self.budget.stale]
        after = self._replace(secrets=secrets, views=(*self.views, *views))
        if NAMES.pair not in self.secrets or NAMES.pair not in secrets:
            return after  # it is not made yet, or is to be made again
        current = after.pair_secret.labels.get(CURRENT)
        if current is not None and current != self.pair_secret.labels.get(CURRENT):
            after = after._replace(reigns=(*self.reigns, current))
        return after._replace(processes=tuple(after._witnessed(process) for process in after.processes))

    def _interned(self, secret: Secret) -> Secret:
        labels = tuple(sorted(secret.labels.items()))
        key = (secret.arn, tuple(secret.versions.items()), labels, secret.gone_at, secret.changed_at, secret.unreadable)
        interned: Secret = self.interned.setdefault(key, secret)
        return interned

    @property
    def moment(self) -> Moment:
        return Moment(self.pair_secret, self.reigns)

    def _witnessed(self, process: Process) -> Process:
        if not process.in_progress:
            return process
        pairs, bearers = process.pairs, process.bearers
        if not pairs or pairs[-1].secret is not self.pair_secret:
            pairs = (*pairs, self.moment)
        if NAMES.bearer in self.secrets and (not bearers or bearers[-1] is not self.bearer_secret):
            bearers = (*bearers, self.bearer_secret)
        return process._replace(pairs=pairs, bearers=bearers)

    def seen_by(self, i: int, secret: str) -> State:
        """Process *i* has just seen what a secret is now."""
        if secret == NAMES.pair:
            return self.process(i, pairs=(self.moment,))
        return self.process(i, bearers=(self.bearer_secret,)) if secret == NAMES.bearer in self.secrets else self

    def later(self, wait: timedelta) -> State:
        now = self.now + wait
        return self._replace(now=now, views=tuple(view for view in self.views if view.until > now))

    def process(self, i: int, **changes: Any) -> State:
        changed = self.processes[i]._replace(**changes)
        return self._replace(processes=(*self.processes[:i], changed, *self.processes[i + 1 :]))

    def spent(self, what: str) -> State:
        return self._replace(budget=self.budget._replace(**{what: getattr(self.budget, what) - 1}))

    def broke(self, what: str) -> State:
        return self if self.wrong or not what else self._replace(wrong=what)

    def without_its_answer(self, process: Process) -> State:
        """The pair that a process was granted and did not save is lost."""
        if not process.granted or self.saved(process.granted):
            return self
        return self._replace(lost=self.lost | {process.granted})

    def saved(self, number: int) -> bool:
        """True if some version of the pair secret holds the pair of that number."""
        wanted = f"access-{number}"
        pairs = (pair_in(version.value) for version in self.pair_secret.versions.values())
        return any(pair and pair.access_token.reveal() == wanted for pair in pairs)

    def next_step(self, i: int) -> Step | ProcessEnd:
        history = self.processes[i].history
        assert history is not None
        return history.next()


_machine = StrictSecretsManager()


def _answered(
    secrets: Mapping[str, Secret], operation: str, params: Mapping[str, Any], now: datetime
) -> tuple[Mapping[str, Secret] | None, Any]:
    """The secrets afterwards (None: as before) and the answer, or a Raised."""
    _machine.go_on_from(secrets)
    # No two versions are made in the same instant, and yet time stands still between two steps.
    instant = now + timedelta(milliseconds=sum(len(secret.versions) for secret in secrets.values()))
    _machine.now = lambda: instant
    _machine._created = round(instant.timestamp() * 1000)  # the end of an ARN: the same when this is played again
    try:
        answer = _machine.call(operation, params)
    except AwsError as refusal:
        return None, Raised(refusal.code)
    after = _machine.secrets
    is_same = all(after.get(name) is secret for name, secret in secrets.items()) and len(after) == len(secrets)
    date = format_datetime(now, usegmt=True)
    return (None if is_same else after), _with_instants(answer) | {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}


def _with_instants(answer: Any, key: str = "") -> Any:
    """Epoch seconds become datetimes, as botocore does it."""
    if isinstance(answer, list):
        return [_with_instants(one) for one in answer]
    if isinstance(answer, dict):
        return {key: _with_instants(value, key) for key, value in answer.items()}
    return datetime.fromtimestamp(answer, UTC) if key.endswith("Date") else answer


pair_in = lru_cache(100_000)(formats.pair_in)


@lru_cache(100_000)
def entry_in(value: str | bytes) -> Mapping[str, Any] | None:
    """The journal's entry in a version of the pair secret; None where it is something else."""
    try:
        stored = json.loads(value)
    except ValueError:
        return None
    return stored if isinstance(stored, dict) and "entry" in stored else None


def a_pair(number: int | str, issued_at: datetime) -> formats.TokenPair:
    return formats.TokenPair(
        access_token=SecretText(f"access-{number}"),
        refresh_token=SecretText(f"refresh-{number}"),
        issued_at=issued_at,
        expires_at=issued_at + LIFE,
        organization_id="77",
    )
