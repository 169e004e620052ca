"""Nothing private of a library is overridden or imported; that none is called, ruff's rule SLF001 says."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("functions/token_refresher/token_refresher", "layers/virtuous_token/virtuous_token")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("[a-z]*.py"))]


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
