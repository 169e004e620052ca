"""The product as a user deploys it, in one account: its command, its function, its secrets, logs, queues and alarms."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from botocore.config import Config

from .account import Account
from .observations import NotAsExpected
from .stacks import Stacks

__all__ = ["CONNECTION", "Deployment"]

CONNECTION = "default"

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the observations share. ``user`` and ``password`` are the stand-in's; ``say`` is told each step."""

    account: Account
    stacks: Stacks
    stand_in: str
    user: str
    password: str = field(repr=False)
    key_arn: str
    notices_queue: str
    say: Callable[[str], object]

    @property
    def prefix(self) -> str:
        return self.stacks.prefix

    @property
    def function(self) -> str:
        return f"{self.prefix}-token-refresher"

    @property
    def forced(self) -> dict[str, Any]:
        return {"connections": [CONNECTION], "force": True}

    def command(self, *arguments: str, lines: tuple[str, ...]) -> str:
        """Runs the operator's command; what it is told goes to its standard input alone."""
        done = subprocess.run(  # noqa: S603 (our own command, and arguments of ours)
            [str(Path(sys.executable).parent / "virtuous-token"), "--prefix", self.prefix, *arguments],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise NotAsExpected(f"virtuous-token {arguments[0]} ended with status {done.returncode}: {last}")
        return done.stdout + done.stderr

    def secret(self, kind: str) -> str:
        return f"{self.prefix}/{CONNECTION}/{kind}"

    def described(self, kind: str) -> dict[str, str]:
        described = self.account.client("secretsmanager").describe_secret(SecretId=self.secret(kind))
        stages = described.get("VersionIdsToStages", {})
        return {label: version for version, labels in stages.items() for label in labels}

    def invoke(self, function: str, event: Mapping[str, Any]) -> dict[str, Any]:
        answer, error = self.invocation(function, event)
        if error:
            raise NotAsExpected(f"{function} ended in an error: {error}")
        return answer

    def invocation(self, function: str, event: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The answer and the error's text, without the SDK's repetition: a second invocation is another run."""
        client = self.account.client("lambda", config=Config(read_timeout=320, retries={"total_max_attempts": 1}))
        invoked = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        answer = json.loads(invoked["Payload"].read() or b"{}") or {}
        return answer, str(answer.get("errorMessage", "an error")) if "FunctionError" in invoked else ""

    def counts(self, script: list[Mapping[str, int]] | None = None) -> Mapping[str, int]:
        """What the stand-in counted so far, after giving it a new script."""
        asked = {} if script is None else {"script": script}
        counts = self.invoke(self.stand_in, {"control": asked})["counts"]
        return {"refresh granted": 0, "refresh refused": 0, **counts}

    def log(self, **fields: str) -> list[Mapping[str, Any]] | None:
        """The function's log lines that have these values; None where there are none."""
        messages = self.log_messages('{ $.level = "*" }') or ()
        lines = (json.loads(message) for message in messages if message.startswith("{"))
        return [line for line in lines if fields.items() <= line.items()] or None

    def log_messages(self, pattern: str) -> list[str] | None:
        """The log's messages that CloudWatch's filter *pattern* finds; None where there are none."""
        pages = (
            self.account.client("logs")
            .get_paginator("filter_log_events")
            .paginate(logGroupName=f"/aws/lambda/{self.function}", filterPattern=pattern)
        )
        return [event["message"] for page in pages for event in page["events"]] or None

    def message(self, queue: str) -> str | None:
        received = self.account.client("sqs").receive_message(QueueUrl=queue, VisibilityTimeout=0, WaitTimeSeconds=1)
        return next((message["Body"] for message in received.get("Messages", [])), None)

    def notice(self, word: str) -> str | None:
        """A message that arrived at the topic's queue with *word* in it. Others are taken off."""
        client = self.account.client("sqs")
        received = client.receive_message(QueueUrl=self.notices_queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in received.get("Messages", []):
            client.delete_message(QueueUrl=self.notices_queue, ReceiptHandle=message["ReceiptHandle"])
            if word in message["Body"]:
                return str(message["Body"])
        return None

    def resource(self, logical_id: str) -> str:
        described = self.account.client("cloudformation").describe_stack_resource(
            StackName=self.stacks.name("product"), LogicalResourceId=logical_id
        )
        return str(described["StackResourceDetail"]["PhysicalResourceId"])

    def alarm_on(self, queue: str) -> str:
        name = self.resource(queue).rpartition("/")[2]
        for alarm in self.account.client("cloudwatch").describe_alarms(AlarmNamePrefix=self.prefix)["MetricAlarms"]:
            if name in json.dumps(alarm, default=str):
                return str(alarm["AlarmName"])
        raise NotAsExpected("no alarm of the stack looks at the queue of failed runs")

    def wait(self, what: str, seconds: float, look: Callable[[], Found | None], *, pause: float = 2.0) -> Found:
        self.say(f"Wait for {what}")
        deadline = time.monotonic() + seconds
        while (found := look()) is None:
            if time.monotonic() > deadline:
                raise NotAsExpected(f"expected: {what} within {seconds:.0f} s; seen: none")
            time.sleep(pause)  # another system's work is waited for: it can only be asked
        return found
