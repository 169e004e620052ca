"""Many connections at once: which there are, and what a list and batch reads show of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.secrets_manager import StrictSecretsManager
from tests.support import Account, Clock, a_pair, answered
from token_refresher.aws.batch_read import READ_AT_ONCE, Connections
from token_refresher.refresh.model import CURRENT, REMOVED_TAG, Stored
from virtuous_token.secret_text import SecretText


@pytest.fixture
def client() -> Any:
    return StrictSecretsManager().client()


# Which connections there are


@pytest.mark.parametrize(
    ("secrets", "names"),
    [
        pytest.param([], [], id="an empty account"),
        pytest.param(["a-1/tokens", "b/bearer", "c/login"], ["a-1", "b"], id="pairs and bearers, no login"),
        pytest.param(["U/tokens", "under_score/tokens", "/tokens", "tokens", "a/tokens-of-mine"], [], id="other names"),
        pytest.param([f"c{n:03d}/tokens" for n in range(120)], [f"c{n:03d}" for n in range(120)], id="a second page"),
    ],
)
@pytest.mark.parametrize("prefix", ["virtuous", "crm/virtuous"])
def test_a_pair_or_a_bearer_secret_makes_a_connection(
    client: Any, prefix: str, secrets: list[str], names: list[str]
) -> None:
    for name in (*(f"{prefix}/{secret}" for secret in secrets), f"my/{prefix}/mine/tokens", f"{prefix}2/other/tokens"):
        client.create_secret(Name=name)

    assert Connections.of(client, prefix).names == names


def test_a_secret_of_another_prefix_is_no_connection_whatever_the_filter_lets_through(client: Any) -> None:
    names = ("virtuous2/tokens", "virtuous/acme/tokens", "other/x/tokens", "my/virtuous/mine/tokens", "tokens")
    listed = {"SecretList": [{"Name": name} for name in names]}
    answered(client.meta.events, "secrets-manager.ListSecrets", lambda: listed)

    assert Connections.of(client, "virtuous").names == ["acme"]


@pytest.mark.parametrize("kind", ["tokens", "bearer"])
def test_a_secret_marked_for_deletion_is_missed_unless_an_operator_removed_it(client: Any, kind: str) -> None:
    client.create_secret(Name=f"virtuous/lost/{kind}")
    client.delete_secret(SecretId=f"virtuous/lost/{kind}")
    for each in ("tokens", "bearer"):
        client.create_secret(Name=f"virtuous/removed/{each}")
        client.tag_resource(SecretId=f"virtuous/removed/{each}", Tags=[{"Key": REMOVED_TAG, "Value": "2026-11-25"}])
        client.delete_secret(SecretId=f"virtuous/removed/{each}")

    assert Connections.of(client, "virtuous").names == ["lost"]
    client.restore_secret(SecretId=f"virtuous/removed/{kind}")
    assert Connections.of(client, "virtuous").names == ["lost", "removed"]


# What is seen of each


def an_account(*names: str) -> Account:
    """Each connection has a pair whose access token names it."""
    account = Account(*names, now=Clock().now)
    for name in names:
        account.put_pair(a_pair(access_token=SecretText(f"access-of-{name}")), name)
    return account


def read(account: Account, *names: str) -> list[tuple[str, Stored | None]]:
    connections = Connections.of(account.client, account.prefix)
    return list(connections.read(names, lambda name, stored: (name, stored)))


def test_the_pair_comes_with_its_labels_and_the_version_that_readers_are_given() -> None:
    account = an_account("acme")
    published = account.put_pair(a_pair(1), "acme")
    account.publish(published, a_pair(1), "acme")
    current = account.put_pair(a_pair(2), "acme")

    ((name, stored),) = read(account, "acme")

    assert stored is not None
    assert stored.pair is not None
    assert (name, stored.pair.version_id, stored.bearer_labels) == ("acme", current, {CURRENT: published})
    assert (stored.pair.labels, stored.pair.text) == ({CURRENT}, a_pair(2).to_json())


@pytest.mark.parametrize("kind", ["tokens", "bearer"])
def test_a_connection_that_lost_a_secret_does_not_seem_whole(kind: str) -> None:
    account = an_account("acme")
    account.publish(account.put_pair(a_pair(), "acme"), a_pair(), "acme")
    account.client.delete_secret(SecretId=f"virtuous/acme/{kind}")

    ((_, stored),) = read(account, "acme")

    assert stored is None or stored.bearer_labels == {}


@pytest.mark.parametrize("count", [0, READ_AT_ONCE, READ_AT_ONCE + 1])
def test_twenty_pairs_cost_one_call_and_come_in_the_order_asked_for(count: int) -> None:
    names = [f"c{number:02d}" for number in range(count)]
    account = an_account(*names)

    found = read(account, *reversed(names))

    assert [name for name, _ in found] == names[::-1]
    assert all(stored and stored.pair and f"access-of-{name}" in stored.pair.text for name, stored in found)
    assert len(account.strict.calls("BatchGetSecretValue")) == -(-count // READ_AT_ONCE)


def test_a_pair_that_cannot_be_read_leaves_the_others_alone() -> None:
    account = an_account("a", "b", "c")
    account.strict.refuse_kms("virtuous/b/tokens", "kms:Decrypt")

    assert [stored is not None for _, stored in read(account, "a", "b", "c")] == [True, False, True]


def test_a_batch_that_fails_shows_nothing_and_says_why() -> None:
    account = an_account("a")
    account.strict.fail("BatchGetSecretValue", "AccessDeniedException")
    connections = Connections.of(account.client, "virtuous")

    assert list(connections.read(["a"], lambda _, stored: stored)) == [None]
    assert "AccessDeniedException" in "".join(connections.problems)
