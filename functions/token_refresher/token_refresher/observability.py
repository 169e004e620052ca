"""What a run says: log lines with fields, and metrics. Neither holds a secret at any level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from .refresh.model import OutcomeWord, Result
from .sweep import FAILED

# A token that ends sooner than this although a new one was due leaves a working day to act.
ENDING_SOON = timedelta(days=1)
_UNCHANGED = frozenset({OutcomeWord.FRESH, OutcomeWord.BUSY, OutcomeWord.POSTPONED})
_IN_ORDER = frozenset({OutcomeWord.FRESH, OutcomeWord.REFRESHED, OutcomeWord.RECOVERED})


def log_results(logger: Logger, results: Sequence[Result], prefix: str, *, complete: bool = False) -> None:
    """One line for each connection that changed or needs somebody, and one that counts all by outcome.

    *complete*: one for each of the others too, which the dashboard needs once a day.
    """
    for result in results:
        if complete or result.outcome not in _UNCHANGED:
            _log_outcome(logger, result, prefix)
        for note in result.notes:
            logger.warning("noticed", extra={"connection": result.connection, "note": note})
    counts = Counter(str(result.outcome) for result in results)
    logger.info("swept", extra={"checked": len(results), "outcomes": counts})


def _log_outcome(logger: Logger, result: Result, prefix: str) -> None:
    until = result.readers_work_until
    fields: dict[str, object] = {
        "connection": result.connection,
        "outcome": str(result.outcome),
        "organization": result.organization_name,
        "readers_work_until": until.isoformat() if until else None,
    }
    if result.reason:
        fields["reason"] = result.reason
    if result.pair_at_risk:
        logger.critical("token pair not saved", extra=fields)
    elif result.outcome in FAILED:
        logger.error("connection failed", extra=fields)
    elif result.outcome is OutcomeWord.LOGIN_REQUIRED:
        fields["run"] = f"virtuous-token --prefix {prefix} login --connection {result.connection}"
        logger.warning("login required", extra=fields)
    else:
        logger.info("connection checked", extra=fields)


def put_metrics(metrics: Metrics, results: Sequence[Result], notices_not_sent: int, began_at: datetime) -> None:
    """What the alarms watch, of one sweep that the schedule asked for; zeros included, since they end an alarm.

    All carry *began_at*: the repetitions of a failed sweep begin at least a minute apart, and so does each one's data.
    """
    metrics.set_timestamp(began_at)
    counts = {
        "Sweeps": 1,
        "FailedConnections": sum(result.outcome in FAILED for result in results),
        "TokensEndingSoon": sum(_is_ending(result, began_at) for result in results),
        "NoticesNotSent": notices_not_sent,
    }
    for name, value in counts.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)


def _is_ending(result: Result, now: datetime) -> bool:
    """True if readers are about to lose their token. A short-lived one counts once its refresh is late."""
    if result.readers_work_until is None or result.readers_work_until - now >= ENDING_SOON:
        return False
    waits_for_its_refresh = result.next_refresh_at is not None and now < result.next_refresh_at
    return not (result.outcome in _IN_ORDER and waits_for_its_refresh)
