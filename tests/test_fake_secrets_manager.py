"""The strict Secrets Manager answers as AWS's pages say. Each test names the page it follows.

"API" is the AWS Secrets Manager API Reference, "Guide" the AWS Secrets Manager User Guide.
"""

import contextlib
import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError

from tests.fakes.secrets_manager import CURRENT, PREVIOUS, AwsError, StrictSecretsManager
from tests.fakes.secrets_manager_client import answer_through
from tests.fakes.secrets_manager_http import RequestRates, served
from tests.support import NOW, Clock

NAME = "virtuous/default/tokens"


def version(number: int) -> str:
    """The id of the *number*-th version."""
    return str(UUID(int=number))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def strict(clock: Clock) -> StrictSecretsManager:
    return StrictSecretsManager(clock.now)


@pytest.fixture
def client(strict: StrictSecretsManager) -> Any:
    return strict.client()


def put(client: Any, number: int, value: str | None = None, *labels: str, name: str = NAME) -> Any:
    stages = {"VersionStages": list(labels)} if labels else {}
    return client.put_secret_value(
        SecretId=name, ClientRequestToken=version(number), SecretString=value or f"value-{number}", **stages
    )


@pytest.fixture
def secret(client: Any) -> str:
    """A secret whose versions 1 and 2 are AWSPREVIOUS and AWSCURRENT."""
    client.create_secret(Name=NAME)
    put(client, 1)
    put(client, 2)
    return NAME


def code_of(call: Callable[[], object]) -> str:
    """The AWS code that *call* is refused with."""
    with pytest.raises(ClientError) as refused:
        call()
    code: str = refused.value.response["Error"]["Code"]
    return code


# PutSecretValue


def test_the_client_request_token_becomes_the_version_id(client: Any, strict: StrictSecretsManager) -> None:
    """API, PutSecretValue, ClientRequestToken."""
    client.create_secret(Name=NAME)
    assert put(client, 7)["VersionId"] == version(7)
    assert strict.versions(NAME) == [version(7)]


def test_the_sdk_makes_a_token_where_none_is_given(client: Any, secret: str, strict: StrictSecretsManager) -> None:
    """API, PutSecretValue, ClientRequestToken."""
    answer = client.put_secret_value(SecretId=secret, SecretString="value-3")
    assert UUID(answer["VersionId"])
    assert strict.labels(secret)[CURRENT] == answer["VersionId"]


def test_a_put_without_labels_moves_current_and_previous(
    client: Any, secret: str, strict: StrictSecretsManager
) -> None:
    """API, PutSecretValue, VersionStages."""
    assert put(client, 3)["VersionStages"] == [CURRENT]
    assert strict.labels(secret) == {CURRENT: version(3), PREVIOUS: version(2)}


@pytest.mark.parametrize(
    ("params", "refusal"),
    [
        pytest.param({"SecretString": "x" * 65_536}, None, id="a string of 65,536 bytes is stored"),
        pytest.param({"SecretString": "x" * 65_537}, "ValidationException", id="a longer string is refused"),
        pytest.param({"SecretString": "é" * 32_769}, "ValidationException", id="bytes are counted, not characters"),
        pytest.param({}, "InvalidRequestException", id="a value is needed"),
        pytest.param(
            {"SecretString": "x", "ClientRequestToken": "t" * 65}, "ValidationException", id="the token is too long"
        ),
        pytest.param(
            {"SecretString": "x", "VersionStages": [f"label-{n}" for n in range(21)]},
            "ValidationException",
            id="21 labels in one request",
        ),
        pytest.param(
            {"SecretString": "x", "VersionStages": [f"label-{n}" for n in range(19)]},
            "LimitExceededException",
            id="21 labels on the secret",
        ),
    ],
)
def test_a_put_keeps_to_the_lengths(client: Any, secret: str, params: dict[str, Any], refusal: str | None) -> None:
    """API, PutSecretValue, Request Parameters; Guide, Quotas."""

    def call() -> object:
        return client.put_secret_value(SecretId=secret, **params)

    if refusal is None:
        call()
    else:
        assert code_of(call) == refusal


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"SecretString": ""}, id="an empty string"),
        pytest.param({"SecretString": "x", "ClientRequestToken": "short"}, id="a short token"),
    ],
)
def test_too_short_a_parameter_does_not_leave_the_sdk(
    client: Any, secret: str, strict: StrictSecretsManager, params: dict[str, Any]
) -> None:
    """API, PutSecretValue, Length Constraints, which botocore checks at the lower end."""
    calls = len(strict.log)
    with pytest.raises(ParamValidationError):
        client.put_secret_value(SecretId=secret, **params)
    assert len(strict.log) == calls


