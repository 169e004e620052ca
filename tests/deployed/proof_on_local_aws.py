"""``python -m proof`` on a local AWS that runs already: ``python -m tests.deployed.proof_on_local_aws run --yes``.

Function URLs are served by a bridge on loopback. What the local AWS lacks is named with the reason, so that the report
says it. A fault can be planted first: ``--plant pair-readable`` widens the reader policy in the product's template.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import boto3

from proof import stacks
from proof.__main__ import main
from proof.probes import Extent
from tests.deployed.function_url import function_url

__all__ = ["NOT_TO_BE_HAD", "LocalAws"]

NOT_TO_BE_HAD: Mapping[str, str] = {
    "where throttling begins": "the local AWS does not throttle",
    "a condition can hold a reader to one stage": "the local AWS does not know the condition key",
    "metrics arrive": "the local AWS does not extract metrics from log lines",
    "an alarm goes red and green": "the local AWS does not count what a queue holds",
    "durations and memory": "the local AWS writes no REPORT lines",
}
# Where the reader policy names the bearer secrets, and what a careless hand would make of it.
PLANTS: Mapping[str, tuple[str, str]] = {"pair-readable": ("/bearer-??????", "/*-??????")}


class LocalAws:
    """The proof's surroundings. Its bridges end with *bridges*."""

    def __init__(self, bridges: contextlib.ExitStack) -> None:
        self._bridges = bridges

    def missing(self) -> Mapping[str, str]:
        return NOT_TO_BE_HAD

    def reach(self, function_name: str, url: str) -> str:
        return self._bridges.enter_context(function_url(boto3.client("lambda"), function_name))

    def extent(self) -> Extent:
        return Extent(rounds=5, reads=5, rates=(20,), seconds_a_rate=1.0)


def run(arguments: Sequence[str]) -> int:
    """The proof's exit status."""
    with contextlib.ExitStack() as bridges, tempfile.TemporaryDirectory() as scratch:
        if arguments[0] == "--plant":
            _plant(arguments[1], Path(scratch) / "template.yaml")
            arguments = arguments[2:]
        return main(arguments, LocalAws(bridges))


def _plant(fault: str, template: Path) -> None:
    right, wrong = PLANTS[fault]
    text = stacks.TEMPLATES["product"].read_text()
    head, policy, rest = text.partition("\n  ReaderPolicy:\n")
    if right not in rest:
        raise ValueError(f"{fault} finds nothing to change: the template changed")
    template.write_text(head + policy + rest.replace(right, wrong, 1))
    stacks.TEMPLATES["product"] = template


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
