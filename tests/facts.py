"""What AWS Secrets Manager must do for the refresher's journal, stated once.

Each fact is asked of the strict fake, of moto where it agrees, of the local AWS, and by the proof of a real account.
Sources: the Secrets Manager API Reference and the "Quotas" page of its User Guide; where AWS documents nothing the
fact says so. Values are numbers, never tokens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["FACTS", "Fact", "labels_of", "put", "refusal"]

CURRENT, PREVIOUS, CUSTOM = "AWSCURRENT", "AWSPREVIOUS", "REFRESHING"
WRITERS = 16
# A read may be older than a write that was answered, for seconds; a listing for minutes (ListSecrets).
SECONDS_FOR_A_READ = 30.0
SECONDS_FOR_A_LISTING = 300.0


class Fact(NamedTuple):
    """*check* is given the name of a secret that exists and has no value; AssertionError says what was seen instead."""

    name: str
    check: Callable[[SecretsManagerClient, str], None]


def put(client: SecretsManagerClient, secret: str, value: str, *labels: str, version: str | None = None) -> str:
    """A new version's id. Without *labels* the put names none."""
    asked: dict[str, Any] = {"VersionStages": labels} if labels else {}
    version = version or str(uuid4())
    return client.put_secret_value(SecretId=secret, SecretString=value, ClientRequestToken=version, **asked)[
        "VersionId"
    ]


def labels_of(client: SecretsManagerClient, secret: str) -> dict[str, str]:
    """The version of each label. One label on two versions is an AssertionError."""
    described = client.describe_secret(SecretId=secret).get("VersionIdsToStages", {})
    pairs = [(label, version) for version, labels in described.items() for label in labels]
    assert len(pairs) == len(dict(pairs)), f"a label is on two versions: {described}"
    return dict(pairs)


def refusal(call: Callable[[], object]) -> str:
    """The AWS code that *call* is refused with, ``success`` if it is not."""
    try:
        call()
    except ClientError as refused:
        return refused.response["Error"]["Code"]
    return "success"


def _no_version_without_a_value(client: SecretsManagerClient, secret: str) -> None:
    """CreateSecret: without SecretString or SecretBinary there is no version."""
    assert labels_of(client, secret) == {}
    _is_refused("ResourceNotFoundException", lambda: client.get_secret_value(SecretId=secret))


def _first_version_is_current(client: SecretsManagerClient, secret: str) -> None:
    """PutSecretValue: AWSCURRENT is attached to the first version of a secret."""
    first = put(client, secret, "1", CUSTOM)
    _labels_become(client, secret, {CURRENT: first, CUSTOM: first})


def _version_is_written_once(client: SecretsManagerClient, secret: str) -> None:
    """PutSecretValue, ClientRequestToken."""
    first = put(client, secret, "1")
    _is_refused("ResourceExistsException", lambda: put(client, secret, "2", version=first))
    assert _value(client, secret, first) == "1"


def _same_put_again_moves_no_label(client: SecretsManagerClient, secret: str) -> None:
    """PutSecretValue, ClientRequestToken: the operation succeeds but does nothing."""
    first = put(client, secret, "1")
    second, third = put(client, secret, "2", CUSTOM), put(client, secret, "3", CUSTOM)
    assert put(client, secret, "2", CUSTOM, CURRENT, version=second) == second
    _labels_become(client, secret, {CURRENT: first, CUSTOM: third})


def _put_takes_its_labels(client: SecretsManagerClient, secret: str) -> None:
    """PutSecretValue, VersionStages. AWSCURRENT stays where it is not named; where it moves, AWSPREVIOUS follows."""
    first, second = put(client, secret, "1"), put(client, secret, "2", CUSTOM)
    _labels_become(client, secret, {CURRENT: first, CUSTOM: second})
    third = put(client, secret, "3", CURRENT, CUSTOM)
    _labels_become(client, secret, {CURRENT: third, CUSTOM: third, PREVIOUS: first})
    fourth = put(client, secret, "4")
    _labels_become(client, secret, {CURRENT: fourth, CUSTOM: third, PREVIOUS: third})


def _version_without_a_label_is_read(client: SecretsManagerClient, secret: str) -> None:
    """ListSecretVersionIds, IncludeDeprecated; GetSecretValue, VersionId."""
    first, *others = [put(client, secret, value) for value in "123"]
    assert _value(client, secret, first) == "1"

    def listed() -> set[str]:
        answer = client.list_secret_version_ids(SecretId=secret, IncludeDeprecated=True)
        return {entry["VersionId"] for entry in answer["Versions"] if entry["CreatedDate"]}

    _becomes(listed, {first, *others})


