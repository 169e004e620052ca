"""Weeks of one deployment in seconds: schedule, Lambda's repetitions, queue, metrics, and the alarms of template.yaml.

The function is the real handler over the strict Secrets Manager and the stand-in for Virtuous, on a clock of the test.
What it prints as metrics is what the alarms see; what AWS itself would count is added here.
"""

from __future__ import annotations

import functools
import json
import random
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.alarm_evaluator import ALARM, Alarm, Metrics
from tests.leak_harness import LeakHarness
from tests.support import NOW, Clock, Deployment, deployed
from tests.transformed import transformed
from token_refresher import handler

FUNCTION = "virtuous-token-refresher"
QUEUE = "failed-runs"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# CloudWatch takes more data points than EvaluationPeriods; AWS does not document how many more.
LOOK_BACKS = (1, 5, 40)
# EventBridge Scheduler may start a run so much later than the schedule says: template.yaml, FlexibleTimeWindow.
WINDOW_MINUTES = 10
# Lambda waits so long before each repetition of a failed asynchronous invocation.
BEFORE_REPETITIONS = (MINUTE, 2 * MINUTE)
# SQS reports a queue for so long after its last use.
SQS_REPORTS_FOR = 6 * HOUR


@functools.cache
def resources() -> dict[str, Any]:
    """The template's resources, with the functions that the alarms use resolved for the prefix ``virtuous``."""
    text = json.dumps(transformed()["Resources"])
    text = re.sub(r'\{"Fn::Sub": "\$\{Prefix\}-token-refresher([a-z-]*)"\}', rf'"{FUNCTION}\1"', text)
    found: dict[str, Any] = json.loads(re.sub(r'\{"Fn::GetAtt": [^}]*QueueName"\]?\}', f'"{QUEUE}"', text))
    return found


def alarms() -> list[list[Alarm]]:
    """Each alarm of the template as often as there are guesses at how far CloudWatch looks back."""
    found = [resource["Properties"] for resource in resources().values() if resource["Type"].endswith("::Alarm")]
    return [[Alarm(properties, look_back) for look_back in LOOK_BACKS] for properties in found]


@dataclass
class Weeks:
    """One deployment. *changes*: each alarm's changes of state so far, in order."""

    deployment: Deployment
    clock: Clock
    every: timedelta
    alarms: list[list[Alarm]] = field(default_factory=alarms)
    metrics: Metrics = field(default_factory=Metrics)
    changes: list[tuple[str, str, datetime]] = field(default_factory=list)
    notices: list[tuple[str, datetime]] = field(default_factory=list)
    schedule_is_on: bool = True
    function_starts: bool = True
    next_run: datetime = NOW
    _messages: int = 0
    _queue_used_at: datetime | None = None
    _log_read: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def live(self, duration: timedelta) -> None:
        """Lets *duration* pass, minute by minute."""
        end = self.now + duration
        while self.now < end:
            self._wait(MINUTE)
            if self.now >= self.next_run:
                late = timedelta(minutes=self._random.randrange(WINDOW_MINUTES))
                self.next_run = NOW + ((self.next_run - NOW) // self.every + 1) * self.every + late
                if self.schedule_is_on:
                    self._deliver()

    def invoke(self, event: object) -> bool:
        """True if the invocation did not end in an error. An operator's waits for its answer and is not repeated."""
        began_at = self.now
        failed = not self.function_starts or self.deployment.invoke_as_lambda_does(event)[1]
        self.metrics.put("AWS/Lambda", "Invocations", {"FunctionName": FUNCTION}, began_at, 1)
        log = self.deployment.log.getvalue()
        for line in log[self._log_read :].splitlines():
            if '"_aws"' in line:
                self.metrics.put_embedded(json.loads(line))
        self._log_read = len(log)
        self.notices += [(kind, self.now) for kind, _ in self.deployment.notices[len(self.notices) :]]
        return not failed

    def empty_queue(self) -> None:
        self._messages, self._queue_used_at = 0, self.now

    def send_to_queue(self) -> None:
        """Lambda does after the last repetition, and Scheduler with an event that it cannot deliver."""
        self._messages, self._queue_used_at = self._messages + 1, self.now

    def in_alarm(self) -> set[str]:
        return {_short(alarm) for alarm, *_ in self.alarms if alarm.state == ALARM}

    def rang(self, name: str) -> list[datetime]:
        """When that alarm came."""
        return [at for alarm, state, at in self.changes if (alarm, state) == (name, ALARM)]

    def ended(self, name: str) -> list[datetime]:
        """When it ended."""
        states = [(state, at) for alarm, state, at in self.changes if alarm == name]
        return [at for (before, _), (_, at) in pairwise(states) if before == ALARM]

    def _deliver(self) -> None:
        for wait in (*BEFORE_REPETITIONS, None):
            if self.invoke({"source": "aws.scheduler"}):
                return
            if wait is not None:
                self._wait(wait)
        self.send_to_queue()

    def _wait(self, duration: timedelta) -> None:
        for _ in range(duration // MINUTE):
            self.clock.instant += MINUTE
            if self._queue_used_at is not None and self.now - self._queue_used_at < SQS_REPORTS_FOR:
                name, dimensions = "ApproximateNumberOfMessagesVisible", {"QueueName": QUEUE}
                self.metrics.put("AWS/SQS", name, dimensions, self.now, self._messages)
            for variants in self.alarms:
                if self.now.timestamp() % variants[0].every_seconds == 0:
                    self._evaluate(variants)

    def _evaluate(self, variants: list[Alarm]) -> None:
        before = variants[0].state
        states = {alarm.step(self.metrics, self.now) for alarm in variants}
        assert len(states) == 1, f"{variants[0].name} rests on how far CloudWatch looks back"
        if states != {before}:
            self.changes.append((_short(variants[0]), variants[0].state, self.now))


def _short(alarm: Alarm) -> str:
    return alarm.name.removeprefix(f"{FUNCTION}-")


@contextmanager
def simulated_weeks(
    harness: LeakHarness, *connections: str, every: timedelta = 6 * HOUR, **virtuous: Any
) -> Iterator[Weeks]:
    """A fresh deployment whose schedule fires *every* so often, the first time at once."""
    clock = Clock()
    with (
        deployed(harness, *connections, clock=clock.now, now=lambda: clock.now().timestamp(), **virtuous) as deployment,
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
    ):
        # Powertools holds the metrics' instants against the real clock.
        warnings.filterwarnings("ignore", message="This metric doesn't meet the requirements")
        patch.setattr(handler, "_now", clock.now)
        patch.setenv("POWERTOOLS_SERVICE_NAME", FUNCTION)
        patch.setenv("LOG_LEVEL", "INFO")
        yield Weeks(deployment, clock, every)
