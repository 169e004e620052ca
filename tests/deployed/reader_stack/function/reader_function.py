"""A function of another team: it calls Virtuous with the token that TokenReader hands out."""

import json
import os
from typing import Any
from urllib.request import Request, urlopen

import boto3
from botocore.exceptions import ClientError

from virtuous_token import TokenReader

# A second, so that a refresh is seen at once. Leave it out in earnest: an hour is soon enough for a fortnight's token.
reader = TokenReader(max_age_seconds=1)


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """The organisation behind the token; or, for ``{"secret": NAME}``, what comes of reading that secret."""
    if "secret" in event:
        return _read(event["secret"])
    request = Request(
        os.environ["VIRTUOUS_BASE_URL"] + "/api/Organization/Current", headers={"Authorization": reader.authorization()}
    )
    with urlopen(request, timeout=10) as answer:
        return {"status": answer.status, "organization": json.load(answer)["organizationName"]}


def _read(secret_id: str) -> dict[str, Any]:
    try:
        boto3.client("secretsmanager").get_secret_value(SecretId=secret_id)
    except ClientError as error:
        return {"read": False, "code": error.response["Error"]["Code"]}
    return {"read": True}
