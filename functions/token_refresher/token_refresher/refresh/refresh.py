"""Core: one refresh of one connection, so that a refresh token is never sent twice and never lost.

The order is the guarantee: look, claim, send once, save, prove, publish. ``claim.py`` keeps the journal,
``candidates.py`` says what is sent, ``new_pair.py`` what is saved, ``publish.py`` what readers get.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from virtuous_token.errors import UnreadableSecret

from .candidates import Credential, StoredPairs, asked_for_a_code, next_credential
from .claim import Claim, Head, Journal
from .due import LONG_AGO, due_at
from .formats import TokenPair
from .journal import LABEL, ONE_TRY_A_DAY, backoff
from .model import (
    CURRENT,
    Denied,
    Ending,
    Granted,
    NotGranted,
    OutcomeWord,
    PairNotSaved,
    Policy,
    Result,
    RunEnds,
    Services,
    Store,
    Stored,
    StoreMisconfigured,
    StoreUnavailable,
    TimeLimits,
    Versions,
)
from .new_pair import oddities, renewed_pair
from .publish import Publisher

__all__ = ["OutcomeWord", "Policy", "Result", "TimeLimits", "fresh_result", "refresh_connection"]

# A claim and its result are two versions, and a person may put a few meanwhile. Secrets Manager keeps about 100 and
# removes only those older than a day; past that it refuses writes, and an answer that cannot be written is lost.
MOST_VERSIONS_BEFORE_A_CLAIM = 94
# How often the versions are read, at the most, until they show what this run has written itself.
LOOKS_AFTER_A_REFUSAL = 4


def refresh_connection(
    connection: str, store: Store, services: Services, policy: Policy, *, deadline: datetime, force: bool = False
) -> Result:
    """Brings one connection up to date, as far as that is needed and possible now.

    *deadline* is the instant at which this process may be ended: no credential is sent unless its answer can be saved
    before. *force*: refresh even if it is not due or waits for another try. What goes wrong is in the result; only a
    defect raises.
    """
    run = _Run(connection, Journal(store, services, deadline), policy, force)
    pair_at_risk = False
    try:
        outcome, reason = run.outcome()
    except RunEnds as end:
        outcome, reason, run.throttled_until = end.outcome, end.reason, end.throttled_until
    except PairNotSaved as error:
        outcome, pair_at_risk = OutcomeWord.TRY_AGAIN, True
        reason = f"{error}; the next run sends the refresh token again, then whatever else is stored and may work"
    except StoreUnavailable as error:
        outcome, reason = OutcomeWord.TRY_AGAIN, str(error)
    except StoreMisconfigured as error:
        outcome, reason = OutcomeWord.MISCONFIGURED, str(error)
    except UnreadableSecret as error:
        outcome = OutcomeWord.MISCONFIGURED
        reason = f"{error}: run virtuous-token login --connection {connection}"
    return run.result(outcome, reason, pair_at_risk=pair_at_risk)


def fresh_result(
    connection: str, stored: Stored, policy: Policy, now: datetime, *, proves_api_key: bool = True
) -> Result | None:
    """The result where *stored* alone shows that nothing is to be done; None where ``refresh_connection`` is needed.

    Many connections can be read in one batch. The pair must be published, idle and not due. One that is never refreshed
    is not fresh if *proves_api_key*: it may be revoked at any moment.
    """
    current = stored.pair
    if current is None or not stored.is_idle or stored.bearer_labels.get(CURRENT) != current.version_id:
        return None
    try:
        pair = current.parsed()
    except UnreadableSecret:
        return None
    due = due_at(pair, connection, policy.refresh_at_percent)
    has_ended = pair.expires_at is not None and pair.expires_at <= now
    if has_ended or (proves_api_key if due is None else due <= now):
        return None
    return Result(
        connection,
        OutcomeWord.FRESH,
        readers_work_until=pair.expires_at,
        refresh_token_expires_at=pair.refresh_token_expires_at,
        next_refresh_at=due,
        organization_name=pair.organization_name,
    )


_Verdict = tuple[OutcomeWord, str]
_FRESH: _Verdict = (OutcomeWord.FRESH, "")


@dataclass(slots=True, eq=False)
class _Run:
    """One run over one connection. ``newest`` is the newest pair that is saved and its version, as far as known."""

    connection: str
    journal: Journal
    policy: Policy
    force: bool
    publisher: Publisher = field(init=False)
    newest: tuple[str, TokenPair] | None = None
    api_key_refused: bool = False
    throttled_until: datetime | None = None

    def __post_init__(self) -> None:
        store, services = self.journal.store, self.journal.services
        self.publisher = Publisher(self.connection, store, services, self.policy, self.journal.deadline)

    def outcome(self) -> _Verdict:
        if self.journal.time_left() < self.policy.limits.look:
            return OutcomeWord.POSTPONED, "too little time is left to look"
        stored = self.journal.store.read()
        self.publisher.published = stored.bearer_labels.get(CURRENT)
        if stored.pair is None:
            return OutcomeWord.LOGIN_REQUIRED, "no token pair was stored yet"
        version, pair = stored.pair.version_id, stored.pair.parsed()
        self.newest = version, pair
        before = None if self.publisher.published == version else self._publish_what_is_saved(version, pair)

        is_due = self._is_due(pair, before)
        if pair.refresh_token is None:
            return self._never_refreshed(pair, before)
        if stored.is_idle and not is_due:
            return before or self._fresh(pair)
        versions = self.journal.store.pair_versions()
        try:
            head = self.journal.head(stored.pair, versions, busy_for=self.policy.limits.request)
        except RunEnds as end:
            if before and end.outcome is OutcomeWord.BUSY:
                return before
            raise
        if waits := self._waiting(version, pair, head):
            return waits
        # An attempt with this token that brought no pair leaves a doubt, so it is due whatever its age.
        if not is_due and pair.refresh_token.fingerprint() not in head.history.attempts:
            return before or self._fresh(pair)
        credentials = CredentialLoop(self.journal, self.policy, self.publisher, version, pair)
        claim, credential, answer = credentials.first_grant(head, versions, forced=self.force)
        renewed = renewed_pair(pair, claim.intent, credential.source, answer, self.publisher.proved)
        return self._keep(claim, renewed, answer)

    def result(self, outcome: OutcomeWord, reason: str, *, pair_at_risk: bool) -> Result:
        version, pair = self.newest or (None, None)
        return Result(
            connection=self.connection,
            outcome=outcome,
            reason=reason,
            notes=tuple(self.publisher.notes),
            readers_work_until=self.publisher.readers_work_until(version, pair),
            refresh_token_expires_at=pair.refresh_token_expires_at if pair else None,
            next_refresh_at=due_at(pair, self.connection, self.policy.refresh_at_percent) if pair else None,
            organization_name=(pair.organization_name if pair else None) or self.publisher.proved.organization_name,
            pair_at_risk=pair_at_risk,
            organization_changed=self.publisher.organization_changed,
            api_key_refused=self.api_key_refused,
            throttled_until=self.throttled_until,
        )

    def _publish_what_is_saved(self, version: str, pair: TokenPair) -> _Verdict:
        """Finishes what another run, a login or a person's hand has left."""
        if self.publisher.published:
            self.publisher.check(version, self.journal.store.pair_versions(), if_displaced=OutcomeWord.BUSY)
        try:
            reason = self.publisher.publish(version, pair, if_displaced=OutcomeWord.BUSY)
        except RunEnds as end:
            if end.outcome in (OutcomeWord.UNPROVEN, OutcomeWord.MISCONFIGURED):
                return end.outcome, end.reason
            raise
        return OutcomeWord.RECOVERED, reason

    def _never_refreshed(self, pair: TokenPair, before: _Verdict | None) -> _Verdict:
        """An API key, or an access token alone: it may be revoked at any moment, so each run proves it."""
        if pair.expires_at and pair.expires_at <= self.journal.now():
            return OutcomeWord.LOGIN_REQUIRED, "the access token expired and there is no refresh token"
        unproven = before is not None and before[0] is OutcomeWord.UNPROVEN
        self.api_key_refused = unproven or (before is None and isinstance(self.publisher.prove(pair), Denied))
        if self.api_key_refused:
            return OutcomeWord.LOGIN_REQUIRED, "Virtuous refuses the access token and there is no refresh token"
        return before or _FRESH

    def _fresh(self, pair: TokenPair) -> _Verdict:
        """After an answer without an access token the next try may be due later than the one that readers hold ends."""
        if pair.expires_at and pair.expires_at <= self.journal.now():
            return OutcomeWord.TRY_AGAIN, "the access token that readers hold is over, and the next try is not due yet"
        return _FRESH

    def _is_due(self, pair: TokenPair, before: _Verdict | None) -> bool:
        """An unproven pair is refreshed once a day; at once one that can't be published under its own id."""
        due, now = due_at(pair, self.connection, self.policy.refresh_at_percent), self.journal.now()
        if due is None:
            return False
        word = before[0] if before else None
        if word is OutcomeWord.MISCONFIGURED:
            return True
        unproven = word is OutcomeWord.UNPROVEN
        return self.force or now >= due or (unproven and now >= (pair.issued_at or LONG_AGO) + ONE_TRY_A_DAY)

    def _waiting(self, version: str, pair: TokenPair, head: Head) -> _Verdict | None:
        """What the last attempt ended in, while nothing may be sent after it. A verdict makes no other token wait."""
        last = head.outcome
        if last is None or last.result.is_verdict or last.retry_at is None or self.force:
            return None
        tried = pair.refresh_token is not None and pair.refresh_token.fingerprint() in head.history.attempts
        if self.journal.now() >= last.retry_at or not (tried or last.replaces == version):
            return None
        self.throttled_until = last.retry_at if last.result is Ending.THROTTLED else None
        return _word(last.result), f"waits for its next try, after: {last.result}"

    def _keep(self, claim: Claim, renewed: TokenPair, answer: Granted) -> _Verdict:
        """Saves the new pair, then proves and publishes it."""
        saved = claim.save_pair(renewed)
        self.publisher.notes += oddities(renewed, answer, self.policy)
        if CURRENT not in saved.labels:
            where = ", ".join(sorted({*saved.labels} - {LABEL})) or "no label"
            return OutcomeWord.SUPERSEDED, f"another pair was stored meanwhile; ours is kept under {where}"
        self.newest = saved.version_id, renewed
        reason = self.publisher.publish(saved.version_id, renewed, if_displaced=OutcomeWord.SUPERSEDED)
        if answer.access_token is None:
            return OutcomeWord.TRY_AGAIN, "the answer had no usable access token; its refresh token is saved"
        return OutcomeWord.REFRESHED, reason


