"""Which account and Region are asked, and what AWS's refusals mean for a person."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from botocore import exceptions as errors
from botocore.exceptions import BotoCoreError, ClientError

from tests.cli.operator import Operator
from virtuous_token_cli.aws import explained, open_aws
from virtuous_token_cli.remedies import CommandFailed, Named, Run, aws_cli, ours, sam_deploy


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration of the AWS CLI with two profiles, one without a Region."""
    config = tmp_path / "config"
    config.write_text("[profile work]\nregion = eu-west-1\n[profile bare]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


BOTH = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-2"}
SECOND = {"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-2"}


@pytest.mark.parametrize(
    ("profile", "option", "environment", "region", "source"),
    [
        pytest.param("work", "us-west-2", BOTH, "us-west-2", "--region", id="the option before all"),
        pytest.param("work", None, BOTH, "us-east-1", "AWS_REGION", id="AWS_REGION before the other"),
        pytest.param("work", None, SECOND, "us-east-2", "AWS_DEFAULT_REGION", id="an empty one is none"),
        pytest.param("work", None, {}, "eu-west-1", "the profile", id="the profile's"),
        pytest.param(None, None, {"AWS_PROFILE": "work"}, "eu-west-1", "the profile", id="of AWS_PROFILE"),
    ],
)
@pytest.mark.usefixtures("profiles")
def test_one_rule_says_which_region_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    profile: str | None,
    option: str | None,
    environment: dict[str, str],
    region: str,
    source: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    aws = open_aws(profile, option)
    assert (aws.region, aws.region_from) == (region, f"from {source}")
    assert aws.client("secretsmanager").meta.region_name == region


@pytest.mark.parametrize(
    ("profile", "option", "says", "run"),
    [
        pytest.param("absent", None, "no AWS profile absent", "aws configure list-profiles", id="an unknown profile"),
        pytest.param("bare", None, "No AWS Region is named", "--region us-east-1", id="no Region"),
        pytest.param("bare", "Ohio", "not the name of an AWS Region", "--region us-east-1", id="no name of a Region"),
    ],
)
@pytest.mark.usefixtures("profiles")
def test_what_is_missing_is_said_before_anything_is_asked(
    profile: str, option: str | None, says: str, run: str
) -> None:
    with pytest.raises(CommandFailed, match=says) as refused:
        open_aws(profile, option, {})
    assert run in said(refused.value)


def said(failure: CommandFailed) -> str:
    named = Named(profile="work", asked_region="us-east-1")
    return " ".join(named.text(remedy) if isinstance(remedy, Run) else remedy for remedy in failure.run)


def client_error(code: str, operation: str = "DescribeSecret") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "access-1"}}, operation)


SSO_LOGIN, WHO_AM_I = "aws sso login --profile work", "aws sts get-caller-identity --region us-east-1 --profile work"
NOBODY = "session of the AWS profile"
SSL = errors.SSLError(endpoint_url="https://x", error=ValueError())


@pytest.mark.parametrize(
    ("error", "says", "run"),
    [
        pytest.param(client_error("ExpiredTokenException"), "have ended", SSO_LOGIN, id="ended"),
        pytest.param(client_error("UnrecognizedClientException"), "does not know", WHO_AM_I, id="unknown credentials"),
        pytest.param(client_error("AccessDeniedException"), "denies DescribeSecret", "OperatorPolicyArn", id="denied"),
        pytest.param(client_error("AccessDenied", "AssumeRole"), "take its role", WHO_AM_I, id="no role"),
        pytest.param(client_error("ThrottlingException"), "AWS refuses DescribeSecret (Thr", "", id="something else"),
        pytest.param(errors.UnauthorizedSSOTokenError(), NOBODY, SSO_LOGIN, id="SSO ended"),
        pytest.param(errors.SSOTokenLoadError(error_msg="none"), NOBODY, SSO_LOGIN, id="SSO never begun"),
        pytest.param(errors.RefreshWithMFAUnsupportedError(), NOBODY, SSO_LOGIN, id="a role with MFA has ended"),
        pytest.param(errors.NoCredentialsError(), "No AWS credentials", f"{SSO_LOGIN} for the first time", id="none"),
        pytest.param(errors.EndpointConnectionError(endpoint_url="https://x"), "not answer", "network", id="no way"),
        pytest.param(errors.ReadTimeoutError(endpoint_url="https://x"), "not answer", "network", id="no answer"),
        pytest.param(SSL, "TLS connection to AWS", "export AWS_CA_BUNDLE=", id="an unknown root"),
        pytest.param(errors.InvalidConfigError(error_msg="x"), "can't be used", WHO_AM_I, id="a broken configuration"),
    ],
)
def test_every_refusal_of_aws_says_what_to_run(error: ClientError | BotoCoreError, says: str, run: str) -> None:
    failure = explained(error)
    assert says in str(failure)
    assert run in said(failure)
    assert "access-1" not in str(failure)


