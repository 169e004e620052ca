"""The adapters for Secrets Manager: what each method does, and each way to fail, on the strict stand-in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.fakes.secrets_manager import TRANSPORT_ERRORS
from tests.leak_harness import LeakHarness
from tests.support import REGION, Account, Clock, a_pair, a_version, answered
from token_refresher.aws.batch_read import READ_AT_ONCE, Connections
from token_refresher.aws.secret_store import SecretStore, make_client
from token_refresher.refresh.formats import SecretNames
from token_refresher.refresh.model import (
    CURRENT,
    PREVIOUS,
    REMOVED_TAG,
    CurrentPair,
    Stored,
    StoredVersion,
    StoreMisconfigured,
    StoreUnavailable,
    Versions,
)
from virtuous_token.secret_text import SecretText

NAMES = SecretNames.of("virtuous", "default")
LABEL = "REFRESHING"
VALUE = "a value that nobody may see"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of nobody, for clients that the product makes."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name, value in {"DEFAULT_REGION": REGION, "ACCESS_KEY_ID": "none", "SECRET_ACCESS_KEY": "none"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def store() -> SecretStore:
    return Account().store()


def publish(store: SecretStore, version: str, value: str) -> None:
    held = store.read().bearer_labels.get(CURRENT)
    if CURRENT not in (store.write_bearer(version, value) or ()):
        assert store.move_bearer(version, moved_from=held)


def test_a_pair_is_written_under_its_labels_and_read_by_its_id(store: SecretStore) -> None:
    first, second, entry = a_version(), a_version(), a_version()
    assert (store.read(), store.pair_versions().listed, store.bearer_versions().listed) == (Stored({}, None), (), ())

    assert store.write_pair(first, '{"a": 1}', CURRENT) == [CURRENT]
    assert set(store.write_pair(second, '{"a": 2}', CURRENT, "SUPERSEDED") or ()) == {CURRENT, "SUPERSEDED"}
    assert store.write_pair(entry, '{"entry": "intent"}', LABEL) == [LABEL]
    assert store.write_pair(entry, '{"entry": "intent"}', LABEL)  # as the SDK repeats a put whose answer was lost

    found = {label: version.version_id for version in store.pair_versions().listed for label in version.labels}
    assert found == {CURRENT: second, "SUPERSEDED": second, PREVIOUS: first, LABEL: entry}
    assert store.write_pair(first, "something else", CURRENT) is None
    # Reads may be a moment old: a list told of the version before GetSecretValue knows it.
    values = [store.pair_value(version) for version in (first, second, entry, a_version())]
    assert values == ['{"a": 1}', '{"a": 2}', '{"entry": "intent"}', None]


def test_what_is_stored_is_the_bearers_labels_and_the_current_pair_with_its_labels(store: SecretStore) -> None:
    version = a_version()
    store.write_pair(version, VALUE, CURRENT, LABEL)
    publish(store, version, "{}")

    stored = store.read()

    assert stored.bearer_labels[CURRENT] == version
    assert stored.pair is not None
    assert stored.pair == CurrentPair(version, frozenset({CURRENT, LABEL}), VALUE, stored.pair.created_at)
    assert abs(datetime.now(UTC) - (stored.pair.created_at or datetime.min.replace(tzinfo=UTC))) < timedelta(minutes=1)
    assert VALUE not in repr(stored)


def test_the_first_bearer_is_current_at_once_and_a_later_one_pending_until_it_is_moved(store: SecretStore) -> None:
    first, second = a_version(), a_version()

    assert CURRENT in (store.write_bearer(first, "1") or ())
    assert store.write_bearer(second, "2") == ["AWSPENDING"]
    assert store.move_bearer(second, moved_from=first)

    found = store.read().bearer_labels
    assert (found[CURRENT], found[PREVIOUS]) == (second, first)
    # The same bytes again move no label, and tell whether readers see them.
    assert CURRENT in (store.write_bearer(second, "2") or ())
    assert CURRENT not in (store.write_bearer(first, "1") or (CURRENT,))
    assert store.write_bearer(first, "other bytes") is None


def test_a_login_is_read_from_its_secrets_current_version(store: SecretStore) -> None:
    assert store.login_value() is None
    store.client.create_secret(Name=NAMES.login)
    assert store.login_value() is None
    for value in ("old", "new"):
        store.client.put_secret_value(SecretId=NAMES.login, SecretString=value)
    assert store.login_value() == "new"


def test_a_value_or_labels_that_an_answer_lacks_are_empty(store: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A binary value: the core then says that the secret is empty; guessing an encoding would hide a mistake."""
    monkeypatch.setattr(store.client, "get_secret_value", lambda **_: {"SecretBinary": b"\0\1"})
    monkeypatch.setattr(store.client, "put_secret_value", lambda **_: {})

    assert (store.pair_value(a_version()), store.login_value(), _write(store)) == ("", "", ())


