"""Every action and every resource of every policy of the stack is needed, and what is not in them is refused.

The policies are those of a deployed stack that has every statement. Each is taken over by a role of its own, what needs
it is done with that role's credentials, and then without one action or one resource at a time: something must fail.
Nothing is left out: a statement that is new must be needed by what is done here already, or this module must do more.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import boto3
import pytest
from aws_secretsmanager_caching import SecretCache  # type: ignore[import-untyped]
from botocore.exceptions import ClientError

from tests.deployed.local_aws import REGION
from tests.deployed.people import ACCOUNT, CommandResult, Person, client_of, person_with
from tests.deployed.world import RUNTIME, World
from tests.fakes.virtuous import Virtuous
from tests.support import Context, issued_by
from tests.transformed import policies_of, transformed
from token_refresher import handler
from token_refresher.refresh.formats import SecretNames
from virtuous_token import TokenReader, VirtuousTokenError
from virtuous_token.contract import Bearer

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

Document = dict[str, Any]

PREFIX = "whole"
FUNCTION, FUNCTIONS_POLICY = f"{PREFIX}-token-refresher", "TokenRefresherRole-refresh"
INVOKE, DEAD_LETTERS = (f"TokenRefresherSweepRole-TokenRefresherSweep{kind}Policy" for kind in ("Lambda", "SQS"))
PEOPLE = {"AWS": ACCOUNT}
REST = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{PREFIX}/*/"  # with which the names of secrets begin
SECONDS = 60.0
PROXY = "http://proxy.example.org:3128"


def some(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def each_without_one(document: Document) -> Iterator[tuple[str, Document]]:
    """The policy without one action or one resource of one statement, for each in turn. A statement with one of both
    goes once."""
    before: list[Document] = []
    for index, statement in enumerate(document["Statement"]):
        for key in ("Action", "Resource"):
            whole = some(statement[key])
            for left_out in whole:
                less = copy.deepcopy(document)
                less["Statement"][index][key] = [other for other in whole if other != left_out]
                if len(whole) == 1:
                    del less["Statement"][index]
                if less not in before:
                    before.append(less)
                    yield f"{statement.get('Sid', 'its statement')} without {left_out.replace(REST, '')}", less


def without(document: Document, *sids: str) -> Document:
    return {**document, "Statement": [found for found in document["Statement"] if found["Sid"] not in sids]}


@dataclass(slots=True)
class Whole:
    """A stack with every statement: under a key of its own, in a VPC, with a topic of its own; and with a
    proxy, as an organisation prescribes it.
    """

    world: World
    name: str
    key: str
    virtuous: Virtuous
    policies: dict[str, Document]

    def resource(self, logical_id: str) -> str:
        found = self.world.client("cloudformation").describe_stack_resources(
            StackName=self.name, LogicalResourceId=logical_id
        )
        physical: str = found["StackResources"][0]["PhysicalResourceId"]
        return physical

    @property
    def failed_runs(self) -> str:
        return self.world.outputs(self.name)["FailedRunsQueueUrl"]

    def messages(self, queue: str) -> list[str]:
        """What the queue holds, taken out of it."""
        found: list[str] = []
        client = self.world.client("sqs")
        while received := client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in received:
                client.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                found.append(message["Body"])
        return found

    def log(self) -> str:
        """All that the function's log group holds."""
        group = f"/aws/lambda/{FUNCTION}"
        pages = self.world.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return "\n".join(event["message"] for page in pages for event in page["events"])


@pytest.fixture(scope="module")
def whole(deployed_world: World) -> Iterator[Whole]:
    key = deployed_world.client("kms").create_key()["KeyMetadata"]["Arn"]
    with Virtuous() as virtuous:
        stack = deployed_world.deploy_another(
            PREFIX,
            AlarmEmail="somebody@example.org",
            KmsKeyArn=key,
            VpcSubnetIds="subnet-0a1b2c3d",
            VpcSecurityGroupIds="sg-0a1b2c3d",
            HttpsProxy=PROXY,
            NoProxy="169.254.169.254",
            VirtuousBaseUrl=virtuous.base_url,
        )
        yield Whole(deployed_world, stack, key, virtuous, policies_in(deployed_world, stack))
        deployed_world.delete(stack)


