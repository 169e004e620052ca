"""Every action and every resource of the function's and the readers' policies is needed, and nothing else is.

The policies are template.yaml's own, resolved. Each call of botocore is held against them as IAM would, and Secrets
Manager answers what is allowed.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from aws_secretsmanager_caching import SecretCache  # type: ignore[import-untyped]
from botocore.awsrequest import AWSResponse, HTTPHeaders
from botocore.exceptions import ClientError

from tests.leak_harness import LeakHarness
from tests.support import REGION, Account, Deployment, a_pair, a_version, deployed
from tests.transformed import ACCOUNT, policies_of, transformed
from virtuous_token import TokenReader, VirtuousTokenError
from virtuous_token_cli.doctor import FUNCTION_NEEDS

Document = dict[str, Any]

POLICIES = policies_of(transformed(), "aws")
FUNCTION, READER = POLICIES["TokenRefresherRole-refresh"], POLICIES["ReaderPolicy"]
CONNECTIONS = ("due", "refused", "asked", "pasted", "halved", "headless")
NOT_CALLED_BY_THE_CODE = {
    "Log": "the Lambda service writes the logs",
    "HandOverFailedRuns": "the Lambda service hands failures over",
    "LiveInTheVpc": "the Lambda service makes the network interfaces",
    "UseKey": "Secrets Manager asks KMS in the caller's name",
}


def is_allowed(document: Document, action: str, resource: str, context: Mapping[str, str]) -> bool:
    """As IAM decides where there is no refusal: some statement names action and resource, and its condition holds."""

    def matches(patterns: str | list[str], text: str) -> bool:
        some = [patterns] if isinstance(patterns, str) else patterns
        escaped = (re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in some)
        return any(re.fullmatch(pattern, text) for pattern in escaped)

    return any(
        matches(statement["Action"], action)
        and matches(statement["Resource"], resource)
        and all(
            context.get(key) == value for key, value in statement.get("Condition", {}).get("StringEquals", {}).items()
        )
        for statement in document["Statement"]
    )


def enforce(document: Document, account: Account, events: Any) -> set[str]:
    """From here on clients whose *events* these are may do what *document* allows; the set gets what was refused."""
    refused: set[str] = set()

    def arn(secret_id: str | None) -> str:
        if secret_id is None:
            return "*"
        known = {entry["Name"] for entry in account.client.list_secrets(IncludePlannedDeletion=True)["SecretList"]}
        name = secret_id.partition(":secret:")[2].rpartition("-")[0] if secret_id.startswith("arn:") else secret_id
        return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}{'-a1B2c3' if name in known else ''}"

    def authorize(model: Any, params: Any, **_: object) -> tuple[AWSResponse, Any] | None:
        asked = json.loads(params["body"])
        if model.service_model.service_name == "events":
            action, context = "events:PutEvents", {"events:source": asked["Entries"][0]["Source"]}
            resource = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
        else:
            action, context, resource = f"secretsmanager:{model.name}", {}, arn(asked.get("SecretId"))
        if is_allowed(document, action, resource, context):
            return None
        refused.add(f"{action} on {resource}")
        refusal = {"Code": "AccessDeniedException", "Message": f"not authorized to perform: {action} on {resource}"}
        metadata = {"HTTPStatusCode": 400, "HTTPHeaders": {}, "RequestId": "refused"}
        answer = AWSResponse(params["url"], 400, HTTPHeaders(), None)
        return answer, {"Error": refusal, "ResponseMetadata": metadata}

    for operation in ("secrets-manager", "events.PutEvents"):
        events.register_first(f"before-call.{operation}", authorize)
    return refused


def lesser(document: Document) -> Iterator[tuple[str, Document]]:
    """The policy without one action or one resource of one statement, for each in turn."""
    for index, statement in enumerate(document["Statement"]):
        if statement["Sid"] in NOT_CALLED_BY_THE_CODE:
            continue
        for key in ("Action", "Resource"):
            whole = [statement[key]] if isinstance(statement[key], str) else statement[key]
            for left_out in whole:
                less = copy.deepcopy(document)
                less["Statement"][index][key] = [other for other in whole if other != left_out]
                yield f"{statement['Sid']} without {left_out}", less


def what_comes_of_it(deployment: Deployment) -> object:
    """A sweep over connections in every state that takes a permission, a look at all, and which calls were refused."""
    account, manager = deployment.account, deployment.account.strict.client()
    deployment.log_in("due", age=timedelta(days=8))
    deployment.log_in("refused", age=timedelta(days=8))
    deployment.virtuous.revoke_refresh_token(str(account.pair("refused").refresh_token.reveal()))  # type: ignore[union-attr]
    login = {"username": deployment.virtuous.user, "password": deployment.virtuous.password}
    manager.create_secret(Name=account.names("refused").login, SecretString=json.dumps(login))
    deployment.log_in("asked", age=timedelta(days=8))
    deployment.virtuous.revoke_refresh_token(str(account.pair("asked").refresh_token.reveal()))  # type: ignore[union-attr]
    deployment.log_in("pasted", age=timedelta(days=8))
    account.put(account.names("pasted").bearer, '{"access_token": "of-somebody"}')
    deployment.log_in("halved", age=timedelta(days=8))
    manager.delete_secret(SecretId=account.names("halved").bearer, ForceDeleteWithoutRecovery=True)
    deployment.log_in("headless")
    manager.delete_secret(SecretId=account.names("headless").pair, ForceDeleteWithoutRecovery=True)

    swept = deployment.invoke_as_lambda_does({})
    looked, _ = deployment.invoke_as_lambda_does({"report": True})
    assert isinstance(looked, dict)
    errors = {name: seen.get("error") for name, seen in looked.get("connections", {}).items()}
    return swept, errors, sorted(kind for kind, _ in deployment.notices)


def of_the_function(harness: LeakHarness, document: Document | None) -> tuple[object, set[str]]:
    """What comes of the function's work with that policy, None: with every permission; and what it was refused."""
    with deployed(harness, *CONNECTIONS) as deployment:
        refused = set() if document is None else enforce(document, deployment.account, deployment.session.events)
        return what_comes_of_it(deployment), refused