def test_young_versions_fill_the_quota(client: Any, secret: str, clock: Clock, strict: StrictSecretsManager) -> None:
    """API, PutSecretValue: versions younger than 24 hours are kept; Guide, Quotas, versions of a secret."""
    for number in range(3, 101):
        put(client, number)
    with pytest.raises(client.exceptions.LimitExceededException):
        put(client, 101)
    clock.instant += timedelta(hours=24)
    with pytest.raises(client.exceptions.LimitExceededException):
        put(client, 101)
    assert strict.labels(secret)[CURRENT] == version(100)


def test_old_unlabelled_versions_make_room(
    client: Any, secret: str, clock: Clock, strict: StrictSecretsManager
) -> None:
    """API, PutSecretValue: past 100 versions the old ones without a label are removed."""
    put(client, 3, None, "KEPT")
    for number in range(4, 101):
        put(client, number)
    clock.instant += timedelta(hours=24, seconds=1)
    put(client, 101)
    assert len(strict.versions(secret)) == 100
    assert version(1) not in strict.versions(secret)
    put(client, 102)
    put(client, 103)
    assert strict.versions(secret)[:2] == [version(3), version(5)]


# UpdateSecretVersionStage


def move(client: Any, label: str, to: int | None = None, off: int | None = None) -> Any:
    versions = {"MoveToVersionId": to, "RemoveFromVersionId": off}
    named = {key: version(number) for key, number in versions.items() if number is not None}
    return client.update_secret_version_stage(SecretId=NAME, VersionStage=label, **named)


@pytest.mark.parametrize(
    ("label", "to", "off", "labels"),
    [
        pytest.param("NEW", 1, None, {"NEW": 1}, id="a label that is on no version needs no holder"),
        pytest.param("REFRESHING", 1, 3, {"REFRESHING": 1}, id="a custom label moves off its holder"),
        pytest.param("REFRESHING", None, 3, {"REFRESHING": None}, id="a custom label is removed"),
        pytest.param("REFRESHING", 3, None, {"REFRESHING": 3}, id="a label that is there already stays"),
        pytest.param(PREVIOUS, None, 1, {PREVIOUS: None}, id="AWSPREVIOUS is removed"),
    ],
)
def test_a_label_is_moved_or_removed(
    client: Any,
    secret: str,
    strict: StrictSecretsManager,
    label: str,
    to: int | None,
    off: int | None,
    labels: dict[str, int | None],
) -> None:
    """API, UpdateSecretVersionStage, MoveToVersionId and RemoveFromVersionId."""
    put(client, 3, None, "REFRESHING")
    before = strict.labels(secret)
    move(client, label, to, off)
    expected = before | {name: version(number) for name, number in labels.items() if number is not None}
    for name, number in labels.items():
        if number is None:
            del expected[name]
    assert strict.labels(secret) == expected


@pytest.mark.parametrize(
    ("label", "to", "off", "refusal"),
    [
        pytest.param(CURRENT, 1, None, "InvalidParameterException", id="AWSCURRENT without its holder"),
        pytest.param(CURRENT, 1, 3, "InvalidParameterException", id="AWSCURRENT off a version that lacks it"),
        pytest.param(CURRENT, 1, 9, "InvalidParameterException", id="AWSCURRENT off a version that is not there"),
        pytest.param(CURRENT, None, 2, "InvalidParameterException", id="AWSCURRENT to nowhere"),
        pytest.param(CURRENT, 9, 2, "ResourceNotFoundException", id="AWSCURRENT to a version that is not there"),
        pytest.param("REFRESHING", 1, None, "InvalidParameterException", id="a custom label without its holder"),
        pytest.param("REFRESHING", 1, 2, "InvalidParameterException", id="a custom label off a version that lacks it"),
        pytest.param("REFRESHING", None, 2, "InvalidParameterException", id="removed from a version that lacks it"),
        pytest.param("NEW", 1, 2, "InvalidParameterException", id="a label that is on no version"),
        pytest.param("REFRESHING", None, None, "InvalidParameterException", id="neither from nor to"),
    ],
)
def test_a_refused_move_changes_nothing(
    client: Any,
    secret: str,
    strict: StrictSecretsManager,
    label: str,
    to: int | None,
    off: int | None,
    refusal: str,
) -> None:
    """API, UpdateSecretVersionStage, RemoveFromVersionId: otherwise the operation fails."""
    put(client, 3, None, "REFRESHING")
    labels = strict.labels(secret)
    assert code_of(lambda: move(client, label, to, off)) == refusal
    assert strict.labels(secret) == labels


