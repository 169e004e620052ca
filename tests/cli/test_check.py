"""The doctor: every line is fine, or says what is wrong and what mends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.cli.operator import (
    ALARM,
    CONFIGURATION,
    CONFIRMED,
    LAYER,
    NAME,
    NOW,
    SCHEDULE,
    STACK,
    VARIABLES,
    Operator,
)
from tests.fakes import virtuous as step
from token_refresher import __version__
from token_refresher.refresh.model import REMOVED_TAG
from virtuous_token_cli.check import FIXED_VARIABLES, FUNCTION_NEEDS, PARAMETER_OF


@pytest.fixture
def healthy(operator: Operator) -> Operator:
    """Somebody has logged in, and everything is in order."""
    assert operator.logs_in().status == 0
    return operator


def refused(code: str) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 400}}


def test_a_deployment_in_good_order_is_fine_line_by_line(healthy: Operator) -> None:
    ended = healthy.runs("check")

    assert ended.status == 0, ended.out
    assert ended.out.splitlines() == [
        "Checking account 000000000000, Region us-east-1 (from AWS_REGION), stack with prefix virtuous",
        f"fine   stack: {NAME} is UPDATE_COMPLETE",
        f"fine   version: {__version__}",
        "fine   environment: the function has the stack's parameters",
        "fine   schedule: rate(6 hours), enabled",
        "fine   last run: 2 h ago",
        "fine   role: allows what the function needs",
        "fine   alarms: 1, none rings",
        "fine   topic: on-call has 1 confirmed subscription",
        "fine   layer: readers are given version 4, which the function uses as well",
        "fine   default: whoever's own policy allows it may read the pair; login --protect narrows that",
        "fine   default: token proved, readers are in step; Example Relief",
        "All is well.",
    ]


def test_a_schedule_that_is_new_need_not_have_fired(healthy: Operator) -> None:
    healthy.let_aws_answer("scheduler.GetSchedule", {**SCHEDULE, "CreationDate": NOW - timedelta(hours=1)})
    healthy.let_aws_answer("cloudwatch-logs.FilterLogEvents", {"events": []})
    ended = healthy.runs("check")
    assert "fine   last run: none yet, the schedule is new" in ended.out
    assert ended.status == 0


@pytest.mark.parametrize(
    ("operation", "answer", "said", "run"),
    [
        pytest.param(
            "cloudformation.DescribeStacks",
            {"Stacks": [STACK | {"StackStatus": "ROLLBACK_COMPLETE"}]},
            f"stack: {NAME} is ROLLBACK_COMPLETE",
            "describe-stack-events",
            id="a first deployment that failed",
        ),
        pytest.param(
            "scheduler.GetSchedule",
            {**SCHEDULE, "State": "DISABLED"},
            "schedule: rate(6 hours), disabled",
            f"aws scheduler update-schedule --name {NAME} --schedule-expression 'rate(6 hours)' --state ENABLED "
            """--flexible-time-window '{"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}' --target '{"Arn": """,
            id="the schedule switched off",
        ),
        pytest.param(
            "scheduler.GetSchedule",
            refused("ResourceNotFoundException"),
            "there is no schedule",
            "REVERT_DRIFT",
            id="no schedule",
        ),
        pytest.param(
            "cloudwatch-logs.FilterLogEvents",
            {"events": []},
            "last run: the schedule has not run it for a day",
            "aws logs tail",
            id="silence",
        ),
        pytest.param(
            "iam.SimulatePrincipalPolicy",
            {
                "EvaluationResults": [
                    {"EvalActionName": "secretsmanager:PutSecretValue", "EvalDecision": "implicitDeny"}
                ]
            },
            "the function may not secretsmanager:PutSecretValue on tokens",
            f"aws cloudformation create-change-set --stack-name {NAME} --change-set-name revert-drift",
            id="a role that was cut down",
        ),
        pytest.param(
            "cloudwatch.DescribeAlarms",
            {"MetricAlarms": [ALARM | {"StateValue": "ALARM"}]},
            f"ringing: {NAME}-errors",
            "run-book",
            id="an alarm that rings",
        ),
        pytest.param(
            "cloudwatch.DescribeAlarms",
            {"MetricAlarms": [ALARM | {"AlarmName": f"{NAME}-other"}]},
            f"missing: {NAME}-errors",
            "REVERT_DRIFT --parameters ParameterKey=Prefix,UsePreviousValue=true",
            id="an alarm deleted",
        ),
        pytest.param(
            "cloudwatch.DescribeAlarms",
            {"MetricAlarms": [ALARM | {"ActionsEnabled": False}]},
            f"they tell nobody: {NAME}-errors",
            f"aws cloudwatch enable-alarm-actions --alarm-names {NAME}-errors --region us-east-1",
            id="an alarm muted",
        ),
        pytest.param(
            "lambda.GetFunctionConfiguration",
            CONFIGURATION | {"Environment": {"Variables": VARIABLES | {"LOG_LEVEL": "DEBUG"}}},
            "LOG_LEVEL not as the stack's parameters say",
            f"aws lambda update-function-configuration --function-name {NAME} --environment",
            id="a variable of the function changed",
        ),
        pytest.param(
            "lambda.GetFunctionConfiguration",
            CONFIGURATION | {"Environment": {"Variables": VARIABLES | {"LOG_LEVEL": "DEBUG", "OURS": "hidden"}}},
            "LOG_LEVEL not as the stack's parameters say",
            "set LOG_LEVEL to 'INFO'",
            id="a variable of the function changed, beside one of a stranger",
        ),
        pytest.param(
            "lambda.GetFunctionConfiguration",
            CONFIGURATION | {"Layers": [{"Arn": LAYER.replace(":4", ":3")}]},
            f"the function uses {LAYER[:-1]}3, and the stack made {LAYER}",
            f"--layers {LAYER}",
            id="an old layer for the function",
        ),
        pytest.param(
            "cloudwatch.DescribeAlarms",
            {"MetricAlarms": [ALARM | {"AlarmActions": []}]},
            "reach nobody",
            "sam deploy",
            id="no topic",
        ),
        pytest.param(
            "sns.ListSubscriptionsByTopic",
            {"Subscriptions": []},
            "nobody is subscribed to on-call",
            "aws sns subscribe",
            id="a topic without subscribers",
        ),
        pytest.param(
            "sns.ListSubscriptionsByTopic",
            {"Subscriptions": [CONFIRMED, CONFIRMED | {"SubscriptionArn": "PendingConfirmation"}]},
            "on-call: not confirmed by us@example.org",
            "AWS's e-mail",
            id="an unconfirmed subscription",
        ),
        pytest.param(
            "ssm.GetParameter",
            {"Parameter": {"Value": LAYER.replace(":4", ":3")}},
            f"readers are given {LAYER[:-1]}3",
            f"aws ssm put-parameter --name /virtuous/reader-layer-arn --value {LAYER} --overwrite",
            id="an old layer for readers",
        ),
        pytest.param(
            "ssm.GetParameter",
            refused("AccessDeniedException"),
            "layer: could not be looked at: AWS denies GetParameter",
            "OperatorPolicyArn",
            id="what may not be looked at",
        ),
    ],
)
def test_what_is_wrong_is_a_line_with_the_command_that_mends_it(
    healthy: Operator, operation: str, answer: Any, said: str, run: str
) -> None:
    healthy.let_aws_answer(operation, answer)

    ended = healthy.runs("check")

    assert ended.status == 1
    wrong = ended.out.partition("WRONG")[2]
    assert said in wrong, ended.out
    assert run in wrong
    assert "hidden" not in ended.out
    assert ended.out.endswith("1 to mend.\n")


