"""What several test files share: a clock set by hand, an account with secrets in it, and Lambda's side of a call.

Everything in here goes through the product's own adapters; only AWS and time are played.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import boto3
import pytest
from botocore.awsrequest import AWSResponse, HTTPHeaders

from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_client import answer_through
from tests.fakes.virtuous import Virtuous
from tests.leak_harness import LeakHarness
from token_refresher import handler
from token_refresher.aws.secret_store import SecretStore
from token_refresher.refresh.formats import SecretNames, TokenPair
from token_refresher.refresh.model import CURRENT, Services
from virtuous_token.contract import Bearer
from virtuous_token.secret_text import SecretText

REGION = "us-east-1"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LIFE = timedelta(days=15)


class Clock:
    """A wall clock that moves only when somebody waits. ``on_pause`` is called at the end of each wait."""

    def __init__(self, now: datetime = NOW) -> None:
        self.instant = now
        self.pauses: list[float] = []
        self.on_pause: Callable[[], object] = lambda: None

    def now(self) -> datetime:
        return self.instant

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.instant += timedelta(seconds=seconds)
        self.on_pause()

    def services(self, endpoint: Any = None) -> Services:
        return Services(endpoint, self.now, self.pause)


def a_pair(generation: int = 1, issued_at: datetime = NOW, **changes: Any) -> TokenPair:
    """A whole pair whose tokens say their generation."""
    whole: dict[str, Any] = {
        "access_token": SecretText(f"access-{generation}"),
        "refresh_token": SecretText(f"refresh-{generation}"),
        "issued_at": issued_at,
        "expires_at": issued_at + LIFE,
        "refresh_token_issued_at": issued_at,
        "refresh_token_expires_at": issued_at + timedelta(days=365),
        "user_name": "me@example.org",
        "organization_id": "4711",
        "organization_name": "Example Relief",
    }
    return TokenPair(**(whole | changes))


def issued_by(virtuous: Virtuous, *, age: timedelta = timedelta(), **changes: Any) -> TokenPair:
    """A pair that the stand-in accepts, as if it had been stored *age* ago."""
    answer = virtuous.issue_pair()
    return a_pair(
        issued_at=datetime.now(UTC) - age,
        access_token=SecretText(str(answer["access_token"])),
        refresh_token=SecretText(str(answer["refresh_token"])),
        **changes,
    )


def a_version() -> str:
    return str(uuid.uuid4())


class Account:
    """One account's Secrets Manager, with the two secrets of each connection: without a version.

    ``empty``: without any secret, as before the first login.
    """

    def __init__(
        self,
        *connections: str,
        prefix: str = "virtuous",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        empty: bool = False,
    ) -> None:
        self.prefix = prefix
        self.strict = StrictSecretsManager(now, region=REGION)
        self.client = self.strict.client()
        for connection in () if empty else connections or ("default",):
            self.client.create_secret(Name=self.names(connection).pair)
            self.client.create_secret(Name=self.names(connection).bearer)

    def names(self, connection: str = "default") -> SecretNames:
        return SecretNames.of(self.prefix, connection)

    def store(self, connection: str = "default") -> SecretStore:
        return SecretStore(self.client, self.names(connection))

    def put(self, secret: str, value: str, label: str = CURRENT, version: str | None = None) -> str:
        """A new version with *label* on it; its id."""
        version = version or a_version()
        self.client.put_secret_value(
            SecretId=secret, SecretString=value, ClientRequestToken=version, VersionStages=[label]
        )
        return version

    def put_pair(self, pair: TokenPair, connection: str = "default") -> str:
        return self.put(self.names(connection).pair, pair.to_json())

    def publish(self, version: str, pair: TokenPair, connection: str = "default") -> None:
        """The bearer secret as the refresher leaves it: in step with *version* of the pair."""
        bearer = Bearer(access_token=pair.access_token, issued_at=pair.issued_at, expires_at=pair.expires_at)
        self.put(self.names(connection).bearer, bearer.to_json(), version=version)

    def pair(self, connection: str = "default", version_or_label: str = CURRENT) -> TokenPair:
        return TokenPair.parse(str(self.strict.value(self.names(connection).pair, version_or_label)))

    def bearer(self, connection: str = "default") -> Bearer:
        return Bearer.parse(str(self.strict.value(self.names(connection).bearer)))

    def session(self) -> boto3.session.Session:
        """A session whose Secrets Manager this account is, through clients with the product's own settings."""
        session = boto3.session.Session(region_name=REGION, aws_access_key_id="none", aws_secret_access_key="none")
        answer_through(self.strict, session.events)
        return session


@dataclass(slots=True)
class Context:
    """Lambda's context object, as far as the function looks at it."""

    milliseconds_left: int = 300_000
    aws_request_id: str = field(default_factory=a_version)

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds_left


