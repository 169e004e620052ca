"""Somebody who runs the command against one deployment, in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from tests.fakes.virtuous import Virtuous
from tests.support import Account, Deployment, answered
from virtuous_token_cli import aws, connection_secrets, login, main

CALLER = "arn:aws:sts::000000000000:assumed-role/keepers/somebody"
ROLE = "arn:aws:iam::000000000000:role/virtuous-token-refresher-TokenRefresherRole-1A2B3C4D5E6F"
TAGS = [
    {"Key": "virtuous-token:prefix", "Value": "virtuous"},
    {"Key": "cost-centre", "Value": "fundraising"},
    {"Key": "aws:cloudformation:stack-name", "Value": "virtuous-token-refresher"},
    {"Key": "lambda:createdBy", "Value": "SAM"},
]

NAME = "virtuous-token-refresher"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:virtuous-token-reader:4"
TOPIC = "arn:aws:sns:us-east-1:000000000000:on-call"
NOW = datetime.now(UTC)
CONFIRMED = {"SubscriptionArn": f"{TOPIC}:1", "Endpoint": "us@example.org"}
ALARM = {"AlarmName": f"{NAME}-errors", "StateValue": "OK", "AlarmActions": [TOPIC]}
SCHEDULE = {
    "Name": NAME,
    "State": "ENABLED",
    "ScheduleExpression": "rate(6 hours)",
    "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10},
    "Target": {"Arn": "arn:aws:lambda:us-east-1:000000000000:function:f", "Input": '{"source": "aws.scheduler"}'},
    "CreationDate": NOW - timedelta(days=9),
}
PARAMETERS = {"Prefix": "virtuous", "Schedule": "rate(6 hours)", "HttpsProxy": "", "LogLevel": "INFO"}
PARAMETERS |= {"VirtuousBaseUrl": "https://api.example.org"}
VARIABLES = {"SECRET_PREFIX": "virtuous", "SCHEDULE_EXPRESSION": "rate(6 hours)", "LOG_LEVEL": "INFO"}
VARIABLES |= {"VIRTUOUS_BASE_URL": "https://api.example.org"}
STACK: dict[str, Any] = {
    "StackStatus": "UPDATE_COMPLETE",
    "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in PARAMETERS.items()],
}
MADE = [
    {"ResourceType": "AWS::CloudWatch::Alarm", "PhysicalResourceId": f"{NAME}-errors"},
    {"ResourceType": "AWS::Lambda::LayerVersion", "PhysicalResourceId": LAYER},
]
CONFIGURATION = {"Role": ROLE, "Layers": [{"Arn": LAYER}], "Environment": {"Variables": VARIABLES}}

# What a deployment in good order answers.
HEALTHY: dict[str, Mapping[str, Any]] = {
    "cloudformation.DescribeStacks": {"Stacks": [STACK]},
    "cloudformation.DescribeStackResources": {"StackResources": MADE},
    "scheduler.GetSchedule": SCHEDULE,
    "cloudwatch-logs.FilterLogEvents": {"events": [{"timestamp": (NOW - timedelta(hours=2)).timestamp() * 1000}]},
    "lambda.GetFunctionConfiguration": CONFIGURATION,
    "sts.GetCallerIdentity": {"Account": "000000000000", "Arn": CALLER},
    "iam.SimulatePrincipalPolicy": {"EvaluationResults": []},
    "cloudwatch.DescribeAlarms": {"MetricAlarms": [ALARM]},
    "sns.ListSubscriptionsByTopic": {"Subscriptions": [CONFIRMED]},
    "ssm.GetParameter": {"Parameter": {"Value": LAYER}},
    "kms.DescribeKey": {"KeyMetadata": {"KeyState": "Enabled"}},
}


class CommandResult(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass(slots=True)
class Scripted:
    """A person at a terminal: says what each prompt is answered with, and remembers the questions."""

    lines: list[str]
    agrees: bool = True
    questions: list[str] = field(default_factory=list)

    def ask(self, what: str) -> str:
        return self.lines.pop(0)

    ask_hidden = ask

    def confirm(self, question: str) -> bool:
        self.questions.append(question)
        return self.agrees


@dataclass(slots=True)
class Operator:
    """Runs the command as a console script would, with an account in place of AWS."""

    deployment: Deployment
    capsys: pytest.CaptureFixture[str]
    stacks: list[str] = field(default_factory=lambda: ["virtuous"])
    aws_answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        answered(self.deployment.session.events, "resource-groups-tagging-api.GetResources", self._functions)
        for operation, answer in HEALTHY.items():
            self.let_aws_answer(operation, answer)

    @property
    def account(self) -> Account:
        return self.deployment.account

    @property
    def virtuous(self) -> Virtuous:
        return self.deployment.virtuous

    def runs(self, *arguments: str, piped: str | bytes = "") -> CommandResult:
        """With *piped* as standard input, which is no terminal."""
        data = piped if isinstance(piped, bytes) else piped.encode()
        with patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data))):
            return self._runs(arguments)

    def runs_at_a_terminal(self, *arguments: str, person: Scripted) -> CommandResult:
        asked = lambda *_: person  # noqa: E731
        with patch.object(login, "open_answers", asked), patch.object(connection_secrets, "open_answers", asked):
            return self._runs(arguments)

    def logs_in(self, *arguments: str, connection: str = "default", code: str = "") -> CommandResult:
        """With the right e-mail and password from standard input."""
        piped = f"{self.virtuous.user}\n{self.virtuous.password}\n{code}"
        return self.runs("login", "--connection", connection, *arguments, piped=piped)

    def person(self, *, agrees: bool = True) -> Scripted:
        """Somebody who knows e-mail and password."""
        return Scripted([self.virtuous.user, self.virtuous.password], agrees)

    def let_aws_answer(self, operation: str, answer: Mapping[str, Any]) -> None:
        """From here on; the last one given for an operation counts."""
        if operation not in self.aws_answers:
            answered(self.deployment.session.events, operation, lambda _: self.aws_answers[operation])
        self.aws_answers[operation] = answer

    def _runs(self, arguments: tuple[str, ...]) -> CommandResult:
        self.capsys.readouterr()
        core: Any = self.deployment.session._session
        with self.deployment.hearing_libraries(), patch.object(aws, "make_session", lambda *_: core):
            status = main.main(arguments)
        return CommandResult(status, *self.capsys.readouterr())

    def _functions(self, _: object) -> Mapping[str, Any]:
        """Those that carry our tag."""
        arn = "arn:aws:lambda:us-east-1:000000000000:function:{}-token-refresher"
        tags = [[{"Key": "virtuous-token:prefix", "Value": prefix}, *TAGS[1:]] for prefix in self.stacks]
        functions = zip(self.stacks, tags, strict=True)
        return {
            "ResourceTagMappingList": [{"ResourceARN": arn.format(name), "Tags": found} for name, found in functions]
        }
