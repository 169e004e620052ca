"""What ``virtuous-token check`` prints mends what it is printed for: broken as a person would, run as it stands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from tests.deployed import aws_command
from tests.deployed.people import Person
from tests.deployed.world import STACK, World

pytestmark = [pytest.mark.deployed, pytest.mark.campaign, pytest.mark.xdist_group("world")]

PAIR, BEARER = "virtuous/default/tokens", "virtuous/default/bearer"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:x:1"
Break = Callable[[World], object]


def change_schedule(world: World) -> None:
    client = world.client("scheduler")
    described = client.get_schedule(Name=STACK)
    kept = {key: described[key] for key in ("Name", "FlexibleTimeWindow", "Target")}
    client.update_schedule(**kept, State="DISABLED", ScheduleExpression="rate(1 hour)")


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