def test_a_current_pair_that_is_listed_and_not_there_yet_is_for_later(store: SecretStore) -> None:
    store.write_pair(a_version(), VALUE, CURRENT)
    events = store.client.meta.events
    answered(events, "secrets-manager.GetSecretValue", lambda _: {"Error": {"Code": "ResourceNotFoundException"}})

    with pytest.raises(StoreUnavailable, match="can't be read yet"):
        store.read()


def test_the_bearer_is_not_moved_from_where_it_is_not_nor_to_what_is_gone(store: SecretStore) -> None:
    first, second, third = a_version(), a_version(), a_version()
    for version in (first, second):
        publish(store, version, version)
    store.write_bearer(third, "3")

    assert not store.move_bearer(third, moved_from=first)
    assert not store.move_bearer(third, moved_from=None)
    with pytest.raises(StoreMisconfigured):
        store.move_bearer(a_version(), moved_from=second)

    assert store.read().bearer_labels[CURRENT] == second


def test_versions_that_secrets_manager_cannot_remove_are_counted() -> None:
    now, day = datetime.now(UTC), timedelta(days=1)
    listed = [StoredVersion("1", now - 2 * day, [CURRENT]), StoredVersion("2", now - 2 * day), StoredVersion("3", now)]
    versions = Versions(tuple(listed), "arn", now)
    assert [versions.kept_since(now - days * day) for days in (0, 1, 3)] == [1, 2, 3]


