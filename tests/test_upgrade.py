"""Version 1.0's own code and today's take turns on one connection: each goes on from what the other left.

``golden/version-1.0.zip`` holds what version 1.0 shipped; ``deployed/test_deployment.py`` does the same with stacks.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import Account, Clock
from token_refresher import answers, claim, journal, login, outcomes, ports, refresh, secret_store
from virtuous_token import contract, secret_text

ARCHIVE = Path(__file__).parent / "golden" / "version-1.0.zip"
SOURCES = [f"{ARCHIVE}/functions/token_refresher", f"{ARCHIVE}/layers/virtuous_token"]
MODULES = ("answers", "claim", "journal", "login", "ports", "refresh", "secret_store")
LIFE = timedelta(days=15)
UNTIL_DUE = timedelta(days=8)


@pytest.fixture(scope="module")
def version_1_0() -> SimpleNamespace:
    """Its modules, beside today's, which have the same names."""
    ours = {
        name: sys.modules[name] for name in sys.modules if name.split(".")[0] in ("token_refresher", "virtuous_token")
    }
    for name in ours:
        del sys.modules[name]
    sys.path[:0] = SOURCES
    try:
        modules = {name: importlib.import_module(f"token_refresher.{name}") for name in MODULES}
        formats = {name: importlib.import_module(f"virtuous_token.{name}") for name in ("contract", "secret_text")}
        return SimpleNamespace(**modules, **formats, Services=modules["ports"].World, Policy=modules["refresh"].Policy)
    finally:
        sys.path[:] = [place for place in sys.path if place not in SOURCES]
        for name in [name for name in sys.modules if name.split(".")[0] in ("token_refresher", "virtuous_token")]:
            del sys.modules[name]
        sys.modules.update(ours)


@pytest.fixture
def today() -> SimpleNamespace:
    return SimpleNamespace(
        answers=answers,
        login=login,
        refresh=refresh,
        secret_store=secret_store,
        contract=contract,
        secret_text=secret_text,
        Services=ports.Services,
        Policy=outcomes.Policy,
    )


class Scene:
    """A connection, and Virtuous with refresh tokens that work once, for the code of either version."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.account = Account(now=self.clock.now)
        self.newest = 1
        self.sent: list[str] = []
        self.is_throttled = False

    def endpoint(self, code: SimpleNamespace) -> Any:
        def answer(refresh_token: Any) -> Any:
            self.sent.append(refresh_token.reveal())
            if self.is_throttled:
                return code.answers.Later("HTTP 429", throttled=True)
            if refresh_token.reveal() != f"refresh-{self.newest}":
                return code.answers.Refused("invalid_grant")
            self.newest += 1
            at = self.clock.now()
            return code.answers.Granted(*self.tokens(code), at, at + LIFE)

        return SimpleNamespace(
            refresh=answer, prove=lambda _: code.answers.Proved("4711", "Example Relief", is_enabled=True)
        )

    def tokens(self, code: SimpleNamespace) -> tuple[Any, Any]:
        hidden = code.secret_text.SecretText
        return hidden(f"access-{self.newest}"), hidden(f"refresh-{self.newest}")

    def store(self, code: SimpleNamespace) -> Any:
        return code.secret_store.SecretStore(
            self.account.client, code.contract.SecretNames.of(self.account.prefix, "default")
        )

    def services(self, code: SimpleNamespace) -> Any:
        return code.Services(self.endpoint(code), self.clock.now, self.clock.pause)

    def log_in(self, code: SimpleNamespace) -> None:
        now = self.clock.now()
        pair = code.contract.TokenPair(*self.tokens(code), issued_at=now, expires_at=now + LIFE)
        code.login.store_login(self.store(code), self.services(code), pair, give_up_at=now + timedelta(minutes=5))

    def run(self, code: SimpleNamespace) -> str:
        result = code.refresh.refresh_connection(
            "default",
            self.store(code),
            self.services(code),
            code.Policy("https://api.virtuoussoftware.com"),
            deadline=self.clock.now() + timedelta(minutes=5),
        )
        return str(result.outcome)


def nothing_happened(_: Scene, __: SimpleNamespace) -> None:
    """The token has just fallen due."""


def refreshed(scene: Scene, version_1_0: SimpleNamespace) -> None:
    assert scene.run(version_1_0) == "refreshed"
    scene.clock.instant += UNTIL_DUE


def died_with_its_claim(scene: Scene, version_1_0: SimpleNamespace) -> None:
    store = scene.store(version_1_0)
    claims = version_1_0.claim.Claims(store, scene.services(version_1_0), scene.clock.now() + timedelta(minutes=5))
    assert claims.claim(claims.spot(store.pair_labels()), version_1_0.journal.Grant.CURRENT)


def was_throttled(scene: Scene, version_1_0: SimpleNamespace) -> None:
    scene.is_throttled = True
    assert scene.run(version_1_0) == "try_again"
    scene.is_throttled = False
    scene.sent.clear()  # the request was not served, so its token may be sent again


@pytest.mark.parametrize("left_by", [nothing_happened, refreshed, died_with_its_claim, was_throttled])
def test_each_version_goes_on_from_what_the_other_left(
    left_by: Callable[[Scene, SimpleNamespace], None], version_1_0: SimpleNamespace, today: SimpleNamespace
) -> None:
    scene = Scene()
    scene.log_in(version_1_0)
    assert scene.run(version_1_0) == "recovered"  # 1.0 published what a login had stored
    as_left = scene.account.strict.secrets
    assert scene.run(today) == "fresh"
    assert scene.account.strict.secrets == as_left

    scene.clock.instant += UNTIL_DUE
    left_by(scene, version_1_0)
    scene.clock.instant += timedelta(hours=1)
    for code in (today, version_1_0, version_1_0, today, today):
        assert (scene.run(code), scene.run(version_1_0), scene.run(today)) == ("refreshed", "fresh", "fresh")
        assert scene.account.bearer().access_token.reveal() == f"access-{scene.newest}"
        scene.clock.instant += UNTIL_DUE

    assert len(scene.sent) == len(set(scene.sent))


def test_version_1_0_goes_on_after_a_run_of_today_that_died_with_its_claim(
    version_1_0: SimpleNamespace, today: SimpleNamespace
) -> None:
    scene = Scene()
    scene.log_in(today)
    assert scene.run(today) == "recovered"
    scene.clock.instant += UNTIL_DUE
    store: ports.Store = scene.store(today)
    found = store.look().pair
    assert found is not None
    pair = contract.TokenPair.parse(found.text)
    assert pair.refresh_token is not None
    ours = claim.Journal(store, scene.services(today), scene.clock.now() + timedelta(minutes=5))
    head = ours.head(found, pair, store.pair_versions(), busy_for=timedelta(seconds=45))
    ours.claim(head, found.version_id, journal.CredentialKind.CURRENT, pair.refresh_token.fingerprint(), ())

    assert scene.run(version_1_0) == "busy"
    scene.clock.instant += timedelta(hours=1)
    assert (scene.run(version_1_0), scene.run(today)) == ("refreshed", "fresh")
    assert scene.sent == ["refresh-1"]
