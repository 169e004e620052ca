"""A stand-in for Virtuous in a Lambda function behind a function URL: ``/Token`` and ``/api/Organization/Current``.

A refresh token works once: a conditional write of the table decides, however many requests arrive together. The table
holds hashes of tokens, never tokens; whoever may write it can revoke one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

# So that two runs that begin together meet, also where one of them must start first.
SECONDS_FOR_A_REFRESH = 5
# The item that counts refusals and keeps which access token was accepted last.
STATE = "state"


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A function URL's request and answer (payload format 2.0)."""
    import boto3  # here, so that hash_of can be had without AWS's SDK

    table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    headers = {name.lower(): value for name, value in event["headers"].items()}
    if event["rawPath"] == "/api/Organization/Current":
        return _organization(table, headers.get("authorization", "").removeprefix("Bearer "))
    if event["rawPath"] != "/Token":
        return _json(404, {"message": "No HTTP resource was found."})
    body = event.get("body") or ""
    content = base64.b64decode(body).decode() if event.get("isBase64Encoded") else body
    fields = dict(parse_qsl(content, keep_blank_values=True))
    if fields.get("grant_type") == "refresh_token":
        return _refreshed(table, fields.get("refresh_token", ""))
    given = fields.get("username", ""), hash_of(fields.get("password", ""))
    if hmac.compare_digest(given[1], os.environ["PASSWORD_HASH"]) and given[0] == os.environ["USER_NAME"]:
        return _granted(table)
    return _json(400, {"error": "invalid_grant"})


def _refreshed(table: Any, token: str) -> dict[str, Any]:
    """Another pair for one caller only, and only for a token that was issued and neither spent nor revoked."""
    time.sleep(SECONDS_FOR_A_REFRESH)
    try:
        table.update_item(
            Key={"key": hash_of(token)},
            UpdateExpression="SET spent = :yes",
            ConditionExpression="attribute_exists(#key) AND spent = :no",
            ExpressionAttributeNames={"#key": "key"},
            ExpressionAttributeValues={":yes": True, ":no": False},
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        one = {":one": 1}
        table.update_item(Key={"key": STATE}, UpdateExpression="ADD refusals :one", ExpressionAttributeValues=one)
        return _json(400, {"error": "invalid_grant"})
    return _granted(table)


def _granted(table: Any) -> dict[str, Any]:
    now, life = int(time.time()), int(os.environ["TOKEN_LIFE_SECONDS"])
    access, refresh = (f"{kind}-{secrets.token_urlsafe(24)}" for kind in ("access", "refresh"))
    table.put_item(Item={"key": hash_of(access), "expires_at": now + life})
    table.put_item(Item={"key": hash_of(refresh), "spent": False})
    content = {
        "access_token": access,
        "token_type": "bearer",
        "expires_in": life,
        "refresh_token": refresh,
        ".expires": formatdate(now + life, usegmt=True),
    }
    return _json(200, content)


def _organization(table: Any, token: str) -> dict[str, Any]:
    stored = table.get_item(Key={"key": hash_of(token)}, ConsistentRead=True).get("Item", {})
    if stored.get("expires_at", 0) <= time.time():
        answer = _json(401, {"message": "Authorization has been denied for this request."})
        answer["headers"]["WWW-Authenticate"] = "Bearer"
        return answer
    named = {":token": hash_of(token)}
    table.update_item(Key={"key": STATE}, UpdateExpression="SET accepted = :token", ExpressionAttributeValues=named)
    return _json(200, {"organizationUserId": 4711, "organizationName": "Example Relief", "isEnabled": True})


def _json(status: int, content: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json;charset=UTF-8"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(content)}
