"""The operator's command as people meet it: with the rights of the policies, at a terminal and through pipes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.deployed.people import CommandResult, Person, person_with
from tests.deployed.world import STACK, World
from virtuous_token import TokenReader

pytestmark = pytest.mark.deployed


@pytest.fixture(scope="module")
def operator(deployed_world: World) -> Person:
    """Somebody who may look, check and refresh."""
    return person_with(deployed_world, deployed_world.outputs()["OperatorPolicyArn"])


@pytest.fixture(scope="module")
def keeper(deployed_world: World) -> Person:
    """Somebody who may log in and remove."""
    return person_with(deployed_world, deployed_world.outputs()["LoginPolicyArn"])


def e_mail_and_password(world: World) -> str:
    return f"{world.virtuous.user}\n{world.virtuous.password}\n"


def width(shown: str) -> int:
    return max(len(line.rstrip()) for line in shown.splitlines())


def test_somebody_lives_through_a_connection_at_a_terminal(keeper: Person, deployed_world: World) -> None:
    virtuous = deployed_world.virtuous
    typed = [("E-mail:", virtuous.user), ("Password (not shown):", virtuous.password)]
    name = ("--connection", "typed")

    made = keeper.types("login", *name, answers=typed)
    refused = keeper.types("remove", *name, answers=[("for deletion in 30 days? [y/N]:", "n")])
    removed = keeper.types("remove", *name, answers=[("for deletion in 30 days? [y/N]:", "y")])
    asked_again = keeper.types("login", *name, answers=[*typed, ("Restore? [y/N]:", "y")])
    removed_again = keeper.types("remove", *name, "--yes")
    undone = keeper.types("remove", *name, "--undo")

    assert "typed: logged in. Readers have the token." in made.said
    assert "You said no" in refused.said
    assert "Undo until then: virtuous-token remove --connection typed --undo" in removed.said
    assert "typed: logged in. Readers have the token." in asked_again.said
    assert "virtuous/typed/tokens: restored." in undone.said
    statuses = [ended.status for ended in (made, refused, removed, asked_again, removed_again, undone)]
    assert statuses == [0, 1, 0, 0, 0, 0]
    shown = "".join(ended.out for ended in (made, removed, asked_again))
    assert not [secret for secret in virtuous.secrets() if secret in shown]


def test_an_operator_looks_at_everything_in_eighty_columns(operator: Person) -> None:
    table, one = operator.types("status"), operator.types("status", "--connection", "default")
    piped, document = operator.runs("status"), operator.runs("status", "--json")

    assert [ended.status for ended in (table, one, piped, document)] == [0, 0, 0, 0], table.said
    for ended in (table, one, piped):
        assert "Example Relief" in ended.said
        assert width(ended.said) <= 80
    assert "\x1b" not in piped.out
    assert json.loads(document.out)["settings"]["prefix"] == "virtuous"
    assert "\x1b[3" not in operator.types("--help").out + operator.runs("status", NO_COLOR="1").out


def test_an_operator_refreshes(operator: Person) -> None:
    ended = operator.runs("refresh", "--connection", "default")

    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "default: refreshed. A new token pair was saved, proved and published.\n"


def test_an_operator_checks(operator: Person) -> None:
    ended = operator.types("check")

    wrong = [line.split()[1] for line in ended.said.splitlines() if line.startswith("WRONG")]
    assert wrong in ([], ["topic:"]), ended.said
    assert "fine   default: Example Relief: token proved, readers are in step" in ended.said


def test_an_operator_may_not_log_in_and_is_told_before_any_password(operator: Person, deployed_world: World) -> None:
    ended = operator.types("login")

    assert ended.status == 1
    assert "AWS denies DescribeSecret" in ended.said.replace("\r\n", " ")
    assert "LoginPolicyArn" in ended.said


def test_neither_may_read_what_it_need_not(operator: Person, keeper: Person, deployed_world: World) -> None:
    """By AWS's own judgement of the policies, for every kind of secret."""
    iam = deployed_world.client("iam")
    for output, may_read in (("OperatorPolicyArn", []), ("LoginPolicyArn", ["tokens"])):
        document = policy_document(deployed_world, output)
        for kind in ("tokens", "bearer", "login"):
            (judged,) = iam.simulate_custom_policy(
                PolicyInputList=[json.dumps(document)],
                ActionNames=["secretsmanager:GetSecretValue"],
                ResourceArns=[f"arn:aws:secretsmanager:us-east-1:000000000000:secret:virtuous/default/{kind}-a1B2c3"],
            )["EvaluationResults"]
            assert (judged["EvalDecision"] == "allowed") is (kind in may_read), (output, kind)


def policy_document(world: World, output: str, stack: str = STACK) -> Any:
    iam, arn = world.client("iam"), world.outputs(stack)[output]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    return json.loads(document) if isinstance(document, str) else document


