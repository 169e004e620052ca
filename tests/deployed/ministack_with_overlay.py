"""MiniStack with the Secrets Manager that AWS documents: ``python -m tests.deployed.ministack_with_overlay``.

MiniStack lets a version be written twice, leaves a label on several versions and gives a secret without a value an
empty one; the refresher's journal could not be trusted there. So what a write does is decided by the strict Secrets
Manager of the tests, and MiniStack keeps the state, the wire and the permissions, with corrections for which AWS's page
is named.

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
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from tests.fakes.secrets_manager import AwsError, Secret, Version, move_label, put_version

Record = dict[str, Any]
Asked = Mapping[str, Any]
Handler = Callable[[Asked], object]


def service(name: str) -> Any:
    return importlib.import_module(f"ministack.services.{name}")


def core(name: str) -> Any:
    return importlib.import_module(f"ministack.core.{name}")


def secret_in(record: Record) -> Secret:
    """MiniStack's record as the strict Secrets Manager sees it."""

    def instant(of: Record, name: str = "CreatedDate") -> datetime:
        return datetime.fromtimestamp(of[name], UTC)

    versions = record["Versions"]
    return Secret(
        name=record["Name"],
        arn=record["ARN"],
        created_at=instant(record),
        changed_at=instant(record, "LastChangedDate"),
        versions={name: Version(version["SecretString"], instant(version)) for name, version in versions.items()},
        labels={label: name for name, version in versions.items() for label in version["Stages"]},
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


def write_strictly() -> None:
    """Replaces what writes a secret in MiniStack's service."""
    secrets = service("secretsmanager")

    def strictly(decide: Callable[[Secret, Asked], Secret], otherwise: Handler) -> Handler:
        def handle(asked: Asked) -> object:
            _, record = secrets._resolve(asked.get("SecretId"))
            if not record or record["DeletedDate"] or secrets._is_replica(record):
                return otherwise(asked)  # MiniStack refuses these as AWS does
            try:
                changed = decide(secret_in(record), asked)
            except AwsError as refusal:
                return secrets.error_response_json(refusal.code, refusal.message, 400)
            keep(changed, record)
            secrets._sync_replicas(record)
            answer = {"ARN": record["ARN"], "Name": record["Name"]}
            if version := asked.get("ClientRequestToken"):
                answer |= {"VersionId": version, "VersionStages": changed.labels_of(version)}
            return secrets.json_response(answer)

        return handle

    def put(secret: Secret, asked: Asked) -> Secret:
        version, value, labels = asked["ClientRequestToken"], asked["SecretString"], asked.get("VersionStages")
        return put_version(secret, version, value, labels, datetime.now(UTC))

    def move(secret: Secret, asked: Asked) -> Secret:
        to, away = asked.get("MoveToVersionId"), asked.get("RemoveFromVersionId")
        return move_label(secret, asked["VersionStage"], to, away, datetime.now(UTC))

    secrets._put_secret_value = strictly(put, secrets._put_secret_value)
    secrets._update_secret_version_stage = strictly(move, secrets._update_secret_version_stage)


def make_secrets_without_a_value() -> None:
    """CreateSecret without one makes no version, where MiniStack makes an empty one."""
    secrets = service("secretsmanager")
    store = secrets._store_new_secret

    def store_new_secret(name: str, **properties: Any) -> object:
        made = store(name, **properties)
        if properties.get("secret_string") is None:
            secrets._secrets[name]["Versions"].clear()
        return made

    secrets._store_new_secret = store_new_secret


def know_the_keys_of_conditions() -> None:
    """What MiniStack does not know of the keys that our policies and the operator's command use.

    aws:PrincipalArn of an assumed role is its ARN ("AWS global condition context keys", IAM User Guide). PutEvents
    has events:source (Service Authorization Reference); all that puts events here is the refresher. A simulation takes
    keys from its ContextEntries (SimulatePrincipalPolicy, IAM API Reference).
    """
    evaluator, iam = core("iam_evaluator"), service("iam")
    value_of, simulate = evaluator._resolve_condition_key, iam._IAM_HANDLERS["SimulatePrincipalPolicy"]
    simulated: ContextVar[dict[str, str]] = ContextVar("simulated", default={})  # noqa: B039 (never changed)

    def resolve(key: str, context: Any) -> Any:
        if key in simulated.get():
            return simulated.get()[key]
        if key == "events:source":
            return "virtuous.token"
        if key.lower() == "aws:principalarn" and context.principal_type == "AssumedRole":
            name = evaluator._role_name_from_assumed_arn(context.principal_arn)
            role = iam._roles.get_scoped(context.principal_account, None, name)
            return role["Arn"] if role else value_of(key, context)
        return value_of(key, context)

    def simulate_in_context(asked: Asked) -> object:
        entries = [key.removesuffix("ContextKeyName") for key in asked if key.endswith(".ContextKeyName")]
        values = {iam._p(asked, f"{entry}ContextKeyName"): f"{entry}ContextKeyValues.member.1" for entry in entries}
        token = simulated.set({key: iam._p(asked, value) for key, value in values.items()})
        try:
            return simulate(asked)
        finally:
            simulated.reset(token)

    evaluator._resolve_condition_key = resolve
    iam._IAM_HANDLERS["SimulatePrincipalPolicy"] = simulate_in_context


def name_the_simulated_principal() -> None:
    """iam:SimulatePrincipalPolicy is allowed for the principal that it names; MiniStack asks for ``*``.

    "Actions, resources, and condition keys for AWS IAM", Service Authorization Reference.
    """
    actions = core("iam_actions")
    resource_of = actions.extract_resource_arn

    def extract_resource_arn(service: str, *request: Any) -> str:
        principal = request[4].get("PolicySourceArn") if service == "iam" else None
        if principal:
            return str(principal[0] if isinstance(principal, list) else principal)
        return str(resource_of(service, *request))

    actions.extract_resource_arn = extract_resource_arn


def keep_alarms_on_expressions() -> None:
    """MiniStack knows no metric math: it gets such an alarm as one on the first metric, and evaluates none of ours."""
    provisioners = service("cloudformation.provisioners")
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
    modules: list[Any] = [service(f"cloudformation.{name}") for name in ("engine", "handlers", "changesets")]
    resolve = modules[0]._resolve_parameters

    def resolve_parameters(template: Record, *given: Any, **named: Any) -> object:
        parameters = dict(template.get("Parameters", {}))
        if runtime := parameters.get("PythonRuntime"):
            parameters["PythonRuntime"] = {key: found for key, found in runtime.items() if key != "AllowedValues"}
        return resolve({**template, "Parameters": parameters}, *given, **named)

    for module in modules:
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
    write_strictly()
    make_secrets_without_a_value()
    know_the_keys_of_conditions()
    name_the_simulated_principal()
    keep_alarms_on_expressions()
    admit_the_python_at_hand()
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
