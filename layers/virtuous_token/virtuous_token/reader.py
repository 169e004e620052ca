"""The current Virtuous bearer token: from memory, renewed in the background, never one that has expired.

What it costs: a call that finds a fresh token in memory compares the clock with stored instants and returns the text.
The first call waits for one read of Secrets Manager, however many threads and tasks make it. After that nobody waits as
long as the token in hand works: the call that finds it old begins a read in another thread and returns what is there.
Where reads fail, the token in hand is served to its own end, then one clear error is raised.

Instants are seconds of the wall clock since 1970, on purpose: a function that was frozen between invocations, or
restored from a snapshot, then knows how much time has passed. Where the clock is put back to before the last read, the
secret is read again.
"""

from __future__ import annotations

import time
from _collections_abc import Callable  # as in collections.abc, without the rest of collections

from .errors import NotConfigured
from .pending_read import Failure
from .single_read import SECRET_VARIABLE
from .waiting import WaitingCallers, is_in_use_here

TYPE_CHECKING = False  # as in held_token.py
if TYPE_CHECKING:
    import datetime as dt
    import typing

    from . import clients
else:

    class _Later:
        """A module that annotations name; it is imported when somebody resolves them, since its import takes long."""

        def __init__(self, name: str) -> None:
            self.__name = name

        def __getattr__(self, attribute: str) -> object:
            return getattr(__import__(self.__name, fromlist=[attribute]), attribute)

    dt, typing, clients = _Later("datetime"), _Later("typing"), _Later(f"{__package__}.clients")

__all__ = ["SECRET_VARIABLE", "TokenReader", "async_bearer_token", "bearer_token", "process_reader"]


