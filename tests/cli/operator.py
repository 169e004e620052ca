"""Somebody who runs the command against one deployment, in this process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest

from tests.leak_harness import LeakHarness
from tests.support import Deployment, answered, deployed
from virtuous_token_cli import aws, connection_secrets, login, main, obtain

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


@dataclass(slots=True)
class CommandResult:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """The JSON document that standard output holds."""
        return json.loads(self.out)


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
    harness: LeakHarness
    stacks: list[str] = field(default_factory=lambda: ["virtuous"])
    aws_answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def core(self) -> Any:
        """botocore's part of the deployment's session."""
        return self.deployment.session._session

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
        virtuous = self.deployment.virtuous
        piped = f"{virtuous.user}\n{virtuous.password}\n{code}"
        return self.runs("login", "--connection", connection, *arguments, piped=piped)

    def person(self, *more: str, agrees: bool = True) -> Scripted:
        """Somebody who knows e-mail and password."""
        return Scripted([self.deployment.virtuous.user, self.deployment.virtuous.password, *more], agrees)

    def _runs(self, arguments: tuple[str, ...]) -> CommandResult:
        self.capsys.readouterr()
        with self.deployment.hearing_libraries(), patch.object(aws, "make_session", lambda *_: self.core):
            status = main.main(arguments)
        return CommandResult(status, *self.capsys.readouterr())

    def answer_what_everybody_may_ask(self) -> None:
        """Which functions carry our tag, and whose credentials these are."""

        def functions() -> Mapping[str, Any]:
            return {
                "ResourceTagMappingList": [
                    {
                        "ResourceARN": f"arn:aws:lambda:us-east-1:000000000000:function:{prefix}-token-refresher",
                        "Tags": [{"Key": "virtuous-token:prefix", "Value": prefix}, *TAGS[1:]],
                    }
                    for prefix in self.stacks
                ]
            }

        events: Any = self.deployment.session.events
        answered(events, "resource-groups-tagging-api.GetResources", functions)
        for operation, answer in HEALTHY.items():
            self.let_aws_answer(operation, answer)

    def let_aws_answer(self, operation: str, answer: Mapping[str, Any]) -> None:
        """From here on; the last one given for an operation counts."""
        if operation not in self.aws_answers:
            answered(self.deployment.session.events, operation, lambda: self.aws_answers[operation])
        self.aws_answers[operation] = answer


@contextmanager
def operator_of(
    harness: LeakHarness, capsys: pytest.CaptureFixture[str], *connections: str, **options: Any
) -> Iterator[Operator]:
    """An operator of a deployment with these *connections*; without any, nobody has logged in yet."""
    with deployed(harness, *connections, empty=not connections, **options) as deployment:
        operator = Operator(deployment, capsys, harness)
        operator.answer_what_everybody_may_ask()
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("AWS_REGION", "us-east-1")
            monkeypatch.setattr(obtain, "BETWEEN_PROOFS", (0, 0))
            yield operator
