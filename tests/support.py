"""What several test files share: a clock set by hand, an account with secrets in it, and Lambda's side of a call.

Everything in here goes through the product's own adapters; only AWS and time are played.
"""

from __future__ import annotations

import gc
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


class Clock:
    """A wall clock that moves only when somebody waits."""

    def __init__(self, now: datetime = NOW) -> None:
        self.instant = now
        self.pauses: list[float] = []

    def now(self) -> datetime:
        return self.instant

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.instant += timedelta(seconds=seconds)

    def services(self, endpoint: Any = None) -> Services:
        return Services(endpoint, self.now, self.pause)


def a_pair(generation: int = 1, issued_at: datetime = NOW, **changes: Any) -> TokenPair:
    """A whole pair whose tokens say their generation."""
    whole: dict[str, Any] = {
        "access_token": SecretText(f"access-{generation}"),
        "refresh_token": SecretText(f"refresh-{generation}"),
        "issued_at": issued_at,
        "expires_at": issued_at + timedelta(days=15),
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

    prefix = "virtuous"

    def __init__(
        self, *connections: str, now: Callable[[], datetime] = lambda: datetime.now(UTC), empty: bool = False
    ) -> None:
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

    def take_notice(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """EventBridge's PutEvents, which keeps detail-type and detail in ``notices``."""
        (entry,) = json.loads(params["body"])["Entries"]
        assert entry["Source"] == "virtuous.token"
        if code := self.event_bus_refuses_with:
            return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": code, "ErrorMessage": "refused"}]}
        self.notices.append((entry["DetailType"], self.harness.watch(json.loads(entry["Detail"]), "a notice")))
        return {"FailedEntryCount": 0, "Entries": [{"EventId": a_version()}]}

    def take_invocation(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Lambda's Invoke."""
        if not self.function_exists or f"/{self.account.prefix}-token-refresher/" not in params["url_path"]:
            return {"Error": {"Code": "ResourceNotFoundException", "Message": "Function not found"}}
        returned, failed = self.invoke_as_lambda_does(json.loads(params["body"]))
        failure = {"FunctionError": "Unhandled"} if failed else {}
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(returned).encode()), **failure}


def answered(events: Any, operation: str, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """From here on clients whose *events* these are get *answer* for *operation*, for instance ``sts.AssumeRole``.

    It is called with the request as botocore has it. An answer that holds an ``Error`` is AWS's refusal.
    """

    def reply(params: Mapping[str, Any], **_: object) -> tuple[AWSResponse, Mapping[str, Any]]:
        given = answer(params)
        response = AWSResponse("https://aws.invalid/", 404 if "Error" in given else 200, HTTPHeaders(), None)
        return response, {"ResponseMetadata": {"HTTPHeaders": {}}} | dict(given)

    events.register(f"before-call.{operation}", reply)


@contextmanager
def deployed(
    harness: LeakHarness,
    *connections: str,
    empty: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    **virtuous_options: Any,
) -> Iterator[Deployment]:
    """The function as a warm process has it, its logs at DEBUG. *clock* is Secrets Manager's."""
    with Virtuous(**virtuous_options) as virtuous, pytest.MonkeyPatch.context() as patch:
        account = Account(*connections, empty=empty, now=clock)
        session = boto3.session.Session("none", "none", region_name=REGION)
        deployment = Deployment(account, virtuous, session, harness)
        answer_through(account.strict, session.events)
        answered(session.events, "lambda.Invoke", deployment.take_invocation)
        answered(session.events, "events.PutEvents", deployment.take_notice)
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
            gc.unfreeze()
