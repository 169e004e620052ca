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
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

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


def write_strictly() -> None:
    """Replaces what writes a secret in MiniStack's service, and what blocks a policy that lets anybody in."""
    secrets = service("secretsmanager")

    def strict(
        decide: Callable[[Secret, Asked, datetime], tuple[Secret, Record]], otherwise: Callable[[Asked], object]
    ) -> Callable[[Asked], object]:
        def handle(asked: Asked) -> object:
            _, record = secrets._resolve(asked.get("SecretId"))
            if not record or record["DeletedDate"] or secrets._is_replica(record):
                return otherwise(asked)  # MiniStack refuses these as AWS does
            try:
                changed, response = decide(secret_in(record), asked, datetime.now(UTC))
            except AwsError as refusal:
                return secrets.error_response_json(refusal.code, refusal.message, 400)
            keep(changed, record)
            secrets._sync_replicas(record)
            return secrets.json_response({"ARN": record["ARN"], "Name": record["Name"], **response})

        return handle

    secrets._put_secret_value = strict(put, secrets._put_secret_value)
    secrets._update_secret_version_stage = strict(move, secrets._update_secret_version_stage)

    store_new = secrets._store_new_secret

    def store_new_secret(name: str, **properties: Any) -> object:
        made = store_new(name, **properties)
        if properties.get("secret_string") is None and properties.get("secret_binary") is None:
            secrets._secrets[name]["Versions"].clear()
        return made

    secrets._store_new_secret = store_new_secret

    put_policy = secrets._put_resource_policy

    def put_resource_policy(asked: Asked) -> object:
        if asked.get("BlockPublicPolicy") and lets_anybody_in(asked["ResourcePolicy"]):
            return secrets.error_response_json("PublicPolicyException", "This policy lets anybody in.", 400)
        return put_policy(asked)

    secrets._put_resource_policy = put_resource_policy


# Permissions


def name_roles_as_principals() -> None:
    """aws:PrincipalArn of an assumed role is the role's ARN, not the session's.

    "AWS global condition context keys", IAM User Guide, aws:PrincipalArn.
    """
    evaluator = core("iam_evaluator")
    value_of = evaluator._resolve_condition_key

    def resolve(key: str, context: Any) -> Any:
        if key.lower() == "aws:principalarn" and context.principal_type == "AssumedRole":
            name = evaluator._role_name_from_assumed_arn(context.principal_arn)
            role = service("iam")._roles.get_scoped(context.principal_account, None, name)
            if role:
                return role["Arn"]
        return value_of(key, context)

    evaluator._resolve_condition_key = resolve


def name_the_simulated_principal() -> None:
    """iam:SimulatePrincipalPolicy is allowed for the principal that it names; MiniStack asks for ``*``.

    "Actions, resources, and condition keys for AWS IAM", Service Authorization Reference.
    """
    actions = core("iam_actions")
    resource_of = actions.extract_resource_arn

    def extract_resource_arn(service: str, *request: Any, **named: Any) -> str:
        parameters = named.get("query_params") or (request[4] if len(request) > 4 else {})
        principal = (parameters or {}).get("PolicySourceArn") if service == "iam" else None
        if principal:
            return str(principal[0] if isinstance(principal, list) else principal)
        return str(resource_of(service, *request, **named))

    actions.extract_resource_arn = extract_resource_arn


def judge_simulations_in_their_context() -> None:
    """iam:SimulatePrincipalPolicy evaluates conditions with the first value of each of its ContextEntries."""
    evaluator, iam = core("iam_evaluator"), service("iam")
    value_of, simulate = evaluator._resolve_condition_key, iam._IAM_HANDLERS["SimulatePrincipalPolicy"]
    given: ContextVar[Asked | None] = ContextVar("given", default=None)

    def simulate_in_context(asked: Asked) -> object:
        names = {key: key.removesuffix("ContextKeyName") for key in asked if key.endswith(".ContextKeyName")}
        token = given.set(
            {iam._p(asked, key): iam._p(asked, f"{entry}ContextKeyValues.member.1") for key, entry in names.items()}
        )
        try:
            return simulate(asked)
        finally:
            given.reset(token)

    iam._IAM_HANDLERS["SimulatePrincipalPolicy"] = simulate_in_context
    evaluator._resolve_condition_key = lambda key, context: (given.get() or {}).get(key) or value_of(key, context)


def tell_the_source_of_events() -> None:
    """events:source is a condition key of PutEvents; MiniStack leaves it unset.

    "Actions, resources, and condition keys for Amazon EventBridge", Service Authorization Reference.
    """
    actions = core("iam_actions")
    context_of = actions.request_tag_context

    def request_tag_context(service: str, action: str, body: bytes, parameters: Any) -> Record:
        context: Record = context_of(service, action, body, parameters)
        if action == "events:PutEvents":
            (entry,) = json.loads(body)["Entries"]  # the refresher sends one at a time
            context = context | {"events:source": entry["Source"]}
        return context

    actions.request_tag_context = request_tag_context


def deliver_by_the_topics_policy() -> None:
    """A rule reaches a topic by a statement of the topic's policy that has no Condition; else the event goes to the
    dead-letter queue, if that queue's policy lets it.

    "Using resource-based policies for Amazon EventBridge", EventBridge User Guide: it does not support Condition blocks
    in an SNS topic's policy. "Using dead-letter queues", likewise.
    """
    events, topics, queues = service("eventbridge"), service("sns"), service("sqs")
    invoke = events._invoke_target

    def lets_in(topic: str) -> bool:
        record = topics._topic_by_arn_any_scope(topic)
        statements = json.loads((record or {}).get("attributes", {}).get("Policy") or "{}").get("Statement", [])
        services = [found["Principal"].get("Service", []) for found in statements if not found.get("Condition")]
        return any("events.amazonaws.com" in ([one] if isinstance(one, str) else one) for one in services)

    def invoke_target(target: Record, event: Record, rule: Record, *others: Any, **named: Any) -> None:
        arn, dead_letters = target["Arn"], (target.get("DeadLetterConfig") or {}).get("Arn", "")
        by_rule = ("events.amazonaws.com", rule.get("Arn", ""), core("responses").get_account_id())
        if ":sns:" not in arn or (lets_in(arn) and topics.topic_policy_allows(arn, *by_rule)):
            invoke(target, event, rule, *others, **named)
        elif dead_letters and queues.queue_policy_allows(dead_letters, *by_rule):
            kept = target.get("Input") or json.dumps(event, default=str)
            events._dispatch_to_sqs(core("arn").parse_arn(dead_letters), kept)

    events._invoke_target = invoke_target


# CloudFormation


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
    name_roles_as_principals()
    name_the_simulated_principal()
    judge_simulations_in_their_context()
    tell_the_source_of_events()
    deliver_by_the_topics_policy()
    keep_alarms_on_expressions()
    admit_the_python_at_hand()
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
