"""The deployed stack as the command sees it: which one, what its function reports, and having it run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from virtuous_token.contract import parse_instant

from .aws import Aws, code_of
from .remedies import CommandFailed, Remedy, aws_cli, ours, sam_deploy
from .screen import clean

# The template puts it on the function, whose tags CloudFormation completes with the stack's own.
PREFIX_TAG = "virtuous-token:prefix"
_ELSEWHERE: tuple[Remedy, ...] = (
    "deploy the stack, from a checkout:",
    *sam_deploy(),
    "or name the account, Region and stack: --profile, --region, --prefix",
)


def now() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Connection:
    """What the function tells of one connection; *facts* are its report's values."""

    name: str
    facts: Mapping[str, Any]

    def text(self, key: str) -> str | None:
        """As a terminal may show it: some of it was named by strangers."""
        value = self.facts.get(key)
        return clean(str(value)) if value is not None else None

    def instant(self, key: str) -> datetime | None:
        value = self.facts.get(key)
        return parse_instant(value) if isinstance(value, str) else None

    @property
    def exists(self) -> bool:
        """False for a name under which the function found nothing that it could read."""
        return "error" not in self.facts

    @property
    def has_pair(self) -> bool:
        return "issued_at" in self.facts


@dataclass(frozen=True, slots=True)
class Report:
    """What the function reports. *document* is the whole of it, as JSON has it."""

    document: Mapping[str, Any]

    @property
    def connections(self) -> list[Connection]:
        return [Connection(name, facts) for name, facts in self.document["connections"].items()]


class MissingConnection(CommandFailed):
    """There is no such connection."""


@dataclass(frozen=True)
class Stack:
    """One deployment. *tags* are those of its function: the stack's, ours and AWS's own."""

    aws: Aws
    prefix: str
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """CloudFormation's name for it."""
        return self.tags.get("aws:cloudformation:stack-name", "")

    @property
    def function(self) -> str:
        return f"{self.prefix}-token-refresher"

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        """The function's, as Lambda has it; asked for once, however many connections are looked at."""
        answer: Mapping[str, Any] = self.aws.client("lambda").get_function_configuration(FunctionName=self.function)
        return answer

    @cached_property
    def described(self) -> Mapping[str, Any]:
        """What CloudFormation tells of it."""
        (described,) = self.aws.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return dict(described)

    @property
    def parameters(self) -> dict[str, str]:
        return {found["ParameterKey"]: found["ParameterValue"] for found in self.described["Parameters"]}

    @cached_property
    def _resources(self) -> list[Mapping[str, Any]]:
        client = self.aws.client("cloudformation")
        return list(client.describe_stack_resources(StackName=self.name)["StackResources"])

    def made(self, kind: str) -> list[str]:
        """The physical ids of the stack's resources of that type, whether they still exist or not."""
        return [found["PhysicalResourceId"] for found in self._resources if found["ResourceType"] == kind]

    def report(self, names: Sequence[str] | None = None, **options: Any) -> Report:
        """What the function tells of *names*, or of all. It changes nothing and needs no right to read a secret."""
        event = {"report": True, **({"connections": list(names)} if names else {}), **options}
        answer = self._checked(self._invoke(event))
        if "settings" not in answer:
            raise CommandFailed(f"{self.function} gave no report: it is of another version.", *sam_deploy(self.name))
        return Report(answer)

    def report_of_existing(self, names: Sequence[str], **options: Any) -> Report:
        """The same. Raises MissingConnection for a name that no connection has; AWS itself answers it with a denial."""
        report = self.report(names, **options)
        doubtful = [connection.name for connection in report.connections if names and not connection.exists]
        known = {connection.name for connection in self.report().connections} if doubtful else set()
        if unknown := [name for name in doubtful if name not in known]:
            said = (
                f"There is no connection {', '.join(unknown)}. There is: {', '.join(sorted(known)[:20]) or 'none yet'}."
            )
            raise MissingConnection(said, "to make it:", ours("login", connection=unknown[0]))
        return report

    def refresh(self, name: str, *, force: bool) -> str:
        """Has the function bring one connection up to date, and returns the outcome word.

        One at a time, because the answer of a run in which one fails does not tell what became of the others.
        """
        answer = self._invoke({"connections": [name], **({"force": True} if force else {})})
        _, named, outcome = str(answer.get("errorMessage", "")).partition(f"{name}: ")
        if answer.get("errorType") == "SomeConnectionsFailed" and named:
            return outcome
        return str(self._checked(answer).get("outcomes", {}).get(name, "no outcome"))

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "errorType" in answer or "errorMessage" in answer:
            raise CommandFailed(
                f"{self.function} failed: {answer.get('errorMessage', answer.get('errorType'))}.",
                aws_cli("logs", "tail", f"/aws/lambda/{self.function}", "--since", "1h"),
            )
        return answer

    def _invoke(self, event: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self.aws.client("lambda").invoke(FunctionName=self.function, Payload=json.dumps(event).encode())
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                raise CommandFailed(f"There is no function {self.function} here.", *_ELSEWHERE) from None
            if error.response.get("Reason") == "ReservedFunctionConcurrentInvocationLimitExceeded":
                raise CommandFailed(
                    f"{self.function} has too little reserved concurrency to run.",
                    aws_cli("lambda", "delete-function-concurrency", "--function-name", self.function),
                ) from None
            raise
        try:
            payload: object = json.loads(answer["Payload"].read() or b"null")
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            raise CommandFailed(f"{self.function} gave no readable answer.", "is it the function of this stack?")
        return {"errorType": "an error", **payload} if "FunctionError" in answer else payload


def find_stack(aws: Aws, prefix: str | None) -> Stack:
    """The stack under *prefix*, or the only one there is. Raises CommandFailed where that can't be said."""
    pages = aws.client("resourcegroupstaggingapi").get_paginator("get_resources")
    found = {}
    for page in pages.paginate(TagFilters=[{"Key": PREFIX_TAG}], ResourceTypeFilters=["lambda:function"]):
        for resource in page["ResourceTagMappingList"]:
            tags = {tag["Key"]: tag["Value"] for tag in resource["Tags"]}
            if resource["ResourceARN"].endswith(f":{tags[PREFIX_TAG]}-token-refresher"):
                found[tags[PREFIX_TAG]] = Stack(aws, tags[PREFIX_TAG], tags)
    there = ", ".join(sorted(found)) or "none"
    if prefix and prefix not in found:
        raise CommandFailed(f"There is no stack with prefix {prefix} here. There is: {there}.", *_ELSEWHERE)
    if not found:
        raise CommandFailed("There is no Virtuous token refresher in this account and Region.", *_ELSEWHERE)
    if len(found) > 1 and not prefix:
        raise CommandFailed(f"There are several stacks, under the prefixes {there}.", "name one: --prefix NAME")
    return found[prefix] if prefix else found.popitem()[1]