def test_a_repeated_move_fails_though_the_first_one_worked(
    client: Any, secret: str, strict: StrictSecretsManager
) -> None:
    """API, UpdateSecretVersionStage: it has no ClientRequestToken, and the holder named is no longer the holder."""
    strict.fail("UpdateSecretVersionStage", "ReadTimeoutError", after_effect=True)
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        move(client, CURRENT, to=1, off=2)
    assert strict.labels(secret)[CURRENT] == version(1)
    assert code_of(lambda: move(client, CURRENT, to=1, off=2)) == "InvalidParameterException"


# GetSecretValue


@pytest.mark.parametrize(
    ("params", "number"),
    [
        pytest.param({}, 2, id="AWSCURRENT by default"),
        pytest.param({"VersionStage": PREVIOUS}, 1, id="by label"),
        pytest.param({"VersionId": version(1)}, 1, id="by version"),
        pytest.param({"VersionId": version(2), "VersionStage": CURRENT}, 2, id="by both"),
    ],
)
def test_a_value_is_read(client: Any, secret: str, params: dict[str, str], number: int) -> None:
    """API, GetSecretValue, VersionId and VersionStage."""
    answer = client.get_secret_value(SecretId=secret, **params)
    assert answer["VersionId"] == version(number)
    assert answer["SecretString"] == f"value-{number}"
    assert answer["Name"] == NAME


def test_each_version_has_its_own_created_date(client: Any, secret: str, clock: Clock) -> None:
    """API, GetSecretValue, CreatedDate."""
    clock.instant += timedelta(hours=1)
    put(client, 3)
    assert client.get_secret_value(SecretId=secret)["CreatedDate"] == NOW + timedelta(hours=1)
    assert client.get_secret_value(SecretId=secret, VersionStage=PREVIOUS)["CreatedDate"] == NOW


@pytest.mark.parametrize(
    ("params", "refusal"),
    [
        pytest.param({"SecretId": "elsewhere"}, "ResourceNotFoundException", id="no such secret"),
        pytest.param({"VersionStage": "REFRESHING"}, "ResourceNotFoundException", id="no such label"),
        pytest.param({"VersionId": version(9)}, "ResourceNotFoundException", id="no such version"),
        pytest.param(
            {"VersionId": version(1), "VersionStage": CURRENT}, "InvalidRequestException", id="two different versions"
        ),
    ],
)
def test_a_value_that_is_not_there_is_refused(client: Any, secret: str, params: dict[str, str], refusal: str) -> None:
    """API, GetSecretValue, Errors."""
    assert code_of(lambda: client.get_secret_value(**{"SecretId": secret} | params)) == refusal


# SecretId


def test_a_secret_answers_to_its_name_and_its_arn(client: Any, secret: str) -> None:
    """API, GetSecretValue, SecretId; Guide, Finding a secret from a partial ARN."""
    arn = client.describe_secret(SecretId=secret)["ARN"]
    for secret_id in (secret, arn, arn[:-7]):
        assert client.get_secret_value(SecretId=secret_id)["ARN"] == arn
    other = arn[:-6] + "AbCdEf"
    assert code_of(lambda: client.get_secret_value(SecretId=other)) == "ResourceNotFoundException"


def test_a_secret_made_anew_has_another_arn(client: Any, secret: str) -> None:
    """API, CreateSecret, ARN."""
    arn = client.describe_secret(SecretId=secret)["ARN"]
    client.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
    assert client.create_secret(Name=secret)["ARN"] != arn


# CreateSecret, UpdateSecret


def test_a_created_value_is_current(client: Any, strict: StrictSecretsManager) -> None:
    """API, CreateSecret, ClientRequestToken."""
    answer = client.create_secret(Name=NAME, SecretString="value-1", ClientRequestToken=version(1))
    assert answer["VersionId"] == version(1)
    assert strict.labels(NAME) == {CURRENT: version(1)}