def test_the_function_does_its_work_with_its_policy(harness: LeakHarness) -> None:
    assert of_the_function(harness, FUNCTION) == of_the_function(harness, None)


@pytest.mark.parametrize("less", [pytest.param(less, id=name) for name, less in lesser(FUNCTION)])
def test_the_function_needs_each_action_and_each_resource(harness: LeakHarness, less: Document) -> None:
    """Without one it is refused a call. Where another call gives the same, the one refused is the cheaper one."""
    _, refused = of_the_function(harness, less)

    assert refused


def of_a_reader(document: Document) -> set[str]:
    """What a reader is refused that asks as ours and AWS's caching library do, for a secret and for none."""
    account = Account()
    account.publish(a_version(), a_pair())
    client = account.session().client("secretsmanager")
    refused = enforce(document, account, client.meta.events)
    for name in (account.names().bearer, account.names("absent").bearer):
        with contextlib.suppress(VirtuousTokenError):
            TokenReader(name, client=client).token()
        with contextlib.suppress(ClientError):
            SecretCache(client=client).get_secret_string(name)
    return refused


def test_a_reader_needs_each_action_and_each_resource_and_no_other() -> None:
    every_connection = copy.deepcopy(READER)
    every_connection["Statement"][0]["Resource"] = [
        resource.replace("virtuous/default/", "virtuous/*/") for resource in READER["Statement"][0]["Resource"]
    ]

    assert of_a_reader(every_connection) == set()
    assert {name for name, less in lesser(every_connection) if not of_a_reader(less)} == set()


def test_what_no_code_calls_has_a_reason() -> None:
    assert {statement["Sid"] for statement in FUNCTION["Statement"]} >= NOT_CALLED_BY_THE_CODE.keys()


def test_the_command_checks_the_role_for_what_it_grants() -> None:
    granted = {statement["Sid"]: statement["Action"] for statement in FUNCTION["Statement"]}

    for kind, sid in (("tokens", "KeepPairs"), ("bearer", "PublishBearers")):
        assert {f"secretsmanager:{action}" for action in FUNCTION_NEEDS[kind]} == set(granted[sid])
