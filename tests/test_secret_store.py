"""The adapter for Secrets Manager: each method on moto and on the strict stand-in, each way to fail on the latter."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse, HTTPHeaders
from moto import mock_aws

from tests.fakes.secrets_manager import TRANSPORT_ERRORS, StrictSecretsManager
from tests.leak_harness import LeakHarness
from tests.support import REGION, Account, a_version
from token_refresher.aws.batch_read import Survey
from token_refresher.aws.secret_store import SecretStore, make_client
from token_refresher.refresh.formats import SecretNames
from token_refresher.refresh.model import (
    CURRENT,
    PENDING,
    PREVIOUS,
    CurrentPair,
    Stored,
    StoreMisconfigured,
    StoreUnavailable,
    Versions,
)

NAMES = SecretNames.of("virtuous", "default")
LABEL = "REFRESHING"
VALUE = "a value that nobody may see"

UNAVAILABLE = [
    "InternalServiceError",
    "LimitExceededException",
    "PreconditionNotMetException",
    "RequestExpired",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "ACodeThatAwsMayInvent",
]
MISCONFIGURED = {
    "AccessDeniedException": "role",
    "DecryptionFailure": "KMS",
    "EncryptionFailure": "KMS",
    "ExpiredTokenException": "expired",
    "InvalidParameterException": "replica",
    "InvalidRequestException": "deletion",
    "UnrecognizedClientException": "not valid",
    "ValidationException": "parameters",
}


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.fixture(params=["moto", "strict"])
def client(request: pytest.FixtureRequest, credentials: None) -> Iterator[Any]:
    """Secrets Manager, played by each of the two, with the secrets of one connection in it."""
    if request.param == "moto":
        with mock_aws():
            client = make_client()
            _make_secrets(client)
            yield client
    else:
        client = StrictSecretsManager(region=REGION).client()
        _make_secrets(client)
        yield client


def _make_secrets(client: Any) -> None:
    client.create_secret(Name=NAMES.pair)
    client.create_secret(Name=NAMES.bearer)


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def strict(account: Account) -> StrictSecretsManager:
    return account.strict


@pytest.fixture
def store(account: Account) -> SecretStore:
    return account.store()


# What each method does


def labels(versions: Versions) -> dict[str, str]:
    return {label: version.version_id for version in versions.listed for label in version.labels}


def publish(store: SecretStore, version: str, value: str) -> None:
    held = store.read().bearer_labels.get(CURRENT)
    if CURRENT not in (store.write_bearer(version, value) or ()):
        assert store.move_bearer(version, moved_from=held)


def test_a_connection_without_a_pair_has_nothing_to_look_at(client: Any) -> None:
    store = SecretStore(client, NAMES)

    assert store.read() == Stored({}, None)
    assert (store.pair_versions().listed, store.bearer_versions().listed) == ((), ())


def test_a_pair_is_written_under_its_labels_and_read_by_its_id(client: Any) -> None:
    store = SecretStore(client, NAMES)
    first, second, entry = a_version(), a_version(), a_version()

    assert store.write_pair(first, '{"a": 1}', CURRENT) == [CURRENT]
    assert set(store.write_pair(second, '{"a": 2}', CURRENT, "SUPERSEDED") or ()) == {CURRENT, "SUPERSEDED"}
    assert store.write_pair(entry, '{"entry": "intent"}', LABEL) == [LABEL]

    assert labels(store.pair_versions()) == {CURRENT: second, "SUPERSEDED": second, PREVIOUS: first, LABEL: entry}
    values = [store.pair_value(version) for version in (first, second, entry)]
    assert values == ['{"a": 1}', '{"a": 2}', '{"entry": "intent"}']


def test_a_look_is_the_bearers_labels_then_the_current_pair_with_its_labels(client: Any) -> None:
    store, version = SecretStore(client, NAMES), a_version()
    store.write_pair(version, VALUE, CURRENT, LABEL)
    publish(store, version, "{}")

    look = store.read()

    assert look.bearer_labels[CURRENT] == version
    assert look.pair is not None
    assert look.pair == CurrentPair(version, frozenset({CURRENT, LABEL}), VALUE, look.pair.created_at)
    assert abs(datetime.now(UTC) - (look.pair.created_at or datetime.min.replace(tzinfo=UTC))) < timedelta(minutes=1)
    assert VALUE not in repr(look)


def test_the_same_bytes_again_are_no_error(client: Any) -> None:
    """The SDK repeats a put whose answer was lost under the same id."""
    store, version = SecretStore(client, NAMES), a_version()

    assert store.write_pair(version, VALUE, CURRENT)
    assert store.write_pair(version, VALUE, CURRENT)


def test_the_first_bearer_is_current_at_once_and_a_later_one_pending_until_it_is_moved(client: Any) -> None:
    store, first, second = SecretStore(client, NAMES), a_version(), a_version()

    assert CURRENT in (store.write_bearer(first, "1") or ())
    assert store.write_bearer(second, "2") == [PENDING]
    assert store.move_bearer(second, moved_from=first)

    found = store.read().bearer_labels
    assert (found[CURRENT], found[PREVIOUS]) == (second, first)


def test_a_connection_without_a_login_secret_has_no_login(client: Any) -> None:
    assert SecretStore(client, NAMES).login_value() is None


def test_a_login_secret_without_a_value_is_no_login(client: Any) -> None:
    client.create_secret(Name=NAMES.login)

    assert SecretStore(client, NAMES).login_value() is None


def test_a_stored_login_is_read_from_its_current_version(client: Any) -> None:
    client.create_secret(Name=NAMES.login, SecretString="old")
    client.put_secret_value(SecretId=NAMES.login, SecretString="new")

    assert SecretStore(client, NAMES).login_value() == "new"


def test_a_binary_value_reads_as_empty(client: Any) -> None:
    """The core then says that the secret is empty; guessing an encoding would hide a mistake."""
    version = a_version()
    client.put_secret_value(SecretId=NAMES.pair, SecretBinary=b"\0\1", ClientRequestToken=version)
    client.create_secret(Name=NAMES.login, SecretBinary=b"\0\1")
    store = SecretStore(client, NAMES)

    assert store.pair_value(version) == ""
    assert store.login_value() == ""


# What only AWS and the strict stand-in do


def test_an_id_that_holds_something_else_is_not_written(store: SecretStore, strict: StrictSecretsManager) -> None:
    version = a_version()
    store.write_pair(version, "first", LABEL)

    assert not store.write_pair(version, "second", CURRENT)

    assert store.pair_value(version) == "first"


def test_publishing_again_tells_whether_readers_see_it(store: SecretStore) -> None:
    """The same bytes again move no label."""
    first, second = a_version(), a_version()
    publish(store, first, "1")
    publish(store, second, "2")

    assert CURRENT in (store.write_bearer(second, "2") or ())
    assert CURRENT not in (store.write_bearer(first, "1") or (CURRENT,))
    assert store.write_bearer(first, "other bytes") is None


@pytest.mark.parametrize("moved_from", [None, "the version before"])
def test_the_bearer_is_not_moved_from_where_it_is_not(store: SecretStore, moved_from: str | None) -> None:
    first, second, third = a_version(), a_version(), a_version()
    for version in (first, second):
        publish(store, version, version)
    store.write_bearer(third, "3")

    assert not store.move_bearer(third, moved_from=first if moved_from else None)

    assert store.read().bearer_labels[CURRENT] == second


def test_a_move_to_a_version_that_is_gone_leaves_readers_alone(store: SecretStore) -> None:
    version = a_version()
    store.write_bearer(version, "1")

    with pytest.raises(StoreMisconfigured):
        store.move_bearer(a_version(), moved_from=version)

    assert store.read().bearer_labels[CURRENT] == version


def test_a_version_that_is_not_there_or_not_yet_is_none(store: SecretStore) -> None:
    """Reads may be a moment old: DescribeSecret told of the version before GetSecretValue knows it."""
    store.write_pair(a_version(), VALUE, CURRENT)

    assert store.pair_value(a_version()) is None


def test_versions_that_cannot_be_removed_are_counted(store: SecretStore, strict: StrictSecretsManager) -> None:
    now = datetime.now(UTC)
    strict.now = lambda: now - timedelta(days=2)
    for number in range(60):
        store.write_pair(a_version(), f"old {number}", CURRENT)
    strict.now = lambda: now
    for number in range(39):
        store.write_pair(a_version(), f"new {number}", CURRENT)

    assert store.pair_versions().kept_since(now - timedelta(days=1)) == 39
    assert store.pair_versions().kept_since(now - timedelta(days=3)) == 99


def test_an_old_version_with_a_label_counts_since_secrets_manager_keeps_it(
    store: SecretStore, strict: StrictSecretsManager
) -> None:
    now = datetime.now(UTC)
    strict.now = lambda: now - timedelta(days=2)
    store.write_pair(a_version(), "labelled", "SUPERSEDED")
    store.write_pair(a_version(), "to lose its label", LABEL)
    store.write_pair(a_version(), "labelled too", LABEL)

    assert store.pair_versions().kept_since(now) == 2


def test_a_version_is_written_under_several_labels_at_once(client: Any) -> None:
    store, version = SecretStore(client, NAMES), a_version()

    assert store.write_pair(version, VALUE, CURRENT, LABEL)

    assert labels(store.pair_versions()) == {CURRENT: version, LABEL: version}


def test_versions_are_counted_on_every_page(store: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    page: dict[str, Any] = {
        "Versions": [{"VersionId": a_version(), "CreatedDate": now}],
        "ARN": "arn",
        "ResponseMetadata": {},
    }
    answers = [page | {"NextToken": "more"}, page | {"NextToken": "yet more"}, page]
    asked: list[dict[str, Any]] = []

    def list_secret_version_ids(**params: Any) -> dict[str, Any]:
        asked.append(params)
        return answers.pop(0)

    monkeypatch.setattr(store.client, "list_secret_version_ids", list_secret_version_ids)

    assert store.pair_versions().kept_since(now - timedelta(days=1)) == 3
    assert [params.get("NextToken") for params in asked] == [None, "more", "yet more"]


def test_a_put_answered_without_labels_has_none(store: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.client, "put_secret_value", lambda **_: {})

    assert store.write_pair(a_version(), VALUE, CURRENT) == ()


@pytest.mark.parametrize("secret", [NAMES.pair, NAMES.bearer])
def test_a_look_notices_a_secret_that_is_marked_for_deletion(
    store: SecretStore, strict: StrictSecretsManager, secret: str
) -> None:
    strict.client().delete_secret(SecretId=secret)

    with pytest.raises(StoreMisconfigured, match=f"{secret}.*deletion.*RestoreSecret"):
        store.read()


def test_a_secret_marked_for_deletion_cannot_be_used(store: SecretStore, strict: StrictSecretsManager) -> None:
    version = a_version()
    store.write_pair(version, VALUE, CURRENT)
    strict.client().delete_secret(SecretId=NAMES.pair)

    with pytest.raises(StoreMisconfigured, match="deletion"):
        store.pair_value(version)
    with pytest.raises(StoreMisconfigured, match="deletion"):
        store.write_pair(a_version(), VALUE, LABEL)


def test_a_replica_cannot_be_written(store: SecretStore, strict: StrictSecretsManager) -> None:
    strict.make_replica(NAMES.pair)

    with pytest.raises(StoreMisconfigured, match="replica"):
        store.write_pair(a_version(), VALUE, LABEL)


def test_a_key_that_refuses_is_known_before_anything_is_spent(store: SecretStore, strict: StrictSecretsManager) -> None:
    """Writing needs kms:GenerateDataKey as well: the claim's put shows it."""
    version = a_version()
    store.write_pair(version, VALUE, CURRENT)
    strict.refuse_kms(NAMES.pair, "kms:GenerateDataKey")

    assert store.pair_value(version) == VALUE
    with pytest.raises(StoreMisconfigured, match="KMS"):
        store.write_pair(a_version(), VALUE, LABEL)


