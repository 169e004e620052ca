"""What each policy of the stack allows, as a table: no more is in a policy, and no less.

A deployed stack that has every statement is asked by iam:SimulatePrincipalPolicy. That the code needs no other action
is seen by the tests of the deployed stack, which run with these rights. The simulation here knows no values for
conditions, so a statement with one is compared as it stands.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from uuid import uuid4

import pytest

from tests.deployed.local_aws import REGION
from tests.deployed.people import ACCOUNT
from tests.deployed.world import World
from tests.fakes.virtuous import Virtuous

pytestmark = [pytest.mark.deployed, pytest.mark.xdist_group("world")]

PREFIX = "whole"
FUNCTION = f"{PREFIX}-token-refresher"
PROXY = "http://proxy.example.org:3128"
REFRESHER, SCHEDULE = "TokenRefresherRole", "TokenRefresherSweepRole"
READER, OPERATOR, LOGIN = "ReaderPolicy", "OperatorPolicy", "LoginPolicy"


def secret(kind: str, prefix: str = PREFIX) -> str:
    """The ARN of a secret of the connection acme."""
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{prefix}/acme/{kind}"


def there_or_not(*kinds: str) -> list[str]:
    """AWS asks for permission on the bare name where there is no such secret."""
    return [secret(kind + end) for kind in kinds for end in ("-AbCdEf", "")]


def there(*kinds: str) -> list[str]:
    return [secret(f"{kind}-AbCdEf") for kind in kinds]


ANY = ["*"]
FUNCTIONS = [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{FUNCTION}"]
QUEUE, KEY, TOPIC, ROLE = "the queue of failures", "the key", "the topic", "the function's role"
LOG = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{FUNCTION}:log-stream:any"
NETWORK = "CreateNetworkInterface DescribeNetworkInterfaces DescribeSubnets DeleteNetworkInterface"
MAKE_AND_REMOVE = "CreateSecret DeleteSecret DescribeSecret RestoreSecret TagResource UntagResource"


def actions(service: str, names: str, resources: list[str]) -> list[tuple[str, list[str]]]:
    return [(f"{service}:{name}", resources) for name in names.split()]


ALLOWED: dict[str, list[tuple[str, list[str]]]] = {
    REFRESHER: [
        *actions("secretsmanager", "ListSecrets BatchGetSecretValue", ANY),
        *actions("secretsmanager", "GetSecretValue ListSecretVersionIds PutSecretValue", there_or_not("tokens")),
        *actions(
            "secretsmanager",
            "DescribeSecret ListSecretVersionIds PutSecretValue UpdateSecretVersionStage",
            there_or_not("bearer"),
        ),
        *actions("secretsmanager", "GetSecretValue", there_or_not("login")),
        *actions("logs", "CreateLogStream PutLogEvents", [LOG]),
        *actions("sqs", "SendMessage", [QUEUE]),
        *actions("events", "PutEvents", [f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"]),
        *actions("ec2", f"{NETWORK} AssignPrivateIpAddresses UnassignPrivateIpAddresses", ANY),
        *actions("kms", "Decrypt GenerateDataKey", [KEY]),
    ],
    SCHEDULE: [*actions("lambda", "InvokeFunction", FUNCTIONS), *actions("sqs", "SendMessage", [QUEUE])],
    READER: [
        *actions("secretsmanager", "GetSecretValue DescribeSecret", there_or_not("bearer")),
        *actions("kms", "Decrypt", [KEY]),
    ],
    OPERATOR: [
        *actions("tag", "GetResources", ANY),
        *actions("cloudwatch", "DescribeAlarms", ANY),
        *actions("lambda", "InvokeFunction GetFunctionConfiguration", FUNCTIONS),
        *actions(
            "cloudformation",
            "DescribeStacks DescribeStackResources",
            [f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/another-{PREFIX}/0f0c3b9e"],
        ),
        *actions("scheduler", "GetSchedule", [f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{FUNCTION}"]),
        *actions("logs", "FilterLogEvents", [LOG]),
        *actions("iam", "SimulatePrincipalPolicy", [ROLE]),
        *actions("ssm", "GetParameter", [f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{PREFIX}/reader-layer-arn"]),
        *actions(
            "secretsmanager",
            "DescribeSecret ListSecretVersionIds GetResourcePolicy",
            there_or_not("tokens", "bearer"),
        ),
        *actions("sns", "ListSubscriptionsByTopic", [TOPIC]),
        *actions("kms", "DescribeKey", [KEY]),
    ],
    LOGIN: [
        *actions("tag", "GetResources", ANY),
        *actions("lambda", "InvokeFunction GetFunctionConfiguration", FUNCTIONS),
        *actions("secretsmanager", MAKE_AND_REMOVE, there_or_not("tokens", "bearer", "login")),
        *actions("secretsmanager", "GetSecretValue ListSecretVersionIds PutSecretValue", there("tokens")),
        *actions("secretsmanager", "GetResourcePolicy PutResourcePolicy", there("tokens", "login")),
        *actions("secretsmanager", "PutSecretValue", there("login")),
        *actions("kms", "Decrypt GenerateDataKey", [KEY]),
    ],
}
READ, WRITE = "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"
OTHERS = [secret(f"{kind}-AbCdEf", "virtuous") for kind in ("tokens", "bearer", "login")]
OTHER_FUNCTION = [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:virtuous-token-refresher"]
DENIED: dict[str, list[tuple[str, list[str]]]] = {
    REFRESHER: [
        (READ, there_or_not("bearer")),
        (WRITE, there("login")),
        *((action, OTHERS) for action in (READ, WRITE)),
        *actions(
            "secretsmanager", "CreateSecret DeleteSecret UpdateSecret PutResourcePolicy", there("tokens", "bearer")
        ),
        *actions("lambda", "InvokeFunction", FUNCTIONS),
    ],
    SCHEDULE: [*actions("lambda", "InvokeFunction", OTHER_FUNCTION), *actions("sqs", "ReceiveMessage", [QUEUE])],
    READER: [
        (READ, [*there("tokens", "login"), *OTHERS]),
        (WRITE, there("bearer")),
        *actions("secretsmanager", "ListSecrets", ANY),
    ],
    OPERATOR: [
        (READ, there("tokens", "bearer", "login")),
        (WRITE, there("tokens", "bearer", "login")),
        *actions("secretsmanager", "DeleteSecret PutResourcePolicy", there("tokens")),
        *actions("lambda", "InvokeFunction", OTHER_FUNCTION),
        *actions("lambda", "UpdateFunctionConfiguration UpdateFunctionCode", FUNCTIONS),
    ],
    LOGIN: [
        (READ, [*there("bearer", "login"), *OTHERS]),
        (WRITE, there("bearer")),
        *actions("secretsmanager", MAKE_AND_REMOVE, OTHERS),
        *actions("lambda", "InvokeFunction", OTHER_FUNCTION),
    ],
}


@dataclass(slots=True)
class Whole:
    """A stack with every statement: under a key of its own, in a VPC, behind a proxy, with a topic of its own."""

    world: World
    name: str
    key: str

    def resource(self, logical_id: str) -> str:
        found = self.world.client("cloudformation").describe_stack_resources(
            StackName=self.name, LogicalResourceId=logical_id
        )
        return str(found["StackResources"][0]["PhysicalResourceId"])

    @property
    def queue(self) -> str:
        return self.world.outputs(self.name)["FailedRunsQueueUrl"]

    def named(self, resource: str) -> str:
        """The ARN behind a word of the table."""
        arns = {
            KEY: self.key,
            QUEUE: f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.queue.rpartition('/')[2]}",
            TOPIC: self.resource("AlarmTopic") if resource == TOPIC else "",
            ROLE: f"arn:aws:iam::{ACCOUNT}:role/{self.resource(REFRESHER)}",
        }
        return arns.get(resource, resource)

    def statements(self, policy: str) -> list[dict[str, Any]]:
        """As they were deployed."""
        iam, physical = self.world.client("iam"), self.resource(policy)
        if policy.endswith("Policy"):
            version = iam.get_policy(PolicyArn=physical)["Policy"]["DefaultVersionId"]
            found = [iam.get_policy_version(PolicyArn=physical, VersionId=version)["PolicyVersion"]["Document"]]
        else:
            names = iam.list_role_policies(RoleName=physical)["PolicyNames"]
            found = [iam.get_role_policy(RoleName=physical, PolicyName=name)["PolicyDocument"] for name in names]
        documents = [json.loads(document) if isinstance(document, str) else document for document in found]
        return [statement for document in documents for statement in some(document["Statement"])]

    def principal(self, policy: str) -> str:
        """The role that has the policy; people's are attached to a new one."""
        if not policy.endswith("Policy"):
            return f"arn:aws:iam::{ACCOUNT}:role/{self.resource(policy)}"
        iam, name = self.world.client("iam"), f"role-{uuid4().hex[:12]}"
        trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        iam.attach_role_policy(RoleName=name, PolicyArn=self.resource(policy))
        return arn


