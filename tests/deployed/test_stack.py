"""The stack as deployed: what it makes, what its roles may and may not do, and the main job from end to end."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any
from uuid import uuid4

import pytest

from tests.deployed.world import READER_STACK, STACK, Run, World

pytestmark = pytest.mark.deployed

PAIR, BEARER = "virtuous/default/tokens", "virtuous/default/bearer"


def test_the_bearer_has_the_version_of_the_pair_it_came_from(deployed_world: World) -> None:
    manager = deployed_world.client("secretsmanager")

    def current(name: str) -> str:
        version: str = manager.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["VersionId"]
        return version

    # A run that is under way writes one after the other.
    deployed_world.wait("both to be the same", lambda: current(PAIR) == current(BEARER) or None, 30)


def test_a_reader_may_read_bearer_secrets_alone(deployed_world: World) -> None:
    deployed_world.client("secretsmanager").create_secret(Name=f"other/{uuid4()}", SecretString="{}")

    assert deployed_world.reader_reads(BEARER) == "read"
    assert deployed_world.reader_reads(PAIR) == "AccessDeniedException"
    assert deployed_world.reader_reads("virtuous/default/login") == "AccessDeniedException"


@pytest.mark.parametrize(
    ("connection", "readable", "refused"),
    [
        pytest.param(
            "",
            {"third/acme/bearer-a1B2c3", "third/acme/bearer", "third/default/bearer-a1B2c3"},
            {"third/acme/tokens-a1B2c3", "third-2/acme/bearer-a1B2c3"},
            id="every connection of the prefix",
        ),
        pytest.param(
            "acme",
            {"third/acme/bearer-a1B2c3", "third/acme/bearer"},
            {"third/acme/tokens-a1B2c3", "third/default/bearer-a1B2c3", "third/acme-2/bearer-a1B2c3"},
            id="one connection",
        ),
    ],
)
def test_the_reader_policy_covers_what_its_parameter_says(
    deployed_world: World, connection: str, readable: set[str], refused: set[str]
) -> None:
    stack = deployed_world.deploy_another("third", ReaderConnection=connection)
    iam = deployed_world.client("iam")
    policy = iam.get_policy(PolicyArn=deployed_world.outputs(stack)["ReaderPolicyArn"])["Policy"]
    document = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]

    def is_allowed(name: str) -> bool:
        (result,) = iam.simulate_custom_policy(
            PolicyInputList=[json.dumps(document["Document"])],
            ActionNames=["secretsmanager:GetSecretValue"],
            ResourceArns=[f"arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}"],
        )["EvaluationResults"]
        return bool(result["EvalDecision"] == "allowed")

    assert {name for name in readable | refused if is_allowed(name)} == readable


PAIR_ACTIONS = {"GetSecretValue", "ListSecretVersionIds", "PutSecretValue"}
BEARER_ACTIONS = {"DescribeSecret", "ListSecretVersionIds", "PutSecretValue", "UpdateSecretVersionStage"}
NEVER = {"CreateSecret", "DeleteSecret", "UpdateSecret", "PutResourcePolicy", "TagResource", "RotateSecret"}
EVERY_ACTION = PAIR_ACTIONS | BEARER_ACTIONS | NEVER


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        pytest.param(f"{PAIR}-a1B2c3", PAIR_ACTIONS, id="a pair secret"),
        pytest.param("virtuous/acme/tokens-a1B2c3", PAIR_ACTIONS, id="another connection's pair secret"),
        pytest.param("virtuous/acme/tokens", PAIR_ACTIONS, id="a pair secret that does not exist is not found"),
        pytest.param("virtuous/acme/bearer", BEARER_ACTIONS, id="a bearer secret that does not exist is not found"),
        pytest.param(f"{BEARER}-a1B2c3", BEARER_ACTIONS, id="a bearer secret is written and never read"),
        pytest.param("virtuous/acme/login-a1B2c3", {"GetSecretValue"}, id="a login secret is read and never written"),
        pytest.param("virtuous/acme/login", {"GetSecretValue"}, id="a login secret that does not exist is not found"),
        pytest.param("virtuous/acme/login-2-a1B2c3", set(), id="a secret whose name goes on after login"),
        pytest.param("virtuous/acme/other-a1B2c3", set(), id="another secret under the prefix"),
        pytest.param("virtuous-2/acme/tokens-a1B2c3", set(), id="a prefix that begins alike"),
        pytest.param("database/password-a1B2c3", set(), id="somebody else's secret"),
    ],
)
def test_the_refresher_may_do_what_it_needs_and_no_more(
    deployed_world: World, resource: str, allowed: set[str]
) -> None:
    simulated = deployed_world.client("iam").simulate_principal_policy(
        PolicySourceArn=refresher(deployed_world)["Role"],
        ActionNames=[f"secretsmanager:{action}" for action in sorted(EVERY_ACTION)],
        ResourceArns=[f"arn:aws:secretsmanager:us-east-1:000000000000:secret:{resource}"],
    )["EvaluationResults"]

    granted = {result["EvalActionName"] for result in simulated if result["EvalDecision"] == "allowed"}
    assert granted == {f"secretsmanager:{action}" for action in allowed}


def refresher(world: World) -> Any:
    return world.client("lambda").get_function_configuration(FunctionName=STACK)


def test_the_function_has_time_for_a_sweep_and_reserves_no_concurrency(deployed_world: World) -> None:
    configuration = refresher(deployed_world)

    assert configuration["Timeout"] == 300
    assert configuration["Architectures"] == ["arm64"]
    reserved = deployed_world.client("lambda").get_function_concurrency(FunctionName=STACK)
    assert "ReservedConcurrentExecutions" not in reserved


def test_the_schedule_has_a_window_retries_and_a_place_for_what_it_cannot_deliver(deployed_world: World) -> None:
    schedule = deployed_world.client("scheduler").get_schedule(Name=STACK)

    assert schedule["State"] == "ENABLED"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}
    assert schedule["Target"]["Arn"] == refresher(deployed_world)["FunctionArn"]
    assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 10, "MaximumEventAgeInSeconds": 3600}
    assert schedule["Target"]["DeadLetterConfig"]["Arn"].rpartition(":")[2] in failed_runs(deployed_world)


def failed_runs(world: World) -> str:
    return world.outputs()["FailedRunsQueueUrl"]


def test_a_run_that_fails_for_good_is_handed_over(deployed_world: World) -> None:
    event = {"connections": "not a list"}
    deployed_world.client("lambda").invoke(
        FunctionName=STACK, InvocationType="Event", Payload=json.dumps(event).encode()
    )

    def message() -> Any:
        queue = deployed_world.client("sqs")
        (received,) = queue.receive_message(QueueUrl=failed_runs(deployed_world)).get("Messages", [None])
        return received and json.loads(received["Body"])

    handed_over = deployed_world.wait("the failed run's message", message, 60)
    assert handed_over["requestPayload"] == event
    assert handed_over["requestContext"]["approximateInvokeCount"] == 3


def test_a_failed_run_is_repeated_twice_within_the_hour(deployed_world: World) -> None:
    promised = deployed_world.client("lambda").get_function_event_invoke_config(FunctionName=STACK, Qualifier="$LATEST")

    assert (promised["MaximumRetryAttempts"], promised["MaximumEventAgeInSeconds"]) == (2, 3600)


def test_a_refused_refresh_token_asks_for_a_login_where_no_password_is_stored(deployed_world: World) -> None:
    manager = deployed_world.client("secretsmanager")
    deployed_world.log_in("refused")
    pair = json.loads(manager.get_secret_value(SecretId="virtuous/refused/tokens")["SecretString"])
    deployed_world.virtuous.revoke_refresh_token(pair["refresh_token"])

    answer = deployed_world.invoke(STACK, {"connections": ["refused"], "force": True})

    assert answer["outcomes"] == {"refused": "login_required"}


def lets(service: str, action: str, resource: str) -> dict[str, Any]:
    """The policy of a resource that lets one service do one thing."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": action, "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


