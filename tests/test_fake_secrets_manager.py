"""The strict Secrets Manager beyond the facts of ``facts.py``: the quota, and what a test arranges.

"API" is the AWS Secrets Manager API Reference, "Guide" the AWS Secrets Manager User Guide.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import botocore.exceptions
import pytest

from tests.facts import Secret, refusal
from tests.fakes.secrets_manager import CURRENT, TRANSPORT_ERRORS, StrictSecretsManager
from tests.support import Clock

MISSING = "ResourceNotFoundException"


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
def secret(strict: StrictSecretsManager) -> Secret:
    """Its versions 1 and 2 are AWSPREVIOUS and AWSCURRENT, and its version 3 is labelled."""
    secret = Secret(strict.client(), "virtuous/default/tokens")
    secret.client.create_secret(Name=secret.name)
    for number, labels in ((1, ()), (2, ()), (3, ("REFRESHING",))):
        secret.put("value", *labels, version=version(number))
    strict.settle()
    return secret


def test_young_versions_fill_the_quota_and_old_unlabelled_ones_make_room(
    secret: Secret, clock: Clock, strict: StrictSecretsManager
) -> None:
    """API, PutSecretValue: versions younger than 24 hours are kept; Guide, Quotas, versions of a secret."""
    for number in range(4, 101):
        secret.put("value", version=version(number))
    clock.instant += timedelta(hours=24)
    assert refusal(lambda: secret.put("value", version=version(101))) == "LimitExceededException"
    clock.instant += timedelta(seconds=1)
    for number in (101, 102, 103):
        secret.put("value", version=version(number))
    assert (len(strict.versions(secret.name)), strict.versions(secret.name)[:2]) == (100, [version(3), version(5)])


@pytest.mark.parametrize("error", [*sorted(TRANSPORT_ERRORS), "ThrottlingException", "InternalServiceError"])
@pytest.mark.parametrize("after_effect", [False, True], ids=["before its effect", "after it"])
def test_a_call_fails_as_often_as_asked(
    secret: Secret, strict: StrictSecretsManager, error: str, after_effect: bool
) -> None:
    """Of one secret alone; what is raised is botocore's own."""
    kind = getattr(botocore.exceptions, error, botocore.exceptions.ClientError)
    strict.fail("PutSecretValue", error, after_effect=after_effect, secret="another")
    strict.fail("PutSecretValue", error, times=2, after_effect=after_effect, secret=secret.name)
    for _ in range(2):
        with pytest.raises(kind):
            secret.put("value", version=version(4))
        assert (version(4) in strict.versions(secret.name)) is after_effect
    secret.put("value", version=version(4))


def test_reads_see_an_earlier_state_and_writes_never_do(secret: Secret, strict: StrictSecretsManager) -> None:
    """API, ListSecrets: all operations are eventually consistent. A refused write and a no-op leave no state."""
    client, name = secret
    for _ in range(2):
        secret.put("value", version=version(4))
    refusal(lambda: secret.put("another value", version=version(4)))
    client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    client.create_secret(Name="new")
    counts: set[int] = set()

    def oldest(operation: str, of: str, count: int) -> int:
        counts.add(count)
        return count - 1

    strict.choose_view = oldest
    reads: list[Callable[[], object]] = [
        lambda: client.describe_secret(SecretId=name)["VersionIdsToStages"][version(2)],
        lambda: client.get_secret_value(SecretId=name)["VersionStages"],
        lambda: client.batch_get_secret_value(SecretIdList=[name])["SecretValues"][0]["VersionStages"],
        lambda: client.list_secrets()["SecretList"][0]["SecretVersionsToStages"][version(2)],
        lambda: client.list_secret_version_ids(SecretId=name)["Versions"][1]["VersionStages"],
    ]
    assert [read() for read in reads] == [[CURRENT]] * 5
    assert counts == {3, 2}
    assert refusal(lambda: client.describe_secret(SecretId="new")) == MISSING
    assert refusal(lambda: secret.put("value", version=version(5))) == MISSING
    strict.settle()
    assert [entry["Name"] for entry in client.list_secrets()["SecretList"]] == ["new"]
