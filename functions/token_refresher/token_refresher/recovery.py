"""Core: which credential is tried next for a version whose refresh token may be dead.

In this order: the version's own refresh token; the one of AWSPREVIOUS, once, since it may be reusable; that of a pair
that came too late to be current, once; the password, once a day, where an operator stored one and the account has no
second factor. When all are refused a person must log in, and the version's own refresh token is tried once a day, in
case the refusal was the provider's mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from .journal import Attempts, Ended, Grant

__all__ = ["ONE_TRY_A_DAY", "candidates"]

ONE_TRY_A_DAY = timedelta(days=1)

_REFRESH_TOKENS = (Grant.CURRENT, Grant.PREVIOUS, Grant.SUPERSEDED)


def candidates(attempts: Attempts, now: datetime, *, forced: bool = False) -> Iterator[Grant]:
    """The credentials that may be sent now, best first, given what was sent before for the same version.

    *forced*: an operator asked, so the version's own refresh token is tried whatever happened to it before.
    """
    if any(_asked_for_a_code(attempts, grant) for grant in _REFRESH_TOKENS):
        if forced:
            yield Grant.CURRENT
        return  # each further try may send a message to somebody's phone
    if forced or _is_open(attempts, Grant.CURRENT) or _is_a_day_old(attempts, Grant.CURRENT, now):
        yield Grant.CURRENT
    for grant in (Grant.PREVIOUS, Grant.SUPERSEDED):
        if _is_open(attempts, grant, once=True):
            yield grant
    if _asked_for_a_code(attempts, Grant.PASSWORD):
        return
    if _is_open(attempts, Grant.PASSWORD, once=True) or _is_a_day_old(attempts, Grant.PASSWORD, now):
        yield Grant.PASSWORD


def _is_open(attempts: Attempts, grant: Grant, *, once: bool = False) -> bool:
    """True if *grant* was not tried yet, or nobody judged it. *once*: a try in doubt counts as the one."""
    attempt = attempts.get(grant)
    return attempt is None or attempt.ended.nothing_spent or (attempt.ended.in_doubt and not once)


def _is_a_day_old(attempts: Attempts, grant: Grant, now: datetime) -> bool:
    attempt = attempts.get(grant)
    return attempt is not None and now - attempt.at >= ONE_TRY_A_DAY


def _asked_for_a_code(attempts: Attempts, grant: Grant) -> bool:
    attempt = attempts.get(grant)
    return attempt is not None and attempt.ended is Ended.CODE_NEEDED
