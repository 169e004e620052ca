"""Making a connection: obtain tokens, show whose they are, and only then change anything."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from botocore.exceptions import ClientError

from token_refresher.aws.secret_store import SecretStore
from token_refresher.refresh.formats import SecretNames, TokenPair
from token_refresher.refresh.login import store_login
from token_refresher.refresh.model import Proved, RefreshError, Services
from virtuous_token.secret_text import SecretText

from .answers import Answers
from .connection_secrets import ConnectionSecrets, SecretState
from .obtain import Password, Tokens, open_endpoint, second_factor
from .protection import lets_in, pattern_for, pattern_of_caller
from .remedies import CommandFailed, aws_cli, ours
from .screen import say, working
from .stack import Connection, Stack, now
from .words import GOOD_OUTCOMES, sentence_of

__all__ = ["Login", "LoginOptions"]

# A refresh that holds the connection may take as long as an invocation of the function, five minutes.
PATIENCE = timedelta(minutes=7)


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """What the person asked for. ``yes`` answers every question with yes; ``protect`` names who keeps access."""

    kind: str  # "password", "api-key" or "refresh-token"
    remember: bool
    yes: bool
    protect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """One login into one connection. *changed* is called with a sentence once something was changed."""

    stack: Stack
    connection: str
    options: LoginOptions
    answers: Answers
    changed: Callable[[str], object]

    def run(self) -> None:
        """Raises CommandFailed, click.UsageError, and what botocore and the store raise."""
        with working("Asking the function"):
            report = self.stack.report([self.connection])
        (before,) = report.connections
        settings = report.settings
        secrets = ConnectionSecrets(
            self.stack.aws.client("secretsmanager"),
            SecretNames.of(self.stack.prefix, self.connection),
            settings.get("kms_key_arn"),
            self.stack.own_tags,
        )
        principals = _who_keeps_access(self.stack, secrets, self.options.protect)
        marked = secrets.marked_for_deletion()  # before anybody is asked for a password or sent a code
        services = Services(open_endpoint(settings["base_url"], now), now, time.sleep)
        tokens = Tokens(self.options.kind, self.connection, services, self.answers)
        pair, password = tokens.obtain(remember=self.options.remember)
        proof = tokens.prove(pair)
        pair = replace(pair, organization_id=proof.organization_id, organization_name=proof.organization_name)
        _show(pair, proof)
        consent = _Consent(self.connection, self.options, self.answers)
        consent.to_replace(before, pair, marked)
        if self.options.remember:
            consent.to_remember(pair)
        self._store(secrets, marked, services, pair, principals, consent)
        if self.options.remember and password is not None:
            secrets.keep_login(_login_value(password))
            say(f"Stored e-mail and password as {secrets.names.login}.", err=True)
        elif secrets.state(secrets.names.login) is SecretState.PRESENT:
            say(f"{secrets.names.login} stays as it is; --remember stores another password.", err=True)
        self._protect_login(secrets)
        self._publish()

    def _store(
        self,
        secrets: ConnectionSecrets,
        marked: Sequence[str],
        services: Services,
        pair: TokenPair,
        principals: list[str],
        consent: _Consent,
    ) -> None:
        for name in marked:
            secrets.restore(name)
            self.changed(f"{name} was restored.")
        if marked:  # only now can be seen whose pair it holds
            consent.to_another_organisation(self.stack.report([self.connection]).connections[0], pair)
        for name in secrets.make_missing():
            self.changed(f"{name} was made.")
        if principals:  # before there is a token in it
            self._protect(secrets, secrets.names.pair, principals)
        with working("Storing the tokens"):
            store = SecretStore(secrets.client, secrets.names)
            try:
                store_login(
                    store, services, pair, give_up_at=now() + PATIENCE, adopted=self.options.kind == "refresh-token"
                )
            except RefreshError as error:
                raise CommandFailed(f"The tokens could not be stored: {error}.", "try the same again") from None
        self.changed(f"The tokens are stored in {secrets.names.pair}.")

    def _protect(self, secrets: ConnectionSecrets, name: str, principals: list[str]) -> None:
        secrets.protect(name, principals)
        self.changed(f"{name} is for {', '.join(principals)} alone.")
        say(f"{name} is for these alone: {', '.join(principals)}.", err=True)

    def _protect_login(self, secrets: ConnectionSecrets) -> None:
        """The password can do all that the pair can: so it is for the same people."""
        names = secrets.names
        if secrets.state(names.login) is not SecretState.PRESENT:
            return
        principals = secrets.who_may_read(names.pair)
        if principals and secrets.who_may_read(names.login) != principals:
            self._protect(secrets, names.login, principals)

    def _publish(self) -> None:
        """Has the function publish; whatever leaves readers without the current token is a failure."""
        try:
            with working("Publishing to readers"):
                outcome = self.stack.refresh(self.connection, force=False)
        except (CommandFailed, ClientError) as error:
            raise CommandFailed(
                f"The tokens are stored, and publishing them to readers failed: {error}",
                "the next scheduled run publishes them; or at once:",
                ours("refresh", connection=self.connection),
            ) from None
        sentence, run = sentence_of(outcome, self.connection)
        if outcome not in GOOD_OUTCOMES:
            raise CommandFailed(
                f"The tokens are stored, and not published: {sentence} ({outcome})", *[run] if run else []
            )
        say(f"{self.connection}: logged in. Readers have the token.")


@dataclass(frozen=True, slots=True)
class _Consent:
    """Asks the person before anything changes. Raises CommandFailed for a no."""

    connection: str
    options: LoginOptions
    answers: Answers

    def to_replace(self, before: Connection, pair: TokenPair, marked: Sequence[str]) -> None:
        self.to_another_organisation(before, pair)
        if marked:
            self._to(f"Marked for deletion: {', '.join(marked)}. Restore?")
        if self.options.kind == "refresh-token":
            self._to("From now on the function refreshes this pair, and whatever else holds it may lose it. Go on?")

    def to_another_organisation(self, before: Connection, pair: TokenPair) -> None:
        there = before.text("organization_id")
        if there and pair.organization_id and there != pair.organization_id:
            name = before.text("organization_name") or there
            self._to(
                f"Connection {self.connection} belongs to another organisation, {name} ({there}). Its readers would "
                "read and write in the new one. Replace it?"
            )

    def to_remember(self, pair: TokenPair) -> None:
        if pair.two_factor_enabled:
            raise second_factor(self.connection)
        self._to(
            "E-mail and password are stored as a secret that the function may read. It logs in with them by itself, at "
            "most once a day, when every refresh token is refused. Whoever may read that secret can act as this user. "
            "Store them?"
        )

    def _to(self, question: str) -> None:
        if not self.options.yes and not self.answers.confirm(question):
            raise CommandFailed("You said no.")


def _who_keeps_access(stack: Stack, secrets: ConnectionSecrets, protect: Sequence[str]) -> list[str]:
    """Those for whom alone the pair shall be; empty where nothing is to change.

    Raises CommandFailed where the caller is not among them, or is shut out already.
    """
    pair = secrets.names.pair
    there = secrets.who_may_read(pair) if secrets.state(pair) is SecretState.PRESENT else None
    if there is not None and not lets_in(there, caller := stack.aws.caller):
        raise CommandFailed(
            f"{pair} is for {', '.join(there)} alone, and you are {caller}.",
            "log in to AWS as one of them; or as an administrator first:",
            aws_cli("secretsmanager", "delete-resource-policy", "--secret-id", pair),
        )
    if not protect:
        return []
    principals = [pattern_for(stack.role), *protect]
    if not lets_in(principals, caller := stack.aws.caller):
        raise CommandFailed(
            f"You would lock yourself out: {pair} would be for {', '.join(principals)} alone, and you are {caller}.",
            f"the same again with --protect '{pattern_of_caller(caller)}' as well",
        )
    return principals


def _show(pair: TokenPair, proof: Proved) -> None:
    organization = proof.organization_name or "an organisation that does not tell its name"
    identifier = f" ({proof.organization_id})" if proof.organization_id else ""
    say(f"Organisation  {organization}{identifier}", err=True)
    if pair.user_name:
        say(f"User          {pair.user_name}", err=True)
    if proof.is_enabled is False:
        say("Virtuous says that this organisation is disabled.", err=True)


def _login_value(login: Password) -> SecretText:
    return SecretText(json.dumps({"username": login.e_mail, "password": login.password.reveal()}))
