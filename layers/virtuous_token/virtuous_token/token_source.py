"""Where a token comes from, as the auth objects see it: a reader, or for tests a fixed token."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol, Self

from .secret_text import SecretText


class AccessToken(NamedTuple):
    """A token with its end, in UTC, and what it is for; None where that is not known. Its repr hides the token."""

    token: str
    expires_at: datetime | None = None
    base_url: str | None = None
    organization_name: str | None = None

    def __repr__(self) -> str:
        return f"AccessToken(***, expires_at={self.expires_at!r}, base_url={self.base_url!r})"


class TokenSource(Protocol):
    """What the objects for requests, httpx, urllib3 and aiohttp ask for. :class:`.TokenReader` is the one to use."""

    @property
    def base_url(self) -> str | None:
        """The address that the token is for, where that is known. The token is sent to no other host."""

    def token(self, timeout: float | None = None) -> str:
        """The token. Waits at most *timeout* seconds, or as long as the source itself allows. Raises NoToken."""

    async def async_token(self, timeout: float | None = None) -> str:
        """As :meth:`token`, without holding up the event loop (asyncio's or trio's)."""

    def report_rejected(self, token: str) -> bool:
        """Say that Virtuous answered 401 to *token*. True if :meth:`token` now gives another one."""

    async def async_report_rejected(self, token: str) -> bool:
        """As :meth:`report_rejected`, without holding up the event loop."""


class BaseSource:
    """What a reader and a fixed token have in common: everything that follows from :meth:`access_token`."""

    def access_token(self, timeout: float | None = None) -> AccessToken:
        raise NotImplementedError

    async def async_access_token(self, timeout: float | None = None) -> AccessToken:
        """As :meth:`access_token`, for asyncio and trio."""
        return self.access_token(timeout)

    def token(self, timeout: float | None = None) -> str:
        return self.access_token(timeout).token

    async def async_token(self, timeout: float | None = None) -> str:
        """As :meth:`token`, for asyncio and trio: the event loop goes on, and no task takes a thread to wait."""
        return (await self.async_access_token(timeout)).token

    def authorization(self, timeout: float | None = None) -> str:
        """The value of the ``Authorization`` header: ``Bearer`` and the token. As :meth:`token` otherwise."""
        return f"Bearer {self.token(timeout)}"

    def report_rejected(self, token: str, timeout: float | None = None) -> bool:
        """False if *token* is this one: there is no other."""
        return token != self.token()

    async def async_report_rejected(self, token: str, timeout: float | None = None) -> bool:
        """As :meth:`report_rejected`, for asyncio and trio."""
        return self.report_rejected(token)

    def rejected(self, token: str, timeout: float | None = None) -> bool:
        """The older name of :meth:`report_rejected`."""
        return self.report_rejected(token, timeout)

    async def async_rejected(self, token: str, timeout: float | None = None) -> bool:
        """The older name of :meth:`async_report_rejected`."""
        return await self.async_report_rejected(token, timeout)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class StaticToken(BaseSource):
    """A token that never changes, in place of a reader: for your own tests, and for programs that run without AWS.

    *base_url* is the address that the token is for; with None it may be sent to any host. Its repr hides the token.
    It cannot be pickled, since the token would leave the process in plain text.
    """

    def __init__(self, token: str, base_url: str | None = None) -> None:
        from .contract import can_be_header

        if not can_be_header(token):
            raise ValueError("a token is visible ASCII without spaces or quotes")  # which it was not is a secret
        self._token = SecretText(token)
        self.base_url = base_url

    def access_token(self, timeout: float | None = None) -> AccessToken:
        return AccessToken(self._token.reveal(), base_url=self.base_url)

    def cached_token(self) -> str | None:
        return self._token.reveal()

    def __repr__(self) -> str:
        return f"StaticToken(***, base_url={self.base_url!r})"
