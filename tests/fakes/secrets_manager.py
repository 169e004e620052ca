"""AWS Secrets Manager in memory, as AWS documents it and no kinder. Standard library only.

`StrictSecretsManager.call` speaks the JSON of the wire: instants are epoch seconds. `client()` gives a real botocore
client in front of it.

A secret is an immutable value, so every earlier state can be shown to stale reads, and come back to, at no cost.
Not modelled, because the product does without: binary values, rotation, partial ARNs, what a resource policy allows,
batches by filter, descriptions, LastAccessedDate, the limits of values, labels and recovery windows, the end of these.
"""

import functools
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
VERSION_QUOTA = 100  # "Versions of a secret", Secrets Manager quotas
YOUNG = timedelta(hours=24)  # younger versions are never removed, PutSecretValue
TRANSPORT_ERRORS = frozenset(
    {"ConnectTimeoutError", "ConnectionClosedError", "EndpointConnectionError", "ReadTimeoutError"}
)

Params = Mapping[str, Any]
Answer = dict[str, Any]
Hook = Callable[[str, Params, str], object]


class AwsError(Exception):
    """A refusal that AWS would send: `code` is the exception's name in the API Reference.

    Or one of TRANSPORT_ERRORS, which is the exception that botocore raises where no answer reaches the caller.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Version:
    """A value that was written once; it stays out of the repr. Bytes come from the local AWS's records alone."""

    value: str | bytes = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Secret:
    """One state of one secret. `versions` is ordered by age; `labels` maps each staging label to its only version.

    Neither mapping is ever changed: the functions below return a new secret.
    """

    name: str
    arn: str
    created_at: datetime
    changed_at: datetime
    versions: Mapping[str, Version] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    kms_key_id: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    gone_at: datetime | None = None  # the end of the recovery window, once marked for deletion
    primary_region: str = ""  # set on a replica
    policy: str = ""
    unreadable: frozenset[str] = frozenset()  # versions whose KMS key is gone

    def labels_of(self, version_id: str) -> list[str]:
        return [label for label, holder in self.labels.items() if holder == version_id]


class Call(NamedTuple):
    """One request as it arrived, without the value it carried."""

    operation: str
    params: dict[str, Any]
    secret_name: str


class Fault(NamedTuple):
    """What `StrictSecretsManager.fail` asked for, once."""

    operation: str
    error: AwsError
    after_effect: bool
    secret_name: str | None


# What a write does to a secret. Each returns the new secret, the same one for a no-op, or raises AwsError.


def put_version(
    secret: Secret, version_id: str, value: str | bytes, labels: Sequence[str] | None, now: datetime
) -> Secret:
    """PutSecretValue: a version is written once, and takes *labels* (None: AWSCURRENT) from the others.

    A secret's first version gets AWSCURRENT besides the labels it asks for. Old versions are removed here alone.
    """
    written = secret.versions.get(version_id)
    if written is not None:
        if written.value == value:
            return secret
        raise AwsError("ResourceExistsException", f"version {version_id} was written with another value")
    kept = _within_quota(secret, now)
    wanted = [CURRENT] if labels is None or not secret.versions else []
    moved = dict(secret.labels)
    for label in dict.fromkeys([*(labels or ()), *wanted]):
        _move(moved, label, version_id)
    versions, unreadable = {**kept, version_id: Version(value, now)}, secret.unreadable - {version_id}
    return replace(secret, versions=versions, labels=moved, changed_at=now, unreadable=unreadable)


def move_label(secret: Secret, label: str, move_to: str | None, remove_from: str | None, now: datetime) -> Secret:
    """UpdateSecretVersionStage: a compare and swap of one label. It knows no idempotency.

    AWS documents that these calls fail, and not always with which code: a mismatch is InvalidParameterException here, a
    version to move to that does not exist ResourceNotFoundException.
    """
    holder = secret.labels.get(label)
    if move_to is not None and move_to not in secret.versions:
        raise AwsError("ResourceNotFoundException", f"there is no version {move_to}")
    if remove_from is None and holder not in (None, move_to):
        raise AwsError("InvalidParameterException", f"{label} is on {holder}: name it in RemoveFromVersionId")
    if remove_from is not None and remove_from != holder:
        raise AwsError("InvalidParameterException", f"{label} is not on the version in RemoveFromVersionId")
    moved = dict(secret.labels)
    if move_to is not None:
        _move(moved, label, move_to)
    elif label == CURRENT:
        raise AwsError("InvalidParameterException", f"{CURRENT} can be moved but not removed")
    else:
        del moved[label]
    return secret if moved == secret.labels else replace(secret, labels=moved, changed_at=now)


