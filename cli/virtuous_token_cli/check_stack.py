"""What ``virtuous-token check`` finds about the stack.

CloudFormation leaves a resource alone whose template did not change, whatever a person did to it. So what was changed
by hand is put right by the service's own command; what is too long for one, by a change set that reverts drift.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from .aws import code_of
from .remedies import Remedy, Run, aws_cli, sam_deploy
from .stack import Stack
from .words import Finding, days_and_hours, fine

__all__ = ["StackChecks", "alarm_findings"]

# What the function's role must allow, by the kind of secret: as template.yaml grants it.
FUNCTION_NEEDS = {
    "tokens": ("GetSecretValue", "ListSecretVersionIds", "PutSecretValue"),
    "bearer": ("DescribeSecret", "ListSecretVersionIds", "PutSecretValue", "UpdateSecretVersionStage"),
}
# The function's variables that are parameters of the stack; those of the proxy are absent where the parameter is empty.
PARAMETER_OF = {
    "SECRET_PREFIX": "Prefix",
    "VIRTUOUS_BASE_URL": "VirtuousBaseUrl",
    "REFRESH_AT_PERCENT": "RefreshAtPercent",
    "SCHEDULE_EXPRESSION": "Schedule",
    "KMS_KEY_ARN": "KmsKeyArn",
    "LOG_LEVEL": "LogLevel",
    "HTTPS_PROXY": "HttpsProxy",
    "NO_PROXY": "NoProxy",
}
ABSENT_WHERE_EMPTY = ("HTTPS_PROXY", "NO_PROXY")
# The others that the template sets.
FIXED_VARIABLES = ("POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME")
# The alarm of silence rings after a day; an hour more is the schedule's own window.
LONGEST_SILENCE = timedelta(hours=25)


@dataclass(frozen=True)
class StackChecks:
    """What is looked at. Each method tells of one thing."""

    stack: Stack
    now: datetime

    def _client(self, service: str) -> Any:
        return self.stack.aws.client(service)

    def of_stack(self) -> Iterator[Finding]:
        if not (name := self.stack.name):
            return
        status = self.stack.described["StackStatus"]
        if status.endswith("_COMPLETE") and "ROLLBACK" not in status:
            yield fine("stack", f"{name} is {status}")
            return
        why = aws_cli("cloudformation", "describe-stack-events", "--stack-name", name)
        again = aws_cli("cloudformation", "continue-update-rollback", "--stack-name", name)
        before = (again,) if status == "UPDATE_ROLLBACK_FAILED" else ()
        deploy: tuple[Remedy, ...] = ("when what this names is mended:", *before, *sam_deploy(name))
        is_under_way = status.endswith("_IN_PROGRESS")
        yield Finding("stack", f"{name} is {status}", (why, *(["wait for its end"] if is_under_way else deploy)))

    def of_environment(self) -> Iterator[Finding]:
        """Drift of the function's variables from the stack's parameters."""
        parameters = self.stack.parameters
        variables: dict[str, str] = self.stack.configuration.get("Environment", {}).get("Variables", {})
        wanted = {name: parameters[given] for name, given in PARAMETER_OF.items() if given in parameters}
        wrong = {name: value for name, value in wanted.items() if variables.get(name, "") != value}
        if not wrong:
            yield fine("environment", "the function has the stack's parameters")
            return
        function, changes = self.stack.function, ", ".join(f"{name} to {value!r}" for name, value in wrong.items())
        if set(variables) <= {*PARAMETER_OF, *FIXED_VARIABLES}:
            right = {n: v for n, v in (variables | wanted).items() if v or n not in ABSENT_WHERE_EMPTY}
            document = json.dumps({"Variables": right})
            command = ("lambda", "update-function-configuration", "--function-name", function)
            remedy: Remedy = aws_cli(*command, "--environment", document)
        else:  # a stranger's variable may be a secret, which is not to be printed
            remedy = f"in the console of Lambda, {function}, Configuration, Environment variables: set {changes}"
        yield Finding("environment", f"{', '.join(wrong)} not as the stack's parameters say", (remedy,))

    def of_schedule(self) -> Iterator[Finding]:
        name = self.stack.function
        try:
            schedule = self._client("scheduler").get_schedule(Name=name)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            yield Finding("schedule", f"there is no schedule {name}", _revert_drift(self.stack))
            return
        wanted = self.stack.parameters.get("Schedule", schedule["ScheduleExpression"])
        said = f"{schedule['ScheduleExpression']}, {schedule['State'].lower()}"
        if schedule["State"] == "ENABLED" and schedule["ScheduleExpression"] == wanted:
            yield fine("schedule", said)
        else:
            mended = schedule | {"State": "ENABLED", "ScheduleExpression": wanted}
            is_other = "" if schedule["ScheduleExpression"] == wanted else f", and the stack's parameter is {wanted}"
            yield Finding("schedule", said + is_other, (_update_schedule(mended),))

    def of_last_run(self) -> Iterator[Finding]:
        """By the function's log, in which each run says what asked for it."""
        group = f"/aws/lambda/{self.stack.function}"
        pages = self._client("logs").get_paginator("filter_log_events")
        since = int((self.now - LONGEST_SILENCE).timestamp() * 1000)
        found = pages.paginate(logGroupName=group, filterPattern='"aws.scheduler"', startTime=since)
        instants = [event["timestamp"] for page in found for event in page["events"]]
        if instants:
            last = datetime.fromtimestamp(max(instants) / 1000, UTC)
            yield fine("last run", f"{days_and_hours(self.now - last)} ago")
            return
        schedule = self._client("scheduler").get_schedule(Name=self.stack.function)
        if self.now - schedule["CreationDate"] < timedelta(days=1):
            yield fine("last run", "none yet, the schedule is new")
            return
        why = aws_cli("logs", "tail", group, "--since", "2d")
        meanwhile = "if the schedule is fine and its role may invoke the function, this says more:"
        yield Finding("last run", "the schedule has not run it for a day", (meanwhile, why))

    def of_role(self) -> Iterator[Finding]:
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
        if denied:
            yield Finding("role", f"the function may not {', '.join(denied)}", _revert_drift(self.stack))
        else:
            yield fine("role", "allows what the function needs")

    def of_layer(self) -> Iterator[Finding]:
        name = f"/{self.stack.prefix}/reader-layer-arn"
        offered = self._client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
        made = next(iter(self.stack.made("AWS::Lambda::LayerVersion")), offered)
        used = [layer["Arn"] for layer in self.stack.configuration.get("Layers", ())]
        if offered == made and made in used:
            yield fine("layer", f"readers are given version {made.rpartition(':')[2]}, which the function uses as well")
        if offered != made:
            put = aws_cli("ssm", "put-parameter", "--name", name, "--value", made, "--overwrite")
            then = "then deploy the readers again"
            yield Finding("layer", f"readers are given {offered}, and the stack made {made}", (put, then))
        if made not in used:
            others = [arn for arn in used if arn.rpartition(":")[0] != made.rpartition(":")[0]]
            command = ("lambda", "update-function-configuration", "--function-name", self.stack.function)
            remedy = aws_cli(*command, "--layers", made, *others)
            yield Finding(
                "layer", f"the function uses {', '.join(used) or 'none'}, and the stack made {made}", (remedy,)
            )


