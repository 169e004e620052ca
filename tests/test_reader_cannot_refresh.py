"""Whoever has the reader package alone can spend no refresh token, and has no place to hold one.

That none is left over from a secret with the wrong content is seen in ``test_reader.py``.
"""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import virtuous_token
from virtuous_token.contract import Bearer

# What a request that spends one is made of. The stored formats' module alone names the keys of the pair.
OF_A_REFRESH = ("grant_type", "/Token", "urlencode", '"POST"')
MODULES = sorted(Path(virtuous_token.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_no_module_can_spend_a_refresh_token_or_write_a_secret(module: Path) -> None:
    source = module.read_text()
    words = OF_A_REFRESH if module.name == "contract.py" else (*OF_A_REFRESH, "refresh_token")
    assert [word for word in words if word in source] == []
    assert operations_in(source) <= {"get_secret_value", "describe_secret"}


def operations_in(source: str) -> set[str]:
    """Every public attribute that is named as Secrets Manager's operations are."""
    named = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    return {name for name in named if not name.startswith("_") and "secret" in name.split("_")}


def test_an_operation_that_writes_would_be_seen_and_a_bearer_has_no_place_for_a_refresh_token() -> None:
    assert operations_in("client.put_secret_value(SecretId='virtuous/default/tokens')") == {"put_secret_value"}
    assert not [field.name for field in fields(Bearer) if "refresh_token" in field.name]