class CredentialLoop(NamedTuple):
    """Sends one credential after the other for the pair in *version*, while each is refused and there is a next."""

    journal: Journal
    policy: Policy
    publisher: Publisher
    version: str
    pair: TokenPair

    def first_grant(self, head: Head, versions: Versions, *, forced: bool) -> tuple[Claim, Credential, Granted]:
        """The claim, what was sent, and the answer that brings a pair. Raises RunEnds where none does."""
        if self.pair.organization_id is None and self.publisher.proved.organization_id is None:
            # A pair that a person pasted: learn whose it is while its access token works, to notice a change later.
            self.publisher.prove(self.pair)
        refusal = ""
        while True:
            credential, spent = self._next(head, versions, forced=forced)
            if credential is None:
                raise RunEnds(OutcomeWord.LOGIN_REQUIRED, refusal + _why_a_login(head))
            self._check_room(versions)
            claim = self.journal.claim(head, self.version, credential.key, spent)
            answer = credential.send() if self._can_spend else NotGranted(Ending.UNREACHABLE, "the claim took too long")
            if isinstance(answer, Granted):
                return claim, credential, answer
            head = self._record(claim, answer)
            refusal, forced = f"{answer.reason}; ", False
            versions = self._versions_that_show(head.end)

    def _next(self, head: Head, versions: Versions, *, forced: bool) -> tuple[Credential | None, tuple[str, ...]]:
        """What may be sent now, and all that is known to be spent."""
        stored = StoredPairs(self.journal.store, versions, self.version, self.pair, head)
        endpoint, spent = self.journal.services.endpoint, stored.spent()
        notes = self.publisher.notes
        return next_credential(stored, spent, endpoint, self.journal.now(), notes, forced=forced), spent

    @property
    def _can_spend(self) -> bool:
        return self.journal.time_left() >= self.policy.limits.request + self.policy.limits.save

    def _check_room(self, versions: Versions) -> None:
        if not self._can_spend:
            raise RunEnds(OutcomeWord.POSTPONED, "too little time is left to send a credential and save the answer")
        if versions.kept_since(versions.at - timedelta(days=1)) > MOST_VERSIONS_BEFORE_A_CLAIM:
            raise RunEnds(
                OutcomeWord.TRY_AGAIN,
                "the pair secret has about 100 versions of the last day, as many as Secrets Manager keeps: refresh "
                "less often; it removes old ones",
            )

    def _record(self, claim: Claim, answer: NotGranted) -> Head:
        """Saves why there is no pair. Raises RunEnds unless the credential was judged, so that another may be sent."""
        wait, reason = backoff(claim.intent.history.failures + 1), answer.reason
        if answer.ending is Ending.MISCONFIGURED:
            reason += ": check VirtuousBaseUrl, and whether a proxy or firewall answers in Virtuous's place"
        wait = max(answer.retry_after or wait, wait)
        outcome = claim.intent.ends(answer.ending, self.journal.now(), wait=wait)
        head = claim.save_outcome(outcome)
        if not outcome.result.is_verdict:
            throttled_until = outcome.retry_at if outcome.result is Ending.THROTTLED else None
            raise RunEnds(_word(outcome.result), reason, throttled_until=throttled_until)
        return head

    def _versions_that_show(self, written: str) -> Versions:
        """Read afresh before anybody is asked to log in: a list without what this run wrote is stale."""
        for look in range(LOOKS_AFTER_A_REFUSAL):
            if look:
                self.journal.services.pause(1)
            versions = self.journal.store.pair_versions()
            if versions.get(written) is None:
                continue
            if versions.under(CURRENT) != self.version:
                raise RunEnds(OutcomeWord.SUPERSEDED, "the refusal is about a pair that was replaced meanwhile")
            return versions
        raise StoreUnavailable("the labels of the pair secret can't be read afresh")


def _why_a_login(head: Head) -> str:
    if asked_for_a_code(head):
        return "Virtuous asks for a one-time code"
    return "every stored refresh token was refused or is known to be spent, and no stored password can be tried now"


def _word(result: Ending) -> OutcomeWord:
    if result.is_verdict:
        return OutcomeWord.LOGIN_REQUIRED
    return OutcomeWord.MISCONFIGURED if result is Ending.MISCONFIGURED else OutcomeWord.TRY_AGAIN