def test_a_full_secret_says_that_it_empties_itself(store: SecretStore) -> None:
    for number in range(100):
        store.write_pair(a_version(), str(number), LABEL)

    with pytest.raises(StoreUnavailable, match=r"100 versions.*within a day"):
        store.write_pair(a_version(), VALUE, LABEL)


# Failures


USES: dict[str, tuple[str, str, Callable[[SecretStore], object]]] = {
    "look": ("DescribeSecret", NAMES.bearer, lambda store: store.read()),
    "look at the pair": ("GetSecretValue", NAMES.pair, lambda store: store.read()),
    "pair_value": ("GetSecretValue", NAMES.pair, lambda store: store.pair_value(a_version())),
    "pair_versions": ("ListSecretVersionIds", NAMES.pair, lambda store: store.pair_versions()),
    "bearer_versions": ("ListSecretVersionIds", NAMES.bearer, lambda store: store.bearer_versions()),
    "login_value": ("GetSecretValue", NAMES.login, lambda store: store.login_value()),
    "write_pair": ("PutSecretValue", NAMES.pair, lambda store: store.write_pair(a_version(), VALUE, LABEL)),
    "write_bearer": ("PutSecretValue", NAMES.bearer, lambda store: store.write_bearer(a_version(), VALUE)),
    "move_bearer": (
        "UpdateSecretVersionStage",
        NAMES.bearer,
        lambda store: store.move_bearer(a_version(), moved_from=None),
    ),
    "survey": ("ListSecrets", "virtuous/", lambda store: Survey.of(store.client, "virtuous")),
}
each_use = pytest.mark.parametrize("use", USES)


