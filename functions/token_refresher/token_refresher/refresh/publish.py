"""Core: proves an access token and lets readers have it, so that they never go back to an older one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from virtuous_token.contract import Bearer

from .formats import TokenPair, pair_in
from .model import Denied, OutcomeWord, Proof, Proved, RunEnds, Unclear, Work
from .stored import CURRENT, RefreshError, Store, StoreMisconfigured, Versions

# Longer than any stale read of Secrets Manager. What the labels do not show although it is older than this, a person
# moved them away from.
LONGEST_STALENESS = timedelta(minutes=5)
# How often publishing is tried, at the most, while somebody else moves the bearer's label.
TRIES = 3


@dataclass(slots=True, eq=False)
class Publisher:
    """Publishes one connection's access tokens. ``published``: the bearer's version under AWSCURRENT, as last seen.

    ``notes``, ``proved`` and ``organization_changed`` are what the provider answered meanwhile.
    """

    work: Work
    published: str | None = None
    notes: list[str] = field(default_factory=list)
    proved: Proved = field(default_factory=Proved)
    organization_changed: bool = False

    def prove(self, pair: TokenPair) -> Proof:
        """What Virtuous says of the access token; Unclear where no time is left to ask."""
        if self.work.time_left() < self.work.policy.limits.request:
            return Unclear("no time was left to ask")
        proof = self.work.services.endpoint.prove(pair.access_token)
        if isinstance(proof, Proved):
            self.proved = proof
            self.notes += proof.oddities
            if proof.is_enabled is False:
                self.notes.append("the organisation is disabled")
            if pair.organization_id and proof.organization_id and pair.organization_id != proof.organization_id:
                self.organization_changed = True
                made_for = f"the connection was made for {pair.organization_id}"
                self.notes.append(f"the organisation changed: {made_for}, its token acts for {proof.organization_id}")
        return proof

    def publish(self, version_id: str, pair: TokenPair, *, if_displaced: OutcomeWord) -> str:
        """Proves the access token and lets readers have it.

        Returns what is worth a line. Raises RunEnds: ``unproven`` where Virtuous refuses the token (it is published all
        the same once the one that readers hold has expired), *if_displaced* where another pair is current,
        ``misconfigured`` where the bearer secret holds another token under this version's id, ``busy`` where what was
        read is stale, ``try_again``.
        """
        proof = self.prove(pair)
        refusal = f"Virtuous refuses the new access token ({proof.reason})" if isinstance(proof, Denied) else ""
        if refusal and not self._readers_token_is_over(pair):
            raise RunEnds(OutcomeWord.UNPROVEN, f"{refusal}: readers keep the one before")
        self._make_current(version_id, _bearer(self.work, pair, self.proved), if_displaced)
        if refusal:
            raise RunEnds(OutcomeWord.UNPROVEN, f"{refusal}; readers have it all the same, since theirs had expired")
        return proof.reason if isinstance(proof, Unclear) else ""

    def check(self, version_id: str, versions: Versions, *, if_displaced: OutcomeWord) -> None:
        """Raises RunEnds unless *versions* show *version_id* as current and are no older than what is published."""
        ours = versions.get(version_id)
        if ours is None:
            raise RunEnds(OutcomeWord.BUSY, "another pair was stored a moment ago")
        if CURRENT not in ours.labels:
            where = ", ".join(sorted(ours.labels)) or "no label"
            raise RunEnds(if_displaced, f"another pair was stored meanwhile; ours is version {version_id} ({where})")
        listed = versions.get(self.published)
        if self.published is None or (listed and listed.labels):
            return
        published = listed or self.work.store.bearer_versions().get(self.published)
        is_newer = published is not None and published.created_at >= ours.created_at
        if published and is_newer and versions.at - published.created_at < LONGEST_STALENESS:
            raise RunEnds(OutcomeWord.BUSY, "another run has just published a newer pair")

    def readers_work_until(self, newest: str | None, pair: TokenPair | None) -> datetime | None:
        """The end of the token that readers have, which is not the *newest* where that is unproven or unpublished."""
        if self.published is None:
            return None
        if pair and self.published == newest:
            return pair.expires_at
        try:
            return end_of_version(self.work.store, self.published)
        except RefreshError:
            return None

    def _readers_token_is_over(self, newer: TokenPair) -> bool:
        life = newer.expires_at - newer.issued_at if newer.expires_at and newer.issued_at else None
        end = end_of_version(self.work.store, self.published, life=life) if self.published else None
        return end is not None and end <= self.work.now()

    def _make_current(self, version_id: str, bearer: Bearer, if_displaced: OutcomeWord) -> None:
        """A compare-and-swap: AWSCURRENT moves from the version that was seen there, or we look again."""
        store = self.work.store
        labels = store.write_bearer(version_id, bearer.to_json())
        if labels is None:
            labels = self._labels_of_ours(version_id, if_displaced)
        for _ in range(TRIES):
            if CURRENT in labels or store.move_bearer(version_id, moved_from=self.published):
                self.published = version_id
                return
            self.published = store.bearer_versions().under(CURRENT)
            if self.published == version_id:
                return
            self.check(version_id, store.pair_versions(), if_displaced=if_displaced)
        raise RunEnds(OutcomeWord.TRY_AGAIN, "the bearer's label was moved again and again meanwhile")

    def _labels_of_ours(self, version_id: str, if_displaced: OutcomeWord) -> Collection[str]:
        """The labels of the version that has this id already, where an earlier run published this pair.

        It may differ by a word (a setting, the organisation's name). It is another token where it is older than the
        pair: then the pair secret was lost and made again, with ids that the bearer secret kept.
        """
        store = self.work.store
        versions = store.pair_versions()
        saved, there = versions.get(version_id), store.bearer_versions().get(version_id)
        if saved is None or there is None:
            raise RunEnds(OutcomeWord.BUSY, "another run has just published")
        self.check(version_id, versions, if_displaced=if_displaced)
        if there.created_at < saved.created_at:
            what = "the bearer secret holds another token under this version's id, and readers keep theirs"
            login = f"run virtuous-token login --connection {self.work.connection}"
            raise RunEnds(OutcomeWord.MISCONFIGURED, f"{what}: {login}")
        return there.labels


def _bearer(work: Work, pair: TokenPair, proved: Proved) -> Bearer:
    return Bearer(
        access_token=pair.access_token,
        issued_at=pair.issued_at,
        expires_at=pair.expires_at,
        next_refresh_at=work.due_at(pair) if pair.issued_at else None,
        base_url=work.policy.base_url,
        organization_name=pair.organization_name or proved.organization_name,
    )


def end_of_version(store: Store, version_id: str, *, life: timedelta | None = None) -> datetime | None:
    """When the access token in a version of the pair secret ends, None where nobody knows. Raises StoreUnavailable.

    *life*: how long it lives. That helps where the version was removed, or its key: it was issued before it was
    published.
    """
    try:
        text = store.pair_value(version_id)
    except StoreMisconfigured:
        text = None
    if text is None and life:
        published = store.bearer_versions().get(version_id)
        return published.created_at + life if published else None
    pair = pair_in(text)
    return pair.expires_at if pair else None