@pytest.mark.parametrize(
    ("happened", "said", "run"),
    [
        pytest.param(
            lambda operator: operator.deployment.virtuous.script_organization(*[step.denied()] * 2),
            "Virtuous refuses its access token",
            "virtuous-token refresh --connection default",
            id="the token refused",
        ),
        pytest.param(
            lambda operator: operator.deployment.virtuous.script_organization(*[step.bad_gateway()] * 2),
            "Virtuous does not take its token: unclear (HTTP 502)",
            "virtuous-token refresh --connection default",
            id="no clear answer about the token",
        ),
        pytest.param(
            lambda operator: operator.deployment.account.client.delete_secret(SecretId="virtuous/default/bearer"),
            "virtuous/default/bearer is marked for deletion",
            "virtuous-token remove --undo --connection default",
            id="a secret deleted in the console",
        ),
        pytest.param(
            lambda operator: operator.deployment.account.client.update_secret(
                SecretId="virtuous/default/tokens", KmsKeyId="alias/other"
            ),
            "virtuous/default/tokens is under another key than the stack's",
            "update-secret --secret-id virtuous/default/tokens --kms-key-id alias/aws/secretsmanager",
            id="another key",
        ),
        pytest.param(
            lambda operator: [
                operator.deployment.account.put("virtuous/default/tokens", "{}", f"L{number % 15}")
                for number in range(94)
            ],
            "virtuous/default/tokens has 95 versions of the last day",
            "refresh less often",
            id="no room for another version",
        ),
    ],
)
def test_what_is_wrong_with_a_connection_is_told(healthy: Operator, happened: Any, said: str, run: str) -> None:
    happened(healthy)

    ended = healthy.runs("check")

    assert ended.status == 1
    assert said in ended.out, ended.out
    assert run in ended.out