def test_versions_are_counted_on_every_page(store: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [{"VersionId": a_version(), "CreatedDate": datetime.now(UTC)}]
    page: dict[str, Any] = {"Versions": listed, "ARN": "arn", "ResponseMetadata": {}}
    answers = [page | {"NextToken": "more"}, page | {"NextToken": "yet more"}, page]
    asked: list[str | None] = []

    def list_secret_version_ids(**params: Any) -> dict[str, Any]:
        asked.append(params.get("NextToken"))
        return answers.pop(0)

    monkeypatch.setattr(store.client, "list_secret_version_ids", list_secret_version_ids)

    assert len(store.pair_versions().listed) == 3
    assert asked == [None, "more", "yet more"]


def _write(store: SecretStore) -> object:
    return store.write_pair(a_version(), VALUE, LABEL)


USES: dict[str, tuple[str, str, Callable[[SecretStore], object]]] = {
    "read the bearer's labels": ("DescribeSecret", NAMES.bearer, lambda store: store.read()),
    "read the pair": ("GetSecretValue", NAMES.pair, lambda store: store.read()),
    "pair_value": ("GetSecretValue", NAMES.pair, lambda store: store.pair_value(a_version())),
    "pair_versions": ("ListSecretVersionIds", NAMES.pair, lambda store: store.pair_versions()),
    "bearer_versions": ("ListSecretVersionIds", NAMES.bearer, lambda store: store.bearer_versions()),
    "login_value": ("GetSecretValue", NAMES.login, lambda store: store.login_value()),
    "write_pair": ("PutSecretValue", NAMES.pair, _write),
    "write_bearer": ("PutSecretValue", NAMES.bearer, lambda store: store.write_bearer(a_version(), VALUE)),
    "move_bearer": (
        "UpdateSecretVersionStage",
        NAMES.bearer,
        lambda store: store.move_bearer(a_version(), moved_from=None),
    ),
    "connections": ("ListSecrets", "virtuous/", lambda store: Connections.of(store.client, "virtuous")),
}
# What a person must change is said, by the code.
ADVICE = {
    "AccessDeniedException": "role and the KMS key",
    "DecryptionFailure": "KMS",
    "EncryptionFailure": "KMS",
    "ExpiredTokenException": "expired",
    "InvalidParameterException": "replica",
    "InvalidRequestException": "deletion.*RestoreSecret",
    "UnrecognizedClientException": "not valid",
    "ValidationException": "parameters",
}
# Whatever else passes by itself.
PASSES = {
    **dict.fromkeys(("InternalServiceError", "PreconditionNotMetException", "RequestExpired", *TRANSPORT_ERRORS), ""),
    **dict.fromkeys(("RequestLimitExceeded", "ServiceUnavailable", "Throttling", "ThrottlingException"), ""),
    **dict.fromkeys(("TooManyRequestsException", "ACodeThatAwsMayInvent"), ""),
    "LimitExceededException": "100 versions.*within a day",
}


@pytest.mark.parametrize("use", USES)
def test_a_refusal_is_told_with_what_to_do_and_in_none_of_botocores_words(use: str, harness: LeakHarness) -> None:
    """Theirs may quote a request."""
    operation, name, call = USES[use]
    harness.secret(VALUE)
    for code, hint in (PASSES | ADVICE).items():
        if (use, code) == ("move_bearer", "InvalidParameterException"):
            continue  # the label was moved meanwhile
        account = Account()
        account.strict.fail(operation, code)

        kind = StoreMisconfigured if code in ADVICE else StoreUnavailable
        with pytest.raises(kind, match=f"{operation} on {name}.*{hint}.*{code}") as failed:
            call(account.store())

        assert "asked for by the test" not in str(failed.value)
        assert (failed.value.__cause__, failed.value.__suppress_context__) == (None, True)


@pytest.mark.parametrize("use", sorted(USES.keys() - {"read the pair", "pair_value", "login_value", "connections"}))
def test_a_missing_secret_is_misconfigured_and_says_what_to_run(use: str) -> None:
    _, name, call = USES[use]
    with pytest.raises(StoreMisconfigured, match=f"{name}.*run virtuous-token login"):
        call(Account(empty=True).store())


def test_no_credentials_are_misconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.session.Session(region_name=REGION))

    with pytest.raises(StoreMisconfigured, match=f"{NAMES.pair}.*credentials"):
        SecretStore(make_client(), NAMES).pair_versions()


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
def test_a_pair_or_a_bearer_secret_makes_a_connection(prefix: str, secrets: list[str], names: list[str]) -> None:
    client = Account(empty=True).client
    for name in (*(f"{prefix}/{secret}" for secret in secrets), f"my/{prefix}/mine/tokens", f"{prefix}2/other/tokens"):
        client.create_secret(Name=name)

    assert Connections.of(client, prefix).names == names


def test_a_secret_of_another_prefix_is_no_connection_whatever_the_filter_lets_through(store: SecretStore) -> None:
    names = ("virtuous2/tokens", "virtuous/acme/tokens", "other/x/tokens", "my/virtuous/mine/tokens", "tokens")
    listed = {"SecretList": [{"Name": name} for name in names]}
    answered(store.client.meta.events, "secrets-manager.ListSecrets", lambda _: listed)

    assert Connections.of(store.client, "virtuous").names == ["acme"]


