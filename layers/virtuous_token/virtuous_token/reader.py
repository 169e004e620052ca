"""The current Virtuous bearer token: from memory, kept young in the background, never one that is over.

What it costs: a call that finds a young token in memory compares the clock with one stored instant and returns the
text. The first call waits for one read of Secrets Manager, whatever the number of threads that make it. After that
nobody waits as long as the token in hand works: the call that finds it old begins a read in another thread and returns
what is there. Where reads fail, the token in hand is served to its own end, then one clear error is raised.

Instants are seconds of the wall clock since 1970, on purpose: a function that was frozen between invocations, or
restored from a snapshot, then knows how much time has passed. Where the clock is set back, the next read comes later by
as much, at the token's end at the latest.
"""

from __future__ import annotations

import os
import threading
import time
import weakref

from .errors import NotConfigured, TokenExpired, Unreachable, UnreadableSecret, VirtuousTokenError
from .secrets_manager import connect, read_current

TYPE_CHECKING = False  # as in secrets_manager.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import TypeGuard

    from .contract import Bearer
    from .secrets_manager import SecretsManager

__all__ = ["SECRET_VARIABLE", "TokenReader", "async_bearer_token", "bearer_token", "process_reader"]

SECRET_VARIABLE = "VIRTUOUS_BEARER_SECRET"

# The request that carries the token must arrive before the token ends, and clocks differ by some seconds.
LAST_SECONDS_UNUSED = 10.0
# A token whose end nobody knows (an API key) may be revoked any day, so it is not served for ever on failed reads.
UNKNOWN_LIFE_SECONDS = 86_400.0
# A read that is older than this has died: its thread was frozen with a Lambda function, and its connection is gone.
FLIGHT_SECONDS = 60.0
# While the token in hand works there is no hurry: a quarter of an hour, then the maximum age, so that an outage costs
# few calls. While callers go without a token they are spaced by 1, 2, 4 seconds and so on, up to a minute.
FIRST_PAUSE_SECONDS = 900.0
FIRST_PAUSE_WITHOUT_A_TOKEN_SECONDS = 1.0


