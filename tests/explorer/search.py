"""Every schedule within a bound, random ones beyond, and the shortest that shows a fault."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from tests.explorer import properties
from tests.explorer.moves import WEEK, moves, run_through
from tests.explorer.people import EIGHT_DAYS, HANDS
from tests.explorer.processes import NAMES, Kind
from tests.explorer.provider import KINDS, Provider
from tests.explorer.world import CURRENT, REFRESHING, START, Budget, Process, State, a_pair, pair_in
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
LONGEST = 200
NEARLY_FULL = 0.02  # of the random schedules begin so: a hundred versions take their time
NO_TROUBLE = Budget()
RUN, FORCED, LOGIN = Kind(), Kind("forced"), Kind("login")
BY_HAND = "00000000-0000-4000-8000-000000000001"


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
    state = State({}, {}, Provider(provider), (), NO_TROUBLE, now=START - EIGHT_DAYS)

    def put(name: str, value: str, version: str, *wanted: str) -> None:
        nonlocal state
        params = {"SecretId": name, "SecretString": value, "ClientRequestToken": version, "VersionStages": wanted}
        state, _ = state.called("PutSecretValue", params)

    for name in NAMES[: 3 if password else 2]:
        state, _ = state.called("CreateSecret", {"Name": name})
    if stored:
        state = state._replace(provider=state.provider.log_in(state.now))
        # A login's pair is in the chain; one without REFRESHING was stored by hand.
        first = claim_id(chain_end(Versions((), state.pair_secret.arn, START))) if REFRESHING in labels else BY_HAND
        pair = a_pair(1, state.now)
        put(NAMES.pair, pair.to_json(), first, *labels)
        if published:
            put(NAMES.bearer, replace(pair, refresh_token=None).to_json(), first, CURRENT)
    state = state._replace(now=START - timedelta(hours=1))
    for n in range(others):
        put(NAMES.pair, "old", f"{n:08}-0000-4000-8000-000000000000", "OLD")
    if password:
        put(NAMES.login, '{"username": "me@example.org", "password": "p"}', BY_HAND, CURRENT)
    state = state._replace(now=START)
    for _ in range(refreshes):
        state, ended = run_through(state, RUN)
        assert ended.word == "refreshed", ended
        state = state.later(WEEK)
    return state._replace(processes=tuple(Process(kind) for kind in processes), budget=budget, hands=tuple(hands))


def calm(state: State) -> State:
    """Nobody is at work any more, nothing goes wrong any more, and nobody's hand is in it."""
    for process in state.processes:
        if process.in_progress:
            state = state.without_its_answer(process)
    if state.pair_secret.gone_at is not None:
        state, _ = state.called("RestoreSecret", {"SecretId": NAMES.pair})
    return state._replace(processes=(), budget=NO_TROUBLE, hands=(), forms=(), late=(), views=(), at_work=-1)


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
    if properties.live_claims(state):
        return "a claim is alive"
    if state.provider.forbids:
        return properties.readers_starve(state)
    if state.bearer_secret.labels.get(CURRENT) != current:
        return "the bearer is out of step"
    return "" if word.startswith("fresh") else "no end"


class Finding(NamedTuple):
    what: str
    schedule: tuple[str, ...]


class Explored(NamedTuple):
    states: int
    ends: int
    quiet: int  # how many of them were left alone, each stored state once
    is_complete: bool
    finding: Finding | None


def explore(first: State, *, at_most: int = 10_000_000) -> Explored:
    """Every schedule from *first*, until so many states or a finding, which is shortened.

    Half of the time it goes deeper, half of the time on from anywhere: so also what is not explored to its end is seen
    from its beginning to its ends.
    """
    ends, finding = 0, None
    quiet: dict[object, str] = {}
    seen: set[object] = set()
    todo: list[tuple[Callable[[], State], tuple[str, ...]]] = [(lambda: first, ())]
    rng = random.Random(0)
    while todo and len(seen) < at_most and finding is None:
        if rng.random() < ANYWHERE:
            anywhere = rng.randrange(len(todo))
            todo[anywhere], todo[-1] = todo[-1], todo[anywhere]
        make, path = todo.pop()
        state = make()
        if (key := state.key()) in seen:
            continue
        seen.add(key)
        begun = calm(state)
        stored = begun.stored_key()
        if stored not in quiet:
            quiet[stored] = state.wrong or unwell(begun)
        if quiet[stored]:
            finding = shortened(first, path)
            continue
        ahead = [(move.make, (*path, move.description)) for move in moves(state)]
        ends += not ahead
        todo += ahead
    return Explored(len(seen), ends, len(quiet), not todo, finding)


def kind_of(what: str) -> str:
    """What two findings have in common whatever the numbers of their tokens."""
    return re.sub(r"\d", "", ":".join(what.split(":")[:2]))


def replayed(first: State, schedule: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """What is wrong after *schedule*, without the steps that are not possible; and the steps that were."""
    state, made = first, []
    for description in schedule:
        move = next((move for move in moves(state) if move.description == description), None)
        if move is not None:
            state = move.make()
            made.append(description)
    return state.wrong or unwell(state), tuple(made)


def shortened(first: State, schedule: Sequence[str]) -> Finding:
    """The same finding without the steps that it does not need."""
    what, steps = replayed(first, schedule)
    assert what, schedule
    for size in (64, 16, 4, 1, 1):
        start = 0
        while start < len(steps):
            found, made = replayed(first, steps[:start] + steps[start + size :])
            if kind_of(found) == kind_of(what):
                what, steps = found, made
            else:
                start += size
    return Finding(what, steps)


# Hosts of Lambda agree within moments, or should; a laptop's clock may be anything.
_MOMENTS = tuple(timedelta(seconds=seconds) for seconds in (0, 0, 0, 0, 20, -20, 600, -600))
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
    beginnings: list[dict[str, Any]] = [{}, {}, {"refreshes": 1}, {"refreshes": 2}]
    beginnings += [{"labels": (CURRENT,)}, {"labels": (CURRENT,), "published": False}, {"stored": False}]
    beginning = rng.choice(beginnings)
    if rng.random() < NEARLY_FULL:
        beginning = {"others": rng.randint(88, 99)}
    beginning["password"] = rng.random() < WITH_PASSWORD
    hands = [rng.choice(list(HANDS)) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
    return first_state(cast, budget, hands, provider=rng.choice(KINDS), **beginning)


def random_schedule(seed: int) -> tuple[State, tuple[str, ...], str]:
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
    for _ in range(LONGEST):
        possible = list(moves(state))
        if not possible:
            break
        sorts = list(dict.fromkeys(move.sort for move in possible))
        last = steps[-1].split(":")[0] if steps else ""
        mine = [move for move in possible if move.sort == "step" and move.description.split(":")[0] == last]
        if mine and rng.random() < stays:
            move = mine[0]
        else:
            sort = rng.choices(sorts, [weigh[sort] for sort in sorts])[0] if any(weigh[s] for s in sorts) else sorts[0]
            move = rng.choice([move for move in possible if move.sort == sort])
        state = move.make()
        steps.append(move.description)
        if state.wrong:
            return first, tuple(steps), state.wrong
        if rng.random() < LOOKED_AT and (what := unwell(state)):
            return first, tuple(steps), what
    return first, tuple(steps), unwell(state)
