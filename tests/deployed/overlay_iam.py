"""Permissions as AWS documents them where MiniStack by itself has others. Each rule names AWS's page."""

from __future__ import annotations

import importlib
import json
from typing import Any

Record = dict[str, Any]

__all__ = ["correct_permissions"]


def service(name: str) -> Any:
    return importlib.import_module(f"ministack.services.{name}")


def core(name: str) -> Any:
    return importlib.import_module(f"ministack.core.{name}")


def correct_permissions() -> None:
    """Adds every rule to MiniStack."""
    name_roles_as_principals()
    name_the_simulated_principal()
    tell_the_source_of_events()
    deliver_by_the_topics_policy()


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
