"""Core: which credential is sent next.

Refresh tokens come first: that of AWSCURRENT, then those of all other versions that Secrets Manager still has, newest
first. One that is known to be spent is never sent, wherever a person put it back. One that the provider refused is not
sent again, except that of AWSCURRENT once a day, in case the refusal was the provider's mistake. A doubt uses no token
up. Then comes the password, once a day, where one is stored and there is no second factor. Then a person must log in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain

from virtuous_token.contract import parse_object
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .claim import Head
from .due import LONG_AGO
from .formats import TokenPair, pair_in
from .journal import ONE_TRY_A_DAY, PASSWORD, Attempt, History, is_late, merged
from .model import Answer, Ending, Work
from .stored import Store, StoreMisconfigured, Versions, text_of


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


def known_spent(store: Store, versions: Versions, history: History) -> tuple[str, ...]:
    """The fingerprints of all refresh tokens that are known to be spent.

    The chain's end knows what the chain before it knew, unless its key is gone; a pair that came late is not in the
    chain. Raises StoreUnavailable where one can't be read yet: without it a spent token might be sent.
    """
    listed = [version.version_id for version in versions.listed]
    knowing = listed if history.newest is None else filter(is_late, listed)
    pairs = filter(None, (pair_in(text_of(store, version)) for version in knowing))
    return merged(history.spent, *(pair.spent for pair in pairs))


def stored_pairs(store: Store, versions: Versions, current: str, pair: TokenPair) -> Iterator[TokenPair]:
    """*pair*, which is in version *current*, then those in the other versions, newest first, whatever their labels.

    They are read as they are asked for. Raises StoreUnavailable where one can't be read yet.
    """
    yield pair
    for version in sorted(versions.listed, key=lambda version: version.created_at, reverse=True):
        if version.version_id != current and (other := pair_in(text_of(store, version.version_id))):
            yield other


def next_credential(
    work: Work, pairs: Iterator[TokenPair], spent: Iterable[str], head: Head, notes: list[str], *, forced: bool
) -> Credential | None:
    """What is sent next, None where a person must log in. *pairs*: best first, and the first of them is current.

    No token in *spent* (fingerprints) is sent, and none that is known to be another user's or organisation's. Once
    Virtuous asked for a one-time code, each further try may send a message to somebody's phone: then only a token that
    was stored since is tried, or what an operator forces. *notes* gets what an operator should know.
    """
    attempts, code_asked = head.history.attempts, asked_for_a_code(head)
    passed_over, current = set(spent), next(pairs)
    for pair in chain([current], pairs):
        token, is_current = pair.refresh_token, pair is current
        if token is None or token.fingerprint() in passed_over or _is_of_somebody_else(pair, current):
            continue
        key = token.fingerprint()
        passed_over.add(key)
        attempt = attempts.get(key)
        spares_the_phone = is_current and (forced or attempt is None)
        may_be_sent = token_may_be_sent(attempt, work.now(), is_current=is_current, forced=forced)
        if may_be_sent and (spares_the_phone or not code_asked):
            return Credential(key, pair, partial(work.services.endpoint.refresh, token))
    if code_asked or not password_may_be_sent(attempts.get(PASSWORD), work.now()):
        return None
    return _stored_password(work, current, notes)


def _stored_password(work: Work, pair: TokenPair, notes: list[str]) -> Credential | None:
    """None where no login is stored, where it sends a code to somebody's phone, and for a day after a login."""
    since = pair.issued_at or LONG_AGO
    if pair.two_factor_enabled or (pair.replaces is None and work.now() < since + ONE_TRY_A_DAY):
        return None
    try:
        value = work.store.login_value()
        login = parse_object(value, "the login secret") if value is not None else {}
    except (UnreadableSecret, StoreMisconfigured) as error:
        notes.append(f"the login secret can't be used: {error}")
        return None
    username, password = login.get("username"), login.get("password")
    if not (isinstance(username, str) and username and isinstance(password, str) and password):
        return None
    return Credential(PASSWORD, pair, partial(work.services.endpoint.log_in, username, SecretText(password)))


def asked_for_a_code(head: Head) -> bool:
    """True if Virtuous answered a refresh token by sending a one-time code."""
    attempts = head.history.attempts.items()
    return any(attempt.result is Ending.CODE_NEEDED for key, attempt in attempts if key != PASSWORD)


def _is_of_somebody_else(other: TokenPair, pair: TokenPair) -> bool:
    """True if the two are known to be of different users or organisations."""
    known = [(other.organization_id, pair.organization_id), (other.user_name, pair.user_name)]
    return any(theirs and ours and theirs != ours for theirs, ours in known)
