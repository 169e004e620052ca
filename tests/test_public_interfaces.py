"""Nothing private of a library is overridden or imported; that none is called, ruff's rule SLF001 says. The reader's
hints resolve, and whoever has it alone can spend no refresh token and has no place to hold one."""

import ast
import importlib
import inspect
import typing
from dataclasses import fields
from pathlib import Path

import pytest

import virtuous_token
from virtuous_token.auth_aiohttp import AiohttpAuth
from virtuous_token.auth_httpx import HttpxAuth
from virtuous_token.auth_requests import RequestsAuth
from virtuous_token.auth_urllib3 import Urllib3Auth
from virtuous_token.contract import Bearer

ROOT = Path(__file__).parents[1]
FOLDERS = ("functions/token_refresher/token_refresher", "layers/virtuous_token/virtuous_token")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("[a-z]*.py"))]
OF_THE_READER = sorted((ROOT / FOLDERS[1]).glob("*.py"))
PUBLIC = [getattr(virtuous_token, name) for name in virtuous_token.__all__]
PUBLIC += [AiohttpAuth, HttpxAuth, RequestsAuth, Urllib3Auth]
# What a request that spends one is made of. The stored formats' module alone names the keys of the pair.
OF_A_REFRESH = ("grant_type", "/Token", "urlencode", '"POST"')


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_private_of_a_library_is_overridden_or_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__":
            names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            assert not [name for name in names if is_private(name)]
    folder = next(ROOT / folder for folder in FOLDERS if path.is_relative_to(ROOT / folder))
    module = importlib.import_module(".".join(path.relative_to(folder.parent).with_suffix("").parts))
    for _, cls in inspect.getmembers(module, inspect.isclass):
        foreign = [base for base in cls.__mro__[1:] if base.__module__.split(".")[0] != module.__name__.split(".")[0]]
        inherited = {
            key for base in foreign for key, member in vars(base).items() if is_private(key) and callable(member)
        }
        own = {key for key, member in vars(cls).items() if getattr(member, "__module__", "") == module.__name__}
        assert not (inherited & own if cls.__module__ == module.__name__ else set())


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_the_hints_of_every_public_name_resolve(thing: typing.Any) -> None:
    for _, member in [("", thing), *inspect.getmembers(thing)]:
        part = getattr(member, "fget", getattr(member, "__func__", member))
        if inspect.isfunction(part) or inspect.isclass(part):
            typing.get_type_hints(part)


@pytest.mark.parametrize("path", OF_THE_READER, ids=lambda path: path.name)
def test_no_module_of_the_reader_can_spend_a_refresh_token_or_write_a_secret(path: Path) -> None:
    source = path.read_text()
    words = OF_A_REFRESH if path.name == "contract.py" else (*OF_A_REFRESH, "refresh_token")
    assert [word for word in words if word in source] == []
    named = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    operations = {name for name in named if not name.startswith("_") and "secret" in name.split("_")}
    assert operations <= {"get_secret_value", "describe_secret"}
    assert not [field.name for field in fields(Bearer) if "refresh_token" in field.name]