@each_use
@pytest.mark.parametrize("code", UNAVAILABLE)
def test_what_passes_by_itself_is_unavailable(
    store: SecretStore, strict: StrictSecretsManager, harness: LeakHarness, use: str, code: str
) -> None:
    operation, name, call = USES[use]
    harness.secret(VALUE)
    strict.fail(operation, code)

    with pytest.raises(StoreUnavailable) as failed:
        call(store)

    assert all(part in str(failed.value) for part in (operation, name, code))


@pytest.mark.parametrize(
    ("use", "code"),
    # A label that was moved meanwhile has a test of its own.
    sorted({(use, code) for use in USES for code in MISCONFIGURED} - {("move_bearer", "InvalidParameterException")}),
)
def test_what_a_person_must_change_is_misconfigured_and_says_what(
    store: SecretStore, strict: StrictSecretsManager, harness: LeakHarness, use: str, code: str
) -> None:
    operation, name, call = USES[use]
    harness.secret(VALUE)
    strict.fail(operation, code)

    with pytest.raises(StoreMisconfigured) as failed:
        call(store)

    assert all(part in str(failed.value) for part in (operation, name, code, MISCONFIGURED[code]))


@pytest.mark.parametrize("use", sorted(USES.keys() - {"look at the pair", "pair_value", "login_value", "survey"}))
def test_a_missing_secret_is_misconfigured_and_says_what(use: str) -> None:
    """Not so where a missing secret or version has a meaning of its own: pair_value and login_value."""
    _, name, call = USES[use]
    empty = SecretStore(StrictSecretsManager(region=REGION).client(), NAMES)

    with pytest.raises(StoreMisconfigured, match="run virtuous-token login") as failed:
        call(empty)

    assert name in str(failed.value)


