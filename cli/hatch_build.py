"""Packs what the command uses of the function, from the function's folder.

An editable installation finds it there by its path (``dev-mode-dirs``); a copy would go on running old code.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PackTheCore(BuildHookInterface[Any]):
    """How a login is stored and how Virtuous is spoken to is the function's code."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["../functions/token_refresher/token_refresher"] = "token_refresher"