def _label_moves_from_its_holder_alone(client: SecretsManagerClient, secret: str) -> None:
    """UpdateSecretVersionStage: a compare and swap without idempotency, whatever the label."""
    first, second, third = put(client, secret, "1"), put(client, secret, "2", CUSTOM), put(client, secret, "3", "OTHER")

    def move(label: str, to: str, away: str | None = None) -> object:
        holder = {"RemoveFromVersionId": away} if away else {}
        return client.update_secret_version_stage(SecretId=secret, VersionStage=label, MoveToVersionId=to, **holder)

    for label, away in ((CURRENT, third), (CURRENT, None), (CUSTOM, third), (CUSTOM, None)):
        _is_refused("InvalidParameterException", lambda label=label, away=away: move(label, third, away))  # type: ignore[misc]
    _labels_become(client, secret, {CURRENT: first, CUSTOM: second, "OTHER": third})
    move(CURRENT, second, first)
    _is_refused("InvalidParameterException", lambda: move(CURRENT, second, first))
    _labels_become(client, secret, {CURRENT: second, PREVIOUS: first, CUSTOM: second, "OTHER": third})
    _becomes(lambda: _value(client, secret), "2")


def _read_tells_all_labels(client: SecretsManagerClient, secret: str) -> None:
    """GetSecretValue and BatchGetSecretValue, VersionStages. A batch gives AWSCURRENT alone."""
    put(client, secret, "1")
    version = put(client, secret, "2", CURRENT, CUSTOM)
    put(client, secret, "3", "OTHER")

    def told() -> list[tuple[str, list[str]]]:
        answers = [
            client.get_secret_value(SecretId=secret, VersionStage=CURRENT),
            *client.batch_get_secret_value(SecretIdList=[secret])["SecretValues"],
        ]
        return [(answer["VersionId"], sorted(answer["VersionStages"])) for answer in answers]

    _becomes(told, [(version, [CURRENT, CUSTOM])] * 2)


def _what_is_not_there_is_not_found(client: SecretsManagerClient, secret: str) -> None:
    """GetSecretValue and DescribeSecret, ResourceNotFoundException; BatchGetSecretValue, Errors."""
    put(client, secret, "1")
    unknown, code = str(uuid4()), "ResourceNotFoundException"
    _is_refused(code, lambda: client.get_secret_value(SecretId=secret, VersionId=unknown))
    _is_refused(code, lambda: client.get_secret_value(SecretId=secret, VersionStage=CUSTOM))
    _is_refused(code, lambda: client.describe_secret(SecretId=f"{secret}-{unknown}"))
    answer = client.batch_get_secret_value(SecretIdList=[secret, f"{secret}-{unknown}"])
    assert [entry["Name"] for entry in answer["SecretValues"]] == [secret]
    assert [entry["ErrorCode"] for entry in answer["Errors"]] == [code]


def _name_and_arn_are_one_secret(client: SecretsManagerClient, secret: str) -> None:
    """GetSecretValue, SecretId; CreateSecret, ResourceExistsException."""
    version = put(client, secret, "1")
    arn = client.describe_secret(SecretId=secret)["ARN"]
    assert client.get_secret_value(SecretId=arn)["VersionId"] == version
    _is_refused("ResourceExistsException", lambda: client.create_secret(Name=secret))


def _deletion_can_be_undone(client: SecretsManagerClient, secret: str) -> None:
    """InvalidRequestException of each operation; DescribeSecret, DeletedDate; RestoreSecret."""
    first, second = put(client, secret, "1"), put(client, secret, "2")
    client.delete_secret(SecretId=secret, RecoveryWindowInDays=7)
    _becomes(lambda: "DeletedDate" in client.describe_secret(SecretId=secret), True)
    calls: tuple[Callable[[], object], ...] = (
        lambda: client.get_secret_value(SecretId=secret),
        lambda: put(client, secret, "3"),
        lambda: client.update_secret_version_stage(
            SecretId=secret, VersionStage=CURRENT, MoveToVersionId=first, RemoveFromVersionId=second
        ),
    )
    for call in calls:
        _is_refused("InvalidRequestException", call)
    client.restore_secret(SecretId=secret)
    _becomes(lambda: "DeletedDate" in client.describe_secret(SecretId=secret), False)
    _labels_become(client, secret, {CURRENT: second, PREVIOUS: first})
    assert _value(client, secret) == "2"


