"""``make prove`` and ``make prove-clean``: ``python -m proof run`` and ``python -m proof clean``.

Exit status: 0 all was shown and nothing is left; 1 not; 2 misused; 3 nothing failed, but some cannot be had here.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tests.deployed.demo import Narrator, end_on_signals
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.story import STEPS, Story
from tests.deployed.world import StepFailed
from tests.facts import FACTS, Fact
from token_refresher.refresh.model import Ending, NotGranted
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.secret_text import SecretText

from .account import Account, AnotherAccount
from .cleanup import FAMILY, TAG, clean
from .deployment import InAccount, StandIn

WHAT_IT_MAKES = """\
This makes, in account {account} and Region {region}, with names that begin with {prefix}:
  three CloudFormation stacks (a stand-in for Virtuous with a KMS key, the token refresher, a reader), a bucket, a
  queue, a role, and some secrets for questions to Secrets Manager.
It touches nothing else and removes all of it at the end; only the key waits seven days for its deletion, at no charge.
It costs about 10 cents (mostly requests and a share of the month's price of the key and the secrets), and takes about
half an hour."""
VIRTUOUS_WARNING = "--virtuous: it sends one made-up refresh token to Virtuous. It asks for no login."
VIRTUOUS = "https://api.virtuoussoftware.com"
SHOWN, NOT_SHOWN, NOT_HERE = "shown", "not shown", "not to be had here"
RACE = "one of many simultaneous puts wins"


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
    virtuous: bool
    say: Callable[[str], object] = field(default_factory=Narrator)
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


def main(argv: Sequence[str] | None = None, surroundings: Surroundings = AWS) -> int:
    """Runs one command and returns its exit status."""
    try:
        chosen = _parser().parse_args(argv)
    except SystemExit as misused:
        return int(misused.code or 0)
    end_on_signals()
    try:
        account = Account.of(chosen.profile, chosen.region)
        return _clean(account) if chosen.command == "clean" else _run(account, chosen, surroundings)
    except KeyboardInterrupt:
        print("Interrupted; what was made has been removed.", file=sys.stderr)
        return 130
    except AnotherAccount as error:
        print(error, file=sys.stderr)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        print(f"{error.operation_name} was refused ({code}): check the AWS credentials", file=sys.stderr)
    except BotoCoreError as error:
        print(f"AWS can't be used ({type(error).__name__}): check credentials and Region", file=sys.stderr)
    return 1


def _run(account: Account, chosen: argparse.Namespace, surroundings: Surroundings) -> int:
    prefix = f"{FAMILY}{secrets.token_hex(4)}"
    print(WHAT_IT_MAKES.format(account=account.number, region=account.region, prefix=prefix))
    if chosen.virtuous:
        print(VIRTUOUS_WARNING)
    if not chosen.yes and input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        return 2
    proof = Proof(account, surroundings, prefix, chosen.directory or REPOSITORY / ".proof" / prefix, chosen.virtuous)
    try:
        proof.run()
    finally:
        print(f"Report: {proof.report()}")
    return proof.exit_status


def _clean(account: Account) -> int:
    left = clean(account, FAMILY, print)
    for name in left:
        print(f"Left: {name}", file=sys.stderr)
    print("Something is left." if left else "Nothing of a proof is left.")
    return 1 if left else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proof", description="Shows on a real AWS account what only one can."
    )
    account = argparse.ArgumentParser(add_help=False)
    account.add_argument("--profile", help="the AWS profile (default: as the AWS CLI chooses)")
    account.add_argument("--region", help="the AWS Region (default: as the AWS CLI chooses)")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", parents=[account], help="deploy, observe, remove, report")
    run.add_argument("--yes", action="store_true", help="do not ask before anything is made")
    run.add_argument("--directory", type=Path, help="where logs and report go")
    run.add_argument("--virtuous", action="store_true", help="also how Virtuous refuses a token")
    commands.add_parser("clean", parents=[account], help="remove what killed runs left")
    return parser


if __name__ == "__main__":
    sys.exit(main())
