"""What must hold in every state, at every request to the provider, at every bearer write and of every outcome word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from tests.explorer.processes import NAMES, ProcessEnd
from tests.explorer.provider import LIFE, number_of
from tests.explorer.world import CURRENT, Process, State, entry_in, pair_in
from tests.fakes.secrets_manager import Secret
from token_refresher.refresh.journal import is_of_the_chain, result_id

NEARLY_A_DAY = timedelta(hours=23)
JUST_NOW = timedelta(minutes=5)  # what happened so lately may make a run careful


def stored_tokens(secret: Secret, *more: str) -> list[str]:
    """The refresh tokens of labelled versions and of *more* versions, but of those whose key is gone."""
    there = [version for version in (*secret.labels.values(), *more) if version in secret.versions]
    pairs = [pair_in(secret.versions[version].value) for version in there if version not in secret.unreadable]
    return [pair.refresh_token.reveal() for pair in pairs if pair and pair.refresh_token]


def live_tokens(state: State, secret: Secret | None = None) -> list[str]:
    """The live refresh tokens that a refresher has to find: labelled ones, and that of the pair it saved last.

    Not one that only a lost answer gave out, nor one that was spent before it was given out once more: nobody can know.
    """
    tokens = stored_tokens(secret or state.pair_secret, state.chain_newest)
    uses = state.provider.uses
    revived = {
        use.granted
        for n, use in enumerate(uses)
        if use.granted != use.token and (use.number in state.lost or use.granted in [one.token for one in uses[:n]])
    }
    return [token for token in tokens if state.provider.is_live(token, state.now) and token not in revived]


def wrongly_posted(state: State, i: int, token: str) -> str:
    """Why process *i* must not send *token* in this state."""
    for j, other in enumerate(state.processes):
        holds = j != i and other.in_progress and other.granted and not state.saved(other.granted)
        if holds and not other.outlived(state.now) and state.provider.granted_for(other.granted) == token:
            return "a token is sent while another has the answer to it in hand"
    if all(live == token for live in live_tokens(state)):
        return ""
    granted = [use.number for use in state.provider.uses_up(token)]
    if any(number not in state.lost | state.forgotten and state.saved(number) for number in granted):
        return "a spent token is sent while a live one is stored"
    lately = [verdict.token for verdict in state.verdicts if state.now - verdict.at < NEARLY_A_DAY]
    if state.processes[i].kind.job != "forced" and token in lately:
        return "a refused token is sent again while a live one is stored"
    return ""


def live_claims(state: State) -> list[str]:
    """Intents that are not dead, with nothing in their slot. What a person stores, be it a copy of one, is none."""
    versions, found = state.pair_secret.versions, []
    for version_id, version in versions.items():
        entry = entry_in(version.value)
        is_ours = entry is not None and entry["entry"] == "intent" and is_of_the_chain(version_id)
        if entry and is_ours and result_id(version_id) not in versions:
            dies_at = version.created_at + timedelta(seconds=entry["holds_for_seconds"])
            found += [version_id] if state.now <= dies_at else []
    return found


def readers_went_back(before: State, after: State, i: int) -> str:
    """Whoever publishes must not give readers an older token, as far as it can know: two secrets can't be seen at once.

    So it went back only if the token was the older one at each instant since process *i* saw the pair's labels.
    """
    if NAMES.bearer not in after.secrets or NAMES.bearer not in before.secrets:
        return ""
    was, new = before.bearer_secret.labels.get(CURRENT), after.bearer_secret.labels.get(CURRENT)
    # A secret's first version is current at once, whatever became of the pair since it was read.
    if new in (was, None) or was is None:
        return ""
    if new not in after.pair_secret.versions:
        return "what is published is no version of the pair"
    if _access_number(after, new) >= _access_number(before, was):
        return ""
    reigns = [moment.reigns for moment in before.processes[i].pairs] or [before.reigns]
    is_older = all(_rank(reigned, new) < _rank(reigned, was) for reigned in reigns)
    return "readers go back to an older token" if is_older else ""


def _access_number(state: State, version: str) -> int:
    return number_of(str(pair_in(state.bearer_secret.versions[version].value).access_token.reveal()))  # type: ignore[union-attr]


def _rank(reigns: Sequence[str], version: str) -> int:
    """When a version came under AWSCURRENT for the last time, in the order of all that did; -1: never."""
    return max((n for n, reigned in enumerate(reigns) if reigned == version), default=-1)


def untrue(state: State, i: int, ended: ProcessEnd) -> str:
    """What is not true of how process *i* ends in this state."""
    me, what = state.processes[i], ""
    match ended.word:
        case "raised":
            what = f"it raises {ended.reason}"
        case "refreshed" | "recovered":
            # Readers had the token that it brought, or a newer one, at an instant since it saw what they have.
            found = [_not_published(state, me, bearer) for bearer in me.bearers or (state.bearer_secret,)]
            what = "" if "" in found else found[-1]
        case "busy":
            what = _untrue_busy(state, i)
        case "superseded":
            what = _untrue_superseded(state, me, ended.reason)
        case "login_required":
            what = _untrue_login_required(state, me, ended.reason)
        case "misconfigured":
            what = _untrue_misconfigured(state, me, ended.reason)
        case "stored":
            # The login's pair is stored, and was current if it is not any more.
            versions = _versions_of(state, me.brought)
            what = "" if set(versions) & set(state.reigns) else "the pair is nowhere, or was never current"
    if not what and me.granted and not ended.pair_at_risk and state.without_its_answer(me).lost != state.lost:
        what = "a granted pair was not saved, and nobody learns of it"
    return f"{ended.word}: {what}" if what else ""


def _not_published(state: State, me: Process, bearer: Secret) -> str:
    version = bearer.labels.get(CURRENT)
    if version is None:
        return "readers have nothing"
    ours = next(iter(_versions_of(state, me.granted)), None) if me.granted else me.published
    if ours is None:
        return "" if me.misled or version == state.pair_secret.labels.get(CURRENT) else "nothing was published"
    if _rank(state.reigns, version) >= _rank(state.reigns, ours):
        return ""
    saved = state.pair_secret.versions.get(ours)
    pair = pair_in(saved.value) if saved else None
    is_newer = pair is not None and _access_number(state, version) >= number_of(pair.access_token.reveal())
    return "" if is_newer else "readers have an older token"


def _versions_of(state: State, number: int) -> list[str]:
    """The versions that hold the pair of that number, oldest first: a person's edit makes another."""
    pairs = [(version_id, pair_in(version.value)) for version_id, version in state.pair_secret.versions.items()]
    return [version for version, pair in pairs if pair and pair.access_token.reveal() == f"access-{number}"]


