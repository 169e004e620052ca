"""Weeks of one deployment in seconds: schedule, Lambda's repetitions, queue, metrics, and the alarms of template.yaml.

The function is the real handler on a clock of the test. Alarms are evaluated as the CloudWatch User Guide says: "Alarm
evaluation" (M of N), "Configuring how CloudWatch alarms treat missing data" (it looks further back than
EvaluationPeriods), "Multi-day alarms" (once an hour), "Using math expressions". What no alarm of ours uses raises.
"""

from __future__ import annotations

import functools
import json
import operator
import random
import re
import warnings
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

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

OK, ALARM = "OK", "ALARM"
STATISTICS: dict[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
}
Series = Sequence[float | None]  # oldest first; None is missing


@dataclass
class Metrics:
    """Everything that was published, by namespace, name and dimensions."""

    values: dict[tuple[str, str, str], list[tuple[float, ...]]] = field(default_factory=lambda: defaultdict(list))

    def put(self, namespace: str, name: str, dimensions: Mapping[str, str], at: datetime, value: float) -> None:
        insort(self.values[namespace, name, str(dimensions)], (at.timestamp(), value))

    def put_embedded(self, line: Mapping[str, Any]) -> None:
        """One log line in the embedded metric format, as CloudWatch Logs extracts it."""
        at = datetime.fromtimestamp(line["_aws"]["Timestamp"] / 1000, UTC)
        for described in line["_aws"]["CloudWatchMetrics"]:
            (names,) = described["Dimensions"]
            for metric in described["Metrics"]:
                for value in line[metric["Name"]]:
                    dimensions = {name: line[name] for name in names}
                    self.put(described["Namespace"], metric["Name"], dimensions, at, value)

    def series(self, stat: Mapping[str, Any], end: float, count: int) -> Series:
        """The *count* data points before *end*."""
        metric, period, calculate = stat["Metric"], stat["Period"], STATISTICS[stat["Stat"]]
        dimensions = str({dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]})
        start, values = end - count * period, self.values[metric["Namespace"], metric["MetricName"], dimensions]
        buckets: dict[int, list[float]] = defaultdict(list)
        for at, value in values[bisect_left(values, (start,)) : bisect_left(values, (end,))]:
            buckets[int((at - start) // period)].append(value)
        return [calculate(buckets[index]) if index in buckets else None for index in range(count)]


def fill(series: Series, filler: float | None) -> Series:
    """With None, REPEAT: before the first real point there is nothing to repeat."""
    filled: list[float | None] = []
    for point in series:
        otherwise = filler if filler is not None or not filled else filled[-1]
        filled.append(point if point is not None else otherwise)
    return filled


def only_if(condition: Series, then: Series) -> Series:
    """A point is dropped where the condition has none or is false."""
    return [(value or 0.0) if test else None for test, value in zip(condition, then, strict=True)]


def evaluate(expression: str, known: Mapping[str, Series]) -> Series:
    """The value of a metric math expression, which is written as Python writes a call."""
    value: Series = eval(expression, {"FILL": fill, "IF": only_if, "REPEAT": None, **known})
    return value


def state_after(breaching: Sequence[bool | None], datapoints_to_alarm: int, periods: int, state: str) -> str:
    """The state after one evaluation that ignores missing data. *breaching*: oldest first; None is missing."""
    real = [point for point in breaching if point is not None][-periods:]
    if sum(real) >= datapoints_to_alarm:
        return ALARM
    return state if all(real) else OK


@functools.cache
def resources() -> dict[str, Any]:
    """The template's resources, with the functions that the alarms use resolved for the prefix ``virtuous``."""
    text = json.dumps(transformed()["Resources"])
    text = re.sub(r'\{"Fn::Sub": "\$\{Prefix\}-token-refresher([a-z-]*)"\}', rf'"{FUNCTION}\1"', text)
    found: dict[str, Any] = json.loads(re.sub(r'\{"Fn::GetAtt": [^}]*QueueName"\]?\}', f'"{QUEUE}"', text))
    return found


class Alarm:
    """One alarm of the template. Its state must not depend on how far CloudWatch looks back."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        assert properties["TreatMissingData"] == "ignore", "docs/decisions/alarms.md says why not otherwise"
        self.properties, self.state = properties, "INSUFFICIENT_DATA"
        self.name = str(properties["AlarmName"]).removeprefix(f"{FUNCTION}-")
        math = properties.get("Metrics", ())
        self.metrics = {each["Id"]: each["MetricStat"] for each in math if "MetricStat" in each} or {
            "it": {"Metric": properties, "Stat": properties["Statistic"], "Period": properties["Period"]}
        }
        (self.expression,) = [each["Expression"] for each in math if each.get("ReturnData", True)] or ["it"]
        (period,) = {stat["Period"] for stat in self.metrics.values()}
        self.periods = int(properties["EvaluationPeriods"])
        self.every_seconds = 3600 if period * self.periods > DAY.total_seconds() else 60

    def step(self, metrics: Metrics, now: datetime) -> bool:
        """Evaluates it at *now*, a multiple of ``every_seconds``; whether the state has changed."""
        compare, threshold = COMPARISONS[self.properties["ComparisonOperator"]], float(self.properties["Threshold"])
        needed, states = self.properties.get("DatapointsToAlarm", self.periods), set()
        for more in LOOK_BACKS:
            count = self.periods + more
            known = {name: metrics.series(stat, now.timestamp(), count) for name, stat in self.metrics.items()}
            points = evaluate(self.expression, known)
            breaching = [None if point is None else compare(point, threshold) for point in points]
            states.add(state_after(breaching, needed, self.periods, self.state))
        (state,) = states
        changed, self.state = state != self.state, state
        return changed


def alarms() -> list[Alarm]:
    return [Alarm(found["Properties"]) for found in resources().values() if found["Type"].endswith("::Alarm")]


@dataclass
class Weeks:
    """One deployment. *changes*: each alarm's changes of state so far, in order."""

    deployment: Deployment
    clock: Clock
    every: timedelta
    alarms: list[Alarm] = field(default_factory=alarms)
    metrics: Metrics = field(default_factory=Metrics)
    changes: list[tuple[str, str, datetime]] = field(default_factory=list)
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
        return not failed

    def use_queue(self, messages: int) -> None:
        """Lambda sends to it after the last repetition, and a person empties it."""
        self._messages, self._queue_used_at = messages, self.now

    def in_alarm(self) -> set[str]:
        return {alarm.name for alarm in self.alarms if alarm.state == ALARM}

    def rang(self, name: str) -> list[datetime]:
        """When that alarm came."""
        return [at for alarm, state, at in self.changes if (alarm, state) == (name, ALARM)]

    def _deliver(self) -> None:
        for wait in (*BEFORE_REPETITIONS, None):
            if self.invoke({"source": "aws.scheduler"}):
                return
            if wait is not None:
                self._wait(wait)
        self.use_queue(self._messages + 1)

    def _wait(self, duration: timedelta) -> None:
        for _ in range(duration // MINUTE):
            self.clock.instant += MINUTE
            if self._queue_used_at is not None and self.now - self._queue_used_at < SQS_REPORTS_FOR:
                name, dimensions = "ApproximateNumberOfMessagesVisible", {"QueueName": QUEUE}
                self.metrics.put("AWS/SQS", name, dimensions, self.now, self._messages)
            for alarm in self.alarms:
                if self.now.timestamp() % alarm.every_seconds == 0 and alarm.step(self.metrics, self.now):
                    self.changes.append((alarm.name, alarm.state, self.now))


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