class TokenReader(WaitingCallers):
    """Hands out the bearer token that one secret holds. Make one for each secret and share it among all threads.

    *secret_id* is the name or the ARN of a bearer secret; without it the environment variable
    ``VIRTUOUS_BEARER_SECRET`` is read when the first token is asked for. *client* is a Secrets Manager client of boto3
    or botocore; without it the reader makes one of its own, with short timeouts, when it first reads. That asks the
    Region of the ARN, else of ``AWS_REGION``, else of ``AWS_DEFAULT_REGION``, else of the profile.

    *max_age_seconds* (1 or more) bounds how long a token that is in use is served before the secret is read again: a
    new token is in use at most that long after it was published. It costs 24 reads a day at its default of one hour.
    *cool_down_seconds* is the least time between two reads that :meth:`rejected` makes for one token. *timeout_seconds*
    bounds a whole read, credentials, name resolution and retries included. *clock* gives the seconds since 1970.

    Nothing is read, and botocore is not imported, before the first token is asked for. Reads are made in a thread of
    the reader's. A reader that makes its own client may be used on both sides of a fork, whenever it happens: each side
    has its own connection. One that was given a *client* may not, since both sides would use that one's connections:
    make another reader in the child. A copy is the same reader. Pickled are its settings, never a token.
    """

    __slots__ = ()

    def __init__(
        self,
        secret_id: str | None = None,
        *,
        client: clients.SecretsManager | clients.BotocoreClient | None = None,
        max_age_seconds: float = 3600.0,
        cool_down_seconds: float = 60.0,
        timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if secret_id is not None and not secret_id.strip():
            raise ValueError("secret_id is empty")
        if not 1 <= max_age_seconds < float("inf"):
            raise ValueError("max_age_seconds must be 1 or more; after a 401, rejected(token) reads at once")
        if not cool_down_seconds >= 0:
            raise ValueError("cool_down_seconds must be 0 or more")
        if not 0 < timeout_seconds <= 3600:
            raise ValueError("timeout_seconds must be more than 0 and at most an hour")
        super().__init__(secret_id, client, max_age_seconds, cool_down_seconds, timeout_seconds, clock)

    def token(self, timeout: float | None = None) -> str:
        """The token, at most ``max_age_seconds`` old when it is in steady use, and never one that has expired.

        Waits only where no token is in hand, or where the one in hand has expired: at most *timeout* seconds, or
        ``timeout_seconds`` where that is less or *timeout* is None. Where the wait ends before the read, the read goes
        on for others. Raises NoToken or UnreadableSecret.
        """
        held = self._held
        if held.read_at <= self._clock() < held.refresh_after:
            return held.token
        return (self._usable() or self._awaited(timeout)).token

    def authorization(self, timeout: float | None = None) -> str:
        """The value of the ``Authorization`` header: ``Bearer`` and the token. As :meth:`token` otherwise."""
        held = self._held
        if held.read_at <= self._clock() < held.refresh_after:
            return held.authorization
        return (self._usable() or self._awaited(timeout)).authorization

    def token_without_waiting(self) -> str | None:
        """The token as :meth:`token` gives it, or None where that would wait: then a read is begun. Raises nothing."""
        held = self._usable()
        if held is None and not is_in_use_here(self):
            self._renew()
        return None if held is None else held.token

    async def async_token(self) -> str:
        """As :meth:`token`, for asyncio and trio: the event loop goes on, and no thread waits."""
        return (self._usable() or await self._async_awaited()).token

    def rejected(self, token: str) -> bool:
        """Say that Virtuous answered 401 to *token*. True if :meth:`token` now gives another one to try, once.

        Reads the secret again and waits for that, however many threads complain; again for the same token only after
        ``cool_down_seconds``. Never raises because a read failed.
        """
        until = time.monotonic() + self._timeout_seconds
        if not is_in_use_here(self):
            for pending in self._reads_after_a_401(token):
                self._wait(pending, until - time.monotonic())
        return self._has_another_than(token)

    async def async_rejected(self, token: str) -> bool:
        """As :meth:`rejected`, for asyncio and trio: the event loop goes on, and no thread waits."""
        for pending in self._reads_after_a_401(token):
            await self._async_wait(pending)
        return self._has_another_than(token)

    @property
    def expires_at(self) -> dt.datetime | None:
        """When the token in hand ends, in UTC. None until a read, and where the end is not known (an API key)."""
        return self._held.expires_at

    @property
    def base_url(self) -> str | None:
        """The address that the token in hand is for. None until a read, and where the secret does not name one."""
        return self._held.base_url

    @property
    def organization_name(self) -> str | None:
        """The organisation that the token in hand belongs to, under the same conditions as :attr:`base_url`."""
        return self._held.organization_name

    def close(self) -> None:
        """Forgets the token and closes the client that the reader made. Afterwards there is no token to be had."""
        self._close(Failure(NotConfigured, "this reader was closed: make another one"))

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._secret_id is None:
            return "TokenReader(None)"
        from .secret_name import shown

        return f"TokenReader({shown(self._secret_id)})"

    def __copy__(self) -> typing.Self:
        return self

    def __deepcopy__(self, _: object) -> typing.Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., TokenReader], tuple[typing.Any, ...]]:
        if self is _reader_of_the_process:
            return process_reader, ()
        if self._given_client is not None:
            raise TypeError("a TokenReader with a client of yours cannot be pickled: make one in the other process")
        settings = {
            "max_age_seconds": self._max_age_seconds,
            "cool_down_seconds": self._cool_down_seconds,
            "timeout_seconds": self._timeout_seconds,
            "clock": self._clock,
        }
        return _with_settings, (type(self), self._secret_id, settings)


def _with_settings(kind: type[TokenReader], secret_id: str | None, settings: dict[str, typing.Any]) -> TokenReader:
    """What a pickle of a reader is read with."""
    return kind(secret_id, **settings)


_reader_of_the_process = TokenReader()


def process_reader() -> TokenReader:
    """The reader behind :func:`bearer_token`, whose secret ``VIRTUOUS_BEARER_SECRET`` names."""
    return _reader_of_the_process


def bearer_token() -> str:
    """The token of the secret that ``VIRTUOUS_BEARER_SECRET`` names, from one reader for the whole process.

    As :meth:`TokenReader.token`.
    """
    return _reader_of_the_process.token()


async def async_bearer_token() -> str:
    """As :func:`bearer_token`, for asyncio and trio: the event loop goes on, and no thread waits."""
    return await _reader_of_the_process.async_token()