def test_who_needs_a_person_is_told_by_name_to_a_topic(deployed_world: World) -> None:
    """From a refused refresh token over the event bus, the rule and the topic to whoever subscribed."""
    queue = deployed_world.client("sqs").create_queue(QueueName="a-person")["QueueUrl"]
    topic = deployed_world.client("sns").create_topic(Name="on-call")["TopicArn"]
    deployed_world.client("sns").set_topic_attributes(
        TopicArn=topic,
        AttributeName="Policy",
        AttributeValue=json.dumps(lets("events.amazonaws.com", "sns:Publish", topic)),
    )
    arn = f"arn:aws:sqs:us-east-1:000000000000:{queue.rpartition('/')[2]}"
    allowed = lets("sns.amazonaws.com", "sqs:SendMessage", arn)
    deployed_world.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(allowed)})
    deployed_world.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    stack = deployed_world.deploy_another(
        "third", AlarmTopicArn=topic, VirtuousBaseUrl=deployed_world.virtuous.base_url
    )
    deployed_world.make_secrets("third", "acme")
    refused = {"access_token": "ended", "refresh_token": "refused", "organization_name": "Example Relief"}
    deployed_world.client("secretsmanager").put_secret_value(
        SecretId="third/acme/tokens", SecretString=json.dumps(refused)
    )

    for _ in range(2):  # the second adds nothing
        answer = deployed_world.invoke(deployed_world.outputs(stack)["FunctionName"], {"connections": ["acme"]})
        assert answer["outcomes"] == {"acme": "login_required"}

    def message() -> Any:
        (received,) = deployed_world.client("sqs").receive_message(QueueUrl=queue).get("Messages", [None])
        return received and json.loads(received["Body"])["Message"]

    received = deployed_world.wait("the message", message, 30)
    assert "Virtuous connection acme (Example Relief): Login Required." in received
    assert "Run: virtuous-token --prefix third login --connection acme" in received
    assert message() is None


