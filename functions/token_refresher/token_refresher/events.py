"""Core: the events that the function accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .refresh.formats import CONNECTION_NAME, printable

_SCHEDULER = {"aws.scheduler", "aws.events"}  # what else such an event holds is not needed
_KEYS = ("connections", "force", "report", "prove")


class InvalidEvent(ValueError):
    """The event asks for nothing that the function knows; the text says what it accepts."""


class Request(NamedTuple):
    """What an event asks for: ``{"connections": ["acme"], "force": true}``, ``{"report": true, "prove": true}``.

    ``connections`` is None for all that exist. ``scheduled``: a schedule sent the event.
    """

    connections: tuple[str, ...] | None = None
    force: bool = False
    report: bool = False
    prove: bool = False
    scheduled: bool = False

    @classmethod
    def parse(cls, event: object) -> Request:
        """Raises InvalidEvent: a misspelt key must not turn into a sweep of everything."""
        if not isinstance(event, Mapping):
            raise InvalidEvent("an event is a JSON object")
        if str(event.get("source")) in _SCHEDULER:
            return cls(scheduled=True)
        if unknown := sorted(printable(str(key)) or "" for key in event.keys() - set(_KEYS)):
            raise InvalidEvent(f"unknown keys {', '.join(unknown)}; an event has {', '.join(_KEYS)}")
        flags = {key: event.get(key, False) for key in _KEYS[1:]}
        for key, value in flags.items():
            if not isinstance(value, bool):
                raise InvalidEvent(f"{key} is true or false")
        names = event.get("connections")
        if names is not None and not (names and isinstance(names, list)):
            raise InvalidEvent("connections is a list of names with at least one in it")
        if not all(isinstance(name, str) and CONNECTION_NAME.fullmatch(name) for name in names or ()):
            raise InvalidEvent("a connection's name holds lower-case letters, digits and hyphens only")
        return cls(tuple(dict.fromkeys(names)) if names else None, **flags)
