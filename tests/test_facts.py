"""What Secrets Manager must do, asked of the strict fake, and of moto where it follows AWS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests import facts
from tests.facts import FACTS, Fact, put
from tests.fakes.secrets_manager import StrictSecretsManager

NAME = "virtuous/default/tokens"
# Where moto is not AWS; a newer one that has become so fails here.
NOT_IN_MOTO = {
    "a put takes its labels from the versions that held them",
    "a label moves only from where it is",
    "a deletion can be undone",
    "a policy that lets anybody in is blocked",
}


def each(*, not_as_aws: set[str]) -> list[Any]:
    differs = pytest.mark.xfail(raises=AssertionError)
    return [pytest.param(fact, id=fact.name, marks=[differs] * (fact.name in not_as_aws)) for fact in FACTS]


@pytest.fixture(autouse=True)
def nothing_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of them is ever stale unless asked to be."""
    monkeypatch.setattr(facts, "SECONDS_FOR_A_READ", 0)
    monkeypatch.setattr(facts, "SECONDS_FOR_A_LISTING", 0)


@pytest.fixture
def strict() -> Any:
    client = StrictSecretsManager().client()
    client.create_secret(Name=NAME)
    return client


@pytest.fixture(scope="module")
def session() -> boto3.session.Session:
    """One for all: each new session reads botocore's models again."""
    return boto3.session.Session("none", "none", region_name="us-east-1")


@pytest.fixture
def moto(session: boto3.session.Session) -> Iterator[Any]:
    with mock_aws():
        client = session.client("secretsmanager")
        client.create_secret(Name=NAME)
        yield client


@pytest.mark.parametrize("fact", each(not_as_aws=set()))
def test_the_strict_fake_does_what_aws_does(fact: Fact, strict: Any) -> None:
    fact.check(strict, NAME)


@pytest.mark.parametrize("fact", each(not_as_aws=NOT_IN_MOTO))
def test_moto_does_what_aws_does_where_it_follows_it(fact: Fact, moto: Any) -> None:
    fact.check(moto, NAME)


def test_the_answers_of_both_have_the_same_fields(strict: Any, moto: Any) -> None:
    def fields(client: Any) -> list[set[str]]:
        put(client, NAME, "1")
        described = client.describe_secret(SecretId=NAME)
        (listed,) = client.list_secrets()["SecretList"]
        answers = [client.create_secret(Name="a"), client.get_secret_value(SecretId=NAME), described, listed]
        return [answer.keys() - {"ResponseMetadata", "LastAccessedDate"} for answer in answers]

    assert fields(strict) == fields(moto)
