"""The doctor: every line is fine, or says what is wrong and what mends it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml  # type: ignore[import-untyped]
from botocore import xform_name

from tests.cli.operator import ALARM, CONFIGURATION, CONFIRMED, LAYER, NAME, NOW, SCHEDULE, STACK, VARIABLES, Operator
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
        "fine   environment: the function has the stack's parameters; Virtuous is https://api.example.org",
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


def variables(**changes: str) -> dict[str, Any]:
    return CONFIGURATION | {"Environment": {"Variables": VARIABLES | changes}}


def alarms(**changes: Any) -> dict[str, Any]:
    return {"MetricAlarms": [ALARM | changes]}


DENIED = {"EvaluationResults": [{"EvalActionName": "events:PutEvents", "EvalDecision": "implicitDeny"}]}
ALARMS, FUNCTION = "cloudwatch.DescribeAlarms", "lambda.GetFunctionConfiguration"
OLD_LAYER = LAYER.replace(":4", ":3")
KEY = "arn:aws:kms:us-east-1:000000000000:key/0a1b"
UPDATE_SCHEDULE = (
    f"aws scheduler update-schedule --name {NAME} --schedule-expression 'rate(6 hours)' --state ENABLED "
    """--flexible-time-window '{"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}' --target '{"Arn": """
)
REVERT = f"aws cloudformation create-change-set --stack-name {NAME} --change-set-name revert-drift"
SET_VARIABLES = f"aws lambda update-function-configuration --function-name {NAME} --environment"
NOT_AS_SET = "LOG_LEVEL not as the stack's parameters say"
# What AWS answers, what is said of it, and the remedy.
OF_THE_STACK: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a deployment that failed": (
        "cloudformation.DescribeStacks",
        {"Stacks": [STACK | {"StackStatus": "ROLLBACK_COMPLETE"}]},
        f"stack: {NAME} is ROLLBACK_COMPLETE",
        "describe-stack-events",
    ),
    "the schedule disabled": ("scheduler.GetSchedule", SCHEDULE | {"State": "DISABLED"}, "disabled", UPDATE_SCHEDULE),
    "no schedule": ("scheduler.GetSchedule", refused("ResourceNotFoundException"), "no schedule", "REVERT_DRIFT"),
    "silence": ("cloudwatch-logs.FilterLogEvents", {"events": []}, "has not run it for a day", "aws logs tail"),
    "a role cut down": ("iam.SimulatePrincipalPolicy", DENIED, "events:PutEvents on event-bus/default", REVERT),
    "an alarm that rings": (ALARMS, alarms(StateValue="ALARM"), f"ringing: {NAME}-errors", "run-book"),
    "an alarm deleted": (ALARMS, alarms(AlarmName="o"), f"missing: {NAME}-errors", "UsePreviousValue"),
    "an alarm muted": (
        ALARMS,
        alarms(ActionsEnabled=False),
        f"they tell nobody: {NAME}-errors",
        f"aws cloudwatch enable-alarm-actions --alarm-names {NAME}-errors --region us-east-1",
    ),
    "a variable changed": (FUNCTION, variables(LOG_LEVEL="DEBUG"), NOT_AS_SET, SET_VARIABLES),
    "a variable changed beside a stranger's": (
        FUNCTION,
        variables(LOG_LEVEL="DEBUG", OURS="hidden"),
        NOT_AS_SET,
        "set LOG_LEVEL to 'INFO'",
    ),
    "an old layer for the function": (
        FUNCTION,
        CONFIGURATION | {"Layers": [{"Arn": OLD_LAYER}]},
        f"the function uses {OLD_LAYER}, and the stack made {LAYER}",
        f"--layers {LAYER}",
    ),
    "an old layer for readers": (
        "ssm.GetParameter",
        {"Parameter": {"Value": OLD_LAYER}},
        f"readers are given {OLD_LAYER}",
        f"aws ssm put-parameter --name /virtuous/reader-layer-arn --value {LAYER} --overwrite",
    ),
    "no topic": (ALARMS, alarms(AlarmActions=[]), "reach nobody", "sam deploy"),
    "nobody subscribed": ("sns.ListSubscriptionsByTopic", {"Subscriptions": []}, "nobody", "aws sns subscribe"),
    "an unconfirmed subscription": (
        "sns.ListSubscriptionsByTopic",
        {"Subscriptions": [CONFIRMED, CONFIRMED | {"SubscriptionArn": "PendingConfirmation"}]},
        "on-call: not confirmed by us@example.org",
        "AWS's e-mail",
    ),
    "what may not be looked at": (
        "ssm.GetParameter",
        refused("AccessDeniedException"),
        "layer: could not be looked at: AWS denies GetParameter",
        "OperatorPolicyArn",
    ),
}


