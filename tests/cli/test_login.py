"""Making a connection: nothing changes before it is known whose tokens these are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.operator import Operator, Scripted
from tests.fakes import virtuous as step
from tests.leak_harness import LeakHarness
from token_refresher.refresh.formats import SecretNames
from token_refresher.refresh.model import CURRENT, REMOVED_TAG

NAMES = SecretNames.of("virtuous", "default")
OperatorOf = Callable[..., Operator]


def secrets_of(operator: Operator) -> list[str]:
    listed = operator.account.client.list_secrets(IncludePlannedDeletion=True)["SecretList"]
    return sorted(secret["Name"] for secret in listed)


def described(operator: Operator, name: str) -> Any:
    return operator.account.client.describe_secret(SecretId=name)


def test_a_first_login_says_whose_token_it_is_and_readers_have_it(operator: Operator) -> None:
    ended = operator.logs_in()

    assert (ended.status, ended.out) == (0, "default: logged in. Readers have the token.\n")
    account, virtuous = operator.account, operator.virtuous
    assert ended.err == f"Organisation  Example Relief (4711)\nUser          {virtuous.user}\n"
    pair = account.pair()
    assert pair.access_token.reveal() in virtuous.live_access_tokens
    assert pair.refresh_token is not None
    assert pair.refresh_token.reveal() == virtuous.live_refresh_token
    assert (pair.user_name, pair.organization_id) == (virtuous.user, "4711")
    assert account.bearer().access_token == pair.access_token
    assert account.strict.labels(NAMES.bearer)[CURRENT] == account.strict.labels(NAMES.pair)[CURRENT]


def test_the_secrets_get_the_stacks_key_and_tags(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "arn:aws:kms:us-east-1:000000000000:key/0a1b"
    monkeypatch.setenv("KMS_KEY_ARN", key)

    assert operator.logs_in(connection="acme").status == 0

    for name in SecretNames.of("virtuous", "acme")[:2]:
        made = described(operator, name)
        assert made["KmsKeyId"] == key
        assert {tag["Key"]: tag["Value"] for tag in made["Tags"]} == {
            "cost-centre": "fundraising",
            "virtuous-token:prefix": "virtuous",
            "virtuous-token:connection": "acme",
        }


@pytest.mark.parametrize(
    ("password", "lines", "encoding"),
    [
        pytest.param("  p+w 12  ", " {} \n{}\n", "utf-8", id="blanks round both, and plus signs"),
        pytest.param("&=%;\"'<>\\ %2B", "{}\n{}", "utf-8", id="no line end at the end"),
        pytest.param("pässwörd", "{}\r\n{}\r\n", "utf-8-sig", id="a byte-order mark and CRLF"),
        pytest.param("p \N{GRINNING FACE}", "{}\r\n{}\r\n", "utf-16", id="UTF-16, as PowerShell writes files"),
    ],
)
def test_e_mail_and_password_arrive_to_the_letter(
    operator_of: OperatorOf, password: str, lines: str, encoding: str
) -> None:
    operator = operator_of(user="a+b@x.org", password=password)
    ended = operator.runs("login", piped=lines.format("a+b@x.org", password).encode(encoding))
    assert ended.status == 0, ended.err


@pytest.mark.parametrize(
    ("piped", "says"),
    [
        (b"me@example.org\n", "ended before the password"),
        (b"\nsecret\n", "ended before the e-mail"),
        (b"me@example.org\n\xff\xe4\n", "not UTF-8"),
    ],
)
def test_input_that_lacks_a_line_is_misuse(operator: Operator, piped: bytes, says: str) -> None:
    ended = operator.runs("login", piped=piped)
    assert (ended.status, operator.virtuous.token_requests) == (2, [])
    assert says in ended.err


@pytest.mark.parametrize("typed", [" {}{} ", "{}-{}", "{} \N{NO-BREAK SPACE}\N{EN DASH}{}"])
def test_a_one_time_code_is_asked_for_once_and_sent_without_its_blanks(operator_of: OperatorOf, typed: str) -> None:
    operator = operator_of(two_factor=True)
    code = operator.virtuous.one_time_code
    assert operator.logs_in(code=typed.format(code[:6], code[6:])).status == 0
    assert [request.form().get("otp") for request in operator.virtuous.token_requests] == [None, code]


Steps = list[step.Step]
LATER = "Try the same again later"
# What Virtuous answers the login and the proof, the option, what is piped, what is said, and what to do.
REFUSALS: dict[str, tuple[Steps, Steps, str, str, str, str]] = {
    "the password": ([step.refused()], [], "", "", "this e-mail and password", "og in at https"),
    "the code": ([step.code_needed(), step.refused()], [], "", "112233", "not accept the one-time code", "the same"),
    "another code sent": ([step.code_needed()] * 2, [], "", "112233", "not accept the one-time code", "the same again"),
    "the account": ([step.refused("invalid_request")], [], "", "", "refuses this account", "administrator"),
    "the request": ([step.refused("unauthorized_client")], [], "", "", "gave no tokens", "check"),
    "too many requests": ([step.throttled(60)], [], "", "", "It asks to wait 60 s", "later"),
    "the answer lost": ([step.answer_lost()], [], "", "", "did not serve the login", LATER),
    "a bad gateway": ([step.bad_gateway()], [], "", "", "did not serve the login (HTTP 502)", LATER),
    "a bad token": ([step.answer(access_token="with a space")], [], "", "", "usable access token", "again"),
    "a token refused": ([step.Step()], [step.denied()], "", "", "may not use the API", "rights"),
    "unclear three times": ([step.Step()], [step.bad_gateway()] * 3, "", "", "did not tell whose token", "minutes"),
    "an unknown API key": ([], [], "--api-key", "v_abc\n", "refuses this API key (HTTP 401)", "rights"),
    "an API key with a blank in it": ([], [], "--api-key", "v_a b\n", "That is no API key", "Copy it again"),
    "an expired pair": ([], [], "--refresh-token", "gone\nrefresh-1\n", "refuses this access token", "rights"),
}


@pytest.mark.parametrize(("logins", "proofs", "option", "piped", "says", "run"), REFUSALS.values(), ids=REFUSALS)
def test_a_login_that_is_refused_says_what_was_and_changes_nothing(
    operator: Operator, logins: Steps, proofs: Steps, option: str, piped: str, says: str, run: str
) -> None:
    operator.virtuous.script(*logins)
    operator.virtuous.script_organization(*proofs)
    ended = operator.runs("login", option, "--yes", piped=piped) if option else operator.logs_in(code=piped)
    assert (ended.status, ended.out) == (1, "")
    assert says in ended.err
    assert "account 000000000000, Region us-east-1 (from AWS_REGION), stack with prefix virtuous" in ended.err
    assert run in ended.err.partition("Nothing was changed.")[2]
    assert len(operator.virtuous.token_requests) == len(logins)
    assert secrets_of(operator) == []


def test_another_organisations_connection_is_replaced_by_a_yes_alone(operator: Operator) -> None:
    assert operator.logs_in().status == 0
    before = operator.account.strict.writes(NAMES.pair)
    operator.virtuous.switch_organization("4712", "Other Relief")
    person = operator.person(agrees=False)

    ended = operator.runs_at_a_terminal("login", person=person)

    assert ended.status == 1
    assert "another organisation, Example Relief (4711)" in person.questions[0]
    assert "Nothing was changed." in ended.err
    assert operator.account.strict.writes(NAMES.pair) == before

    assert operator.logs_in().status == 1, "nobody can be asked through a pipe"
    assert operator.logs_in("--yes").status == 0
    assert operator.account.pair().organization_id == "4712"


def test_secrets_marked_for_deletion_are_restored_by_a_yes_alone(operator: Operator) -> None:
    assert operator.logs_in().status == 0
    client = operator.account.client
    for name in NAMES[:2]:
        client.tag_resource(SecretId=name, Tags=[{"Key": REMOVED_TAG, "Value": "2026-11-25T12:00:00Z"}])
        client.delete_secret(SecretId=name)
    person = operator.person(agrees=False)

    assert operator.runs_at_a_terminal("login", person=person).status == 1
    assert person.questions == [f"Marked for deletion: {NAMES.pair}, {NAMES.bearer}. Restore?"]
    assert "DeletedDate" in described(operator, NAMES.pair)

    operator.virtuous.switch_organization("4712", "Other Relief")
    person = operator.person()
    assert operator.runs_at_a_terminal("login", person=person).status == 0
    assert "another organisation, Example Relief (4711)" in person.questions[1]
    for name in NAMES[:2]:
        assert REMOVED_TAG not in {tag["Key"] for tag in described(operator, name)["Tags"]}


def test_remembering_stores_the_password_after_saying_what_that_means(operator: Operator) -> None:
    person = operator.person()
    assert operator.runs_at_a_terminal("login", "--remember", person=person).status == 0
    assert "Whoever may read that secret can act as this user" in person.questions[0]
    virtuous = operator.virtuous
    value = operator.account.strict.value(NAMES.login)
    assert value == f'{{"username": "{virtuous.user}", "password": "{virtuous.password}"}}'


@pytest.mark.parametrize("two_factor", [True, False], ids=["a code is sent", "it says so"])
def test_remembering_is_refused_for_an_account_with_a_second_factor(operator_of: OperatorOf, two_factor: bool) -> None:
    operator = operator_of(two_factor=two_factor)
    if not two_factor:
        operator.virtuous.script(step.answer(twoFactorEnabled="True"))
    ended = operator.logs_in("--remember", "--yes")
    assert (ended.status, secrets_of(operator)) == (1, [])
    assert "second factor" in ended.err


def test_an_api_key_is_stored_and_published_and_never_due(operator: Operator) -> None:
    key = str(operator.virtuous.issue_pair()["access_token"])

    ended = operator.runs("login", "--api-key", piped=f'  "{key}"\n')

    assert ended.status == 0, ended.err
    pair = operator.account.pair()
    assert (pair.access_token.reveal(), pair.refresh_token, pair.expires_at) == (key, None, None)
    assert operator.account.bearer().access_token == pair.access_token
    assert operator.runs("status").status == 0
    operator.virtuous.revoke_access_tokens(key)
    ended = operator.runs("status")
    assert ended.status == 1
    assert "virtuous-token login --api-key --connection default" in ended.out
    assert operator.runs("refresh").out.startswith("default: login_required.")


def test_a_login_over_a_pair_keeps_the_keys_that_it_does_not_know(operator_of: OperatorOf) -> None:
    operator = operator_of("default")  # whose secrets somebody else has made
    operator.deployment.log_in(extra={"note": "asked for by finance"})
    assert operator.logs_in().status == 0
    assert operator.account.pair().extra == {"note": "asked for by finance"}


@pytest.mark.parametrize("value", ["{}", "refresh-1", '{"access_token": "access 1"}'])
def test_a_secret_that_holds_no_pair_is_told_and_a_login_mends_it(
    operator_of: OperatorOf, harness: LeakHarness, value: str
) -> None:
    operator = operator_of("default")
    operator.account.put(NAMES.pair, harness.secret(value) if "1" in value else value)
    ended = operator.runs("status")
    assert ended.status == 1
    assert "default: the pair secret" in ended.out
    assert "virtuous-token login --connection default" in ended.out
    assert operator.logs_in().status == 0
    assert operator.runs("status").status == 0


def test_without_the_function_nobody_is_asked_for_a_password(operator: Operator) -> None:
    operator.deployment.function_exists = False
    ended = operator.runs_at_a_terminal("login", person=Scripted([]))
    assert ended.status == 1
    assert "There is no function virtuous-token-refresher here." in ended.err
    assert "sam deploy" in ended.err


def test_a_publication_that_fails_says_that_the_tokens_are_stored(operator: Operator) -> None:
    operator.account.strict.fail("PutSecretValue", "AccessDeniedException", secret=NAMES.bearer)
    ended = operator.logs_in()
    assert ended.status == 1
    assert "The tokens are stored, and not published" in ended.err
    assert f"The tokens are stored in {NAMES.pair}." in ended.err
    assert "Nothing was changed" not in ended.err
