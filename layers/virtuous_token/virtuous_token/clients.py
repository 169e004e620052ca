"""What a reader needs of a Secrets Manager client: those of boto3, boto3-stubs and botocore-stubs will do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["BotocoreClient", "SecretsManager"]


class SecretsManager(Protocol):
    """A client of Secrets Manager, or anything else with these two methods."""

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> Mapping[str, Any]:  # noqa: N803
        """As in AWS's API of that name."""

    def describe_secret(self, *, SecretId: str) -> Mapping[str, Any]:  # noqa: N803
        """As in AWS's API of that name. Called only after a refusal, to tell what is wrong with the secret."""


class BotocoreClient(Protocol):
    """A client as botocore-stubs describe it: they do not say of which service it is."""

    @property
    def meta(self) -> Any:
        """Of every client of botocore."""

    def get_paginator(self, operation_name: str) -> Any:
        """Of every client of botocore; the clients of boto3-stubs take the names of their own operations only."""
