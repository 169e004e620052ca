"""Making a connection: obtain tokens, show whose they are, and only then change anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import click

from token_refresher.aws.secret_store import SecretStore
from token_refresher.refresh.formats import TokenPair
from token_refresher.refresh.login import store_login
from token_refresher.refresh.model import Proved, RefreshError, Services
from token_refresher.virtuous.endpoint import TokenEndpoint

from .answers import Answers, open_answers
from .aws import FAILURES, explained
from .connection_secrets import ConnectionSecrets, lets_in, pattern_for, pattern_of_caller
from .obtain import obtained, proved, second_factor
from .options import Session
from .remedies import CommandFailed, aws_cli, ours
from .screen import say, working
from .stack import Connection, Stack, now
from .words import GOOD_OUTCOMES, sentence_of

# A refresh that holds the connection may take as long as an invocation of the function, five minutes.
PATIENCE = timedelta(minutes=7)


def log_in(
    session: Session, connection: str, kind: str, *, remember: bool, yes: bool, protect: tuple[str, ...]
) -> None:
    """One login into one connection. *kind*: "password", "api-key" or "refresh-token".

    *yes* answers every question with yes; *protect* names who keeps access. Raises CommandFailed, click.UsageError, and
    what botocore and the store raise.
    """
    how = ([] if kind == "password" else [f"--{kind}"]) + ["--remember"] * remember
    answers = open_answers(ours("login", *how, connection=connection, rest=" < FILE"))
    stack = session.stack()
    with working("Asking the function"):
        report = stack.report([connection])
    (before,), settings = report.connections, report.document["settings"]
    secrets = ConnectionSecrets.of(stack, connection, settings.get("kms_key_arn"))
    login = _Login(stack, answers, secrets, session.changed.append, connection, kind, remember, yes)
    login.run(before, settings["base_url"], protect)


@dataclass(frozen=True, slots=True)
class _Login:
    """*changed* is called with a sentence once something was changed."""

    stack: Stack
    answers: Answers
    secrets: ConnectionSecrets
    changed: Callable[[str], object]
    connection: str
    kind: str
    remember: bool
    yes: bool

    def run(self, before: Connection, base_url: str, protect: Sequence[str]) -> None:
        secrets, names = self.secrets, self.secrets.names
        principals = _who_keeps_access(self.stack, secrets, protect)
        marked = secrets.marked_for_deletion()  # before anybody is asked for a password or sent a code
        services = _services(base_url)
        pair, login = obtained(self.kind, self.connection, services, self.answers, remember=self.remember)
        proof = proved(pair, self.kind, services)
        pair = replace(pair, organization_id=proof.organization_id, organization_name=proof.organization_name)
        _show(pair, proof)
        self._ask_before_anything_changes(before, pair, marked)
        self._restore_or_make(marked, pair)
        if principals:  # before there is a token in it
            self._protect(names.pair, principals)
        self._store(services, pair)
        if self.remember and login is not None:
            secrets.keep_login(login)
            say(f"Stored e-mail and password as {names.login}.", err=True)
        elif secrets.is_present(names.login):
            say(f"{names.login} stays as it is; --remember stores another password.", err=True)
        if secrets.is_present(names.login):  # it can do all that the pair can, so it is for the same people
            principals = secrets.who_may_read(names.pair) or []
            if principals and secrets.who_may_read(names.login) != principals:
                self._protect(names.login, principals)
        self._publish()

    def _restore_or_make(self, marked: Sequence[str], pair: TokenPair) -> None:
        for name in marked:
            self.secrets.restore(name)
            self.changed(f"{name} was restored.")
        if marked:  # only now can be seen whose pair it holds
            self._ask_about_another_organisation(self.stack.report([self.connection]).connections[0], pair)
        for name in self.secrets.make_missing():
            self.changed(f"{name} was made.")

    def _store(self, services: Services, pair: TokenPair) -> None:
        store, adopted = SecretStore(self.secrets.client, self.secrets.names), self.kind == "refresh-token"
        try:
            with working("Storing the tokens"):
                store_login(store, services, pair, give_up_at=now() + PATIENCE, adopted=adopted)
        except RefreshError as error:
            raise CommandFailed(f"The tokens could not be stored: {error}.", "try the same again") from None
        self.changed(f"The tokens are stored in {self.secrets.names.pair}.")

    def _protect(self, name: str, principals: Sequence[str]) -> None:
        self.secrets.protect(name, principals)
        self.changed(f"{name} is for {', '.join(principals)} alone.")
        say(f"{name} is for these alone: {', '.join(principals)}.", err=True)

    def _publish(self) -> None:
        """Has the function publish; whatever leaves readers without the current token is a failure."""
        try:
            with working("Publishing to readers"):
                outcome = self.stack.refresh(self.connection, force=False)
        except FAILURES as error:
            raise CommandFailed(
                f"The tokens are stored, and publishing them to readers failed: {explained(error, self.stack.aws)}",
                "the next scheduled run publishes them; or at once:",
                ours("refresh", connection=self.connection),
            ) from None
        sentence, run = sentence_of(outcome, self.connection)
        if outcome not in GOOD_OUTCOMES:
            raise CommandFailed(f"The tokens are stored, and not published: {sentence} ({outcome})", *run)
        say(f"{self.connection}: logged in. Readers have the token.")

    def _ask_before_anything_changes(self, before: Connection, pair: TokenPair, marked: Sequence[str]) -> None:
        """Raises CommandFailed for a no."""
        self._ask_about_another_organisation(before, pair)
        if marked:
            self._ask(f"Marked for deletion: {', '.join(marked)}. Restore?")
        if self.kind == "refresh-token":
            self._ask("From now on the function refreshes this pair, and whatever else holds it may lose it. Go on?")
        if self.remember and pair.two_factor_enabled:
            raise second_factor(self.connection)
        if self.remember:
            self._ask(
                "E-mail and password are stored as a secret that the function may read. It logs in with them by "
                "itself, at most once a day, when every refresh token is refused. Whoever may read that secret can act "
                "as this user. Store them?"
            )

    def _ask_about_another_organisation(self, before: Connection, pair: TokenPair) -> None:
        there = before.text("organization_id")
        if there and pair.organization_id and there != pair.organization_id:
            name = before.text("organization_name") or there
            whose = f"Connection {self.connection} belongs to another organisation, {name} ({there})."
            self._ask(f"{whose} Its readers would read and write in the new one. Replace it?")

    def _ask(self, question: str) -> None:
        if not self.yes and not self.answers.confirm(question):
            raise CommandFailed("You said no.")


def _who_keeps_access(stack: Stack, secrets: ConnectionSecrets, protect: Sequence[str]) -> list[str]:
    """Those for whom alone the pair shall be; empty where nothing is to change.

    Raises CommandFailed where the caller is not among them, or is shut out already.
    """
    pair, aws = secrets.names.pair, stack.aws
    there = secrets.who_may_read(pair) if secrets.is_present(pair) else None
    if there is not None and not lets_in(there, caller := aws.identity["Arn"]):
        raise CommandFailed(
            f"{pair} is for {', '.join(there)} alone, and you are {caller}.",
            "log in to AWS as one of them; or as an administrator first:",
            aws_cli("secretsmanager", "delete-resource-policy", "--secret-id", pair),
        )
    if not protect:
        return []
    principals = [pattern_for(stack.configuration["Role"]), *protect]
    if not lets_in(principals, caller := aws.identity["Arn"]):
        raise CommandFailed(
            f"You would lock yourself out: {pair} would be for {', '.join(principals)} alone; you are {caller}.",
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


def _services(base_url: str) -> Services:
    """Virtuous, as this machine reaches it. Raises click.UsageError for a proxy in its environment that is no use."""
    try:
        return Services(TokenEndpoint(base_url, clock=now), now, time.sleep)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
