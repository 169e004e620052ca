"""Door for Lambda: one invocation sweeps every connection under the prefix."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics

from virtuous_token.contract import SecretNames

from . import __version__
from .event_bus import SECONDS as NOTICE_SECONDS
from .event_bus import EventBus
from .events import Request
from .notices import announce
from .observability import log_results, put_metrics
from .outcomes import Policy, Result, TimeLimits
from .ports import Services
from .refresh import refresh_connection
from .report import describe_connection
from .secret_store import SecretStore, connections, make_client
from .settings import Settings
from .sweep import FAILED, for_each, sweep
from .token_endpoint import REQUEST_SECONDS, TokenEndpoint

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["SomeConnectionsFailed", "lambda_handler"]

# Kept of the invocation's time for the last notice, logs, metrics and the answer.
CLOSING_SECONDS = NOTICE_SECONDS + 3


class SomeConnectionsFailed(Exception):
    """Raised after all connections were dealt with; the text names each that failed with its outcome, and no more."""


@dataclass(frozen=True, slots=True)
class Application:
    """What is built once for all invocations of a process. It holds no token."""

    settings: Settings
    client: SecretsManagerClient
    services: Services
    policy: Policy
    bus: EventBus
    logger: Logger
    metrics: Metrics

    def store(self, connection: str) -> SecretStore:
        return SecretStore(self.client, SecretNames.of(self.settings.secret_prefix, connection))

    def report(self, names: list[str], now: datetime, *, prove: bool) -> dict[str, Any]:
        endpoint = self.services.endpoint if prove else None
        told = for_each(names, lambda name: describe_connection(name, self.store(name), self.policy, now, endpoint))
        return {
            "version": __version__,
            "settings": {
                "prefix": self.settings.secret_prefix,
                "base_url": self.settings.virtuous_base_url,
                "kms_key_arn": self.settings.kms_key_arn,
                "refresh_at_percent": self.settings.refresh_at_percent,
                "schedule": self.settings.schedule,
            },
            "checked": len(told),
            "connections": dict(zip(names, told, strict=True)),
            "next": None,
        }

    def sweep(self, names: list[str], deadline: datetime, *, force: bool) -> tuple[list[Result], int]:
        """The results, and how many notices about them could not be sent.

        That fails no run, since the tokens are what a run is for: it is logged and counted.
        """
        not_sent: list[str] = []

        def refresh(name: str) -> Result:
            store = self.store(name)
            result = refresh_connection(name, store, self.services, self.policy, deadline=deadline, force=force)
            for failure in announce(result, self.settings.secret_prefix, store, self.bus, self.services.now()):
                self.logger.error("notice not sent", extra={"connection": name, "notice": failure})
                not_sent.append(failure)
            return result

        return sweep(names, refresh), len(not_sent)


@cache
def application() -> Application:
    """Reads the environment and makes the client. Raises InvalidSettings."""
    settings = Settings.from_environment(os.environ)
    return Application(
        settings=settings,
        client=make_client(),
        services=Services(TokenEndpoint(settings.virtuous_base_url, clock=_now), _now, time.sleep),
        policy=Policy(
            base_url=settings.virtuous_base_url,
            refresh_at_percent=settings.refresh_at_percent,
            schedule_interval=settings.schedule_interval,
            limits=TimeLimits(request=timedelta(seconds=REQUEST_SECONDS)),
        ),
        bus=EventBus(),
        logger=Logger(),
        metrics=Metrics(),
    )


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Refreshes what is due and returns ``{"checked": 1, "outcomes": {"default": "fresh"}}``.

    Events: what EventBridge Scheduler sends; ``{"connections": ["acme"], "force": true}``; ``{"report": true}``, which
    changes nothing and returns what a person may see, and with ``"prove": true`` whether Virtuous takes the tokens.
    Raises InvalidEvent, InvalidSettings, SomeConnectionsFailed, and a RefreshError where not even the list of
    connections can be read.
    """
    app = application()
    request = Request.parse(event)
    # Counted from the start: not every runtime's remaining time counts down.
    began_at = app.services.now()
    deadline = began_at + timedelta(milliseconds=context.get_remaining_time_in_millis(), seconds=-CLOSING_SECONDS)
    names = list(request.connections or connections(app.client, app.settings.secret_prefix))
    app.logger.info(
        "invoked",
        source=event.get("source", "invoke"),
        aws_request_id=context.aws_request_id,
        connections=len(names),
        force=request.force,
        report=request.report,
    )
    if not names:
        app.logger.warning("no connections", extra={"prefix": app.settings.secret_prefix})
    if request.report:
        return app.report(names, app.services.now(), prove=request.prove)
    results, notices_not_sent = app.sweep(names, deadline, force=request.force)
    log_results(app.logger, results, app.settings.secret_prefix)
    if request.scheduled:  # what an operator asks for must neither end an alarm nor stand in for the schedule
        put_metrics(app.metrics, results, notices_not_sent, began_at)
        app.metrics.flush_metrics()
    failed = [f"{result.connection}: {result.outcome}" for result in results if result.outcome in FAILED]
    if failed:
        raise SomeConnectionsFailed(", ".join(failed))
    return {"checked": len(results), "outcomes": {result.connection: str(result.outcome) for result in results}}


def _now() -> datetime:
    return datetime.now(UTC)
