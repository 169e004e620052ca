"""Everything that can happen next, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from tests.explorer import properties
from tests.explorer.people import EIGHT_DAYS, HANDS
from tests.explorer.processes import NAMES, History, Kind, ProcessEnd, Raised, Step, run
from tests.explorer.world import Late, Process, State, Verdict, a_pair, pair_in
from tests.fakes.secrets_manager import Secret
from token_refresher.refresh.journal import is_of_the_chain
from token_refresher.refresh.model import Denied, Ending, Granted, NotGranted, Unclear

TICK = timedelta(seconds=200)  # two of them outlast a holder (300 s and a minute) and every stale read, one does not
WEEK = timedelta(days=8)  # a fresh pair is due afterwards
SIGNED_FOR = timedelta(minutes=15)
WRITES = ("PutSecretValue", "UpdateSecretVersionStage", "CreateSecret")
TIMED_OUT = Raised("ReadTimeoutError")


class Move(NamedTuple):
    """``sort`` is what a random schedule weighs: start, step, mishap, hand, late or time."""

    description: str
    sort: str
    make: Callable[[], State]


def moves(state: State) -> Iterator[Move]:
    if state.wrong:
        return
    for i, process in enumerate(state.processes):
        name = _name(state, i)
        if process.status == "not started":
            if process.kind not in [other.kind for other in state.processes[:i] if other.status == "not started"]:
                yield Move(f"{name} starts", "start", partial(started, state, i))
        elif process.status == "frozen":
            yield Move(f"{name} goes on", "step", partial(_thawed, state, i))
        elif process.status == "running":
            if state.at_work in (i, -1) or state.processes[state.at_work].status != "running":
                yield from _of_a_process(state._replace(at_work=i), i, name)
            elif state.budget.switches:
                yield from _of_a_process(state.spent("switches")._replace(at_work=i), i, name)
    yield from _of_others(state)


def _of_others(state: State) -> Iterator[Move]:
    """What people, late requests and time may do."""
    for hand in dict.fromkeys(state.hands):
        if (after := HANDS[hand](state)) is not None:
            left = list(state.hands)
            left.remove(hand)
            yield Move(f"a person {hand}", "hand", partial(after._replace, hands=tuple(left)))
    for n, late in enumerate(state.late):
        if state.now - late.sent_at <= SIGNED_FOR:
            yield Move(f"late: {late.operation} {n}", "late", partial(_landed, state, n))
    running = [process for process in state.processes if process.status == "running"]
    # Lambda ends a run at its deadline; one that may go on after it is frozen.
    if state.budget.ticks and not any(process.outlived(state.now + TICK) for process in running):
        yield Move("minutes pass", "time", lambda: state.spent("ticks").later(TICK))
    if state.budget.weeks and not running:
        yield Move("a week passes", "time", lambda: state.spent("weeks").later(WEEK))


def _name(state: State, i: int) -> str:
    return f"{state.processes[i].kind.job} {i}"


def started(state: State, i: int) -> State:
    state, value = _begun(state, i)
    first = History(_name(state, i), state.processes[i].kind, value, state.now)
    history = state.interned.setdefault((first.name, first.kind, value, first.at), first)
    return _settled(state.process(i, history=history), i)


def _begun(state: State, i: int) -> tuple[State, str]:
    """A login has its pair before it begins: a person just typed the password."""
    kind = state.processes[i].kind
    state = state.process(i, status="running", started_at=state.now)
    if kind.job != "login":
        return state, ""
    if kind.adopts and state.provider.newest:
        return state.process(i, brought=1), a_pair(1, state.now - EIGHT_DAYS).to_json()
    state = state._replace(provider=state.provider.log_in(state.now))
    brought = state.provider.newest
    return state.process(i, brought=brought), a_pair(brought, state.now + kind.skew).to_json()


def replied(state: State, i: int, value: Any) -> State:
    """The process learns the answer and goes on to its next call, or its end."""
    history = state.processes[i].history
    assert history is not None
    history = history.answered(value, state.now)
    return _settled(state.process(i, history=history, status="running", held=None), i)


def _settled(state: State, i: int) -> State:
    """Nobody sees what a process does between two calls: waiting and proving are done at once, and so is ending."""
    step, granted = state.next_step(i), state.processes[i].granted
    if isinstance(step, ProcessEnd):
        ended = state.process(i, status="ended", ended=step, ended_at=state.now, history=None, looked=None)
        if step.pair_at_risk and granted:
            ended = ended._replace(lost=state.lost | {granted})
        return ended.broke(properties.untrue(state, i, step))
    if step.operation == "pause" or (step.operation == "prove" and not state.budget.proofs):
        return went_on(state, i, step)
    return state


def _of_a_process(state: State, i: int, name: str) -> Iterator[Move]:
    step, budget = state.next_step(i), state.budget
    assert isinstance(step, Step)
    yield Move(f"{name}: {step}", "step", partial(went_on, state, i, step))
    if budget.kills:
        yield Move(f"{name} is killed before {step}", "mishap", lambda: killed(state.spent("kills"), i))
    if budget.freezes:
        yield Move(f"{name}: {step}, and freezes", "mishap", lambda: _frozen(state.spent("freezes"), i, step))
    if budget.stale and step.is_read:
        for words, view in _stale_views(state, step):
            yield Move(f"{name}: {step}, {words}", "mishap", partial(_read_stale, state, i, step, view))
    for what, effect, words, reply in _mishaps(step):
        if getattr(budget, what):
            yield Move(f"{name}: {step}{words}", "mishap", partial(_mishap, state, i, step, what, effect, reply))


def _mishaps(step: Step) -> Iterator[tuple[str, str, str, Any]]:
    """What is used up of the budget, when the call takes effect, the description, and the answer."""
    if step.operation == "prove":
        yield "proofs", "never", ": 502", Unclear("502")
        yield "proofs", "never", ": 401", Denied("401")
    elif step.operation in ("refresh", "log_in"):
        yield "lost", "now", ", and the answer is lost", NotGranted(Ending.UNKNOWN, "read timeout")
        endings = {"connection refused": Ending.UNREACHABLE, "429": Ending.THROTTLED, "502": Ending.UNKNOWN}
        for reason, ending in endings.items():
            yield "faults", "never", f" meets {reason}", NotGranted(ending, reason)
        if step.operation == "refresh":
            yield "late", "later", " times out and is served later", NotGranted(Ending.UNKNOWN, "late")
    else:
        for code in ("ThrottlingException", "AccessDeniedException"):
            yield "faults", "never", f" meets {code}", Raised(code)
        if step.operation in WRITES:
            yield "faults", "now", " times out, done", TIMED_OUT
        if step.operation == "UpdateSecretVersionStage":
            yield "faults", "now", ", and its repetition fails", Raised("InvalidParameterException")
        if step.operation in WRITES:
            yield "late", "later", " times out and is done later", TIMED_OUT


def _mishap(state: State, i: int, step: Step, what: str, effect: str, reply: Any) -> State:
    state = state.spent(what).process(i, misled=True)
    if effect == "later":
        if step.operation == "refresh":
            state = state.broke(properties.wrongly_posted(state, i, step.arguments["token"]))
        state = state._replace(late=(*state.late, Late(step.operation, step.arguments, i, state.now)))
    elif effect == "now":
        state, answer = performed(state, i, step)
        if what == "lost":
            lost = state.lost | ({state.provider.newest} if isinstance(answer, Granted) else set())
            state = state._replace(lost=lost).process(i, granted=0, refused="")
    return replied(state, i, reply)


def _stale_views(state: State, step: Step) -> list[tuple[str, Secret]]:
    views = [view.shows for view in state.views if view.shows.name == step.secret]
    seen = [(f"{age} writes ago", view) for age, view in enumerate(reversed(views), 1)]
    if step.operation == "ListSecretVersionIds":
        now = state.secrets[step.secret]
        seen += [(f"its labels of {words}", replace(now, labels=view.labels)) for words, view in seen]
    return seen


def _read_stale(state: State, i: int, step: Step, view: Secret) -> State:
    state = state.spent("stale").process(i, misled=True)
    _, value = state.called(step.operation, step.arguments, view=view)
    if step.secret == NAMES.pair and step.shows_labels:
        state = state.process(i, looked=view)
    return replied(state, i, value)


def went_on(state: State, i: int, step: Step) -> State:
    after, value = performed(state, i, step)
    return after if after.wrong else replied(after, i, value)


def _frozen(state: State, i: int, step: Step) -> State:
    after, value = performed(state, i, step)
    return after.process(i, status="frozen", held=value)


def _thawed(state: State, i: int) -> State:
    process = state.processes[i]
    return replied(state.without_its_answer(process) if process.outlived(state.now) else state, i, process.held)


def killed(state: State, i: int) -> State:
    state = state.without_its_answer(state.processes[i])
    return state.process(i, status="killed", history=None, held=None, looked=None)


def performed(state: State, i: int, step: Step) -> tuple[State, Any]:
    """What the call does, and its answer."""
    if step.operation == "pause":
        return state.later(timedelta(seconds=step.arguments["seconds"])), None
    if step.operation == "prove":
        return state, state.provider.proof(step.arguments["token"], state.now)
    if step.operation in ("refresh", "log_in"):
        return _posted(state, i, step)
    after, value = state.called(step.operation, step.arguments)
    after = _noted(state, after, step, value, i)
    refused = after.processes[i].refused
    if refused and step.operation == "PutSecretValue" and not isinstance(value, Raised):
        after = after._replace(verdicts=(*after.verdicts, Verdict(refused, state.now))).process(i, refused="")
    if step.secret == NAMES.bearer and step.operation in WRITES:
        made = step.arguments.get("ClientRequestToken", step.arguments.get("MoveToVersionId"))
        after = after.process(i, published=made)
    if step.secret == NAMES.pair and step.is_read and step.shows_labels:
        after = after.process(i, looked=state.pair_secret)
    return after.seen_by(i, step.secret) if step.shows_labels else after, value


def _posted(state: State, i: int, step: Step) -> tuple[State, Any]:
    local_now = state.now + state.processes[i].kind.skew
    if step.operation == "log_in":
        state = state._replace(provider=state.provider.log_in(state.now))
        pair = a_pair(state.provider.newest, local_now)
        answer: Any = Granted(pair.access_token, pair.refresh_token, local_now, pair.expires_at)
    else:
        token = step.arguments["token"]
        provider, answer = state.provider.refresh(token, state.now)
        state = state.broke(properties.wrongly_posted(state, i, token))._replace(provider=provider)
        if not isinstance(answer, Granted):
            return state.process(i, refused=token), answer
        answer = answer._replace(issued_at=local_now, expires_at=local_now + timedelta(days=15))
    return state.process(i, granted=state.provider.newest), answer


def _noted(before: State, after: State, step: Step | Late, value: Any, i: int) -> State:
    """What a call of process *i* means for the properties."""
    if after.secrets is before.secrets:
        return after
    if step.operation == "PutSecretValue" and step.arguments["SecretId"] == NAMES.pair:
        made = step.arguments["ClientRequestToken"]
        is_pair = pair_in(step.arguments["SecretString"]) is not None
        if is_pair and is_of_the_chain(made) and not isinstance(value, Raised):
            after = after._replace(chain_newest=made)
        after = after.broke("two claims are alive" if len(properties.live_claims(after)) > 1 else "")
    return after.broke(properties.readers_went_back(before, after, i))


def _landed(state: State, n: int) -> State:
    """A request that was given up takes effect after all."""
    late = state.late[n]
    state = state._replace(late=(*state.late[:n], *state.late[n + 1 :]))
    if late.operation == "refresh":
        provider, answer = state.provider.refresh(late.arguments["token"], state.now)
        lost = state.lost | {provider.newest} if isinstance(answer, Granted) else state.lost
        return state._replace(provider=provider, lost=lost)
    after, value = state.called(late.operation, late.arguments)
    return _noted(state, after, late, value, late.process)


def run_through(state: State, kind: Kind) -> tuple[State, ProcessEnd]:
    """One more process, from its start to its end, while nothing else happens."""
    i = len(state.processes)
    state = state._replace(processes=(*state.processes, Process(kind)))
    name = f"{kind.job} {i} at {state.now}"
    now, value = _begun(state, i)

    def answer(step: Step) -> History:
        nonlocal now
        now, reply = performed(now, i, step)
        return History(name, kind, reply, now.now)

    ended = run([History(name, kind, value, state.now)], answer)
    assert isinstance(ended, ProcessEnd)
    now = now.broke(properties.untrue(now, i, ended))
    return now.process(i, status="ended", ended=ended, ended_at=now.now, looked=None), ended
