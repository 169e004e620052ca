"""The operator's command as people meet it: with the rights of the policies, at a terminal and through pipes."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.deployed.people import Person, person_with
from tests.deployed.world import World
from tests.facts import refusal
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
    virtuous, name = deployed_world.virtuous, ("--connection", "typed")
    login = [("E-mail:", virtuous.user), ("Password (not shown):", virtuous.password)]
    # What is typed, what is said then, and the exit status.
    story: list[tuple[str, list[tuple[str, str]], str, int]] = [
        ("login", login, "typed: logged in. Readers have the token.", 0),
        ("remove", [("for deletion in 30 days? [y/N]:", "n")], "You said no", 1),
        ("remove", [("for deletion in 30 days? [y/N]:", "y")], "remove --undo --connection typed", 0),
        ("login", [*login, ("Restore? [y/N]:", "y")], "typed: logged in. Readers have the token.", 0),
        ("remove --yes", [], "virtuous/typed/bearer: AWS deletes it on", 0),
        ("remove --undo", [], "virtuous/typed/tokens: restored.", 0),
    ]
    for command, answers, said, status in story:
        ended = keeper.types(*command.split(), *name, answers=answers)
        assert (ended.status, said in ended.said) == (status, True), ended.said
        assert not [secret for secret in virtuous.secrets() if secret in ended.out]


def test_an_operator_looks_refreshes_and_checks_and_may_not_log_in(operator: Person) -> None:
    table, checked, denied = (operator.types(command) for command in ("status", "check", "login"))
    refreshed = operator.runs("refresh", "--connection", "default")
    assert (table.status, "Example Relief" in table.said) == (0, True), table.said
    assert refreshed.out == "default: refreshed. A new token pair was saved, proved and published.\n"
    wrong = [line.split()[1] for line in checked.said.splitlines() if line.startswith("WRONG")]
    assert wrong in ([], ["topic:"]), checked.said
    assert ": token proved, readers are in step" in checked.said
    assert denied.status == 1, "he is told before any password"
    assert "AWS denies DescribeSecret" in denied.said.replace("\r\n", " ")
    assert "LoginPolicyArn" in denied.said


def test_a_protected_pair_is_for_the_function_and_who_is_named_alone(
    keeper: Person, operator: Person, deployed_world: World
) -> None:
    """Whatever the policies of others allow. An administrator can take the policy off, and that is all."""
    name, given = ("--connection", "kept"), e_mail_and_password(deployed_world)
    pair = "virtuous/kept/tokens"
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    administrator = person_with(deployed_world, document=everything).client("secretsmanager")
    another = person_with(deployed_world, deployed_world.outputs()["LoginPolicyArn"])

    def seen_of(secret: str) -> str:
        return refusal(lambda: administrator.get_secret_value(SecretId=secret))

    before = keeper.runs_here("login", *name, piped=given)
    seen_before = seen_of(pair)
    protected = keeper.runs_here("login", *name, "--protect", pattern_of_caller(keeper.arn), piped=given)
    refreshed = operator.runs_here("refresh", *name)
    checked = operator.runs_here("check", *name)
    shut_out = another.runs_here("login", *name, piped=given)
    again = keeper.runs_here("login", *name, piped=given)

    assert (before.status, seen_before) == (0, "success")
    assert (protected.status, again.status) == (0, 0), protected.said + again.said
    assert refreshed.out.startswith("kept: refreshed."), refreshed.said
    assert "kept: the pair is for these alone: arn:aws:iam::" in " ".join(checked.said.split())
    assert shut_out.status == 1
    assert f"{pair} is for" in shut_out.said
    denied = {
        seen_of(pair),
        refusal(lambda: administrator.put_secret_value(SecretId=pair, SecretString="{}")),
        refusal(lambda: administrator.update_secret(SecretId=pair, SecretString="{}")),
        refusal(lambda: administrator.update_secret_version_stage(SecretId=pair, VersionStage="AWSCURRENT")),
        refusal(lambda: administrator.put_resource_policy(SecretId=pair, ResourcePolicy=json.dumps(everything))),
    }
    assert denied == {"AccessDeniedException"}
    assert seen_of("virtuous/kept/bearer") == "success"
    administrator.delete_resource_policy(SecretId=pair)
    assert seen_of(pair) == "success"


def test_from_nothing_to_a_first_call_and_again_after_a_deletion(deployed_world: World) -> None:
    """The stack makes no secret, so a second deployment finds the connection as it was."""
    world, person = deployed_world, Person(deployed_world, {})
    prefix = ("--prefix", "again")

    def stored() -> object:
        return json.loads(person.runs("status", *prefix, "--json").out)["connections"]["default"]

    stack = world.deploy_another("again", VirtuousBaseUrl=world.virtuous.base_url)
    empty = person.runs("status", *prefix)
    made = person.runs("login", *prefix, piped=e_mail_and_password(world))
    first, before = calls_virtuous(world, "again/default/bearer"), stored()
    world.delete(stack)
    gone = person.runs("status", *prefix)
    world.deploy_another("again", VirtuousBaseUrl=world.virtuous.base_url)
    after, refreshed = stored(), person.runs("refresh", *prefix)
    second = calls_virtuous(world, "again/default/bearer")
    world.delete(stack)

    assert "Make one:\n  virtuous-token login --prefix again" in empty.said
    assert (made.status, refreshed.status) == (0, 0), made.said + refreshed.said
    assert (gone.status, "Run: sam deploy --region us-east-1" in gone.said) == (1, True), gone.said
    assert after == before
    assert (first, second) == (200, 200)


def calls_virtuous(world: World, secret: str) -> int:
    """The status that a reader of *secret* gets."""
    with (
        closing(TokenReader(secret, client=world.client("secretsmanager"))) as reader,
        closing(HTTPConnection("127.0.0.1", world.virtuous.port, timeout=10)) as connection,
    ):
        connection.request("GET", "/api/Organization/Current", headers={"Authorization": reader.authorization()})
        return connection.getresponse().status