def test_a_create_is_repeated_without_harm_and_otherwise_refused(client: Any, strict: StrictSecretsManager) -> None:
    """API, CreateSecret, ClientRequestToken and ResourceExistsException."""
    first = client.create_secret(Name=NAME, SecretString="value-1", ClientRequestToken=version(1))
    again = client.create_secret(Name=NAME, SecretString="value-1", ClientRequestToken=version(1))
    assert (again["ARN"], strict.writes(NAME)) == (first["ARN"], 1)
    for params in ({}, {"SecretString": "value-1"}, {"SecretString": "x", "ClientRequestToken": version(1)}):
        with pytest.raises(client.exceptions.ResourceExistsException):
            client.create_secret(Name=NAME, **params)


def test_a_name_is_made_of_a_few_characters(client: Any) -> None:
    """API, CreateSecret, Name."""
    client.create_secret(Name="Aa0/_+=.@-")
    assert code_of(lambda: client.create_secret(Name="no spaces")) == "ValidationException"


# DeleteSecret, RestoreSecret


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda client: client.get_secret_value(SecretId=NAME), id="GetSecretValue"),
        pytest.param(lambda client: put(client, 3), id="PutSecretValue"),
        pytest.param(lambda client: put(client, 2), id="PutSecretValue of what is there"),
        pytest.param(lambda client: move(client, CURRENT, to=1, off=2), id="UpdateSecretVersionStage"),
        pytest.param(lambda client: client.update_secret(SecretId=NAME, Description="x"), id="UpdateSecret"),
        pytest.param(lambda client: client.create_secret(Name=NAME), id="CreateSecret"),
        pytest.param(lambda client: client.delete_secret(SecretId=NAME), id="DeleteSecret"),
    ],
)
def test_a_secret_marked_for_deletion_refuses(client: Any, secret: str, use: Callable[[Any], object]) -> None:
    """API, InvalidRequestException of each operation: the secret is scheduled for deletion."""
    client.delete_secret(SecretId=secret)
    assert code_of(lambda: use(client)) == "InvalidRequestException"


def test_a_secret_is_gone_when_its_recovery_window_is_over(client: Any, secret: str, clock: Clock) -> None:
    """API, DeleteSecret, RecoveryWindowInDays: 30 days by default."""
    assert client.delete_secret(SecretId=secret)["DeletionDate"] == NOW + timedelta(days=30)
    clock.instant += timedelta(days=30)
    for call in (client.describe_secret, client.restore_secret, client.delete_secret):
        assert code_of(lambda call=call: call(SecretId=secret)) == "ResourceNotFoundException"  # type: ignore[misc]
    client.create_secret(Name=secret)


def test_a_forced_deletion_is_immediate_and_asks_for_no_secret(client: Any, secret: str) -> None:
    """API, DeleteSecret, ForceDeleteWithoutRecovery."""
    for _ in range(2):
        client.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
    assert code_of(lambda: client.describe_secret(SecretId=secret)) == "ResourceNotFoundException"


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"RecoveryWindowInDays": 6}, id="six days"),
        pytest.param({"RecoveryWindowInDays": 31}, id="31 days"),
        pytest.param({"RecoveryWindowInDays": 7, "ForceDeleteWithoutRecovery": True}, id="a window and force"),
    ],
)
def test_a_recovery_window_is_7_to_30_days(client: Any, secret: str, params: dict[str, Any]) -> None:
    """API, DeleteSecret, Request Parameters."""
    assert code_of(lambda: client.delete_secret(SecretId=secret, **params)) == "InvalidParameterException"


# DescribeSecret, ListSecretVersionIds, ListSecrets, BatchGetSecretValue


def test_unlabelled_versions_are_listed_on_request(client: Any, secret: str) -> None:
    """API, ListSecretVersionIds, IncludeDeprecated, MaxResults and NextToken."""
    put(client, 3)
    listed = client.list_secret_version_ids(SecretId=secret)["Versions"]
    assert [entry["VersionId"] for entry in listed] == [version(2), version(3)]
    page = client.list_secret_version_ids(SecretId=secret, IncludeDeprecated=True, MaxResults=2)
    assert [entry["VersionId"] for entry in page["Versions"]] == [version(1), version(2)]
    rest = client.list_secret_version_ids(SecretId=secret, IncludeDeprecated=True, NextToken=page["NextToken"])
    assert [entry["VersionId"] for entry in rest["Versions"]] == [version(3)]
    assert "NextToken" not in rest


