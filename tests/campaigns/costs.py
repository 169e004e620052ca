"""What the deployment costs a month, from calls that are counted: ``python -m tests.campaigns.costs``.

Sweeps run against the strict Secrets Manager; calls, time, log bytes and metrics are counted there and priced here.
``--write docs/costs.md`` puts the tables into that page.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.campaigns.page import replace_between
from tests.campaigns.sweep_world import Invocation, world

TEMPLATE = Path(__file__).parents[2] / "template.yaml"

# AWS's public prices in us-east-1, November 2026, dollars. Free tiers are left out.
SECRET = 0.40  # a month
CALL = 0.05 / 10_000
LAMBDA_GB_SECOND = 0.0000133334  # arm64
LAMBDA_REQUEST = 0.20 / 1e6
LOG_GB, LOG_GB_MONTH = 0.50, 0.03
METRIC, ALARM = 0.30, 0.10
EVENT = 1.00 / 1e6
DYNAMODB_WRITE, DYNAMODB_READ, DYNAMODB_GB_MONTH = 0.625 / 1e6, 0.125 / 1e6, 0.25
KMS_KEY, KMS_CALL = 1.00, 0.03 / 10_000
SQS_REQUEST = 0.40 / 1e6

DAYS = 365.25 / 12
RUNS = 4 * DAYS  # rate(6 hours)
# Half of fifteen days, or up to 5 % of them earlier.
REFRESHES = DAYS / (15 * 0.475)
COLD_START_SECONDS = 1.0
SIZES = (1, 100, 10_000)
# A pair and its bearer as DynamoDB items: two kilobytes each, two write units each, and a claim before.
DYNAMODB_WRITES_A_REFRESH = 5
READS_A_DAY = {
    "this reader": 24,
    "aws-secretsmanager-caching": 2 * 36,
    "Powertools `get_secret`": 288,
}


@dataclass(frozen=True, slots=True)
class Counted:
    """What one sweep took, or one refresh more."""

    calls: float
    seconds: float
    log_bytes: float

    def __sub__(self, other: Counted) -> Counted:
        return Counted(self.calls - other.calls, self.seconds - other.seconds, self.log_bytes - other.log_bytes)

    def __mul__(self, times: float) -> Counted:
        return Counted(self.calls * times, self.seconds * times, self.log_bytes * times)

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.calls + other.calls, self.seconds + other.seconds, self.log_bytes + other.log_bytes)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.costs", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    chosen = parser.parse_args(argv)
    text = _tables()
    print(text)
    if chosen.write:
        replace_between(chosen.write, "computed", text)
    return 0


def _tables() -> str:
    template = TEMPLATE.read_text()
    memory_gb = int(re.findall(r"MemorySize: (\d+)", template)[0]) / 1024
    alarms = template.count("Type: AWS::CloudWatch::Alarm")
    sweeps, metrics = {}, 0
    for size in SIZES:
        sweeps[size], metrics = _counted(fresh=size, due=0)
    hundred_due, _ = _counted(fresh=0, due=100)
    refresh = (hundred_due - sweeps[100]) * 0.01
    bills = {size: _bill(size, sweeps[size], refresh, memory_gb, metrics, alarms) for size in SIZES}
    counted = (
        f"A sweep over {_joined(f'{size:,}' for size in SIZES)} fresh connections takes "
        f"{_joined(f'{sweeps[size].calls:,.0f}' for size in SIZES)} calls and "
        f"{_joined(f'{sweeps[size].seconds:.1f}' for size in SIZES)} seconds; each refresh takes "
        f"{refresh.calls:.1f} calls more. {metrics} metrics, {alarms} alarms."
    )
    lines = [
        counted,
        "",
        *_table("dollars a month", bills),
        "",
        *_table("other designs, dollars a month", {size: _designs(size, bills[size], memory_gb) for size in SIZES}),
        "",
        *_readers(),
    ]
    return "\n".join(lines)


def _counted(*, fresh: int, due: int) -> tuple[Counted, int]:
    """One scheduled sweep, and how many metrics it wrote. A day's first sweep has a log line for each connection."""
    with world(answer_seconds=0.5) as there:
        there.log_in(due, age=timedelta(days=9))
        there.log_in(fresh, age=timedelta(hours=1))
        (invocation,) = there.invoke({"source": "aws.scheduler"}, SCHEDULE_EXPRESSION="rate(1 minute)")
        admitted, _ = there.secrets_manager.ask("calls")
        (first_of_a_day,) = there.invoke({"source": "aws.scheduler"}, SCHEDULE_EXPRESSION="rate(1 day)")
    if "error" in invocation.answer:
        raise RuntimeError(invocation.answer["error"])
    log_bytes = (3 * len(invocation.log.encode()) + len(first_of_a_day.log.encode())) / 4
    return Counted(sum(admitted.values()), invocation.seconds, log_bytes), _metrics(invocation)


