"""What Secrets Manager must do, asked of the strict fake, and of moto where it follows AWS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests import facts
from tests.facts import FACTS, Fact, Secret
from tests.fakes.secrets_manager import StrictSecretsManager

NAME = "virtuous/default/tokens"
# Where moto is not AWS; a newer one that has become so fails here.
NOT_IN_MOTO = {
    "a put takes its labels from the versions that held them",
    "a label moves only from where it is",
    "a deletion can be undone",
}


@pytest.fixture(autouse=True)
def nothing_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of them is ever stale unless asked to be."""
    monkeypatch.setattr(facts, "SECONDS_FOR_A_READ", 0)
    monkeypatch.setattr(facts, "SECONDS_FOR_A_LISTING", 0)


@pytest.fixture(scope="module")
def session() -> boto3.session.Session:
    """One for all: each new session reads botocore's models again."""
    return boto3.session.Session("none", "none", region_name="us-east-1")


@pytest.fixture
def clients(session: boto3.session.Session) -> Iterator[dict[str, Any]]:
    """Each has the secret, without a value."""
    with mock_aws():
        both = {"strict": StrictSecretsManager().client(), "moto": session.client("secretsmanager")}
        for client in both.values():
            client.create_secret(Name=NAME)
        yield both


@pytest.mark.parametrize("fact", FACTS, ids=[fact.name for fact in FACTS])
@pytest.mark.parametrize("who", ["strict", "moto"])
def test_they_do_what_aws_does(who: str, fact: Fact, clients: dict[str, Any]) -> None:
    if who == "moto" and fact.name in NOT_IN_MOTO:
        with pytest.raises(AssertionError):
            fact.check(clients[who], NAME)
    else:
        fact.check(clients[who], NAME)


def test_the_answers_of_both_have_the_same_fields(clients: dict[str, Any]) -> None:
    def fields(client: Any) -> list[set[str]]:
        Secret(client, NAME).put("1")
        described = client.describe_secret(SecretId=NAME)
        (listed,) = client.list_secrets()["SecretList"]
        answers = [client.create_secret(Name="a"), client.get_secret_value(SecretId=NAME), described, listed]
        return [answer.keys() - {"ResponseMetadata", "LastAccessedDate"} for answer in answers]

    assert fields(clients["strict"]) == fields(clients["moto"])
