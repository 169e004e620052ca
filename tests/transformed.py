"""template.yaml as CloudFormation gets it: ``python -m tests.transformed FOLDER`` writes it for every partition."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

yaml_helper: Any = importlib.import_module("samtranslator.yaml_helper")  # it has no types
translator: Any = importlib.import_module("samtranslator.translator.transform")

TEMPLATE = Path(__file__).parents[1] / "template.yaml"
# A Region of each partition, by which SAM knows it.
PARTITIONS = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


def parsed() -> dict[str, Any]:
    """The template as it is written."""
    found: dict[str, Any] = yaml_helper.yaml_parse(TEMPLATE.read_text())
    return found


def transformed(region: str = "us-east-1") -> dict[str, Any]:
    """The template that CloudFormation gets from SAM in *region*."""
    template, no_managed_policies = parsed(), SimpleNamespace(load=dict)
    for resource in template["Resources"].values():
        for key in {"CodeUri", "ContentUri"} & resource["Properties"].keys():
            resource["Properties"][key] = "s3://bucket/key"
    with patch.dict(os.environ, AWS_DEFAULT_REGION=region):
        found: dict[str, Any] = translator.transform(template, {}, no_managed_policies)
    return found


def main(folder: Path) -> None:
    """Writes template-PARTITION.json to *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    for partition, region in PARTITIONS.items():
        (folder / f"template-{partition}.json").write_text(json.dumps(transformed(region), indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
