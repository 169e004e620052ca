"""What the local AWS must refuse for a lack of permission, as AWS documents it, and MiniStack by itself does not.

MiniStack asks IAM about each request. What Secrets Manager then does with a key it does unasked, and it knows no
account but the caller's. Each rule here names AWS's page and has a test that sees it refuse.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from tests.fakes.secrets_manager import AwsError, lets_anybody_in

Record = dict[str, Any]
Response = Any

__all__ = ["enforce_permissions"]

AWS_OWN_KEY = "alias/aws/secretsmanager"
# Whose access key signed the request that Secrets Manager is answering.
_caller: ContextVar[str | None] = ContextVar("caller", default=None)


def service(name: str) -> Any:
    return importlib.import_module(f"ministack.services.{name}")


def core(name: str) -> Any:
    return importlib.import_module(f"ministack.core.{name}")


def enforce_permissions() -> None:
    """Adds every rule to MiniStack."""
    name_roles_as_principals()
    know_resources_of_other_accounts()
    use_keys_in_the_callers_name()
    block_public_policies()
    deliver_by_the_topics_policy()
    alarm_by_the_topics_policy()
    judge_simulations_in_their_context()


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


def judge_simulations_in_their_context() -> None:
    """iam:SimulatePrincipalPolicy evaluates conditions with the first value of each of its ContextEntries."""
    evaluator, handlers = core("iam_evaluator"), service("iam")._IAM_HANDLERS
    value_of, simulate = evaluator._resolve_condition_key, handlers["SimulatePrincipalPolicy"]
    given: ContextVar[Mapping[str, str] | None] = ContextVar("given", default=None)

    def simulate_in_context(asked: Mapping[str, Any]) -> object:
        one_of = service("iam")._p
        names = {key: key.removesuffix("ContextKeyName") for key in asked if key.endswith(".ContextKeyName")}
        found = {one_of(asked, key): one_of(asked, f"{entry}ContextKeyValues.member.1") for key, entry in names.items()}
        token = given.set(found)
        try:
            return simulate(asked)
        finally:
            given.reset(token)

    handlers["SimulatePrincipalPolicy"] = simulate_in_context
    evaluator._resolve_condition_key = lambda key, context: (given.get() or {}).get(key) or value_of(key, context)


# Secrets of other accounts


def in_another_account(arn: str, records: Any) -> Iterable[tuple[str, Record]]:
    """The records of the account that *arn* names, where it is not the caller's own and the Region is."""
    _, _, _, region, account, *_ = [*arn.split(":"), *("",) * 5][:6]
    responses = core("responses")
    if account in ("", responses.get_account_id()) or region != responses.get_region():
        return ()
    found: Iterable[tuple[str, Record]] = records.items_scoped(account, region)
    return found


def know_resources_of_other_accounts() -> None:
    """A secret is found by its whole ARN from another account, and a key by its own; their policies decide.

    "Access AWS Secrets Manager secrets from a different account", Secrets Manager User Guide: the secret's resource
    policy, the key's policy and the reader's own policy must all allow it, and the key can't be AWS's own.
    """
    secrets, keys = service("secretsmanager"), service("kms")
    find, find_key = secrets._resolve, keys._resolve_key

    def resolve(secret_id: str | None, **named: Any) -> Any:
        of_others = in_another_account(secret_id or "", secrets._secrets)
        found = next(((name, record) for name, record in of_others if record["ARN"] == secret_id), None)
        return found or find(secret_id, **named)

    def policy_of_secret(arn: str) -> tuple[str, str] | None:
        _, record = resolve(arn)
        region, account = arn.split(":")[3:5]
        return (secrets._resource_policies.get_scoped(account, region, arn) or "", account) if record else None

    def policy_of_key(arn: str) -> tuple[str, str] | None:
        of_others = in_another_account(arn, keys._keys)
        record = next((record for _, record in of_others if record["Arn"] == arn), None) or find_key(arn)
        return (record.get("Policy") or "", record["Arn"].split(":")[4]) if record else None

    secrets._resolve, secrets.secret_policy_for_arn = resolve, policy_of_secret
    keys.key_policy_for_arn = policy_of_key


def refused_by_kms(key: str | None, region: str, *actions: str) -> Response:
    """The refusal of a caller who may not do *actions* with a secret's key through Secrets Manager, else None."""
    caller = _caller.get()
    if key in (None, "", AWS_OWN_KEY) or caller is None:
        return None
    arn = key if str(key).startswith("arn:") else (service("kms")._resolve_key(key) or {"Arn": key})["Arn"]
    via = {"kms:ViaService": f"secretsmanager.{region}.amazonaws.com"}
    for action in actions:
        if core("iam_evaluator").enforce(caller, f"kms:{action}", "kms", region, arn, via) is not None:
            return refusal("AccessDeniedException", "Access to KMS is not allowed")
    return None


