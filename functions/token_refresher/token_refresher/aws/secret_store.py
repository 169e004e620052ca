"""Adapter: one connection's secrets in AWS Secrets Manager, through boto3. The only file that talks to it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from ..refresh.formats import SecretNames
from ..refresh.model import CURRENT, CurrentPair, Stored, StoredVersion, StoreMisconfigured, StoreUnavailable, Versions

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_secretsmanager.type_defs import GetSecretValueResponseTypeDef, ResponseMetadataTypeDef

# Four tries of at most 8 s with standard backoff end within 40 s: the core keeps more than that for saving an answer.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=40,  # more than a sweep has threads
)

# What a person must change, by the code that Secrets Manager answers with (its API reference, "Errors" of each action).
_MISCONFIGURED = {
    "AccessDeniedException": "access denied: check the function's role and the KMS key's policy",
    "DecryptionFailure": "KMS can't decrypt it: check that the key is enabled and its policy",
    "EncryptionFailure": "KMS can't encrypt it: check that the key is enabled and its policy",
    "ExpiredTokenException": "the AWS credentials expired",
    "InvalidParameterException": "Secrets Manager refuses the parameters; is this a replica's Region?",
    "InvalidRequestException": "is the secret marked for deletion (RestoreSecret mends that), or a replica?",
    "ResourceNotFoundException": "it does not exist: run virtuous-token login, or check prefix, connection and Region",
    "UnrecognizedClientException": "the AWS credentials are not valid",
    "ValidationException": "Secrets Manager refuses the parameters",
}
_FULL = ": it has about 100 versions; Secrets Manager removes old ones within a day"


def make_client() -> SecretsManagerClient:
    """A client for the current Region and credentials. Its loggers stay at INFO: at DEBUG they tell secrets' values."""
    for name in ("botocore", "boto3", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))
    return boto3.client("secretsmanager", config=_CONFIG)


class SecretStore(NamedTuple):
    """The Store of ``refresh/stored.py`` for one connection."""

    client: SecretsManagerClient
    names: SecretNames

    def read(self) -> Stored:
        with converted("DescribeSecret", self.names.bearer):
            bearer = self.client.describe_secret(SecretId=self.names.bearer)
        if "DeletedDate" in bearer:
            raise StoreMisconfigured(f"{self.names.bearer} is marked for deletion: restore it with RestoreSecret")
        return Stored(version_by_label(bearer.get("VersionIdsToStages", {})), self._current_pair())

    def pair_versions(self) -> Versions:
        return self._versions(self.names.pair)

    def bearer_versions(self) -> Versions:
        return self._versions(self.names.bearer)

    def pair_value(self, version_id: str) -> str | None:
        # Asked for by id: it cannot be another version's value, whatever happens to the labels meanwhile.
        answer = self._value(SecretId=self.names.pair, VersionId=version_id)
        return answer.get("SecretString", "") if answer else None

    def login_value(self) -> str | None:
        answer = self._value(SecretId=self.names.login, VersionStage=CURRENT)
        return answer.get("SecretString", "") if answer else None

    def write_pair(self, version_id: str, value: str, *labels: str) -> Collection[str] | None:
        return self._labels_after_put(self.names.pair, version_id, value, labels)

    def write_bearer(self, version_id: str, value: str) -> Collection[str] | None:
        return self._labels_after_put(self.names.bearer, version_id, value, ["AWSPENDING"])

    def move_bearer(self, version_id: str, *, moved_from: str | None) -> bool:
        with converted("UpdateSecretVersionStage", self.names.bearer):
            try:
                self.client.update_secret_version_stage(
                    SecretId=self.names.bearer,
                    VersionStage=CURRENT,
                    MoveToVersionId=version_id,
                    **({"RemoveFromVersionId": moved_from} if moved_from else {}),
                )
            except self.client.exceptions.InvalidParameterException:
                # The label moved under us, or our own move happened and its answer was lost.
                return False
        return True

    def _current_pair(self) -> CurrentPair | None:
        answer = self._value(SecretId=self.names.pair, VersionStage=CURRENT)
        if answer:
            labels = frozenset(answer["VersionStages"])
            return CurrentPair(answer["VersionId"], labels, answer.get("SecretString", ""), answer["CreatedDate"])
        # There is no version, or no secret: then this raises.
        if self.pair_versions().under(CURRENT):
            raise StoreUnavailable(f"{self.names.pair}: its current version can't be read yet")
        return None

    def _value(self, **which: str) -> GetSecretValueResponseTypeDef | None:
        asked: Any = which
        with converted("GetSecretValue", which["SecretId"]):
            try:
                return self.client.get_secret_value(**asked)
            except self.client.exceptions.ResourceNotFoundException:
                return None

    def _versions(self, name: str) -> Versions:
        asked: dict[str, Any] = {"SecretId": name, "IncludeDeprecated": True}
        listed: list[StoredVersion] = []
        with converted("ListSecretVersionIds", name):
            while True:  # boto3 has no paginator for it
                page = self.client.list_secret_version_ids(**asked)
                for version in page["Versions"]:
                    labels = frozenset(version.get("VersionStages", ()))
                    listed.append(StoredVersion(version["VersionId"], version["CreatedDate"], labels))
                if not page.get("NextToken"):
                    return Versions(tuple(listed), page["ARN"], _date(page["ResponseMetadata"]))
                asked["NextToken"] = page["NextToken"]

    def _labels_after_put(self, name: str, version_id: str, value: str, labels: Sequence[str]) -> Sequence[str] | None:
        """The labels of the version that holds *value* now, None if it holds something else."""
        with converted("PutSecretValue", name):
            try:
                answer = self.client.put_secret_value(
                    SecretId=name, ClientRequestToken=version_id, SecretString=value, VersionStages=labels
                )
            except self.client.exceptions.ResourceExistsException:
                return None
        return answer.get("VersionStages", ())


def version_by_label(stages: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Secrets Manager tells the labels of each version."""
    return {label: version for version, labels in stages.items() for label in labels}


def _date(metadata: ResponseMetadataTypeDef) -> datetime:
    """Secrets Manager's clock when it answered, to the second; ours where the answer does not tell."""
    try:
        return parsedate_to_datetime(metadata["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        return datetime.now(UTC)


@contextmanager
def converted(operation: str, name: str) -> Iterator[None]:
    """Core errors instead of botocore's, told apart by code and type. No text of theirs is passed on."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if hint := _MISCONFIGURED.get(code):
            raise StoreMisconfigured(f"{operation} on {name}: {hint} ({code})") from None
        hint = _FULL if code == "LimitExceededException" else ""
        raise StoreUnavailable(f"{operation} on {name} failed{hint} ({code})") from None
    except BotoCoreError as error:
        kind = type(error).__name__
        if isinstance(error, NoCredentialsError | NoRegionError):
            raise StoreMisconfigured(f"{operation} on {name}: no AWS credentials or Region ({kind})") from None
        raise StoreUnavailable(f"{operation} on {name} failed ({kind})") from None
