"""Tokens for a connection: from Virtuous for e-mail and password, or from a person who has some."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import click

from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.model import Answer, Ending, Granted, NotGranted, Proved, Services, Unclear
from token_refresher.refresh.new_pair import REFRESH_TOKEN_LIFE
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.contract import can_be_header
from virtuous_token.secret_text import SecretText

from .answers import Answers
from .remedies import CommandFailed, ours
from .screen import say, working

__all__ = ["Password", "Tokens", "open_endpoint", "second_factor"]

# Seconds between the looks at whose token it is, where Virtuous gives no clear answer.
BETWEEN_PROOFS = (1.0, 3.0)
# How people group the digits of a one-time code.
_BLANKS_AND_DASHES = re.compile(r"[\s\u2010-\u2015\u2212-]+")


def open_endpoint(base_url: str, clock: Callable[[], datetime]) -> TokenEndpoint:
    """Virtuous, as this machine reaches it. Raises click.UsageError for a proxy in its environment that is no use."""
    try:
        return TokenEndpoint(base_url, clock=clock)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Password:
    """What a login was made with."""

    e_mail: str
    password: SecretText


@dataclass(frozen=True, slots=True)
class Tokens:
    """Obtains and proves tokens, and changes nothing. ``kind``: "password", "api-key" or "refresh-token"."""

    kind: str
    connection: str
    services: Services
    answers: Answers

    def obtain(self, *, remember: bool) -> tuple[TokenPair, Password | None]:
        """The pair, and what it was obtained with. Raises CommandFailed where Virtuous gives none."""
        if self.kind == "api-key":
            return TokenPair(access_token=_header_safe(self.answers.ask_hidden("API key"), "API key")), None
        if self.kind == "refresh-token":
            access_token = _header_safe(self.answers.ask_hidden("Access token"), "access token")
            return TokenPair(access_token, SecretText(self.answers.ask_hidden("Refresh token").strip())), None
        e_mail, password = self.answers.ask("E-mail"), SecretText(self.answers.ask_hidden("Password"))
        with working("Logging in to Virtuous"):
            answer = self.services.endpoint.log_in(e_mail, password)
        code_was_sent = isinstance(answer, NotGranted) and answer.ending is Ending.CODE_NEEDED
        if code_was_sent:
            if remember:
                raise second_factor(self.connection)
            say("Virtuous sent a one-time code to the user's phone.", err=True)
            code = SecretText(_BLANKS_AND_DASHES.sub("", self.answers.ask_hidden("Code")))
            with working("Logging in to Virtuous"):
                answer = self.services.endpoint.log_in(e_mail, password, code)
        granted = _granted(answer, code_was_sent=code_was_sent)
        for oddity in granted.oddities:
            say(f"Noticed: {oddity}.", err=True)
        return _pair_of(granted, e_mail), Password(e_mail, password)

    def prove(self, pair: TokenPair) -> Proved:
        """Whose tokens these are. Raises CommandFailed where Virtuous refuses them, or does not say."""
        with working("Asking Virtuous whose token it is"):
            proof = self.services.endpoint.prove(pair.access_token)
            for seconds in BETWEEN_PROOFS:
                if not isinstance(proof, Unclear):
                    break
                time.sleep(seconds)
                proof = self.services.endpoint.prove(pair.access_token)
        if isinstance(proof, Proved):
            return proof
        if isinstance(proof, Unclear):
            raise CommandFailed(
                f"Virtuous did not tell whose token this is ({proof.reason}).", "try the same again in a few minutes"
            )
        what = {"api-key": "this API key", "refresh-token": "this access token"}.get(
            self.kind, "the token that it has just given: the account may not use the API"
        )
        raise CommandFailed(f"Virtuous refuses {what} ({proof.reason}).", "look at the user's rights in Virtuous")


def second_factor(connection: str) -> CommandFailed:
    """Why the password of this account is not remembered."""
    return CommandFailed(
        "This account has a second factor: the function could never log in with the password alone.",
        "the same without --remember:",
        ours("login", connection=connection),
    )


def _granted(answer: Answer, *, code_was_sent: bool) -> Granted:
    if isinstance(answer, Granted):
        if answer.access_token is None:
            raise CommandFailed("Virtuous answered without a usable access token.", "try the same again")
        return answer
    if answer.ending is Ending.CODE_NEEDED:
        raise CommandFailed("Virtuous does not accept the one-time code; it sent another one.", "try the same again")
    if answer.ending is Ending.REFUSED and answer.reason == "invalid_grant":
        if code_was_sent:
            raise CommandFailed(
                "Virtuous does not accept the one-time code, or it came too late.", "try the same again"
            )
        raise CommandFailed(
            "Virtuous does not accept this e-mail and password.",
            "log in at https://app.virtuoussoftware.com with them; then try the same again",
        )
    if answer.ending is Ending.REFUSED:
        raise CommandFailed(
            f"Virtuous refuses this account, whatever its password ({answer.reason}).",
            "ask an administrator in Virtuous whether the user is active and may use the API",
        )
    if answer.ending is Ending.MISCONFIGURED:
        raise CommandFailed(
            f"Virtuous gave no tokens ({answer.reason}).",
            "is the stack's VirtuousBaseUrl right? This looks:",
            ours("check"),
        )
    # A password is spent by nothing: whatever became of this request, another one does no harm.
    wait = f" It asks to wait {answer.retry_after.total_seconds():.0f} s." if answer.retry_after else ""
    raise CommandFailed(
        f"Virtuous did not serve the login ({answer.reason}).{wait}",
        "try the same again later; if it goes on, look at this machine's network and proxy",
    )


def _pair_of(answer: Granted, e_mail: str) -> TokenPair:
    assert answer.access_token is not None  # noqa: S101 (checked where it was granted; for the type checker)
    return TokenPair(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        issued_at=answer.issued_at,
        expires_at=answer.expires_at,
        refresh_token_issued_at=answer.issued_at if answer.refresh_token else None,
        refresh_token_expires_at=answer.issued_at + REFRESH_TOKEN_LIFE if answer.refresh_token else None,
        user_name=answer.user_name or e_mail,
        two_factor_enabled=answer.two_factor_enabled,
    )


def _header_safe(given: str, what: str) -> SecretText:
    """The token without quotes and white space round it. Raises CommandFailed where Virtuous could not take it."""
    token = given.strip().strip("\"'").strip()
    if not can_be_header(token):
        raise CommandFailed(
            f"That is no {what}: it is empty, or holds a space, a quote or a character that is not ASCII.",
            "copy it again, whole and alone",
        )
    return SecretText(token)
