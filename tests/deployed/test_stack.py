"""The stack as deployed: what it makes, and the main job from end to end, which is the story of story.py.

What its roles and policies allow is in test_least_privilege.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from functools import partial
from typing import Any

import pytest

from tests.deployed.story import STEPS, Story
from tests.deployed.world import READER_STACK, STACK, StepFailed, World
from tests.facts import refusal

pytestmark = pytest.mark.deployed

BEGINNING, OWN_TOPIC = (
    "a person logs in, and a reader is accepted",
    "a notice reaches a person by the stack's own topic",
)


@pytest.fixture(scope="module", autouse=True)
def story(deployed_world: World) -> Story:
    """Begun before the other tests, which fill the minute until the schedule fires."""
    story = Story(deployed_world)
    STEPS[BEGINNING](story)
    return story


def refresher(world: World) -> Any:
    return world.client("lambda").get_function_configuration(FunctionName=world.function)


def test_a_policy_that_lets_readers_at_the_pair_is_seen(deployed_world: World) -> None:
    wide = dataclasses.replace(deployed_world, prefix="wide")
    allowed = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    policy = wide.client("iam").create_policy(PolicyName="wide", PolicyDocument=document)["Policy"]["Arn"]
    wide.client("ssm").put_parameter(Name="/wide/reader-policy-arn", Type="String", Value=policy)
    for kind in ("tokens", "bearer"):
        wide.client("secretsmanager").create_secret(Name=wide.secret(kind), SecretString="{}")

    with pytest.raises(StepFailed, match="success"):
        Story(wide).be_refused_the_pair()


def test_what_the_template_says_is_there(deployed_world: World) -> None:
    function, client = refresher(deployed_world), deployed_world.client
    schedule, outputs = client("scheduler").get_schedule(Name=STACK), deployed_world.outputs()
    repeated = client("lambda").get_function_event_invoke_config(FunctionName=STACK, Qualifier="$LATEST")
    (group,) = client("logs").describe_log_groups(logGroupNamePrefix=outputs["LogGroupName"])["logGroups"]

    assert (function["Timeout"], function["Architectures"]) == (300, ["arm64"])
    assert "ReservedConcurrentExecutions" not in client("lambda").get_function_concurrency(FunctionName=STACK)
    assert (repeated["MaximumRetryAttempts"], repeated["MaximumEventAgeInSeconds"]) == (2, 3600)
    assert function["LoggingConfig"]["LogGroup"] == group["logGroupName"]
    assert group["retentionInDays"] == 90
    assert schedule["State"] == "ENABLED"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}
    assert schedule["Target"]["Arn"] == function["FunctionArn"]
    assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 10, "MaximumEventAgeInSeconds": 3600}
    assert schedule["Target"]["DeadLetterConfig"]["Arn"].rpartition(":")[2] in outputs["FailedRunsQueueUrl"]
    client("iam").get_policy(PolicyArn=outputs["ReaderPolicyArn"])
    client("lambda").get_layer_version_by_arn(Arn=outputs["ReaderLayerArn"])
    for name, output in (("reader-layer-arn", "ReaderLayerArn"), ("reader-policy-arn", "ReaderPolicyArn")):
        assert client("ssm").get_parameter(Name=f"/virtuous/{name}")["Parameter"]["Value"] == outputs[output]


def test_what_is_deployed_is_small_and_carries_no_boto3(deployed_world: World) -> None:
    layer = deployed_world.client("lambda").get_layer_version_by_arn(Arn=deployed_world.outputs()["ReaderLayerArn"])
    built = deployed_world.built("refresher") / "TokenRefresher"

    assert refresher(deployed_world)["CodeSize"] <= 4_000_000
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


def test_deploying_again_changes_nothing(deployed_world: World) -> None:
    before = deployed_world.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]

    deployed_world.deploy()

    after = deployed_world.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    assert after.get("LastUpdatedTime") == before.get("LastUpdatedTime")
    assert "No changes to deploy" in (deployed_world.directory / "deploy-refresher.log").read_text()


@pytest.fixture
def third(deployed_world: World) -> World:
    """A stack with a topic and a key of its own, whose readers may read one connection."""
    third = dataclasses.replace(deployed_world, prefix="third", stack="another-third")
    parameters = {"AlarmEmail": "on-call@example.org", "ReaderConnection": "refused"}
    parameters["KmsKeyArn"] = third.client("kms").create_key()["KeyMetadata"]["Arn"]
    third.deploy_another("third", VirtuousBaseUrl=third.virtuous.base_url, **parameters)
    return third


def test_a_notice_arrives_and_a_deletion_leaves_the_connections_alone(third: World) -> None:
    STEPS[OWN_TOPIC](Story(third))

    refused, manager = {third.secret(kind, "refused") for kind in ("tokens", "bearer")}, third.client("secretsmanager")
    for connection in ("default", "refused-2"):
        manager.create_secret(Name=third.secret("bearer", connection), SecretString="{}")
    with third.reader_user() as environment:
        reader = third.client("secretsmanager", environment)
        listed = manager.list_secrets(Filters=[{"Key": "name", "Values": ["third/"]}])["SecretList"]
        names = {secret["Name"] for secret in listed}
        readable = {name for name in names if refusal(partial(reader.get_secret_value, SecretId=name)) == "success"}
    key = refresher(third)["Environment"]["Variables"]["KMS_KEY_ARN"]
    third.delete(third.stack)

    assert readable == {third.secret("bearer", "refused")}
    assert {manager.describe_secret(SecretId=name)["KmsKeyId"] for name in refused} == {key}
    functions = third.client("lambda").list_functions()["Functions"]
    assert not [found for found in functions if "third" in found["FunctionName"]]


@pytest.mark.parametrize("step", [name for name in STEPS if name not in (BEGINNING, OWN_TOPIC)])
def test_the_story_goes_on(story: Story, step: str) -> None:
    """That the schedule alone refreshes is what the demo shows: other tests of the same world ask for refreshes too."""
    STEPS[step](story)


def test_no_log_holds_a_secret(deployed_world: World, story: Story) -> None:
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
