"""One proof from beginning to end: deploy, observe, report, remove."""

from __future__ import annotations

import json
import platform
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import boto3

from .account import Account
from .cleanup import FAMILY, clean
from .deployment import Deployment
from .observations import Observation, Verdict
from .probes import Extent, probe_secrets_manager
from .report import write_report
from .stacks import REPOSITORY, DeploymentFailed, Stacks
from .story import REFRESH_AT_PERCENT, SUBJECTS, TOKEN_LIFE_SECONDS, tell

__all__ = ["Aws", "Proof", "Surroundings", "default_directory", "new_prefix"]

USER = "proof@example.org"


class Surroundings(Protocol):
    """Where a proof runs. A local AWS lacks some things, and says which and why."""

    def missing(self) -> Mapping[str, str]:
        """The reason, by an observation's subject, why it cannot be had here."""

    def reach(self, function_name: str, url: str) -> str:
        """The address under which the function behind *url* can be reached, without a slash at the end."""

    def extent(self) -> Extent:
        """How much the probes ask."""


class Aws:
    """AWS itself: nothing is missing."""

    def missing(self) -> Mapping[str, str]:
        return {}

    def reach(self, function_name: str, url: str) -> str:
        return url.rstrip("/")

    def extent(self) -> Extent:
        return Extent()


@dataclass(slots=True)
class Proof:
    """One run. *directory* gets logs and report; ``observations`` grows as they are made.

    *only* leaves out the ``story`` or the ``facts``; *until* is the last subject of the story.
    """

    account: Account
    surroundings: Surroundings
    prefix: str
    directory: Path
    say: Callable[[str], object]
    only: str | None = None
    until: str | None = None
    observations: list[Observation] = field(default_factory=list)

    def run(self) -> None:
        """Deploys and observes, then removes everything, whatever happened. A failed deployment is an observation."""
        self.directory.mkdir(parents=True, exist_ok=True)
        stop = threading.Event()
        try:
            with ThreadPoolExecutor(1) as pool:
                probing = pool.submit(self._probe, stop)
                try:
                    if self.only != "facts":
                        self._tell()
                except BaseException:
                    stop.set()  # Ctrl-C ends the probes at the end of the present one
                    raise
                probing.result()
        finally:
            self.remove()

    def remove(self) -> None:
        """Removes what this run made; what is left is an observation."""
        left = clean(self.account, self.prefix, self.say)
        verdict = Verdict.NOT_SHOWN if left else Verdict.SHOWN
        evidence = f"left: {', '.join(left)}" if left else "nothing is left under the prefix"
        self.observations.append(Observation("everything was removed", verdict, evidence))

    def report(self) -> Path:
        """Writes the report and returns its page's path."""
        circumstances = {
            "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "Region": self.account.region,
            "where": "a local AWS" if self.account.is_local else "AWS",
            "Python": platform.python_version(),
            "boto3": boto3.__version__,
        }
        return write_report(
            self.directory, circumstances, self.observations, without_number=self.account.without_number
        )

    def _probe(self, stop: threading.Event) -> None:
        if self.only == "story":
            return
        missing, extent = self.surroundings.missing(), self.surroundings.extent()
        for observation in probe_secrets_manager(
            self.account.session, f"{self.prefix}-probe", extent, missing_here=missing
        ):
            self._add(observation)
            if stop.is_set():
                return

    def _tell(self) -> None:
        try:
            deployed = self._deploy()
        except DeploymentFailed as error:
            self._add(Observation("the stacks deploy", Verdict.NOT_SHOWN, str(error)))
            for subject in SUBJECTS:
                self._add(Observation(subject, Verdict.NOT_SHOWN, "the stacks did not deploy"))
            return
        self._add(Observation("the stacks deploy", Verdict.SHOWN, "stand-in, product and reader were created"))
        for observation in tell(deployed, missing_here=self.surroundings.missing()):
            self._add(observation)
            if observation.subject == self.until:
                return

    def _add(self, observation: Observation) -> None:
        self.observations.append(observation)
        self.say(f"{observation.subject}: {observation.verdict}. {observation.evidence}")

    def _deploy(self) -> Deployment:
        stacks = Stacks(self.account, self.prefix, self.directory)
        self.say("Make a bucket, a key, a topic and a queue")
        stacks.make_bucket()
        key = self._make_key()
        topic, queue = self._make_topic_and_queue()
        password = f"password-{secrets.token_hex(12)}"
        self.say("Deploy the stand-in for Virtuous")
        outputs = stacks.deploy(
            "stand-in",
            {"UserName": USER, "TokenLifeSeconds": str(TOKEN_LIFE_SECONDS)},
        )
        base_url = self.surroundings.reach(outputs["FunctionName"], outputs["Url"])
        self.say("Deploy the product")
        stacks.deploy(
            "product",
            {
                "Prefix": self.prefix,
                "Schedule": "rate(1 minute)",
                "RefreshAtPercent": str(REFRESH_AT_PERCENT),
                "VirtuousBaseUrl": base_url,
                "KmsKeyArn": key,
                "AlarmTopicArn": topic,
            },
        )
        self.say("Deploy a reader")
        stacks.deploy("reader", self._reader_parameters(base_url))
        deployed = Deployment(self.account, stacks, outputs["FunctionName"], USER, password, key, queue, self.say)
        deployed.invoke(deployed.stand_in, {"control": {"password": password}})
        return deployed

    def _reader_parameters(self, base_url: str) -> Mapping[str, str]:
        return {
            "FunctionName": f"{self.prefix}-reader",
            "ReaderLayerArn": f"/{self.prefix}/reader-layer-arn",
            "ReaderPolicyArn": f"/{self.prefix}/reader-policy-arn",
            "BearerSecret": f"{self.prefix}/default/bearer",
            "MaxAgeSeconds": "1",
            "VirtuousBaseUrl": base_url,
        }

    def _make_key(self) -> str:
        client = self.account.client("kms")
        key: str = client.create_key(Description=f"{self.prefix}: made by make prove")["KeyMetadata"]["Arn"]
        client.create_alias(AliasName=f"alias/{self.prefix}", TargetKeyId=key)
        return key

    def _make_topic_and_queue(self) -> tuple[str, str]:
        sns, sqs = self.account.client("sns"), self.account.client("sqs")
        topic: str = sns.create_topic(Name=f"{self.prefix}-notices")["TopicArn"]
        queue: str = sqs.create_queue(QueueName=f"{self.prefix}-notices")["QueueUrl"]
        queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        services = {"Service": ["events.amazonaws.com", "cloudwatch.amazonaws.com"]}
        sns.set_topic_attributes(
            TopicArn=topic,
            AttributeName="Policy",
            AttributeValue=_policy(services, "sns:Publish", topic),
        )
        may_send = _policy({"Service": "sns.amazonaws.com"}, "sqs:SendMessage", queue_arn)
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": may_send})
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
        return topic, queue


def new_prefix() -> str:
    """A prefix that no other run has."""
    return f"{FAMILY}{secrets.token_hex(4)}"


def default_directory(prefix: str) -> Path:
    """Where a run's report goes unless told otherwise."""
    return REPOSITORY / ".proof" / prefix


def _policy(principal: Mapping[str, object], action: str, resource: str) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