def test_secrets_are_listed_by_the_start_of_their_name_page_by_page(client: Any) -> None:
    """API, ListSecrets, Filters (name: prefix match, case-sensitive), MaxResults and NextToken."""
    for number in range(5):
        client.create_secret(Name=f"virtuous/{number}/tokens", SecretString="value", ClientRequestToken=version(1))
    client.create_secret(Name="Virtuous/0/tokens")
    client.create_secret(Name="elsewhere/virtuous/")
    wanted: Any = {"Filters": [{"Key": "name", "Values": ["virtuous/"]}]}
    pages = list(client.get_paginator("list_secrets").paginate(**wanted, PaginationConfig={"PageSize": 2}))
    assert [len(page["SecretList"]) for page in pages] == [2, 2, 1]
    found = [entry for page in pages for entry in page["SecretList"]]
    assert [entry["Name"] for entry in found] == [f"virtuous/{number}/tokens" for number in range(5)]
    assert found[0]["SecretVersionsToStages"] == {version(1): [CURRENT]}


def test_a_made_up_page_is_refused(client: Any) -> None:
    """API, ListSecrets, InvalidNextTokenException."""
    with pytest.raises(client.exceptions.InvalidNextTokenException):
        client.list_secrets(NextToken="made up")


def test_a_list_tells_labels_tags_and_what_is_marked_for_deletion(client: Any, secret: str) -> None:
    """API, ListSecrets, SecretListEntry and IncludePlannedDeletion."""
    client.create_secret(Name="virtuous/gone", Tags=[{"Key": "team", "Value": "a"}])
    client.delete_secret(SecretId="virtuous/gone")
    put(client, 3, None, "REFRESHING")
    kept, gone = client.list_secrets(IncludePlannedDeletion=True, SortBy="name")["SecretList"]
    assert kept["SecretVersionsToStages"] == {
        version(1): [PREVIOUS],
        version(2): [CURRENT],
        version(3): ["REFRESHING"],
    }
    assert "DeletedDate" not in kept
    assert (gone["Tags"], "DeletedDate" in gone, "SecretVersionsToStages" in gone) == (
        [{"Key": "team", "Value": "a"}],
        True,
        False,
    )


def test_a_batch_returns_values_and_errors_side_by_side(client: Any, secret: str, strict: StrictSecretsManager) -> None:
    """API, BatchGetSecretValue, SecretIdList and Errors."""
    client.create_secret(Name="sealed", SecretString="value")
    strict.refuse_kms("sealed", "kms:Decrypt")
    client.create_secret(Name="deleted", SecretString="value")
    client.delete_secret(SecretId="deleted")
    answer = client.batch_get_secret_value(SecretIdList=[secret, "missing", "sealed", "deleted"])
    assert [(entry["Name"], entry["SecretString"]) for entry in answer["SecretValues"]] == [(secret, "value-2")]
    assert [(entry["SecretId"], entry["ErrorCode"]) for entry in answer["Errors"]] == [
        ("missing", "ResourceNotFoundException"),
        ("sealed", "AccessDeniedException"),
        ("deleted", "InvalidRequestException"),
    ]


@pytest.mark.parametrize(
    ("params", "refusal"),
    [
        pytest.param({"SecretIdList": [str(n) for n in range(21)]}, "ValidationException", id="21 secrets"),
    ],
)
def test_a_batch_keeps_to_its_parameters(client: Any, params: dict[str, Any], refusal: str) -> None:
    """API, BatchGetSecretValue, Request Parameters."""
    assert code_of(lambda: client.batch_get_secret_value(**params)) == refusal


# Rates


def test_as_many_requests_pass_in_any_second_as_are_published_and_no_more() -> None:
    """Guide, Secrets Manager quotas: puts and moves of labels share one rate, reads have another."""
    now = [0.0]
    rates = RequestRates(clock=lambda: now[0])

    def admitted(operation: str) -> int:
        passed = 0
        with contextlib.suppress(AwsError):
            while passed < 200:
                rates.admit(operation)
                passed += 1
        return passed

    for _ in range(30):
        rates.admit("PutSecretValue")
    now[0] = 0.9
    assert admitted("UpdateSecretVersionStage") == 20
    now[0] = 1.0
    assert admitted("PutSecretValue") == 30
    assert admitted("BatchGetSecretValue") == admitted("ListSecrets") == 100
    assert admitted("GetSecretValue") == 200
    assert rates.refused == {
        "UpdateSecretVersionStage": 1,
        "PutSecretValue": 1,
        "BatchGetSecretValue": 1,
        "ListSecrets": 1,
    }


