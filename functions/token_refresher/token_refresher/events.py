"""Core: the events that the function accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .refresh.formats import CONNECTION_NAME, printable

# What EventBridge Scheduler and EventBridge rules put round a scheduled event. Nothing in it is needed.
_SCHEDULER = {"aws.scheduler", "aws.events"}

_KEYS = ("connections", "force", "report", "prove")


class InvalidEvent(ValueError):
    """The event asks for nothing that the function knows; the text says what it accepts."""


class Request(NamedTuple):
    """What an event asks for: ``{"connections": ["acme"], "force": true}``, ``{"report": true, "prove": true}``.

    ``connections`` is None for all that exist. A report changes nothing. ``scheduled``: a schedule sent the event.
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
        force, report, prove = (_flag(event, key) for key in _KEYS[1:])
        return cls(_names(event.get("connections")), force, report, prove)


def _names(given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given:
        raise InvalidEvent("connections is a list of names with at least one in it")
    if not all(isinstance(name, str) and CONNECTION_NAME.fullmatch(name) for name in given):
        raise InvalidEvent("a connection's name holds lower-case letters, digits and hyphens only")
    return tuple(dict.fromkeys(given))


def _flag(event: Mapping[str, Any], key: str) -> bool:
    value = event.get(key, False)
    if not isinstance(value, bool):
        raise InvalidEvent(f"{key} is true or false")
    return value
