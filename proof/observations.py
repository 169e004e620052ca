"""What was looked at, what was seen, and whether that is what the project relies on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from botocore.exceptions import BotoCoreError, ClientError

__all__ = ["NotAsExpected", "Observation", "Seen", "Verdict", "aws_code", "expect", "observe"]

Figure = int | float | str | Mapping[str, int]


class Verdict(StrEnum):
    """What became of one observation."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    NOT_AVAILABLE = "not available here"


class NotAsExpected(Exception):
    """AWS, the product or the stand-in did something else; the text says what was expected and what was seen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The evidence of one observation: a sentence without a secret, and figures by name (their unit is in the name)."""

    evidence: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """One line of the report. ``seconds`` is how long the observation took."""

    subject: str
    verdict: Verdict
    evidence: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    seconds: float = 0.0


def observe(subject: str, look: Callable[[], Seen], *, missing_here: str = "") -> Observation:
    """Runs *look*. What it raises becomes an observation that is not shown; Ctrl-C and a defect of ours pass through.

    *missing_here* is the reason why this account cannot show it: then *look* is not called.
    """
    if missing_here:
        return Observation(subject, Verdict.NOT_AVAILABLE, missing_here)
    began = time.monotonic()
    try:
        seen = look()
    except NotAsExpected as error:
        return _not_shown(subject, str(error), began)
    except ClientError as error:
        return _not_shown(subject, f"{error.operation_name} was refused ({error.response['Error']['Code']})", began)
    except BotoCoreError as error:
        return _not_shown(subject, f"{type(error).__name__}", began)
    return Observation(subject, Verdict.SHOWN, seen.evidence, seen.figures, time.monotonic() - began)


def expect(holds: bool, expected: str, seen: str) -> None:
    """Raises NotAsExpected with both texts unless *holds*."""
    if not holds:
        raise NotAsExpected(f"expected: {expected}; seen: {seen}")


def aws_code(call: Callable[[], object]) -> str:
    """The code of AWS's refusal, empty where the call succeeded."""
    try:
        call()
    except ClientError as refusal:
        return refusal.response["Error"]["Code"]
    return ""


def _not_shown(subject: str, evidence: str, began: float) -> Observation:
    return Observation(subject, Verdict.NOT_SHOWN, evidence, seconds=time.monotonic() - began)