@pytest.mark.parametrize(
    ("state", "said", "runs"),
    [
        ("Enabled", "fine   key: 0a1b is Enabled", []),
        ("Disabled", "key: 0a1b is Disabled", ["enable-key"]),
        ("PendingDeletion", "key: 0a1b is PendingDeletion", ["cancel-key-deletion", "enable-key"]),
        (None, "key: 0a1b is gone", ["KmsKeyArn=ANOTHER"]),
    ],
)
def test_the_state_of_the_stacks_key_is_told(healthy: Operator, state: str | None, said: str, runs: list[str]) -> None:
    parameters = [*STACK["Parameters"], {"ParameterKey": "KmsKeyArn", "ParameterValue": KEY}]
    healthy.let_aws_answer("cloudformation.DescribeStacks", {"Stacks": [STACK | {"Parameters": parameters}]})
    answer = {"KeyMetadata": {"KeyState": state}} if state else refused("NotFoundException")
    healthy.let_aws_answer("kms.DescribeKey", answer)
    told = healthy.runs("check").out.partition(said)[2]
    assert told
    positions = [told.find(run) for run in runs]
    assert -1 not in positions
    assert positions == sorted(positions)


def ends_under_another_key(operator: Operator) -> None:
    """As after the secret got another key: AWS encrypts anew what is current, and not the journal's end."""
    strict = operator.account.strict
    listed = strict._list_secret_version_ids

    def with_keys(params: Any) -> Any:
        answer = listed(params)
        return answer | {"Versions": [version | {"KmsKeyIds": [KEY]} for version in answer["Versions"]]}

    strict._list_secret_version_ids = with_keys  # type: ignore[method-assign]


def lose_that_key(operator: Operator) -> None:
    ends_under_another_key(operator)
    operator.account.strict.refuse_kms("virtuous/default/tokens", "kms:Decrypt")


MODELS = botocore.session.get_session()
PAIR, REFRESH = "virtuous/default/tokens", "virtuous-token refresh --connection default"
OTHER_END = f"the journal in {PAIR} ends under another key, {KEY}, "
# What happened, what is said of it, and the remedy.
OF_A_CONNECTION: dict[str, tuple[Callable[[Operator], object], str, str]] = {
    "the token refused": (
        lambda operator: operator.virtuous.script_organization(step.denied()),
        "Virtuous refuses its access token",
        REFRESH,
    ),
    "no clear answer about the token": (
        lambda operator: operator.virtuous.script_organization(step.bad_gateway()),
        "Virtuous does not take its token: unclear (HTTP 502)",
        REFRESH,
    ),
    "a secret deleted in the console": (
        lambda operator: operator.account.client.delete_secret(SecretId="virtuous/default/bearer"),
        "virtuous/default/bearer is marked for deletion",
        "virtuous-token remove --undo --connection default",
    ),
    "another key": (
        lambda operator: operator.account.client.update_secret(SecretId=PAIR, KmsKeyId="alias/other"),
        f"{PAIR} is under another key than the stack's",
        f"update-secret --secret-id {PAIR} --kms-key-id alias/aws/secretsmanager",
    ),
    "a journal that ends under another key": (
        ends_under_another_key,
        f"{OTHER_END}which is needed until the next refresh",
        REFRESH,
    ),
    "a journal that ends under a lost key": (
        lose_that_key,
        f"{OTHER_END}and may be unreadable",
        f"aws kms enable-key --key-id {KEY} --region us-east-1",
    ),
    "no room for another version": (
        lambda operator: [operator.account.put(PAIR, "{}", f"L{number % 15}") for number in range(94)],
        f"{PAIR} has 95 versions of the last day",
        "refresh less often",
    ),
}