@dataclass(slots=True)
class Deployment:
    """The function with its environment, an account and the stand-in for Virtuous, and whoever may invoke it."""

    account: Account
    virtuous: Virtuous
    session: boto3.session.Session
    harness: LeakHarness
    function_exists: bool = True
    invoked_with: list[object] = field(default_factory=list)
    notices: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    event_bus_refuses_with: str | None = None
    log: io.StringIO = field(default_factory=io.StringIO, repr=False)

    def invoke(self, event: object, context: Context | None = None) -> dict[str, Any]:
        """One invocation in this process; what the handler raises comes out. The libraries' logs are watched too."""
        self.invoked_with.append(event)
        with self.hearing_libraries():
            answer = handler.lambda_handler(cast("dict[str, Any]", event), cast("Any", context or Context()))
        return self.harness.watch(answer)

    @contextmanager
    def hearing_libraries(self) -> Iterator[None]:
        """While the product runs, and not while a test prepares a secret, botocore's logs must hold none."""
        before, self.harness.hears_libraries = self.harness.hears_libraries, True
        try:
            yield
        finally:
            self.harness.hears_libraries = before

    def log_in(self, connection: str = "default", *, age: timedelta = timedelta(), **changes: Any) -> str:
        """A pair that Virtuous accepts, stored and published *age* ago; its version id."""
        pair = issued_by(self.virtuous, age=age, **changes)
        version = self.account.put_pair(pair, connection)
        self.account.publish(version, pair, connection)
        return version

    def invoke_as_lambda_does(self, event: object) -> tuple[object, bool]:
        """The payload that a caller gets, and whether the function failed. What it prints is kept from the caller."""
        with redirect_stdout(self.log):
            try:
                returned: object = self.invoke(event)
                failed = False
            except Exception as error:  # noqa: BLE001 (as Lambda's runtime does)
                self.harness.watch(error)
                returned = {"errorMessage": str(error), "errorType": type(error).__name__}
                failed = True
        self.harness.watch(self.log.getvalue(), "the function's log")
        return returned, failed

    def answer_notices(self) -> None:
        """From here on boto3's EventBridge client reaches a bus, which keeps detail-type and detail in ``notices``."""

        def answer(params: Mapping[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]]:
            (entry,) = json.loads(params["body"])["Entries"]
            assert entry["Source"] == "virtuous.token"
            if self.event_bus_refuses_with:
                refusal = {"ErrorCode": self.event_bus_refuses_with, "ErrorMessage": "refused"}
                return _http(200), {"FailedEntryCount": 1, "Entries": [refusal]}
            self.notices.append((entry["DetailType"], self.harness.watch(json.loads(entry["Detail"]), "a notice")))
            return _http(200), {"FailedEntryCount": 0, "Entries": [{"EventId": a_version()}]}

        events: Any = self.session.events
        events.register("before-call.events.PutEvents", answer)

    def answer_invocations(self) -> None:
        """From here on boto3's Lambda client reaches the function: Lambda's Invoke, as the service answers it."""

        def answer(params: Mapping[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]]:
            asked_for = str(params["url_path"])
            if not self.function_exists or f"/{self.account.prefix}-token-refresher/" not in asked_for:
                return _http(404), {
                    "Error": {"Code": "ResourceNotFoundException", "Message": "Function not found"},
                    "ResponseMetadata": {"HTTPStatusCode": 404},
                }
            returned, failed = self.invoke_as_lambda_does(json.loads(params["body"]))
            failure = {"FunctionError": "Unhandled"} if failed else {}
            payload = io.BytesIO(json.dumps(returned).encode())
            return _http(200), {"StatusCode": 200, "Payload": payload, **failure}

        events: Any = self.session.events
        events.register("before-call.lambda.Invoke", answer)


def answered(events: Any, operation: str, answer: Callable[[], Mapping[str, Any]]) -> None:
    """From here on clients whose *events* these are get *answer* for *operation*, for instance ``sts.AssumeRole``.

    An answer that holds an ``Error`` is AWS's refusal.
    """

    def reply(**_: object) -> tuple[AWSResponse, Mapping[str, Any]]:
        given = answer()
        return _http(400 if "Error" in given else 200), {"ResponseMetadata": {"HTTPHeaders": {}}} | dict(given)

    events.register(f"before-call.{operation}", reply)


def _http(status: int) -> AWSResponse:
    return AWSResponse("https://lambda.invalid/", status, HTTPHeaders(), None)


@contextmanager
def deployed(
    harness: LeakHarness,
    *connections: str,
    empty: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    **virtuous_options: Any,
) -> Iterator[Deployment]:
    """The function as a warm process has it, its logs at DEBUG; every name in its environment is this deployment's.

    *clock* is Secrets Manager's.
    """
    with Virtuous(**virtuous_options) as virtuous, pytest.MonkeyPatch.context() as patch:
        account = Account(*connections, empty=empty, now=clock)
        session = account.session()
        deployment = Deployment(account, virtuous, session, harness)
        deployment.answer_invocations()
        deployment.answer_notices()
        patch.setattr(boto3, "DEFAULT_SESSION", session)
        patch.setenv("SECRET_PREFIX", account.prefix)
        patch.setenv("VIRTUOUS_BASE_URL", virtuous.base_url)
        patch.setenv("LOG_LEVEL", "DEBUG")
        patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "VirtuousToken")
        # Powertools keeps one logger for each service name, bound to the standard output of its first test.
        patch.setenv("POWERTOOLS_SERVICE_NAME", f"test-{uuid.uuid4()}")
        handler.application.cache_clear()
        try:
            yield deployment
        finally:
            handler.application.cache_clear()