def refusal(code: str, said: str) -> Response:
    return service("secretsmanager").error_response_json(code, said, 400)


def reading(_: Record, record: Record) -> Response:
    responses = core("responses")
    if not record:
        return None
    key, owner = record.get("KmsKeyId"), record["ARN"].split(":")[4]
    if owner != responses.get_account_id() and key in (None, "", AWS_OWN_KEY):
        return refusal("InvalidRequestException", "A secret under the default key can't be read from another account.")
    return refused_by_kms(key, responses.get_region(), "Decrypt")


def writing(asked: Record, record: Record) -> Response:
    if "KmsKeyId" in asked:
        return refused_by_kms(asked["KmsKeyId"], core("responses").get_region(), "Decrypt", "GenerateDataKey")
    if {"SecretString", "SecretBinary"} & asked.keys():
        return refused_by_kms(record.get("KmsKeyId"), core("responses").get_region(), "GenerateDataKey")
    return None


def replicating(asked: Record, record: Record) -> Response:
    for replica in asked.get("AddReplicaRegions", ()):
        if denied := refused_by_kms(replica.get("KmsKeyId"), replica["Region"], "GenerateDataKey", "Encrypt"):
            return denied
    return refused_by_kms(record.get("KmsKeyId"), core("responses").get_region(), "Decrypt")


def use_keys_in_the_callers_name() -> None:
    """Who reads or writes a secret under a key of the account's own needs that key, through Secrets Manager.

    "Secret encryption and decryption in AWS Secrets Manager", User Guide: it calls Decrypt to read a value,
    GenerateDataKey to write one, and both to see that whoever names a key may use it. "Replicate AWS Secrets Manager
    secrets across Regions": Decrypt with the primary's key, GenerateDataKey and Encrypt with the replica's.
    """
    secrets = service("secretsmanager")
    handle = secrets.handle_request

    async def handle_request(
        method: str, path: str, headers: Record, body: bytes, query: Mapping[str, Any]
    ) -> Response:
        token = _caller.set(core("router").extract_access_key_id(headers, query) or "")
        try:
            return await handle(method, path, headers, body, query)
        finally:
            _caller.reset(token)

    def first(ask: Callable[[Record, Record], Response], operation: str) -> None:
        otherwise = getattr(secrets, operation)

        def answer(asked: Record, *more: Any) -> Response:
            _, record = secrets._resolve(asked.get("SecretId"))
            return ask(asked, record or {}) or otherwise(asked, *more)

        setattr(secrets, operation, answer)

    secrets.handle_request = handle_request
    first(reading, "_get_secret_value")
    for operation in ("_create_secret", "_put_secret_value", "_update_secret"):
        first(writing, operation)
    first(replicating, "_replicate_secret_to_regions")


def block_public_policies() -> None:
    """A policy that lets anybody in is refused where the caller asks for that. PutResourcePolicy, BlockPublicPolicy."""
    secrets = service("secretsmanager")
    put_policy = secrets._put_resource_policy

    def put(asked: Record) -> Response:
        try:
            is_public = lets_anybody_in(asked["ResourcePolicy"])
        except AwsError as refused:
            return refusal(refused.code, refused.message)
        if is_public and asked.get("BlockPublicPolicy"):
            return refusal("PublicPolicyException", "This policy lets anybody in.")
        return put_policy(asked)

    secrets._put_resource_policy = put


# Rules and alarms


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


def alarm_by_the_topics_policy() -> None:
    """An alarm reaches a topic where its policy lets CloudWatch publish.

    "Using Amazon CloudWatch alarms", CloudWatch User Guide.
    """
    watch, topics, responses = service("cloudwatch"), service("sns"), core("responses")
    dispatch = watch._dispatch_alarm_actions

    def dispatch_actions(alarm: Record, *others: Any) -> None:
        by_alarm = ("cloudwatch.amazonaws.com", alarm.get("AlarmArn", ""), responses.get_account_id())
        lets_in = {
            key: [topic for topic in alarm.get(key) or () if topics.topic_policy_allows(topic, *by_alarm)]
            for key in ("AlarmActions", "OKActions", "InsufficientDataActions")
        }
        dispatch({**alarm, **lets_in}, *others)

    watch._dispatch_alarm_actions = dispatch_actions
