"""What tools see of the package at run time: every hint resolves, and a fixed token is as good a source as a reader."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import typing

import pytest

import virtuous_token
from virtuous_token import StaticToken

MODULES = [module.name for module in pkgutil.iter_modules(virtuous_token.__path__, "virtuous_token.")]


@pytest.mark.parametrize("name", ["virtuous_token", *(name for name in MODULES if "._" not in name)])
def test_the_hints_of_every_public_name_resolve(name: str) -> None:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]):
        thing = getattr(module, public)
        if getattr(thing, "__module__", None) == name or (name == "virtuous_token" and inspect.isclass(thing)):
            members = vars(thing).values() if inspect.isclass(thing) else [thing]
            parts = [getattr(member, "fget", getattr(member, "__func__", member)) for member in members]
            for part in (thing, *parts) if inspect.isclass(thing) else parts:
                if inspect.isfunction(part) or inspect.isclass(part):
                    typing.get_type_hints(part)


def test_a_fixed_token_is_a_source_that_keeps_it_out_of_sight_and_has_no_other_to_try() -> None:
    with StaticToken("access-1", "https://api.example.org") as source:
        assert (source.token(), source.authorization(timeout=1)) == ("access-1", "Bearer access-1")
        assert (source.cached_token(), source.base_url) == ("access-1", "https://api.example.org")
        assert (source.report_rejected("access-1"), source.rejected("access-0")) == (False, True)
    assert "access-1" not in repr(source)
    with pytest.raises(TypeError):
        pickle.dumps(source)


@pytest.mark.parametrize("token", ["", "two words", "line\n", "Ä"])
def test_a_fixed_token_that_cannot_be_a_header_is_refused_unseen(token: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII") as raised:
        StaticToken(token)
    assert not token or token not in str(raised.value)
