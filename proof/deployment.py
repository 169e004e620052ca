"""The product in the account that is asked, beside a stand-in for Virtuous, as its own commands deploy it."""

from __future__ import annotations

import contextlib
import io
import secrets
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from proof.stand_in.function.stand_in import STATE, hash_of
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.world import Deployment, StepFailed, for_commands

from .account import Account
from .cleanup import TAG

__all__ = ["InAccount"]

# The access token is due after 10 % of this less up to 5 %, so half a minute to a minute after it was issued.
TOKEN_LIFE_SECONDS = 600
# Nobody's: the stack makes a topic of its own for it, and the subscription is never confirmed.
NOBODY = "nobody@example.com"
# How long the function that dies believes to have. Its claim can be taken over a minute later.
BELIEVED_SECONDS = 150

# It dies where it would send the refresh token, so with a claim in the journal and nothing spent.
DYING = """
import os

from token_refresher.handler import lambda_handler
from token_refresher.virtuous.endpoint import TokenEndpoint

TokenEndpoint.refresh = lambda *_: os._exit(1)
"""


class StandIn:
    """The stand-in of the account, once ``stands_at`` has said where it is."""

    base_url = ""
    user = "proof@example.com"

    def __init__(self) -> None:
        self.password = f"password-{secrets.token_hex(12)}"
        self._dynamodb: Any = None
        self._table = ""

    def stands_at(self, url: str, table: str, dynamodb: Any) -> None:
        self.base_url, self._dynamodb, self._table = url, dynamodb, table

    def revoke_refresh_token(self, token: str) -> None:
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"key": {"S": hash_of(token)}},
            UpdateExpression="SET spent = :yes",
            ExpressionAttributeValues={":yes": {"BOOL": True}},
        )

    def state(self) -> Mapping[str, Mapping[str, str]]:
        key = {"key": {"S": STATE}}
        found = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item", {})
        return dict(found)


