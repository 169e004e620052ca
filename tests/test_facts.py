"""What Secrets Manager must do, asked of the strict fake, and of moto where it follows AWS."""

from __future__ import annotations

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
SESSION = boto3.session.Session("none", "none", region_name="us-east-1")


@pytest.fixture(autouse=True)
def nothing_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of them is ever stale unless asked to be."""
    monkeypatch.setattr(facts, "SECONDS_FOR_A_READ", 0)
    monkeypatch.setattr(facts, "SECONDS_FOR_A_LISTING", 0)


def client_of(who: str) -> Any:
    client = SESSION.client("secretsmanager") if who == "moto" else StrictSecretsManager().client()
    client.create_secret(Name=NAME)
    return client


@pytest.mark.parametrize("fact", FACTS, ids=[fact.name for fact in FACTS])
@pytest.mark.parametrize("who", ["strict", "moto"])
@mock_aws
def test_they_do_what_aws_does(who: str, fact: Fact) -> None:
    if who == "moto" and fact.name in NOT_IN_MOTO:
        with pytest.raises(AssertionError):
            fact.check(client_of(who), NAME)
    else:
        fact.check(client_of(who), NAME)


@mock_aws
def test_the_answers_of_both_have_the_same_fields() -> None:
    def fields(client: Any) -> list[set[str]]:
        Secret(client, NAME).put("1")
        (listed,) = client.list_secrets()["SecretList"]
        described, value = client.describe_secret(SecretId=NAME), client.get_secret_value(SecretId=NAME)
        answers = [client.create_secret(Name="a"), value, described, listed]
        return [answer.keys() - {"ResponseMetadata", "LastAccessedDate"} for answer in answers]

    assert fields(client_of("strict")) == fields(client_of("moto"))