def _metrics(invocation: Invocation) -> int:
    """Each name under each set of dimensions is a metric of its own."""
    lines = [json.loads(line) for line in invocation.log.splitlines() if '"_aws"' in line]
    directives = [directive for line in lines for directive in line["_aws"]["CloudWatchMetrics"]]
    return sum(len(directive["Metrics"]) * len(directive["Dimensions"]) for directive in directives)


def _bill(
    size: int, sweep: Counted, refresh: Counted, memory_gb: float, metrics: int, alarms: int
) -> Mapping[str, float]:
    month = sweep * RUNS + refresh * (REFRESHES * size)
    seconds = month.seconds + RUNS * COLD_START_SECONDS
    bill = {
        "secrets, two a connection": 2 * SECRET * size,
        "calls of the function": CALL * month.calls,
        "Lambda, arm64": LAMBDA_GB_SECOND * memory_gb * seconds + LAMBDA_REQUEST * RUNS,
        "logs, kept 90 days": (LOG_GB + 3 * LOG_GB_MONTH) * month.log_bytes / 1e9,
        "events": EVENT * REFRESHES * size,
        "metrics": METRIC * metrics,
        "alarms": ALARM * alarms,
    }
    total = sum(bill.values())
    return bill | {"**all**": total, "**a connection**": total / size}


def _designs(size: int, ours: Mapping[str, float], memory_gb: float) -> Mapping[str, float]:
    refreshes = REFRESHES * size
    pairs = DYNAMODB_WRITE * DYNAMODB_WRITES_A_REFRESH * refreshes + DYNAMODB_GB_MONTH * size * 4_000 / 1e9
    pairs += KMS_KEY + 4 * KMS_CALL * refreshes
    fixed = ours["metrics"] + ours["alarms"] + ours["Lambda, arm64"] + ours["logs, kept 90 days"] + ours["events"]
    return {
        "this design": ours["**all**"],
        "this design, one secret a connection": ours["**all**"] - SECRET * size,
        "pairs in DynamoDB, bearers in Secrets Manager": fixed + SECRET * size + pairs + 2 * CALL * refreshes,
        "pairs and bearers in DynamoDB": fixed + 2 * pairs - KMS_KEY,
        "this design with a queue and a worker for each refresh": ours["**all**"]
        + (3 * SQS_REQUEST + LAMBDA_REQUEST + LAMBDA_GB_SECOND * memory_gb * 2) * refreshes,
    }


def _table(title: str, columns: Mapping[int, Mapping[str, float]]) -> list[str]:
    heads = [f"{size:,} connection{'s' if size > 1 else ''}" for size in columns]
    rows = [[row, *(_dollars(column[row]) for column in columns.values())] for row in columns[1]]
    return [f"| {' | '.join(cells)} |" for cells in ([title, *heads], ["---", *["---:"] * len(heads)], *rows)]


def _readers() -> list[str]:
    return [
        "| reading, dollars a month | calls a day of a warm process | 1 process | 1,000 processes |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {reads} | {_dollars(reads * DAYS * CALL)} | {_dollars(reads * DAYS * CALL * 1_000)} |"
            for name, reads in READS_A_DAY.items()
        ),
    ]


def _joined(items: Iterable[str]) -> str:
    return ", ".join(items)


def _dollars(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 0.1 else f"{amount:.4f}"


if __name__ == "__main__":
    sys.exit(main())