def test_beyond_the_rate_a_request_over_http_is_throttled_and_changes_nothing(strict: StrictSecretsManager) -> None:
    rates = RequestRates({("CreateSecret",): 1, ("ListSecrets",): 9}, clock=lambda: 0)
    with served(strict, rates=rates) as address:
        client: Any = boto3.session.Session("none", "none", region_name="us-east-1").client(
            "secretsmanager", endpoint_url=address, config=Config(retries={"total_max_attempts": 1})
        )
        client.create_secret(Name="a")
        assert code_of(lambda: client.create_secret(Name="b")) == "ThrottlingException"
        assert [entry["Name"] for entry in client.list_secrets()["SecretList"]] == ["a"]
        client.close()


# KMS and replicas


@pytest.mark.parametrize(
    ("lacking", "refused"),
    [
        pytest.param("kms:Decrypt", ["read", "write"], id="without Decrypt"),
        pytest.param("kms:GenerateDataKey", ["write"], id="without GenerateDataKey"),
    ],
)
def test_a_key_that_refuses_is_an_access_denied(
    client: Any, secret: str, strict: StrictSecretsManager, lacking: str, refused: list[str]
) -> None:
    """Guide, Secret encryption and decryption, Permissions for the KMS key."""
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: client.get_secret_value(SecretId=secret),
        "write": lambda: put(client, 3),
    }
    strict.refuse_kms(secret, lacking)
    for name in refused:
        with pytest.raises(ClientError, match=r"AccessDeniedException.*Access to KMS is not allowed"):
            calls.pop(name)()
    for call in calls.values():
        call()
    assert len(strict.versions(secret)) == 2
    client.describe_secret(SecretId=secret)
    strict.refuse_kms(secret)
    put(client, 3)


def test_a_replica_is_read_only(client: Any, secret: str, strict: StrictSecretsManager) -> None:
    """Guide, Promote a replica secret to a standalone secret: a replica can't be updated independently."""
    strict.make_replica(secret, primary_region="eu-west-1")
    calls: list[Callable[[], object]] = [
        lambda: put(client, 3),
        lambda: move(client, CURRENT, to=1, off=2),
        lambda: client.update_secret(SecretId=secret, Description="x"),
    ]
    for call in calls:
        assert code_of(call) == "InvalidParameterException"
    assert client.get_secret_value(SecretId=secret)["SecretString"] == "value-2"
    assert client.describe_secret(SecretId=secret)["PrimaryRegion"] == "eu-west-1"


# Faults and hooks


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "InternalServiceError", "AccessDeniedException", "LimitExceededException"]
)
def test_a_fault_is_answered_as_often_as_asked_and_changes_nothing(
    client: Any, secret: str, strict: StrictSecretsManager, code: str
) -> None:
    """Guide, Troubleshooting: a refused request has no effect. The SDK's own retries are not played."""
    strict.fail("PutSecretValue", code, times=2)
    assert [code_of(lambda: put(client, 3)) for _ in range(2)] == [code, code]
    assert version(3) not in strict.versions(secret)
    put(client, 3)
    assert len(strict.calls("PutSecretValue", secret)) == 5


@pytest.mark.parametrize(("code", "status"), [("InternalServiceError", 500), ("ThrottlingException", 400)])
def test_a_fault_has_its_http_status(
    client: Any, secret: str, strict: StrictSecretsManager, code: str, status: int
) -> None:
    """API, Errors of each operation: HTTP Status Code; Common Errors."""
    strict.fail("DescribeSecret", code)
    with pytest.raises(ClientError) as refused:
        client.describe_secret(SecretId=secret)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_a_fault_may_be_meant_for_one_secret(client: Any, secret: str, strict: StrictSecretsManager) -> None:
    """Test means: an ARN and a name are the same secret to a fault."""
    arn = client.create_secret(Name="other")["ARN"]
    strict.fail("PutSecretValue", "ThrottlingException", secret="other")
    put(client, 3)
    assert code_of(lambda: put(client, 3, name=arn)) == "ThrottlingException"


@pytest.mark.parametrize(
    "error",
    ["ReadTimeoutError", "ConnectTimeoutError", "EndpointConnectionError", "ConnectionClosedError"],
)
@pytest.mark.parametrize("after_effect", [False, True], ids=["lost on the way", "answer lost"])
def test_a_transport_error_is_botocores_own(
    client: Any, secret: str, strict: StrictSecretsManager, error: str, after_effect: bool
) -> None:
    """botocore, exceptions: what the client raises when there is no answer."""
    strict.fail("PutSecretValue", error, after_effect=after_effect)
    with pytest.raises(getattr(botocore.exceptions, error)):
        put(client, 3)
    assert (version(3) in strict.versions(secret)) == after_effect


