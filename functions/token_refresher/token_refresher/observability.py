"""What a run tells: log lines with fields, and metrics. Neither holds a secret at any level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from .refresh import REFRESH_TOKEN_LIFE, OutcomeWord, Result
from .sweep import FAILED

__all__ = ["log_results", "put_metrics"]


def log_results(logger: Logger, results: Sequence[Result], prefix: str) -> None:
    """One line for each connection; those that need nobody are at INFO or below."""
    for result in results:
        fields: dict[str, object] = {"connection": result.connection, "outcome": str(result.outcome)}
        if result.reason:
            fields["reason"] = result.reason
        if result.pair_at_risk:
            logger.critical("token pair not saved", extra=fields)
        elif result.outcome in FAILED:
            logger.error("connection failed", extra=fields)
        elif result.outcome is OutcomeWord.LOGIN_REQUIRED:
            until = result.readers_work_until
            fields["run"] = f"virtuous-token --prefix {prefix} login --connection {result.connection}"
            fields["readers_work_until"] = until.isoformat() if until else None
            logger.warning("login required", extra=fields)
        else:
            logger.info("connection checked", extra=fields)
        for note in result.notes:
            logger.warning("noticed", extra={"connection": result.connection, "note": note})


def put_metrics(metrics: Metrics, results: Sequence[Result], now: datetime) -> None:
    """Counts by outcome, zero included so that alarms have data, and how long the tokens at hand still last.

    The lasts are minima over all connections: the worst one counts. Seconds for access tokens, days for refresh tokens.
    """
    counts = Counter(result.outcome for result in results)
    for outcome in OutcomeWord:
        name = "".join(part.capitalize() for part in outcome.split("_"))
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=counts[outcome])
    metrics.add_metric(name="Checked", unit=MetricUnit.Count, value=len(results))
    metrics.add_metric(name="PairNotSaved", unit=MetricUnit.Count, value=sum(r.pair_at_risk for r in results))
    changed = sum(r.organization_changed for r in results)
    metrics.add_metric(name="OrganizationChanged", unit=MetricUnit.Count, value=changed)
    metrics.add_metric(name="Noticed", unit=MetricUnit.Count, value=sum(len(r.notes) for r in results))
    expiries = [r.readers_work_until for r in results if r.readers_work_until]
    if expiries:
        seconds = max((min(expiries) - now).total_seconds(), 0)
        metrics.add_metric(name="AccessTokenSecondsLeft", unit=MetricUnit.Seconds, value=seconds)
    issued = [r.refresh_token_issued_at for r in results if r.refresh_token_issued_at]
    if issued:
        days = (min(issued) + REFRESH_TOKEN_LIFE - now).total_seconds() / 86400
        metrics.add_metric(name="RefreshTokenDaysLeft", unit=MetricUnit.NoUnit, value=max(days, 0))
