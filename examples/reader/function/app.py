"""Calls Virtuous with the token that the refresher keeps."""

import os
from typing import Any

from virtuous_token import TokenReader
from virtuous_token.auth_urllib3 import Urllib3Auth

# Made once for each sandbox. Nothing is read before the first call.
virtuous = Urllib3Auth(TokenReader(max_age_seconds=float(os.environ["MAX_AGE_SECONDS"])))


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Virtuous's status, and the name of the organization behind the token."""
    url = os.environ["VIRTUOUS_BASE_URL"] + "/api/Organization/Current"
    answer = virtuous.request("GET", url, timeout=10, retries=False)
    organization = answer.json()["organizationName"] if answer.status == 200 else None
    return {"status": answer.status, "organization": organization}
