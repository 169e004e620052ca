"""A pair for the function and named people alone: who is let in, who is told, and that nobody locks himself out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.operator import CALLER, CONFIGURATION, ROLE, Operator, Scripted
from token_refresher.refresh.formats import SecretNames
from virtuous_token_cli.connection_secrets import is_principal, lets_in, pattern_for, pattern_of_caller, policy_with

NAMES = SecretNames.of("virtuous", "default")
KEEPERS = "arn:aws:iam::000000000000:role/keepers"
FUNCTION = "arn:aws:iam::000000000000:role/virtuous-token-refresher-TokenRefresherRole-*"
ACCOUNT = "arn:aws:iam::111122223333"
SESSION = "arn:aws:sts::111122223333:assumed-role"
SSO, SSO_PATH = "AWSReservedSSO_Keepers_0123456789abcdef", "aws-reserved/sso.amazonaws.com/"
PAGE = Path(__file__).parents[2] / "docs" / "accounts-and-regions.md"


def policy_of(operator: Operator, name: str) -> Any:
    found = operator.account.client.get_resource_policy(SecretId=name).get("ResourcePolicy")
    return json.loads(found) if found else None


def named(operator: Operator, name: str) -> Any:
    (statement,) = policy_of(operator, name)["Statement"]
    return statement["Condition"]["ArnNotLike"]["aws:PrincipalArn"]


def test_a_login_protects_the_pair_before_there_is_a_token_in_it(operator: Operator) -> None:
    ended = operator.logs_in("--protect", KEEPERS)

    assert ended.status == 0, ended.err
    assert f"{NAMES.pair} is for these alone: {FUNCTION}, {KEEPERS}." in ended.err
    assert named(operator, NAMES.pair) == [FUNCTION, KEEPERS]
    assert policy_of(operator, NAMES.bearer) is None
    log = [(call.operation, call.secret_name) for call in operator.account.strict.log]
    assert log.index(("PutResourcePolicy", NAMES.pair)) < log.index(("PutSecretValue", NAMES.pair))
    (call,) = operator.account.strict.calls("PutResourcePolicy")
    assert call.params["BlockPublicPolicy"] is True

    assert operator.logs_in().status == 0
    assert named(operator, NAMES.pair) == [FUNCTION, KEEPERS], "a later login leaves it alone"
    others = f"{KEEPERS}-*", "arn:aws:iam::000000000000:user/on-call", KEEPERS
    assert operator.logs_in(*(part for other in others for part in ("--protect", other))).status == 0
    assert named(operator, NAMES.pair) == [FUNCTION, *others]


def test_what_else_the_policy_says_stays() -> None:
    theirs = {"Sid": "Theirs", "Effect": "Deny", "Principal": "*", "Action": "secretsmanager:Delete*", "Resource": "*"}
    before = json.dumps({"Version": "2012-10-17", "Statement": theirs})
    policy = json.loads(policy_with(policy_with(before, [ROLE]), [KEEPERS]))
    assert policy["Statement"][0] == theirs
    assert [statement["Sid"] for statement in policy["Statement"]] == ["Theirs", "OnlyTheFunctionAndWhoIsNamed"]


PROTECT, REMEMBER = ["--protect", KEEPERS], ["--remember"]


@pytest.mark.parametrize(("first", "second"), [(REMEMBER, PROTECT), (PROTECT, REMEMBER)])
def test_a_stored_password_is_for_the_same_people(operator: Operator, first: list[str], second: list[str]) -> None:
    assert operator.logs_in(*first, "--yes").status == 0
    assert operator.logs_in(*second, "--yes").status == 0
    assert named(operator, NAMES.login) == named(operator, NAMES.pair) == [FUNCTION, KEEPERS]


def test_who_would_lock_himself_out_is_refused_before_any_password(operator: Operator) -> None:
    person = Scripted([])  # whoever asks him for anything fails
    ended = operator.runs_at_a_terminal("login", "--protect", f"{KEEPERS}-2", person=person)
    assert ended.status == 1
    assert f"You would lock yourself out: {NAMES.pair} would be for {FUNCTION}, {KEEPERS}-2 alone" in ended.err
    assert f"you are {CALLER}" in ended.err
    assert f"--protect '{KEEPERS}' as well" in ended.err
    assert "Nothing was changed." in ended.err


def test_who_is_shut_out_is_told_before_any_password(operator: Operator) -> None:
    assert operator.logs_in("--protect", KEEPERS).status == 0
    caller = CALLER.replace("keepers", "others")
    operator.let_aws_answer("sts.GetCallerIdentity", {"Account": "000000000000", "Arn": caller})
    for more in ([], ["--protect", "arn:aws:iam::000000000000:role/others"]):
        ended = operator.runs_at_a_terminal("login", *more, person=Scripted([]))
        assert ended.status == 1
        assert f"{NAMES.pair} is for {FUNCTION}, {KEEPERS} alone, and you are {caller}." in ended.err
        assert f"aws secretsmanager delete-resource-policy --secret-id {NAMES.pair}" in ended.err


@pytest.mark.parametrize("given", ["keepers", "*", CALLER, f"{ACCOUNT}:root", "arn:aws:iam::*:role/k"])
def test_what_is_no_role_or_user_is_misuse(operator: Operator, given: str) -> None:
    ended = operator.logs_in("--protect", given)
    assert ended.status == 2
    assert "is not the ARN of an IAM role or user" in ended.err


def test_check_tells_that_the_function_is_shut_out(operator: Operator) -> None:
    """As after a deployment under another stack's name."""
    assert operator.logs_in("--protect", KEEPERS).status == 0
    before = " ".join(operator.runs("check").out.split())
    operator.let_aws_answer(
        "lambda.GetFunctionConfiguration", CONFIGURATION | {"Role": ROLE.replace("virtuous", "other")}
    )

    ended = operator.runs("check")

    assert f"fine default: the pair is for these alone: {FUNCTION}, {KEEPERS}" in before
    assert ended.status == 1
    said = " ".join(ended.out.split())
    assert f"WRONG default: {NAMES.pair} is for {FUNCTION}, {KEEPERS} alone, and the function's role is not" in said
    assert f"run: aws secretsmanager delete-resource-policy --secret-id {NAMES.pair} --region us-east-1" in said
    assert f"run: virtuous-token login --protect {KEEPERS} --connection default" in said


