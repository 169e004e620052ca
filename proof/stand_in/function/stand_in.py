"""A stand-in for Virtuous in a Lambda function behind a function URL: ``/Token`` and ``/api/Organization/Current``.

A refresh token works once: a conditional write of the table decides, however many requests arrive together. What the
function is to do differently, and what it has seen, is asked for by invoking it with ``{"control": …}``, which needs
AWS credentials; a request through the URL cannot reach that. The table holds hashes of tokens, never tokens.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["StandIn", "lambda_handler"]

FORM = "application/x-www-form-urlencoded"
LONGEST_DELAY_SECONDS = 45
REFRESH_TOKEN_LIFE_SECONDS = 365 * 86_400
# One item of the table holds what is scripted and counted.
STATE = "state"


@dataclass(frozen=True)
class StandIn:
    """The rules, over a DynamoDB table resource."""

    table: Any
    user_name: str
    token_life_seconds: int

    # Requests

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        """The answer to one HTTP request, as a function URL returns it. *headers* have lower-case names."""
        if path == "/Token" and method == "POST":
            step = self._next_step()
            time.sleep(min(step.get("delay_seconds", 0), LONGEST_DELAY_SECONDS))
            if "status" in step:
                self._count("scripted")
                return _json(step["status"], {"error": "invalid_grant" if step["status"] == 400 else "scripted"})
            return self._token(headers, body)
        if path == "/api/Organization/Current" and method == "GET":
            return self._organization(headers.get("authorization", ""))
        return _json(404, {"message": "No HTTP resource was found."})

    def _token(self, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            return _json(415, {"error": "invalid_request"})
        fields = dict(parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True))
        match fields.get("grant_type"):
            case "password":
                if not self._is_user(fields.get("username", ""), fields.get("password", "")):
                    self._count("password refused")
                    return _json(400, {"error": "invalid_grant"})
                self._count("password granted")
                return self._granted()
            case "refresh_token":
                if not self._spend(fields.get("refresh_token", "")):
                    self._count("refresh refused")
                    return _json(400, {"error": "invalid_grant"})
                self._count("refresh granted")
                return self._granted()
        return _json(400, {"error": "unsupported_grant_type"})

    def _organization(self, authorization: str) -> dict[str, Any]:
        token = authorization.removeprefix("Bearer ")
        stored = self.table.get_item(Key={"key": _key("access", token)}, ConsistentRead=True).get("Item")
        if token == authorization or not stored or stored["expires_at"] <= int(time.time()):
            self._count("organization denied")
            denied = {"message": "Authorization has been denied for this request."}
            return _json(401, denied, {"WWW-Authenticate": "Bearer"})
        self._count("organization accepted")
        organization = {"organizationUserId": 4711, "organizationName": "Example Relief", "isEnabled": True}
        return _json(200, {**organization, "isAdministrator": True, "organizationTimeZone": "UTC"})

    # Tokens

    def _is_user(self, user_name: str, password: str) -> bool:
        wanted = self._state().get("password", "")
        return user_name == self.user_name and hmac.compare_digest(wanted, _key("password", password))

    def _spend(self, token: str) -> bool:
        """True for one caller only, and only for a token that was issued and has not ended."""
        client = self.table.meta.client
        try:
            self.table.update_item(
                Key={"key": _key("refresh", token)},
                UpdateExpression="SET spent = :yes",
                ConditionExpression="attribute_exists(#key) AND spent = :no AND expires_at > :now",
                ExpressionAttributeNames={"#key": "key"},
                ExpressionAttributeValues={":yes": True, ":no": False, ":now": int(time.time())},
            )
        except client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def _granted(self) -> dict[str, Any]:
        now = int(time.time())
        access, refresh = (f"{kind}-{secrets.token_urlsafe(24)}" for kind in ("access", "refresh"))
        ends = {"access": now + self.token_life_seconds, "refresh": now + REFRESH_TOKEN_LIFE_SECONDS}
        for kind, token in (("access", access), ("refresh", refresh)):
            self.table.put_item(Item={"key": _key(kind, token), "expires_at": ends[kind], "spent": False})
        content = {
            "access_token": access,
            "token_type": "bearer",
            "expires_in": self.token_life_seconds,
            "refresh_token": refresh,
            "userName": self.user_name,
            "twoFactorEnabled": "False",
            ".issued": formatdate(now, usegmt=True),
            ".expires": formatdate(ends["access"], usegmt=True),
        }
        return _json(200, content)

    # What the proof asks

    def control(self, asked: dict[str, Any]) -> dict[str, Any]:
        """``{"script": [{"delay_seconds": 30}, {"status": 503}]}`` for the next POSTs to /Token, one step each.

        A step with a status is answered without being processed, 400 as the refusal of a refresh token. A ``password``
        becomes the user's from now on. Always returns the counts so far.
        """
        if "script" in asked:
            self.table.put_item(Item=self._state() | {"key": STATE, "steps": asked["script"]})
        if "password" in asked:
            self.table.put_item(Item=self._state() | {"key": STATE, "password": _key("password", asked["password"])})
        return {"counts": {name: int(count) for name, count in self._state().get("counts", {}).items()}}

    def _state(self) -> dict[str, Any]:
        return dict(self.table.get_item(Key={"key": STATE}, ConsistentRead=True).get("Item", {}))

    def _next_step(self) -> dict[str, Any]:
        """Takes the first scripted step off the list; nobody else gets the same."""
        client = self.table.meta.client
        try:
            before = self.table.update_item(
                Key={"key": STATE},
                UpdateExpression="REMOVE steps[0]",
                ConditionExpression="attribute_exists(steps[0])",
                ReturnValues="ALL_OLD",
            )
        except client.exceptions.ConditionalCheckFailedException:
            return {}
        return {name: int(value) for name, value in before["Attributes"]["steps"][0].items()}

    def _count(self, what: str) -> None:
        state = {"Key": {"key": STATE}}
        names = {"#counts": "counts", "#what": what}
        self.table.update_item(
            **state,
            UpdateExpression="SET #counts = if_not_exists(#counts, :empty)",
            ExpressionAttributeNames={"#counts": "counts"},
            ExpressionAttributeValues={":empty": {}},
        )
        self.table.update_item(
            **state,
            UpdateExpression="SET #counts.#what = if_not_exists(#counts.#what, :zero) + :one",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={":zero": 0, ":one": 1},
        )


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A function URL's request (payload format 2.0), or ``{"control": {...}}`` from whoever may invoke it."""
    import boto3  # here, so that the rules can be tried without AWS's SDK

    stand_in = StandIn(
        boto3.resource("dynamodb").Table(os.environ["TABLE"]),
        os.environ["USER_NAME"],
        int(os.environ["TOKEN_LIFE_SECONDS"]),
    )
    if "requestContext" not in event:
        return stand_in.control(event["control"])
    body = event.get("body") or ""
    content = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    headers = {name.lower(): value for name, value in event["headers"].items()}
    return stand_in.answer(event["requestContext"]["http"]["method"], event["rawPath"], headers, content)


def _key(kind: str, token: str) -> str:
    return f"{kind}#{hashlib.sha256(token.encode()).hexdigest()}"


def _json(status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json;charset=UTF-8", **(headers or {})},
        "body": json.dumps(content),
    }
