"""Core: one refresh of one connection, so that a refresh token is never sent twice and never lost.

The order is the guarantee: claim, send once, save, prove, publish. ``claim.py`` keeps the journal, ``recovery.py`` says
what is tried when a refresh token is dead. Nothing here talks to a network or asks a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from virtuous_token.contract import Bearer, TokenPair, parse_object
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .answers import (
    Answer,
    CodeNeeded,
    Denied,
    Granted,
    Later,
    Misconfigured,
    NotGranted,
    NothingSent,
    Proof,
    Proved,
    Refused,
    Unclear,
    Unknown,
)
from .claim import Claim, Claims, Spot
from .journal import LABEL, SUPERSEDED, Ended, Grant, backoff, claim_id, result_id
from .ports import CURRENT, PREVIOUS, PairNotSaved, RefreshError, Store, StoreMisconfigured, StoreUnavailable, World
from .recovery import ONE_TRY_A_DAY, candidates

__all__ = ["Budget", "OutcomeWord", "Policy", "Result", "due_at", "end_of_version", "refresh_connection"]

# Virtuous documents 365 days for a refresh token, and its answer does not say when one ends.
REFRESH_TOKEN_LIFE = timedelta(days=365)
# Where nobody knows how long an access token lives, its pair falls due as if it were Virtuous's shortest sample.
ASSUMED_LIFE = timedelta(hours=1)
SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)
# More than this much between our clock and the provider's is worth a line: expiry is counted with ours.
TOLERATED_SKEW = timedelta(minutes=2)
# A claim and its result are two versions. Secrets Manager keeps about 100 and removes only those older than a day; past
# that it refuses writes, and an answer that cannot be written is lost.
MOST_VERSIONS_BEFORE_A_CLAIM = 98
# After an answer whose access token was of no use, the next try waits this long.
PAUSE_AFTER_A_USELESS_ACCESS_TOKEN = timedelta(hours=1)


class OutcomeWord(StrEnum):
    """What became of one connection in one run."""

    FRESH = "fresh"
    REFRESHED = "refreshed"
    RECOVERED = "recovered"
    BUSY = "busy"
    SUPERSEDED = "superseded"
    POSTPONED = "postponed"
    UNPROVEN = "unproven"
    TRY_AGAIN = "try_again"
    LOGIN_REQUIRED = "login_required"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True, slots=True)
class Budget:
    """Time that must be left before something is begun.

    ``request``: the longest that one call to Virtuous takes (the endpoint adapter's own bound). ``save``: kept for
    saving an answer: one call to Secrets Manager that hangs, and several throttled ones. ``look``: one call that hangs,
    before a connection is looked at.
    """

    request: timedelta = timedelta(seconds=45)
    save: timedelta = timedelta(seconds=75)
    look: timedelta = timedelta(seconds=45)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the deployment decided. ``schedule_interval`` is None where the schedule is not a plain rate."""

    base_url: str
    refresh_at_percent: int = 50
    schedule_interval: timedelta | None = None
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one connection. ``reason`` and ``notes`` are for a log and hold no secret.

    ``readers_work_until``: the end of the access token that readers are given; None where nobody knows.
    ``next_refresh_at``: when the newest pair falls due; None where it has no refresh token.
    ``pair_at_risk``: the provider answered and its answer could not be saved.
    ``api_key_refused``: the pair has no refresh token, and Virtuous refuses its access token.
    """

    connection: str
    outcome: OutcomeWord
    reason: str = ""
    notes: tuple[str, ...] = ()
    readers_work_until: datetime | None = None
    refresh_token_issued_at: datetime | None = None
    refresh_token_expires_at: datetime | None = None
    next_refresh_at: datetime | None = None
    organization_name: str | None = None
    pair_at_risk: bool = False
    organization_changed: bool = False
    api_key_refused: bool = False


def due_at(pair: TokenPair, connection: str, percent: int) -> datetime | None:
    """When *pair* is to be refreshed: once *percent* of its access token's life is over, or up to 5 % of it earlier.

    How much earlier depends on the connection's name alone, so that many connections made on one day do not fall due
    together. Whole seconds, as it is stored. None for a pair without a refresh token. A pair that does not say when it
    was issued is due since ever.
    """
    if pair.refresh_token is None:
        return None
    if pair.issued_at is None:
        return SINCE_EVER
    life = max(pair.expires_at - pair.issued_at, timedelta()) if pair.expires_at else ASSUMED_LIFE
    earlier = int.from_bytes(sha256(connection.encode()).digest()[:4], "big") / 2**32 * 0.05
    due = pair.issued_at + life * (percent / 100 - earlier)
    if pair.refresh_token_issued_at and pair.refresh_token_issued_at > pair.issued_at:
        due = max(due, pair.refresh_token_issued_at + PAUSE_AFTER_A_USELESS_ACCESS_TOKEN)
    return due.replace(microsecond=0)


def refresh_connection(
    connection: str, store: Store, world: World, policy: Policy, *, deadline: datetime, force: bool = False
) -> Result:
    """Brings one connection up to date, as far as that is needed and possible now.

    *deadline* is the instant at which this process may be ended: no credential is sent unless its answer can be saved
    before. *force*: refresh even if it is not due or waits for another try. What goes wrong is in the result; only a
    defect raises.
    """
    run = _Run(connection, store, world, policy, deadline, force)
    pair_at_risk = False
    try:
        outcome, reason = run.outcome()
    except PairNotSaved as error:
        outcome, pair_at_risk = OutcomeWord.TRY_AGAIN, True
        reason = (
            f"{error}; the next run sends the refresh token again and, if that is refused, tries the one before it and "
            "the stored password"
        )
    except StoreUnavailable as error:
        outcome, reason = OutcomeWord.TRY_AGAIN, str(error)
    except StoreMisconfigured as error:
        outcome, reason = OutcomeWord.MISCONFIGURED, str(error)
    except UnreadableSecret as error:
        outcome = OutcomeWord.MISCONFIGURED
        reason = f"{error}: run virtuous-token login --connection {connection}"
    result = Result(
        connection=connection,
        outcome=outcome,
        reason=reason,
        notes=tuple(run.notes),
        readers_work_until=run.readers_work_until(),
        pair_at_risk=pair_at_risk,
        organization_changed=run.organization_changed,
        api_key_refused=run.api_key_refused,
    )
    if run.newest is None:
        return result
    pair = run.newest.pair
    return replace(
        result,
        refresh_token_issued_at=pair.refresh_token_issued_at,
        refresh_token_expires_at=pair.refresh_token_expires_at,
        next_refresh_at=due_at(pair, connection, policy.refresh_at_percent),
        organization_name=pair.organization_name or (run.proved.organization_name if run.proved else None),
    )


def end_of_version(store: Store, version: str) -> datetime | None:
    """When the access token in *version* of the pair secret ends, None where nobody knows. Raises as *store* does."""
    try:
        return TokenPair.parse(store.pair_value(version)).expires_at
    except UnreadableSecret:
        return None


_Verdict = tuple[OutcomeWord, str]


class _Version(NamedTuple):
    """A pair and the version that holds it."""

    version: str
    pair: TokenPair


class _Stored(NamedTuple):
    """What is to be replaced, and where the labels were when the run began."""

    version: str
    pair: TokenPair
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Credential:
    """One thing to send. ``source``: the pair whose refresh token stays if the answer brings no other."""

    grant: Grant
    source: TokenPair
    send: Callable[[], Answer]

    @property
    def sent(self) -> SecretText | None:
        """The refresh token that is spent by sending; None for a password."""
        return None if self.grant is Grant.PASSWORD else self.source.refresh_token


@dataclass(slots=True)
class _Run:
    """One run over one connection. ``notes`` is what else was noticed.

    ``newest`` is the newest pair that is saved, ``published`` the version that the bearer secret is on, both as far as
    the run knows.
    """

    connection: str
    store: Store
    world: World
    policy: Policy
    deadline: datetime
    force: bool
    newest: _Version | None = None
    published: str | None = None
    notes: list[str] = field(default_factory=list)
    proved: Proved | None = None
    organization_changed: bool = False
    api_key_refused: bool = False

    def outcome(self) -> _Verdict:
        if not self._time_for(self.policy.budget.look):
            return OutcomeWord.POSTPONED, "too little time is left to look"
        labels = self.store.pair_labels()
        if CURRENT not in labels:
            return OutcomeWord.LOGIN_REQUIRED, "no token pair was stored yet"
        version = labels[CURRENT]
        value = self.store.pair_value(version)
        if value is None:
            raise StoreUnavailable("the current version of the pair secret can't be read yet")
        pair = TokenPair.parse(value)
        self.newest = _Version(version, pair)

        self.published = self.store.bearer_labels().get(CURRENT)
        if self._is_older_view(labels):
            return OutcomeWord.BUSY, "another run has just published a newer pair"
        in_step = self.published == version
        before = None if in_step else self._prove_and_publish(version, pair, OutcomeWord.RECOVERED)

        spot = self._claims.spot(labels)
        if spot is None:
            return before or (OutcomeWord.BUSY, "another run holds the claim")
        waits = spot.outcome
        if waits and waits.retry_at and self.world.now() < waits.retry_at and not self.force:
            return _word(waits.ended), f"waits for its next try, after: {waits.ended}"
        if not self._is_due(pair, spot, unproven=before is not None and before[0] is OutcomeWord.UNPROVEN):
            return before or self._fresh(pair)
        return self._replace(_Stored(version, pair, labels), spot)

    def readers_work_until(self) -> datetime | None:
        """The end of the token that readers have, which is not the newest where that is unproven or unpublished."""
        if self.published is None:
            return None
        if self.newest and self.newest.version == self.published:
            return self.newest.pair.expires_at
        try:
            return end_of_version(self.store, self.published)
        except RefreshError:
            return None

    def _is_older_view(self, labels: Mapping[str, str]) -> bool:
        """True if the bearer comes from a pair that these labels do not know yet: they are stale.

        Publishing what they show would give readers the older token back. A pair that the labels show under AWSPREVIOUS
        was moved away from by a person, and so was one that is old.
        """
        if self.published is None or self.published in labels.values():
            return False
        slot = labels.get(LABEL, labels[CURRENT])
        following = {result_id(slot), *(result_id(claim_id(filled)) for filled in (slot, result_id(slot)))}
        return self.published in following and not self._claims.is_old(self.published)

    def _fresh(self, pair: TokenPair) -> _Verdict:
        if pair.refresh_token is not None:
            return OutcomeWord.FRESH, ""
        if pair.expires_at and pair.expires_at <= self.world.now():
            return OutcomeWord.LOGIN_REQUIRED, "the access token expired and there is no refresh token"
        # No refresh will ever show that an API key was revoked: ask, in every run.
        if isinstance(self._prove(pair), Denied):
            return OutcomeWord.LOGIN_REQUIRED, "Virtuous refuses the API key"
        return OutcomeWord.FRESH, ""

    @property
    def _claims(self) -> Claims:
        return Claims(self.store, self.world, self.deadline)

    def _time_for(self, budget: timedelta) -> bool:
        return self.deadline - self.world.now() >= budget

    @property
    def _can_spend(self) -> bool:
        return self._time_for(self.policy.budget.request + self.policy.budget.save)

    def _is_due(self, pair: TokenPair, spot: Spot, *, unproven: bool) -> bool:
        """An attempt on this version that brought no pair leaves a doubt, so it is due whatever its age."""
        due = due_at(pair, self.connection, self.policy.refresh_at_percent)
        if due is None:
            return False
        now = self.world.now()
        a_day_unproven = unproven and now >= (pair.issued_at or SINCE_EVER) + ONE_TRY_A_DAY
        in_doubt = any(grant is not Grant.LOGIN for grant in spot.attempts)
        return self.force or now >= due or in_doubt or a_day_unproven

    def _replace(self, stored: _Stored, spot: Spot) -> _Verdict:
        """Attempts one credential after the other while each is refused and there is a next."""
        if stored.pair.organization_id is None and self.proved is None:
            # A pair that a person pasted: learn whose it is while its access token works, to notice a change later.
            self._prove(stored.pair)
        credential = self._credential(stored, spot, forced=self.force)
        while credential:
            ended = self._attempt(stored, spot, credential)
            if not isinstance(ended, Spot):
                return ended
            spot = ended
            credential = self._credential(stored, spot)
        return OutcomeWord.LOGIN_REQUIRED, "every credential at hand was refused"

    def _attempt(self, stored: _Stored, spot: Spot, credential: _Credential) -> _Verdict | Spot:
        """Claims, sends once and saves. A Spot if the credential was refused and another can be tried at once."""
        if not self._can_spend:
            return OutcomeWord.POSTPONED, "too little time is left to send a credential and save the answer"
        if self.store.versions_since(self.world.now() - timedelta(days=1)) > MOST_VERSIONS_BEFORE_A_CLAIM:
            return OutcomeWord.TRY_AGAIN, (
                "the pair secret has about 100 versions of the last day, as many as Secrets Manager keeps: refresh "
                "less often; it removes old ones"
            )
        claim = self._claims.claim(spot, credential.grant)
        if claim is None:
            return OutcomeWord.BUSY, "another run was first"
        answer = credential.send() if self._can_spend else NothingSent("the claim took too long")
        if isinstance(answer, Granted):
            return self._keep(stored, credential, claim, answer)
        return self._record(stored, spot, claim, answer)

    def _keep(self, stored: _Stored, credential: _Credential, claim: Claim, answer: Granted) -> _Verdict:
        renewed = self._renewed(stored, credential, answer)
        version = self._claims.save_pair(claim, renewed, credential.sent)
        self._note_oddities(renewed, answer)
        if version is None:
            return OutcomeWord.SUPERSEDED, "another pair was stored meanwhile; ours is kept under SUPERSEDED"
        self.newest = _Version(version, renewed)
        verdict = self._prove_and_publish(version, renewed, OutcomeWord.REFRESHED)
        if answer.access_token is None and verdict[0] is OutcomeWord.REFRESHED:
            return OutcomeWord.TRY_AGAIN, "the answer had no usable access token; its refresh token is saved"
        return verdict

    def _record(self, stored: _Stored, spot: Spot, claim: Claim, answer: NotGranted) -> _Verdict | Spot:
        """Saves why there is no pair, and when the next attempt may be made."""
        now = self.world.now()
        outcome = claim.intent.ends(_ended(answer), now)
        if not outcome.ended.is_verdict:
            asked = answer.retry_after if isinstance(answer, Later) else None
            wait = max(asked or timedelta(), backoff(outcome.failures))
            self._claims.save_outcome(claim, replace(outcome, retry_at=now + wait))
            return _word(outcome.ended), _reason(answer)
        if self._claims.replaced_by(claim):
            self._claims.save_outcome(claim, outcome)
            return OutcomeWord.SUPERSEDED, "the refusal is about a pair that was replaced meanwhile"
        if self._credential(stored, replace(spot, outcome=outcome)):
            return self._claims.save_outcome(claim, outcome)
        self._claims.save_outcome(claim, replace(outcome, retry_at=now + ONE_TRY_A_DAY))
        return _word(outcome.ended), _reason(answer)

    # Which credential is next, and what is stored of an answer

    def _credential(self, stored: _Stored, spot: Spot, *, forced: bool = False) -> _Credential | None:
        for grant in candidates(spot.attempts, self.world.now(), forced=forced):
            found = self._password(stored) if grant is Grant.PASSWORD else self._refresh_token(grant, stored)
            if found:
                return found
        return None

    def _refresh_token(self, grant: Grant, stored: _Stored) -> _Credential | None:
        source = stored.pair if grant is Grant.CURRENT else self._other_pair(_LABEL_OF[grant], stored)
        if source is None or (token := source.refresh_token) is None:
            return None
        return _Credential(grant, source, lambda: self.world.endpoint.refresh(token))

    def _other_pair(self, label: str, stored: _Stored) -> TokenPair | None:
        """None where there is none, its token is the one that was sent, or it is another user's or organisation's."""
        if label not in stored.labels:
            return None
        try:
            other = TokenPair.parse(self.store.pair_value(stored.labels[label]))
        except UnreadableSecret:
            return None
        if other.refresh_token == stored.pair.refresh_token or _is_of_somebody_else(other, stored.pair):
            return None
        return other

    def _password(self, stored: _Stored) -> _Credential | None:
        """None where no login is stored, where it sends a code to somebody's phone, and for a day after a login."""
        pair = stored.pair
        if pair.two_factor_enabled:
            return None
        if pair.replaces is None and self.world.now() < (pair.issued_at or SINCE_EVER) + ONE_TRY_A_DAY:
            return None
        try:
            value = self.store.login_value()
            login = parse_object(value, "the login secret") if value is not None else {}
        except (UnreadableSecret, StoreMisconfigured) as error:
            self.notes.append(f"the login secret can't be used: {error}")
            return None
        username, password = login.get("username"), login.get("password")
        if not (isinstance(username, str) and username and isinstance(password, str) and password):
            return None
        return _Credential(Grant.PASSWORD, pair, lambda: self.world.endpoint.log_in(username, SecretText(password)))

    def _renewed(self, stored: _Stored, credential: _Credential, answer: Granted) -> TokenPair:
        """The pair to save: what the answer lacks or spoils stays as it was."""
        pair, source = stored.pair, credential.source
        renewed = replace(
            pair,
            replaces=None if credential.grant is Grant.PASSWORD else stored.version,
            user_name=answer.user_name or pair.user_name,
            two_factor_enabled=pair.two_factor_enabled
            if answer.two_factor_enabled is None
            else answer.two_factor_enabled,
            organization_id=pair.organization_id or (self.proved.organization_id if self.proved else None),
            organization_name=pair.organization_name or (self.proved.organization_name if self.proved else None),
            refresh_token=source.refresh_token,
            refresh_token_issued_at=source.refresh_token_issued_at,
            refresh_token_expires_at=source.refresh_token_expires_at,
        )
        if answer.access_token is not None:
            renewed = replace(
                renewed, access_token=answer.access_token, issued_at=answer.issued_at, expires_at=answer.expires_at
            )
        if answer.refresh_token is not None and answer.refresh_token != source.refresh_token:
            renewed = replace(
                renewed,
                refresh_token=answer.refresh_token,
                refresh_token_issued_at=answer.issued_at,
                refresh_token_expires_at=answer.issued_at + REFRESH_TOKEN_LIFE,
            )
        return renewed

    def _note_oddities(self, renewed: TokenPair, answer: Granted) -> None:
        self.notes += answer.oddities
        if answer.clock_skew and abs(answer.clock_skew) > TOLERATED_SKEW:
            self.notes.append(f"the provider's clock differs from ours by {answer.clock_skew.total_seconds():.0f} s")
        interval = self.policy.schedule_interval
        if interval and renewed.issued_at and renewed.expires_at:
            after_due = (renewed.expires_at - renewed.issued_at) * (1 - self.policy.refresh_at_percent / 100)
            if after_due < 2 * interval:
                self.notes.append(
                    f"the schedule is too slow: {after_due.total_seconds():.0f} s are left when an access token falls "
                    f"due, and the schedule runs every {interval.total_seconds():.0f} s"
                )

    # Prove and publish

    def _prove(self, pair: TokenPair) -> Proof:
        if not self._time_for(self.policy.budget.request):
            return Unclear("no time was left to ask")
        proof = self.world.endpoint.prove(pair.access_token)
        self.api_key_refused = pair.refresh_token is None and isinstance(proof, Denied)
        if isinstance(proof, Proved):
            self.proved = proof
            self.notes += proof.oddities
            if proof.is_enabled is False:
                self.notes.append("the organisation is disabled")
            if pair.organization_id and proof.organization_id and pair.organization_id != proof.organization_id:
                self.organization_changed = True
                self.notes.append(
                    f"the organisation changed: the connection was made for {pair.organization_id}, and its token now "
                    f"acts for {proof.organization_id}"
                )
        return proof

    def _prove_and_publish(self, version: str, pair: TokenPair, done: OutcomeWord) -> _Verdict:
        """Lets readers have the access token, unless Virtuous refuses it: then they keep the one before."""
        proof = self._prove(pair)
        if isinstance(proof, Denied):
            return OutcomeWord.UNPROVEN, proof.reason
        named = proof.organization_name if isinstance(proof, Proved) else None
        bearer = Bearer(
            access_token=pair.access_token,
            issued_at=pair.issued_at,
            expires_at=pair.expires_at,
            next_refresh_at=due_at(pair, self.connection, self.policy.refresh_at_percent) if pair.issued_at else None,
            base_url=self.policy.base_url,
            organization_name=pair.organization_name or named,
        )
        if not self.store.write_bearer(version, bearer.to_json()):
            self.store.move_bearer(version)
        self.published = version
        return done, proof.reason if isinstance(proof, Unclear) else ""


_LABEL_OF = {Grant.PREVIOUS: PREVIOUS, Grant.SUPERSEDED: SUPERSEDED}

_ENDED: dict[type[NotGranted], Ended] = {
    Refused: Ended.REFUSED,
    CodeNeeded: Ended.CODE_NEEDED,
    Misconfigured: Ended.MISCONFIGURED,
    NothingSent: Ended.UNREACHABLE,
    Unknown: Ended.UNKNOWN,
}


def _ended(answer: NotGranted) -> Ended:
    if isinstance(answer, Later):
        return Ended.THROTTLED if answer.throttled else Ended.UNREACHABLE
    return _ENDED[type(answer)]


def _reason(answer: NotGranted) -> str:
    if isinstance(answer, Misconfigured):
        return f"{answer.reason}: check VirtuousBaseUrl, and whether a proxy or firewall answers in Virtuous's place"
    return answer.reason


def _is_of_somebody_else(other: TokenPair, pair: TokenPair) -> bool:
    """True if the two are known to be of different users or organisations."""
    known = [(other.organization_id, pair.organization_id), (other.user_name, pair.user_name)]
    return any(theirs and ours and theirs != ours for theirs, ours in known)


def _word(ended: Ended) -> OutcomeWord:
    if ended.is_verdict:
        return OutcomeWord.LOGIN_REQUIRED
    return OutcomeWord.MISCONFIGURED if ended is Ended.MISCONFIGURED else OutcomeWord.TRY_AGAIN
