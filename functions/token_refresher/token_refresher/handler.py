"""Door for Lambda: one invocation sweeps every connection under the prefix."""

from __future__ import annotations

import gc

# Modules and the client's models are made once and kept: looking for garbage among them is a tenth of a start.
gc.disable()

import os
import time
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics

from . import __version__
from .aws.batch_read import Connections
from .aws.event_bus import SECONDS as NOTICE_SECONDS
from .aws.event_bus import EventBus
from .aws.pacing import pace
from .aws.secret_store import SecretStore, make_client
from .events import Request
from .notices import announce
from .observability import log_results, put_metrics
from .refresh.formats import SecretNames
from .refresh.model import Policy, Result, Services, Stored, TimeLimits
from .refresh.refresh import refresh_connection
from .report import describe_connection, describe_if_idle
from .settings import Settings
from .sweep import FAILED, DueConnection, for_each, is_first_of_the_day, result_if_fresh, sweep, sweep_due
from .virtuous.endpoint import REQUEST_SECONDS, TokenEndpoint

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_secretsmanager import SecretsManagerClient

CLOSING_SECONDS = NOTICE_SECONDS + 3  # kept for the last notice, logs, metrics and the answer
MOST_NAMED_IN_AN_ERROR = 500  # it ends up in a queue whose messages hold 256 kB
_now = partial(datetime.now, UTC)


class SomeConnectionsFailed(Exception):
    """Raised after all connections were dealt with; the text names those that failed with their outcomes, no more."""


class Application(NamedTuple):
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


@cache
def application() -> Application:
    """Reads the environment and makes the client. Raises InvalidSettings."""
    settings = Settings.from_environment(os.environ)
    client = make_client()
    gc.freeze()  # else the first collection goes through all of it
    gc.enable()
    pace(client)
    services = Services(TokenEndpoint(settings.virtuous_base_url, clock=_now), _now, time.sleep)
    limits = TimeLimits(request=timedelta(seconds=REQUEST_SECONDS))
    policy = Policy(settings.virtuous_base_url, settings.refresh_at_percent, settings.schedule_interval, limits)
    return Application(settings, client, services, policy, EventBus(), Logger(), Metrics())


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Refreshes what is due and returns ``{"checked": 1, "outcomes": {"default": "fresh"}}``, or a report.

    Raises InvalidEvent, InvalidSettings, SomeConnectionsFailed; RefreshError where connections can't be listed.
    """
    app = application()
    request = Request.parse(event)
    # Counted from the start: not every runtime's remaining time counts down.
    began_at = app.services.now()
    deadline = began_at + timedelta(milliseconds=context.get_remaining_time_in_millis(), seconds=-CLOSING_SECONDS)
    app.logger.info(
        "invoked",
        source=event.get("source", "invoke"),
        aws_request_id=context.aws_request_id,
        connections=len(request.connections) if request.connections else "all",
        force=request.force,
        report=request.report,
    )
    if request.report:
        return report(app, request)
    results, notices_not_sent = sweep_as_asked(app, request, deadline)
    is_complete = request.scheduled and is_first_of_the_day(app.policy.schedule_interval, began_at)
    log_results(app.logger, results, app.settings.secret_prefix, complete=is_complete)
    if request.scheduled:  # what an operator asks for must neither end an alarm nor stand in for the schedule
        put_metrics(app.metrics, results, notices_not_sent, began_at)
        app.metrics.flush_metrics()
    if failed := [f"{result.connection}: {result.outcome}" for result in results if result.outcome in FAILED]:
        more = f" and {len(failed) - MOST_NAMED_IN_AN_ERROR} more" if len(failed) > MOST_NAMED_IN_AN_ERROR else ""
        raise SomeConnectionsFailed(", ".join(failed[:MOST_NAMED_IN_AN_ERROR]) + more)
    return {"checked": len(results), "outcomes": {result.connection: str(result.outcome) for result in results}}


def sweep_as_asked(app: Application, request: Request, deadline: datetime) -> tuple[list[Result], int]:
    """The results, sorted by name, and how many notices could not be sent: that is counted and fails no run."""
    not_sent: list[str] = []

    def announced(result: Result) -> Result:
        store, prefix = app.store(result.connection), app.settings.secret_prefix
        for failure in announce(result, prefix, store, app.bus.send, app.services.now()):
            app.logger.error("notice not sent", extra={"connection": result.connection, "notice": failure})
            not_sent.append(failure)
        return result

    def refresh(name: str) -> Result:
        store, force = app.store(name), request.force
        return announced(refresh_connection(name, store, app.services, app.policy, deadline=deadline, force=force))

    def result_or_due(connection: str, stored: Stored | None) -> Result | DueConnection:
        found = result_if_fresh(connection, stored, app.policy, app.services.now())
        return announced(found) if isinstance(found, Result) else found

    if request.connections:
        return sweep(request.connections, refresh), len(not_sent)
    connections = Connections.of(app.client, app.settings.secret_prefix)
    if not connections.names:
        app.logger.warning("no connections", extra={"prefix": app.settings.secret_prefix})
    if request.force:
        return sweep(connections.names, refresh), len(not_sent)
    found = connections.read(connections.names, result_or_due)
    for problem in connections.problems:
        app.logger.warning("batch read failed", extra={"reason": problem})
    results = [entry for entry in found if isinstance(entry, Result)]
    results += sweep_due([entry for entry in found if isinstance(entry, DueConnection)], refresh, app.services.now)
    return sorted(results, key=lambda result: result.connection), len(not_sent)


def report(app: Application, request: Request) -> dict[str, Any]:
    """What a person may see of the connections: 600 bytes of each at most, and Lambda answers 6 MB."""
    connections = None if request.connections else Connections.of(app.client, app.settings.secret_prefix)
    names = connections.names if connections else request.connections or ()
    described: dict[str, dict[str, Any] | None] = dict.fromkeys(names)
    if connections and not request.prove:
        idle = connections.read(names, lambda name, stored: describe_if_idle(name, stored, app.policy))
        described = dict(zip(names, idle, strict=True))

    def describe(name: str) -> dict[str, Any]:
        now, endpoint = app.services.now(), app.services.endpoint
        return describe_connection(name, app.store(name), app.policy, now, endpoint, prove=request.prove)

    others = [name for name, found in described.items() if found is None]
    described |= zip(others, for_each(others, describe), strict=True)
    return {
        "version": __version__,
        "settings": {
            "prefix": app.settings.secret_prefix,
            "base_url": app.settings.virtuous_base_url,
            "kms_key_arn": app.settings.kms_key_arn,
            "refresh_at_percent": app.settings.refresh_at_percent,
            "schedule": app.settings.schedule,
        },
        "checked": len(described),
        "connections": described,
    }
