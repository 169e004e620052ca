"""Core: one refresh of one connection, so that a refresh token is never sent twice and never lost.

The order is the guarantee: look, claim, send once, save, prove, publish. ``claim.py`` keeps the journal,
``candidates.py`` says what is sent, ``new_pair.py`` what is saved, ``publish.py`` what readers get.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from virtuous_token.errors import UnreadableSecret

from .candidates import Credential, asked_for_a_code, known_spent, next_credential, stored_pairs
from .claim import Claim, Head, find_head, make_claim
from .due import LONG_AGO, due_at
from .formats import TokenPair
from .journal import ONE_TRY_A_DAY, Outcome, backoff, result_id
from .model import Denied, Ending, Granted, NotGranted, OutcomeWord, Policy, Result, RunEnds, Services, TimeLimits, Work
from .new_pair import oddities, renewed_pair
from .publish import Publisher
from .stored import CURRENT, LABEL, PairNotSaved, Store, Stored, StoreMisconfigured, StoreUnavailable, Versions

__all__ = ["OutcomeWord", "Policy", "Result", "TimeLimits", "fresh_result", "refresh_connection"]

# A claim and its result are two versions, and a person may put a few meanwhile. Secrets Manager keeps about 100 and
# removes only those older than a day; past that it refuses writes, and an answer that cannot be written is lost.
MOST_VERSIONS_BEFORE_A_CLAIM = 94
NOTHING_LEFT = "every stored refresh token was refused or is known to be spent, and no stored password can be tried now"


def refresh_connection(
    connection: str, store: Store, services: Services, policy: Policy, *, deadline: datetime, force: bool = False
) -> Result:
    """Brings one connection up to date, as far as that is needed and possible now.

    *deadline* is the instant at which this process may be ended: no credential is sent unless its answer can be saved
    before. *force*: refresh even if it is not due or waits for another try. What goes wrong is in the result; only a
    defect raises.
    """
    work = Work(connection, store, services, policy, deadline)
    run = _Run(work, force, Publisher(work))
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
        outcome, reason = OutcomeWord.MISCONFIGURED, f"{error}: run virtuous-token login --connection {connection}"
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


@dataclass(slots=True, eq=False)
class _Run:
    """One run over one connection. ``newest`` is the newest pair that is saved and its version, as far as known."""

    work: Work
    force: bool
    publisher: Publisher
    newest: tuple[str, TokenPair] | None = None
    api_key_refused: bool = False
    throttled_until: datetime | None = None

    def outcome(self) -> _Verdict:
        if self.work.time_left() < self.work.policy.limits.look:
            return OutcomeWord.POSTPONED, "too little time is left to look"
        stored = self.work.store.read()
        self.publisher.published = stored.bearer_labels.get(CURRENT)
        if stored.pair is None:
            return OutcomeWord.LOGIN_REQUIRED, "no token pair was stored yet"
        version, pair = stored.pair.version_id, stored.pair.parsed()
        self.newest = version, pair
        before = None if self.publisher.published == version else self._publish_what_is_saved(version, pair)
        if pair.refresh_token is None:
            return self._never_refreshed(pair, before)

        is_due, no_change = self._is_due(pair, before), before or self._fresh(pair)
        if stored.is_idle and not is_due:
            return no_change
        versions = self.work.store.pair_versions()
        try:
            head = find_head(self.work, stored.pair, versions)
        except RunEnds as end:
            if before and end.outcome is OutcomeWord.BUSY:
                return before
            raise
        token, last = pair.refresh_token.fingerprint(), head.entry
        if isinstance(last, Outcome) and not self.force and last.is_waited_for(version, token, self.work.now()):
            raise _ended(last, f"waits for its next try, after: {last.result}")
        # An attempt with this token that brought no pair leaves a doubt, so it is due whatever its age.
        if not is_due and token not in head.history.attempts:
            return no_change
        credentials = CredentialLoop(self.work, self.publisher, version, pair)
        claim, credential, answer = credentials.first_grant(head, versions, forced=self.force)
        renewed = renewed_pair(pair, claim.intent, credential.source, answer, self.publisher.proved)
        return self._keep(claim, renewed, answer)

    def result(self, outcome: OutcomeWord, reason: str, *, pair_at_risk: bool) -> Result:
        version, pair = self.newest or (None, None)
        return Result(
            self.work.connection,
            outcome,
            reason,
            tuple(self.publisher.notes),
            readers_work_until=self.publisher.readers_work_until(version, pair),
            refresh_token_expires_at=pair.refresh_token_expires_at if pair else None,
            next_refresh_at=self.work.due_at(pair) if pair else None,
            organization_name=(pair and pair.organization_name) or self.publisher.proved.organization_name,
            pair_at_risk=pair_at_risk,
            organization_changed=self.publisher.organization_changed,
            api_key_refused=self.api_key_refused,
            throttled_until=self.throttled_until,
        )

    def _publish_what_is_saved(self, version: str, pair: TokenPair) -> _Verdict:
        """Finishes what another run, a login or a person's hand has left."""
        if self.publisher.published:
            self.publisher.check(version, self.work.store.pair_versions(), if_displaced=OutcomeWord.BUSY)
        try:
            return OutcomeWord.RECOVERED, self.publisher.publish(version, pair, if_displaced=OutcomeWord.BUSY)
        except RunEnds as end:
            if end.outcome in (OutcomeWord.UNPROVEN, OutcomeWord.MISCONFIGURED):
                return end.outcome, end.reason
            raise

    def _never_refreshed(self, pair: TokenPair, before: _Verdict | None) -> _Verdict:
        """An API key, or an access token alone: it may be revoked at any moment, so each run proves it."""
        if pair.expires_at and pair.expires_at <= self.work.now():
            return OutcomeWord.LOGIN_REQUIRED, "the access token expired and there is no refresh token"
        unproven = before is not None and before[0] is OutcomeWord.UNPROVEN
        self.api_key_refused = unproven or (before is None and isinstance(self.publisher.prove(pair), Denied))
        if self.api_key_refused:
            return OutcomeWord.LOGIN_REQUIRED, "Virtuous refuses the access token and there is no refresh token"
        return before or (OutcomeWord.FRESH, "")

    def _fresh(self, pair: TokenPair) -> _Verdict:
        """After an answer without an access token the next try may be due later than the one that readers hold ends."""
        if pair.expires_at and pair.expires_at <= self.work.now():
            return OutcomeWord.TRY_AGAIN, "the access token that readers hold is over, and the next try is not due yet"
        return OutcomeWord.FRESH, ""

    def _is_due(self, pair: TokenPair, before: _Verdict | None) -> bool:
        """An unproven pair is refreshed once a day; at once one that can't be published under its own id."""
        due, now = self.work.due_at(pair), self.work.now()
        if before and before[0] is OutcomeWord.UNPROVEN:
            due = min(due or now, (pair.issued_at or LONG_AGO) + ONE_TRY_A_DAY)
        is_misplaced = before is not None and before[0] is OutcomeWord.MISCONFIGURED
        return self.force or is_misplaced or (due is not None and now >= due)

    def _keep(self, claim: Claim, renewed: TokenPair, answer: Granted) -> _Verdict:
        """Saves the new pair, then proves and publishes it."""
        labels = claim.save_pair(renewed)
        self.publisher.notes += oddities(renewed, answer, self.work.policy)
        if CURRENT not in labels:
            where = ", ".join(sorted({*labels} - {LABEL})) or "no label"
            return OutcomeWord.SUPERSEDED, f"another pair was stored meanwhile; ours is kept under {where}"
        self.newest = version, _ = result_id(claim.version_id), renewed
        reason = self.publisher.publish(version, renewed, if_displaced=OutcomeWord.SUPERSEDED)
        if answer.access_token is None:
            return OutcomeWord.TRY_AGAIN, "the answer had no usable access token; its refresh token is saved"
        return OutcomeWord.REFRESHED, reason