def some(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="module")
def whole(deployed_world: World) -> Iterator[Whole]:
    key = deployed_world.client("kms").create_key()["KeyMetadata"]["Arn"]
    with Virtuous() as virtuous:
        stack = deployed_world.deploy_another(
            PREFIX,
            AlarmEmail="somebody@example.org",
            KmsKeyArn=key,
            ScheduleWindowMinutes="0",
            VpcSubnetIds="subnet-0a1b2c3d",
            VpcSecurityGroupIds="sg-0a1b2c3d",
            HttpsProxy=PROXY,
            NoProxy="169.254.169.254",
            VirtuousBaseUrl=virtuous.base_url,
        )
        yield Whole(deployed_world, stack, key)
        deployed_world.delete(stack)


@pytest.mark.parametrize("policy", ALLOWED)
def test_a_policy_holds_what_the_table_says_and_no_more(whole: Whole, policy: str) -> None:
    rows = [(action, whole.named(name)) for action, names in ALLOWED[policy] for name in names]
    statements, missing = whole.statements(policy), set(rows)
    for statement in statements:
        assert statement["Effect"] == "Allow"
        allowed, patterns = some(statement["Action"]), some(statement["Resource"])
        covered = {row for row in rows if row[0] in allowed and any(fnmatchcase(row[1], one) for one in patterns)}
        missing -= covered
        assert {action for action, _ in covered} == set(allowed), "an action that the table does not have"
        unused = [one for one in patterns if not any(fnmatchcase(arn, one) for _, arn in covered)]
        assert unused == [], "a resource that the table does not have"
    assert missing == set()