@each_use
@pytest.mark.parametrize("error", sorted(TRANSPORT_ERRORS))
def test_no_answer_is_unavailable(store: SecretStore, strict: StrictSecretsManager, use: str, error: str) -> None:
    operation, name, call = USES[use]
    strict.fail(operation, error)

    with pytest.raises(StoreUnavailable) as failed:
        call(store)

    assert all(part in str(failed.value) for part in (operation, name, error))


@pytest.mark.parametrize("use", sorted(USES.keys() - {"look at the pair"}))
def test_no_credentials_are_misconfigured(credentials: None, monkeypatch: pytest.MonkeyPatch, use: str) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _, name, call = USES[use]

    with pytest.raises(StoreMisconfigured, match="credentials") as failed:
        call(SecretStore(make_client(), NAMES))

    assert name in str(failed.value)


@each_use
def test_an_error_carries_none_of_botocores_words(store: SecretStore, strict: StrictSecretsManager, use: str) -> None:
    """Theirs may quote a request."""
    operation, _, call = USES[use]
    strict.fail(operation, "ThrottlingException")

    with pytest.raises(StoreUnavailable) as failed:
        call(store)

    assert "asked for by the test" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


def test_a_write_whose_answer_was_lost_is_written(store: SecretStore, strict: StrictSecretsManager) -> None:
    version, writes = a_version(), strict.writes(NAMES.pair)
    strict.fail("PutSecretValue", "ReadTimeoutError", after_effect=True)

    with pytest.raises(StoreUnavailable):
        store.write_pair(version, VALUE, LABEL)

    assert store.write_pair(version, VALUE, LABEL)
    assert strict.writes(NAMES.pair) == writes + 1


