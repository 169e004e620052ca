"""Core: which credential is sent next.

Refresh tokens come first: that of AWSCURRENT, SUPERSEDED, the chain's newest pair, AWSPREVIOUS (which a person's slip
may have displaced). One that is known to be spent is never sent, wherever a person put it back. One that the provider
refused is not sent again, except that of AWSCURRENT once a day, in case the refusal was the provider's mistake. A doubt
uses no token up. Then comes the password, once a day, where an operator stored one and the account has no second
factor. Then a person must log in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple

from virtuous_token.contract import parse_object
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .claim import Head
from .due import LONG_AGO
from .formats import TokenPair, pair_in
from .journal import ONE_TRY_A_DAY, PASSWORD, SUPERSEDED, Attempt, is_of_the_chain, merged
from .model import PREVIOUS, Answer, Ending, Store, StoreMisconfigured, StoreUnavailable, TokenEndpoint, Versions

__all__ = [
    "Credential",
    "StoredPairs",
    "asked_for_a_code",
    "next_credential",
    "password_may_be_sent",
    "token_may_be_sent",
]


@dataclass(frozen=True, slots=True)
class Credential:
    """One thing to send. ``source``: the pair whose refresh token stays if the answer brings no other.

    ``key`` is what its attempts are remembered by: the refresh token's fingerprint, or ``password``.
    """

    key: str
    source: TokenPair
    send: Callable[[], Answer] = field(repr=False)


def token_may_be_sent(attempt: Attempt | None, now: datetime, *, is_current: bool, forced: bool = False) -> bool:
    """True if a refresh token may be sent (again) after its last *attempt*. *forced*: an operator asked."""
    if attempt is None or not attempt.result.is_verdict or (forced and is_current):
        return True
    return is_current and attempt.result is Ending.REFUSED and now - attempt.at >= ONE_TRY_A_DAY


def password_may_be_sent(attempt: Attempt | None, now: datetime) -> bool:
    """The same of the stored password: in doubt, too, once a day alone. After it sent a code to a phone, never."""
    if attempt is None or not (attempt.result.is_verdict or attempt.result.in_doubt):
        return True
    return attempt.result is not Ending.CODE_NEEDED and now - attempt.at >= ONE_TRY_A_DAY


class StoredPairs(NamedTuple):
    """The pairs that labels and journal name, and what they know of spent tokens.

    ``pair`` is the current one. Raises StoreUnavailable where one of them can't be read yet: without it a spent token
    might be sent. One whose key is gone is none.
    """

    store: Store
    versions: Versions
    current: str
    pair: TokenPair
    head: Head

    def spent(self) -> tuple[str, ...]:
        """The fingerprints of all refresh tokens known to be spent.

        The head knows what the chain before it knew, unless its key is gone; a pair that came late is not in the chain.
        """
        late, previous = self.versions.under(SUPERSEDED), self.versions.under(PREVIOUS)
        others: list[str | None] = [late] if late and not is_of_the_chain(late) else []
        others += [previous] if self.head.history.newest is None else []
        pairs = [self.pair, *filter(None, map(self._pair, others))]
        return merged(self.head.history.spent, *(pair.spent for pair in pairs))

    def refresh_tokens(self, spent: tuple[str, ...]) -> Iterator[tuple[TokenPair, SecretText]]:
        """The pairs whose refresh tokens are not known to be spent, best first, and each such token once.

        None that is known to be another user's or organisation's.
        """
        passed_over = set(spent)
        superseded, previous = self.versions.under(SUPERSEDED), self.versions.under(PREVIOUS)
        for version in (self.current, superseded, self.head.history.newest, previous):
            pair = self._pair(version)
            if pair is None or (token := pair.refresh_token) is None or _is_of_somebody_else(pair, self.pair):
                continue
            if token.fingerprint() not in passed_over:
                passed_over.add(token.fingerprint())
                yield pair, token

    def _pair(self, version_id: str | None) -> TokenPair | None:
        """None where there is no such version, or it holds something else."""
        if version_id == self.current:
            return self.pair
        if version_id is None or self.versions.get(version_id) is None:
            return None
        try:
            text = self.store.pair_value(version_id)
        except StoreMisconfigured:
            return None
        if text is None:
            raise StoreUnavailable("a version of the pair secret that is listed can't be read yet")
        return pair_in(text)


def next_credential(
    stored: StoredPairs,
    spent: tuple[str, ...],
    endpoint: TokenEndpoint,
    now: datetime,
    notes: list[str],
    *,
    forced: bool,
) -> Credential | None:
    """What is sent next, None where a person must log in. *notes* gets what an operator should know.

    No token in *spent* (fingerprints) is sent. Once Virtuous asked for a one-time code, each further try may send a
    message to somebody's phone: then only a token that was stored since is tried, or what an operator forces.
    """
    attempts = stored.head.history.attempts
    code_asked = asked_for_a_code(stored.head)
    for pair, token in stored.refresh_tokens(spent):
        key, is_current = token.fingerprint(), pair is stored.pair
        attempt = attempts.get(key)
        spares_the_phone = is_current and (forced or attempt is None)
        may_be_sent = token_may_be_sent(attempt, now, is_current=is_current, forced=forced)
        if may_be_sent and (spares_the_phone or not code_asked):
            return Credential(key, pair, partial(endpoint.refresh, token))
    if code_asked or not password_may_be_sent(attempts.get(PASSWORD), now):
        return None
    return _stored_password(stored.store, endpoint, stored.pair, now, notes)


def asked_for_a_code(head: Head) -> bool:
    """True if Virtuous answered a refresh token by sending a one-time code."""
    attempts = head.history.attempts.items()
    return any(a.result is Ending.CODE_NEEDED for key, a in attempts if key != PASSWORD)


def _stored_password(
    store: Store, endpoint: TokenEndpoint, pair: TokenPair, now: datetime, notes: list[str]
) -> Credential | None:
    """None where no login is stored, where it sends a code to somebody's phone, and for a day after a login."""
    if pair.two_factor_enabled or (pair.replaces is None and now < (pair.issued_at or LONG_AGO) + ONE_TRY_A_DAY):
        return None
    try:
        value = store.login_value()
        login = parse_object(value, "the login secret") if value is not None else {}
    except (UnreadableSecret, StoreMisconfigured) as error:
        notes.append(f"the login secret can't be used: {error}")
        return None
    username, password = login.get("username"), login.get("password")
    if not (isinstance(username, str) and username and isinstance(password, str) and password):
        return None
    return Credential(PASSWORD, pair, partial(endpoint.log_in, username, SecretText(password)))


def _is_of_somebody_else(other: TokenPair, pair: TokenPair) -> bool:
    """True if the two are known to be of different users or organisations."""
    known = [(other.organization_id, pair.organization_id), (other.user_name, pair.user_name)]
    return any(theirs and ours and theirs != ours for theirs, ours in known)
