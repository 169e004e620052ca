"""What each policy of the stack allows, as a table: no more is in a policy, and no less.

IAM simulates the policies of a deployed stack that has every statement: each action of the table on each resource. That
the code needs no other action is seen by the tests of the deployed stack, which run with these rights. The simulation
here knows no values for conditions, so a statement with one is compared as it stands.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.deployed.local_aws import REGION
from tests.deployed.people import ACCOUNT
from tests.deployed.world import World
from tests.fakes.virtuous import Virtuous

pytestmark = [pytest.mark.deployed, pytest.mark.xdist_group("world")]

PREFIX = "whole"
FUNCTION = f"{PREFIX}-token-refresher"
PARAMETERS = {
    "AlarmEmail": "somebody@example.org",
    "ScheduleWindowMinutes": "0",
    "VpcSubnetIds": "subnet-0a1b2c3d",
    "VpcSecurityGroupIds": "sg-0a1b2c3d",
}

MAKE_AND_REMOVE = "CreateSecret DeleteSecret DescribeSecret RestoreSecret TagResource UntagResource"
PUBLISH = "DescribeSecret ListSecretVersionIds PutSecretValue UpdateSecretVersionStage"
EXAMINE = "DescribeSecret ListSecretVersionIds GetResourcePolicy"
NETWORK = "CreateNetworkInterface DescribeNetworkInterfaces DescribeSubnets DeleteNetworkInterface"
# By role or policy: what is allowed, on what. AWS asks for permission on a secret's bare name where there is none.
ALLOWED = {
    "TokenRefresherRole": [
        ("secretsmanager ListSecrets BatchGetSecretValue", "everything"),
        ("secretsmanager GetSecretValue ListSecretVersionIds PutSecretValue", "tokens, no tokens"),
        (f"secretsmanager {PUBLISH}", "bearer, no bearer"),
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
        (f"secretsmanager {EXAMINE}", "tokens, no tokens, bearer, no bearer"),
        ("sns ListSubscriptionsByTopic", "topic"),
        ("kms DescribeKey", "key"),
    ],
    "LoginPolicy": [
        ("tag GetResources", "everything"),
        ("lambda InvokeFunction GetFunctionConfiguration", "function"),
        (f"secretsmanager {MAKE_AND_REMOVE}", "tokens, no tokens, bearer, no bearer, login, no login"),
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


@dataclass(slots=True)
class Whole:
    """A stack with every statement: under a key of its own, in a VPC, behind a proxy, with a topic of its own."""

    world: World
    name: str
    key: str

    def physical(self, logical_id: str) -> str:
        stack = {"StackName": self.name, "LogicalResourceId": logical_id}
        found = self.world.client("cloudformation").describe_stack_resources(**stack)
        return str(found["StackResources"][0]["PhysicalResourceId"])

    @property
    def queue(self) -> str:
        return self.world.outputs(self.name)["FailedRunsQueueUrl"]

    def resources(self) -> dict[str, str]:
        """The ARN behind each word of the table, and more of which nobody may do anything."""

        def arn(service: str, resource: str, region: str = REGION) -> str:
            return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"

        found = {
            "everything": "*",
            "key": self.key,
            "queue of failures": arn("sqs", self.queue.rpartition("/")[2]),
            "another queue": arn("sqs", "another"),
            "topic": self.physical("AlarmTopic"),
            "role of the function": arn("iam", f"role/{self.physical('TokenRefresherRole')}", region=""),
            "another role": arn("iam", "role/another", region=""),
            "function": arn("lambda", f"function:{FUNCTION}"),
            "another function": arn("lambda", "function:virtuous-token-refresher"),
            "bus": arn("events", "event-bus/default"),
            "log": arn("logs", f"log-group:/aws/lambda/{FUNCTION}:log-stream:any"),
            "another log": arn("logs", "log-group:/aws/lambda/virtuous-token-refresher:log-stream:any"),
            "stack": arn("cloudformation", f"stack/{self.name}/0f0c3b9e"),
            "another stack": arn("cloudformation", f"stack/{self.name}-2/0f0c3b9e"),
            "schedule": arn("scheduler", f"schedule/default/{FUNCTION}"),
            "layer's parameter": arn("ssm", f"parameter/{PREFIX}/reader-layer-arn"),
        }
        for kind in ("tokens", "bearer", "login"):
            found[kind] = arn("secretsmanager", f"secret:{PREFIX}/acme/{kind}-AbCdEf")
            found[f"no {kind}"] = arn("secretsmanager", f"secret:{PREFIX}/acme/{kind}")
            for other in (f"{PREFIX}/acme/{kind}-2", f"{PREFIX}-2/acme/{kind}", f"virtuous/acme/{kind}"):
                found[other] = arn("secretsmanager", f"secret:{other}-AbCdEf")
        return found

    def statements(self, policy: str) -> list[dict[str, Any]]:
        """As they were deployed."""
        iam, physical = self.world.client("iam"), self.physical(policy)
        if policy.endswith("Policy"):
            version = iam.get_policy(PolicyArn=physical)["Policy"]["DefaultVersionId"]
            found = [iam.get_policy_version(PolicyArn=physical, VersionId=version)["PolicyVersion"]["Document"]]
        else:
            names = iam.list_role_policies(RoleName=physical)["PolicyNames"]
            found = [iam.get_role_policy(RoleName=physical, PolicyName=name)["PolicyDocument"] for name in names]
        documents = [json.loads(document) if isinstance(document, str) else document for document in found]
        return [statement for document in documents for statement in some(document["Statement"])]


def some(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="module")
def whole(deployed_world: World) -> Iterator[Whole]:
    key = deployed_world.client("kms").create_key()["KeyMetadata"]["Arn"]
    with Virtuous() as virtuous:
        parameters = PARAMETERS | {"KmsKeyArn": key, "VirtuousBaseUrl": virtuous.base_url}
        stack = deployed_world.deploy_another(PREFIX, **parameters)
        yield Whole(deployed_world, stack, key)
        deployed_world.delete(stack)


@pytest.mark.parametrize("policy", ALLOWED)
def test_a_policy_allows_what_the_table_says_and_no_more(whole: Whole, policy: str) -> None:
    resources, statements = whole.resources(), whole.statements(policy)
    document, iam = json.dumps({"Version": "2012-10-17", "Statement": statements}), whole.world.client("iam")
    conditional = {action for one in statements if "Condition" in one for action in some(one["Action"])}
    rows = [(actions_in(names), words.split(", ")) for names, words in ALLOWED[policy]]

    for word, arn in resources.items():
        asked = {action for action in EVERY_ACTION if arn == "*" or action.split(":")[0] == arn.split(":")[2]}
        question = {"PolicyInputList": [document], "ActionNames": sorted(asked), "ResourceArns": [arn]}
        judged = iam.simulate_custom_policy(**question)["EvaluationResults"]
        allowed = {one["EvalActionName"] for one in judged if one["EvalDecision"] == "allowed"}
        expected = set().union(*(actions for actions, words in rows if {word, "everything"} & set(words)))
        assert allowed == expected & asked - conditional, word
    assert conditional <= CONDITIONS.keys()
    for one in statements:
        assert one["Effect"] == "Allow"
        assert one.get("Condition", {}).get("StringEquals") == CONDITIONS.get(some(one["Action"])[0])
        if "Condition" in one:
            (arn,) = some(one["Resource"])
            assert (set(some(one["Action"])), [word for word in resources if resources[word] == arn]) in rows
        unknown = {
            named for named in some(one["Resource"]) if not any(fnmatchcase(r, named) for r in resources.values())
        }
        assert unknown == set(), "a resource that the table does not have"
    named = {action for one in statements for action in some(one["Action"])}
    assert named == set().union(*(actions for actions, _ in rows)), "no less, and nothing that the table does not have"


def test_a_window_of_no_minutes_is_none(whole: Whole) -> None:
    schedule = whole.world.client("scheduler").get_schedule(Name=FUNCTION)

    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}


def test_no_rule_reaches_a_topic_by_a_statement_with_a_condition(whole: Whole) -> None:
    """EventBridge does not support one. What nobody got is kept in the queue of failures, as its policy says."""
    topics, queues, topic = whole.world.client("sns"), whole.world.client("sqs"), whole.physical("AlarmTopic")
    policy = json.loads(topics.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    detail = json.dumps({"prefix": PREFIX, "connection": "acme"})
    notice = {"Source": "virtuous.token", "DetailType": "Login Required", "Detail": detail}

    def kept_with(changed: Mapping[str, Any]) -> int:
        """How many of one notice the queue of failures gets."""
        topics.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(changed))
        whole.world.client("events").put_events(Entries=[notice])
        return len(queues.receive_message(QueueUrl=whole.queue, MaxNumberOfMessages=10).get("Messages", []))

    with_a_condition = copy.deepcopy(policy)
    for statement in with_a_condition["Statement"]:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}

    assert (kept_with(policy), kept_with(with_a_condition)) == (0, 1)