def _move(labels: dict[str, str], label: str, version_id: str) -> None:
    """AWSCURRENT takes AWSPREVIOUS along, to the version it leaves."""
    left = labels.get(label)
    labels[label] = version_id
    if label == CURRENT and left not in (None, version_id):
        labels[PREVIOUS] = str(left)


def _within_quota(secret: Secret, now: datetime) -> Mapping[str, Version]:
    """The versions that stay when one more is put: old unlabelled ones make room, the oldest first."""
    excess = len(secret.versions) + 1 - VERSION_QUOTA
    if excess <= 0:
        return secret.versions
    held = set(secret.labels.values())
    removable = [
        version_id
        for version_id, version in secret.versions.items()
        if version_id not in held and now - version.created_at > YOUNG
    ]
    if len(removable) < excess:
        raise AwsError("LimitExceededException", f"a secret has about {VERSION_QUOTA} versions")
    removed = set(removable[:excess])
    return {version_id: version for version_id, version in secret.versions.items() if version_id not in removed}


def lets_anybody_in(policy: str) -> bool:
    """Whether BlockPublicPolicy refuses it (PutResourcePolicy): as far as this is sure, an Allow for all."""
    return any(found["Effect"] == "Allow" and found["Principal"] == "*" for found in json.loads(policy)["Statement"])


