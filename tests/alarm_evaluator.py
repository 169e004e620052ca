"""CloudWatch as far as this project's alarms need it: metrics in, alarm states out, by AWS's documented rules.

From the CloudWatch User Guide: "Alarm evaluation" (M of N), "Configuring how CloudWatch alarms treat missing data" (it
looks further back than EvaluationPeriods, and real data points are evaluated first), "Multi-day alarms" (evaluated once
an hour, with whole hours), and "Using math expressions" (FILL, IF). A statistic, comparison, function or treatment that
no alarm uses is not here and raises.
"""

from __future__ import annotations

import operator
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

Key = tuple[str, str, str]  # namespace, name, dimensions
Series = Sequence[float | None]  # oldest first; None is missing

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
DAY_SECONDS = 86_400

_STATISTICS: dict[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
}


@dataclass
class Metrics:
    """Everything that was published."""

    values: dict[Key, list[tuple[float, ...]]] = field(default_factory=lambda: defaultdict(list))

    def put(self, namespace: str, name: str, dimensions: Mapping[str, str], at: datetime, value: float) -> None:
        insort(self.values[namespace, name, str(sorted(dimensions.items()))], (at.timestamp(), value))

    def put_embedded(self, line: Mapping[str, Any]) -> None:
        """One log line in the embedded metric format, as CloudWatch Logs extracts it."""
        at = datetime.fromtimestamp(line["_aws"]["Timestamp"] / 1000, UTC)
        for described in line["_aws"]["CloudWatchMetrics"]:
            for names in described["Dimensions"]:
                dimensions = {name: line[name] for name in names}
                for metric in described["Metrics"]:
                    for value in line[metric["Name"]]:
                        self.put(described["Namespace"], metric["Name"], dimensions, at, value)

    def series(self, metric: Mapping[str, Any], statistic: str, period: int, end: float, count: int) -> Series:
        """The *count* data points before *end*."""
        dimensions = str(sorted((dimension["Name"], dimension["Value"]) for dimension in metric["Dimensions"]))
        start = end - count * period
        values = self.values[metric["Namespace"], metric["MetricName"], dimensions]
        buckets: dict[int, list[float]] = defaultdict(list)
        for at, value in values[bisect_left(values, (start,)) : bisect_left(values, (end,))]:
            buckets[int((at - start) // period)].append(value)
        return [_STATISTICS[statistic](buckets[index]) if index in buckets else None for index in range(count)]


def _fill(series: Series, filler: float | None) -> Series:
    """With None, REPEAT: before the first real point there is nothing to repeat."""
    filled: list[float | None] = []
    for point in series:
        otherwise = filler if filler is not None or not filled else filled[-1]
        filled.append(point if point is not None else otherwise)
    return filled


def _if(condition: Series, then: Series) -> Series:
    """A point is dropped where the condition has none or is false."""
    return [(value or 0.0) if test else None for test, value in zip(condition, then, strict=True)]


def evaluate(expression: str, known: Mapping[str, Series]) -> Series:
    """The value of a metric math expression, which is written as Python writes a call."""
    value: Series = eval(expression, {"FILL": _fill, "IF": _if, "REPEAT": None, **known})
    return value


@dataclass
class Alarm:
    """One alarm of the template, its functions resolved. *look_back*: how many points more than N CloudWatch takes."""

    properties: Mapping[str, Any]
    look_back: int = 5
    state: str = INSUFFICIENT_DATA

    @property
    def name(self) -> str:
        return str(self.properties["AlarmName"])

    @cached_property
    def _period(self) -> int:
        stats = [metric["MetricStat"] for metric in self.properties.get("Metrics", ()) if "MetricStat" in metric]
        (period,) = {stat["Period"] for stat in stats} or {self.properties["Period"]}
        return int(period)

    @cached_property
    def every_seconds(self) -> int:
        """How often it is evaluated; a multi-day alarm once an hour."""
        return 3600 if self._period * self.properties["EvaluationPeriods"] > DAY_SECONDS else 60

    def step(self, metrics: Metrics, now: datetime) -> str:
        """Evaluates it at *now*, a multiple of ``every_seconds``, and returns its state."""
        if self.properties["TreatMissingData"] != "ignore":
            raise ValueError(f"{self.name} treats missing data otherwise: docs/decisions/alarms.md says why not")
        compare = _COMPARISONS[self.properties["ComparisonOperator"]]
        threshold, periods = float(self.properties["Threshold"]), self.properties["EvaluationPeriods"]
        points = self._points(metrics, now.timestamp(), periods + self.look_back)
        breaching = [None if point is None else compare(point, threshold) for point in points]
        self.state = state_after(breaching, self.properties.get("DatapointsToAlarm", periods), periods, self.state)
        return self.state

    def _points(self, metrics: Metrics, end: float, count: int) -> Series:
        if "Metrics" not in self.properties:
            return metrics.series(self.properties, self.properties["Statistic"], self._period, end, count)
        known: dict[str, Series] = {}
        for metric in self.properties["Metrics"]:
            if stat := metric.get("MetricStat"):
                known[metric["Id"]] = metrics.series(stat["Metric"], stat["Stat"], self._period, end, count)
        (expression,) = (m["Expression"] for m in self.properties["Metrics"] if m.get("ReturnData", True))
        return evaluate(expression, known)


def state_after(breaching: Sequence[bool | None], datapoints_to_alarm: int, periods: int, state: str) -> str:
    """The state after one evaluation that ignores missing data. *breaching*: oldest first; None is missing."""
    real = [point for point in breaching if point is not None][-periods:]
    if sum(real) >= datapoints_to_alarm:
        return ALARM
    return state if all(real) else OK
