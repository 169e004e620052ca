"""Every error that this package raises, with what to do about it in its text; those without a token are NoToken.

No error's text holds a secret, nor does any exception that it was caused by.
"""

from __future__ import annotations

import re


class VirtuousTokenError(Exception):
    """Base of every error that this package raises."""


class UnreadableSecret(VirtuousTokenError):
    """The value of a secret is not in its format; the text says what is wrong, never the value."""


class UntrustedURL(VirtuousTokenError, ValueError):
    """A request was not sent: the token goes out over https or to loopback only, and only to the host of Virtuous."""


class NoToken(VirtuousTokenError):
    """There is no bearer token to hand out; the subclass says why."""


class NotConfigured(NoToken):
    """This process names no secret, or has no usable AWS credentials or Region: set them."""


class NotAllowed(NoToken):
    """AWS refuses this process the secret or its key: attach the reader policy, and allow kms:Decrypt on the key."""


class NoSuchSecret(NoToken):
    """The secret is not in this account and Region, or it is marked for deletion: name another or restore it."""


class NotLoggedIn(NoToken):
    """The secret has no value yet: an operator must run ``virtuous-token login``."""


class TokenExpired(NoToken):
    """The stored token has expired and nothing replaced it: look at the refresher's alarms, it may need a login."""


class Unreachable(NoToken):
    """Secrets Manager or what gives AWS credentials did not answer: nothing to mend here, later calls try again."""


# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html; the exclamation mark is in the
# names that AWS itself gives. Compiled when they are used, since that takes longer than the import of this module.
_NAME = r"(arn:aws[a-z-]*:secretsmanager:[a-z0-9-]*:\d{12}:secret:)?[A-Za-z0-9/_+=.@!-]{1,512}"
_JSON_WEB_TOKEN = r"(?:^|[^A-Za-z0-9])eyJ[A-Za-z0-9_-]{8}"
_RANDOM = r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{12,}"


def can_be_name(text: str) -> bool:
    """False where *text* is no name and no ARN of a secret, or looks like a token: it must not be sent to AWS, whose
    logs keep the names that were asked for."""
    return bool(re.fullmatch(_NAME, text)) and not re.search(_JSON_WEB_TOKEN, text)


def shown(secret_id: str) -> str:
    """A secret's name as texts may show it: what looks random in it as stars; nothing of it where it can be no name."""
    if not can_be_name(secret_id):
        return f"(a text of {len(secret_id)} characters that is not shown)"
    return repr(re.sub(_RANDOM, "***", secret_id))
