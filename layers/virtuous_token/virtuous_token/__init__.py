"""Reads the current Virtuous bearer token from AWS Secrets Manager::

    from virtuous_token import TokenReader

    reader = TokenReader("virtuous/default/bearer")
    headers = {"Authorization": reader.authorization()}

Importing it reads nothing and imports neither botocore nor boto3.
"""

from __future__ import annotations

# The version of the whole release: function, command and both wheels take it from here.
__version__ = "2.0.0"

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
from .reader import TokenReader, async_bearer_token, bearer_token, process_reader
from .token_source import AccessToken, StaticToken, TokenSource

__all__ = [
    "AccessToken",
    "NoSuchSecret",
    "NoToken",
    "NotAllowed",
    "NotConfigured",
    "NotLoggedIn",
    "StaticToken",
    "TokenExpired",
    "TokenReader",
    "TokenSource",
    "Unreachable",
    "UnreadableSecret",
    "UntrustedURL",
    "VirtuousTokenError",
    "async_bearer_token",
    "bearer_token",
    "process_reader",
]
