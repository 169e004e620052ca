"""Adapter: the account's default event bus in Amazon EventBridge."""

from __future__ import annotations

import json
from functools import cached_property
from threading import Lock
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..notices import SOURCE, Kind, NotSent

# The longest that one put takes: two tries of at most 3 s, and a pause between them.
SECONDS = 7
_CONFIG = Config(
    connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}, max_pool_connections=40
)


class EventBus:
    """Its client is made when the first notice is sent, since most runs send none."""

    def __init__(self) -> None:
        self._making = Lock()

    @cached_property
    def _client(self) -> Any:
        client: Any = boto3.client
        return client("events", config=_CONFIG)

    def send(self, kind: Kind, detail: dict[str, object]) -> None:
        """Raises NotSent."""
        with self._making:  # boto3's session must not make two clients at once
            client = self._client
        try:
            answer = client.put_events(Entries=[{"Source": SOURCE, "DetailType": kind, "Detail": json.dumps(detail)}])
        except ClientError as error:
            raise NotSent(error.response["Error"]["Code"]) from None
        except BotoCoreError as error:
            raise NotSent(type(error).__name__) from None
        if answer["FailedEntryCount"]:
            raise NotSent(answer["Entries"][0].get("ErrorCode", "unknown"))
