"""One schedule written down by hand, in words that hold whatever calls the product makes in between."""

from __future__ import annotations

from tests.explorer.moves import TICK, WEEK, killed, moves, started, undisturbed, went_on
from tests.explorer.people import HANDS
from tests.explorer.processes import NAMES, ProcessEnd, Step
from tests.explorer.world import State, entry_in, pair_in


def milestone(step: Step) -> str:
    """What a process is about to do: looks, claims, sends, records, saves or publishes."""
    if step.operation in ("refresh", "log_in"):
        return "sends"
    if step.secret == NAMES.bearer and step.operation in ("PutSecretValue", "UpdateSecretVersionStage"):
        return "publishes"
    if step.operation != "PutSecretValue":
        return "looks"
    entry = entry_in(step.arguments["SecretString"])
    if entry is None:
        return "saves"
    return "claims" if entry["entry"] == "intent" else "records"


class Play:
    """What happened so far is in ``state``; process *i* is the i-th that it began with."""

    def __init__(self, state: State) -> None:
        self.state = state

    def until(self, i: int, wanted: str, *, looks: int = 0) -> Play:
        """Process *i* goes on until it is about to do what is *wanted*; for "looks" until it made so many."""
        if self.state.processes[i].status == "not started":
            self.state = started(self.state, i)
        made = 0
        while (step := self.next(i)) is not None:
            if milestone(step) == wanted and (wanted != "looks" or made == looks):
                break
            made += milestone(step) == "looks"
            self.state = went_on(self.state, i, step)
        return self

    def next(self, i: int) -> Step | None:
        """The call that process *i* is about to make; None once it ended."""
        if self.state.processes[i].status != "running" or self.state.wrong:
            return None
        step = self.state.next_step(i)
        return step if isinstance(step, Step) else None

    def ends(self, i: int) -> Play:
        if self.state.processes[i].status == "not started":
            self.state = started(self.state, i)
        self.state = undisturbed(self.state, i)
        return self

    def dies(self, i: int) -> Play:
        self.state = killed(self.state, i)
        return self

    def meets(self, i: int, what: str) -> Play:
        """The mishap of process *i*'s next call whose description holds these words."""
        found = [
            move
            for move in moves(self.state)
            if move.description.startswith(f"{self._name(i)}:") and what in move.description
        ]
        self.state = found[0].make()
        return self

    def person(self, hand: str) -> Play:
        after = HANDS[hand](self.state)
        assert after is not None, f"nobody {hand} here"
        self.state = after
        return self

    def minutes_pass(self, ticks: int = 1) -> Play:
        self.state = self.state.later(TICK * ticks)
        return self

    def weeks_pass(self, weeks: int = 1) -> Play:
        self.state = self.state.later(WEEK * weeks)
        return self

    def ended(self, i: int) -> ProcessEnd:
        ended = self.state.processes[i].ended
        assert ended is not None
        return ended

    def published(self) -> str:
        """The access token that readers get."""
        secret = self.state.bearer_secret
        pair = pair_in(secret.versions[secret.labels["AWSCURRENT"]].value)
        assert pair is not None
        return pair.access_token.reveal()

    def _name(self, i: int) -> str:
        return f"{self.state.processes[i].kind.job} {i}"
