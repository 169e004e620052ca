"""Core: what its parts say to each other: answers of Virtuous, outcomes of a run, and what the core needs from outside.

``stored.py`` has what is said about secrets; its names are this module's as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from virtuous_token.secret_text import SecretText

from .due import due_at
from .formats import TokenPair
from .stored import CURRENT as CURRENT
from .stored import PREVIOUS as PREVIOUS
from .stored import REMOVED_TAG as REMOVED_TAG
from .stored import CurrentPair as CurrentPair
from .stored import RefreshError as RefreshError
from .stored import Store as Store
from .stored import Stored as Stored
from .stored import StoredVersion as StoredVersion
from .stored import StoreMisconfigured as StoreMisconfigured
from .stored import StoreUnavailable as StoreUnavailable
from .stored import Versions as Versions


class Ending(StrEnum):
    """How an attempt to obtain tokens ended that brought none. Stored in the journal."""

    REFUSED = "refused"  # the credential was judged and refused: a person is needed
    CODE_NEEDED = "code_needed"  # a one-time code went to the user's phone: never to be asked for again unasked
    MISCONFIGURED = "misconfigured"  # the request itself is wrong (address, grant type, client): nothing was judged
    THROTTLED = "throttled"  # not served now: nothing was spent
    UNREACHABLE = "unreachable"  # the request never left, or was not served: nothing was spent
    UNKNOWN = "unknown"  # the request left and no clear answer came back: the credential may be spent
    HOLDER_DIED = "holder_died"  # the run that held the claim ended without a word

    @property
    def is_verdict(self) -> bool:
        """True where the provider judged the credential and a person is needed. Nothing else uses a token up."""
        return self in (Ending.REFUSED, Ending.CODE_NEEDED)

    @property
    def in_doubt(self) -> bool:
        """True where nobody knows whether the credential was spent."""
        return self in (Ending.UNKNOWN, Ending.HOLDER_DIED)


class Granted(NamedTuple):
    """HTTP 200 with at least one usable token. What the answer lacked or spoilt is None, and named in ``oddities``."""

    access_token: SecretText | None
    refresh_token: SecretText | None
    issued_at: datetime
    expires_at: datetime | None
    user_name: str | None = None
    two_factor_enabled: bool | None = None
    oddities: tuple[str, ...] = ()
    clock_skew: timedelta | None = None  # the Date header minus our clock; None where there is no usable header


class NotGranted(NamedTuple):
    """No tokens. ``reason`` is a word of ours or a code of RFC 6749, and never a word of the answer's body."""

    ending: Ending
    reason: str
    retry_after: timedelta | None = None  # how long the server asks to wait


Answer = Granted | NotGranted


class Proved(NamedTuple):
    """HTTP 200 from ``/api/Organization/Current``."""

    organization_id: str | None = None
    organization_name: str | None = None
    is_enabled: bool | None = None
    oddities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """HTTP 401 or 403: Virtuous refuses the access token."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """No clear answer: it says nothing of the token."""

    reason: str


Proof = Proved | Denied | Unclear


class OutcomeWord(StrEnum):
    """What became of one connection in one run."""

    FRESH = "fresh"
    REFRESHED = "refreshed"
    RECOVERED = "recovered"
    BUSY = "busy"
    SUPERSEDED = "superseded"
    POSTPONED = "postponed"
    UNPROVEN = "unproven"
    TRY_AGAIN = "try_again"
    LOGIN_REQUIRED = "login_required"
    MISCONFIGURED = "misconfigured"


@dataclass(eq=False)
class RunEnds(Exception):
    """Ends the run of one connection with *outcome*; *reason* is for a log and holds no secret."""

    outcome: OutcomeWord
    reason: str
    throttled_until: datetime | None = None  # Virtuous serves the connection's organisation no more before


class TimeLimits(NamedTuple):
    """Time that must be left before something is begun."""

    request: timedelta = timedelta(seconds=45)  # the longest that a call to Virtuous takes: the adapter's own bound
    save: timedelta = timedelta(seconds=75)  # for an answer: a call to Secrets Manager that hangs, several throttled
    look: timedelta = timedelta(seconds=45)  # before a connection is looked at: a call that hangs


class Policy(NamedTuple):
    """What the deployment decided. ``schedule_interval`` is None where the schedule is not a plain rate."""

    base_url: str
    refresh_at_percent: int = 50
    schedule_interval: timedelta | None = None
    limits: TimeLimits = TimeLimits()


class Result(NamedTuple):
    """What became of one connection. ``reason`` and ``notes`` are for a log and hold no secret.

    ``readers_work_until``: the end of the access token that readers are given; None where nobody knows.
    ``pair_at_risk``: the provider answered and its answer could not be saved. ``api_key_refused``: Virtuous refuses an
    access token that nobody can refresh. ``throttled_until``: Virtuous serves the organisation no more before. The rest
    describes the newest pair that is saved.
    """

    connection: str
    outcome: OutcomeWord
    reason: str = ""
    notes: tuple[str, ...] = ()
    readers_work_until: datetime | None = None
    refresh_token_expires_at: datetime | None = None
    next_refresh_at: datetime | None = None
    organization_name: str | None = None
    pair_at_risk: bool = False
    organization_changed: bool = False
    api_key_refused: bool = False
    throttled_until: datetime | None = None


class TokenEndpoint(Protocol):
    """Virtuous. Nothing that the network or the server does raises."""

    def refresh(self, refresh_token: SecretText) -> Answer:
        """One POST with the refresh grant."""

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        """One POST with the password grant."""

    def prove(self, access_token: SecretText) -> Proof:
        """One GET that needs a valid access token."""


class Services(NamedTuple):
    """What the core uses besides secrets: the provider, the wall clock (aware, UTC) and a way to wait (seconds)."""

    endpoint: TokenEndpoint
    now: Callable[[], datetime]
    pause: Callable[[float], None]


class Work(NamedTuple):
    """What one run over one connection works with. At *deadline* its process may be ended."""

    connection: str
    store: Store
    services: Services
    policy: Policy
    deadline: datetime

    def now(self) -> datetime:
        return self.services.now()

    def time_left(self) -> timedelta:
        return self.deadline - self.services.now()

    def due_at(self, pair: TokenPair) -> datetime | None:
        return due_at(pair, self.connection, self.policy.refresh_at_percent)