def test_what_is_compared_is_what_the_template_grants_and_sets() -> None:
    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Reads CloudFormation's short forms as their argument."""

    Loader.add_multi_constructor("!", lambda loader, _, node: getattr(loader, f"construct_{node.id}")(node))
    template = yaml.load((Path(__file__).parents[2] / "template.yaml").read_text(), Loader)
    (policy,) = template["Resources"]["TokenRefresherRole"]["Properties"]["Policies"]
    statements = {found["Sid"]: found for found in policy["PolicyDocument"]["Statement"] if "Sid" in found}
    granted = [statements[sid]["Action"] for sid in ("KeepPairs", "PublishBearers", "SendNotices")]
    variables = template["Resources"]["TokenRefresher"]["Properties"]["Environment"]["Variables"]

    assert [actions[0] if len(actions) == 1 else list(actions) for actions in FUNCTION_NEEDS.values()] == granted
    assert set(variables) == {*PARAMETER_OF, *FIXED_VARIABLES}
    assert set(PARAMETER_OF.values()) <= set(template["Parameters"])


def test_a_removed_connection_is_minded_no_more_and_can_be_taken_back(healthy: Operator) -> None:
    client = healthy.deployment.account.client
    removed = healthy.runs("remove", "--yes", "--recovery-days", "7")

    assert removed.status == 0
    until = datetime.now(UTC) + timedelta(days=7)
    assert removed.out.splitlines() == [
        f"virtuous/default/tokens: AWS deletes it on {until:%Y-%m-%d}.",
        f"virtuous/default/bearer: AWS deletes it on {until:%Y-%m-%d}.",
        "Undo until then: virtuous-token remove --undo --connection default",
    ]
    described = client.describe_secret(SecretId="virtuous/default/tokens")
    assert REMOVED_TAG in {tag["Key"] for tag in described["Tags"]}

    assert healthy.runs("remove", "--yes").status == 1, "it was removed already"
    assert healthy.runs("remove", "--undo").status == 0
    assert healthy.runs("status").status == 0
    assert healthy.runs("remove", "--undo").status == 1, "nothing is marked any more"


def test_without_a_yes_nothing_is_removed(healthy: Operator) -> None:
    person = healthy.person(agrees=False)

    ended = healthy.runs_at_a_terminal("remove", person=person)

    assert ended.status == 1
    assert "readers lose the token" in person.questions[0]
    assert "Nothing was changed." in ended.err
    assert healthy.runs("status").status == 0
