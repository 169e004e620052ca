"""Many connections at a glance: which there are, and what a list and batch reads show of them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.awsrequest import AWSResponse, HTTPHeaders

from tests.fakes.secrets_manager import StrictSecretsManager
from tests.support import Account, Clock, a_pair
from token_refresher.aws.batch_read import READ_AT_ONCE, Survey
from token_refresher.refresh.model import CURRENT, REMOVED_TAG, Stored
from virtuous_token.secret_text import SecretText

VALUE = '{"access_token": "access-1"}'


@pytest.fixture
def client() -> Any:
    return StrictSecretsManager().client()


# Which connections there are


def test_every_connection_is_found_beyond_the_first_page(client: Any) -> None:
    """ListSecrets answers with 100 secrets at the most."""
    expected = [f"c{number:03d}" for number in range(120)]
    for name in expected:
        client.create_secret(Name=f"virtuous/{name}/tokens")

    assert Survey.of(client, "virtuous").names == expected


def test_only_what_has_the_form_of_a_pair_or_a_bearer_secret_is_a_connection(client: Any) -> None:
    for name in (
        "virtuous/acme/tokens",
        "virtuous/a-1/tokens",
        "virtuous/only-a-bearer/bearer",
        "virtuous/only-a-login/login",
        "virtuous/Upper/tokens",
        "virtuous/under_score/tokens",
        "virtuous/deep/er/tokens",
        "virtuous/tokens",
        "virtuous//tokens",
        "virtuous/tokens/",
        "virtuous/longer/tokens-of-mine",
        "virtuous2/other/tokens",
        "virtuous2/tokens",
        "my/virtuous/mine/tokens",
        "unrelated",
    ):
        client.create_secret(Name=name)

    assert Survey.of(client, "virtuous").names == ["a-1", "acme", "only-a-bearer"]


def test_a_prefix_of_several_parts(client: Any) -> None:
    client.create_secret(Name="crm/virtuous/acme/tokens")

    assert Survey.of(client, "crm/virtuous").names == ["acme"]


def test_a_secret_of_another_prefix_is_no_connection_whatever_the_filter_lets_through(client: Any) -> None:
    """The name decides, not the filter."""
    names = ("virtuous2/tokens", "virtuous/acme/tokens", "other/x/tokens", "my/virtuous/mine/tokens", "tokens")
    listed = {"SecretList": [{"Name": name} for name in names]}
    client.meta.events.register(
        "before-call.secrets-manager.ListSecrets",
        lambda **_: (AWSResponse("https://aws.invalid/", 200, HTTPHeaders(), None), listed),
    )

    assert Survey.of(client, "virtuous").names == ["acme"]


def test_an_empty_account_has_no_connections() -> None:
    assert Survey.of(StrictSecretsManager().client(), "virtuous").names == []


@pytest.mark.parametrize("kind", ["tokens", "bearer"])
def test_a_secret_marked_for_deletion_is_missed_by_its_connections_name(client: Any, kind: str) -> None:
    client.create_secret(Name=f"virtuous/acme/{kind}", SecretString=VALUE)
    client.delete_secret(SecretId=f"virtuous/acme/{kind}")

    assert Survey.of(client, "virtuous").names == ["acme"]


def test_a_connection_that_an_operator_removed_is_none_until_it_is_restored(client: Any) -> None:
    for kind in ("tokens", "bearer"):
        client.create_secret(Name=f"virtuous/acme/{kind}", SecretString=VALUE)
        client.tag_resource(SecretId=f"virtuous/acme/{kind}", Tags=[{"Key": REMOVED_TAG, "Value": "2026-11-25"}])
        client.delete_secret(SecretId=f"virtuous/acme/{kind}")

    assert Survey.of(client, "virtuous").names == []
    client.restore_secret(SecretId="virtuous/acme/bearer")
    assert Survey.of(client, "virtuous").names == ["acme"]


# What is seen of each


def _looks(account: Account, *names: str) -> list[tuple[str, Stored | None]]:
    return list(Survey.of(account.client, account.prefix).read(names, lambda name, look: (name, look)))


def test_a_look_has_the_pair_with_its_labels_and_the_version_that_readers_are_given() -> None:
    account = Account("acme", now=Clock().now)
    published = account.put_pair(a_pair(1), "acme")
    account.publish(published, a_pair(1), "acme")
    current = account.put_pair(a_pair(2), "acme")

    ((name, look),) = _looks(account, "acme")

    assert look is not None
    assert look.pair is not None
    assert (name, look.pair.version_id, look.bearer_labels) == ("acme", current, {CURRENT: published})
    assert sorted(look.pair.labels) == [CURRENT]
    assert look.pair.text == a_pair(2).to_json()


@pytest.mark.parametrize("kind", ["tokens", "bearer"])
def test_a_connection_that_lost_a_secret_does_not_seem_whole(kind: str) -> None:
    account = Account("acme", now=Clock().now)
    account.publish(account.put_pair(a_pair(), "acme"), a_pair(), "acme")
    account.client.delete_secret(SecretId=f"virtuous/acme/{kind}")

    ((_, look),) = _looks(account, "acme")

    assert look is None or look.bearer_labels == {}


@pytest.mark.parametrize("count", [0, 1, READ_AT_ONCE, READ_AT_ONCE + 1, 3 * READ_AT_ONCE])
def test_twenty_pairs_cost_one_call_and_come_in_the_order_asked_for(count: int) -> None:
    names = [f"c{number:02d}" for number in range(count)]
    account = Account(*(names or ["default"]), now=Clock().now)
    for name in names:
        account.put_pair(a_pair(access_token=SecretText(f"access-of-{name}")), name)

    looks = _looks(account, *reversed(names))

    assert [name for name, _ in looks] == names[::-1]
    assert all(look and look.pair and f"access-of-{name}" in look.pair.text for name, look in looks)
    assert len(account.strict.calls("BatchGetSecretValue")) == -(-count // READ_AT_ONCE)


def test_a_pair_that_cannot_be_read_leaves_the_others_alone() -> None:
    account = Account("a", "b", "c", now=Clock().now)
    for name in "abc":
        account.put_pair(a_pair(), name)
    account.strict.refuse_kms("virtuous/b/tokens", "kms:Decrypt")

    assert [look is not None for _, look in _looks(account, "a", "b", "c")] == [True, False, True]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException", "ReadTimeoutError"])
def test_a_batch_that_fails_shows_nothing_and_says_why(code: str) -> None:
    account = Account("a", now=Clock().now)
    account.put_pair(a_pair(), "a")
    account.strict.fail("BatchGetSecretValue", code)
    survey = Survey.of(account.client, "virtuous")

    assert list(survey.read(["a"], lambda _, look: look)) == [None]
    assert code in "".join(survey.problems)
