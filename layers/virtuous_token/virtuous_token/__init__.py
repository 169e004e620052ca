"""Reads the current Virtuous bearer token from AWS Secrets Manager::

    from virtuous_token import TokenReader

    reader = TokenReader("virtuous/default/bearer")
    headers = {"Authorization": reader.authorization()}

Importing it reads nothing and imports neither botocore nor boto3.
"""

from __future__ import annotations

# The version of the whole release: function, command and both wheels take it from here. It comes first, so that whoever
# is imported below may ask for it.
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

TYPE_CHECKING = False  # type checkers take it for typing's, whose import takes longer than the rest of the package
if TYPE_CHECKING:
    from .reader import TokenReader, async_bearer_token, bearer_token
    from .token_source import StaticToken, TokenSource

__all__ = [
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
]


def __getattr__(name: str) -> object:
    """What not every program needs is imported when it is asked for: the refresher writes and reads no bearer."""
    if name in {"TokenReader", "async_bearer_token", "bearer_token"}:
        from . import reader

        return getattr(reader, name)
    if name in {"StaticToken", "TokenSource"}:
        from . import token_source

        return getattr(token_source, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