def test_logs_go_to_a_group_that_forgets(deployed_world: World) -> None:
    (group,) = deployed_world.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{STACK}")["logGroups"]

    assert group["retentionInDays"] == 90
    assert refresher(deployed_world)["LoggingConfig"]["LogGroup"] == group["logGroupName"]


def test_other_stacks_find_what_they_need_in_parameters(deployed_world: World) -> None:
    outputs, store = deployed_world.outputs(), deployed_world.client("ssm")

    def parameter(name: str) -> str:
        value: str = store.get_parameter(Name=name)["Parameter"]["Value"]
        return value

    assert parameter("/virtuous/reader-layer-arn") == outputs["ReaderLayerArn"]
    assert parameter("/virtuous/reader-policy-arn") == outputs["ReaderPolicyArn"]


def test_every_output_names_something_that_exists(deployed_world: World) -> None:
    outputs, client = deployed_world.outputs(), deployed_world.client

    client("iam").get_policy(PolicyArn=outputs["ReaderPolicyArn"])
    client("lambda").get_layer_version_by_arn(Arn=outputs["ReaderLayerArn"])
    client("lambda").get_function(FunctionName=outputs["FunctionName"])
    client("sqs").get_queue_attributes(QueueUrl=outputs["FailedRunsQueueUrl"])
    groups = client("logs").describe_log_groups(logGroupNamePrefix=outputs["LogGroupName"])["logGroups"]
    assert [group["logGroupName"] for group in groups] == [outputs["LogGroupName"]]


def test_what_is_deployed_is_small_and_carries_no_boto3(deployed_world: World) -> None:
    layer = deployed_world.client("lambda").get_layer_version_by_arn(Arn=deployed_world.outputs()["ReaderLayerArn"])
    built = deployed_world.directory / "build" / "refresher" / "TokenRefresher"

    assert refresher(deployed_world)["CodeSize"] <= 4_000_000
    assert layer["Content"]["CodeSize"] <= 60_000
    assert (built / "token_refresher").is_dir()
    assert not [found.name for found in built.iterdir() if re.match("boto|virtuous", found.name)]


def test_every_alarm_says_what_to_run_and_the_command_exists(deployed_world: World) -> None:
    alarms = deployed_world.client("cloudwatch").describe_alarms(AlarmNamePrefix=STACK)["MetricAlarms"]
    descriptions = {alarm["AlarmName"]: alarm["AlarmDescription"] for alarm in alarms}

    assert len(descriptions) == 5
    for name, description in descriptions.items():
        assert re.search("(aws|virtuous-token) ", description), name
        for command in re.findall(r"virtuous-token [a-z0-9 -]+", description):
            deployed_world.operate(*shlex.split(command)[1:4], "--help")


def test_deploying_again_changes_nothing(deployed_world: World) -> None:
    before = deployed_world.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]

    deployed_world.deploy()

    after = deployed_world.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    assert after.get("LastUpdatedTime") == before.get("LastUpdatedTime")
    assert "No changes to deploy" in (deployed_world.directory / "deploy-refresher.log").read_text()


def test_a_deployment_that_is_deleted_leaves_its_connections_and_nothing_else(deployed_world: World) -> None:
    client = deployed_world.client
    stack = deployed_world.deploy_another("second", KmsKeyArn=client("kms").create_key()["KeyMetadata"]["Arn"])
    deployed_world.make_secrets("second", "acme")

    client("cloudformation").delete_stack(StackName=stack)
    client("cloudformation").get_waiter("stack_delete_complete").wait(
        StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )

    left = client("secretsmanager").list_secrets(Filters=[{"Key": "name", "Values": ["second/"]}])["SecretList"]
    assert sorted(secret["Name"] for secret in left) == ["second/acme/bearer", "second/acme/tokens"]
    assert not [found for found in client("lambda").list_functions()["Functions"] if "second" in found["FunctionName"]]


# Last, because the schedule fires a minute after it was made: the tests above fill that time.


def test_the_schedule_refreshes_a_token_that_is_due(scheduled_refresh: Run) -> None:
    """Other tests of the same world ask for refreshes too; that nobody else needs to is what the demo shows."""
    assert scheduled_refresh.is_scheduled
    assert scheduled_refresh.has_refreshed


def test_a_reader_gets_the_refreshed_token_and_virtuous_accepts_it(
    deployed_world: World, scheduled_refresh: Run
) -> None:
    newest = deployed_world.virtuous.generation

    status, generation = deployed_world.wait(
        "the new token", lambda: seen if (seen := deployed_world.read_as_reader())[1] >= newest else None
    )

    assert status == 200
    assert generation > 1


def test_no_log_holds_a_secret(deployed_world: World, scheduled_refresh: Run) -> None:
    logs = deployed_world.client("logs").get_paginator("filter_log_events")
    logs = "".join(
        event["message"]
        for function in (STACK, READER_STACK)
        for page in logs.paginate(logGroupName=f"/aws/lambda/{function}")
        for event in page["events"]
    )
    logs += "".join(log.read_text(errors="replace") for log in deployed_world.directory.glob("*.log"))

    assert "connection checked" in logs
    assert not [secret for secret in deployed_world.virtuous.secrets() if secret in logs]
