"""Making a connection: obtain tokens, show whose they are, and only then change anything."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import click
from botocore.exceptions import ClientError
from rich.console import Console

from token_refresher.answers import Answer, CodeNeeded, Granted, Later, NothingSent, Proved, Refused, Unclear
from token_refresher.login import store_login
from token_refresher.ports import RefreshError, Services
from token_refresher.renewal import REFRESH_TOKEN_LIFE
from token_refresher.secret_store import SecretStore
from virtuous_token.contract import SecretNames, TokenPair, can_be_header
from virtuous_token.secret_text import SecretText

from .answers import Answers
from .connection_secrets import ConnectionSecrets
from .endpoint import open_endpoint
from .failures import CommandFailed
from .stack import Connection, Report, Stack
from .words import GOOD_OUTCOMES, sentence_of

__all__ = ["Login", "LoginOptions"]

# A refresh that holds the connection may take as long as an invocation of the function, five minutes.
PATIENCE = timedelta(minutes=7)
# Seconds between the looks at whose token it is, where Virtuous gives no clear answer.
BETWEEN_PROOFS = (1.0, 3.0)


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """What the person asked for. ``yes`` answers every question with yes."""

    kind: str  # "password", "api-key" or "refresh-token"
    remember: bool
    yes: bool


@dataclass(frozen=True, slots=True)
class Login:
    """One login into one connection. *changed* is called with a sentence once something was changed."""

    stack: Stack
    connection: str
    options: LoginOptions
    answers: Answers
    console: Console
    changed: Callable[[str], object]

    def run(self) -> None:
        """Raises CommandFailed, click.UsageError, and what boto3 and the store raise."""
        with self.console.status("Asking the function"):
            report = self.stack.report([self.connection])
        (before,) = report.connections
        settings = report.settings
        secrets = ConnectionSecrets(
            self.stack.aws.client("secretsmanager"),
            SecretNames.of(self.stack.prefix, self.connection),
            settings.get("kms_key_arn"),
            self.stack.own_tags,
        )
        marked = secrets.marked_for_deletion()  # before anybody is asked for a password or sent a code
        services = Services(open_endpoint(settings["base_url"], _now), _now, time.sleep)
        pair, password = self._obtain(services)
        proof = self._prove(services, pair)
        pair = _with_organization(pair, proof)
        self._show(pair, proof)
        self._ask_before_replacing(before, pair, marked)
        if self.options.remember:
            self._ask_before_remembering(pair)
        self._store(report, secrets, marked, services, pair)
        if self.options.remember and password is not None:
            secrets.keep_login(_login_value(pair, password))
            self.console.print(f"Stored e-mail and password as {secrets.names.login}.")
        self._publish()

    # Obtaining tokens

    def _obtain(self, services: Services) -> tuple[TokenPair, _Password | None]:
        if self.options.kind == "api-key":
            return TokenPair(access_token=_header_safe(self.answers.ask_hidden("API key"), "API key")), None
        if self.options.kind == "refresh-token":
            access_token = _header_safe(self.answers.ask_hidden("Access token"), "access token")
            return TokenPair(access_token, SecretText(self.answers.ask_hidden("Refresh token").strip())), None
        e_mail, password = self.answers.ask("E-mail"), SecretText(self.answers.ask_hidden("Password"))
        with self.console.status("Logging in to Virtuous"):
            answer = services.endpoint.log_in(e_mail, password)
        code_was_sent = isinstance(answer, CodeNeeded)
        if code_was_sent:
            if self.options.remember:
                raise CommandFailed(
                    "This account has a second factor: the function could never log in with the password alone.",
                    f"virtuous-token login --connection {self.connection}, without --remember",
                )
            self.console.print("Virtuous sent a one-time code to the user's phone.")
            code = SecretText(self.answers.ask_hidden("Code").strip())
            with self.console.status("Logging in to Virtuous"):
                answer = services.endpoint.log_in(e_mail, password, code)
        granted = _granted(answer, code_was_sent=code_was_sent)
        for oddity in granted.oddities:
            self.console.print(f"Noticed: {oddity}.", markup=False)
        return _pair_of(granted, e_mail), _Password(e_mail, password)

    def _prove(self, services: Services, pair: TokenPair) -> Proved:
        with self.console.status("Asking Virtuous whose token it is"):
            proof = services.endpoint.prove(pair.access_token)
            for seconds in BETWEEN_PROOFS:
                if not isinstance(proof, Unclear):
                    break
                time.sleep(seconds)
                proof = services.endpoint.prove(pair.access_token)
        if isinstance(proof, Proved):
            return proof
        if isinstance(proof, Unclear):
            raise CommandFailed(
                f"Virtuous did not tell whose token this is ({proof.reason}).", "the same again in a few minutes"
            )
        what = {"api-key": "this API key", "refresh-token": "this access token"}.get(
            self.options.kind, "the token that it has just given: the account may not use the API"
        )
        raise CommandFailed(f"Virtuous refuses {what} ({proof.reason}).", "look at the user's rights in Virtuous")

    # Asking before anything changes

    def _show(self, pair: TokenPair, proof: Proved) -> None:
        organization = proof.organization_name or "an organisation that does not tell its name"
        identifier = f" ({proof.organization_id})" if proof.organization_id else ""
        self.console.print(f"Organisation  {organization}{identifier}", markup=False)
        if pair.user_name:
            self.console.print(f"User          {pair.user_name}", markup=False)
        if proof.is_enabled is False:
            self.console.print("Virtuous says that this organisation is disabled.")

    def _ask_before_replacing(self, before: Connection, pair: TokenPair, marked: list[str]) -> None:
        there = before.text("organization_id")
        if there and pair.organization_id and there != pair.organization_id:
            name = before.text("organization_name") or there
            self._must_agree(
                f"Connection {self.connection} belongs to another organisation, {name} ({there}). Its readers would "
                "read and write in the new one. Replace it?"
            )
        if marked:
            self._must_agree(f"Marked for deletion: {', '.join(marked)}. Restore?")
        if self.options.kind == "refresh-token":
            self._must_agree(
                "From now on the function refreshes this pair, and whatever else holds it may lose it. Go on?"
            )

    def _ask_before_remembering(self, pair: TokenPair) -> None:
        if pair.two_factor_enabled:
            raise CommandFailed(
                "This account has a second factor: the function could never log in with the password alone.",
                f"virtuous-token login --connection {self.connection}, without --remember",
            )
        self._must_agree(
            "E-mail and password are stored as a secret that the function may read. It logs in with them by itself, at "
            "most once a day, when every refresh token is refused. Whoever may read that secret can act as this user. "
            "Store them?"
        )

    def _must_agree(self, question: str) -> None:
        if not self.options.yes and not self.answers.confirm(question):
            raise CommandFailed("You said no.")

    # Changing things

    def _store(
        self, report: Report, secrets: ConnectionSecrets, marked: list[str], services: Services, pair: TokenPair
    ) -> None:
        for name in marked:
            secrets.restore(name)
            self.changed(f"{name} was restored.")
        for name in secrets.make_missing():
            self.changed(f"{name} was made.")
        with self.console.status("Storing the tokens"):
            store = SecretStore(secrets.client, secrets.names)
            try:
                store_login(store, services, pair, give_up_at=_now() + PATIENCE)
            except RefreshError as error:
                raise CommandFailed(f"The tokens could not be stored: {error}.", "the same command again") from None
        self.changed(f"The tokens are stored in {secrets.names.pair}.")

    def _publish(self) -> None:
        """Has the function publish; whatever leaves readers without the current token is a failure."""
        try:
            with self.console.status("Publishing to readers"):
                outcome = self.stack.refresh(self.connection, force=False)
        except (CommandFailed, ClientError) as error:
            raise CommandFailed(
                f"The tokens are stored, and publishing them to readers failed: {error}",
                "nothing, the next scheduled run publishes them; or virtuous-token refresh",
            ) from None
        sentence, run = sentence_of(outcome, self.connection)
        if outcome not in GOOD_OUTCOMES:
            raise CommandFailed(f"The tokens are stored, and not published: {sentence} ({outcome})", run)
        click.echo(f"{self.connection}: logged in. Readers have the token.")


@dataclass(frozen=True, slots=True)
class _Password:
    """What a login was made with."""

    e_mail: str
    password: SecretText


def _login_value(pair: TokenPair, login: _Password) -> SecretText:
    return SecretText(json.dumps({"username": login.e_mail, "password": login.password.reveal()}))


def _granted(answer: Answer, *, code_was_sent: bool) -> Granted:
    if isinstance(answer, Granted):
        if answer.access_token is None:
            raise CommandFailed("Virtuous answered without a usable access token.", "the same again")
        return answer
    if isinstance(answer, CodeNeeded):
        raise CommandFailed("Virtuous does not accept the one-time code; it sent another one.", "the same again")
    if isinstance(answer, Refused) and answer.reason == "invalid_grant":
        if code_was_sent:
            raise CommandFailed("Virtuous does not accept the one-time code, or it came too late.", "the same again")
        raise CommandFailed(
            "Virtuous does not accept this e-mail and password.",
            "log in at https://app.virtuoussoftware.com with them; then the same again",
        )
    if isinstance(answer, Refused):
        raise CommandFailed(
            f"Virtuous refuses this account, whatever its password ({answer.reason}).",
            "ask an administrator in Virtuous whether the user is active and may use the API",
        )
    if isinstance(answer, Later):
        wait = f" It asks to wait {answer.retry_after.total_seconds():.0f} s." if answer.retry_after else ""
        raise CommandFailed(f"Virtuous did not serve the login ({answer.reason}).{wait}", "the same again later")
    if isinstance(answer, NothingSent):
        raise CommandFailed(f"Virtuous can't be reached from here: {answer.reason}.", "check the network and proxy")
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


def _with_organization(pair: TokenPair, proof: Proved) -> TokenPair:
    return replace(pair, organization_id=proof.organization_id, organization_name=proof.organization_name)


def _header_safe(given: str, what: str) -> SecretText:
    """The token without quotes and white space round it. Raises CommandFailed where Virtuous could not take it."""
    token = given.strip().strip("\"'").strip()
    if not can_be_header(token):
        raise CommandFailed(
            f"That is no {what}: it is empty, or holds a space, a quote or a character that is not ASCII.",
            "copy it again, whole and alone",
        )
    return SecretText(token)


def _now() -> datetime:
    return datetime.now(UTC)
