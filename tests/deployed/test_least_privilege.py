"""What each policy of the stack allows, as a table, by IAM's simulation: no more is in a policy, and no less.

That the code needs no other action is seen by the tests of the deployed stack, which run with these rights. A statement
with a condition is compared as it stands.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.deployed.local_aws import REGION
from tests.deployed.people import ACCOUNT
from tests.deployed.story import STEPS, Story
from tests.deployed.world import World

pytestmark = [pytest.mark.deployed, pytest.mark.xdist_group("world")]

PREFIX = "whole"
CONNECTION = "refused"  # whose notice the story tells of

MAKE_AND_REMOVE = "CreateSecret DeleteSecret DescribeSecret RestoreSecret TagResource UntagResource"
PUBLISH = "DescribeSecret ListSecretVersionIds PutSecretValue UpdateSecretVersionStage"
EXAMINE = "DescribeSecret ListSecretVersionIds GetResourcePolicy"
NETWORK = "CreateNetworkInterface DescribeNetworkInterfaces DescribeSubnets DeleteNetworkInterface"
BEARERS = "bearer, no bearer, another's bearer"
# By role or policy: what is allowed, on what. AWS asks for permission on a secret's bare name where there is none.
ALLOWED = {
    "TokenRefresherRole": [
        ("secretsmanager ListSecrets BatchGetSecretValue", "everything"),
        ("secretsmanager GetSecretValue ListSecretVersionIds PutSecretValue", "tokens, no tokens"),
        (f"secretsmanager {PUBLISH}", BEARERS),
        ("secretsmanager GetSecretValue", "login, no login"),
        ("logs CreateLogStream PutLogEvents", "log"),
        ("sqs SendMessage", "queue of failures"),
        ("events PutEvents", "bus"),
        (f"ec2 {NETWORK} AssignPrivateIpAddresses UnassignPrivateIpAddresses", "everything"),
        ("kms Decrypt GenerateDataKey", "key"),
    ],
    "TokenRefresherSweepRole": [("lambda InvokeFunction", "function"), ("sqs SendMessage", "queue of failures")],
    "ReaderPolicy": [
        ("secretsmanager GetSecretValue DescribeSecret", "bearer, no bearer"),
        ("kms Decrypt", "key"),
    ],
    "OperatorPolicy": [
        ("tag GetResources", "everything"),
        ("cloudwatch DescribeAlarms", "everything"),
        ("lambda InvokeFunction GetFunctionConfiguration", "function"),
        ("cloudformation DescribeStacks DescribeStackResources", "stack"),
        ("scheduler GetSchedule", "schedule"),
        ("logs FilterLogEvents", "log"),
        ("iam SimulatePrincipalPolicy", "role of the function"),
        ("ssm GetParameter", "layer's parameter"),
        (f"secretsmanager {EXAMINE}", f"tokens, no tokens, {BEARERS}"),
        ("sns ListSubscriptionsByTopic", "topic"),
        ("kms DescribeKey", "key"),
    ],
    "LoginPolicy": [
        ("tag GetResources", "everything"),
        ("lambda InvokeFunction GetFunctionConfiguration", "function"),
        (f"secretsmanager {MAKE_AND_REMOVE}", f"tokens, no tokens, {BEARERS}, login, no login"),
        ("secretsmanager GetSecretValue ListSecretVersionIds PutSecretValue", "tokens"),
        ("secretsmanager GetResourcePolicy PutResourcePolicy", "tokens, login"),
        ("secretsmanager PutSecretValue", "login"),
        ("kms Decrypt GenerateDataKey", "key"),
    ],
}
NOBODYS = ["secretsmanager UpdateSecret RotateSecret DeleteResourcePolicy", "lambda UpdateFunctionCode AddPermission"]
VIA_SECRETS_MANAGER = {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
CONDITIONS = {
    "kms:Decrypt": VIA_SECRETS_MANAGER,
    "kms:GenerateDataKey": VIA_SECRETS_MANAGER,
    "events:PutEvents": {"events:source": "virtuous.token"},
}


def actions_in(names: str) -> set[str]:
    service, *actions = names.split()
    return {f"{service}:{action}" for action in actions}


EVERY_ACTION = set.union(*(actions_in(names) for rows in ALLOWED.values() for names, _ in rows))
EVERY_ACTION |= set.union(*map(actions_in, NOBODYS))


@pytest.fixture(scope="module")
def whole(deployed_world: World) -> Iterator[World]:
    """A stack with every statement: with a key and a topic of its own, in a VPC, read at one connection alone."""
    parameters = {
        "AlarmEmail": "somebody@example.org",
        "KmsKeyArn": deployed_world.client("kms").create_key()["KeyMetadata"]["Arn"],
        "ReaderConnection": CONNECTION,
        "ScheduleWindowMinutes": "0",
        "VirtuousBaseUrl": deployed_world.virtuous.base_url,
        "VpcSubnetIds": "subnet-0a1b2c3d",
        "VpcSecurityGroupIds": "sg-0a1b2c3d",
    }
    stack = deployed_world.deploy_another(PREFIX, **parameters)
    yield dataclasses.replace(deployed_world, prefix=PREFIX, stack=stack)
    deployed_world.delete(stack)


def key_of(world: World) -> str:
    function = world.client("lambda").get_function_configuration(FunctionName=world.function)
    return str(function["Environment"]["Variables"]["KMS_KEY_ARN"])


def resources(world: World) -> dict[str, str]:
    """The ARN behind each word of the table, and more of which nobody may do anything."""

    def arn(service: str, resource: str, region: str = REGION) -> str:
        return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"

    found = {
        "everything": "*",
        "key": key_of(world),
        "queue of failures": arn("sqs", world.outputs()["FailedRunsQueueUrl"].rpartition("/")[2]),
        "another queue": arn("sqs", "another"),
        "topic": world.physical("AlarmTopic"),
        "role of the function": arn("iam", f"role/{world.physical('TokenRefresherRole')}", region=""),
        "another role": arn("iam", "role/another", region=""),
        "function": arn("lambda", f"function:{world.function}"),
        "another function": arn("lambda", "function:virtuous-token-refresher"),
        "another's bearer": arn("secretsmanager", f"secret:{PREFIX}/acme/bearer-AbCdEf"),
        "bus": arn("events", "event-bus/default"),
        "log": arn("logs", f"log-group:/aws/lambda/{world.function}:log-stream:any"),
        "another log": arn("logs", "log-group:/aws/lambda/virtuous-token-refresher:log-stream:any"),
        "stack": arn("cloudformation", f"stack/{world.stack}/0f0c3b9e"),
        "another stack": arn("cloudformation", f"stack/{world.stack}-2/0f0c3b9e"),
        "schedule": arn("scheduler", f"schedule/default/{world.function}"),
        "layer's parameter": arn("ssm", f"parameter/{PREFIX}/reader-layer-arn"),
    }
    for kind in ("tokens", "bearer", "login"):
        found[kind] = arn("secretsmanager", f"secret:{PREFIX}/{CONNECTION}/{kind}-AbCdEf")
        found[f"no {kind}"] = arn("secretsmanager", f"secret:{PREFIX}/{CONNECTION}/{kind}")
        for other in (f"{PREFIX}/acme/{kind}-2", f"{PREFIX}-2/acme/{kind}", f"virtuous/acme/{kind}"):
            found[other] = arn("secretsmanager", f"secret:{other}-AbCdEf")
    return found


def statements(world: World, policy: str) -> list[dict[str, Any]]:
    """As they were deployed."""
    iam, name = world.client("iam"), world.physical(policy)
    if policy.endswith("Policy"):
        version = iam.get_policy(PolicyArn=name)["Policy"]["DefaultVersionId"]
        documents = [iam.get_policy_version(PolicyArn=name, VersionId=version)["PolicyVersion"]["Document"]]
    else:
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        documents = [iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in inline]
    return [statement for document in documents for statement in some(document["Statement"])]


def some(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("policy", ALLOWED)
def test_a_policy_allows_what_the_table_says_and_no_more(whole: World, policy: str) -> None:
    there, stated = resources(whole), statements(whole, policy)
    document, iam = json.dumps({"Version": "2012-10-17", "Statement": stated}), whole.client("iam")
    conditional = {action for one in stated if "Condition" in one for action in some(one["Action"])}
    rows = [(actions_in(names), set(words.split(", "))) for names, words in ALLOWED[policy]]

    for word, arn in there.items():
        asked = {action for action in EVERY_ACTION if arn == "*" or action.split(":")[0] == arn.split(":")[2]}
        question = {"PolicyInputList": [document], "ActionNames": sorted(asked), "ResourceArns": [arn]}
        judged = iam.simulate_custom_policy(**question)["EvaluationResults"]
        allowed = {one["EvalActionName"] for one in judged if one["EvalDecision"] == "allowed"}
        expected = set().union(*(actions for actions, words in rows if {word, "everything"} & words))
        assert allowed == expected & asked - conditional, word
    for one in stated:
        assert one["Effect"] == "Allow"
        assert one.get("Condition", {}).get("StringEquals") == CONDITIONS.get(some(one["Action"])[0])
        if "Condition" in one:
            (arn,) = some(one["Resource"])
            assert (set(some(one["Action"])), {word for word in there if there[word] == arn}) in rows
        unknown = {named for named in some(one["Resource"]) if not any(fnmatchcase(r, named) for r in there.values())}
        assert unknown == set(), "a resource that the table does not have"
    named = {action for one in stated for action in some(one["Action"])}
    assert named == set().union(*(actions for actions, _ in rows)), "no less, and nothing that the table does not have"


def test_a_window_of_no_minutes_is_none(whole: World) -> None:
    assert whole.client("scheduler").get_schedule(Name=whole.function)["FlexibleTimeWindow"] == {"Mode": "OFF"}


def test_a_notice_arrives_by_the_stacks_own_topic_and_its_secrets_have_its_key(whole: World) -> None:
    STEPS["a notice reaches a person by the stack's own topic"](Story(whole))

    manager, names = whole.client("secretsmanager"), [whole.secret(kind, CONNECTION) for kind in ("tokens", "bearer")]
    assert {manager.describe_secret(SecretId=name)["KmsKeyId"] for name in names} == {key_of(whole)}
