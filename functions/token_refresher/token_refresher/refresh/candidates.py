"""Core: which credential is sent next.

Refresh tokens come first: that of AWSCURRENT, SUPERSEDED, the chain's newest pair, AWSPREVIOUS, a first login that
stands outside the chain. One that is known to be spent is never sent, wherever a person put it back. One that the
provider refused is not sent again, except that of AWSCURRENT once a day, in case the refusal was the provider's
mistake. A doubt uses no token up. Then comes the password, once a day, where an operator stored one and the account has
no second factor. Then a person must log in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from virtuous_token.contract import parse_object
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .claim import Head
from .due import LONG_AGO
from .formats import TokenPair
from .journal import (
    FIRST_PAIR_ID,
    LABEL,
    ONE_TRY_A_DAY,
    SUPERSEDED,
    Attempt,
    CredentialKind,
    ancestors,
    merged,
    parse_entry,
)
from .model import PREVIOUS, Answer, Ending, Store, StoreMisconfigured, StoreUnavailable, TokenEndpoint, Versions

__all__ = ["Credential", "StoredPairs", "asked_for_a_code", "may_be_sent", "next_credential"]


@dataclass(frozen=True, slots=True)
class Credential:
    """One thing to send. ``source``: the pair whose refresh token stays if the answer brings no other.

    ``key`` is what its attempts are remembered by: the refresh token's fingerprint, or ``password``.
    """

    kind: CredentialKind
    key: str
    source: TokenPair
    send: Callable[[], Answer] = field(repr=False)


def may_be_sent(kind: CredentialKind, attempt: Attempt | None, now: datetime, *, forced: bool = False) -> bool:
    """True if a credential may be sent (again) after its last *attempt*. *forced*: an operator asked."""
    if attempt is None or (forced and kind is CredentialKind.CURRENT):
        return True
    a_day_later = now - attempt.at >= ONE_TRY_A_DAY
    if kind is CredentialKind.PASSWORD:
        uses_up = attempt.result.is_verdict or attempt.result.in_doubt
        return attempt.result is not Ending.CODE_NEEDED and (a_day_later or not uses_up)
    if not attempt.result.is_verdict:
        return True
    return kind is CredentialKind.CURRENT and attempt.result is Ending.REFUSED and a_day_later


@dataclass(slots=True, eq=False)
class StoredPairs:
    """The pairs that labels and journal name, and what they know of spent tokens. A version is read once, when needed.

    Raises StoreUnavailable where one of them can't be read yet: without it a spent token might be sent.
    """

    store: Store
    versions: Versions
    current: str
    pair: TokenPair
    head: Head
    _texts: dict[str, str] = field(default_factory=dict, repr=False)

    def spent(self) -> tuple[str, ...]:
        """The fingerprints of all refresh tokens known to be spent. What the head knows of its ancestors counts."""
        known = self.head.history.spent
        covered = ancestors(self.head.end, self.versions) if known is not None else set()
        labelled = (self.current, *(self.versions.under(label) for label in (SUPERSEDED, PREVIOUS, LABEL)))
        others = dict.fromkeys(version for version in labelled if version and version not in covered)
        return merged(known or (), *(self._spent_before(version) for version in others))

    def refresh_tokens(self, spent: tuple[str, ...]) -> Iterator[tuple[CredentialKind, TokenPair, SecretText]]:
        """The pairs whose refresh tokens are not known to be spent, best first, and each such token once.

        None that is known to be another user's or organisation's.
        """
        passed_over = set(spent)
        # A first login in the same moment as a person's first paste stands outside the chain, which began at the paste.
        is_outside = FIRST_PAIR_ID not in ancestors(self.head.end, self.versions)
        for kind, version in (
            (CredentialKind.CURRENT, self.current),
            (CredentialKind.SUPERSEDED, self.versions.under(SUPERSEDED)),
            (CredentialKind.NEWEST, self.head.history.newest),
            (CredentialKind.PREVIOUS, self.versions.under(PREVIOUS)),
            (CredentialKind.FIRST, FIRST_PAIR_ID if is_outside else None),
        ):
            pair = self._pair(version)
            if pair is None or (token := pair.refresh_token) is None or _is_of_somebody_else(pair, self.pair):
                continue
            if token.fingerprint() not in passed_over:
                passed_over.add(token.fingerprint())
                yield kind, pair, token

    def _spent_before(self, version_id: str) -> tuple[str, ...]:
        """What one version knows. One of version 1.0 names the version that it was refreshed from."""
        entry = parse_entry(self._text(version_id)) if version_id != self.current else None
        pair = self._pair(version_id)
        if entry:
            return entry.history.spent or ()
        if pair is None or pair.spent is not None or pair.replaces is None:
            return (pair.spent or ()) if pair else ()
        replaced = self._pair(pair.replaces)
        token = replaced.refresh_token if replaced else None
        return (token.fingerprint(),) if token and token != pair.refresh_token else ()

    def _pair(self, version_id: str | None) -> TokenPair | None:
        """None where there is no such version, or it holds something else."""
        if version_id == self.current:
            return self.pair
        if version_id is None or self.versions.get(version_id) is None:
            return None
        try:
            return TokenPair.parse(self._text(version_id))
        except UnreadableSecret:
            return None

    def _text(self, version_id: str) -> str:
        if version_id not in self._texts:
            text = self.store.pair_value(version_id)
            if text is None:
                raise StoreUnavailable("a version of the pair secret that is listed can't be read yet")
            self._texts[version_id] = text
        return self._texts[version_id]


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
    for kind, pair, token in stored.refresh_tokens(spent):
        key = token.fingerprint()
        attempt = attempts.get(key)
        spares_the_phone = kind is CredentialKind.CURRENT and (forced or attempt is None)
        if may_be_sent(kind, attempt, now, forced=forced) and (spares_the_phone or not code_asked):
            return Credential(kind, key, pair, partial(endpoint.refresh, token))
    password = CredentialKind.PASSWORD
    if code_asked or not may_be_sent(password, attempts.get(password), now):
        return None
    return _stored_password(stored.store, endpoint, stored.pair, now, notes)


def asked_for_a_code(head: Head) -> bool:
    """True if Virtuous answered a refresh token by sending a one-time code."""
    attempts = head.history.attempts.items()
    return any(a.result is Ending.CODE_NEEDED for key, a in attempts if key != CredentialKind.PASSWORD)


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
    send = partial(endpoint.log_in, username, SecretText(password))
    return Credential(CredentialKind.PASSWORD, CredentialKind.PASSWORD, pair, send)


def _is_of_somebody_else(other: TokenPair, pair: TokenPair) -> bool:
    """True if the two are known to be of different users or organisations."""
    known = [(other.organization_id, pair.organization_id), (other.user_name, pair.user_name)]
    return any(theirs and ours and theirs != ours for theirs, ours in known)