class StrictSecretsManager:
    """One account's secrets in one Region. Threads may share it: each call takes effect alone.

    Set `before` or `after` to be called around each effect with (operation, params, secret name), outside the lock:
    they may block, and what they raise (a BaseException too) reaches the caller. *After* runs when the effect, or
    the refusal, is decided and its answer not yet delivered.

    Set `choose_view` to make reads stale: called with (operation, secret name, count) by DescribeSecret,
    GetSecretValue, BatchGetSecretValue, ListSecrets and ListSecretVersionIds for each secret that has earlier states;
    it returns 0 for the newest to count - 1 for the oldest, which is "not there yet" for a secret made since
    `settle()`. It runs inside the lock and must not call back. Writes always meet the newest state.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC), *, region: str = "us-east-1") -> None:
        self.now = now
        self.region = region
        self.before: Hook | None = None
        self.after: Hook | None = None
        self.choose_view: Callable[[str, str, int], int] | None = None
        self.log: list[Call] = []
        self._secrets: dict[str, Secret] = {}
        self._earlier: dict[str, tuple[Secret | None, ...]] = {}
        self._writes: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._kms_refusals: dict[str, frozenset[str]] = {}
        self._created = 0
        self._arn_prefix = f"arn:aws:secretsmanager:{region}:123456789012:secret:"
        self._lock = threading.RLock()

    def call(self, operation: str, params: Params) -> Answer:
        """Answer one request, or raise AwsError."""
        answer_to = getattr(self, _method_of(operation), None)
        if answer_to is None:
            raise NotImplementedError(f"{operation} is not modelled")
        secret_id = str(params.get("SecretId", params.get("Name", "")))
        secret_name = self._name_of(secret_id) or secret_id
        shown = {key: value for key, value in params.items() if key != "SecretString"}
        self.log.append(Call(operation, shown, secret_name))
        if self.before is not None:
            self.before(operation, params, secret_name)
        answer: Answer = {}
        error: AwsError | None = None
        with self._lock:
            fault = self._take_fault(operation, secret_name)
            if fault is None or fault.after_effect:
                try:
                    answer = answer_to(params)
                except AwsError as refusal:
                    error = refusal
            error = fault.error if fault else error
        if self.after is not None:
            self.after(operation, params, secret_name)
        if error is not None:
            raise error
        return answer

    def client(self) -> Any:
        """A botocore client of its own whose requests this object answers; see `secrets_manager_client`."""
        from .secrets_manager_client import client_of

        return client_of(self)

    # What a test arranges.

    def fail(
        self, operation: str, error: str, *, times: int = 1, after_effect: bool = False, secret: str | None = None
    ) -> None:
        """Answer the next *times* calls of *operation* (on *secret* alone, if given) with *error*.

        *error* is an AWS code, or one of TRANSPORT_ERRORS. With *after_effect* the call takes effect and its answer is
        lost. The client sees each fault at once: the SDK's own retries are not played.
        """
        self._faults += [Fault(operation, AwsError(error, "asked for"), after_effect, secret)] * times

    def refuse_kms(self, secret_id: str, *actions: str) -> None:
        """The key policy lacks *actions*: a read needs kms:Decrypt, a write GenerateDataKey too. None: all allowed."""
        self._kms_refusals[self._name_of(secret_id)] = frozenset(actions)

    def make_replica(self, name: str) -> None:
        """From here on the secret is the copy of one in another Region."""
        self._secrets[name] = replace(self._secrets[name], primary_region="eu-west-1")

    def replace_key(self, name: str) -> None:
        """The secret gets another KMS key and the old one is deleted. UpdateSecret encrypts anew what is under these
        three labels, and leaves the others under the old key (KmsKeyId, API Reference)."""
        secret = self._secrets[name]
        kept = {secret.labels.get(label) for label in (CURRENT, PREVIOUS, "AWSPENDING")}
        self._secrets[name] = replace(secret, unreadable=secret.unreadable | (set(secret.versions) - kept))

    def remove_version(self, name: str, version_id: str) -> None:
        """As the service does with a version without a label, a day later."""
        secret = self._secrets[name]
        versions = {version: value for version, value in secret.versions.items() if version != version_id}
        labels = {label: version for label, version in secret.labels.items() if version != version_id}
        self._secrets[name] = replace(secret, versions=versions, labels=labels)

    def settle(self) -> None:
        """Every reader has caught up: no earlier state can be seen any more."""
        self._earlier.clear()

    @property
    def secrets(self) -> Mapping[str, Secret]:
        """All secrets by name as they are now, to come back to with `go_on_from`."""
        return dict(self._secrets)

    def go_on_from(self, secrets: Mapping[str, Secret]) -> None:
        """From here on the secrets are these; earlier states and the log are forgotten."""
        with self._lock:
            self._secrets = dict(secrets)
        self.settle()
        self.log.clear()

    # What a test asserts. These see the newest state, log nothing and meet no fault.

    def secret(self, secret_id: str) -> Secret:
        return self._newest(secret_id)

    def versions(self, secret_id: str) -> list[str]:
        """The version ids, oldest first, unlabelled ones too."""
        return list(self._newest(secret_id).versions)

    def labels(self, secret_id: str) -> dict[str, str]:
        """Each staging label and the version id it is on."""
        return dict(self._newest(secret_id).labels)

    def value(self, secret_id: str, version_or_label: str = CURRENT) -> str | bytes:
        secret = self._newest(secret_id)
        return secret.versions[secret.labels.get(version_or_label, version_or_label)].value

    def writes(self, secret_id: str) -> int:
        """How many calls changed the secret; no-ops and refusals do not count."""
        return self._writes[self._name_of(secret_id)]

    def calls(self, operation: str) -> list[Call]:
        """The logged calls of *operation*."""
        return [call for call in self.log if call.operation == operation]

    # Operations, by their names.

    def _create_secret(self, params: Params) -> Answer:
        name, now = params["Name"], self.now()
        if (present := self._secrets.get(name)) is not None:
            _unmarked(present)
            raise AwsError("ResourceExistsException", "a secret with this name exists")
        self._created += 1
        suffix = hashlib.sha256(f"{name} {self._created}".encode()).hexdigest()[:6]
        secret = Secret(
            name=name,
            arn=f"{self._arn_prefix}{name}-{suffix}",
            created_at=now,
            changed_at=now,
            kms_key_id=params.get("KmsKeyId", ""),
            tags=tuple((tag["Key"], tag["Value"]) for tag in params.get("Tags", ())),
        )
        version = {}
        if (value := params.get("SecretString")) is not None:
            self._check_kms(name, "kms:Decrypt", "kms:GenerateDataKey")
            version = {"VersionId": params["ClientRequestToken"]}
            secret = put_version(secret, version["VersionId"], value, None, now)
        self._write(name, secret)
        return _identity(secret) | version

    def _put_secret_value(self, params: Params) -> Answer:
        secret, version_id = self._writable(params["SecretId"]), params["ClientRequestToken"]
        self._check_kms(secret.name, "kms:Decrypt", "kms:GenerateDataKey")
        changed = put_version(secret, version_id, params["SecretString"], params.get("VersionStages"), self.now())
        self._write(secret.name, changed)
        return _identity(changed) | {"VersionId": version_id, "VersionStages": changed.labels_of(version_id)}

    def _update_secret(self, params: Params) -> Answer:
        if params.keys() - {"ClientRequestToken"} != {"SecretId", "KmsKeyId"}:
            raise NotImplementedError("an update of more than the key is not modelled")
        secret = self._writable(params["SecretId"])
        return self._change(secret, kms_key_id=params["KmsKeyId"], changed_at=self.now())

    def _update_secret_version_stage(self, params: Params) -> Answer:
        secret = self._writable(params["SecretId"])
        move_to, remove_from = params.get("MoveToVersionId"), params.get("RemoveFromVersionId")
        self._write(secret.name, move_label(secret, params["VersionStage"], move_to, remove_from, self.now()))
        return _identity(secret)

    def _delete_secret(self, params: Params) -> Answer:
        secret, now = self._newest(params["SecretId"]), self.now()
        if params.get("ForceDeleteWithoutRecovery", False):
            self._write(secret.name, None)
            return _identity(secret) | {"DeletionDate": now.timestamp()}
        _unmarked(secret)
        gone_at = now + timedelta(days=params.get("RecoveryWindowInDays", 30))
        return self._change(secret, gone_at=gone_at, changed_at=now) | {"DeletionDate": gone_at.timestamp()}

    def _restore_secret(self, params: Params) -> Answer:
        secret = self._newest(params["SecretId"])
        return self._change(secret, gone_at=None, changed_at=self.now())

    def _tag_resource(self, params: Params) -> Answer:
        secret = self._newest(params["SecretId"])
        tags = dict(secret.tags) | {tag["Key"]: tag["Value"] for tag in params["Tags"]}
        return self._change(secret, tags=tuple(tags.items()))

    def _untag_resource(self, params: Params) -> Answer:
        secret = self._newest(params["SecretId"])
        return self._change(secret, tags=tuple(tag for tag in secret.tags if tag[0] not in params["TagKeys"]))

    def _put_resource_policy(self, params: Params) -> Answer:
        secret = self._writable(params["SecretId"])
        if params.get("BlockPublicPolicy", False) and lets_anybody_in(params["ResourcePolicy"]):
            raise AwsError("PublicPolicyException", "the policy lets anybody in")
        return self._change(secret, policy=params["ResourcePolicy"])

    def _get_resource_policy(self, params: Params) -> Answer:
        secret = _unmarked(self._newest(params["SecretId"]))
        return _identity(secret) | ({"ResourcePolicy": secret.policy} if secret.policy else {})

    def _get_secret_value(self, params: Params) -> Answer:
        secret = self._seen("GetSecretValue", params["SecretId"])
        return self._value_of(secret, params.get("VersionId"), params.get("VersionStage"))

    def _batch_get_secret_value(self, params: Params) -> Answer:
        if len(params["SecretIdList"]) > 20:
            raise AwsError("ValidationException", "a batch has at most 20 secrets")
        values: list[Answer] = []
        errors: list[Answer] = []
        for secret_id in params["SecretIdList"]:
            try:
                values.append(self._value_of(self._seen("BatchGetSecretValue", secret_id), None, None))
            except AwsError as refusal:
                errors.append({"SecretId": secret_id, "ErrorCode": refusal.code, "Message": refusal.message})
        return {"SecretValues": values, "Errors": errors}

    def _describe_secret(self, params: Params) -> Answer:
        return _details(self._seen("DescribeSecret", params["SecretId"]), "VersionIdsToStages")

    def _list_secrets(self, params: Params) -> Answer:
        """A name passes that begins as one of the filter's values. What comes before a page is not looked at again, so
        that ten thousand secrets take no longer a page than a hundred."""
        (wanted,) = params.get("Filters", [{"Key": "name", "Values": [""]}])
        if wanted["Key"] != "name":
            raise NotImplementedError(f"the filter {wanted['Key']!r} is not modelled")
        names = list(dict.fromkeys([*self._secrets, *self._earlier]))
        entries: list[Answer] = []
        for position in range(int(params.get("NextToken", 0)), len(names)):
            secret = self._view("ListSecrets", names[position])
            if secret is None or not secret.name.startswith(tuple(wanted["Values"])):
                continue
            if secret.gone_at is not None and not params.get("IncludePlannedDeletion", False):
                continue
            if len(entries) == params.get("MaxResults", 100):
                return {"SecretList": entries, "NextToken": str(position)}
            entries.append(_details(secret, "SecretVersionsToStages"))
        return {"SecretList": entries}

    def _list_secret_version_ids(self, params: Params) -> Answer:
        secret = self._seen("ListSecretVersionIds", params["SecretId"])
        found = [
            {"VersionId": version_id, "CreatedDate": version.created_at.timestamp()}
            | ({"VersionStages": labels} if (labels := secret.labels_of(version_id)) else {})
            for version_id, version in secret.versions.items()
        ]
        deprecated_too = params.get("IncludeDeprecated", False)
        return {
            "Versions": [entry for entry in found if deprecated_too or "VersionStages" in entry],
            **_identity(secret),
        }

    # Looking a secret up.

    def _name_of(self, secret_id: str) -> str:
        """The name behind a name or an ARN; "" if the ARN is no secret's."""
        if not secret_id.startswith("arn:"):
            return secret_id
        name = secret_id.removeprefix(self._arn_prefix)[:-7]
        secret = self._secrets.get(name)
        return name if secret is not None and secret.arn == secret_id else ""

    def _newest(self, secret_id: str) -> Secret:
        secret = self._secrets.get(self._name_of(secret_id))
        if secret is None:
            raise _not_found()
        return secret

    def _writable(self, secret_id: str) -> Secret:
        secret = _unmarked(self._newest(secret_id))
        if secret.primary_region:
            raise AwsError("InvalidParameterException", "a replica is changed in the primary secret's Region only")
        return secret

    def _check_kms(self, name: str, *actions: str) -> None:
        if self._kms_refusals.get(name, frozenset()) & set(actions):
            raise AwsError("AccessDeniedException", "Access to KMS is not allowed")

    def _view(self, operation: str, name: str) -> Secret | None:
        """The state that this read sees."""
        earlier = self._earlier.get(name, ())
        age = self.choose_view(operation, name, len(earlier) + 1) if earlier and self.choose_view is not None else 0
        return earlier[-age] if age else self._secrets.get(name)

    def _seen(self, operation: str, secret_id: str) -> Secret:
        secret = self._view(operation, self._name_of(secret_id))
        if secret is None:
            raise _not_found()
        return secret

    def _value_of(self, secret: Secret, version_id: str | None, label: str | None) -> Answer:
        _unmarked(secret)
        if version_id is None:
            version_id = secret.labels.get(label or CURRENT)
        elif label is not None and version_id in secret.versions and secret.labels.get(label) != version_id:
            raise AwsError("InvalidRequestException", "VersionStage and VersionId mean different versions")
        version = None if version_id is None else secret.versions.get(version_id)
        if version_id is None or version is None:
            raise AwsError("ResourceNotFoundException", "the secret has no such version")
        self._check_kms(secret.name, "kms:Decrypt")
        if version_id in secret.unreadable:
            raise AwsError("AccessDeniedException", "Access to KMS is not allowed")
        return {
            **_identity(secret),
            "SecretString": version.value,
            "VersionId": version_id,
            "VersionStages": secret.labels_of(version_id),
            "CreatedDate": version.created_at.timestamp(),
        }

    def _write(self, name: str, secret: Secret | None) -> None:
        """Keep the state that this one replaces; None deletes. Writing what is there already is no write."""
        replaced = self._secrets.get(name)
        if secret is replaced:
            return
        self._earlier[name] = (*self._earlier.get(name, ()), replaced)
        self._writes[name] += 1
        if secret is None:
            del self._secrets[name]
        else:
            self._secrets[name] = secret

    def _change(self, secret: Secret, **changes: Any) -> Answer:
        self._write(secret.name, replace(secret, **changes))
        return _identity(secret)

    def _take_fault(self, operation: str, secret_name: str) -> Fault | None:
        for fault in self._faults:
            if fault.operation == operation and fault.secret_name in (None, secret_name):
                self._faults.remove(fault)
                return fault
        return None


@functools.cache
def _method_of(operation: str) -> str:
    return re.sub("([A-Z])", r"_\1", operation).lower()


def _not_found() -> AwsError:
    return AwsError("ResourceNotFoundException", "there is no such secret")


def _unmarked(secret: Secret) -> Secret:
    if secret.gone_at is not None:
        raise AwsError("InvalidRequestException", "the secret is marked for deletion")
    return secret


def _identity(secret: Secret) -> Answer:
    return {"ARN": secret.arn, "Name": secret.name}


def _details(secret: Secret, versions_to_stages: str) -> Answer:
    """What DescribeSecret and ListSecrets tell: labelled versions only, and only fields that have a value."""
    optional = {
        versions_to_stages: {version: found for version in secret.versions if (found := secret.labels_of(version))},
        "KmsKeyId": secret.kms_key_id,
        "PrimaryRegion": secret.primary_region,
        "Tags": [{"Key": key, "Value": value} for key, value in secret.tags],
        "DeletedDate": secret.gone_at and secret.gone_at.timestamp(),
    }
    return {
        **_identity(secret),
        "CreatedDate": secret.created_at.timestamp(),
        "LastChangedDate": secret.changed_at.timestamp(),
        **{key: value for key, value in optional.items() if value},
    }