class Killed(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_may_kill_its_caller_around_the_effect(
    client: Any, secret: str, strict: StrictSecretsManager, when: str
) -> None:
    """Test means: BaseException passes through botocore, and the effect took place or did not."""

    def kill(operation: str, params: object, secret_name: str) -> None:
        if (operation, secret_name) == ("PutSecretValue", secret):
            raise Killed

    setattr(strict, when, kill)
    with pytest.raises(Killed):
        put(client, 3)
    assert (version(3) in strict.versions(secret)) == (when == "after")


def test_a_hook_may_hold_one_caller_while_another_goes_on(
    client: Any, secret: str, strict: StrictSecretsManager
) -> None:
    """Test means: hooks run outside the lock."""
    held, release = threading.Event(), threading.Event()

    def hold(operation: str, params: Any, secret_name: str) -> None:
        if operation == "PutSecretValue":
            held.set()
            assert release.wait(10)

    strict.before = hold
    writer = threading.Thread(target=put, args=(client, 3))
    writer.start()
    try:
        assert held.wait(10)
        assert client.get_secret_value(SecretId=secret)["SecretString"] == "value-2"
    finally:
        release.set()
        writer.join(10)
    assert strict.value(secret) == "value-3"


def test_a_call_takes_effect_whole(client: Any, secret: str, strict: StrictSecretsManager, clock: Clock) -> None:
    """API, PutSecretValue, ClientRequestToken: of two callers one writes the version, however they meet."""
    refusals: list[str] = []

    def write_too() -> None:
        refusals.append(code_of(lambda: put(client, 3, "too late")))

    intruder = threading.Thread(target=write_too)

    def in_the_middle() -> datetime:
        """The time, asked for in the midst of the first put; the other thread gets its chance to squeeze in."""
        strict.now = clock.now
        intruder.start()
        intruder.join(0.3)
        return clock.now()

    strict.now = in_the_middle
    put(client, 3, "in time")
    intruder.join(10)
    assert refusals == ["ResourceExistsException"]
    assert strict.value(secret) == "in time"


# Stale reads


def test_reads_see_an_earlier_state_and_writes_never_do(client: Any, secret: str, strict: StrictSecretsManager) -> None:
    """API, ListSecrets: all Secrets Manager operations are eventually consistent."""
    strict.settle()
    put(client, 3)
    assert strict.views(secret) == 1
    asked: list[tuple[str, str, int]] = []

    def oldest(operation: str, secret_name: str, count: int) -> int:
        asked.append((operation, secret_name, count))
        return count - 1

    strict.choose_view = oldest
    assert client.describe_secret(SecretId=secret)["VersionIdsToStages"][version(2)] == [CURRENT]
    assert client.get_secret_value(SecretId=secret)["SecretString"] == "value-2"
    assert (
        code_of(lambda: client.get_secret_value(SecretId=secret, VersionId=version(3))) == "ResourceNotFoundException"
    )
    assert client.batch_get_secret_value(SecretIdList=[secret])["SecretValues"][0]["SecretString"] == "value-2"
    assert version(1) in client.list_secrets()["SecretList"][0]["SecretVersionsToStages"]
    assert len(client.list_secret_version_ids(SecretId=secret, IncludeDeprecated=True)["Versions"]) == 2
    assert [operation for operation, *_ in asked] == [
        "DescribeSecret",
        "GetSecretValue",
        "GetSecretValue",
        "BatchGetSecretValue",
        "ListSecrets",
        "ListSecretVersionIds",
    ]
    assert set(asked) == {(operation, secret, 2) for operation, *_ in asked}
    assert code_of(lambda: put(client, 3, "another value")) == "ResourceExistsException"
    assert code_of(lambda: move(client, CURRENT, to=1, off=2)) == "InvalidParameterException"
    strict.choose_view = lambda operation, secret_name, count: 0
    assert client.get_secret_value(SecretId=secret)["SecretString"] == "value-3"


def test_each_write_leaves_one_earlier_state(client: Any, secret: str, strict: StrictSecretsManager) -> None:
    """API, ListSecrets: eventual consistency. A refused write and a no-op leave none."""
    strict.settle()
    put(client, 3)
    put(client, 3)
    code_of(lambda: put(client, 3, "another value"))
    put(client, 4)
    assert strict.views(secret) == 2
    ages = iter([0, 1, 2])
    strict.choose_view = lambda operation, secret_name, count: next(ages)
    seen = [client.get_secret_value(SecretId=secret)["SecretString"] for _ in range(3)]
    assert seen == ["value-4", "value-3", "value-2"]


def test_a_new_secret_may_not_be_seen_yet(client: Any, strict: StrictSecretsManager) -> None:
    """API, ListSecrets: it might not reflect changes from the last five minutes."""
    client.create_secret(Name=NAME)
    strict.choose_view = lambda operation, secret_name, count: count - 1
    assert client.list_secrets()["SecretList"] == []
    assert code_of(lambda: client.describe_secret(SecretId=NAME)) == "ResourceNotFoundException"
    strict.settle()
    client.describe_secret(SecretId=NAME)


def test_a_deleted_secret_may_still_be_seen(client: Any, secret: str, strict: StrictSecretsManager) -> None:
    """API, ListSecrets: it might not reflect changes from the last five minutes."""
    strict.settle()
    client.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
    assert client.list_secrets()["SecretList"] == []
    strict.choose_view = lambda operation, secret_name, count: count - 1
    assert [entry["Name"] for entry in client.list_secrets()["SecretList"]] == [secret]


# Branches, log, values


def test_an_earlier_state_is_gone_on_from_as_often_as_one_likes(
    client: Any, secret: str, strict: StrictSecretsManager
) -> None:
    """Test means: an exploration branches here."""
    before = strict.secrets
    for _ in range(2):
        put(client, 3)
        client.delete_secret(SecretId=secret)
        strict.go_on_from(before)
        assert strict.labels(secret) == {CURRENT: version(2), PREVIOUS: version(1)}
        assert (len(strict.log), strict.views(secret)) == (0, 0)


def test_the_log_names_calls_and_holds_no_value(client: Any, secret: str, strict: StrictSecretsManager) -> None:
    """Test means: what is printed when a test fails shows no value, and does show the version."""
    shown = f"{strict.log!r} {strict.secret(secret)!r} {strict.secrets!r}"
    assert version(2) in shown
    assert "value-2" not in shown
    assert strict.log[-1].operation == "PutSecretValue"
    assert strict.log[-1].params == {"SecretId": secret, "ClientRequestToken": version(2)}


def test_clients_do_not_share_their_secrets(strict: StrictSecretsManager, secret: str) -> None:
    """Test means: each client speaks to the Secrets Manager that made it."""
    other = StrictSecretsManager().client()
    assert other.list_secrets()["SecretList"] == []
    with pytest.raises(strict.client().exceptions.ResourceNotFoundException):
        other.describe_secret(SecretId=secret)


def test_a_session_can_be_answered_too(strict: StrictSecretsManager, secret: str) -> None:
    """Test means: for code that makes its own client."""
    session = boto3.session.Session("none", "none", region_name="us-east-1")  # its own: answers stay registered
    answer_through(strict, session.events)
    assert session.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"] == "value-2"


def test_an_operation_that_is_not_modelled_says_so(client: Any, secret: str) -> None:
    """Test means: no request is answered by guess."""
    with pytest.raises(NotImplementedError, match="RotateSecret"):
        client.rotate_secret(SecretId=secret)


# Resource policies are kept; what they allow is for tests of the deployed stack to see.


def a_policy(effect: str, principal: object, **more: object) -> str:
    statement = {"Effect": effect, "Principal": principal, "Action": "*", "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        pytest.param(a_policy("Allow", "*"), "PublicPolicyException", id="everybody"),
        pytest.param(a_policy("Allow", {"AWS": "*"}), "PublicPolicyException", id="everybody, spelt out"),
        pytest.param(a_policy("Deny", "*"), None, id="a refusal lets nobody in"),
        pytest.param(a_policy("Allow", {"AWS": "111122223333"}), None, id="one account"),
        pytest.param(a_policy("Allow", "*", Condition={"StringEquals": {}}), None, id="under a condition"),
        pytest.param("no policy", "MalformedPolicyDocumentException", id="no policy"),
    ],
)
def test_a_policy_for_everybody_can_be_blocked(policy: str, refusal: str | None) -> None:
    client = StrictSecretsManager().client()
    client.create_secret(Name="some")

    try:
        client.put_resource_policy(SecretId="some", ResourcePolicy=policy, BlockPublicPolicy=True)
        ended = None
    except client.exceptions.ClientError as refused:
        ended = refused.response["Error"]["Code"]

    assert ended == refusal
