"""What ``virtuous-token check`` prints mends what it is printed for: broken as a person would, run as it stands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore import xform_name

from tests.deployed import aws_command
from tests.deployed.people import Person
from tests.deployed.world import STACK, World

pytestmark = [pytest.mark.deployed, pytest.mark.campaign, pytest.mark.xdist_group("world")]

PAIR, BEARER = "virtuous/default/tokens", "virtuous/default/bearer"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:x:1"
Break = Callable[[World], object]
Restore = Callable[[], object]


def change_schedule(world: World) -> None:
    client = world.client("scheduler")
    schedule = of_the_input(client, "update_schedule", client.get_schedule(Name=STACK))
    client.update_schedule(**schedule | {"State": "DISABLED", "ScheduleExpression": "rate(1 hour)"})


def of_the_input(client: Any, operation: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """What *operation* takes of what AWS tells."""
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation])
    return {key: value for key, value in described.items() if key in model.input_shape.members}


def break_a_variable(world: World) -> None:
    client = world.client("lambda")
    variables = client.get_function_configuration(FunctionName=STACK)["Environment"]["Variables"]
    client.update_function_configuration(
        FunctionName=STACK, Environment={"Variables": variables | {"SECRET_PREFIX": "!"}}
    )


def with_client(service: str, operation: str, **asked: Any) -> Break:
    return lambda world: getattr(world.client(service), operation)(**asked)


def shut_the_function_out(world: World) -> None:
    """As a login --protect of another stack's leaves it; the administrator of the local AWS is the root user."""
    condition = {"ArnNotLike": {"aws:PrincipalArn": ["arn:aws:iam::000000000000:root"]}}
    statement: dict[str, Any] = {"Sid": "OnlyTheFunctionAndWhoIsNamed", "Effect": "Deny", "Principal": "*"}
    statement |= {"Action": "secretsmanager:GetSecretValue", "Resource": "*", "Condition": condition}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    world.client("secretsmanager").put_resource_policy(SecretId=PAIR, ResourcePolicy=policy)


def move_to_another_key(world: World) -> None:
    key = world.client("kms").create_key()["KeyMetadata"]["Arn"]
    world.client("secretsmanager").update_secret(SecretId=BEARER, KmsKeyId=key)


MENDED: dict[str, tuple[Break, str]] = {
    "schedule disabled and made slower": (
        change_schedule,
        "schedule: rate(1 hour), disabled, and the stack's parameter is rate(1 minute)",
    ),
    "variable changed so that the function fails": (break_a_variable, "environment: SECRET_PREFIX not as"),
    "alarm muted": (
        with_client("cloudwatch", "disable_alarm_actions", AlarmNames=[f"{STACK}-no-sweep"]),
        f"alarms: they tell nobody: {STACK}-no-sweep",
    ),
    "readers given another layer": (
        with_client("ssm", "put_parameter", Name="/virtuous/reader-layer-arn", Value=LAYER, Overwrite=True),
        f"layer: readers are given {LAYER}",
    ),
    "layer taken off the function": (
        with_client("lambda", "update_function_configuration", FunctionName=STACK, Layers=[]),
        "layer: the function uses none",
    ),
    "function stopped by reserved concurrency": (
        with_client("lambda", "put_function_concurrency", FunctionName=STACK, ReservedConcurrentExecutions=0),
        "function: ",
    ),
    "pair marked for deletion": (
        with_client("secretsmanager", "delete_secret", SecretId=PAIR, RecoveryWindowInDays=7),
        f"default: {PAIR} is marked for deletion",
    ),
    "bearer deleted for good": (
        with_client("secretsmanager", "delete_secret", SecretId=BEARER, ForceDeleteWithoutRecovery=True),
        f"default: {BEARER} does not exist",
    ),
    "another key": (move_to_another_key, f"default: {BEARER} is under another key than the stack's"),
    "function shut out of the pair": (shut_the_function_out, f"{PAIR} is for"),
}


@pytest.mark.parametrize(("break_it", "said"), MENDED.values(), ids=MENDED)
def test_what_is_printed_mends_it(deployed_world: World, break_it: Break, said: str) -> None:
    person = Person(deployed_world, {})
    break_it(deployed_world)
    for command in remedies(check(person), said):
        run(deployed_world, person, command)
    mended = check(person)
    assert not [line for line in mended if said in line], mended