@dataclass(slots=True)
class InAccount(Deployment):
    """*reach* gives the address under which the function of that name, behind that URL, can be reached."""

    virtuous: StandIn
    account: Account = field(kw_only=True)
    reach: Callable[[str, str], str] = field(kw_only=True)
    key: str = ""

    seconds_for_a_command: ClassVar[float] = 900.0
    pause: ClassVar[float] = 2.0

    @classmethod
    def under(
        cls,
        prefix: str,
        account: Account,
        directory: Path,
        say: Callable[[str], object],
        reach: Callable[[str, str], str],
    ) -> InAccount:
        directory.mkdir(parents=True, exist_ok=True)
        environment, stack = account.environment | for_commands(directory), f"{prefix}-token-refresher"
        return cls(directory, StandIn(), environment, say, prefix, stack, account=account, reach=reach)

    @property
    def tags(self) -> dict[str, str]:
        return {TAG: self.prefix}

    @property
    def sam_options(self) -> list[str]:
        where = ["--s3-bucket", self.bucket, "--region", self.account.region]
        asked = ["--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar"]
        return [*where, *asked, "--tags", f"{TAG}={self.prefix}"]

    @property
    def bucket(self) -> str:
        """Of its own, so that no artifact is left in another."""
        return f"{self.prefix}-artifacts"

    def make(self) -> str:
        """Deploys stand-in, product and reader. The schedule's window is off: when it fires is then known."""
        s3, region = self.client("s3"), self.account.region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=self.bucket, **where)
        tags = {"TagSet": [{"Key": key, "Value": value} for key, value in self.tags.items()]}
        s3.put_bucket_tagging(Bucket=self.bucket, Tagging=tags)
        stack, virtuous = f"{self.prefix}-stand-in", self.virtuous
        self.build("stand-in", REPOSITORY / "proof" / "stand_in")
        user = {"UserName": virtuous.user, "PasswordHash": hash_of(virtuous.password)}
        self.deploy_built("stand-in", stack, TokenLifeSeconds=str(TOKEN_LIFE_SECONDS), **user)
        made = self.outputs(stack)
        self.key = made["KeyArn"]
        virtuous.stands_at(self.reach(made["FunctionName"], made["Url"]), made["TableName"], self.client("dynamodb"))
        self.deploy(ScheduleWindowMinutes="0", KmsKeyArn=self.key, AlarmEmail=NOBODY)
        self.deploy_reader()
        return "stand-in, product and reader were created"

    def token_sent(self) -> str:
        return f"token {self.virtuous.state()['accepted']['S'][:8]}"

    def refusals(self) -> int:
        return int(self.virtuous.state().get("refusals", {"N": "0"})["N"])

    def answering_late(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # it always does

    def is_under_the_key(self) -> str:
        """Both secrets of the connection."""
        for kind in ("tokens", "bearer"):
            described = self.client("secretsmanager").describe_secret(SecretId=self.secret(kind))
            if described.get("KmsKeyId") != self.key:
                raise StepFailed(f"expected: {kind} under the stack's own key; seen: another")
        return "pair and bearer are encrypted with the key that the stack was given"

    def survives_a_death(self) -> str:
        """A copy of the function dies with a claim in the journal; the schedule's runs recover by themselves."""
        self.log_in("killed")
        functions, name = self.client("lambda"), f"{self.prefix}-dying"
        deployed = functions.get_function_configuration(FunctionName=self.function)
        kept = {key: deployed[key] for key in ("Runtime", "Role", "MemorySize", "Architectures")}
        functions.create_function(
            **kept,
            FunctionName=name,
            Handler="dying.lambda_handler",
            Code={"ZipFile": self._dying()},
            Timeout=BELIEVED_SECONDS,
            Layers=[layer["Arn"] for layer in deployed["Layers"]],
            Environment={"Variables": deployed["Environment"]["Variables"]},
            Tags=self.tags,
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=name)
        before, refused = self._refreshes("killed"), self.refusals()
        with contextlib.suppress(StepFailed):
            answer = self.invoke(name, {"connections": ["killed"], "force": True})
            raise AssertionError(f"expected: a run that dies; seen: {answer}")
        functions.delete_function(FunctionName=name)
        self.say("Wait for a run that recovers")
        self.wait("a refresh", lambda: self._refreshes("killed") > before, BELIEVED_SECONDS + 240)
        if self.refusals() != refused:
            raise StepFailed("expected: no refresh token is sent that was spent; seen: one was")
        return "a run died with its claim in the journal; a later one of the schedule refreshed"

    def _refreshes(self, connection: str) -> int:
        return sum(run.outcomes.get(connection) == "refreshed" for run in self.runs())

    def _dying(self) -> bytes:
        content, folder = io.BytesIO(), self.built("refresher") / "TokenRefresher"
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in folder.rglob("*"):
                archive.write(path, path.relative_to(folder))
            archive.writestr("dying.py", DYING)
        return content.getvalue()

    def an_alarm_rings_and_ends(self) -> str:
        """The one on failed runs, whose queue holds the run that failed."""
        alarm, watch = f"{self.function}-failed-runs", self.client("cloudwatch")

        def is_in(state: str) -> bool:
            return bool(watch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"][0]["StateValue"] == state)

        self.say("Wait for the alarm on failed runs")
        self.wait("the alarm to ring", lambda: is_in("ALARM"), 900)
        self.client("sqs").purge_queue(QueueUrl=self.outputs()["FailedRunsQueueUrl"])
        self.wait("the alarm to end", lambda: is_in("OK"), 900)
        return "the alarm on failed runs rang, and ended after its queue was emptied"

    def metrics_arrive(self) -> str:
        def names() -> list[str]:
            dimension = {"Name": "service", "Value": self.function}
            listed = self.client("cloudwatch").list_metrics(Namespace="VirtuousToken", Dimensions=[dimension])
            return sorted({metric["MetricName"] for metric in listed["Metrics"]})

        return f"CloudWatch extracted {', '.join(self.wait('metrics', names, 300))} from log lines"