WRONG: dict[str, tuple[Callable[[Operator], object], str, str]] = OF_A_CONNECTION | {
    name: (partial(Operator.let_aws_answer, operation=operation, answer=answer), said, run)
    for name, (operation, answer, said, run) in OF_THE_STACK.items()
}


@pytest.mark.parametrize(("happened", "said", "run"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_a_line_with_the_command_that_mends_it(
    healthy: Operator, happened: Callable[[Operator], object], said: str, run: str
) -> None:
    happened(healthy)
    ended = healthy.runs("check")
    assert (ended.status, "hidden" in ended.out) == (1, False)
    wrong = ended.out.partition("WRONG")[2]
    assert said in wrong, ended.out
    assert run in wrong
    aws_takes_what_is_printed(wrong)


def aws_takes_what_is_printed(said: str) -> None:
    """Every operation and every option is one of the service's, by botocore's model of it."""
    for command in re.findall("run: aws (.*)", said):
        service, operation, *words = shlex.split(command)
        if operation in ("tail", "wait"):  # the AWS CLI's own
            continue
        model: Any = MODELS.get_service_model(service)
        (name,) = [name for name in model.operation_names if xform_name(name, "-") == operation]
        taken = {xform_name(member, "-") for member in model.operation_model(name).input_shape.members}
        options = {word.removeprefix("--") for word in words if word.startswith("--")}
        assert options <= taken | {"region", "notification-endpoint"}, (
            command
        )  # the latter is the CLI's word for SNS's Endpoint


def test_what_is_compared_is_what_the_template_grants_and_sets() -> None:
    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Reads CloudFormation's short forms as their argument."""

    Loader.add_multi_constructor("!", lambda loader, _, node: getattr(loader, f"construct_{node.id}")(node))
    template = yaml.load((Path(__file__).parents[2] / "template.yaml").read_text(), Loader)
    (policy,) = template["Resources"]["TokenRefresherRole"]["Properties"]["Policies"]
    statements = {found["Sid"]: found for found in policy["PolicyDocument"]["Statement"] if "Sid" in found}
    granted = [statements[sid]["Action"] for sid in ("KeepPairs", "PublishBearers", "SendNotices")]
    variables = template["Resources"]["TokenRefresher"]["Properties"]["Environment"]["Variables"]

    needed = [
        [f"{resource.partition(':')[0]}:{action}" for action in actions.split()]
        for resource, actions in FUNCTION_NEEDS.items()
    ]
    assert needed == [[found] if isinstance(found, str) else found for found in granted]
    assert set(variables) == {*PARAMETER_OF, *FIXED_VARIABLES}
    assert set(PARAMETER_OF.values()) <= set(template["Parameters"])


def test_a_removed_connection_is_minded_no_more_and_can_be_taken_back(healthy: Operator) -> None:
    person = healthy.person(agrees=False)
    stopped = healthy.runs_at_a_terminal("remove", person=person)
    assert (stopped.status, "Nothing was changed." in stopped.err) == (1, True)
    assert "readers lose the token" in person.questions[0]
    assert healthy.runs("status").status == 0

    removed = healthy.runs("remove", "--yes", "--recovery-days", "7")

    assert removed.status == 0
    until = datetime.now(UTC) + timedelta(days=7)
    assert removed.out.splitlines() == [
        f"virtuous/default/tokens: AWS deletes it on {until:%Y-%m-%d}.",
        f"virtuous/default/bearer: AWS deletes it on {until:%Y-%m-%d}.",
        "Undo until then: virtuous-token remove --undo --connection default",
    ]
    described = healthy.account.client.describe_secret(SecretId=PAIR)
    assert REMOVED_TAG in {tag["Key"] for tag in described["Tags"]}

    assert healthy.runs("remove", "--yes").status == 1, "it was removed already"
    assert healthy.runs("remove", "--undo").status == 0
    assert healthy.runs("status").status == 0
    assert healthy.runs("remove", "--undo").status == 1, "nothing is marked any more"