def _revert_drift(stack: Stack) -> tuple[Remedy, ...]:
    """What makes anew what is gone, and puts right what was changed by hand: a drift-aware change set.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html
    """
    if not stack.name:
        return ("deploy the stack with a change set that reverts drift",)
    named = ("--stack-name", stack.name, "--change-set-name", "revert-drift")
    as_it_is = ("--use-previous-template", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
    parameters = [f"ParameterKey={key},UsePreviousValue=true" for key in stack.parameters]
    mode = ("--deployment-mode", "REVERT_DRIFT", "--parameters", *parameters)
    return (
        "CloudFormation puts back what somebody changed, with the rights of whoever deploys:",
        aws_cli("cloudformation", "create-change-set", *named, *as_it_is, *mode),
        aws_cli("cloudformation", "wait", "change-set-create-complete", *named),
        aws_cli("cloudformation", "execute-change-set", *named),
    )


def _update_schedule(schedule: Mapping[str, Any]) -> Run:
    """With everything that it has: what is left out would get its default."""
    kept = ("ScheduleExpressionTimezone", "Description", "StartDate", "EndDate", "KmsKeyArn", "ActionAfterCompletion")
    words = ["scheduler", "update-schedule"]
    for key in ("Name", "GroupName", "ScheduleExpression", *kept, "State", "FlexibleTimeWindow", "Target"):
        if (value := schedule.get(key)) is not None:
            option = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in key)
            text = value.isoformat() if isinstance(value, datetime) else value
            words += [f"-{option}", json.dumps(text) if isinstance(text, dict) else text]
    return aws_cli(*words)


