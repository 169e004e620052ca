"""A secret's name as texts may show it: a token that somebody put in its place must not be quoted, or sent to AWS."""

from __future__ import annotations

import re

__all__ = ["can_be_name", "shown"]

# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html; the exclamation mark is in the
# names that AWS itself gives.
_NAME = re.compile(r"[A-Za-z0-9/_+=.@!-]{1,512}")
_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]*:\d{12}:secret:[A-Za-z0-9/_+=.@!-]{1,512}")
# A JSON Web Token, and text of one piece that is longer than anybody's names.
_TOKEN = re.compile(r"(?:^|[^A-Za-z0-9])eyJ[A-Za-z0-9_-]{8}|^[^/]{100}")
_RANDOM = re.compile(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{12,}")


def can_be_name(text: str) -> bool:
    """False where *text* is no name and no ARN of a secret, or looks like a token: it must not be sent to AWS, whose
    logs keep the names that were asked for."""
    return bool(_ARN.fullmatch(text) or (_NAME.fullmatch(text) and not _TOKEN.search(text)))


def shown(text: str) -> str:
    """*text* in quotes, what looks random in it as stars; nothing of it where it cannot be a name."""
    if not can_be_name(text):
        return f"(a text of {len(text)} characters that is not shown)"
    return repr(_RANDOM.sub("***", text))