def zipped(name: str, content: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, content)
    return archive.getvalue()


def policies_in(world: World, stack: str) -> dict[str, Document]:
    """The documents of the stack's roles and managed policies as they were deployed, named as ``policies_of`` does."""
    iam, found = world.client("iam"), {}
    for resource in world.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]:
        name, physical = resource["LogicalResourceId"], resource["PhysicalResourceId"]
        if resource["ResourceType"] == "AWS::IAM::ManagedPolicy":
            version = iam.get_policy(PolicyArn=physical)["Policy"]["DefaultVersionId"]
            found[name] = iam.get_policy_version(PolicyArn=physical, VersionId=version)["PolicyVersion"]["Document"]
        for policy in iam.list_role_policies(RoleName=physical)["PolicyNames"] if "Role" in name else ():
            found[f"{name}-{policy}"] = iam.get_role_policy(RoleName=physical, PolicyName=policy)["PolicyDocument"]
    return {name: json.loads(text) if isinstance(text, str) else text for name, text in found.items()}


@dataclass(slots=True)
class Role:
    """A role for *trusted*, whose one policy can be replaced."""

    world: World
    trusted: Mapping[str, str]
    name: str = field(default_factory=lambda: f"role-{uuid4().hex[:12]}")
    arn: str = ""

    def __post_init__(self) -> None:
        statement = {"Effect": "Allow", "Principal": self.trusted, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        made = self.world.client("iam").create_role(RoleName=self.name, AssumeRolePolicyDocument=trust)
        self.arn = made["Role"]["Arn"]

    def gets(self, document: Document) -> Role:
        iam = self.world.client("iam")
        if document["Statement"]:
            iam.put_role_policy(RoleName=self.name, PolicyName="inline", PolicyDocument=json.dumps(document))
        return self

    def session(self) -> boto3.session.Session:
        taken = self.world.client("sts").assume_role(RoleArn=self.arn, RoleSessionName="test")["Credentials"]
        return boto3.session.Session(
            taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"], region_name=REGION
        )


def test_the_policies_are_those_that_the_template_has(whole: Whole) -> None:
    """So that no policy, and no statement of one, is forgotten here."""
    expected = {
        name: {found.get("Sid") for found in some_statements(document)}
        for name, document in policies_of(transformed(), "aws").items()
    }

    assert {
        name: {found.get("Sid") for found in document["Statement"]} for name, document in whole.policies.items()
    } == expected
    assert expected.keys() == {
        FUNCTIONS_POLICY,
        INVOKE,
        DEAD_LETTERS,
        "ReaderPolicy",
        "OperatorPolicy",
        "LoginPolicy",
    }


def test_the_proxy_that_an_organisation_prescribes_arrives(whole: Whole) -> None:
    """What else it may prescribe the local AWS forgets: subnets, security groups, boundaries, and a layer's files."""
    function = whole.world.client("lambda").get_function_configuration(FunctionName=FUNCTION)
    variables = function["Environment"]["Variables"]
    assert (variables["HTTPS_PROXY"], variables["NO_PROXY"]) == (PROXY, "169.254.169.254")


def some_statements(document: Document) -> list[Any]:
    statements = document["Statement"]
    return [statements] if isinstance(statements, dict) else statements


# The function: what its code calls itself

BY_LAMBDA = ("Log", "HandOverFailedRuns", "LiveInTheVpc")
STATES = ("due", "refused", "asked", "pasted", "halved", "headless")


class Refusals:
    """The calls that AWS denies to clients of *session* from here on."""

    def __init__(self, session: boto3.session.Session) -> None:
        self.found: set[str] = set()
        events: Any = session.events
        events.register("after-call", self._look)

    def _look(self, parsed: Mapping[str, Any], model: Any, **_: object) -> None:
        codes = [parsed.get("Error", {}).get("Code"), *(error["ErrorCode"] for error in parsed.get("Errors", ()))]
        if any(str(code).startswith("AccessDenied") for code in codes):
            self.found.add(model.name)


def make_connections(whole: Whole) -> None:
    """Connections in every state that takes a permission; those of an earlier time go."""
    manager = whole.world.client("secretsmanager")
    for name in STATES:
        names = SecretNames.of(PREFIX, name)
        for secret in names:
            with contextlib.suppress(manager.exceptions.ResourceNotFoundException):
                manager.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
        for secret in (names.pair, names.bearer):
            manager.create_secret(Name=secret, KmsKeyId=whole.key)
        pair = issued_by(whole.virtuous, age=timedelta(days=8 if name != "headless" else 0))
        version = manager.put_secret_value(SecretId=names.pair, SecretString=pair.to_json())["VersionId"]
        bearer = Bearer(access_token=pair.access_token, issued_at=pair.issued_at, expires_at=pair.expires_at)
        manager.put_secret_value(SecretId=names.bearer, SecretString=bearer.to_json(), ClientRequestToken=version)
        if name in ("refused", "asked"):
            whole.virtuous.revoke_refresh_token(str(pair.refresh_token.reveal()))  # type: ignore[union-attr]
    login = {"username": whole.virtuous.user, "password": whole.virtuous.password}
    manager.create_secret(Name=f"{PREFIX}/refused/login", SecretString=json.dumps(login), KmsKeyId=whole.key)
    manager.put_secret_value(SecretId=f"{PREFIX}/pasted/bearer", SecretString='{"access_token": "of-somebody"}')
    for gone in (f"{PREFIX}/halved/bearer", f"{PREFIX}/headless/tokens"):
        manager.delete_secret(SecretId=gone, ForceDeleteWithoutRecovery=True)


def exists(manager: Any, name: str) -> bool:
    try:
        manager.describe_secret(SecretId=name)
    except manager.exceptions.ResourceNotFoundException:
        return False
    return True


@dataclass(slots=True)
class Worker:
    """The function's code in this process, with the credentials of a role that has its policy, or less."""

    whole: Whole
    role: Role
    refusals: Refusals

    def works_with(self, document: Document) -> tuple[object, set[str]]:
        """What comes of a sweep and a report, and which calls were refused."""
        make_connections(self.whole)
        self.role.gets(document)
        self.refusals.found.clear()
        swept = self.runs({})
        looked = self.runs({"report": True})
        seen = {
            name: tuple(facts.get(key) for key in ("error", "last_outcome", "bearer_in_step", "obtained_by"))
            for name, facts in looked.get("connections", {}).items()
        }
        return (swept, seen), set(self.refusals.found)

    def runs(self, event: dict[str, Any]) -> Any:
        context: Any = Context()
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                return handler.lambda_handler(event, context)
            except Exception as error:  # noqa: BLE001 (as Lambda's runtime does)
                return {"error": f"{type(error).__name__}: {error}"}


@pytest.fixture
def worker(whole: Whole) -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", whole.world.environment["AWS_ENDPOINT_URL"])
        patch.setenv("SECRET_PREFIX", PREFIX)
        patch.setenv("VIRTUOUS_BASE_URL", whole.virtuous.base_url)
        patch.setenv("KMS_KEY_ARN", whole.key)
        patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "VirtuousToken")
        patch.setenv("POWERTOOLS_SERVICE_NAME", f"test-{uuid4()}")
        role = Role(whole.world, PEOPLE)
        session = role.session()
        patch.setattr(boto3, "DEFAULT_SESSION", session)
        handler.application.cache_clear()
        yield Worker(whole, role, Refusals(session))
        handler.application.cache_clear()


