"""Signs requests to the two endpoints of Virtuous that take nothing but an HMAC signature.

**Not confirmed against the live service.** The scheme follows the one public description, of 2017, and was never tried
on Virtuous itself. Only ``GET /api/Contact/ByReference/{id}`` and ``GET /api/Gift/ByReference/{id}`` ask for it;
everything else takes the bearer token.

    keys = HmacKeys.read("virtuous/default/hmac")
    url = "https://api.virtuoussoftware.com/api/Contact/ByReference/12345"
    headers = {"Authorization": keys.authorization("GET", url)}

The secret is one JSON object of an operator's making: ``{"application_key": "…", "private_key": "…"}``, the private key
in base64 as Virtuous shows it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
import uuid
from urllib.parse import quote

from .contract import can_be_header, parse_object
from .errors import UnreadableSecret
from .secret_text import SecretText
from .secrets_manager import SecretClient
from .token_source import BotocoreClient, SecretsManager

TIMEOUT_SECONDS = 30.0


class HmacKeys:
    """An application key and its private key. They do not change; read them once and keep this object."""

    __slots__ = ("_private_key", "application_key")

    def __init__(self, application_key: str, private_key: SecretText) -> None:
        """Raises UnreadableSecret where a key is not what it must be; the text quotes neither."""
        if not can_be_header(application_key) or ":" in application_key:
            raise UnreadableSecret("the application key has a space, a colon, a quote or a non-ASCII character in it")
        if not _decoded(private_key):
            raise UnreadableSecret("the private key is not base64")
        self.application_key = application_key
        self._private_key = private_key

    @classmethod
    def read(cls, secret_id: str, *, client: SecretsManager | BotocoreClient | None = None) -> HmacKeys:
        """The keys that a secret holds, by its name or ARN. Raises NoToken or UnreadableSecret."""
        opened = SecretClient.open(secret_id, TIMEOUT_SECONDS) if client is None else SecretClient(client)
        return opened.parsed(secret_id, cls.parse)

    @classmethod
    def parse(cls, text: str | None) -> HmacKeys:
        """The keys in a secret's value. White space around them is taken off. Raises UnreadableSecret."""
        stored = parse_object(text, "the HMAC secret")
        application_key, private_key = stored.get("application_key"), stored.get("private_key")
        if not isinstance(application_key, str) or not isinstance(private_key, str):
            raise UnreadableSecret("the HMAC secret must hold an application_key and a private_key, both text")
        return cls(application_key.strip(), SecretText(private_key.strip()))

    def authorization(self, method: str, url: str, *, nonce: str | None = None, now: float | None = None) -> str:
        """The ``Authorization`` header for one request; each needs one of its own.

        *url* is the whole URL as it is sent. *nonce* is any text that was not used before (without it, a random one),
        *now* the seconds since 1970.
        """
        nonce = uuid.uuid4().hex if nonce is None else nonce
        seconds = int(time.time() if now is None else now)
        to_sign = f"{self.application_key}{quote(url, safe='')}{method}{nonce}{seconds}".lower()
        digest = hmac.digest(_decoded(self._private_key), to_sign.encode(), "sha256")
        return f"Hmac {self.application_key}:{base64.b64encode(digest).decode()}:{nonce}:{seconds}"

    def __repr__(self) -> str:
        return f"HmacKeys({self.application_key!r}, ***)"


def _decoded(private_key: SecretText) -> bytes:
    """Empty where it is no base64: binascii's error stays here, since its frames hold the key."""
    try:
        return base64.b64decode(private_key.reveal(), validate=True)
    except (binascii.Error, ValueError):
        return b""
