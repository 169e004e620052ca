"""Every schedule within a bound, random ones beyond, and the shortest that shows a fault."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NamedTuple

from tests.explorer import properties
from tests.explorer.moves import WEEK, moves, run_through
from tests.explorer.people import EIGHT_DAYS, HANDS
from tests.explorer.processes import NAMES, Kind
from tests.explorer.provider import KINDS, Provider
from tests.explorer.world import CURRENT, REFRESHING, START, Budget, Interned, Process, State, a_pair, pair_in
from tests.fakes.secrets_manager import StrictSecretsManager
from token_refresher.refresh.journal import chain_end, claim_id
from token_refresher.refresh.model import Versions

# Between quiet runs. The longest backoff is an hour; a stored password is tried once a day.
QUIET = (timedelta(minutes=10), timedelta(minutes=70), timedelta(minutes=70))
QUIET_WITH_PASSWORD = (timedelta(hours=25), *QUIET[:2])
MANY_VERSIONS = 85
ANYWHERE = 0.5
LOOKED_AT = 0.02  # of the states of a random schedule, and its last
WITH_PASSWORD = 0.1
ADOPTS = 0.2
NEARLY_FULL = 0.02  # of the random schedules begin so: a hundred versions take their time
NO_TROUBLE = Budget()
RUN, FORCED, LOGIN = Kind(), Kind("forced"), Kind("login")
FIRST = "00000000-0000-4000-8000-000000000001"


def first_state(
    processes: Iterable[Kind] = (RUN, RUN),
    budget: Budget = NO_TROUBLE,
    hands: Sequence[str] = (),
    *,
    provider: str = "strict",
    labels: Sequence[str] = (CURRENT, REFRESHING),
    stored: bool = True,
    published: bool = True,
    refreshes: int = 0,
    others: int = 0,
    password: bool = False,
) -> State:
    """A due pair of generation 1. *refreshes*: so many refreshes followed it, undisturbed, a week apart.

    *others*: so many young versions without a label stand beside it. *password*: the login secret holds one.
    """
    made_at = START - EIGHT_DAYS
    strict = StrictSecretsManager(lambda: made_at)
    for name in NAMES[:2]:
        strict.call("CreateSecret", {"Name": name})
    played = Provider(provider)
    reigns: tuple[str, ...] = ()
    if stored:
        played = played.log_in(START - EIGHT_DAYS)
        # A login's pair is in the chain; one without REFRESHING was stored by hand.
        nothing = Versions((), strict.secret(NAMES.pair).arn, START)
        first = claim_id(chain_end(nothing)) if REFRESHING in labels else FIRST
        pair, reigns = a_pair(1, START - EIGHT_DAYS), (first,)
        for name, wanted in ((NAMES.pair, list(labels)), (NAMES.bearer, [CURRENT])):
            if name == NAMES.pair or published:
                value = pair.to_json() if name == NAMES.pair else _readers_copy(pair)
                params = {"SecretId": name, "SecretString": value, "ClientRequestToken": first}
                strict.call("PutSecretValue", {**params, "VersionStages": wanted})
    made_at = START - timedelta(hours=1)
    for n in range(others):
        version = f"{n:08}-0000-4000-8000-000000000000"
        params = {"SecretId": NAMES.pair, "SecretString": "old", "ClientRequestToken": version}
        strict.call("PutSecretValue", {**params, "VersionStages": ["OLD"]})
    if password:
        value = '{"username": "me@example.org", "password": "p"}'
        strict.call("CreateSecret", {"Name": NAMES.login, "SecretString": value, "ClientRequestToken": FIRST})
    interned = Interned()
    secrets = {name: interned.secret(strict.secret(name)) for name in NAMES[: 3 if password else 2]}
    state = State(interned, secrets, played, (), Budget(), reigns=reigns, now=START)
    for _ in range(refreshes):
        state, ended = run_through(state, RUN)
        assert ended.word == "refreshed", ended
        state = state.later(WEEK)
    return state._replace(processes=tuple(Process(kind) for kind in processes), budget=budget, hands=tuple(hands))


def _readers_copy(pair: Any) -> str:
    return str(replace(pair, refresh_token=None).to_json())


def calm(state: State) -> State:
    """Nobody is at work any more, nothing goes wrong any more, and nobody's hand is in it."""
    held = {
        process.granted
        for process in state.processes
        if process.in_progress and process.granted and not state.saved(process.granted)
    }
    if state.pair_secret.gone_at is not None:
        state, _ = state.called("RestoreSecret", {"SecretId": NAMES.pair})
    return state._replace(
        processes=(), budget=Budget(), hands=(), forms=(), late=(), views=(), at_work=-1, lost=state.lost | held
    )


