"""MiniStack with the Secrets Manager that AWS documents: ``python -m tests.deployed.ministack_with_overlay``.

MiniStack lets a version be written twice, leaves a label on several versions and gives a secret without a value an
empty one; the refresher's journal could not be trusted there. So what a write does is decided by the strict Secrets
Manager of the tests, and MiniStack keeps the state, the wire and the permissions.

It ends when its standard input closes: it outlives whoever started it by no more than a moment, even after a kill. It
runs in the environment of requirements/local-aws.txt.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.deployed.overlay_iam import correct_permissions
from tests.fakes.secrets_manager import (
    AwsError,
    Secret,
    Version,
    labels_in,
    lets_anybody_in,
    move_label,
    put_version,
    value_in,
    version_id_in,
)

Record = dict[str, Any]
Asked = Mapping[str, Any]


def secret_in(record: Record) -> Secret:
    """MiniStack's record as the strict Secrets Manager sees it."""
    return Secret(
        name=record["Name"],
        arn=record["ARN"],
        created_at=datetime.fromtimestamp(record["CreatedDate"], UTC),
        changed_at=datetime.fromtimestamp(record["LastChangedDate"], UTC),
        versions={
            version_id: Version(version["SecretString"], datetime.fromtimestamp(version["CreatedDate"], UTC))
            for version_id, version in record["Versions"].items()
        },
        labels={label: version_id for version_id, version in record["Versions"].items() for label in version["Stages"]},
    )


def keep(secret: Secret, record: Record) -> None:
    """Writes *secret*'s versions and labels into MiniStack's record."""
    record["LastChangedDate"] = int(secret.changed_at.timestamp())
    record["Versions"] = {
        version_id: {
            "SecretString": version.value,  # nobody here stores bytes
            "SecretBinary": None,
            "CreatedDate": int(version.created_at.timestamp()),
            "Stages": secret.labels_of(version_id),
        }
        for version_id, version in secret.versions.items()
    }


def put(secret: Secret, asked: Asked, now: datetime) -> tuple[Secret, Record]:
    """PutSecretValue: the new secret, and what the answer says beside the secret's name."""
    value = value_in(asked)
    if value is None:
        raise AwsError("InvalidRequestException", "give SecretString")
    version_id = version_id_in(asked)
    changed = put_version(secret, version_id, value, labels_in(asked), now)
    return changed, {"VersionId": version_id, "VersionStages": changed.labels_of(version_id)}


def move(secret: Secret, asked: Asked, now: datetime) -> tuple[Secret, Record]:
    """UpdateSecretVersionStage, likewise."""
    move_to, remove_from = asked.get("MoveToVersionId"), asked.get("RemoveFromVersionId")
    return move_label(secret, asked["VersionStage"], move_to, remove_from, now), {}


def mend(service: Any) -> None:
    """Replaces what writes a secret in MiniStack's service."""

    def strict(
        decide: Callable[[Secret, Asked, datetime], tuple[Secret, Record]], otherwise: Callable[[Asked], object]
    ) -> Callable[[Asked], object]:
        def handle(asked: Asked) -> object:
            _, record = service._resolve(asked.get("SecretId"))
            if not record or record["DeletedDate"] or service._is_replica(record):
                return otherwise(asked)  # MiniStack refuses these as AWS does
            try:
                changed, response = decide(secret_in(record), asked, datetime.now(UTC))
            except AwsError as refusal:
                return service.error_response_json(refusal.code, refusal.message, 400)
            keep(changed, record)
            service._sync_replicas(record)
            return service.json_response({"ARN": record["ARN"], "Name": record["Name"], **response})

        return handle

    service._put_secret_value = strict(put, service._put_secret_value)
    service._update_secret_version_stage = strict(move, service._update_secret_version_stage)

    store_new = service._store_new_secret

    def store_new_secret(name: str, **properties: Any) -> object:
        made = store_new(name, **properties)
        if properties.get("secret_string") is None and properties.get("secret_binary") is None:
            service._secrets[name]["Versions"].clear()
        return made

    service._store_new_secret = store_new_secret

    put_policy = service._put_resource_policy

    def put_resource_policy(asked: Asked) -> object:
        try:
            is_public = lets_anybody_in(asked["ResourcePolicy"])
        except AwsError as refusal:
            return service.error_response_json(refusal.code, refusal.message, 400)
        if is_public and asked.get("BlockPublicPolicy"):
            return service.error_response_json("PublicPolicyException", "This policy lets anybody in.", 400)
        return put_policy(asked)

    service._put_resource_policy = put_resource_policy


def keep_alarms_on_expressions(provisioners: Any) -> None:
    """MiniStack knows no metric math: it gets such an alarm as one on the first metric, and evaluates none of ours."""
    record = provisioners._cw_metric_alarm_record

    def record_alarm(name: str, properties: Record) -> object:
        if metrics := properties.get("Metrics"):
            (stat, *_) = (metric["MetricStat"] for metric in metrics if "MetricStat" in metric)
            first = {key: stat["Metric"][key] for key in ("MetricName", "Namespace")}
            properties = {key: value for key, value in properties.items() if key != "Metrics"} | first
        return record(name, properties)

    provisioners._cw_metric_alarm_record = record_alarm


def admit_the_python_at_hand() -> None:
    """Functions run here with the Python that the tests run with, also with one that the template does not admit."""
    engine, *others = (
        importlib.import_module(f"ministack.services.cloudformation.{name}")
        for name in ("engine", "handlers", "changesets")
    )
    resolve = engine._resolve_parameters

    def resolve_parameters(template: Record, *given: Any, **named: Any) -> object:
        parameters = dict(template.get("Parameters", {}))
        if runtime := parameters.get("PythonRuntime"):
            parameters["PythonRuntime"] = {key: found for key, found in runtime.items() if key != "AllowedValues"}
        return resolve({**template, "Parameters": parameters}, *given, **named)

    for module in (engine, *others):
        module._resolve_parameters = resolve_parameters


def end_with_standard_input() -> None:
    """Ends this process and the functions' workers once whoever holds the other end of standard input is gone."""
    while os.read(sys.stdin.fileno(), 4096):  # unbuffered, since a lock held here would spoil an orderly end
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    """Serves until standard input closes. Must lead a process group of its own, because that ends as a whole."""
    if os.getpgrp() != os.getpid():
        sys.exit("start it as the leader of a process group")
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    mend(importlib.import_module("ministack.services.secretsmanager"))
    keep_alarms_on_expressions(importlib.import_module("ministack.services.cloudformation.provisioners"))
    correct_permissions()
    admit_the_python_at_hand()
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