def each_without_one_action(document: Any) -> Iterator[tuple[str, Any]]:
    """The policy without one action of one statement, for each in turn."""
    for index, statement in enumerate(document["Statement"]):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        for action in actions:
            less = copy.deepcopy(document)
            less["Statement"][index]["Action"] = [other for other in actions if other != action]
            if len(actions) == 1:
                del less["Statement"][index]
            yield f"{statement['Sid']}: {action}", less


def missed(world: World, document: Any, works: Callable[[Person, int], bool]) -> set[str]:
    """The actions of a policy without which everything works all the same."""
    assert works(person_with(world, document=document), 0), "with the whole policy it must work"
    lesser = enumerate(each_without_one_action(document), start=1)
    return {action for number, (action, less) in lesser if works(person_with(world, document=less), number)}


@pytest.fixture(scope="module")
def stack_with_everything(deployed_world: World) -> Iterator[str]:
    """A stack whose policies have every statement: with a topic and a key of its own."""
    topic = deployed_world.client("sns").create_topic(Name="on-call")["TopicArn"]
    key = deployed_world.client("kms").create_key()["KeyMetadata"]["Arn"]
    stack = deployed_world.deploy_another(
        "people", AlarmTopicArn=topic, KmsKeyArn=key, VirtuousBaseUrl=deployed_world.virtuous.base_url
    )
    yield stack
    deployed_world.delete(stack)


def test_every_action_of_the_operators_policy_is_needed(deployed_world: World, stack_with_everything: str) -> None:
    def works(person: Person, _: int) -> bool:
        ended = person.runs_here("check", "--prefix", "people")
        return ended.err == "" and "could not be looked at" not in ended.out

    made = Person(deployed_world, {}).runs("login", "--prefix", "people", piped=e_mail_and_password(deployed_world))
    assert made.status == 0, made.said
    document = policy_document(deployed_world, "OperatorPolicyArn", stack_with_everything)
    # With --prefix the stack is found without its tag; only its name is not known then, so that nothing asks for it.
    assert missed(deployed_world, document, works) == {"FindTheStack: tag:GetResources"}
    less = dict(each_without_one_action(document))["FindTheStack: tag:GetResources"]
    assert person_with(deployed_world, document=less).runs("check").status == 1


def test_every_action_of_the_login_policy_is_needed(deployed_world: World, stack_with_everything: str) -> None:
    given, administrator = e_mail_and_password(deployed_world), Person(deployed_world, {})

    def works(person: Person, number: int) -> bool:
        name = ("--prefix", "people", "--connection", f"policy-{number}")

        def steps() -> Iterator[CommandResult]:
            yield person.runs_here("login", *name, "--remember", "--yes", piped=given)
            yield person.runs_here("remove", *name, "--yes")
            yield person.runs_here("login", *name, "--remember", "--yes", piped=given)

        done = all(ended.status == 0 for ended in steps())
        administrator.runs_here("remove", *name, "--yes")
        return done

    document = policy_document(deployed_world, "LoginPolicyArn", stack_with_everything)
    not_enforced_here = {"UseKey: kms:Decrypt", "UseKey: kms:GenerateDataKey"}  # by the local Secrets Manager
    assert missed(deployed_world, document, works) - not_enforced_here == {"FindTheStack: tag:GetResources"}


def test_from_nothing_to_a_first_call_and_again_after_a_deletion(deployed_world: World) -> None:
    """The stack makes no secret, so a second deployment finds the connection as it was."""
    world, person = deployed_world, Person(deployed_world, {})
    given, prefix = e_mail_and_password(world), ("--prefix", "again")
    stack = world.deploy_another("again", VirtuousBaseUrl=world.virtuous.base_url)

    empty = person.runs("status", *prefix)
    made = person.runs("login", *prefix, piped=given)
    first = calls_virtuous(world, "again/default/bearer")
    before = json.loads(person.runs("status", *prefix, "--json").out)["connections"]["default"]
    world.delete(stack)
    gone = person.runs("status", *prefix)
    world.deploy_another("again", VirtuousBaseUrl=world.virtuous.base_url)
    after = json.loads(person.runs("status", *prefix, "--json").out)["connections"]["default"]
    refreshed = person.runs("refresh", *prefix)
    second = calls_virtuous(world, "again/default/bearer")
    several = person.runs("status")
    world.delete(stack)

    assert "Make one: virtuous-token login" in empty.said
    assert made.status == 0, made.said
    assert (gone.status, "sam build && sam deploy" in gone.said) == (1, True), gone.said
    assert after == before
    assert refreshed.status == 0, refreshed.said
    assert (first, second) == (200, 200)
    assert (several.status, "There are several stacks, under the prefixes again, " in several.said) == (1, True), (
        several.said
    )


def calls_virtuous(world: World, secret: str) -> int:
    """The status that a reader of *secret* gets."""
    reader = TokenReader(secret, client=world.client("secretsmanager"))
    connection = HTTPConnection("127.0.0.1", world.virtuous.port, timeout=10)
    try:
        connection.request("GET", "/api/Organization/Current", headers={"Authorization": reader.authorization()})
        return connection.getresponse().status
    finally:
        connection.close()
        reader.close()
