"""CloudWatch as far as this project's alarms need it: metrics in, alarm states out, by AWS's documented rules.

From the CloudWatch User Guide: "Alarm evaluation" (M of N), "Configuring how CloudWatch alarms treat missing data" (it
looks further back than EvaluationPeriods, and real data points are evaluated first), "Multi-day alarms" (evaluated once
an hour, with whole hours), and "Using math expressions" (FILL, IF, arithmetic with missing values). A function or a
treatment that is not here raises: an alarm that needs one must be tested with one.
"""

from __future__ import annotations

import operator
import re
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

Key = tuple[str, str, tuple[tuple[str, str], ...]]  # namespace, name, dimensions
Point = float | None
Series = Sequence[Point]  # oldest first; None is missing

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
DAY_SECONDS = 86_400

_STATISTICS: dict[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max, "Minimum": min}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanOrEqualToThreshold": operator.le,
    "LessThanThreshold": operator.lt,
}


@dataclass
class Metrics:
    """Everything that was published."""

    values: dict[Key, list[tuple[float, ...]]] = field(default_factory=lambda: defaultdict(list))

    def put(self, namespace: str, name: str, dimensions: Mapping[str, str], at: datetime, value: float) -> None:
        insort(self.values[namespace, name, tuple(sorted(dimensions.items()))], (at.timestamp(), value))

    def put_embedded(self, line: Mapping[str, Any]) -> None:
        """One log line in the embedded metric format, as CloudWatch Logs extracts it."""
        at = datetime.fromtimestamp(line["_aws"]["Timestamp"] / 1000, UTC)
        for described in line["_aws"]["CloudWatchMetrics"]:
            for names in described["Dimensions"]:
                dimensions = {name: line[name] for name in names}
                for metric in described["Metrics"]:
                    for value in line[metric["Name"]]:
                        self.put(described["Namespace"], metric["Name"], dimensions, at, value)

    def series(self, stat: Mapping[str, Any], end: float, count: int) -> Series:
        """The *count* data points before *end*. ``stat`` is a MetricStat of an alarm."""
        metric, period = stat["Metric"], stat["Period"]
        dimensions = tuple((dimension["Name"], dimension["Value"]) for dimension in metric["Dimensions"])
        start = end - count * period
        values = self.values[metric["Namespace"], metric["MetricName"], dimensions]
        if not values or values[-1][0] < start:
            return [None] * count
        buckets: dict[int, list[float]] = defaultdict(list)
        for at, value in values[bisect_left(values, (start,)) : bisect_left(values, (end,))]:
            buckets[int((at - start) // period)].append(value)
        statistic = _STATISTICS[stat["Stat"]]
        return [statistic(buckets[index]) if index in buckets else None for index in range(count)]


# Metric math


def evaluate(expression: str, known: Mapping[str, Series]) -> Series:
    """The value of a metric math expression over *known* time series of one length."""
    parsed, rest = _parse(_tokens(expression))
    if rest:
        raise ValueError(f"left over of the expression: {rest}")
    value = _value(parsed, known)
    if isinstance(value, float):
        raise TypeError("the result of an alarm's expression is a time series")
    return value


def _tokens(expression: str) -> list[str]:
    found = re.findall(r"\s*([A-Za-z_][A-Za-z0-9_]*|\d+(?:\.\d+)?|[(),/*+-])", expression)
    if "".join(found) != re.sub(r"\s", "", expression):
        raise ValueError(f"not understood: {expression}")
    return found


def _parse(tokens: list[str]) -> tuple[Any, list[str]]:
    left, rest = _operand(tokens)
    while rest and rest[0] in "/*+-":  # of one precedence: brackets are for everything else
        right, after = _operand(rest[1:])
        left, rest = (rest[0], left, right), after
    return left, rest


def _operand(tokens: list[str]) -> tuple[Any, list[str]]:
    name, rest = tokens[0], tokens[1:]
    if name == "(":
        inner, rest = _parse(rest)
        return inner, rest[1:]
    if not rest or rest[0] != "(":
        return name, rest
    arguments, rest = [], rest[1:]
    while True:
        argument, rest = _parse(rest)
        arguments.append(argument)
        separator, rest = rest[0], rest[1:]
        if separator == ")":
            return (name, *arguments), rest


def _value(node: Any, known: Mapping[str, Series]) -> Series | float:
    if isinstance(node, str):
        return float(node) if node[0].isdigit() else known[node]
    name, *arguments = node
    if name == "FILL":
        return _fill(_series(arguments[0], known), arguments[1])
    if name == "IF":
        return _if(_series(arguments[0], known), *(_value(argument, known) for argument in arguments[1:]))
    return _arithmetic(name, *(_value(argument, known) for argument in arguments))


def _series(node: Any, known: Mapping[str, Series]) -> Series:
    value = _value(node, known)
    if isinstance(value, float):
        raise TypeError("a time series is needed here")
    return value


def _fill(series: Series, filler: Any) -> Series:
    if filler != "REPEAT":
        return [float(filler) if point is None else point for point in series]
    filled: list[Point] = []
    for point in series:  # before the first real point there is nothing to repeat
        filled.append(point if point is not None or not filled else filled[-1])
    return filled


def _if(condition: Series, then: Series | float, otherwise: Series | float | None = None) -> Series:
    """A point is dropped where the condition has none, or where it is false and the third argument has none."""

    def at(value: Series | float | None, index: int) -> Point:
        return value if value is None or isinstance(value, float) else value[index]

    return [
        None if test is None else (at(then, index) or 0.0) if test else at(otherwise, index)
        for index, test in enumerate(condition)
    ]


def _arithmetic(sign: str, left: Series | float, right: Series | float) -> Series:
    """Missing values count as 0; a division by zero drops its point."""
    operation = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[sign]
    length = max(len(side) for side in (left, right) if not isinstance(side, float))
    lefts = [left] * length if isinstance(left, float) else [point or 0.0 for point in left]
    rights = [right] * length if isinstance(right, float) else [point or 0.0 for point in right]
    pairs = zip(lefts, rights, strict=True)
    return [None if sign == "/" and not divisor else operation(value, divisor) for value, divisor in pairs]


# Alarms


@dataclass
class Alarm:
    """One alarm of the template, its functions resolved. *look_back*: how many points more than N CloudWatch takes."""

    name: str
    properties: Mapping[str, Any]
    look_back: int = 5
    state: str = INSUFFICIENT_DATA

    @cached_property
    def _periods(self) -> int:
        return int(self.properties["EvaluationPeriods"])

    @cached_property
    def _period(self) -> int:
        stats = [metric["MetricStat"] for metric in self.properties.get("Metrics", ()) if "MetricStat" in metric]
        (period,) = {stat["Period"] for stat in stats} or {self.properties["Period"]}
        return int(period)

    @cached_property
    def every_seconds(self) -> int:
        """How often it is evaluated; a multi-day alarm once an hour."""
        return 3600 if self._period * self._periods > DAY_SECONDS else 60

    def step(self, metrics: Metrics, now: datetime) -> str:
        """Evaluates it at *now*, a multiple of ``every_seconds``, and returns its state."""
        points = self._points(metrics, now.timestamp())
        compare = _COMPARISONS[self.properties["ComparisonOperator"]]
        threshold = float(self.properties["Threshold"])
        breaching = [None if point is None else compare(point, threshold) for point in points]
        self.state = state_after(
            breaching,
            self.properties.get("DatapointsToAlarm", self._periods),
            self._periods,
            self.properties["TreatMissingData"],
            self.state,
        )
        return self.state

    def _points(self, metrics: Metrics, end: float) -> Series:
        count = self._periods + self.look_back
        if "Metrics" not in self.properties:
            stat = {"Metric": self.properties, "Period": self._period, "Stat": self.properties["Statistic"]}
            return metrics.series(stat, end, count)
        known: dict[str, Series] = {}
        for metric in self.properties["Metrics"]:
            if "MetricStat" in metric:
                known[metric["Id"]] = metrics.series(metric["MetricStat"], end, count)
        (expression,) = (m["Expression"] for m in self.properties["Metrics"] if m.get("ReturnData", True))
        return evaluate(expression, known)


def state_after(
    breaching: Sequence[bool | None], datapoints_to_alarm: int, periods: int, treatment: str, state: str
) -> str:
    """The state after one evaluation. *breaching* is the evaluation range, oldest first; None is missing.

    Missing data is considered only where the range holds fewer real points than *periods*, and then as seldom as
    possible.
    """
    real = [point for point in breaching if point is not None][-periods:]
    bad, missing = sum(real), periods - len(real)
    if not missing or bad >= datapoints_to_alarm or treatment == "notBreaching":
        return ALARM if bad >= datapoints_to_alarm else OK
    if treatment == "breaching":
        return ALARM if bad + missing >= datapoints_to_alarm else OK
    if len(real) > bad:
        return OK
    if treatment == "ignore":
        return state
    if treatment == "missing":
        oldest = next((age for age, point in zip(range(len(breaching), 0, -1), breaching, strict=True) if point), 0)
        return ALARM if oldest >= datapoints_to_alarm else INSUFFICIENT_DATA
    raise ValueError(f"unknown treatment of missing data: {treatment}")


def alarms_of(resources: Mapping[str, Any], **settings: Any) -> list[Alarm]:
    """The alarms among a template's resources, whose functions are resolved."""
    return [
        Alarm(resource["Properties"]["AlarmName"], resource["Properties"], **settings)
        for resource in resources.values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]