# Without these the same comes of it: the first saves calls, a refused notice is told in the log, by an alarm and again
# tomorrow, and the last makes "not found" of a denial.
SAME_ALL_THE_SAME = {
    "FindConnections without secretsmanager:BatchGetSecretValue",
    "SendNotices without events:PutEvents",
    "RecoverUnattended without login",
}


def test_the_function_needs_each_action_and_each_resource_that_its_code_uses(whole: Whole, worker: Worker) -> None:
    its_own = without(whole.policies[FUNCTIONS_POLICY], *BY_LAMBDA)
    expected, refused = worker.works_with(its_own)
    assert refused == set()

    ended = {name: worker.works_with(less) for name, less in each_without_one(its_own)}

    assert {name for name, (_, refused) in ended.items() if not refused} == set()
    assert {name for name, (outcome, _) in ended.items() if outcome == expected} == SAME_ALL_THE_SAME


# The function: what Lambda does with its role

CODE = "def lambda_handler(event, context):\n    print(event['word'])\n    raise ValueError\n"


def make_function(whole: Whole, role: str, **options: Any) -> str:
    """A function that says the word it is given, to the log group of the stack's, and fails; its name."""
    name = f"fails-{uuid4().hex[:12]}"
    whole.world.client("lambda").create_function(
        FunctionName=name,
        Runtime=RUNTIME,
        Handler="fails.lambda_handler",
        Role=role,
        Code={"ZipFile": zipped("fails.py", CODE)},
        LoggingConfig={"LogGroup": f"/aws/lambda/{FUNCTION}"},
        **options,
    )
    return name