def unwell(state: State) -> str:
    """Why three quiet runs, or a login and one run, do not lead from here to a healthy pair."""
    begun = calm(state)
    if len(begun.pair_secret.versions) > MANY_VERSIONS:
        begun = begun.later(timedelta(hours=25))  # Secrets Manager removes none before
    after, words = begun, []
    for wait in QUIET_WITH_PASSWORD if NAMES.login in state.secrets else QUIET:
        after, ended = run_through(after.later(wait), RUN)
        words.append(str(ended))
    # A secret at its quota may lose what carries no label of Secrets Manager's own.
    stored = properties.stored_tokens(after.pair_secret, *after.pair_secret.versions)
    kept = [token for token in properties.live_tokens(begun) if token in stored or after.provider.is_spent(token)]
    if what := after.wrong or _ill(after, bool(kept), words[-1]):
        return f"quiet runs: {what}: {words}"
    after, ended = run_through(begun, LOGIN)
    words = [str(ended)]
    if ended.word != "stored":
        return f"login: {words}"
    after, ended = run_through(after.later(QUIET[0]), RUN)
    what = after.wrong or _ill(after, True, "fresh")
    return f"login: {what}: {[*words, str(ended)]}" if what else ""


def _ill(state: State, live: bool, word: str) -> str:
    """What is wrong with this state after its last run; *live*: a live refresh token was stored before."""
    current = state.pair_secret.labels.get(CURRENT)
    pair = pair_in(state.pair_secret.versions[current].value) if current else None
    if current in state.pair_secret.unreadable:
        return "" if word.startswith("misconfigured") else "no pair that can be read, and nobody learns of it"
    if pair is not None and pair.refresh_token is None:
        return "" if word.startswith(("fresh", "login_required")) else "no end"
    if pair is None or pair.refresh_token is None:
        return "" if word.startswith(("misconfigured", "login_required")) else "no pair, and nobody learns of it"
    token = pair.refresh_token.reveal()
    if token not in properties.live_tokens(state):
        quiet = ("fresh", "unproven") if state.provider.forbids else ("fresh",)
        if word.startswith(quiet) and token not in [verdict.token for verdict in state.verdicts]:
            return ""  # it is not due, and nobody can know
        if live or NAMES.login in state.secrets:
            return "what is stored would help and is not in use"
        return "" if word.startswith("login_required") else "no live token, and nobody learns of it"
    if any(properties.live_claims(state)):
        return "a claim is alive"
    if state.provider.forbids:
        return properties.readers_starve(state)
    if state.bearer_secret.labels.get(CURRENT) != current:
        return "the bearer is out of step"
    return "" if word.startswith("fresh") else "no end"


class Finding(NamedTuple):
    what: str
    schedule: tuple[str, ...]


@dataclass(slots=True)
class Explored:
    states: int = 0
    ends: int = 0
    quiet: int = 0
    is_complete: bool = False
    findings: dict[str, Finding] = field(default_factory=dict)


class Checker:
    """Tells what is wrong with a state, and looks at each stored state once."""

    def __init__(self) -> None:
        self._known: dict[object, str] = {}

    def __call__(self, state: State) -> str:
        if state.wrong:
            return state.wrong
        begun = calm(state)
        key = begun.stored_key()
        if key not in self._known:
            self._known[key] = unwell(begun)
        return self._known[key]

    def __len__(self) -> int:
        return len(self._known)


def explore(first: State, *, at_most: int = 10_000_000, findings: int = 1) -> Explored:
    """Every schedule from *first*, until so many states or findings; each finding is shortened.

    Half of the time it goes deeper, half of the time on from anywhere: so also what is not explored to its end is seen
    from its beginning to its ends.
    """
    explored, check = Explored(), Checker()
    seen: set[object] = set()
    todo: list[tuple[Callable[[], State], Any]] = [(lambda: first, None)]
    rng = random.Random(0)
    while todo and explored.states < at_most and len(explored.findings) < findings:
        if rng.random() < ANYWHERE:
            anywhere = rng.randrange(len(todo))
            todo[anywhere], todo[-1] = todo[-1], todo[anywhere]
        make, path = todo.pop()
        state = make()
        key = state.key()
        if key in seen:
            continue
        seen.add(key)
        explored.states += 1
        if what := check(state):
            if kind_of(what) not in explored.findings:
                explored.findings[kind_of(what)] = shortened(first, kind_of(what), _steps(path))
            continue
        ahead = [(move.make, (path, move.description)) for move in moves(state)]
        explored.ends += not ahead
        todo += ahead
    explored.quiet = len(check)
    explored.is_complete = not todo
    return explored


def _steps(path: Any) -> tuple[str, ...]:
    steps = []
    while path:
        path, description = path
        steps.append(description)
    return tuple(reversed(steps))


def kind_of(what: str) -> str:
    """What two findings have in common whatever the numbers of their tokens."""
    return "".join(
        letter for letter in what.split(":")[0] + ":" + "".join(what.split(":")[1:2]) if not letter.isdigit()
    )