@pytest.mark.parametrize(
    ("pattern", "caller", "is_let_in"),
    [
        pytest.param("role/keepers", "keepers/me", True, id="a role"),
        pytest.param("role/keepers", "keepers-2/me", False, id="a role whose name goes on"),
        pytest.param("role/keepers", "other/keepers", False, id="a session of that name"),
        pytest.param("role/keep?rs", "keepers/me", True, id="one character"),
        pytest.param("role/team/keepers", "keepers/me", True, id="a role with a path"),
        pytest.param("role/team/keepers", "others/me", False, id="another with a path"),
        pytest.param("user/keepers", "keepers/me", False, id="a user is no role"),
        pytest.param("user/team/me", f"{ACCOUNT}:user/team/me", True, id="a user"),
        pytest.param("role/*", f"{SESSION[:-14]}4:assumed-role/keepers/me", False, id="another account"),
        pytest.param(f"role/{SSO[:-16]}*", f"{SSO}/me", False, id="an SSO role without its path"),
        pytest.param(f"role/{SSO_PATH}*{SSO[:-16]}*", f"{SSO}/me", True, id="an SSO role, as the page names it"),
        pytest.param(f"role/{SSO_PATH}eu-west-1/{SSO}", f"{SSO}/me", True, id="an SSO role of a Region"),
        pytest.param(f"role/{SSO_PATH}*/{SSO}", f"{SSO}/me", True, id="an SSO role of any Region"),
    ],
)
def test_who_is_let_in(pattern: str, caller: str, is_let_in: bool) -> None:
    whole = caller if caller.startswith("arn:") else f"{SESSION}/{caller}"
    assert lets_in([f"{ACCOUNT}:role/somebody-else", f"{ACCOUNT}:{pattern}"], whole) is is_let_in


@pytest.mark.parametrize("caller", [f"{SESSION}/keepers/me", f"{SESSION}/{SSO}/me", f"{ACCOUNT}:user/team/me"])
def test_what_is_proposed_lets_the_caller_in(caller: str) -> None:
    proposed = pattern_of_caller(caller)
    assert is_principal(proposed)
    assert lets_in([proposed], caller)


@pytest.mark.parametrize("role", [ROLE, f"{ACCOUNT}:role/our-refresher"], ids=["CloudFormation's name", "another"])
def test_the_functions_role_is_let_in_after_the_stack_was_made_again(role: str) -> None:
    assert pattern_for(role) == (FUNCTION if role == ROLE else role)


def test_the_page_shows_the_policy_that_is_made() -> None:
    shown = re.findall(r"<!-- policy: pair -->\n```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    role = f"{ACCOUNT}:role/virtuous-token-refresher-TokenRefresherRole-1A2B3C4D5E6F"
    assert [json.loads(text) for text in shown] == [
        json.loads(policy_with(None, [pattern_for(role), f"{ACCOUNT}:role/virtuous-keepers"]))
    ]
