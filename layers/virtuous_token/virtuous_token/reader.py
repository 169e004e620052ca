"""The current Virtuous bearer token: from memory, renewed in the background, never one that has expired.

The first call makes one read of Secrets Manager in its own thread; whoever comes meanwhile waits for that. After that
nobody waits as long as the token in hand works: the call that finds it old has another thread read again, and returns
what is there. Where reads fail, the token in hand is served to its own end, then one clear error is raised.

Instants are seconds of the wall clock since 1970, on purpose: a function that was frozen between invocations, or
restored from a snapshot, then knows how much time has passed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from . import _shared_read
from ._cached_token import CachedToken, Failure, no_token
from ._shared_read import CLOSED, Read, SharedRead
from .errors import NotConfigured, Unreachable, VirtuousTokenError, shown
from .token_source import AccessToken, BaseSource
from .waiting import another_token, async_until, renew, until, usable_in_hand, usable_token

SECRET_VARIABLE = "VIRTUOUS_BEARER_SECRET"


class TokenReader(BaseSource):
    """Hands out the bearer token that one secret holds. Make one for each secret and share it among all threads.

    *secret_id* is the name or the ARN of a bearer secret; without it ``VIRTUOUS_BEARER_SECRET`` in the environment
    names it. *client* is a Secrets Manager client of boto3 or botocore, whose time-outs then count. Without it the
    reader makes one when it first reads, for the Region of the ARN, of ``AWS_REGION``, of ``AWS_DEFAULT_REGION`` or of
    the profile, whichever comes first.

    *max_age_seconds* (1 or more) bounds how long a token that is in use is served before the secret is read again.
    *cool_down_seconds* is the least time between two reads that :meth:`report_rejected` makes for one token.
    *timeout_seconds* bounds a wait for another thread's read; the time-outs of the reader's own clients, STS's
    included, follow from it. *clock* gives the seconds since 1970.

    A reader may be used on both sides of a fork, whenever it happens, unless it was given a *client*. A copy is the
    same reader. Pickled are its settings, never a token.
    """

    def __init__(
        self,
        secret_id: str | None = None,
        *,
        client: Any = None,
        max_age_seconds: float = 3600.0,
        cool_down_seconds: float = 60.0,
        timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if secret_id is not None and not secret_id.strip():
            raise ValueError("secret_id is empty")
        if not 1 <= max_age_seconds < float("inf"):
            raise ValueError("max_age_seconds must be 1 or more; after a 401, report_rejected(token) reads at once")
        if not (cool_down_seconds >= 0 and 0 < timeout_seconds <= 3600):
            raise ValueError("cool_down_seconds must be 0 or more, timeout_seconds more than 0 and at most an hour")
        self._clock = clock
        self._settings: dict[str, Any] = {"max_age_seconds": max_age_seconds, "cool_down_seconds": cool_down_seconds}
        self._settings |= {"timeout_seconds": timeout_seconds, "clock": clock}
        self._secret = _Secret(secret_id, client, self._settings)
        self._shared = SharedRead(self._secret, clock, max_age_seconds, timeout_seconds)

    def token(self, timeout: float | None = None) -> str:
        """The token, at most ``max_age_seconds`` old when it is in steady use, and never one that has expired.

        Where none is in hand, or the one in hand has expired, this makes the read, or waits for another thread's.
        *timeout* bounds that to so many seconds: then a thread of its own makes the read, and goes on for others.
        Raises NoToken or UnreadableSecret.
        """
        cached = self._shared.cached
        if cached.read_at <= self._clock() < cached.refresh_after:
            return cached.token
        return self.access_token(timeout).token

    def access_token(self, timeout: float | None = None) -> AccessToken:
        """The token together with its end and what it is for, all of one read. As :meth:`token` otherwise."""
        step = partial(usable_token, self._shared, timeout, may_make=True)
        return until(self._shared, step, timeout).access_token

    def cached_token(self) -> str | None:
        """The token as :meth:`token` gives it, or None where that would wait: then a read is begun. Raises nothing."""
        cached = usable_in_hand(self._shared, may_make=False)
        if cached is not None:
            return cached.token
        renew(self._shared, may_make=False)
        return None

    async def async_access_token(self, timeout: float | None = None) -> AccessToken:
        """As :meth:`access_token`, for asyncio and trio."""
        step = partial(usable_token, self._shared, timeout, may_make=False)
        return (await async_until(self._shared, step, timeout)).access_token

    def report_rejected(self, token: str, timeout: float | None = None) -> bool:
        """Say that Virtuous answered 401 to *token*. True if :meth:`token` now gives another one to try, once.

        Reads the secret again and waits for that, however many threads complain; again for the same token only after
        ``cool_down_seconds``. Never raises because a read failed.
        """
        return until(self._shared, self._until_another_than(token), timeout)

    async def async_report_rejected(self, token: str, timeout: float | None = None) -> bool:
        """As :meth:`report_rejected`, for asyncio and trio."""
        return await async_until(self._shared, self._until_another_than(token), timeout)

    def _until_another_than(self, token: str) -> Callable[[Read | None], bool | Read]:
        return partial(another_token, self._shared, token, self._settings["cool_down_seconds"], self._shared.reads)

    @property
    def expires_at(self) -> datetime | None:
        """When the token in hand ends, in UTC. None until a read, and where the end is not known (an API key)."""
        return self._shared.cached.access_token.expires_at

    @property
    def base_url(self) -> str | None:
        """The address that the token in hand is for. None until a read, and where the secret does not name one."""
        return self._shared.cached.access_token.base_url

    @property
    def organization_name(self) -> str | None:
        """The organisation that the token in hand belongs to, under the same conditions as :attr:`base_url`."""
        return self._shared.cached.access_token.organization_name

    def forget(self) -> None:
        """Begins anew: without a token, a client, and a secret that the environment named. For tests, and after
        credentials or settings have changed."""
        self._shared.reset(no_token(self._shared.reads), None)

    def close(self) -> None:
        """Forgets the token and closes the client that the reader made. Afterwards there is no token to be had."""
        opened = self._secret.opened if self._secret.given is None else None
        self._shared.reset(no_token(float("inf")), CLOSED)
        if opened is not None:
            opened.close()

    def __repr__(self) -> str:
        return f"TokenReader({'None' if self._secret.name is None else shown(self._secret.name)})"

    def __reduce__(self) -> tuple[Callable[..., TokenReader], tuple[()]]:
        if self is _of_the_process.get("reader"):
            return process_reader, ()
        if self._secret.given is not None:
            raise TypeError("a TokenReader with a client of yours cannot be pickled: make one in the other process")
        return partial(TokenReader, self._secret.name, **self._settings), ()


class _Secret:
    """The bearer secret, and the client that reads it, which is made when it is first needed."""

    def __init__(self, name: str | None, given: Any, settings: dict[str, Any]) -> None:
        self.name = name
        self.given = given
        self.opened: Any = None
        self._settings = settings

    def load(self, read: Read, is_first: bool) -> CachedToken | Failure:
        """What the secret holds now, or why that can't be had: in words alone, for an error leads to what was sent or
        answered. What a signal handler raises is no error of ours, and is raised."""
        try:
            return self._load(read, is_first)
        except VirtuousTokenError as error:
            return Failure(type(error), str(error))
        except Exception as error:
            from .secrets_manager import is_of_a_signal_handler

            if is_of_a_signal_handler(error):
                raise
            what = type(error).__name__  # not its text: nobody knows what that quotes
            return Failure(Unreachable, f"reading the token ended in an unexpected {what}")

    def _load(self, read: Read, is_first: bool) -> CachedToken:
        with _shared_read.imports:
            from .secrets_manager import BearerSecret
        opened = self.opened
        if opened is None:
            name = self.name or os.environ.get(SECRET_VARIABLE, "").strip()
            if not name:
                raise NotConfigured(f"name the bearer secret, as TokenReader's argument or in {SECRET_VARIABLE}")
            given, seconds = self.given, self._settings["timeout_seconds"]
            self.opened = opened = BearerSecret.open(name, seconds) if given is None else BearerSecret.of(name, given)
        bearer = opened.read()
        max_age_seconds = self._settings["max_age_seconds"]
        cached = CachedToken.of(bearer, read.number, read.began_at, max_age_seconds, is_first=is_first)
        if self._settings["clock"]() >= cached.usable_until:
            raise opened.expired(bearer)
        return cached

    def drop_client(self) -> None:
        self.opened = None


_of_the_process: dict[str, TokenReader] = {}


def process_reader() -> TokenReader:
    """The reader behind :func:`bearer_token`, whose secret ``VIRTUOUS_BEARER_SECRET`` names."""
    return _of_the_process.get("reader") or _of_the_process.setdefault("reader", TokenReader())


def bearer_token(timeout: float | None = None) -> str:
    """As :meth:`TokenReader.token`, from one reader for the whole process."""
    return process_reader().token(timeout)


async def async_bearer_token(timeout: float | None = None) -> str:
    """As :func:`bearer_token`, for asyncio and trio."""
    return await process_reader().async_token(timeout)
