"""Door for Lambda: one invocation sweeps every connection under the prefix."""

from __future__ import annotations

import gc

# Modules and the client's models are made once and kept: looking for garbage among them is a tenth of a start.
gc.disable()

import os
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics

from . import __version__
from .aws.batch_read import Connections
from .aws.event_bus import SECONDS as NOTICE_SECONDS
from .aws.event_bus import EventBus
from .aws.pacing import Pace, pace
from .aws.secret_store import SecretStore, make_client
from .events import Request
from .notices import announce
from .observability import log_results, log_summary, put_metrics
from .refresh.formats import SecretNames
from .refresh.model import Policy, Result, Services, Stored, TimeLimits
from .refresh.refresh import refresh_connection
from .report import describe_connection, describe_if_idle
from .settings import Settings
from .sweep import (
    FAILED,
    DueConnection,
    for_each,
    in_order,
    result_if_fresh,
    skip_throttled_organizations,
    sweep,
)
from .virtuous.endpoint import REQUEST_SECONDS, TokenEndpoint

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["SomeConnectionsFailed", "lambda_handler"]

# Kept of the invocation's time for the last notice, logs, metrics and the answer.
CLOSING_SECONDS = NOTICE_SECONDS + 3
# An error ends up in a queue whose messages hold 256 kB.
MOST_NAMED_IN_AN_ERROR = 500


class SomeConnectionsFailed(Exception):
    """Raised after all connections were dealt with; the text names each that failed with its outcome, and no more.

    Of more than 500 it names 500 and counts the others.
    """


class Application(NamedTuple):
    """What is built once for all invocations of a process. It holds no token."""

    settings: Settings
    client: SecretsManagerClient
    writes: Pace
    services: Services
    policy: Policy
    bus: EventBus
    logger: Logger
    metrics: Metrics

    def store(self, connection: str) -> SecretStore:
        return SecretStore(self.client, SecretNames.of(self.settings.secret_prefix, connection))

    def connections(self) -> Connections:
        return Connections.of(self.client, self.settings.secret_prefix)

    def refresh(self, connection: str, deadline: datetime, *, force: bool) -> Result:
        if deadline - self.services.now() > self.policy.limits.look:
            self.writes.wait_for_room()
        return refresh_connection(
            connection, self.store(connection), self.services, self.policy, deadline=deadline, force=force
        )


@cache
def application() -> Application:
    """Reads the environment and makes the client. Raises InvalidSettings."""
    settings = Settings.from_environment(os.environ)
    client = make_client()
    gc.enable()
    return Application(
        settings=settings,
        client=client,
        writes=pace(client),
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
    log_results(app.logger, results, app.settings.secret_prefix, complete=_is_first_of_the_day(app, request, began_at))
    log_summary(app.logger, results)
    if request.scheduled:  # what an operator asks for must neither end an alarm nor stand in for the schedule
        put_metrics(app.metrics, results, notices_not_sent, began_at)
        app.metrics.flush_metrics()
    if failed := [f"{result.connection}: {result.outcome}" for result in results if result.outcome in FAILED]:
        more = len(failed) - MOST_NAMED_IN_AN_ERROR
        raise SomeConnectionsFailed(
            ", ".join(failed[:MOST_NAMED_IN_AN_ERROR]) + (f" and {more} more" if more > 0 else "")
        )
    return {"checked": len(results), "outcomes": {result.connection: str(result.outcome) for result in results}}


def _is_first_of_the_day(app: Application, request: Request, began_at: datetime) -> bool:
    """True for the schedule's first sweep of a UTC day; for every sweep of a schedule that is no plain rate."""
    since_midnight = began_at - began_at.replace(hour=0, minute=0, second=0, microsecond=0)
    return request.scheduled and since_midnight < (app.policy.schedule_interval or timedelta(days=1))


def sweep_as_asked(app: Application, request: Request, deadline: datetime) -> tuple[list[Result], int]:
    """The results, sorted by name, and how many notices about them could not be sent.

    That fails no run, since the tokens are what a run is for: it is logged and counted.
    """
    not_sent: list[str] = []

    def announced(result: Result) -> Result:
        store, prefix = app.store(result.connection), app.settings.secret_prefix
        for failure in announce(result, prefix, store, app.bus, app.services.now()):
            app.logger.error("notice not sent", extra={"connection": result.connection, "notice": failure})
            not_sent.append(failure)
        return result

    def refresh(connection: str) -> Result:
        return announced(app.refresh(connection, deadline, force=request.force))

    def result_or_due(connection: str, stored: Stored | None) -> Result | DueConnection:
        found = result_if_fresh(connection, stored, app.policy, app.services.now())
        return announced(found) if isinstance(found, Result) else found

    if request.connections:
        return sweep(request.connections, refresh), len(not_sent)
    connections = app.connections()
    if not connections.names:
        app.logger.warning("no connections", extra={"prefix": app.settings.secret_prefix})
    if request.force:
        return sweep(connections.names, refresh), len(not_sent)
    found = list(connections.read(connections.names, result_or_due))
    for problem in connections.problems:
        app.logger.warning("batch read failed", extra={"reason": problem})
    due = [entry for entry in found if isinstance(entry, DueConnection)]
    refresh_or_skip = skip_throttled_organizations(refresh, due, app.services.now)
    results = [entry for entry in found if isinstance(entry, Result)] + sweep(in_order(due), refresh_or_skip)
    return sorted(results, key=lambda result: result.connection), len(not_sent)


def report(app: Application, request: Request) -> dict[str, Any]:
    """What a person may see of the connections.

    Ten thousand fit into the 6 MB that Lambda answers ("Invocation payload", Lambda quotas): one takes 600 bytes where
    its names are as long as names get.
    """
    connections = None if request.connections else app.connections()
    names = connections.names if connections else list(request.connections or ())
    described: dict[str, dict[str, Any] | None] = {}
    if connections and not request.prove:
        idle = connections.read(names, lambda name, stored: describe_if_idle(name, stored, app.policy))
        described = dict(zip(names, idle, strict=True))
    others = [name for name in names if described.get(name) is None]

    def describe(name: str) -> dict[str, Any]:
        services = app.services
        return describe_connection(
            name, app.store(name), app.policy, services.now(), services.endpoint, prove=request.prove
        )

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
        "checked": len(names),
        "connections": {name: described[name] for name in names},
    }


def _now() -> datetime:
    return datetime.now(UTC)
