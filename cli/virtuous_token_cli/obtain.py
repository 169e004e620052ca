"""Tokens for a connection: from Virtuous for e-mail and password, or from a person who has some."""

from __future__ import annotations

import json
import re
import time

from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.model import Ending, Granted, NotGranted, Proved, Services, Unclear
from token_refresher.refresh.new_pair import REFRESH_TOKEN_LIFE
from virtuous_token.contract import can_be_header
from virtuous_token.secret_text import SecretText

from .answers import Answers
from .remedies import CommandFailed, ours
from .screen import say, working
from .words import RIGHTS

# Seconds between the looks at whose token it is, where Virtuous gives no clear answer.
BETWEEN_PROOFS = (1.0, 3.0)
# How people group the digits of a one-time code.
_BLANKS_AND_DASHES = re.compile(r"[\s\u2010-\u2015\u2212-]+")


def obtained(
    kind: str, connection: str, services: Services, answers: Answers, *, remember: bool
) -> tuple[TokenPair, SecretText | None]:
    """The pair; and what the login secret would hold, if a password was asked for.

    *kind*: "password", "api-key" or "refresh-token".

    Raises CommandFailed where Virtuous gives none; and where the password is to be remembered and would be of no use.
    """
    if kind == "api-key":
        return TokenPair(access_token=_header_safe(answers.ask_hidden("API key"), "API key")), None
    if kind == "refresh-token":
        access_token = _header_safe(answers.ask_hidden("Access token"), "access token")
        return TokenPair(access_token, SecretText(answers.ask_hidden("Refresh token").strip())), None
    e_mail, password = answers.ask("E-mail"), SecretText(answers.ask_hidden("Password"))
    with working("Logging in to Virtuous"):
        answer = services.endpoint.log_in(e_mail, password)
    code_was_sent = isinstance(answer, NotGranted) and answer.ending is Ending.CODE_NEEDED
    if code_was_sent:
        if remember:
            raise second_factor(connection)
        say("Virtuous sent a one-time code to the user's phone.", err=True)
        code = SecretText(_BLANKS_AND_DASHES.sub("", answers.ask_hidden("Code")))
        with working("Logging in to Virtuous"):
            answer = services.endpoint.log_in(e_mail, password, code)
    if isinstance(answer, NotGranted):
        raise _not_granted(answer, code_was_sent=code_was_sent)
    for oddity in answer.oddities:
        say(f"Noticed: {oddity}.", err=True)
    remembered = json.dumps({"username": e_mail, "password": password.reveal()})
    return _pair_of(answer, e_mail), SecretText(remembered)


def proved(pair: TokenPair, kind: str, services: Services) -> Proved:
    """Whose tokens these are. Raises CommandFailed where Virtuous refuses them, or does not say."""
    with working("Asking Virtuous whose token it is"):
        proof = services.endpoint.prove(pair.access_token)
        for seconds in BETWEEN_PROOFS:
            if isinstance(proof, Unclear):
                time.sleep(seconds)
                proof = services.endpoint.prove(pair.access_token)
    if isinstance(proof, Proved):
        return proof
    if isinstance(proof, Unclear):
        what = f"Virtuous did not tell whose token this is ({proof.reason})."
        raise CommandFailed(what, "try the same again in a few minutes")
    given = "the token that it has just given: the account may not use the API"
    refused = {"api-key": "this API key", "refresh-token": "this access token"}.get(kind, given)
    raise CommandFailed(f"Virtuous refuses {refused} ({proof.reason}).", RIGHTS)


def second_factor(connection: str) -> CommandFailed:
    """Why the password of this account is not remembered."""
    return CommandFailed(
        "This account has a second factor: the function could never log in with the password alone.",
        "the same without --remember:",
        ours("login", connection=connection),
    )


def _not_granted(answer: NotGranted, *, code_was_sent: bool) -> CommandFailed:
    again, is_refused = "try the same again", answer.ending is Ending.REFUSED
    if answer.ending is Ending.CODE_NEEDED:
        return CommandFailed("Virtuous does not accept the one-time code; it sent another one.", again)
    if is_refused and answer.reason == "invalid_grant" and code_was_sent:
        return CommandFailed("Virtuous does not accept the one-time code, or it came too late.", again)
    if is_refused and answer.reason == "invalid_grant":
        there = f"log in at https://app.virtuoussoftware.com with them; then {again}"
        return CommandFailed("Virtuous does not accept this e-mail and password.", there)
    if is_refused:
        return CommandFailed(
            f"Virtuous refuses this account, whatever its password ({answer.reason}).",
            "ask an administrator in Virtuous whether the user is active and may use the API",
        )
    if answer.ending is Ending.MISCONFIGURED:
        where = "is the stack's VirtuousBaseUrl right? This shows it:"
        return CommandFailed(f"Virtuous gave no tokens ({answer.reason}).", where, ours("check"))
    # A password is spent by nothing: whatever became of this request, another one does no harm.
    wait = f" It asks to wait {answer.retry_after.total_seconds():.0f} s." if answer.retry_after else ""
    return CommandFailed(
        f"Virtuous did not serve the login ({answer.reason}).{wait}",
        f"{again} later; if it goes on, look at this machine's network and proxy",
    )


def _pair_of(answer: Granted, e_mail: str) -> TokenPair:
    if answer.access_token is None:
        raise CommandFailed("Virtuous answered without a usable access token.", "try the same again")
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
