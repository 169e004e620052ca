"""Where a token comes from, as the auth objects see it: a reader, or for tests a fixed token."""

from __future__ import annotations

from typing import Protocol

from .secret_text import SecretText

__all__ = ["StaticToken", "TokenSource"]


class TokenSource(Protocol):
    """What the objects for requests, httpx, urllib3 and aiohttp ask for. :class:`.TokenReader` is the one to use."""

    @property
    def base_url(self) -> str | None:
        """The address that the token is for, where that is known. The token is sent to no other host."""

    def token(self, timeout: float | None = None) -> str:
        """The token. Waits at most *timeout* seconds, or as long as the source itself allows. Raises NoToken."""

    def authorization(self, timeout: float | None = None) -> str:
        """The value of the ``Authorization`` header, as :meth:`token` otherwise."""

    def token_without_waiting(self) -> str | None:
        """The token, or None where :meth:`token` would wait. Raises nothing."""

    async def async_token(self) -> str:
        """As :meth:`token`, without holding up the event loop (asyncio's or trio's)."""

    def rejected(self, token: str) -> bool:
        """Say that Virtuous answered 401 to *token*. True if :meth:`token` now gives another one."""

    async def async_rejected(self, token: str) -> bool:
        """As :meth:`rejected`, without holding up the event loop."""


class StaticToken:
    """A token that never changes: for your own tests, and for programs that run without AWS.

    *base_url* is the address that the token is for; with None it may be sent to any host. Its repr hides the token.
    It cannot be pickled, since the token would leave the process in plain text.
    """

    __slots__ = ("_token", "base_url")

    def __init__(self, token: str, base_url: str | None = None) -> None:
        if not token or not token.isascii() or any(not "!" <= character <= "~" for character in token):
            raise ValueError("a token is visible ASCII without spaces")  # what it was is not said: it may be a secret
        self._token = SecretText(token)
        self.base_url = base_url

    def token(self, timeout: float | None = None) -> str:
        return self._token.reveal()

    def authorization(self, timeout: float | None = None) -> str:
        return f"Bearer {self._token.reveal()}"

    def token_without_waiting(self) -> str | None:
        return self._token.reveal()

    async def async_token(self) -> str:
        return self._token.reveal()

    def rejected(self, token: str) -> bool:
        """False if *token* is this one: there is no other."""
        return token != self._token.reveal()

    async def async_rejected(self, token: str) -> bool:
        return self.rejected(token)

    def __repr__(self) -> str:
        return f"StaticToken(***, base_url={self.base_url!r})"