def cut_the_role_down(world: World) -> Restore:
    """The function may do all that it could, but for events:PutEvents."""
    iam, role = world.client("iam"), world.client("lambda").get_function_configuration(FunctionName=STACK)["Role"]
    named = {"RoleName": role.rpartition("/")[2], "PolicyName": "refresh"}
    document = iam.get_role_policy(**named)["PolicyDocument"]
    kept = [found for found in document["Statement"] if found["Sid"] != "SendNotices"]
    iam.put_role_policy(**named, PolicyDocument=json.dumps(document | {"Statement": kept}))
    return lambda: iam.put_role_policy(**named, PolicyDocument=json.dumps(document))


def delete_an_alarm(world: World) -> Restore:
    client = world.client("cloudwatch")
    (alarm,) = client.describe_alarms(AlarmNames=[f"{STACK}-token-ends"])["MetricAlarms"]
    client.delete_alarms(AlarmNames=[alarm["AlarmName"]])
    return lambda: client.put_metric_alarm(**of_the_input(client, "put_metric_alarm", alarm))


def delete_the_schedule(world: World) -> Restore:
    client = world.client("scheduler")
    schedule = client.get_schedule(Name=STACK)
    client.delete_schedule(Name=STACK)
    return lambda: client.create_schedule(**of_the_input(client, "create_schedule", schedule))


DRIFT: dict[str, tuple[Callable[[World], Restore], str]] = {
    "an alarm deleted": (delete_an_alarm, f"alarms: missing: {STACK}-token-ends"),
    "a permission taken from the function": (cut_the_role_down, "role: the function may not events:PutEvents on"),
    "the schedule deleted": (delete_the_schedule, f"there is no schedule {STACK}"),
}


@pytest.mark.parametrize(("break_it", "said"), DRIFT.values(), ids=DRIFT)
def test_drift_is_reverted_by_commands_that_aws_takes(
    deployed_world: World, break_it: Callable[[World], Restore], said: str
) -> None:
    """What no single command makes anew. The local AWS knows no such change set: that it mends is AWS's word."""
    person, restore = Person(deployed_world, {}), break_it(deployed_world)
    try:
        printed = remedies(check(person), said)
    finally:
        restore()

    assert not [line for line in check(person) if said in line], "the world is as it was"
    assert [shlex.split(command)[2] for command in printed] == ["create-change-set", "wait", "execute-change-set"]
    model = deployed_world.client("cloudformation").meta.service_model
    for command in (printed[0], printed[2]):
        operation = "".join(part.capitalize() for part in shlex.split(command)[2].split("-"))
        options = {word.removeprefix("--") for word in shlex.split(command) if word.startswith("--")} - {"region"}
        known = model.operation_model(operation).input_shape.members
        assert options <= {xform_name(member, "-") for member in known}
    assert model.shape_for("DeploymentMode").enum == ["REVERT_DRIFT"]


def check(person: Person) -> list[str]:
    """The lines of a check; what belongs to a line that is wrong is indented."""
    return person.runs_here("check").out.splitlines()


def remedies(lines: list[str], said: str) -> list[str]:
    """The commands below the line that says so."""
    (start,) = [number for number, line in enumerate(lines) if line.startswith("WRONG") and said in line]
    below = lines[start + 1 :]
    end = next((number for number, line in enumerate(below) if not line.startswith(" ")), len(below))
    commands = [line.partition("run: ")[2] for line in below[:end] if "run: " in line]
    assert commands, lines
    return commands


def run(world: World, person: Person, command: str) -> Any:
    """As a person does who copies the line into a shell."""
    program, service, *_ = shlex.split(command)
    if program == "virtuous-token":
        piped = f"{world.virtuous.user}\n{world.virtuous.password}\n"
        return person.runs_here(*shlex.split(command)[1:], piped=piped if service == "login" else "")
    assert command.endswith(" --region us-east-1"), command
    return aws_command.run(command.removesuffix(" --region us-east-1"), world.client(service), world.directory)