def _listing_tells_deletions_when_asked(client: SecretsManagerClient, secret: str) -> None:
    """ListSecrets, Filters, IncludePlannedDeletion and SecretVersionsToStages."""
    version = put(client, secret, "1")

    def listed(*, planned: bool) -> dict[str, dict[str, list[str]]]:
        pages = client.get_paginator("list_secrets").paginate(
            IncludePlannedDeletion=planned, Filters=[{"Key": "name", "Values": [secret]}]
        )
        entries = [entry for page in pages for entry in page["SecretList"]]
        return {entry["Name"]: dict(entry.get("SecretVersionsToStages", {})) for entry in entries}

    whole = {secret: {version: [CURRENT]}}
    _becomes(lambda: listed(planned=False), whole, SECONDS_FOR_A_LISTING)
    client.delete_secret(SecretId=secret, RecoveryWindowInDays=7)
    _becomes(lambda: (listed(planned=False), listed(planned=True).keys()), ({}, {secret}), SECONDS_FOR_A_LISTING)


def _public_policy_is_blocked(client: SecretsManagerClient, secret: str) -> None:
    """PutResourcePolicy, BlockPublicPolicy."""
    anybody = {"Effect": "Allow", "Principal": "*", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [anybody]})
    _is_refused(
        "PublicPolicyException",
        lambda: client.put_resource_policy(SecretId=secret, ResourcePolicy=policy, BlockPublicPolicy=True),
    )
    assert "ResourcePolicy" not in client.get_resource_policy(SecretId=secret)


def _one_of_many_puts_wins(client: SecretsManagerClient, secret: str) -> None:
    """Not documented: simultaneous puts with one ClientRequestToken and different data. May be asked repeatedly."""
    version, together = str(uuid4()), Barrier(WRITERS)

    def race(value: str) -> str:
        together.wait()
        while (code := refusal(lambda: put(client, secret, value, CUSTOM, version=version))) in (
            "ThrottlingException",
            "InternalServiceError",
        ):
            time.sleep(0.2)  # asked to come back later: the put is not judged yet
        return code

    with ThreadPoolExecutor(WRITERS) as pool:
        codes = list(pool.map(race, map(str, range(WRITERS))))
    winners = [str(writer) for writer, code in enumerate(codes) if code == "success"]
    assert len(winners) == 1, f"{len(winners)} of {WRITERS} puts won"
    _becomes(lambda: _value(client, secret, version), winners[0])


FACTS: tuple[Fact, ...] = (
    Fact("a secret made without a value has no version", _no_version_without_a_value),
    Fact("the first version is current whatever its label", _first_version_is_current),
    Fact("a version is written once", _version_is_written_once),
    Fact("the same put again moves no label", _same_put_again_moves_no_label),
    Fact("a put takes its labels from the versions that held them", _put_takes_its_labels),
    Fact("a version without a label is listed when asked and read", _version_without_a_label_is_read),
    Fact("a label moves only from where it is", _label_moves_from_its_holder_alone),
    Fact("a read tells all labels of its version", _read_tells_all_labels),
    Fact("what is not there is not found", _what_is_not_there_is_not_found),
    Fact("a name and an ARN mean one secret", _name_and_arn_are_one_secret),
    Fact("a deletion can be undone", _deletion_can_be_undone),
    Fact("a listing tells deletions when asked", _listing_tells_deletions_when_asked),
    Fact("a policy that lets anybody in is blocked", _public_policy_is_blocked),
    Fact("one of many simultaneous puts wins", _one_of_many_puts_wins),
)


def _value(client: SecretsManagerClient, secret: str, version: str | None = None) -> str:
    return client.get_secret_value(SecretId=secret, **({"VersionId": version} if version else {}))["SecretString"]


def _is_refused(code: str, call: Callable[[], object]) -> None:
    seen = refusal(call)
    assert seen == code, f"expected {code}, seen {seen}"


def _labels_become(client: SecretsManagerClient, secret: str, expected: dict[str, str]) -> None:
    _becomes(lambda: labels_of(client, secret), expected)


def _becomes(look: Callable[[], object], expected: object, seconds: float = SECONDS_FOR_A_READ) -> None:
    """A read that is older than the write before it is repeated, at longer and longer intervals."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while (seen := look()) != expected:
        assert time.monotonic() < deadline, f"expected {expected}, seen {seen}"
        time.sleep(pause)  # another system's work is waited for: it can only be asked
        pause = min(pause * 2, 2.0)
