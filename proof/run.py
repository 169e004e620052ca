"""One proof from beginning to end: deploy, observe, remove, report."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tests.deployed.story import STEPS, Story
from tests.deployed.world import StepFailed
from tests.facts import FACTS, Fact
from token_refresher.refresh.model import Ending, NotGranted
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.secret_text import SecretText

from .account import Account
from .cleanup import FAMILY, TAG, clean
from .deployment import InAccount, StandIn

__all__ = ["AWS", "Proof", "Surroundings", "new_prefix", "refused_by_virtuous"]

SHOWN, NOT_SHOWN, NOT_HERE = "shown", "not shown", "not to be had here"
RACE = "one of many simultaneous puts wins"
VIRTUOUS = "https://api.virtuoussoftware.com"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a proof runs. A local AWS lacks some things, and says by the observation's subject why.

    *reach* is a Deployment's; *races* is how often writers race for one version.
    """

    reach: Callable[[str, str], str] = lambda _, url: url.rstrip("/")
    missing: Mapping[str, str] = field(default_factory=dict)
    races: int = 50


AWS = Surroundings()


class Observation(NamedTuple):
    """*evidence* is a sentence without a secret."""

    subject: str
    verdict: str
    evidence: str
    seconds: float = 0.0


@dataclass(slots=True)
class Proof:
    """One run under *prefix*. *directory* gets logs and report. *virtuous* is asked only if wanted."""

    account: Account
    surroundings: Surroundings
    prefix: str
    directory: Path
    say: Callable[[str], object]
    virtuous: bool = False
    observations: list[Observation] = field(default_factory=list)

    def run(self) -> None:
        """Deploys and observes, then removes everything, whatever happened."""
        account, reach = self.account, self.surroundings.reach
        world = InAccount(self.directory, StandIn(), {}, self.say, self.prefix, account=account, reach=reach)
        try:
            self.observe("the stacks deploy", world.make)
            if self.observations[-1].verdict == SHOWN:
                self.observe_all(world)
        finally:
            left = clean(self.account, self.prefix, self.say)
            self.add("everything was removed", NOT_SHOWN if left else SHOWN, ", ".join(left) or "nothing is left")

    def observe_all(self, world: InAccount) -> None:
        story = Story(world)
        for subject, step in STEPS.items():
            self.observe(subject, partial(step, story))
        self.observe("the secrets have the stack's own key", world.is_under_the_key)
        self.observe("a run that dies is recovered", world.survives_a_death)
        self.observe("metrics arrive", world.metrics_arrive)
        self.observe("an alarm rings and ends", world.an_alarm_rings_and_ends)
        for number, fact in enumerate(FACTS):
            self.observe(f"Secrets Manager: {fact.name}", partial(self.ask, world, fact, number))
        if self.virtuous:
            self.observe("Virtuous refuses a dead refresh token as the function expects", refused_by_virtuous)

    def ask(self, world: InAccount, fact: Fact, number: int) -> str:
        """Asks it of a secret that is made for it."""
        manager, name = world.client("secretsmanager"), f"{self.prefix}-facts/{number}"
        times = self.surroundings.races if fact.name == RACE else 1
        tags = [{"Key": TAG, "Value": self.prefix}]
        manager.create_secret(Name=name, Description="made by make prove; may be deleted", Tags=tags)
        for _ in range(times):
            fact.check(manager, name)
        return "as stated" if times == 1 else f"as stated, {times} times"

    def observe(self, subject: str, look: Callable[[], str]) -> None:
        """What *look* raises becomes an observation that is not shown; Ctrl-C passes through."""
        if subject in self.surroundings.missing:
            return self.add(subject, NOT_HERE, self.surroundings.missing[subject])
        self.say(f"Observe: {subject}")
        began = time.monotonic()
        try:
            verdict, evidence = SHOWN, look()
        except (StepFailed, AssertionError) as error:
            verdict, evidence = NOT_SHOWN, str(error)
        except ClientError as error:
            verdict, evidence = NOT_SHOWN, f"{error.operation_name} was refused ({error.response['Error']['Code']})"
        except BotoCoreError as error:
            verdict, evidence = NOT_SHOWN, type(error).__name__
        return self.add(subject, verdict, evidence, time.monotonic() - began)

    def add(self, subject: str, verdict: str, evidence: str, seconds: float = 0.0) -> None:
        self.observations.append(Observation(subject, verdict, evidence, seconds))
        self.say(f"{subject}: {verdict}. {evidence}")

    @property
    def exit_status(self) -> int:
        """0 all shown; 1 something was not shown; 3 nothing failed, but some cannot be had in this account."""
        verdicts = {observation.verdict for observation in self.observations}
        return 1 if NOT_SHOWN in verdicts or not verdicts else 3 if NOT_HERE in verdicts else 0

    def report(self) -> Path:
        """Writes ``report.md``, without the account's number, and returns its path."""
        counts = Counter(observation.verdict for observation in self.observations)
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        where = "a local AWS" if self.account.is_local else f"AWS, {self.account.region}"
        when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        lines = ["# What this account has shown", "", f"{when}, {where}, boto3 {boto3.__version__}: {summary}.", ""]
        lines += ["| observation | | evidence | seconds |", "|---|---|---|---|"]
        for each in sorted(self.observations, key=lambda each: (NOT_SHOWN, SHOWN, NOT_HERE).index(each.verdict)):
            evidence = " ".join(each.evidence.replace("|", "\\|").split())
            lines.append(f"| {each.subject} | {each.verdict} | {evidence} | {each.seconds:.0f} |")
        page = self.directory / "report.md"
        page.write_text("\n".join(lines).replace(self.account.number, "ACCOUNT") + "\n")
        return page


def refused_by_virtuous() -> str:
    """One request to Virtuous with a token that never existed, judged as the function judges it."""
    endpoint = TokenEndpoint(VIRTUOUS, clock=lambda: datetime.now(UTC))
    answer = endpoint.refresh(SecretText("a-refresh-token-that-never-existed"))
    if not isinstance(answer, NotGranted) or answer.ending is not Ending.REFUSED:
        raise StepFailed(f"expected: refused; seen: {getattr(answer, 'ending', 'tokens')}")
    return f"it was {answer.ending} ({answer.reason})"


def new_prefix() -> str:
    """A prefix that no other run has."""
    return f"{FAMILY}{secrets.token_hex(4)}"
