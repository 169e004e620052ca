"""The product in the account that is asked, beside a stand-in for Virtuous, as its own commands deploy it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proof.stand_in.function.stand_in import STATE, hash_of
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.story import expect
from tests.deployed.world import Deployment, StepFailed, for_commands

from .account import Account
from .cleanup import TAG

# The access token is due after 10 % of this less up to 5 %, so half a minute to a minute after it was issued.
TOKEN_LIFE_SECONDS = 600
# How long the run that dies believes to have. Its claim can be taken over a minute later.
BELIEVED_SECONDS = 150
# The function's own code, which dies where it would send the refresh token: with a claim in the journal, nothing spent.
DYING = f"""
import os, types
from token_refresher.handler import lambda_handler
from token_refresher.virtuous.endpoint import TokenEndpoint

TokenEndpoint.refresh = lambda *_: os._exit(9)
context = types.SimpleNamespace(aws_request_id="dying", get_remaining_time_in_millis=lambda: {BELIEVED_SECONDS * 1000})
lambda_handler({{"connections": ["killed"], "force": True}}, context)
"""


@dataclass(slots=True)
class StandIn:
    """The stand-in of the account: where it is, and the table that it keeps."""

    password: str = field(default_factory=lambda: f"password-{secrets.token_hex(12)}", repr=False)
    user: str = "proof@example.com"
    base_url: str = ""
    table: Any = None

    def revoke_refresh_token(self, token: str) -> None:
        spent = {"UpdateExpression": "SET spent = :yes", "ExpressionAttributeValues": {":yes": True}}
        self.table.update_item(Key={"key": hash_of(token)}, **spent)

    def state(self) -> Mapping[str, Any]:
        return dict(self.table.get_item(Key={"key": STATE}, ConsistentRead=True).get("Item", {}))


@dataclass(slots=True)
class InAccount(Deployment):
    """*reach* gives the address under which the function of that name, behind that URL, can be reached."""

    virtuous: StandIn
    account: Account = field(kw_only=True)
    reach: Callable[[str, str], str] = field(kw_only=True)
    key: str = ""
    bucket: str = ""

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.environment = self.account.environment | for_commands(self.directory)
        self.stack, self.tags = f"{self.prefix}-token-refresher", {TAG: self.prefix}
        self.bucket = f"{self.prefix}-artifacts"  # of its own, so that no artifact is left in another
        where = ("--s3-bucket", self.bucket, "--region", self.account.region, "--tags", f"{TAG}={self.prefix}")
        self.sam_options = (*where, "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar")

    def make(self) -> str:
        """Deploys stand-in, product and reader. The schedule's window is off: when it fires is then known."""
        s3, region = self.client("s3"), self.account.region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=self.bucket, **where)
        tags = {"TagSet": [{"Key": key, "Value": value} for key, value in self.tags.items()]}
        s3.put_bucket_tagging(Bucket=self.bucket, Tagging=tags)
        stack, virtuous = f"{self.prefix}-stand-in", self.virtuous
        self._build("stand-in", REPOSITORY / "proof" / "stand_in")
        user = {"UserName": virtuous.user, "PasswordHash": hash_of(virtuous.password)}
        self._deploy("stand-in", stack, TokenLifeSeconds=str(TOKEN_LIFE_SECONDS), **user)
        made = self.outputs(stack)
        self.key = made["KeyArn"]
        virtuous.base_url = self.reach(made["FunctionName"], made["Url"])
        virtuous.table = self.account.session.resource("dynamodb").Table(made["TableName"])
        # The stack makes a topic of its own for an address; nobody confirms this one.
        self.deploy(ScheduleWindowMinutes="0", KmsKeyArn=self.key, AlarmEmail="nobody@example.com")
        self.deploy_reader()
        return "stand-in, product and reader were created"

    def token_sent(self) -> str:
        return f"token {self.virtuous.state()['accepted'][:8]}"

    def refusals(self) -> int:
        return int(self.virtuous.state().get("refusals", 0))

    def answering_late(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # it always does

    def is_under_the_key(self) -> str:
        for kind in ("tokens", "bearer"):
            described = self.client("secretsmanager").describe_secret(SecretId=self.secret(kind))
            expect(described.get("KmsKeyId") == self.key, f"{kind} under the stack's own key", "another")
        return "pair and bearer are encrypted with the key that the stack was given"

    def survives_a_death(self) -> str:
        """A run dies with a claim in the journal; those of the schedule recover by themselves."""
        self.log_in("killed")
        deployed = self.client("lambda").get_function_configuration(FunctionName=self.function)

        def refreshes() -> int:
            return sum(run.outcomes.get("killed") == "refreshed" for run in self.runs())

        before, refused = refreshes(), self.refusals()
        try:
            seen = self.run_ours("dying", "-c", DYING, environment=deployed["Environment"]["Variables"])
        except StepFailed as died:
            seen = str(died)
        expect("status 9" in seen, "a run that dies", seen)
        self.say("Wait for a run that recovers")
        self.wait("a refresh", lambda: refreshes() > before, BELIEVED_SECONDS + 240)
        expect(self.refusals() == refused, "no refresh token is sent that was spent", "one was")
        return "a run died with its claim in the journal; a later one of the schedule refreshed"

    def metrics_arrive(self) -> str:
        def names() -> list[str]:
            dimension = {"Name": "service", "Value": self.function}
            listed = self.client("cloudwatch").list_metrics(Namespace="VirtuousToken", Dimensions=[dimension])
            return sorted({metric["MetricName"] for metric in listed["Metrics"]})

        return f"CloudWatch extracted {', '.join(self.wait('metrics', names, 300))} from log lines"

    def an_alarm_rings_and_ends(self) -> str:
        """The one on failed runs, whose queue holds the run that failed."""
        alarm, watch = f"{self.function}-failed-runs", self.client("cloudwatch")

        def is_in(state: str) -> bool:
            return bool(watch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"][0]["StateValue"] == state)

        self.wait("the alarm to ring", lambda: is_in("ALARM"), 900)
        self.client("sqs").purge_queue(QueueUrl=self.outputs()["FailedRunsQueueUrl"])
        self.wait("the alarm to end", lambda: is_in("OK"), 900)
        return "the alarm on failed runs rang, and ended after its queue was emptied"
