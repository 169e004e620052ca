"""Nothing private of a library is overridden or imported; that none is called, ruff's rule SLF001 says."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "functions/token_refresher/token_refresher"
MODULES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("name", MODULES)
def test_no_private_method_of_a_library_is_overridden(name: str) -> None:
    module = importlib.import_module(f"token_refresher.{name}")
    for _, cls in inspect.getmembers(module, inspect.isclass):
        inherited = {key for base in cls.__mro__[1:] for key in vars(base)}
        overridden = {key: method for key, method in vars(cls).items() if is_private(key) and key in inherited}
        assert not [key for key, method in overridden.items() if inspect.getmodule(method) is module]


@pytest.mark.parametrize("name", MODULES)
def test_no_private_name_of_a_library_is_imported(name: str) -> None:
    nodes = ast.walk(ast.parse((FOLDER / f"{name}.py").read_text()))
    imports = [
        node for node in nodes if isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__"
    ]
    assert not [alias.name for node in imports for alias in node.names if is_private(alias.name)]
    assert not [node.module for node in imports if any(is_private(part) for part in str(node.module).split("."))]
