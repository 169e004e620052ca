"""Holds the stack's policies against AWS's list of actions, resources and conditions: ``python -m tests.policy_lint``.

Runs in the environment of requirements/checks.txt, on what tests/transformed.py wrote. What is left as it is stands
below with its reason; a reason without a finding is a mistake as well.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

Finding = tuple[str, str, tuple[str, ...]]

EXPLAINED: dict[Finding, str] = {
    (
        "TokenRefresherRole-refresh",
        "RESOURCE_STAR",
        (
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:UnassignPrivateIpAddresses",
        ),
    ): "Lambda checks these for * when it accepts a function in a VPC; its guide asks for them so",
    (
        "OperatorPolicy",
        "RESOURCE_STAR",
        ("cloudwatch:DescribeAlarms",),
    ): "the command asks for alarms by the beginning of their names, which AWS authorizes for all alarms",
    **dict.fromkeys(
        (
            ("TokenRefresherSweepRole-TokenRefresherSweepLambdaPolicy", "NO_VERSION", ()),
            ("TokenRefresherSweepRole-TokenRefresherSweepSQSPolicy", "NO_VERSION", ()),
        ),
        "SAM writes these two; they have no variable, so their version makes no difference",
    ),
}


def findings(folder: Path) -> Iterator[Finding]:
    """What parliament says of the policies in *folder*."""
    parliament = importlib.import_module("parliament")
    for path in sorted(folder.glob("*.json")):
        for found in parliament.analyze_policy_string(path.read_text(), str(path)).findings:
            yield path.stem, found.issue, tuple(sorted(found.detail)) if isinstance(found.detail, list) else ()


def main(folders: list[Path]) -> int:
    """Exit status: 0 every finding is explained and every explanation is needed, 1 otherwise."""
    wrong = 0
    for folder in folders:
        found = set(findings(folder))
        for finding in sorted(found ^ EXPLAINED.keys()):
            print(folder.name, "not explained:" if finding in found else "explained and not found:", *finding)
            wrong += 1
    return 1 if wrong or not folders else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
