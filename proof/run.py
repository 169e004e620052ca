"""One proof from beginning to end: deploy, observe, remove, report."""

from __future__ import annotations

import platform
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.deployed.story import STEPS, Story
from tests.deployed.world import StepFailed
from tests.facts import FACTS, Secret, refusal
from token_refresher.refresh.model import Ending, NotGranted
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.secret_text import SecretText

from .account import Account
from .cleanup import FAMILY, TAG, clean
from .deployment import InAccount

__all__ = ["AWS", "RATES", "Proof", "Surroundings", "new_prefix", "refused_by_virtuous"]

SHOWN, NOT_SHOWN, NOT_HERE = "shown", "not shown", "not to be had here"
RACE = "one of many simultaneous puts wins"
RATES = "where throttling of writes begins"
# Writes a second that are tried, each for some seconds.
TRIED_RATES, SECONDS_A_RATE = (20, 40, 50, 60, 80, 120), 4
VIRTUOUS = "https://api.virtuoussoftware.com"

Look = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a proof runs. A local AWS lacks some things, and says by the observation's subject why.

    *reach* is a Deployment's; *races* is how often writers race for one version.
    """

    reach: Callable[[str, str], str] = lambda _, url: url.rstrip("/")
    missing: Mapping[str, str] = field(default_factory=dict)
    races: int = 50


AWS = Surroundings()


@dataclass(frozen=True, slots=True)
class Observation:
    """What was looked at, what became of it, and the evidence: a sentence without a secret."""

    subject: str
    verdict: str
    evidence: str
    seconds: float = 0.0


@dataclass(slots=True)
class Proof:
    """One run under *prefix*. *directory* gets logs and report. *rates* and *virtuous* are asked only if wanted."""

    account: Account
    surroundings: Surroundings
    prefix: str
    directory: Path
    say: Callable[[str], object]
    rates: bool = False
    virtuous: bool = False
    observations: list[Observation] = field(default_factory=list)

    def run(self) -> None:
        """Deploys and observes, then removes everything, whatever happened."""
        world = InAccount.under(self.prefix, self.account, self.directory, self.say, self.surroundings.reach)
        try:
            self.observe("the stacks deploy", world.make)
            if self.observations[-1].verdict == SHOWN:
                for subject, look in self.plan(world):
                    self.observe(subject, look)
        finally:
            left = clean(self.account, self.prefix, self.say)
            self.add("everything was removed", NOT_SHOWN if left else SHOWN, ", ".join(left) or "nothing is left")

    def plan(self, world: InAccount) -> Iterator[tuple[str, Look]]:
        """What is looked at, in order. What may slow others down in the Region comes last."""
        story = Story(world)
        for subject, step in STEPS.items():
            yield subject, partial(step, story)
        yield "the secrets have the stack's own key", world.is_under_the_key
        yield "a run that dies is recovered", world.survives_a_death
        yield "metrics arrive", world.metrics_arrive
        yield "an alarm rings and ends", world.an_alarm_rings_and_ends
        manager = world.client("secretsmanager")
        for number, fact in enumerate(FACTS):
            times = self.surroundings.races if fact.name == RACE else 1
            name = f"{self.prefix}-facts/{number}"
            yield f"Secrets Manager: {fact.name}", partial(self.ask, manager, name, fact.check, times)
        if self.virtuous:
            yield "Virtuous refuses a dead refresh token in words that the function takes", refused_by_virtuous
        if self.rates:
            yield RATES, partial(self.throttling, manager)

    def observe(self, subject: str, look: Look) -> None:
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

    def make_secret(self, manager: Any, name: str) -> None:
        tags = [{"Key": TAG, "Value": self.prefix}]
        manager.create_secret(Name=name, Description="made by make prove; may be deleted", Tags=tags)

    def ask(self, manager: Any, name: str, check: Callable[[Any, str], None], times: int) -> str:
        self.make_secret(manager, name)
        for _ in range(times):
            check(manager, name)
        return "as stated" if times == 1 else f"as stated, {times} times"

    def throttling(self, manager: Any) -> str:
        """Quotas: PutSecretValue and UpdateSecretVersionStage together 50 a second, for all who write in the Region."""
        name = f"{self.prefix}-facts/rates"
        self.make_secret(manager, name)
        version = Secret(manager, name).put("1")
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=64)
        once = Secret(self.account.session.client("secretsmanager", config=config), name)

        def is_throttled(at: float) -> bool:
            time.sleep(max(0.0, at - time.monotonic()))  # the pace is what is measured
            # The same again under the same id: a write for the quota, and no new version.
            return refusal(lambda: once.put("1", version=version)) == "ThrottlingException"

        def throttled(rate: int) -> int:
            began = time.monotonic()
            with ThreadPoolExecutor(64) as pool:
                return sum(pool.map(is_throttled, [began + n / rate for n in range(rate * SECONDS_A_RATE)]))

        seen = {rate: throttled(rate) for rate in TRIED_RATES}
        return ", ".join(
            f"{count} of {rate * SECONDS_A_RATE} throttled at {rate} a second" for rate, count in seen.items()
        )

    # What is told of it

    @property
    def exit_status(self) -> int:
        """0 all shown; 1 something was not shown; 3 nothing failed, but some cannot be had in this account."""
        verdicts = {observation.verdict for observation in self.observations}
        return 1 if NOT_SHOWN in verdicts or not verdicts else 3 if NOT_HERE in verdicts else 0

    def report(self) -> Path:
        """Writes ``report.md``, without the account's number, and returns its path."""
        counts = Counter(observation.verdict for observation in self.observations)
        where = "a local AWS" if self.account.is_local else f"AWS, {self.account.region}"
        when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        with_what = f"Python {platform.python_version()}, boto3 {boto3.__version__}"
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        lines = ["# What this account has shown", "", f"{when}, {where}, {with_what}: {summary}.", ""]
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
