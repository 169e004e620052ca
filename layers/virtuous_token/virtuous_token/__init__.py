"""Reads the current Virtuous bearer token from AWS Secrets Manager::

    from virtuous_token import TokenReader

    reader = TokenReader("virtuous/default/bearer")
    headers = {"Authorization": reader.authorization()}

Importing it reads nothing and imports neither botocore nor boto3.
"""

from __future__ import annotations

from .errors import (
    NoSuchSecret,
    NotAllowed,
    NotConfigured,
    NotLoggedIn,
    NoToken,
    TokenExpired,
    Unreachable,
    UnreadableSecret,
    UntrustedURL,
    VirtuousTokenError,
)
from .reader import TokenReader, bearer_token

__all__ = [
    "NoSuchSecret",
    "NoToken",
    "NotAllowed",
    "NotConfigured",
    "NotLoggedIn",
    "TokenExpired",
    "TokenReader",
    "Unreachable",
    "UnreadableSecret",
    "UntrustedURL",
    "VirtuousTokenError",
    "bearer_token",
]
