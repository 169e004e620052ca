"""The stack as deployed: what it makes, and the main job from end to end, which is the story of story.py."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.deployed.story import STEPS, Story
from tests.deployed.world import READER_STACK, STACK, World

pytestmark = pytest.mark.deployed

BEGINNING = "a person logs in, and a reader is accepted"  # in conftest.py
OWN_TOPIC = "a notice reaches a person by the stack's own topic"  # of another stack: test_least_privilege.py


def test_its_parts_are_connected(deployed_world: World) -> None:
    client, outputs = deployed_world.client, deployed_world.outputs()
    function = client("lambda").get_function_configuration(FunctionName=STACK)
    schedule = client("scheduler").get_schedule(Name=STACK)

    assert "ReservedConcurrentExecutions" not in client("lambda").get_function_concurrency(FunctionName=STACK)
    assert function["LoggingConfig"]["LogGroup"] == outputs["LogGroupName"]
    assert schedule["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}
    assert schedule["Target"]["Arn"] == function["FunctionArn"]
    assert schedule["Target"]["DeadLetterConfig"]["Arn"].rpartition(":")[2] in outputs["FailedRunsQueueUrl"]
    for name, output in (("reader-layer-arn", "ReaderLayerArn"), ("reader-policy-arn", "ReaderPolicyArn")):
        assert client("ssm").get_parameter(Name=f"/virtuous/{name}")["Parameter"]["Value"] == outputs[output]


def test_what_is_deployed_is_small_and_carries_no_boto3(deployed_world: World) -> None:
    client = deployed_world.client("lambda")
    layer = client.get_layer_version_by_arn(Arn=deployed_world.outputs()["ReaderLayerArn"])
    built = deployed_world.built("refresher") / "TokenRefresher"

    assert client.get_function_configuration(FunctionName=STACK)["CodeSize"] <= 4_000_000
    assert layer["Content"]["CodeSize"] <= 60_000
    assert (built / "token_refresher").is_dir()
    assert not [found.name for found in built.iterdir() if re.match("boto|virtuous", found.name)]


def test_every_alarm_says_what_to_run_and_the_command_exists(deployed_world: World) -> None:
    alarms = deployed_world.client("cloudwatch").describe_alarms(AlarmNamePrefix=STACK)["MetricAlarms"]
    descriptions = [alarm["AlarmDescription"] for alarm in alarms]

    assert len(descriptions) == 5
    assert all(re.search("(aws|virtuous-token) ", description) for description in descriptions)
    for command in {
        tuple(shlex.split(found)[1:4]) for found in re.findall("virtuous-token [a-z0-9 -]+", f"{descriptions}")
    }:
        deployed_world.operate(*command, "--help")


@pytest.mark.parametrize("step", [name for name in STEPS if name not in (BEGINNING, OWN_TOPIC)])
def test_the_story_goes_on(story: Story, step: str) -> None:
    """That the schedule alone refreshes is what the demo shows: other tests of the same world ask for refreshes too."""
    STEPS[step](story)


def test_no_log_holds_a_secret(deployed_world: World) -> None:
    logs = deployed_world.client("logs").get_paginator("filter_log_events")
    said = "".join(
        event["message"]
        for function in (STACK, READER_STACK)
        for page in logs.paginate(logGroupName=f"/aws/lambda/{function}")
        for event in page["events"]
    )
    said += "".join(log.read_text(errors="replace") for log in deployed_world.directory.glob("*.log"))

    assert "connection checked" in said
    assert not [secret for secret in deployed_world.virtuous.secrets() if secret in said]