def test_lambda_logs_and_hands_failures_over_by_the_functions_role(whole: Whole) -> None:
    functions, queue = whole.world.client("lambda"), whole.resource("FailedRuns").rpartition("/")[2]
    policy = whole.policies[FUNCTIONS_POLICY]
    its_own = without(policy, *({found["Sid"] for found in policy["Statement"]} - {"Log", "HandOverFailedRuns"}))
    variants = {"with everything": its_own, **dict(each_without_one(its_own))}

    def fails_with(word: str, document: Document) -> None:
        name = make_function(whole, Role(whole.world, {"Service": "lambda.amazonaws.com"}).gets(document).arn)
        functions.put_function_event_invoke_config(
            FunctionName=name,
            MaximumRetryAttempts=0,
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"}},
        )
        functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"word": word}).encode())

    handed_over: list[str] = []

    def logged() -> set[str]:
        lines = whole.log().splitlines()
        return {word for word in (*variants, "at last") if word in lines}

    def received() -> set[str]:
        handed_over.extend(json.loads(body)["requestPayload"]["word"] for body in whole.messages(whole.failed_runs))
        return set(handed_over)

    for word, document in variants.items():
        fails_with(word, document)
    # Each run shows in one of the two places, whatever it may not do in the other. The last one shows that what is
    # not there by then does not come.
    whole.world.wait("every run", lambda: logged() | received() >= variants.keys() or None, SECONDS)
    fails_with("at last", its_own)
    whole.world.wait("the last run", lambda: "at last" in received() or None, SECONDS)

    without_a_log, not_handed_over = variants.keys() - logged(), variants.keys() - received()
    assert without_a_log == {name for name in variants if name.startswith("Log without")}
    assert not_handed_over == {name for name in variants if name.startswith("HandOverFailedRuns without")}
    assert len(without_a_log) == 3


def test_lambda_puts_the_function_into_a_vpc_by_its_role(whole: Whole) -> None:
    policy, in_a_vpc = whole.policies[FUNCTIONS_POLICY], {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}

    def is_made_with(document: Document) -> bool:
        role = Role(whole.world, {"Service": "lambda.amazonaws.com"}).gets(document)
        try:
            return bool(make_function(whole, role.arn, VpcConfig=in_a_vpc))
        except ClientError as refused:
            if "does not have permissions to call" not in str(refused):
                raise
            return False

    assert is_made_with(policy)
    lesser = {name: less for name, less in each_without_one(policy) if name.startswith("LiveInTheVpc")}
    assert len(lesser) == 7
    assert {name for name, less in lesser.items() if is_made_with(less)} == set()


# The schedule