class CredentialLoop(NamedTuple):
    """Sends one credential after the other for the pair in *version*, while each is refused and there is a next."""

    work: Work
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
            spent = known_spent(self.work.store, versions, head.history)
            pairs = stored_pairs(self.work.store, versions, self.version, self.pair)
            credential = next_credential(self.work, pairs, spent, head, self.publisher.notes, forced=forced)
            if credential is None:
                self.work.store.pair_value(self.version)  # raises where all of them can't be read: it may be deleted
                why = "Virtuous asks for a one-time code" if asked_for_a_code(head) else NOTHING_LEFT
                raise RunEnds(OutcomeWord.LOGIN_REQUIRED, refusal + why)
            self._check_room(versions)
            claim = make_claim(self.work, head, self.version, credential.key, spent)
            answer = credential.send() if self._can_spend else NotGranted(Ending.UNREACHABLE, "the claim took too long")
            if isinstance(answer, Granted):
                return claim, credential, answer
            head = self._record(claim, answer)
            refusal, forced = f"{answer.reason}; ", False
            versions = self._versions_that_show(head.end)

    @property
    def _can_spend(self) -> bool:
        return self.work.time_left() >= self.work.policy.limits.request + self.work.policy.limits.save

    def _check_room(self, versions: Versions) -> None:
        if not self._can_spend:
            raise RunEnds(OutcomeWord.POSTPONED, "too little time is left to send a credential and save the answer")
        if versions.kept_since(versions.at - timedelta(days=1)) > MOST_VERSIONS_BEFORE_A_CLAIM:
            full = "the pair secret has about 100 versions of the last day, as many as Secrets Manager keeps"
            raise RunEnds(OutcomeWord.TRY_AGAIN, f"{full}: refresh less often; it removes old ones")

    def _record(self, claim: Claim, answer: NotGranted) -> Head:
        """Saves why there is no pair. Raises RunEnds unless the credential was judged, so that another may be sent."""
        wait, reason = backoff(claim.intent.history.failures + 1), answer.reason
        if answer.ending is Ending.MISCONFIGURED:
            reason += ": check VirtuousBaseUrl, and whether a proxy or firewall answers in Virtuous's place"
        outcome = claim.intent.ends(answer.ending, self.work.now(), wait=max(answer.retry_after or wait, wait))
        head = claim.save_outcome(outcome)
        if not outcome.result.is_verdict:
            raise _ended(outcome, reason)
        return head

    def _versions_that_show(self, written: str) -> Versions:
        """Read afresh before anybody is asked to log in: a list without what this run wrote is stale."""
        versions = self.work.store.pair_versions()
        if versions.get(written) is None:
            raise StoreUnavailable("the labels of the pair secret can't be read afresh")
        if versions.under(CURRENT) != self.version:
            raise RunEnds(OutcomeWord.SUPERSEDED, "the refusal is about a pair that was replaced meanwhile")
        return versions


def _ended(outcome: Outcome, reason: str) -> RunEnds:
    """How a run ends after an attempt that brought no pair and no verdict."""
    word = OutcomeWord.MISCONFIGURED if outcome.result is Ending.MISCONFIGURED else OutcomeWord.TRY_AGAIN
    throttled_until = outcome.retry_at if outcome.result is Ending.THROTTLED else None
    return RunEnds(word, reason, throttled_until=throttled_until)
