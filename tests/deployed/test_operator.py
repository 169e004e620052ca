"""The operator's command as people meet it: with the rights of the policies, at a terminal and through pipes."""

from __future__ import annotations

import json
from http.client import HTTPConnection

import pytest
from botocore.exceptions import ClientError

from tests.deployed.people import Person, person_with
from tests.deployed.world import World
from virtuous_token import TokenReader
from virtuous_token_cli.connection_secrets import pattern_of_caller

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
    assert "Undo until then: virtuous-token remove --undo --connection typed" in removed.said
    assert "typed: logged in. Readers have the token." in asked_again.said
    assert "virtuous/typed/tokens: restored." in undone.said
    statuses = [ended.status for ended in (made, refused, removed, asked_again, removed_again, undone)]
    assert statuses == [0, 1, 0, 0, 0, 0]
    shown = "".join(ended.out for ended in (made, removed, asked_again))
    assert not [secret for secret in virtuous.secrets() if secret in shown]


def test_an_operator_looks_refreshes_and_checks(operator: Person) -> None:
    table, one, checked = operator.types("status"), operator.types("status", "-c", "default"), operator.types("check")
    piped, document = operator.runs("status", NO_COLOR="1"), operator.runs("status", "--json")
    refreshed = operator.runs("refresh", "--connection", "default")

    assert [ended.status for ended in (table, one, piped, document)] == [0, 0, 0, 0], table.said
    assert all("Example Relief" in ended.said for ended in (table, one, piped))
    assert max(len(line.rstrip()) for line in (table.said + one.said).splitlines()) <= 80
    assert "\x1b" not in piped.out
    assert json.loads(document.out)["settings"]["prefix"] == "virtuous"
    assert refreshed.out == "default: refreshed. A new token pair was saved, proved and published.\n"
    wrong = [line.split()[1] for line in checked.said.splitlines() if line.startswith("WRONG")]
    assert wrong in ([], ["topic:"]), checked.said
    assert ": token proved, readers are in step" in checked.said


def test_an_operator_may_not_log_in_and_is_told_before_any_password(operator: Person, deployed_world: World) -> None:
    ended = operator.types("login")

    assert ended.status == 1
    assert "AWS denies DescribeSecret" in ended.said.replace("\r\n", " ")
    assert "LoginPolicyArn" in ended.said


def test_a_protected_pair_is_for_the_function_and_who_is_named_alone(
    keeper: Person, operator: Person, deployed_world: World
) -> None:
    """Whatever the policies of others allow. An administrator can take the policy off, and that is all."""
    name, given = ("--connection", "kept"), e_mail_and_password(deployed_world)
    pair, bearer = "virtuous/kept/tokens", "virtuous/kept/bearer"
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    administrator = person_with(deployed_world, document=everything).client("secretsmanager")
    another = person_with(deployed_world, deployed_world.outputs()["LoginPolicyArn"])

    def is_refused(operation: str, **asked: str) -> bool:
        try:
            getattr(administrator, operation)(**asked)
        except ClientError as refused:
            return refused.response["Error"]["Code"] == "AccessDeniedException"
        return False

    before = keeper.runs_here("login", *name, piped=given)
    was_refused = is_refused("get_secret_value", SecretId=pair)
    protected = keeper.runs_here("login", *name, "--protect", pattern_of_caller(keeper.arn), piped=given)
    refreshed = operator.runs_here("refresh", *name)
    checked = operator.runs_here("check", *name)
    shut_out = another.runs_here("login", *name, piped=given)
    again = keeper.runs_here("login", *name, piped=given)

    assert (before.status, was_refused) == (0, False)
    assert (protected.status, again.status) == (0, 0), protected.said + again.said
    assert refreshed.out.startswith("kept: refreshed."), refreshed.said
    assert "kept: the pair is for these alone: arn:aws:iam::" in " ".join(checked.said.split())
    assert shut_out.status == 1
    assert f"{pair} is for" in shut_out.said
    refused: dict[str, dict[str, str]] = {
        "get_secret_value": {},
        "put_secret_value": {"SecretString": "{}"},
        "update_secret": {"SecretString": "{}"},
        "update_secret_version_stage": {"VersionStage": "AWSCURRENT"},
        "put_resource_policy": {"ResourcePolicy": json.dumps(everything)},
    }
    assert [is_refused(operation, SecretId=pair, **asked) for operation, asked in refused.items()] == [True] * 5
    assert not is_refused("get_secret_value", SecretId=bearer)
    assert not is_refused("delete_resource_policy", SecretId=pair)
    assert not is_refused("get_secret_value", SecretId=pair)


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

    assert "Make one:\n  virtuous-token login --prefix again" in empty.said
    assert made.status == 0, made.said
    assert (gone.status, "Run: sam deploy --region us-east-1" in gone.said) == (1, True), gone.said
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
