"""Everything that can happen next, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from tests.explorer import properties
from tests.explorer.people import EIGHT_DAYS, HANDS
from tests.explorer.processes import NAMES, History, Kind, ProcessEnd, Raised, Step
from tests.explorer.world import Late, Process, State, Verdict, a_pair, pair_in
from token_refresher.refresh.journal import is_of_the_chain
from token_refresher.refresh.model import Denied, Ending, Granted, NotGranted, Unclear

TICK = timedelta(seconds=200)  # two of them outlast a holder (300 s and a minute) and every stale read, one does not
WEEK = timedelta(days=8)  # a fresh pair is due afterwards
SIGNED_FOR = timedelta(minutes=15)
WRITES = ("PutSecretValue", "UpdateSecretVersionStage", "CreateSecret")


class Move(NamedTuple):
    """``sort`` is what a random schedule weighs: start, step, mishap, hand, late or time."""

    description: str
    sort: str
    make: Callable[[], State]


def moves(state: State) -> Iterator[Move]:
    if state.wrong:
        return
    for i, process in enumerate(state.processes):
        if process.status == "not started":
            if process.kind not in [other.kind for other in state.processes[:i] if other.status == "not started"]:
                yield Move(f"{_name(state, i)} starts", "start", partial(started, state, i))
        elif process.status == "frozen":
            yield Move(f"{_name(state, i)} goes on", "step", partial(_thawed, state, i))
        elif process.status == "running" and (switched := _switched(state, i)) is not None:
            yield from _of_a_process(switched, i)
    yield from _of_others(state)


def _of_others(state: State) -> Iterator[Move]:
    for hand in dict.fromkeys(state.hands):
        if (after := HANDS[hand](state)) is not None:
            left = list(state.hands)
            left.remove(hand)
            after = after._replace(hands=tuple(left))
            yield Move(f"a person {hand}", "hand", lambda after=after: after)  # type: ignore[misc]
    for n, late in enumerate(state.late):
        if state.now - late.sent_at > SIGNED_FOR:
            continue
        yield Move(f"late: {late.operation} {n}", "late", partial(landed, state, n))
    if state.budget.ticks and _may_pass(state, TICK):
        yield Move("minutes pass", "time", lambda: state.spent("ticks").later(TICK))
    if state.budget.weeks and not any(process.status == "running" for process in state.processes):
        yield Move("a week passes", "time", lambda: state.spent("weeks").later(WEEK))


def _may_pass(state: State, wait: timedelta) -> bool:
    """Lambda ends a run at its deadline; one that may go on after it is frozen."""
    running = [process for process in state.processes if process.status == "running"]
    return not any(process.outlived(state.now + wait) for process in running)


def _name(state: State, i: int) -> str:
    return f"{state.processes[i].kind.job} {i}"


def _switched(state: State, i: int) -> State | None:
    """None where no other process may take over any more."""
    if state.at_work in (i, -1) or state.processes[state.at_work].status != "running":
        return state._replace(at_work=i)
    return state.spent("switches")._replace(at_work=i) if state.budget.switches else None


def started(state: State, i: int) -> State:
    state, value = _begun(state, i)
    history = state.interned.start(_name(state, i), state.processes[i].kind, value, state.now)
    return _settled(state.process(i, history=history), i)


def _begun(state: State, i: int) -> tuple[State, str]:
    """A login has its pair before it begins: a person just typed the password."""
    kind = state.processes[i].kind
    if kind.job != "login":
        return state.process(i, status="running", started_at=state.now), ""
    if kind.adopts and state.provider.newest:
        value = a_pair(1, state.now - EIGHT_DAYS).to_json()
        return state.process(i, status="running", started_at=state.now, brought=1), value
    after = state._replace(provider=state.provider.log_in(state.now))
    value = a_pair(after.provider.newest, state.now + kind.skew).to_json()
    return after.process(i, status="running", started_at=state.now, brought=after.provider.newest), value


def replied(state: State, i: int, value: Any) -> State:
    """The process learns the answer and goes on to its next call, or its end."""
    process = state.processes[i]
    assert process.history is not None
    return _settled(
        state.process(i, history=process.history.answered(value, state.now), status="running", held=None), i
    )


def _settled(state: State, i: int) -> State:
    """Nobody sees what a process does between two calls: waiting and proving are done at once, and so is ending."""
    step = state.next_step(i)
    if isinstance(step, ProcessEnd):
        ended = state.process(i, status="ended", ended=step, ended_at=state.now, history=None, looked=None)
        if step.pair_at_risk and state.processes[i].granted:
            ended = ended._replace(lost=state.lost | {state.processes[i].granted})
        return ended.broke(properties.untrue(state, i, step))
    if step.operation == "pause" or (step.operation == "prove" and not state.budget.proofs):
        after, value = performed(state, i, step)
        return replied(after, i, value)
    return state


def _of_a_process(state: State, i: int) -> Iterator[Move]:
    name, step = _name(state, i), state.next_step(i)
    assert isinstance(step, Step)
    yield Move(f"{name}: {step}", "step", lambda: went_on(state, i, step))
    budget = state.budget
    if budget.kills:
        yield Move(f"{name} is killed before {step}", "mishap", lambda: killed(state.spent("kills"), i))
    if budget.freezes:
        yield Move(f"{name}: {step}, and freezes", "mishap", lambda: _frozen(state.spent("freezes"), i, step))
    if step.operation == "prove":
        for proof in (Unclear("502"), Denied("401")):
            yield Move(f"{name}: {step}: {proof.reason}", "mishap", partial(_answered, state, i, "proofs", proof))
    elif step.operation in ("refresh", "log_in"):
        yield from _mishaps_of_a_post(state, i, step)
    else:
        yield from _mishaps_of_a_call(state, i, step)


def went_on(state: State, i: int, step: Step) -> State:
    after, value = performed(state, i, step)
    return after if after.wrong else replied(after, i, value)


def _frozen(state: State, i: int, step: Step) -> State:
    after, value = performed(state, i, step)
    return after.process(i, status="frozen", held=value)


def _thawed(state: State, i: int) -> State:
    process = state.processes[i]
    if process.granted and process.outlived(state.now) and not state.saved(process.granted):
        state = state._replace(lost=state.lost | {process.granted})
    return replied(state, i, process.held)


def killed(state: State, i: int) -> State:
    process = state.processes[i]
    if process.granted and not state.saved(process.granted):
        state = state._replace(lost=state.lost | {process.granted})
    return state.process(i, status="killed", history=None, held=None, looked=None)


def performed(state: State, i: int, step: Step) -> tuple[State, Any]:
    """What the call does, and its answer."""
    process, arguments = state.processes[i], step.arguments
    if step.operation == "pause":
        return state.later(timedelta(seconds=arguments["seconds"])), None
    if step.operation == "prove":
        return state, state.provider.proof(arguments["token"], state.now)
    if step.operation == "log_in":
        return _posted(state.broke(properties.wrongly_posted(state, i, None)), i, step)
    if step.operation == "refresh":
        return _posted(state.broke(properties.wrongly_posted(state, i, arguments["token"])), i, step)
    after, value = state.called(step.operation, arguments)
    after = _noted(state, after, step, value, i)
    process = after.processes[i]
    if process.refused and step.operation == "PutSecretValue" and not isinstance(value, Raised):
        written = (*after.verdicts, Verdict(process.refused, state.now))
        after = after._replace(verdicts=written).process(i, refused="")
    if step.secret == NAMES.bearer and step.operation in WRITES:
        made = arguments.get("ClientRequestToken", arguments.get("MoveToVersionId"))
        after = after.process(i, published=made)
    after = after.process(i, looked=_look(state, i, step)) if process.looked is not after.pair_secret else after
    return after.seen_by(i, step.secret) if _shows_labels(step) else after, value


def _posted(state: State, i: int, step: Step) -> tuple[State, Any]:
    local_now = state.now + state.processes[i].kind.skew
    if step.operation == "log_in":
        provider = state.provider.log_in(state.now)
        pair = a_pair(provider.newest, local_now)
        answer: Any = Granted(pair.access_token, pair.refresh_token, local_now, pair.expires_at)
    else:
        provider, answer = state.provider.refresh(step.arguments["token"], state.now)
        if isinstance(answer, Granted):
            answer = answer._replace(issued_at=local_now, expires_at=local_now + timedelta(days=15))
    after = state._replace(provider=provider)
    if isinstance(answer, NotGranted) and answer.ending is Ending.REFUSED and step.operation == "refresh":
        after = after.process(i, refused=step.arguments["token"])
    return (after.process(i, granted=provider.newest) if isinstance(answer, Granted) else after), answer


def _look(state: State, i: int, step: Step) -> Any:
    """The pair secret as the process sees its labels now."""
    is_look = step.secret == NAMES.pair and step.operation not in WRITES and _shows_labels(step)
    return state.pair_secret if is_look else state.processes[i].looked


def _shows_labels(step: Step) -> bool:
    """A write shows the labels that it moves; a version that is read by its id says nothing of what is current."""
    return "VersionId" not in step.arguments


def _noted(before: State, after: State, step: Step | Late, value: Any, i: int) -> State:
    """What a call of process *i* means for the properties."""
    if after.secrets is before.secrets:
        return after
    if step.operation == "PutSecretValue" and step.arguments["SecretId"] == NAMES.pair:
        made = step.arguments["ClientRequestToken"]
        is_pair = pair_in(step.arguments["SecretString"]) is not None
        if is_pair and is_of_the_chain(made) and not isinstance(value, Raised):
            after = after._replace(chain_newest=made)
        after = after.broke(properties.claimed_twice(after))
    return after.broke(properties.readers_went_back(before, after, i))


def landed(state: State, n: int) -> State:
    """A request that was given up takes effect after all."""
    late = state.late[n]
    state = state._replace(late=(*state.late[:n], *state.late[n + 1 :]))
    if late.operation == "refresh":
        provider, answer = state.provider.refresh(late.arguments["token"], state.now)
        lost = state.lost | {provider.newest} if isinstance(answer, Granted) else state.lost
        return state._replace(provider=provider, lost=lost)
    after, value = state.called(late.operation, late.arguments)
    return _noted(state, after, late, value, late.process)


def _misled(state: State, i: int, budget: str) -> State:
    return state.spent(budget).process(i, misled=True)


def _mishaps_of_a_post(state: State, i: int, step: Step) -> Iterator[Move]:
    name = _name(state, i)
    if state.budget.lost:

        def lost() -> State:
            after, answer = performed(_misled(state, i, "lost"), i, step)
            if isinstance(answer, Granted):
                after = after._replace(lost=after.lost | {after.provider.newest})
            after = after.process(i, granted=0, refused="")
            return replied(after, i, NotGranted(Ending.UNKNOWN, "read timeout"))

        yield Move(f"{name}: {step}, and the answer is lost", "mishap", lost)
    if state.budget.faults:
        endings = {"connection refused": Ending.UNREACHABLE, "429": Ending.THROTTLED, "502": Ending.UNKNOWN}
        for reason, ending in endings.items():
            missed = partial(_answered, state, i, "faults", NotGranted(ending, reason))
            yield Move(f"{name}: {step} meets {reason}", "mishap", missed)
    if state.budget.late and step.operation == "refresh":
        wrong = properties.wrongly_posted(state, i, step.arguments["token"])
        late = partial(_served_later, state.broke(wrong), i, step, NotGranted(Ending.UNKNOWN, "late"))
        yield Move(f"{name}: {step} times out and is served later", "mishap", late)


def _mishaps_of_a_call(state: State, i: int, step: Step) -> Iterator[Move]:
    name, budget = _name(state, i), state.budget
    if budget.stale and step.operation not in WRITES:
        views = [view.shows for view in state.views if view.secret == step.secret]
        seen = [(f"{age} writes ago", view) for age, view in enumerate(reversed(views), 1)]
        if step.operation == "ListSecretVersionIds":
            torn = [(f"its labels of {age}", replace(state.secrets[step.secret], labels=v.labels)) for age, v in seen]
            seen += torn
        for age, view in seen:
            yield Move(f"{name}: {step}, {age}", "mishap", partial(_read_stale, state, i, step, view))
    if budget.faults:
        for code in ("ThrottlingException", "AccessDeniedException"):
            failed = partial(_answered, state, i, "faults", Raised(code))
            yield Move(f"{name}: {step} meets {code}", "mishap", failed)
    if budget.faults and step.operation in WRITES:
        done = partial(_done_and_answered, state, i, step)
        yield Move(f"{name}: {step} times out, done", "mishap", partial(done, TIMED_OUT))
        if step.operation == "UpdateSecretVersionStage":
            repeated = partial(done, Raised("InvalidParameterException"))
            yield Move(f"{name}: {step}, and its repetition fails", "mishap", repeated)
    if budget.late and step.operation in WRITES:
        late = partial(_served_later, state, i, step, TIMED_OUT)
        yield Move(f"{name}: {step} times out and is done later", "mishap", late)


TIMED_OUT = Raised("ReadTimeoutError")


def _answered(state: State, i: int, budget: str, value: Any) -> State:
    """Nothing is done, and this is the answer."""
    return replied(_misled(state, i, budget), i, value)


def _served_later(state: State, i: int, step: Step, value: Any) -> State:
    late = Late(step.operation, step.arguments, i, state.now)
    return replied(_misled(state, i, "late")._replace(late=(*state.late, late)), i, value)


def _done_and_answered(state: State, i: int, step: Step, value: Raised) -> State:
    after, _ = performed(_misled(state, i, "faults"), i, step)
    return replied(after, i, value)


def _read_stale(state: State, i: int, step: Step, view: Any) -> State:
    state = _misled(state, i, "stale")
    _, value = state.called(step.operation, step.arguments, view=view)
    if step.secret == NAMES.pair and "VersionId" not in step.arguments:
        state = state.process(i, looked=view)
    return replied(state, i, value)


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

    ended = History(name, kind, value, state.now).through(answer)
    now = now.broke(properties.untrue(now, i, ended))
    return now.process(i, status="ended", ended=ended, ended_at=now.now, looked=None), ended


def undisturbed(state: State, i: int) -> State:
    """Process *i* goes on to its end while nothing else happens."""
    while state.processes[i].status == "running" and not state.wrong:
        step = state.next_step(i)
        assert isinstance(step, Step)
        state = went_on(state, i, step)
    return state
