"""What tools see of the package at run time: every hint resolves, and every name that is said to be there is."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import typing

import pytest

import virtuous_token
from virtuous_token import StaticToken

MODULES = [
    "virtuous_token",
    *(
        f"virtuous_token.{module.name}"
        for module in pkgutil.iter_modules(virtuous_token.__path__)
        if not module.name.startswith("_")
    ),
]


def parts_of(thing: object) -> list[object]:
    """A function, or a class with its public methods and properties."""
    if not inspect.isclass(thing):
        return [thing] if inspect.isfunction(thing) else []
    own = [getattr(member, "fget", getattr(member, "__func__", member)) for member in vars(thing).values()]
    return [thing, *(part for part in own if inspect.isfunction(part))]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists_and_its_hints_resolve(name: str) -> None:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", []):
        for part in parts_of(getattr(module, public)):
            typing.get_type_hints(part)
    assert set(getattr(module, "__all__", [])) <= set(dir(module))


class TestStaticToken:
    def test_is_a_source_that_keeps_its_token_out_of_sight(self) -> None:
        source = StaticToken("access-1", "https://api.example.org")
        assert isinstance(source.base_url, str)
        assert (source.token(), source.authorization(timeout=1)) == ("access-1", "Bearer access-1")
        assert source.cached_token() == "access-1"
        assert source.base_url == "https://api.example.org"
        assert "access-1" not in repr(source)
        with pytest.raises(TypeError):
            pickle.dumps(source)

    def test_has_no_other_token_to_try(self) -> None:
        source = StaticToken("access-1")
        assert (source.report_rejected("access-1"), source.report_rejected("access-0")) == (False, True)

    @pytest.mark.parametrize("token", ["", "two words", "line\n", "Ä"])
    def test_what_cannot_be_a_header_is_refused_unseen(self, token: str) -> None:
        with pytest.raises(ValueError, match="visible ASCII") as raised:
            StaticToken(token)
        assert not token or token not in str(raised.value)