def replayed(first: State, schedule: Iterable[str]) -> tuple[State, tuple[str, ...]]:
    """The state after *schedule*, without the steps that are not possible; and the steps that were."""
    state, made = first, []
    for description in schedule:
        move = next((move for move in moves(state) if move.description == description), None)
        if move is not None:
            state = move.make()
            made.append(description)
    return state, tuple(made)


def shortened(first: State, kind: str, schedule: Sequence[str]) -> Finding:
    """The same finding without the steps that it does not need."""

    def still(steps: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
        state, made = replayed(first, steps)
        what = state.wrong or unwell(state)
        return (what, made) if kind_of(what) == kind else None

    best = still(schedule)
    assert best is not None, (kind, schedule)
    size = max(1, len(best[1]) // 2)
    while True:
        shorter, start = None, 0
        while start < len(best[1]):
            shorter = still(best[1][:start] + best[1][start + size :])
            if shorter is not None and len(shorter[1]) < len(best[1]):
                best = shorter
            else:
                shorter = None
                start += size
        if size == 1 and shorter is None:
            again = [still(best[1][:n] + best[1][n + 1 :]) for n in range(len(best[1]))]
            if not any(again):
                return Finding(*best)
        size = max(1, size // 2)


# Random schedules


# Hosts of Lambda agree within moments, or should; a laptop's clock may be anything.
_MOMENTS = (
    *(timedelta(),) * 4,
    *(timedelta(seconds=20), -timedelta(seconds=20)),
    *(timedelta(minutes=10), -timedelta(minutes=10)),
)
SKEWS = {"run": _MOMENTS, "forced": _MOMENTS, "login": (timedelta(), timedelta(days=1), -timedelta(days=1))}


def random_first(rng: random.Random) -> State:
    """A beginning, a cast and a budget drawn at random: each schedule has its own kind of trouble."""
    jobs = rng.choice((["run"], ["run", "run", "login"], ["run", "forced", "login"], ["login"]))
    cast = [
        Kind(job, rng.choice(SKEWS[job]), job == "login" and rng.random() < ADOPTS)
        for job in rng.choices(jobs, k=rng.randint(1, 5))
    ]
    budget = Budget(
        kills=rng.choice((0, 0, 1, 2)),
        freezes=rng.choice((0, 0, 1, 2)),
        stale=rng.choice((0, 0, 1, 3)),
        lost=rng.choice((0, 0, 1)),
        faults=rng.choice((0, 0, 1, 3)),
        late=rng.choice((0, 0, 1, 2)),
        ticks=rng.choice((0, 1, 3, 5)),
        weeks=rng.choice((0, 0, 1, 2)),
    )
    beginning: dict[str, Any] = rng.choice(
        (
            {},
            {},
            {"refreshes": 1},
            {"refreshes": 2},
            {"labels": (CURRENT,)},
            {"labels": (CURRENT,), "published": False},
            {"stored": False},
        )
    )
    if rng.random() < NEARLY_FULL:
        beginning = {"others": rng.randint(88, 99)}
    beginning["password"] = rng.random() < WITH_PASSWORD
    hands = [rng.choice(list(HANDS)) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
    return first_state(cast, budget, hands, provider=rng.choice(KINDS), **beginning)


def random_schedule(seed: int, *, at_most: int = 200) -> tuple[State, tuple[str, ...], str]:
    """The first state, the steps and what went wrong, empty if nothing did. The same for the same *seed*."""
    rng = random.Random(seed)
    first = state = random_first(rng)
    weigh = {
        "step": 10,
        "start": rng.choice((1, 3, 10)),
        "mishap": rng.choice((0, 1, 3)),
        "hand": rng.choice((1, 3)),
        "late": rng.choice((0.3, 2)),
        "time": rng.choice((0.3, 1)),
    }
    stays = rng.choice((0, 0.5, 0.8))  # how likely the process at work goes on
    steps: list[str] = []
    for _ in range(at_most):
        possible = list(moves(state))
        if not possible:
            break
        by_sort: dict[str, list[Any]] = {}
        for move in possible:
            by_sort.setdefault(move.sort, []).append(move)
        sorts = list(by_sort)
        ahead = by_sort.get("step", [])
        mine = [move for move in ahead if steps and move.description.split(":")[0] == steps[-1].split(":")[0]]
        if mine and rng.random() < stays:
            move = mine[0]
        else:
            sort = rng.choices(sorts, [weigh[sort] for sort in sorts])[0] if any(weigh[s] for s in sorts) else sorts[0]
            move = rng.choice(by_sort[sort])
        state = move.make()
        steps.append(move.description)
        if state.wrong:
            return first, tuple(steps), state.wrong
        if rng.random() < LOOKED_AT and (what := unwell(state)):
            return first, tuple(steps), what
    return first, tuple(steps), unwell(state)
