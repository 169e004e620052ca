"""template.yaml as CloudFormation gets it: ``python -m tests.transformed FOLDER`` writes it for every partition.

Beside each template it writes the policies of that partition, with every condition true and every reference resolved,
as policy linters want them.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

yaml_helper: Any = importlib.import_module("samtranslator.yaml_helper")  # it has no types
translator: Any = importlib.import_module("samtranslator.translator.transform")

__all__ = ["PARTITIONS", "TEMPLATE", "policies_of", "resolved", "transformed"]

TEMPLATE = Path(__file__).parents[1] / "template.yaml"
ACCOUNT = "123456789012"
# Partition: a Region of it, and what its services' names end in.
PARTITIONS = {
    "aws": ("us-east-1", "amazonaws.com"),
    "aws-cn": ("cn-north-1", "amazonaws.com.cn"),
    "aws-us-gov": ("us-gov-west-1", "amazonaws.com"),
}
IDENTIFIERS = {
    "AWS::SQS::Queue": "arn:{partition}:sqs:{region}:{account}:{name}",
    "AWS::IAM::Role": "arn:{partition}:iam::{account}:role/{name}",
    "AWS::Lambda::Function": "arn:{partition}:lambda:{region}:{account}:function:{name}",
    "AWS::SNS::Topic": "arn:{partition}:sns:{region}:{account}:{name}",
    "AWS::Events::Rule": "arn:{partition}:events:{region}:{account}:rule/{name}",
}


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


def transformed(region: str = "us-east-1") -> dict[str, Any]:
    """The template that CloudFormation gets from SAM in *region*."""
    parsed: dict[str, Any] = yaml_helper.yaml_parse(TEMPLATE.read_text())
    for resource in parsed["Resources"].values():
        for key in {"CodeUri", "ContentUri"} & resource["Properties"].keys():
            resource["Properties"][key] = "s3://bucket/key"
    with patch.dict(os.environ, AWS_DEFAULT_REGION=region):  # by which SAM knows the partition
        found: dict[str, Any] = translator.transform(parsed, {}, _NoManagedPolicies())
    return found


def resolved(value: Any, template: Mapping[str, Any], partition: str) -> Any:
    """*value* with every reference resolved for a stack with every parameter given, and every condition true."""
    region, suffix = PARTITIONS[partition]
    known = {
        **{name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()},
        "AWS::Partition": partition,
        "AWS::Region": region,
        "AWS::URLSuffix": suffix,
        "AWS::AccountId": ACCOUNT,
        "AWS::StackName": "virtuous-token-refresher",
        "KmsKeyArn": f"arn:{partition}:kms:{region}:{ACCOUNT}:key/0f0c3b9e-0000-4000-8000-000000000000",
        "AlarmTopicArn": f"arn:{partition}:sns:{region}:{ACCOUNT}:on-call",
        "ReaderConnection": "default",
    }
    for name, resource in template["Resources"].items():
        pattern = IDENTIFIERS.get(resource["Type"], "")
        known[name] = pattern.format(partition=partition, region=region, account=ACCOUNT, name=name)
    return _with(known, value)


def _with(known: Mapping[str, str], node: Any) -> Any:
    def filled(text: str, known: Mapping[str, str] = known) -> str:
        return re.sub(r"\$\{([^}]+)\}", lambda found: known[found[1].removesuffix(".Arn")], text)

    match node:
        case {"Ref": name} | {"Fn::GetAtt": [name, *_]}:
            return known[name]
        case {"Fn::If": [_, then, _]}:
            return _with(known, then)
        case {"Fn::Sub": [text, variables]}:
            return filled(text, {**known, **_with(known, variables)})
        case {"Fn::Sub": text}:
            return filled(text)
        case dict():
            return {key: _with(known, item) for key, item in node.items()}
        case list():
            return [_with(known, item) for item in node]
    return node


def policies_of(template: Mapping[str, Any], partition: str) -> dict[str, Any]:
    """Every policy document that says what a role or a person may do, resolved, by the resource's name."""
    found = {}
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            found[name] = properties["PolicyDocument"]
        for policy in properties.get("Policies", []) if resource["Type"] == "AWS::IAM::Role" else []:
            found[f"{name}-{resolved(policy['PolicyName'], template, partition)}"] = policy["PolicyDocument"]
    return {name: resolved(document, template, partition) for name, document in found.items()}


def main(folder: Path) -> None:
    """Writes template-PARTITION.json, and policies-PARTITION/NAME.json beside it."""
    for partition, (region, _) in PARTITIONS.items():
        template = transformed(region)
        policies = folder / f"policies-{partition}"
        policies.mkdir(parents=True, exist_ok=True)
        (folder / f"template-{partition}.json").write_text(json.dumps(template, indent=1))
        for name, document in policies_of(template, partition).items():
            (policies / f"{name}.json").write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
