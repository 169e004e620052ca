"""The policies of docs/accounts-and-regions.md let in who they should, and nobody else."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "accounts-and-regions.md").read_text()
POLICIES: dict[str, Any] = {
    name: json.loads(text) for name, text in re.findall(r"<!-- policy: (\w+) -->\n```json\n(.*?)```", PAGE, re.DOTALL)
}
READER = "arn:aws:iam::444455556666:role/reader"
FUNCTION = "arn:aws:iam::111122223333:role/virtuous-token-refresher-TokenRefresherRole-1A2B3C4D5E6F"
KEEPER = "arn:aws:iam::111122223333:role/virtuous-keepers"
ADMINISTRATOR = "arn:aws:iam::111122223333:role/administrator"
READ = "secretsmanager:GetSecretValue"
VIA_SECRETS_MANAGER = {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}


def judged(policy: str, principal: str, action: str, context: dict[str, str] | None = None) -> str | None:
    """The effect of the policy's one statement if it concerns this call, as IAM matches it."""
    document = POLICIES[policy]
    statement = document["Statement"][0] if "Statement" in document else document
    named = statement["Principal"]
    actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
    applies = action in actions and (named == "*" or named["AWS"] == principal)
    for operator, wanted in statement.get("Condition", {}).items():
        for key, values in wanted.items():
            said = {"aws:PrincipalArn": principal, **(context or {})}.get(key, "")
            some = [values] if isinstance(values, str) else values
            matches = any(fnmatchcase(said, value) for value in some)
            applies = applies and (matches if operator == "StringEquals" else not matches)
    return str(statement["Effect"]) if applies else None


@pytest.mark.parametrize(
    ("policy", "principal", "action", "context", "effect"),
    [
        pytest.param("key", READER, "kms:Decrypt", VIA_SECRETS_MANAGER, "Allow", id="a reader decrypts its secret"),
        pytest.param("key", READER, "kms:Decrypt", {}, None, id="and nothing by itself"),
        pytest.param("key", READER, "kms:GenerateDataKey", VIA_SECRETS_MANAGER, None, id="and encrypts nothing"),
        pytest.param("key", f"{READER}-2", "kms:Decrypt", VIA_SECRETS_MANAGER, None, id="no other role decrypts"),
        pytest.param("bearer", READER, READ, {}, "Allow", id="a reader reads the bearer"),
        pytest.param("bearer", READER, "secretsmanager:PutSecretValue", {}, None, id="and writes nothing"),
        pytest.param("bearer", f"{READER}-2", READ, {}, None, id="no other role reads"),
        pytest.param("pair", FUNCTION, READ, {}, None, id="the function keeps its access to the pair"),
        pytest.param("pair", KEEPER, "secretsmanager:PutSecretValue", {}, None, id="who logs in keeps it"),
        pytest.param("pair", ADMINISTRATOR, READ, {}, "Deny", id="an administrator does not"),
        pytest.param("pair", ADMINISTRATOR, "secretsmanager:UpdateSecretVersionStage", {}, "Deny", id="nor by labels"),
        pytest.param(
            "pair", ADMINISTRATOR, "secretsmanager:DeleteResourcePolicy", {}, None, id="but can take the policy off"
        ),
        pytest.param("pair", f"{KEEPER}-2", READ, {}, "Deny", id="nor somebody whose name begins alike"),
    ],
)
def test_a_policy_of_the_page_lets_in_who_it_should(
    policy: str, principal: str, action: str, context: dict[str, str], effect: str | None
) -> None:
    assert judged(policy, principal, action, context) == effect