def alarm_findings(stack: Stack) -> Iterator[Finding]:
    """Which are gone, which are muted, which ring, and whether somebody hears them."""
    pages = stack.aws.client("cloudwatch").get_paginator("describe_alarms")
    alarms = [
        alarm
        for page in pages.paginate(AlarmNamePrefix=f"{stack.function}-")
        for alarm in (*page.get("MetricAlarms", ()), *page.get("CompositeAlarms", ()))
    ]
    missing = sorted(set(stack.made("AWS::CloudWatch::Alarm")) - {alarm["AlarmName"] for alarm in alarms})
    muted = sorted(alarm["AlarmName"] for alarm in alarms if not alarm.get("ActionsEnabled", True))
    ringing = sorted(alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM")
    if missing or not alarms:
        yield Finding("alarms", f"missing: {', '.join(missing) or 'all'}", _revert_drift(stack))
    if muted:
        unmute = aws_cli("cloudwatch", "enable-alarm-actions", "--alarm-names", *muted)
        yield Finding("alarms", f"they tell nobody: {', '.join(muted)}", (unmute,))
    if ringing:
        page = "what each means and what ends it: docs/run-book.md"
        yield Finding("alarms", f"ringing: {', '.join(ringing)}", (page,))
    if alarms and not (missing or muted or ringing):
        yield fine("alarms", f"{len(alarms)}, none rings")
    topics = {action for alarm in alarms for action in alarm["AlarmActions"] if ":sns:" in action}
    if alarms and not topics:
        remedies = sam_deploy(stack.name, "--parameter-overrides", "AlarmEmail=you@example.org")
        yield Finding("topic", "alarms and notices reach nobody", ("with your address:", *remedies))
    for topic in sorted(topics):
        yield _topic_finding(stack, topic)


def _topic_finding(stack: Stack, topic: str) -> Finding:
    name = topic.rpartition(":")[2]
    pages = stack.aws.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    subscriptions = [subscription for page in pages for subscription in page["Subscriptions"]]
    pending = [found["Endpoint"] for found in subscriptions if not found["SubscriptionArn"].startswith("arn:")]
    if pending:
        what = f"{name}: not confirmed by {', '.join(pending)}"
        return Finding("topic", what, ("open the link in AWS's e-mail",))
    if subscriptions:
        plural = "" if len(subscriptions) == 1 else "s"
        return fine("topic", f"{name} has {len(subscriptions)} confirmed subscription{plural}")
    words = ("--topic-arn", topic, "--protocol", "email", "--notification-endpoint", "you@example.org")
    return Finding(
        "topic", f"nobody is subscribed to {name}", ("with your address:", aws_cli("sns", "subscribe", *words))
    )
