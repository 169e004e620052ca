"""What a person's hand does to the secrets in the console, or with the AWS command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.explorer.processes import NAMES
from tests.explorer.provider import number_of
from tests.explorer.world import CURRENT, PREVIOUS, REFRESHING, SUPERSEDED, State, a_pair, pair_in
from tests.fakes.secrets_manager import StrictSecretsManager

A_DAY = timedelta(days=1)
EIGHT_DAYS = timedelta(days=8)  # a pair that is as old as this is due


def _put(state: State, value: str) -> State:
    """The console's "Save": a version of its own under AWSCURRENT."""
    made = state._replace(deeds=state.deeds + 1)
    version = f"{made.deeds:08}-0000-4000-8000-00000000feed"
    return _called(made, "PutSecretValue", SecretString=value, ClientRequestToken=version)


def _called(state: State, operation: str, **params: Any) -> State:
    after, _ = state.called(operation, {"SecretId": NAMES.pair, **params})
    return after


def _moved(state: State, label: str, version: str | None) -> State | None:
    """Whoever moves a label in the console moves it from where it is."""
    holder = state.pair_secret.labels.get(label)
    if holder == version or (version is not None and version not in state.pair_secret.versions):
        return None
    ends = {"MoveToVersionId": version, "RemoveFromVersionId": holder}
    named = {key: value for key, value in ends.items() if value is not None}
    return _called(state, "UpdateSecretVersionStage", VersionStage=label, **named)


def _old_pair(number: int | str, state: State) -> str:
    return a_pair(number, state.now - EIGHT_DAYS).to_json()


def _pastes_a_live_pair(state: State) -> State:
    provider = state.provider.log_in(state.now)
    return _put(state._replace(provider=provider), _old_pair(provider.newest, state))


def _pastes_a_dead_refresh_token(state: State) -> State | None:
    """The access token is whole, a letter of the refresh token is not."""
    stored = _current(state)
    if stored is None:
        return None
    return _put(state, json.dumps({**stored, "refresh_token": f"refresh-typo-{state.deeds + 1}"}))


def _pastes_the_first_pair(state: State) -> State | None:
    """Out of somebody's notes."""
    return _put(state, _old_pair(1, state)) if state.saved(1) else None


def _pastes_an_access_token(state: State) -> State:
    """As an API key is stored: there is nothing to refresh."""
    provider = state.provider.log_in(state.now)
    return _put(state._replace(provider=provider), json.dumps({"access_token": f"access-{provider.newest}"}))


def _keeps_the_tokens_alone(state: State) -> State | None:
    """Every other key is deleted, those of the journal too."""
    kept = {key: value for key, value in (_current(state) or {}).items() if key in ("access_token", "refresh_token")}
    return _put(state, json.dumps(kept)) if kept else None


def _opens_the_form(state: State) -> State | None:
    stored = _current(state)
    return None if stored is None else state._replace(forms=(*state.forms, json.dumps(stored)))


def _saves_the_form(state: State) -> State | None:
    """As it was opened, with one more key."""
    if not state.forms:
        return None
    value, *rest = state.forms
    return _put(state._replace(forms=tuple(rest)), json.dumps({**json.loads(value), "note": f"{state.deeds + 1}"}))


def _current(state: State) -> dict[str, Any] | None:
    version = state.pair_secret.labels.get(CURRENT)
    if version is None or state.pair_secret.gone_at is not None:
        return None
    stored = json.loads(state.pair_secret.versions[version].value)
    return stored if isinstance(stored, dict) else None


def _moves(label: str, to: str) -> Callable[[State], State | None]:
    """To the version that carries another label."""

    def move(state: State) -> State | None:
        labels = state.pair_secret.labels
        return _moved(state, label, labels[to]) if label in labels and to in labels else None

    return move


def _moves_refreshing_back(state: State) -> State | None:
    """To the version that was made before the one it is on."""
    versions, holder = list(state.pair_secret.versions), state.pair_secret.labels.get(REFRESHING)
    if holder is None or versions.index(holder) == 0:
        return None
    return _moved(state, REFRESHING, versions[versions.index(holder) - 1])


def _deletes(state: State) -> State | None:
    if state.pair_secret.gone_at is not None:
        return None
    return _called(state, "DeleteSecret")._replace(deleted_at=state.now)


def _rolls_readers_back(state: State) -> State | None:
    labels = state.bearer_secret.labels
    if PREVIOUS not in labels:
        return None
    ends = {"MoveToVersionId": labels[PREVIOUS], "RemoveFromVersionId": labels[CURRENT]}
    after, _ = state.called("UpdateSecretVersionStage", {"SecretId": NAMES.bearer, "VersionStage": CURRENT, **ends})
    return after


