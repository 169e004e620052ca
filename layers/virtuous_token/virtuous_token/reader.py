"""The current Virtuous bearer token: from memory, renewed in the background, never one that has expired.

A call that finds a fresh token in memory compares the clock with stored instants and returns the text. The first call
makes one read of Secrets Manager in its own thread; whoever comes meanwhile waits for that. After that nobody waits as
long as the token in hand works: the call that finds it old has another thread read again, and returns what is there.
Where reads fail, the token in hand is served to its own end, then one clear error is raised.

Instants are seconds of the wall clock since 1970, on purpose: a function that was frozen between invocations, or
restored from a snapshot, then knows how much time has passed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Self

from . import _shared_read
from ._shared_read import NOTHING, CachedToken, Failure, Outcome, Read, SharedRead, nothing
from .errors import NotConfigured, Unreachable, shown
from .token_source import AccessToken, BotocoreClient, SecretsManager

__all__ = ["SECRET_VARIABLE", "TokenReader", "async_bearer_token", "bearer_token", "process_reader"]

SECRET_VARIABLE = "VIRTUOUS_BEARER_SECRET"


class TokenReader(SharedRead):
    """Hands out the bearer token that one secret holds. Make one for each secret and share it among all threads.

    *secret_id* is the name or the ARN of a bearer secret; without it the environment variable
    ``VIRTUOUS_BEARER_SECRET`` is read when the first token is asked for. *client* is a Secrets Manager client of boto3
    or botocore, whose time-outs then count. Without it the reader makes one when it first reads, for the Region of the
    ARN, else of ``AWS_REGION``, else of ``AWS_DEFAULT_REGION``, else of the profile.

    *max_age_seconds* (1 or more) bounds how long a token that is in use is served before the secret is read again.
    *cool_down_seconds* is the least time between two reads that :meth:`report_rejected` makes for one token.
    *timeout_seconds* bounds a wait for another thread's read; the time-outs of the reader's own clients, STS's
    included, follow from it. *clock* gives the seconds since 1970.

    A reader may be used on both sides of a fork, whenever it happens, unless it was given a *client*. A copy is the
    same reader. Pickled are its settings, never a token.
    """

    __slots__ = ("_cool_down_seconds", "_found_id", "_given_client", "_refused", "_secret_id")

    def __init__(
        self,
        secret_id: str | None = None,
        *,
        client: SecretsManager | BotocoreClient | None = None,
        max_age_seconds: float = 3600.0,
        cool_down_seconds: float = 60.0,
        timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if secret_id is not None and not secret_id.strip():
            raise ValueError("secret_id is empty")
        if not 1 <= max_age_seconds < float("inf"):
            raise ValueError("max_age_seconds must be 1 or more; after a 401, report_rejected(token) reads at once")
        if not cool_down_seconds >= 0:
            raise ValueError("cool_down_seconds must be 0 or more")
        if not 0 < timeout_seconds <= 3600:
            raise ValueError("timeout_seconds must be more than 0 and at most an hour")
        super().__init__(clock, max_age_seconds, timeout_seconds)
        self._secret_id = secret_id
        self._given_client: Any = client
        self._cool_down_seconds = cool_down_seconds
        self._found_id: str | None = None
        self._refused = ("", float("-inf"))

    def token(self, timeout: float | None = None) -> str:
        """The token, at most ``max_age_seconds`` old when it is in steady use, and never one that has expired.

        Where none is in hand, or the one in hand has expired, this makes the read, or waits for another thread's.
        *timeout* bounds that to so many seconds: then a thread of its own makes the read, and goes on for others.
        Raises NoToken or UnreadableSecret.
        """
        cached = self._cached
        if cached.read_at <= self._clock() < cached.refresh_after:
            return cached.token
        return self._current(timeout).token

    def authorization(self, timeout: float | None = None) -> str:
        """The value of the ``Authorization`` header: ``Bearer`` and the token. As :meth:`token` otherwise."""
        cached = self._cached
        if cached.read_at <= self._clock() < cached.refresh_after:
            return cached.authorization
        return self._current(timeout).authorization

    def access_token(self, timeout: float | None = None) -> AccessToken:
        """The token together with its end and what it is for, all of one read. As :meth:`token` otherwise."""
        return self._current(timeout).access_token

    def cached_token(self) -> str | None:
        """The token as :meth:`token` gives it, or None where that would wait: then a read is begun. Raises nothing."""
        cached = self._usable(may_read_here=False)
        if cached is None:
            self._renew(may_read_here=False)
        return None if cached is None else cached.token

    async def async_token(self, timeout: float | None = None) -> str:
        """As :meth:`token`, for asyncio and trio: the event loop goes on, and no task takes a thread to wait."""
        return (await self._async_current(timeout)).token

    async def async_access_token(self, timeout: float | None = None) -> AccessToken:
        """As :meth:`access_token`, for asyncio and trio."""
        return (await self._async_current(timeout)).access_token

    def report_rejected(self, token: str, timeout: float | None = None) -> bool:
        """Say that Virtuous answered 401 to *token*. True if :meth:`token` now gives another one to try, once.

        Reads the secret again and waits for that, however many threads complain; again for the same token only after
        ``cool_down_seconds``. Never raises because a read failed.
        """
        until = _until(timeout)
        for read in self._reads_after_a_401(token):
            self._complete(read, _left(until))
        return self._has_another_than(token)

    async def async_report_rejected(self, token: str, timeout: float | None = None) -> bool:
        """As :meth:`report_rejected`, for asyncio and trio."""
        until = _until(timeout)
        for read in self._reads_after_a_401(token):
            await self._async_complete(read, _left(until))
        return self._has_another_than(token)

    rejected = report_rejected
    async_rejected = async_report_rejected

    @property
    def expires_at(self) -> datetime | None:
        """When the token in hand ends, in UTC. None until a read, and where the end is not known (an API key)."""
        return self._cached.access_token.expires_at

    @property
    def base_url(self) -> str | None:
        """The address that the token in hand is for. None until a read, and where the secret does not name one."""
        return self._cached.access_token.base_url

    @property
    def organization_name(self) -> str | None:
        """The organisation that the token in hand belongs to, under the same conditions as :attr:`base_url`."""
        return self._cached.access_token.organization_name

    def forget(self) -> None:
        """Forgets the token, the client, and a secret that the environment named: the next call begins as the first
        one did. For tests, and after credentials or settings have changed."""
        with self._lock:
            self._cached, self._failure, self._client, self._read = nothing(self._reads), self._closed(), None, None
            self._found_id, self._refused = None, ("", float("-inf"))

    def close(self) -> None:
        """Forgets the token and closes the client that the reader made. Afterwards there is no token to be had."""
        with self._lock:
            self._is_closed, self._cached = True, NOTHING
            self._failure = self._closed()
            client, self._client = self._client, None
            read, self._read = self._read, None
        if read is not None:
            read.settle(self._failure)
            read.wake_all()
        if client is not None and self._given_client is None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TokenReader({'None' if self._secret_id is None else shown(self._secret_id)})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., TokenReader], tuple[()]]:
        if self is _reader_of_the_process:
            return process_reader, ()
        if self._given_client is not None:
            raise TypeError("a TokenReader with a client of yours cannot be pickled: make one in the other process")
        settings: dict[str, Any] = {
            "max_age_seconds": self._max_age_seconds,
            "cool_down_seconds": self._cool_down_seconds,
            "timeout_seconds": self._timeout_seconds,
            "clock": self._clock,
        }
        return partial(type(self), self._secret_id, **settings), ()

    def _usable(self, *, may_read_here: bool = True) -> CachedToken | None:
        """The token in hand if it works, its renewal begun where that is due. None where a caller has to wait."""
        cached, now = self._cached, self._clock()
        if now >= cached.usable_until:
            return None
        if not cached.is_fresh(now):
            self._renew(may_read_here=may_read_here)
        return cached

    def _renew(self, *, may_read_here: bool) -> None:
        """Begins a read that nobody waits for. Where no thread can be had, this one makes it, if it may."""
        read = self._joined(self._is_due)
        if read is not None and not self._hand_over(read):
            if may_read_here:
                self._make(read)
            else:
                self._end(read, NO_THREAD)

    def _current(self, timeout: float | None) -> CachedToken:
        until, found = _until(timeout), self._usable()
        while found is None:
            read = self._joined(self._is_due)
            found = self._found(read, self._complete(read, _left(until)) if read else None)
        return found

    async def _async_current(self, timeout: float | None) -> CachedToken:
        until, found = _until(timeout), self._usable(may_read_here=False)
        while found is None:
            read = self._joined(self._is_due)
            found = self._found(read, await self._async_complete(read, _left(until)) if read else None)
        return found

    async def _async_complete(self, read: Read, timeout: float | None) -> Outcome:
        if not self._hand_over(read):
            self._end(read, NO_THREAD)
        from .async_wait import wait_until_called

        left = read.seconds_left()
        await wait_until_called(read.on_end, left if timeout is None else min(timeout, left))
        return self._after_wait(read, timeout)

    def _found(self, read: Read | None, outcome: Outcome) -> CachedToken | None:
        """The token that *read* brought, or without a read the one in hand. None where another read may begin. Raises
        what the read ended in."""
        outcome = outcome if read is not None else self._usable(may_read_here=False)
        if isinstance(outcome, CachedToken):
            return outcome
        failure = outcome or self._failure
        if failure is not None and (outcome or self._is_closed or failure.lasts(self._clock())):
            raise failure.error()
        return None

    def _reads_after_a_401(self, token: str) -> Iterator[Read]:
        """The reads to wait for, one after the other, until there is another token than *token*: the one under way,
        which may have begun before the 401, and one that begins after it."""
        began = self._reads
        while not self._has_another_than(token):
            read = self._joined(partial(self._is_due_after_a_401, token))
            if read is None:
                return
            yield read
            if read.number > began or isinstance(read.outcome, Failure) or not read.is_done:
                return

    def _is_due_after_a_401(self, token: str, now: float) -> bool:
        """Whether to read the secret because *token* was refused: at once, then once in a cool-down as long as it is
        this token that the secret holds."""
        refused, at = self._refused
        if refused == token and at <= now < at + self._cool_down_seconds:
            return False
        self._refused = token, now
        return True

    def _has_another_than(self, token: str) -> bool:
        cached = self._cached
        return cached.token != token and self._clock() < cached.usable_until

    def _closed(self) -> Failure | None:
        return Failure(NotConfigured, "this reader was closed: make another one") if self._is_closed else None

    def _load(self, read: Read) -> CachedToken:
        with _shared_read.imports:
            from .secrets_manager import SecretClient, expired, read_bearer
        secret_id = self._secret_id or self._found_id or os.environ.get(SECRET_VARIABLE, "").strip()
        if not secret_id:
            raise NotConfigured(f"name the bearer secret, as TokenReader's argument or in {SECRET_VARIABLE}")
        client = self._client
        if client is None:
            given = self._given_client
            client = SecretClient.open(secret_id, self._timeout_seconds) if given is None else SecretClient(given)
            self._found_id, self._client = secret_id, client
        bearer = read_bearer(secret_id, client)
        cached = CachedToken.of(bearer, read, self._max_age_seconds, is_first=self._cached.number == 0)
        if self._clock() >= cached.usable_until:
            raise expired(bearer, secret_id)
        return cached


NO_THREAD = Failure(Unreachable, "no thread could be started to read the token; later calls try again")


def _until(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


_reader_of_the_process = TokenReader()


def process_reader() -> TokenReader:
    """The reader behind :func:`bearer_token`, whose secret ``VIRTUOUS_BEARER_SECRET`` names."""
    return _reader_of_the_process


def bearer_token(timeout: float | None = None) -> str:
    """The token of the secret that ``VIRTUOUS_BEARER_SECRET`` names, from one reader for the whole process.

    As :meth:`TokenReader.token`.
    """
    return _reader_of_the_process.token(timeout)


async def async_bearer_token(timeout: float | None = None) -> str:
    """As :func:`bearer_token`, for asyncio and trio."""
    return await _reader_of_the_process.async_token(timeout)
