"""``virtuous-token check``: looks at everything that must be right, and says of each line what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from token_refresher import __version__
from token_refresher.refresh.model import Unclear
from virtuous_token.secret_text import SecretText

from .aws import code_of, explained
from .check_alarms import alarm_lines
from .check_connection import Line, connection_lines
from .endpoint import open_endpoint
from .failures import CommandFailed
from .stack import Report, Stack
from .words import days_and_hours

__all__ = ["checked"]

# What the function's role must allow, by the kind of secret: as template.yaml grants it.
FUNCTION_NEEDS = {
    "tokens": ("GetSecretValue", "ListSecretVersionIds", "PutSecretValue"),
    "bearer": ("DescribeSecret", "ListSecretVersionIds", "PutSecretValue", "UpdateSecretVersionStage"),
}
# The alarm of silence rings after a day; an hour more is the schedule's own window.
LONGEST_SILENCE = timedelta(hours=25)
TOLERATED_SKEW = timedelta(minutes=2)


def checked(stack: Stack, report: Report, now: datetime) -> Iterator[Line]:
    """Every line in turn; *report* must be one with proof. What may not be looked at is a line that is not fine."""
    patient = _Patient(stack, report, now)
    for about, look in (
        ("stack", patient.stack_lines),
        ("schedule", patient.schedule_lines),
        ("role", patient.role_lines),
        ("alarms", partial(alarm_lines, stack)),
        ("layer", patient.layer_lines),
        ("Virtuous", patient.virtuous_lines),
        ("clock", patient.clock_lines),
        ("key", patient.key_lines),
    ):
        yield from _guarded(about, look, stack)
    if not report.connections:
        yield Line("connections", "there is none yet", False, "virtuous-token login")
    for connection in report.connections:
        look = partial(connection_lines, stack, report.settings, connection, now)
        yield from _guarded(connection.name, look, stack)


def _guarded(about: str, look: Callable[[], Iterable[Line]], stack: Stack) -> Iterator[Line]:
    try:
        yield from look()
    except (ClientError, BotoCoreError) as error:
        failure = explained(error, stack.aws.profile)
        yield Line(about, f"could not be looked at: {failure}", False, "; ".join(failure.run))
    except CommandFailed as failure:
        yield Line(about, str(failure), False, "; ".join(failure.run))


@dataclass(frozen=True, slots=True)
class _Patient:
    """What is looked at. Each method gives the lines about one thing."""

    stack: Stack
    report: Report
    now: datetime

    def _client(self, service: str) -> Any:
        return self.stack.aws.client(service)

    def stack_lines(self) -> Iterator[Line]:
        if self.stack.name:
            (described,) = self._client("cloudformation").describe_stacks(StackName=self.stack.name)["Stacks"]
            status = described["StackStatus"]
            is_fine = status.endswith("_COMPLETE") and "ROLLBACK" not in status
            yield Line(
                "stack",
                f"{self.stack.name} is {status}",
                is_fine,
                f"aws cloudformation describe-stack-events --stack-name {self.stack.name}; then sam deploy",
            )
        is_same = self.report.version == __version__
        yield Line(
            "version",
            f"{__version__}" if is_same else f"the function's is {self.report.version}, the command's {__version__}",
            is_same,
            "what README says under Upgrade",
        )

    def schedule_lines(self) -> Iterator[Line]:
        name = self.stack.function
        try:
            schedule = self._client("scheduler").get_schedule(Name=name)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            yield Line("schedule", f"there is no schedule {name}", False, "sam build && sam deploy")
            return
        is_enabled = schedule["State"] == "ENABLED"
        yield Line(
            "schedule", f"{schedule['ScheduleExpression']}, {schedule['State'].lower()}", is_enabled, "sam deploy"
        )
        last = self._last_scheduled_run()
        is_new = self.now - schedule["CreationDate"] < timedelta(days=1)
        missing = "none yet, the schedule is new" if is_new else "the schedule has not run it for a day"
        yield Line(
            "last run",
            f"{days_and_hours(self.now - last)} ago" if last else missing,
            last is not None or is_new,
            f"aws logs tail /aws/lambda/{name} --since 2d",
        )

    def _last_scheduled_run(self) -> datetime | None:
        """By the function's log, in which each run says what asked for it."""
        pages = (
            self._client("logs")
            .get_paginator("filter_log_events")
            .paginate(
                logGroupName=f"/aws/lambda/{self.stack.function}",
                filterPattern='"aws.scheduler"',
                startTime=int((self.now - LONGEST_SILENCE).timestamp() * 1000),
            )
        )
        instants = [event["timestamp"] for page in pages for event in page["events"]]
        return datetime.fromtimestamp(max(instants) / 1000, UTC) if instants else None

    def role_lines(self) -> Iterator[Line]:
        role = self.stack.role
        partition, account = role.split(":")[1], role.split(":")[4]
        denied = []
        for kind, actions in FUNCTION_NEEDS.items():
            secret = f"arn:{partition}:secretsmanager:{self.stack.aws.region}:{account}:secret:"
            answer = self._client("iam").simulate_principal_policy(
                PolicySourceArn=role,
                ActionNames=[f"secretsmanager:{action}" for action in actions],
                ResourceArns=[f"{secret}{self.stack.prefix}/any/{kind}-a1B2c3"],
            )
            denied += [
                f"{result['EvalActionName'].partition(':')[2]} on {kind}"
                for result in answer["EvaluationResults"]
                if result["EvalDecision"] != "allowed"
            ]
        said = f"the function may not {', '.join(denied)}" if denied else "allows what the function needs"
        yield Line("role", said, not denied, "sam deploy, which restores the role's policy")

    def layer_lines(self) -> Iterator[Line]:
        used = next((layer["Arn"] for layer in self.stack.configuration.get("Layers", ())), "none")
        parameter = f"/{self.stack.prefix}/reader-layer-arn"
        offered = self._client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]
        is_fine = used == offered
        said = f"readers are given version {offered.rpartition(':')[2]}, which the function uses as well"
        yield Line(
            "layer",
            said if is_fine else f"the function uses {used}, and readers are given {offered}",
            is_fine,
            "sam build && sam deploy; then deploy the readers again",
        )

    def virtuous_lines(self) -> Iterator[Line]:
        base_url = self.report.settings["base_url"]
        answer = open_endpoint(base_url, lambda: self.now).prove(SecretText("no-token"))
        is_fine = not isinstance(answer, Unclear)
        said = (
            f"{base_url} from here: {answer.reason}" if isinstance(answer, Unclear) else f"{base_url} answers from here"
        )
        yield Line("Virtuous", said, is_fine, "check this machine's network and proxy")

    def clock_lines(self) -> Iterator[Line]:
        answer = self._client("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"]
        skew = parsedate_to_datetime(answer["date"]) - datetime.now(UTC) if "date" in answer else timedelta()
        seconds = abs(round(skew.total_seconds()))
        is_fine = abs(skew) <= TOLERATED_SKEW
        said = "agrees with AWS's" if is_fine else f"{seconds} s away from AWS's"
        yield Line("clock", said, is_fine, "set this machine's clock, for instance with timedatectl set-ntp true")

    def key_lines(self) -> Iterator[Line]:
        if not (key := self.report.settings["kms_key_arn"]):
            return
        metadata = self._client("kms").describe_key(KeyId=key)["KeyMetadata"]
        is_fine = metadata["KeyState"] == "Enabled"
        run = f"aws kms enable-key --key-id {key}"
        if metadata["KeyState"] == "PendingDeletion":
            run = f"aws kms cancel-key-deletion --key-id {key}, then {run}"
        yield Line("key", f"{key.rpartition('/')[2]} is {metadata['KeyState']}", is_fine, run)
