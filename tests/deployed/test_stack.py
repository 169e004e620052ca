"""The stack as deployed: what it makes, and the main job from end to end, which is the story of story.py.

What its roles and policies allow is in test_least_privilege.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from typing import Any

import pytest

from tests.deployed.story import STEPS, Story
from tests.deployed.world import READER_STACK, STACK, StepFailed, World

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
    return world.client("lambda").get_function_configuration(FunctionName=STACK)


@pytest.mark.parametrize(
    ("connection", "readable"),
    [
        pytest.param("", {"third/acme/bearer", "third/default/bearer"}, id="every connection of the prefix"),
        pytest.param("acme", {"third/acme/bearer"}, id="one connection"),
    ],
)
def test_the_reader_policy_covers_what_its_parameter_says(
    deployed_world: World, connection: str, readable: set[str]
) -> None:
    stack, iam = deployed_world.deploy_another("third", ReaderConnection=connection), deployed_world.client("iam")
    policy = iam.get_policy(PolicyArn=deployed_world.outputs(stack)["ReaderPolicyArn"])["Policy"]
    document = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]

    def is_allowed(name: str) -> bool:
        (result,) = iam.simulate_custom_policy(
            PolicyInputList=[json.dumps(document["Document"])],
            ActionNames=["secretsmanager:GetSecretValue"],
            ResourceArns=[f"arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}-a1B2c3"],
        )["EvaluationResults"]
        return bool(result["EvalDecision"] == "allowed")

    names = ("acme/bearer", "default/bearer", "acme/tokens", "acme-2/bearer")
    asked = {f"third/{name}" for name in names} | {"third-2/acme/bearer"}
    assert {name for name in asked if is_allowed(name)} == readable | (
        {"third/acme-2/bearer"} if not connection else set()
    )


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


def test_function_schedule_and_logs_are_as_the_template_says(deployed_world: World) -> None:
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


def test_every_output_names_something_that_exists_and_other_stacks_find_it(deployed_world: World) -> None:
    outputs, client = deployed_world.outputs(), deployed_world.client

    client("iam").get_policy(PolicyArn=outputs["ReaderPolicyArn"])
    client("lambda").get_layer_version_by_arn(Arn=outputs["ReaderLayerArn"])
    client("lambda").get_function(FunctionName=outputs["FunctionName"])
    client("sqs").get_queue_attributes(QueueUrl=outputs["FailedRunsQueueUrl"])
    for name, output in (("reader-layer-arn", "ReaderLayerArn"), ("reader-policy-arn", "ReaderPolicyArn")):
        parameter = client("ssm").get_parameter(Name=f"/virtuous/{name}")["Parameter"]
        assert parameter["Value"] == outputs[output]


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


def test_a_notice_arrives_by_the_stacks_own_topic_and_a_deletion_leaves_the_connections_alone(
    deployed_world: World,
) -> None:
    third, client = dataclasses.replace(deployed_world, prefix="third", stack="another-third"), deployed_world.client
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    parameters = {"AlarmEmail": "on-call@example.org", "KmsKeyArn": key, "ReaderConnection": ""}
    deployed_world.deploy_another("third", VirtuousBaseUrl=third.virtuous.base_url, **parameters)

    STEPS[OWN_TOPIC](Story(third))

    third.delete(third.stack)
    manager = client("secretsmanager")
    left = manager.list_secrets(Filters=[{"Key": "name", "Values": ["third/"]}])["SecretList"]
    names = {third.secret(kind, "refused") for kind in ("tokens", "bearer")}
    assert {secret["Name"] for secret in left} == names
    assert {manager.describe_secret(SecretId=name)["KmsKeyId"] for name in names} == {key}
    assert not [found for found in client("lambda").list_functions()["Functions"] if "third" in found["FunctionName"]]


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
