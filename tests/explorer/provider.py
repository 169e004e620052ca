"""The provider's side of an exploration: what it does with a refresh token that comes a second time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from token_refresher.refresh.model import Answer, Denied, Ending, Granted, NotGranted, Proof, Proved
from virtuous_token.secret_text import SecretText

LIFE = timedelta(days=15)
LENIENCY = timedelta(seconds=60)
KINDS = (
    "strict",  # a refresh token works once
    "lenient",  # and again for a minute, since the first answer may have been lost
    "reusable",  # as often as one likes; each time another is given
    "same",  # the same token is given back
    "cycling",  # once each, and the third is the first again
    "silent",  # the answer holds no refresh token: the old one stays
    "revoking",  # a second use ends the whole line of tokens (RFC 9700 section 4.14.2)
)


class Use(NamedTuple):
    """A refresh token was accepted, and pair *number* with the refresh token *granted* was given for it."""

    token: str
    number: int
    granted: str
    at: datetime


class Provider(NamedTuple):
    """Tokens count: ``access-3`` and ``refresh-3`` are the third pair that was given out.

    ``lines`` says for each pair of which login it comes; ``issued`` when it was given out.
    """

    kind: str
    lines: tuple[int, ...] = ()
    issued: tuple[datetime, ...] = ()
    uses: tuple[Use, ...] = ()
    revoked: frozenset[int] = frozenset()
    forbids: bool = False  # the address of the proof answers 403, whatever the token

    @property
    def newest(self) -> int:
        return len(self.lines)

    def log_in(self, now: datetime) -> Provider:
        """A pair of a line of its own: its number is ``newest`` afterwards."""
        return self._issued(len(set(self.lines)), now)

    def refresh(self, token: str, now: datetime) -> tuple[Provider, Answer]:
        if not self.accepts(token, now):
            ended = {self._line(token)} if self.kind == "revoking" and self.is_spent(token) else set()
            return self._replace(revoked=self.revoked | ended), NotGranted(Ending.REFUSED, "invalid_grant")
        after = self._issued(self._line(token), now)
        granted = self._granted(token, after.newest)
        after = after._replace(uses=(*self.uses, Use(token, after.newest, granted, now)))
        shown = None if self.kind == "silent" else SecretText(granted)
        return after, Granted(SecretText(f"access-{after.newest}"), shown, now, now + LIFE)

    def proof(self, token: str, now: datetime) -> Proof:
        if self.forbids:
            return Denied("HTTP 403")
        number = number_of(token)
        known = "typo" not in token and self.lines[number - 1] not in self.revoked
        return Proved("77") if known and now < self.issued[number - 1] + LIFE else Denied("HTTP 401")

    def accepts(self, token: str, now: datetime) -> bool:
        if "typo" in token or self._line(token) in self.revoked:
            return False
        if self.kind == "lenient" and self.is_spent(token):
            return now - self.uses_up(token)[0].at < LENIENCY
        return self.kind in ("reusable", "same", "silent") or not self.is_spent(token)

    def is_spent(self, token: str) -> bool:
        """True if another token was given for it, whether the provider takes it again or not."""
        return bool(self.uses_up(token))

    def uses_up(self, token: str) -> list[Use]:
        """The uses of *token* for another one since it was given out for the last time."""
        given = max((n for n, use in enumerate(self.uses) if use.granted == token), default=-1)
        return [use for use in self.uses[given + 1 :] if use.token == token != use.granted]

    def is_live(self, token: str, now: datetime) -> bool:
        """True if a refresher should send this one rather than a spent one."""
        return self.accepts(token, now) and not self.is_spent(token)

    def granted_for(self, number: int) -> str:
        """The refresh token that pair *number* was given for; empty where it was a password."""
        return next((use.token for use in self.uses if use.number == number), "")

    def _granted(self, token: str, number: int) -> str:
        if self.kind in ("same", "silent"):
            return token
        before = [use.token for use in self.uses if use.granted == token]
        return before[-1] if self.kind == "cycling" and before else f"refresh-{number}"

    def _issued(self, line: int, now: datetime) -> Provider:
        return self._replace(lines=(*self.lines, line), issued=(*self.issued, now))

    def _line(self, token: str) -> int:
        return self.lines[number_of(token) - 1]


def number_of(token: str) -> int:
    return int(token.rpartition("-")[2])