@pytest.mark.parametrize("policy", ALLOWED)
def test_iam_allows_what_the_table_says_and_refuses_the_rest(whole: Whole, policy: str) -> None:
    iam, principal = whole.world.client("iam"), whole.principal(policy)
    conditional = {action for one in whole.statements(policy) if "Condition" in one for action in some(one["Action"])}

    def allowed(action: str, name: str) -> bool:
        asked = {"PolicySourceArn": principal, "ActionNames": [action], "ResourceArns": [whole.named(name)]}
        (judged,) = iam.simulate_principal_policy(**asked)["EvaluationResults"]
        return bool(judged["EvalDecision"] == "allowed")

    refused = [(action, name) for action, names in ALLOWED[policy] for name in names if not allowed(action, name)]
    let_in = [(action, name) for action, names in DENIED[policy] for name in names if allowed(action, name)]
    assert ({action for action, _ in refused}, let_in) == (conditional, [])


def test_a_key_serves_through_secrets_manager_alone_and_notices_have_one_source(whole: Whole) -> None:
    """What the simulation has no values for."""
    conditions = {
        action: one["Condition"]["StringEquals"]
        for policy in ALLOWED
        for one in whole.statements(policy)
        if "Condition" in one
        for action in some(one["Action"])
    }
    via = {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
    assert conditions == {
        "kms:Decrypt": via,
        "kms:GenerateDataKey": via,
        "events:PutEvents": {"events:source": "virtuous.token"},
    }


def test_proxy_and_window_arrive(whole: Whole) -> None:
    """What else an organisation may prescribe the local AWS forgets: subnets, security groups, boundaries."""
    function = whole.world.client("lambda").get_function_configuration(FunctionName=FUNCTION)
    variables = function["Environment"]["Variables"]
    assert (variables["HTTPS_PROXY"], variables["NO_PROXY"]) == (PROXY, "169.254.169.254")
    schedule = whole.world.client("scheduler").get_schedule(Name=FUNCTION)
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}


# What is no role's: the topic and the queue


def test_rules_and_alarms_reach_somebody_by_the_policies_of_topic_and_queue(whole: Whole) -> None:
    """Also that no rule does by a statement with a Condition, which EventBridge does not support."""
    world, topic, failed_runs = whole.world, whole.resource("AlarmTopic"), whole.queue
    topics, queues = world.client("sns"), world.client("sqs")
    inbox = queues.create_queue(QueueName=f"inbox-{uuid4().hex[:8]}")["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{inbox.rpartition('/')[2]}"
    by_topics = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    let_topics_in = json.dumps({"Version": "2012-10-17", "Statement": [{**by_topics, "Resource": arn}]})
    queues.set_queue_attributes(QueueUrl=inbox, Attributes={"Policy": let_topics_in})
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    policy = json.loads(topics.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    notice = {
        "Source": "virtuous.token",
        "DetailType": "Login Required",
        "Detail": json.dumps({"prefix": PREFIX, "connection": "acme"}),
    }

    def emptied(queue: str) -> int:
        count = 0
        while received := queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in received:
                queues.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            count += len(received)
        return count

    def arrives_with(changed: Mapping[str, Any]) -> tuple[int, int]:
        """After a notice and an alarm: messages to somebody, and in the queue of failures."""
        topics.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(changed))
        world.client("events").put_events(Entries=[notice])
        for state in ("ALARM", "OK"):
            world.client("cloudwatch").set_alarm_state(
                AlarmName=f"{FUNCTION}-no-sweep", StateValue=state, StateReason="a test"
            )
        return emptied(inbox), emptied(failed_runs)

    def without(service: str) -> dict[str, Any]:
        return {**policy, "Statement": [one for one in policy["Statement"] if one["Principal"]["Service"] != service]}

    with_a_condition = copy.deepcopy(policy)
    for statement in with_a_condition["Statement"]:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}

    emptied(failed_runs)
    assert arrives_with(policy) == (3, 0)
    assert arrives_with(without("cloudwatch.amazonaws.com")) == (1, 0)
    assert arrives_with(without("events.amazonaws.com")) == (2, 1)
    assert arrives_with(with_a_condition) == (2, 1)
    queues.set_queue_attributes(
        QueueUrl=failed_runs, Attributes={"Policy": '{"Version": "2012-10-17", "Statement": []}'}
    )
    assert arrives_with(with_a_condition) == (2, 0)
