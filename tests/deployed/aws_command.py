"""The AWS CLI as far as our pages use it: a command of a page, run through botocore's model of the service.

An operation or option that the service does not have is an error here as there. It needs no AWS CLI on the machine.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from botocore import xform_name


def run(command: str, client: Any, directory: Path) -> Any:
    """The answer to ``aws SERVICE OPERATION --option value …``, with files from *directory*.

    Raises KeyError for an option that the operation does not have, and what *client*, one of that service, raises.
    """
    program, service, operation, *options = shlex.split(command, comments=True)
    assert (program, service) == ("aws", client.meta.service_model.service_name)
    name = operation.replace("-", "_")
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[name]).input_shape
    members = {xform_name(member, "-"): (member, found) for member, found in shape.members.items()}
    asked: dict[str, Any] = {}
    while options:
        member, found = members[options.pop(0).removeprefix("--")]
        if found.type_name == "boolean":
            asked[member] = True
            continue
        given = [options.pop(0)]
        while found.type_name == "list" and options and not options[0].startswith("--"):
            given.append(options.pop(0))
        asked[member] = _value(given, found, directory)
    return getattr(client, name)(**asked)


def _value(given: list[str], shape: Any, directory: Path) -> Any:
    if shape.type_name == "list" and shape.member.type_name == "structure":  # the CLI's shorthand for it
        return [dict(pair.split("=", 1) for pair in text.split(",")) for text in given]
    if shape.type_name == "list":
        return given
    (text,) = given
    if shape.type_name == "structure":
        return json.loads(text)
    return (directory / text.removeprefix("file://")).read_text() if text.startswith("file://") else text