def _changed(state: State, change: Callable[[StrictSecretsManager], object]) -> State:
    machine = StrictSecretsManager(lambda: state.now)
    machine.go_on_from(state.secrets)
    change(machine)
    return state.with_secrets(machine.secrets)


def _makes_the_pair_secret_again(state: State) -> State | None:
    """It is deleted for good; the bearer secret stays."""
    if any(process.in_progress for process in state.processes):
        return None
    after = _called(state, "DeleteSecret", ForceDeleteWithoutRecovery=True)
    after, _ = after.called("CreateSecret", {"Name": NAMES.pair})
    return after._replace(reigns=(), chain_newest="", verdicts=(), forms=(), late=(), views=())


def _loses_a_version(place: int) -> Callable[[State], State | None]:
    """Secrets Manager may remove any version that carries no label, once it is older than a day.

    Not the chain's newest pair: it had to lose REFRESHING by a person's hand first, and then its id may come again.
    """

    def remove(state: State) -> State | None:
        labelled = set(state.pair_secret.labels.values())
        old = [
            version_id
            for version_id, version in state.pair_secret.versions.items()
            if version_id not in {*labelled, state.chain_newest} and state.now - version.created_at > A_DAY
        ]
        if not old:
            return None
        gone = old[place % len(old)]
        return _changed(state, lambda machine: machine.remove_version(NAMES.pair, gone))

    return remove


def _replaces_the_key(state: State) -> State | None:
    """It takes away what versions without Secrets Manager's own labels knew: what was refused, and what is spent."""
    after = _changed(state, lambda machine: machine.replace_key(NAMES.pair))
    if after.pair_secret is state.pair_secret:
        return None
    versions, unreadable = after.pair_secret.versions, after.pair_secret.unreadable
    lost = (pair_in(version.value) for version_id, version in versions.items() if version_id in unreadable)
    tokens = [pair.access_token.reveal() for pair in lost if pair]
    numbers = {number_of(token) for token in tokens if "typo" not in token}
    return after._replace(verdicts=(), forgotten=after.forgotten | numbers)


def _goes_to_a_replica(state: State) -> State | None:
    """The Region is lost, with what is under way there, and the replicas are made stand-alone: the same versions under
    other ARNs."""
    if "eu-west-1" in state.pair_secret.arn or any(process.in_progress for process in state.processes):
        return None
    moved = {
        name: replace(secret, arn=secret.arn.replace("us-east-1", "eu-west-1"))
        for name, secret in state.secrets.items()
    }
    return state.with_secrets(moved)._replace(views=(), late=())


HANDS: Mapping[str, Callable[[State], State | None]] = {
    "pastes a live pair": _pastes_a_live_pair,
    "pastes a dead pair": lambda state: _put(
        state, a_pair(f"typo-{state.deeds + 1}", state.now - EIGHT_DAYS).to_json()
    ),
    "pastes a dead refresh token": _pastes_a_dead_refresh_token,
    "pastes no pair": lambda state: _put(state, '{"access_token": ""}'),
    "pastes the first pair": _pastes_the_first_pair,
    "pastes an access token": _pastes_an_access_token,
    "keeps the tokens alone": _keeps_the_tokens_alone,
    "opens the form": _opens_the_form,
    "saves the form": _saves_the_form,
    "rolls AWSCURRENT back": _moves(CURRENT, PREVIOUS),
    "moves AWSCURRENT to REFRESHING": _moves(CURRENT, REFRESHING),
    "removes REFRESHING": lambda state: _moved(state, REFRESHING, None),
    "removes SUPERSEDED": lambda state: _moved(state, SUPERSEDED, None),
    "moves REFRESHING to AWSCURRENT": _moves(REFRESHING, CURRENT),
    "moves REFRESHING to AWSPREVIOUS": _moves(REFRESHING, PREVIOUS),
    "moves REFRESHING back": _moves_refreshing_back,
    "deletes the pair secret": _deletes,
    "restores the pair secret": lambda state: (
        None if state.pair_secret.gone_at is None else _called(state, "RestoreSecret")
    ),
    "rolls the readers' AWSCURRENT back": _rolls_readers_back,
    "closes the proof's address": lambda state: state._replace(provider=state.provider._replace(forbids=True)),
    "makes the pair secret again": _makes_the_pair_secret_again,
    "loses the oldest version": _loses_a_version(0),
    "loses the second oldest version": _loses_a_version(1),
    "loses the newest version": _loses_a_version(-1),
    "replaces the key": _replaces_the_key,
    "goes to a replica": _goes_to_a_replica,
}