def test_the_schedule_reaches_the_function_and_the_queue_by_its_role(whole: Whole) -> None:
    """Scheduler has taken its one-time schedules away when it has delivered what it may."""
    schedules, nothing = whole.world.client("scheduler"), {"Version": "2012-10-17", "Statement": []}
    (function,) = (found["Resource"] for found in some_statements(whole.policies[INVOKE]))
    (queue,) = (found["Resource"] for found in some_statements(whole.policies[DEAD_LETTERS]))
    whole.messages(whole.failed_runs)
    before = whole.log().count('"source":"aws.scheduler"')

    def fires_with(policy: str, *documents: Document) -> None:
        statements = [statement for document in documents for statement in some_statements(document)]
        role = Role(whole.world, {"Service": "scheduler.amazonaws.com"}).gets({**nothing, "Statement": statements})
        schedules.create_schedule(
            Name=f"least-{policy}",
            ScheduleExpression=f"at({datetime.now(UTC):%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={
                "Arn": function,
                "RoleArn": role.arn,
                "Input": json.dumps({"source": "aws.scheduler", "by": policy}),
                "DeadLetterConfig": {"Arn": queue},
            },
        )

    fires_with("both", whole.policies[INVOKE], whole.policies[DEAD_LETTERS])
    fires_with("no-invoke", whole.policies[DEAD_LETTERS])
    fires_with("nothing")

    def all_fired() -> bool | None:
        return not schedules.list_schedules(NamePrefix="least-")["Schedules"] or None

    whole.world.wait("the schedules", all_fired, SECONDS)
    runs = '"source":"aws.scheduler"'
    whole.world.wait("the run", lambda: whole.log().count(runs) > before or None, SECONDS)
    assert whole.log().count(runs) == before + 1
    assert [json.loads(body)["by"] for body in whole.messages(whole.failed_runs)] == ["no-invoke"]


# What no policy allows


def other_secret(kind: str, prefix: str = PREFIX) -> dict[str, str]:
    return {"SecretId": f"{prefix}/default/{kind}"}


VALUE = {"SecretString": "{}"}
NOT_ALLOWED: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    FUNCTIONS_POLICY: [
        ("secretsmanager", "create_secret", {"Name": f"{PREFIX}/new/tokens"}),
        ("secretsmanager", "delete_secret", other_secret("tokens")),
        ("secretsmanager", "describe_secret", other_secret("tokens")),
        ("secretsmanager", "update_secret", other_secret("tokens") | VALUE),
        ("secretsmanager", "put_resource_policy", other_secret("tokens") | {"ResourcePolicy": "{}"}),
        ("secretsmanager", "get_secret_value", other_secret("bearer")),
        ("secretsmanager", "put_secret_value", other_secret("login") | VALUE),
        ("secretsmanager", "get_secret_value", other_secret("tokens", "virtuous")),
        ("events", "put_events", {"Entries": [{"Source": "other", "DetailType": "Login Required", "Detail": "{}"}]}),
        ("sqs", "receive_message", {"QueueUrl": "failed runs"}),
        ("kms", "decrypt", {"CiphertextBlob": b"-", "KeyId": "key"}),
        ("lambda", "invoke", {"FunctionName": FUNCTION}),
    ],
    INVOKE: [("lambda", "invoke", {"FunctionName": "virtuous-token-refresher"})],
    DEAD_LETTERS: [("sqs", "receive_message", {"QueueUrl": "failed runs"})],
    "ReaderPolicy": [
        ("secretsmanager", "get_secret_value", other_secret("tokens")),
        ("secretsmanager", "get_secret_value", other_secret("login")),
        ("secretsmanager", "get_secret_value", other_secret("bearer", "virtuous")),
        ("secretsmanager", "put_secret_value", other_secret("bearer") | VALUE),
        ("secretsmanager", "list_secrets", {}),
        ("kms", "decrypt", {"CiphertextBlob": b"-", "KeyId": "key"}),
    ],
    "OperatorPolicy": [
        *(("secretsmanager", "get_secret_value", other_secret(kind)) for kind in ("tokens", "bearer", "login")),
        ("secretsmanager", "put_secret_value", other_secret("tokens") | VALUE),
        ("secretsmanager", "delete_secret", other_secret("tokens")),
        ("lambda", "invoke", {"FunctionName": "virtuous-token-refresher"}),
        ("lambda", "update_function_configuration", {"FunctionName": FUNCTION, "Timeout": 1}),
    ],
    "LoginPolicy": [
        *(("secretsmanager", "get_secret_value", other_secret(kind)) for kind in ("bearer", "login")),
        ("secretsmanager", "put_secret_value", other_secret("bearer") | VALUE),
        ("secretsmanager", "get_secret_value", other_secret("tokens", "virtuous")),
        ("secretsmanager", "create_secret", {"Name": "virtuous/new/tokens"}),
        ("lambda", "invoke", {"FunctionName": "virtuous-token-refresher"}),
        ("kms", "decrypt", {"CiphertextBlob": b"-", "KeyId": "key"}),
    ],
}


