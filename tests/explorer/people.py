"""What a person's hand does to the secrets in the console, or with the AWS command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from tests.explorer.processes import NAMES
from tests.explorer.provider import number_of
from tests.explorer.world import CURRENT, PREVIOUS, REFRESHING, SUPERSEDED, State, a_pair, pair_in
from tests.fakes.secrets_manager import StrictSecretsManager

A_DAY = timedelta(days=1)
EIGHT_DAYS = timedelta(days=8)  # a pair that is as old as this is due


def _called(state: State, operation: str, **params: Any) -> State:
    after, _ = state.called(operation, {"SecretId": NAMES.pair, **params})
    return after


def _saves(state: State, value: dict[str, Any]) -> State:
    """The console's "Save": a version of its own under AWSCURRENT."""
    made = state._replace(deeds=state.deeds + 1)
    version = f"{made.deeds:08}-0000-4000-8000-00000000feed"
    return _called(made, "PutSecretValue", SecretString=json.dumps(value), ClientRequestToken=version)


def _pastes(state: State, number: int | str) -> State:
    return _saves(state, json.loads(a_pair(number, state.now - EIGHT_DAYS).to_json()))


def _logged_in(state: State) -> State:
    return state._replace(provider=state.provider.log_in(state.now))


def _current(state: State) -> dict[str, Any] | None:
    version = state.pair_secret.labels.get(CURRENT)
    if version is None or state.pair_secret.gone_at is not None:
        return None
    stored = json.loads(state.pair_secret.versions[version].value)
    return stored if isinstance(stored, dict) else None


def _pastes_a_dead_refresh_token(state: State) -> State | None:
    """The access token is whole, a letter of the refresh token is not."""
    stored = _current(state)
    return None if stored is None else _saves(state, {**stored, "refresh_token": f"refresh-typo-{state.deeds + 1}"})


def _keeps_the_tokens_alone(state: State) -> State | None:
    """Every other key is deleted, those of the journal too."""
    kept = {key: value for key, value in (_current(state) or {}).items() if key in ("access_token", "refresh_token")}
    return _saves(state, kept) if kept else None


def _opens_the_form(state: State) -> State | None:
    stored = _current(state)
    return None if stored is None else state._replace(forms=(*state.forms, json.dumps(stored)))


def _saves_the_form(state: State) -> State | None:
    """As it was opened, with one more key."""
    if not state.forms:
        return None
    value, *rest = state.forms
    return _saves(state._replace(forms=tuple(rest)), {**json.loads(value), "note": f"{state.deeds + 1}"})


def _moved(state: State, name: str, label: str, version: str | None) -> State | None:
    """Whoever moves a label in the console moves it from where it is."""
    holder = state.secrets[name].labels.get(label)
    if holder == version or (version is not None and version not in state.secrets[name].versions):
        return None
    ends = {"MoveToVersionId": version, "RemoveFromVersionId": holder}
    named = {key: value for key, value in ends.items() if value is not None}
    return _called(state, "UpdateSecretVersionStage", SecretId=name, VersionStage=label, **named)


def _moves(label: str, to: str, name: str = NAMES.pair) -> Callable[[State], State | None]:
    """To the version that carries another label."""

    def move(state: State) -> State | None:
        labels = state.secrets[name].labels
        return _moved(state, name, label, labels[to]) if label in labels and to in labels else None

    return move


def _removes(label: str) -> Callable[[State], State | None]:
    return lambda state: _moved(state, NAMES.pair, label, None)


def _moves_refreshing_back(state: State) -> State | None:
    """To the version that was made before the one it is on."""
    versions, holder = list(state.pair_secret.versions), state.pair_secret.labels.get(REFRESHING)
    if holder is None or versions.index(holder) == 0:
        return None
    return _moved(state, NAMES.pair, REFRESHING, versions[versions.index(holder) - 1])


def _deletes(state: State) -> State | None:
    if state.pair_secret.gone_at is not None:
        return None
    return _called(state, "DeleteSecret")._replace(deleted_at=state.now)


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


def _loses_a_version(place: int, state: State) -> State | None:
    """Secrets Manager may remove any version that carries no label, once it is older than a day.

    Not the chain's newest pair: it had to lose REFRESHING by a person's hand first, and then its id may come again.
    """
    kept = {*state.pair_secret.labels.values(), state.chain_newest}
    versions = state.pair_secret.versions.items()
    old = [one for one, version in versions if one not in kept and state.now - version.created_at > A_DAY]
    if not old:
        return None
    return _changed(state, lambda machine: machine.remove_version(NAMES.pair, old[place % len(old)]))


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
    "pastes a live pair": lambda state: _pastes(_logged_in(state), state.provider.newest + 1),
    "pastes a dead pair": lambda state: _pastes(state, f"typo-{state.deeds + 1}"),
    "pastes a dead refresh token": _pastes_a_dead_refresh_token,
    "pastes no pair": lambda state: _saves(state, {"access_token": ""}),
    "pastes the first pair": lambda state: _pastes(state, 1) if state.saved(1) else None,
    # As an API key is stored: there is nothing to refresh.
    "pastes an access token": lambda state: _saves(
        _logged_in(state), {"access_token": f"access-{state.provider.newest + 1}"}
    ),
    "keeps the tokens alone": _keeps_the_tokens_alone,
    "opens the form": _opens_the_form,
    "saves the form": _saves_the_form,
    "rolls AWSCURRENT back": _moves(CURRENT, PREVIOUS),
    "moves AWSCURRENT to REFRESHING": _moves(CURRENT, REFRESHING),
    "removes REFRESHING": _removes(REFRESHING),
    "removes SUPERSEDED": _removes(SUPERSEDED),
    "moves REFRESHING to AWSCURRENT": _moves(REFRESHING, CURRENT),
    "moves REFRESHING to AWSPREVIOUS": _moves(REFRESHING, PREVIOUS),
    "moves REFRESHING back": _moves_refreshing_back,
    "deletes the pair secret": _deletes,
    "restores the pair secret": lambda state: (
        None if state.pair_secret.gone_at is None else _called(state, "RestoreSecret")
    ),
    "rolls the readers' AWSCURRENT back": _moves(CURRENT, PREVIOUS, NAMES.bearer),
    "closes the proof's address": lambda state: state._replace(provider=state.provider._replace(forbids=True)),
    "makes the pair secret again": _makes_the_pair_secret_again,
    "loses the oldest version": partial(_loses_a_version, 0),
    "loses the second oldest version": partial(_loses_a_version, 1),
    "loses the newest version": partial(_loses_a_version, -1),
    "replaces the key": _replaces_the_key,
    "goes to a replica": _goes_to_a_replica,
}