def _untrue_busy(state: State, i: int) -> str:
    me = state.processes[i]
    since = me.started_at or state.now
    somebody = any(
        j != i and (other.in_progress or (other.ended_at is not None and other.ended_at >= since - JUST_NOW))
        for j, other in enumerate(state.processes)
    )
    changed = max(state.secrets[name].changed_at for name in NAMES[:2])
    is_busy = somebody or me.misled or live_claims(state) or changed >= since - JUST_NOW
    return "" if is_busy else "nobody is"


def _untrue_superseded(state: State, me: Process, reason: str) -> str:
    if me.misled or not me.granted:
        return ""
    ours = _versions_of(state, me.granted)
    moments = me.pairs or (state.moment,)
    labels = [label for moment in moments for label, version in moment.secret.labels.items() if version in ours]
    return "" if any(where in reason for where in (*labels, *ours)) else f"ours is not where it says: {reason}"


def _untrue_login_required(state: State, me: Process, reason: str) -> str:
    if me.misled or me.looked is None:
        return ""
    current = me.looked.labels.get(CURRENT)
    pair = pair_in(me.looked.versions[current].value) if current else None
    if pair is not None and pair.refresh_token is None:
        return ""  # a person wants this token, and no other
    readable = replace(me.looked, unreadable=me.looked.unreadable | state.pair_secret.unreadable)
    if live := live_tokens(state, readable):
        return f"{live[0]} is stored and live"
    if "every credential" in reason:
        refused = {me.refused, *(verdict.token for verdict in state.verdicts)}
        unspent = [token for token in stored_tokens(me.looked) if not state.provider.is_spent(token)]
        missed = [token for token in unspent if token not in refused]
        return f"{missed[0]} was not refused" if missed else ""
    return ""


def _untrue_misconfigured(state: State, me: Process, reason: str) -> str:
    seen = me.looked or state.pair_secret
    current = seen.labels.get(CURRENT)
    is_pair = current is not None and pair_in(seen.versions[current].value) is not None
    is_true = me.misled or not is_pair or state.deleted_at is not None or state.pair_secret.unreadable
    return "" if is_true else f"nothing is: {reason}"


def readers_starve(state: State) -> str:
    """Where Virtuous refuses every proof: readers keep their token as long as it lives, and no longer."""
    was, current = (secret.labels.get(CURRENT) for secret in (state.bearer_secret, state.pair_secret))
    if was == current:
        return ""
    published = pair_in(state.bearer_secret.versions[was].value) if was else None
    newer = pair_in(state.pair_secret.versions[str(current)].value)
    ends_at = published.expires_at if published else None
    if was and was not in state.pair_secret.versions:  # all that the refresher can know of it is when it was published
        ends_at = state.bearer_secret.versions[was].created_at + LIFE
    is_over = ends_at is not None and ends_at <= state.now
    works = newer is not None and newer.expires_at is not None and newer.expires_at > state.now
    return "readers hold a token that is over while a live pair is stored" if is_over and works else ""