@pytest.mark.parametrize("kind", ["tokens", "bearer"])
def test_a_secret_marked_for_deletion_is_missed_unless_an_operator_removed_it(kind: str) -> None:
    client = Account(empty=True).client
    client.create_secret(Name=f"virtuous/lost/{kind}")
    client.delete_secret(SecretId=f"virtuous/lost/{kind}")
    for each in ("tokens", "bearer"):
        client.create_secret(Name=f"virtuous/removed/{each}")
        client.tag_resource(SecretId=f"virtuous/removed/{each}", Tags=[{"Key": REMOVED_TAG, "Value": "2026-11-25"}])
        client.delete_secret(SecretId=f"virtuous/removed/{each}")

    assert Connections.of(client, "virtuous").names == ["lost"]
    client.restore_secret(SecretId=f"virtuous/removed/{kind}")
    assert Connections.of(client, "virtuous").names == ["lost", "removed"]


def an_account(*names: str) -> Account:
    """Each connection has a pair whose access token names it."""
    account = Account(*names, now=Clock().now)
    for name in names:
        account.put_pair(a_pair(access_token=SecretText(f"access-of-{name}")), name)
    return account


def read(account: Account, *names: str) -> list[tuple[str, Stored | None]]:
    return Connections.of(account.client, account.prefix).read(names, lambda name, stored: (name, stored))


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


def test_pairs_come_in_the_order_asked_for_from_as_many_calls_as_it_takes() -> None:
    names = [f"c{number:02d}" for number in range(READ_AT_ONCE + 1)]

    found = read(an_account(*names), *reversed(names))

    assert [name for name, _ in found] == names[::-1]
    assert all(stored and stored.pair and f"access-of-{name}" in stored.pair.text for name, stored in found)


def test_a_pair_that_cannot_be_read_leaves_the_others_alone() -> None:
    account = an_account("a", "b", "c")
    account.strict.refuse_kms("virtuous/b/tokens", "kms:Decrypt")

    assert [stored is not None for _, stored in read(account, "a", "b", "c")] == [True, False, True]


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG], ids=["as made", "at DEBUG, where it would be seen"])
def test_no_library_logs_a_value_though_the_root_logger_is_at_debug(
    credentials: None, harness: LeakHarness, level: int
) -> None:
    with mock_aws():
        client = make_client()
        assert (logging.getLogger().level, logging.getLogger("botocore").level) == (logging.DEBUG, logging.INFO)
        logging.getLogger("botocore").setLevel(level)
        harness.hears_libraries = True
        store, pair = SecretStore(client, NAMES), a_version()
        client.create_secret(Name=NAMES.pair)
        client.create_secret(Name=NAMES.bearer)
        store.write_pair(pair, VALUE, CURRENT)
        store.pair_value(pair)
        publish(store, pair, VALUE)
        client.create_secret(Name=NAMES.login, SecretString=VALUE)
        store.login_value()
        Connections.of(client, "virtuous").read(["default"], lambda _, stored: stored)

    assert any(VALUE in repr(vars(record)) for record in harness.records) is (level == logging.DEBUG)


def test_a_throttled_call_is_repeated_and_one_that_hangs_ends_in_40_seconds_and_quiet_loggers_stay_so(
    credentials: None,
) -> None:
    """The core repeats a save until its deadline, and one call must not use that up alone."""
    loggers = [logging.getLogger(name) for name in ("botocore", "boto3", "urllib3")]
    for logger in loggers:
        logger.setLevel(logging.ERROR)

    config: Any = make_client().meta.config

    assert {logger.level for logger in loggers} == {logging.ERROR}
    assert (config.retries["mode"], config.retries["total_max_attempts"]) == ("standard", 4)
    pauses = 7  # standard mode's, at most
    assert 4 * (config.connect_timeout + config.read_timeout) + pauses <= 40