@pytest.mark.parametrize("policy", NOT_ALLOWED)
def test_what_a_policy_does_not_name_is_refused(whole: Whole, policy: str) -> None:
    session = Role(whole.world, PEOPLE).gets(whole.policies[policy]).session()
    manager = whole.world.client("secretsmanager")
    for kind in ("tokens", "bearer", "login"):
        if not exists(manager, f"{PREFIX}/default/{kind}"):
            manager.create_secret(Name=f"{PREFIX}/default/{kind}", KmsKeyId=whole.key)
    given = {"QueueUrl": whole.failed_runs, "KeyId": whole.key}

    for service, operation, asked in NOT_ALLOWED[policy]:
        with pytest.raises(ClientError) as refused:
            getattr(client_of(session, whole.world, service), operation)(
                **{key: given.get(key, value) for key, value in asked.items()}
            )
        assert refused.value.response["Error"]["Code"].startswith("AccessDenied"), (operation, asked)


# What is no role's: the topic and the queue


def test_rules_and_alarms_reach_somebody_by_the_policies_of_topic_and_queue(whole: Whole) -> None:
    world, topic = whole.world, whole.resource("AlarmTopic")
    topics, queues = world.client("sns"), world.client("sqs")
    inbox = queues.create_queue(QueueName=f"inbox-{uuid4().hex[:8]}")["QueueUrl"]
    inbox_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{inbox.rpartition('/')[2]}"
    by_topics = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    set_queue_policy(queues, inbox, {"Version": "2012-10-17", "Statement": [{**by_topics, "Resource": inbox_arn}]})
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=inbox_arn)
    policy = json.loads(topics.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    kept = queues.get_queue_attributes(QueueUrl=whole.failed_runs, AttributeNames=["Policy"])["Attributes"]["Policy"]
    notice = {
        "Source": "virtuous.token",
        "DetailType": "Login Required",
        "Detail": json.dumps({"prefix": PREFIX, "connection": "acme"}),
    }

    def what_arrives() -> tuple[int, int]:
        """After a notice and an alarm: messages to somebody, and in the queue of failures."""
        world.client("events").put_events(Entries=[notice])
        for state in ("ALARM", "OK"):
            world.client("cloudwatch").set_alarm_state(
                AlarmName=f"{FUNCTION}-no-sweep", StateValue=state, StateReason="a test"
            )
        return len(whole.messages(inbox)), len(whole.messages(whole.failed_runs))

    def without_service(name: str) -> str:
        less = copy.deepcopy(policy)
        (statement,) = less["Statement"]
        statement["Principal"]["Service"] = [other for other in statement["Principal"]["Service"] if other != name]
        return json.dumps(less)

    def set_topic_policy(text: str) -> None:
        topics.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=text)

    whole.messages(whole.failed_runs)
    with_everything = what_arrives()
    set_topic_policy(without_service("cloudwatch.amazonaws.com"))
    without_alarms = what_arrives()
    set_topic_policy(without_service("events.amazonaws.com"))
    without_notices = what_arrives()
    set_queue_policy(queues, whole.failed_runs, {"Version": "2012-10-17", "Statement": []})
    not_even_kept = what_arrives()
    set_topic_policy(json.dumps(policy))
    set_queue_policy(queues, whole.failed_runs, json.loads(kept))

    assert (with_everything, without_alarms, without_notices, not_even_kept) == ((3, 0), (1, 0), (2, 1), (2, 0))


def set_queue_policy(queues: Any, url: str, document: Document) -> None:
    queues.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(document)})


