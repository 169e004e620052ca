"""Core: what is stored of an answer, and what about it is worth a line in the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from .formats import TokenPair
from .journal import PASSWORD, Intent, merged
from .model import Granted, Policy, Proved

# Virtuous documents 365 days for a refresh token, and its answer does not say when one ends.
REFRESH_TOKEN_LIFE = timedelta(days=365)
# More than this much between our clock and the provider's is worth a line: expiry is counted with ours.
TOLERATED_SKEW = timedelta(minutes=2)


def renewed_pair(pair: TokenPair, intent: Intent, source: TokenPair, answer: Granted, proved: Proved) -> TokenPair:
    """The pair to save in the place of *pair*: what the answer lacks or spoils stays as it was.

    *source* is the pair whose refresh token was sent. A refresh token that the provider gives back, or gives no other
    for, is not spent. One that it refused counts as spent from here on.
    """
    is_login = intent.credential == PASSWORD
    renewed = replace(
        pair,
        replaces=None if is_login else intent.replaces,
        user_name=answer.user_name or pair.user_name,
        two_factor_enabled=pair.two_factor_enabled if answer.two_factor_enabled is None else answer.two_factor_enabled,
        organization_id=pair.organization_id or proved.organization_id,
        organization_name=pair.organization_name or proved.organization_name,
        refresh_token=source.refresh_token,
        refresh_token_issued_at=source.refresh_token_issued_at,
        refresh_token_expires_at=source.refresh_token_expires_at,
    )
    if answer.access_token is not None:
        renewed = replace(
            renewed, access_token=answer.access_token, issued_at=answer.issued_at, expires_at=answer.expires_at
        )
    spent = intent.history.spent_and_refused
    if answer.refresh_token is not None and answer.refresh_token != source.refresh_token:
        spent = merged([intent.credential], spent)
        renewed = replace(
            renewed,
            refresh_token=answer.refresh_token,
            refresh_token_issued_at=answer.issued_at,
            refresh_token_expires_at=answer.issued_at + REFRESH_TOKEN_LIFE,
        )
    return replace(renewed, spent=merged(spent, but=renewed.refresh_token))


def oddities(renewed: TokenPair, answer: Granted, policy: Policy) -> Iterator[str]:
    """What an operator should know of the answer."""
    yield from answer.oddities
    if answer.clock_skew and abs(answer.clock_skew) > TOLERATED_SKEW:
        yield f"the provider's clock differs from ours by {answer.clock_skew.total_seconds():.0f} s"
    interval = policy.schedule_interval
    if interval and renewed.issued_at and renewed.expires_at:
        after_due = (renewed.expires_at - renewed.issued_at) * (1 - policy.refresh_at_percent / 100)
        if after_due < 2 * interval:
            left, every = after_due.total_seconds(), interval.total_seconds()
            yield f"the schedule is too slow: {left:.0f} s are left when a token is due, it runs every {every:.0f} s"