class TokenReader:
    """Hands out the bearer token that one secret holds. Make one for each secret and share it among all threads.

    *secret_id* is the name or the ARN of a bearer secret (an ARN also names the Region); without it the environment
    variable ``VIRTUOUS_BEARER_SECRET`` is read when the first token is asked for. *client* is a Secrets Manager client
    of boto3 or botocore; without it the reader makes one of its own, with short timeouts, when it first reads.

    *max_age_seconds* (1 or more) bounds how long a token that is in use is served before the secret is read again: a
    new token is in use at most that long after it was published. It costs 24 reads a day at its default of one hour.
    *cool_down_seconds* is the least time between two reads that :meth:`rejected` makes. *clock* gives the seconds since
    1970.

    Nothing is read, and botocore is not imported, before the first token is asked for. A reader that makes its own
    client may be used on both sides of a fork: each side has its own connection. One that was given a *client* may not,
    since both sides would use that one's connections: make another reader in the child.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_connection",
        "_cool_down_seconds",
        "_failure",
        "_flight",
        "_flights",
        "_given_client",
        "_held",
        "_lock",
        "_max_age_seconds",
        "_rejected_at",
        "_secret_id",
        "_timeout_seconds",
    )

    def __init__(
        self,
        secret_id: str | None = None,
        *,
        client: SecretsManager | None = None,
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
        if not 0 < timeout_seconds < float("inf"):
            raise ValueError("timeout_seconds must be more than 0")
        self._secret_id = secret_id
        self._given_client = client
        self._max_age_seconds = max_age_seconds
        self._cool_down_seconds = cool_down_seconds
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._held = _NOTHING
        self._rejected_at = float("-inf")
        self._flights = 0
        self._lock = threading.Lock()
        self._flight: _Flight | None = None
        self._failure: _Failure | None = None
        self._connection: SecretsManager | None = None
        _readers.add(self)

    @property
    def base_url(self) -> str | None:
        """The address that the token in hand is for. None until a read, and where the secret does not name one."""
        return self._held.base_url

    @property
    def organization_name(self) -> str | None:
        """The organisation that the token in hand belongs to, under the same conditions as :attr:`base_url`."""
        return self._held.organization_name

    @property
    def expires_at(self) -> datetime | None:
        """When the token in hand ends, in UTC. None until a read, and where the end is not known (an API key)."""
        return self._held.expires_at

    def close(self) -> None:
        """Forget the token and close the connection that the reader made. No token can be had afterwards."""

    def __enter__(self) -> TokenReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def token(self, timeout: float | None = None) -> str:
        """The token, at most ``max_age_seconds`` old when it is in steady use, and never one that is over.

        Waits only where no token is in hand, or where the one in hand is over. Raises NoToken or UnreadableSecret.
        """
        held = self._held
        if self._clock() < held.young_until:
            return held.token
        return (self._working() or self._awaited()).token

    def authorization(self, timeout: float | None = None) -> str:
        """The value of the ``Authorization`` header: ``Bearer`` and the token. As :meth:`token` otherwise."""
        held = self._held
        if self._clock() < held.young_until:
            return held.authorization
        return (self._working() or self._awaited()).authorization

    def token_without_waiting(self) -> str | None:
        """The token as :meth:`token` gives it, or None where that would wait. Raises nothing."""
        held = self._working()
        return None if held is None else held.token

    async def async_token(self) -> str:
        """As :meth:`token`, for asyncio: where that waits, another thread waits and the loop goes on."""
        token = self.token_without_waiting()
        if token is None:
            import asyncio

            token = await asyncio.to_thread(self.token)
        return token

    def rejected(self, token: str) -> bool:
        """Say that Virtuous answered 401 to *token*. True if :meth:`token` now gives another one to try, once.

        Reads the secret again and waits for that, at most once in ``cool_down_seconds`` however many threads complain;
        never raises because a read failed.
        """
        while self._held.token in ("", token):
            flight, is_mine = self._board(rejected=True)
            if flight is None:
                break
            if is_mine:
                _warn_of(self._fly(flight))
                break
            flight.landed.wait(FLIGHT_SECONDS)
        return self._held.token not in ("", token)

    async def async_rejected(self, token: str) -> bool:
        """As :meth:`rejected`, for asyncio: another thread waits and the loop goes on."""
        import asyncio

        return await asyncio.to_thread(self.rejected, token)

    def __repr__(self) -> str:
        return f"TokenReader({self._secret_id!r})"

    def _working(self) -> _Held | None:
        """What is in hand if it works, its renewal begun where it is old. None where a caller has to wait."""
        held, now = self._held, self._clock()
        if now >= held.works_until:
            return None
        if now >= held.young_until:
            self._renew_in_background()
        return held

    def _awaited(self) -> _Held:
        """What one read brings, made here or by another thread. Raises what the read ended in."""
        while True:
            flight, is_mine = self._board()
            if flight is not None and is_mine:
                self._fly(flight)
            elif flight is not None:
                flight.landed.wait(FLIGHT_SECONDS)
            held = self._working()
            if held is not None:
                return held
            failure = self._failure
            if _is_within(failure, self._clock()):
                raise failure.kind(failure.text)

    def _renew_in_background(self) -> None:
        flight, is_mine = self._board()
        if flight is None or not is_mine:
            return
        # A daemon, so that a process may end in the middle of a read. It ends by itself when the read has ended.
        thread = threading.Thread(
            target=lambda: _warn_of(self._fly(flight)), name="virtuous-token-renewal", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads, or the interpreter is shutting down
            self._land(flight, Unreachable("no thread could be started to read the token again"))

    def _board(self, *, rejected: bool = False) -> tuple[_Flight | None, bool]:
        """The read that is under way; else a new one, which the caller must make (True).

        None where no read is to be made: another thread has just made it, or it failed and is not to be repeated yet,
        or the last one for a rejected token is too recent.
        """
        now = self._clock()
        with self._lock:
            flight = self._flight
            if flight is not None and flight.began_at <= now < flight.began_at + FLIGHT_SECONDS:
                return flight, False
            if rejected:
                if self._rejected_at <= now < self._rejected_at + self._cool_down_seconds:
                    return None, False
                self._rejected_at = now
            elif now < self._held.young_until or _is_within(self._failure, now):
                return None, False
            self._flights += 1
            self._flight = flight = _Flight(self._flights, now)
            return flight, True

    def _fly(self, flight: _Flight) -> _Held | VirtuousTokenError:
        """Makes the read and lands it, whatever it ends in."""
        outcome: _Held | VirtuousTokenError = Unreachable("reading the token ended in an unexpected error")
        try:
            outcome = self._read(flight)
        except VirtuousTokenError as error:
            outcome = error.with_traceback(None)
        finally:
            self._land(flight, outcome)
        return outcome

    def _read(self, flight: _Flight) -> _Held:
        secret_id = self._secret_id or os.environ.get(SECRET_VARIABLE, "").strip()
        if not secret_id:
            raise NotConfigured(f"name the bearer secret, as TokenReader's argument or in {SECRET_VARIABLE}")
        client = self._given_client or self._connection
        if client is None:
            client = self._connection = connect(secret_id)
        self._secret_id = secret_id
        bearer = _parsed(read_current(client, secret_id))
        if isinstance(bearer, str):
            raise UnreadableSecret(f"secret {secret_id!r}: {bearer}")
        held = _hold(bearer, flight, self._young_seconds(bearer, flight.began_at))
        if self._clock() >= held.works_until:
            raise TokenExpired(
                f"the token in secret {secret_id!r} is over ({_plan_of(bearer)}): look at the refresher's alarms, and "
                "run `virtuous-token status`"
            )
        return held

    def _young_seconds(self, bearer: Bearer, now: float) -> float:
        """For how long a token read *now* is not read again: the least of three, each moved by chance so that many
        readers do not come due together.

        The maximum age; its first time anything from its half on, so that processes which began together stay apart.
        Soon after the planned refresh. At the latest when three quarters of the token's remaining life are over.
        """
        seconds = self._max_age_seconds * (1 - _chance() * (0.5 if self._held is _NOTHING else 0.01))
        if bearer.expires_at is None:
            return seconds
        expires_at = bearer.expires_at.timestamp()
        if bearer.next_refresh_at is not None:
            planned_at = bearer.next_refresh_at.timestamp()
            if now < planned_at:
                seconds = min(seconds, planned_at - now + _chance() * (expires_at - planned_at) / 10)
        return min(seconds, (expires_at - now) * (0.75 - _chance() / 4))

    def _land(self, flight: _Flight, outcome: _Held | VirtuousTokenError) -> None:
        with self._lock:
            if self._flight is flight:
                self._flight = None
            # A read that was frozen for an hour must not replace what a later one brought.
            is_latest = flight.number > self._held.number
            if isinstance(outcome, _Held):
                if is_latest:
                    self._held, self._failure = outcome, None
            elif is_latest:
                self._failure = self._failed(outcome)
                # The next try begins anew: with other credentials, where they were the reason, and another socket.
                self._connection = None
        flight.landed.set()

    def _failed(self, error: VirtuousTokenError) -> _Failure:
        now = self._clock()
        count = self._failure.count + 1 if self._failure is not None else 1
        seconds_left = self._held.works_until - now
        if seconds_left <= 0:
            pause = min(60.0, FIRST_PAUSE_WITHOUT_A_TOKEN_SECONDS * 2 ** min(count - 1, 10))
        else:
            pause = min(self._max_age_seconds, FIRST_PAUSE_SECONDS * 4 ** min(count - 1, 10), seconds_left / 4)
        return _Failure(type(error), str(error), count, now, now + pause * (0.75 + _chance() / 2))

    def _begin_anew_in_a_child(self) -> None:
        """After a fork. The parent's threads are not here to let go of the lock or to land their read, and two
        processes that use one TLS connection garble it."""
        self._lock = threading.Lock()
        self._flight = self._failure = self._connection = None


class _Held:
    """A token with the instants that decide about it. Never changed: readers in other threads take it as a whole."""

    __slots__ = (
        "authorization",
        "base_url",
        "expires_at",
        "number",
        "organization_name",
        "token",
        "works_until",
        "young_until",
    )

    def __init__(
        self, token: str, number: int, young_until: float, works_until: float, bearer: Bearer | None = None
    ) -> None:
        self.base_url = bearer.base_url if bearer else None
        self.organization_name = bearer.organization_name if bearer else None
        self.expires_at = bearer.expires_at if bearer else None
        self.token = token
        self.authorization = f"Bearer {token}"
        self.number = number
        self.young_until = young_until
        self.works_until = works_until


class _Flight:
    """One read of the secret, for however many threads wait for it."""

    __slots__ = ("began_at", "landed", "number")

    def __init__(self, number: int, began_at: float) -> None:
        self.number = number
        self.began_at = began_at
        self.landed = threading.Event()


class _Failure:
    """What the last read ended in, and until when no other is made for it. No exception: that would keep its frames."""

    __slots__ = ("count", "kind", "since", "text", "until")

    def __init__(self, kind: type[VirtuousTokenError], text: str, count: int, since: float, until: float) -> None:
        self.kind = kind
        self.text = text
        self.count = count
        self.since = since
        self.until = until


def _is_within(failure: _Failure | None, now: float) -> TypeGuard[_Failure]:
    """Both ends count, so that a clock that was set back does not make a pause longer than it was meant to be."""
    return failure is not None and failure.since <= now < failure.until


def _parsed(text: str | None) -> Bearer | str:
    """The bearer, or what is wrong with it: raised from here, an error's traceback would lead to the secret's text."""
    from .contract import Bearer

    try:
        return Bearer.parse(text)
    except UnreadableSecret as unreadable:
        return str(unreadable)


def _hold(bearer: Bearer, flight: _Flight, young_seconds: float) -> _Held:
    read_at = flight.began_at
    if bearer.expires_at is None:
        works_until = read_at + max(UNKNOWN_LIFE_SECONDS, young_seconds)
    else:
        works_until = bearer.expires_at.timestamp() - LAST_SECONDS_UNUSED
    young_until = min(read_at + young_seconds, works_until)
    return _Held(bearer.access_token.reveal(), flight.number, young_until, works_until, bearer)


def _plan_of(bearer: Bearer) -> str:
    from .contract import format_instant

    end = f"its end: {format_instant(bearer.expires_at)}" if bearer.expires_at else "its end is unknown"
    planned_at = bearer.next_refresh_at
    return f"{end}; its refresh was due at {format_instant(planned_at)}" if planned_at else end


def _chance() -> float:
    """At random from 0 to 1. From the system, since a snapshot or a fork copies the state of Python's generator."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _warn_of(outcome: _Held | VirtuousTokenError) -> None:
    """For reads whose failure nobody is told, as long as the token in hand works."""
    if isinstance(outcome, VirtuousTokenError):
        from logging import getLogger  # here: importing it takes as long as the rest of the package

        getLogger("virtuous_token").warning("the token could not be read again: %s", outcome)


_NOTHING = _Held("", 0, float("-inf"), float("-inf"))
_readers: weakref.WeakSet[TokenReader] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for reader in list(_readers):
        reader._begin_anew_in_a_child()  # noqa: SLF001


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)

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
    """As :func:`bearer_token`, without holding up the event loop (asyncio's or trio's)."""
    return await _reader_of_the_process.async_token()