# The client


def _use_everything(store: SecretStore) -> None:
    pair, other = a_version(), a_version()
    store.write_pair(pair, VALUE, CURRENT)
    store.pair_value(pair)
    publish(store, pair, VALUE)
    publish(store, other, VALUE)
    store.client.create_secret(Name=NAMES.login, SecretString=VALUE)
    store.login_value()
    store.pair_versions()
    list(Survey.of(store.client, "virtuous").read(["default"], lambda _, look: look))


def test_no_library_logs_a_value_though_the_root_logger_is_at_debug(credentials: None, harness: LeakHarness) -> None:
    harness.secret(VALUE)
    with mock_aws():
        client = make_client()
        harness.hears_libraries = True
        _make_secrets(client)
        _use_everything(SecretStore(client, NAMES))

    assert logging.getLogger().level == logging.DEBUG
    assert {record.levelno for record in harness.records if record.name.startswith("botocore")} <= {logging.INFO}


def test_botocore_at_debug_would_log_a_value(credentials: None, harness: LeakHarness) -> None:
    """So the test above can see."""
    with mock_aws():
        client = make_client()
        logging.getLogger("botocore").setLevel(logging.DEBUG)
        harness.hears_libraries = True
        _make_secrets(client)
        _use_everything(SecretStore(client, NAMES))

    assert any(VALUE in record.getMessage() for record in harness.records)


@pytest.mark.parametrize("name", ["botocore", "boto3", "urllib3"])
def test_a_logger_that_is_quieter_already_stays_so(credentials: None, name: str) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)

    make_client()

    assert logging.getLogger(name).level == logging.ERROR


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_throttled_call_is_repeated_within_the_client(
    credentials: None, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    answers = [_raw(400, {"__type": "ThrottlingException"})] * failures + [_raw(200, {"Versions": [], "ARN": "arn"})]

    assert _versions_through(answers).listed == ()
    assert answers == []


def test_a_call_that_is_always_throttled_is_given_up(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The core repeats a save until its deadline: one call must not use that up alone."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    answers = [_raw(400, {"__type": "ThrottlingException"})] * 20

    with pytest.raises(StoreUnavailable, match="ThrottlingException"):
        _versions_through(answers)

    assert len(answers) == 16
    assert sum(slept) <= 7


def test_a_call_that_hangs_ends_in_time(credentials: None) -> None:
    """Four tries, each bounded, within 40 seconds with the pauses between."""
    config: Any = make_client().meta.config

    longest = config.connect_timeout + config.read_timeout
    assert 4 * longest + 7 <= 40


def _raw(status: int, body: dict[str, object]) -> AWSResponse:
    class Raw:
        def stream(self, *_: object, **__: object) -> Iterator[bytes]:
            yield json.dumps(body).encode()

    headers = HTTPHeaders()
    headers["Date"] = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return AWSResponse("https://aws.invalid/", status, headers, Raw())


def _versions_through(answers: list[AWSResponse]) -> Versions:
    """What the store makes of these answers of the service, in this order; nothing is sent."""
    client: Any = make_client()
    client.meta.events.register("before-send.secrets-manager", lambda **_: answers.pop(0))
    return SecretStore(client, NAMES).pair_versions()
