"""Tokens for a connection: from Virtuous for e-mail and password, or from a person who has some."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console

from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.model import Answer, Ending, Granted, NotGranted, Proved, Services, Unclear
from token_refresher.refresh.new_pair import REFRESH_TOKEN_LIFE
from virtuous_token.contract import can_be_header
from virtuous_token.secret_text import SecretText

from .answers import Answers
from .failures import CommandFailed

__all__ = ["Password", "Tokens", "second_factor"]

# Seconds between the looks at whose token it is, where Virtuous gives no clear answer.
BETWEEN_PROOFS = (1.0, 3.0)


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
    console: Console

    def obtain(self, *, remember: bool) -> tuple[TokenPair, Password | None]:
        """The pair, and what it was obtained with. Raises CommandFailed where Virtuous gives none."""
        if self.kind == "api-key":
            return TokenPair(access_token=_header_safe(self.answers.ask_hidden("API key"), "API key")), None
        if self.kind == "refresh-token":
            access_token = _header_safe(self.answers.ask_hidden("Access token"), "access token")
            return TokenPair(access_token, SecretText(self.answers.ask_hidden("Refresh token").strip())), None
        e_mail, password = self.answers.ask("E-mail"), SecretText(self.answers.ask_hidden("Password"))
        with self.console.status("Logging in to Virtuous"):
            answer = self.services.endpoint.log_in(e_mail, password)
        code_was_sent = isinstance(answer, NotGranted) and answer.ending is Ending.CODE_NEEDED
        if code_was_sent:
            if remember:
                raise second_factor(self.connection)
            self.console.print("Virtuous sent a one-time code to the user's phone.")
            code = SecretText(self.answers.ask_hidden("Code").strip())
            with self.console.status("Logging in to Virtuous"):
                answer = self.services.endpoint.log_in(e_mail, password, code)
        granted = _granted(answer, code_was_sent=code_was_sent)
        for oddity in granted.oddities:
            self.console.print(f"Noticed: {oddity}.", markup=False)
        return _pair_of(granted, e_mail), Password(e_mail, password)

    def prove(self, pair: TokenPair) -> Proved:
        """Whose tokens these are. Raises CommandFailed where Virtuous refuses them, or does not say."""
        with self.console.status("Asking Virtuous whose token it is"):
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
                f"Virtuous did not tell whose token this is ({proof.reason}).", "the same again in a few minutes"
            )
        what = {"api-key": "this API key", "refresh-token": "this access token"}.get(
            self.kind, "the token that it has just given: the account may not use the API"
        )
        raise CommandFailed(f"Virtuous refuses {what} ({proof.reason}).", "look at the user's rights in Virtuous")


def second_factor(connection: str) -> CommandFailed:
    """Why the password of this account is not remembered."""
    return CommandFailed(
        "This account has a second factor: the function could never log in with the password alone.",
        f"virtuous-token login --connection {connection}, without --remember",
    )


def _granted(answer: Answer, *, code_was_sent: bool) -> Granted:
    if isinstance(answer, Granted):
        if answer.access_token is None:
            raise CommandFailed("Virtuous answered without a usable access token.", "the same again")
        return answer
    if answer.ending is Ending.CODE_NEEDED:
        raise CommandFailed("Virtuous does not accept the one-time code; it sent another one.", "the same again")
    if answer.ending is Ending.REFUSED and answer.reason == "invalid_grant":
        if code_was_sent:
            raise CommandFailed("Virtuous does not accept the one-time code, or it came too late.", "the same again")
        raise CommandFailed(
            "Virtuous does not accept this e-mail and password.",
            "log in at https://app.virtuoussoftware.com with them; then the same again",
        )
    if answer.ending is Ending.REFUSED:
        raise CommandFailed(
            f"Virtuous refuses this account, whatever its password ({answer.reason}).",
            "ask an administrator in Virtuous whether the user is active and may use the API",
        )
    if answer.ending in (Ending.THROTTLED, Ending.UNREACHABLE):
        wait = f" It asks to wait {answer.retry_after.total_seconds():.0f} s." if answer.retry_after else ""
        raise CommandFailed(
            f"Virtuous did not serve the login: {answer.reason}.{wait}",
            "the same again later; check the network and proxy",
        )
    raise CommandFailed(
        f"Virtuous gave no tokens ({answer.reason}).", "virtuous-token check; is the stack's VirtuousBaseUrl right?"
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