TWO = ["virtuous", "other"]


@pytest.mark.parametrize(
    ("stacks", "command", "status", "says"),
    [
        pytest.param(["virtuous"], "status", 0, "no connection yet", id="the only one is found"),
        pytest.param([], "status", 1, "no Virtuous token refresher in this account and Region", id="none"),
        pytest.param(TWO, "status", 1, "under the prefixes other, virtuous", id="several"),
        pytest.param(TWO, "status --prefix virtuous", 0, "no connection yet", id="several, one named"),
        pytest.param(TWO, "--prefix virtuous status", 0, "no connection yet", id="named before the command"),
        pytest.param(["a"], "status --prefix b", 1, "no stack with prefix b here. There is: a.", id="one not there"),
    ],
)
def test_the_stack_is_found_where_there_is_one(
    operator: Operator, stacks: list[str], command: str, status: int, says: str
) -> None:
    operator.stacks = stacks
    ended = operator.runs(*command.split())
    assert ended.status == status
    assert says in ended.out + ended.err
    if status:
        assert "Asked: account 000000000000, Region us-east-1 (from AWS_REGION)" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        "logout",
        "login --connection acme/tokens",
        f"login --connection {'a' * 65}",
        "login default",
        "login --remember --api-key",
        "login --password something",
        "login --api-key=something",
        "remove --recovery-days 6",
    ],
)
def test_misuse_is_said_on_standard_error_and_nothing_is_asked(operator: Operator, arguments: str) -> None:
    ended = operator.runs(*arguments.split())
    assert (ended.status, ended.out) == (2, "")
    assert "Error: " in ended.err
    assert operator.account.strict.log == operator.deployment.invoked_with == []


def test_help_is_given_on_standard_output_with_an_example_and_says_where_the_pages_are(operator: Operator) -> None:
    for command in ("login", "status", "refresh", "check", "remove", "completion"):
        ended = operator.runs(command, "--help")
        assert (ended.status, ended.err) == (0, "")
        assert f"Usage: virtuous-token {command}" in ended.out
        assert f"Example: virtuous-token {command} " in ended.out
        assert max(map(len, ended.out.splitlines())) <= 80
    said = " ".join(operator.runs("--help").out.split())
    assert "status Show connections: whose, how long their tokens last, what needs somebody. Never a token." in said
    assert re.search(r"Pages: .*README.md and docs/run-book.md", said)
    assert "_VIRTUOUS_TOKEN_COMPLETE" in operator.runs("completion", "fish").out


def test_what_is_printed_to_be_run_has_what_was_named_quoted_for_the_shell() -> None:
    named = Named(profile="work", region="eu-west-1", prefix="second", asked_region="eu-west-1")
    ends = "--region eu-west-1 --profile work"

    printed = {
        ours("login", connection="acme"): f"virtuous-token login --connection acme --prefix second {ends}",
        aws_cli(
            "lambda", "x", "--environment", '{"A": "b c"}'
        ): f"""aws lambda x --environment '{{"A": "b c"}}' {ends}""",
        aws_cli("sso", "login"): "aws sso login --profile work",
        sam_deploy("stack-2")[1]: f"sam deploy --stack-name stack-2 {ends}",
    }
    assert {remedy: named.text(remedy) for remedy in printed} == printed