# Readers


def test_a_reader_needs_each_action_and_each_resource(whole: Whole) -> None:
    """It asks as ours and AWS's caching library do, for a secret that is there and for none."""
    policy, role = whole.policies["ReaderPolicy"], Role(whole.world, PEOPLE)
    manager, pair = whole.world.client("secretsmanager"), issued_by(whole.virtuous)
    names = SecretNames.of(PREFIX, "read"), SecretNames.of(PREFIX, "absent")
    bearer = Bearer(access_token=pair.access_token, issued_at=pair.issued_at, expires_at=pair.expires_at)
    manager.create_secret(Name=names[0].bearer, SecretString=bearer.to_json(), KmsKeyId=whole.key)

    session = role.session()
    refusals, client = Refusals(session), client_of(session, whole.world, "secretsmanager")

    def refused_with(document: Document) -> set[str]:
        role.gets(document)
        refusals.found.clear()
        for name in (names[0].bearer, names[1].bearer):
            with contextlib.suppress(VirtuousTokenError):
                TokenReader(name, client=client).token()
            with contextlib.suppress(ClientError):
                SecretCache(client=client).get_secret_string(name)
        return set(refusals.found)

    assert refused_with(policy) == set()
    assert {name for name, less in each_without_one(policy) if not refused_with(less)} == set()


# People


def missed(world: World, document: Document, works: Callable[[Person, int], bool]) -> set[str]:
    """What of a policy could be left out, and everything works all the same."""
    assert works(person_with(world, document=document), 0), "with the whole policy it must work"
    lesser = enumerate(each_without_one(document), start=1)
    return {name for number, (name, less) in lesser if works(person_with(world, document=less), number)}


def e_mail_and_password(whole: Whole) -> str:
    return f"{whole.virtuous.user}\n{whole.virtuous.password}\n"


def test_an_operator_needs_each_action_and_each_resource(whole: Whole) -> None:
    def works(person: Person, _: int) -> bool:
        ended = person.runs_here("check", "--prefix", PREFIX)
        return ended.err == "" and "could not be looked at" not in ended.out

    made = Person(whole.world, {}).runs_here("login", "--prefix", PREFIX, piped=e_mail_and_password(whole))
    assert made.status == 0, made.said
    for half in ("half/tokens", "other-half/bearer"):
        whole.world.client("secretsmanager").create_secret(Name=f"{PREFIX}/{half}", KmsKeyId=whole.key)
    policy = whole.policies["OperatorPolicy"]

    # With --prefix the stack is found without its tag; only its name is not known then, so that nothing asks for it.
    assert missed(whole.world, policy, works) == {"FindTheStack without tag:GetResources"}
    assert finds_no_stack_without_its_tag(whole, policy)


def finds_no_stack_without_its_tag(whole: Whole, policy: Document) -> bool:
    """There is another stack, so a person who may look for stacks is asked which."""
    less = without(policy, "FindTheStack")
    with_all, with_less = (person_with(whole.world, document=found).runs_here("status") for found in (policy, less))
    return "There are several stacks" in with_all.said and "AWS denies GetResources" in with_less.said


def test_somebody_who_logs_in_needs_each_action_and_each_resource(whole: Whole) -> None:
    given, administrator = e_mail_and_password(whole), Person(whole.world, {})

    def works(person: Person, number: int) -> bool:
        name = ("--prefix", PREFIX, "--connection", f"policy-{number}")

        def steps() -> Iterator[CommandResult]:
            everything = ("--remember", "--protect", f"arn:aws:iam::{ACCOUNT}:role/person-*", "--yes")
            yield person.runs_here("login", *name, *everything, piped=given)
            yield person.runs_here("remove", *name, "--yes")
            yield person.runs_here("login", *name, "--remember", "--yes", piped=given)

        done = all(ended.status == 0 for ended in steps())
        administrator.runs_here("remove", *name, "--yes")
        return done

    policy = whole.policies["LoginPolicy"]
    assert missed(whole.world, policy, works) == {"FindTheStack without tag:GetResources"}
    assert finds_no_stack_without_its_tag(whole, policy)
