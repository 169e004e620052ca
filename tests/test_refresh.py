"""One connection through the real core and store, against the strict Secrets Manager and a scripted provider."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore.exceptions
import pytest
from moto import mock_aws

from tests.fakes.secrets_manager import StrictSecretsManager
from token_refresher.aws.secret_store import SecretStore
from token_refresher.refresh.due import due_at
from token_refresher.refresh.formats import SecretNames, TokenPair
from token_refresher.refresh.journal import LABEL, SUPERSEDED, Intent, Outcome, parse_entry
from token_refresher.refresh.login import store_login
from token_refresher.refresh.model import (
    CURRENT,
    PREVIOUS,
    Answer,
    CurrentPair,
    Denied,
    Ending,
    Granted,
    NotGranted,
    Proof,
    Proved,
    Services,
    Stored,
    Unclear,
)
from token_refresher.refresh.refresh import Policy, Result, fresh_result, refresh_connection
from virtuous_token.contract import Bearer
from virtuous_token.secret_text import SecretText

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = SecretNames.of("virtuous", "default")
ORGANIZATION = Proved("77", "Helping Hands", is_enabled=True)


@dataclass
class ScriptedEndpoint:
    """Gives the scripted answers in turn, then refuses; strictly rotating where nothing is scripted."""

    world: Scene
    answers: list[Answer | Callable[[], Answer]] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    proved: list[str] = field(default_factory=list)
    live: str = "refresh-1"

    def refresh(self, refresh_token: SecretText) -> Answer:
        self.sent.append(refresh_token.reveal())
        return self._next(accepted=refresh_token.reveal() == self.live)

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        self.sent.append(f"{username} {password.reveal()}")
        return self._next(accepted=True)

    def prove(self, access_token: SecretText) -> Proof:
        self.proved.append(access_token.reveal())
        return self.proofs.pop(0) if self.proofs else ORGANIZATION

    def _next(self, *, accepted: bool) -> Answer:
        if self.answers:
            answer = self.answers.pop(0)
            return answer() if callable(answer) else answer
        if not accepted:
            return NotGranted(Ending.REFUSED, "invalid_grant")
        number = len(self.sent) + 1
        self.live = f"refresh-{number}"
        return granted(number, self.world.now)


def granted(number: int, at: datetime, **changes: Any) -> Granted:
    new = Granted(SecretText(f"access-{number}"), SecretText(f"refresh-{number}"), at, at + timedelta(days=15))
    return new._replace(**changes)


class Scene:
    """A stack with one connection, and a clock that moves when a test moves it."""

    def __init__(self) -> None:
        self.now = NOW
        self.strict = StrictSecretsManager(lambda: self.now)
        self.client = self.strict.client()
        self.virtuous = ScriptedEndpoint(self)
        self.policy = Policy("https://api.virtuoussoftware.com")
        for name in NAMES[:2]:
            self.client.create_secret(Name=name)

    def store_pair(self, value: str) -> str:
        version: str = self.client.put_secret_value(SecretId=NAMES.pair, SecretString=value)["VersionId"]
        self.strict.settle()
        return version

    def store_login(self) -> None:
        login = json.dumps({"username": "u@x.org", "password": "p w"})
        self.client.create_secret(Name=NAMES.login, SecretString=login)

    def services(self) -> Services:
        def pause(seconds: float) -> None:
            self.now += timedelta(seconds=seconds)

        return Services(self.virtuous, lambda: self.now, pause)

    def run(self, *, force: bool = False, seconds: float = 300) -> Result:
        return refresh_connection(
            "default",
            SecretStore(self.client, NAMES),
            self.services(),
            self.policy,
            deadline=self.now + timedelta(seconds=seconds),
            force=force,
        )

    def runs(self, times: int, every: timedelta) -> list[str]:
        outcomes = []
        for _ in range(times):
            outcomes.append(str(self.run().outcome))
            self.now += every
        return outcomes

    @property
    def pair(self) -> TokenPair:
        return TokenPair.parse(str(self.strict.value(NAMES.pair)))

    @property
    def bearer(self) -> Bearer:
        return Bearer.parse(str(self.strict.value(NAMES.bearer)))

    @property
    def in_step(self) -> bool:
        return self.strict.labels(NAMES.bearer).get(CURRENT) == self.strict.labels(NAMES.pair)[CURRENT]

    def journal(self) -> Intent | Outcome | None:
        return parse_entry(str(self.strict.value(NAMES.pair, LABEL)))


def pair(number: int = 1, *, age: timedelta = timedelta(days=8), **changes: Any) -> TokenPair:
    made = TokenPair(
        access_token=SecretText(f"access-{number}"),
        refresh_token=SecretText(f"refresh-{number}"),
        issued_at=NOW - age,
        expires_at=NOW - age + timedelta(days=15),
        refresh_token_issued_at=NOW - age,
        refresh_token_expires_at=NOW - age + timedelta(days=365),
        user_name="u@x.org",
        organization_id="77",
        organization_name="Helping Hands",
    )
    return replace(made, **changes)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def due(scene: Scene) -> Scene:
    """A published pair that is due."""
    version = scene.store_pair(pair().to_json())
    scene.client.put_secret_value(SecretId=NAMES.bearer, SecretString="{}", ClientRequestToken=version)
    scene.strict.settle()
    return scene


# The main job


def test_a_due_pair_is_refreshed_saved_proved_and_published(due: Scene) -> None:
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1"]
    assert due.virtuous.proved == ["access-2"]
    assert (due.pair.access_token, due.pair.refresh_token) == (SecretText("access-2"), SecretText("refresh-2"))
    assert due.bearer.access_token == SecretText("access-2")
    assert due.in_step
    assert due.bearer.expires_at == NOW + timedelta(days=15)
    assert due.bearer.organization_name == "Helping Hands"
    assert due.bearer.next_refresh_at == due_at(due.pair, "default", 50)


def test_the_new_pair_tells_what_it_replaces_and_keeps_what_the_answer_does_not_tell(due: Scene) -> None:
    before = due.strict.labels(NAMES.pair)[CURRENT]
    due.run()
    assert due.pair.replaces == before
    assert (due.pair.user_name, due.pair.organization_id) == ("u@x.org", "77")


def test_the_first_login_is_published_without_a_refresh(scene: Scene) -> None:
    scene.store_pair(pair(age=timedelta(0)).to_json())
    assert scene.run().outcome == "recovered"
    assert scene.virtuous.sent == []
    assert scene.in_step
    assert scene.run().outcome == "fresh"


def test_a_connection_without_a_pair_needs_a_login(scene: Scene) -> None:
    assert scene.run().outcome == "login_required"
    assert scene.strict.versions(NAMES.pair) == []


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [pytest.param(-1, "fresh", id="one second before it is due"), pytest.param(1, "refreshed", id="one second after")],
)
def test_the_margin_has_the_right_sign(due: Scene, seconds: float, outcome: str) -> None:
    at = due_at(due.pair, "default", 50)
    assert at is not None
    due.now = at + timedelta(seconds=seconds)
    assert due.run().outcome == outcome


def test_two_runs_missed_in_a_row_leave_days(due: Scene) -> None:
    at = due_at(due.pair, "default", 50)
    assert at is not None
    due.now = at + 2 * timedelta(hours=6)
    assert due.run().outcome == "refreshed"
    ends = pair().expires_at
    assert ends is not None
    assert ends - due.now > timedelta(days=6)


def test_a_forced_run_refreshes_what_is_not_due(scene: Scene) -> None:
    scene.store_pair(pair(age=timedelta(hours=1)).to_json())
    scene.run()
    assert scene.run().outcome == "fresh"
    assert scene.run(force=True).outcome == "refreshed"


@pytest.mark.parametrize("percent", [10, 50, 80])
def test_connections_made_together_fall_due_apart_and_never_late(percent: int) -> None:
    made = pair(age=timedelta(0))
    latest = NOW + timedelta(days=15) * percent / 100
    instants = {due_at(made, f"connection-{n}", percent) for n in range(1000)}
    assert len(instants) > 990
    assert all(at is not None and latest - timedelta(days=0.75) <= at <= latest for at in instants)


def test_each_run_reads_the_secret_anew(due: Scene) -> None:
    """What one invocation knew must not serve the next: a person may have stored another pair in between."""
    due.run()
    due.store_pair(pair(7).to_json())
    due.virtuous.live = "refresh-7"
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1", "refresh-7"]


def test_the_main_job_on_moto_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto is kinder than AWS, but nobody of ours wrote it: what it answers must do as well."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    with mock_aws():
        scene.client = boto3.client("secretsmanager", region_name="us-east-1")
        for name in NAMES[:2]:
            scene.client.create_secret(Name=name)
        scene.client.put_secret_value(SecretId=NAMES.pair, SecretString=pair().to_json())
        scene.now = datetime.now(UTC)  # which is moto's
        assert [str(scene.run(force=force).outcome) for force in (False, False, True)] == [
            "refreshed",
            "fresh",
            "refreshed",
        ]
        ids = [scene.client.get_secret_value(SecretId=name, VersionStage=CURRENT)["VersionId"] for name in NAMES[:2]]
        assert ids[0] == ids[1]
    assert scene.virtuous.sent == ["refresh-1", "refresh-2"]


# What an answer lacks


@pytest.mark.parametrize("rotates", [False, True])
def test_an_answer_without_a_refresh_token_keeps_the_old_one_over_two_cycles(due: Scene, rotates: bool) -> None:
    due.virtuous.answers = [granted(2, NOW, refresh_token=None)]
    assert due.run().outcome == "refreshed"
    assert due.pair.refresh_token == SecretText("refresh-1")
    assert due.pair.refresh_token_issued_at == NOW - timedelta(days=8)
    due.now += timedelta(days=8)
    due.virtuous.answers = [granted(3, due.now, refresh_token=SecretText("refresh-3") if rotates else None)]
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1", "refresh-1"]
    assert due.pair.refresh_token == SecretText("refresh-3" if rotates else "refresh-1")


def test_the_newest_refresh_token_is_sent_next(due: Scene) -> None:
    due.run()
    due.now += timedelta(days=8)
    due.run()
    assert due.virtuous.sent == ["refresh-1", "refresh-2"]


def test_a_refresh_token_that_the_provider_grants_again_is_sent_again(due: Scene) -> None:
    """One that was spent, and one that was refused: what it grants now is good now."""
    numbers = [1, 2, 1, 2]
    for number in numbers[1:]:
        due.virtuous.answers = [granted(number, due.now)]
        assert due.run().outcome == "refreshed"
        due.now += timedelta(days=8)
    due.virtuous.answers = [NotGranted(Ending.REFUSED, "invalid_grant")]
    due.run()
    store_login(
        SecretStore(due.client, NAMES),
        due.services(),
        pair(2, age=timedelta(days=-24)),
        give_up_at=due.now,
        adopted=False,
    )
    due.now += timedelta(days=8)
    due.virtuous.answers = [granted(3, due.now)]
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == [f"refresh-{number}" for number in (*numbers, 2)]


def test_a_granted_refresh_token_may_hold_what_a_pasted_one_may_not(due: Scene) -> None:
    """RFC 6749 appendix A.17 allows blanks and quotes."""
    due.virtuous.answers = [granted(2, NOW, refresh_token=SecretText('odd "two"'))]
    assert due.run().outcome == "refreshed"
    due.now += timedelta(days=8)
    due.virtuous.live = 'odd "two"'
    due.store_pair(json.dumps(json.loads(due.pair.to_json()) | {"note": "edited"}))
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1", 'odd "two"']


def test_an_unusable_access_token_stays_out_and_its_refresh_token_is_saved(due: Scene) -> None:
    due.virtuous.answers = [granted(2, NOW, access_token=None)]
    result = due.run()
    assert result.outcome == "try_again"
    assert (due.pair.access_token, due.pair.refresh_token) == (SecretText("access-1"), SecretText("refresh-2"))
    assert due.pair.expires_at == pair().expires_at
    assert due.in_step
    assert due.run().outcome == "fresh"  # a provider that goes on like that is asked once an hour, not in every run
    due.now += timedelta(hours=1)
    due.virtuous.live = "refresh-2"
    assert due.run().outcome == "refreshed"


def test_a_life_that_nobody_knows_is_stored_as_unknown_and_falls_due_soon(due: Scene) -> None:
    due.virtuous.answers = [granted(2, NOW, expires_at=None, oddities=("expires_in is not a number",))]
    result = due.run()
    assert result.outcome == "refreshed"
    assert "expires_in is not a number" in result.notes
    assert due.bearer.expires_at is None
    assert due.run().outcome == "fresh"
    due.now += timedelta(hours=1)
    due.virtuous.live = "refresh-2"
    assert due.run().outcome == "refreshed"


def test_a_clock_that_is_off_and_a_life_too_short_for_the_schedule_are_reported(due: Scene) -> None:
    due.policy = due.policy._replace(schedule_interval=timedelta(hours=6))
    short = {"expires_at": NOW + timedelta(hours=1), "clock_skew": timedelta(minutes=10)}
    due.virtuous.answers = [granted(2, NOW, **short)]
    notes = "; ".join(due.run().notes)
    assert "differs from ours by 600 s" in notes
    assert "the schedule is too slow" in notes


# Answers without a grant


@pytest.mark.parametrize(
    ("answer", "outcome", "recorded"),
    [
        pytest.param(NotGranted(Ending.REFUSED, "invalid_grant"), "login_required", "refused", id="refused"),
        pytest.param(
            NotGranted(Ending.CODE_NEEDED, "one-time code needed"),
            "login_required",
            "code_needed",
            id="a one-time code is asked for",
        ),
        pytest.param(
            NotGranted(Ending.MISCONFIGURED, "404"), "misconfigured", "misconfigured", id="the request is wrong"
        ),
        pytest.param(NotGranted(Ending.THROTTLED, "429"), "try_again", "throttled", id="throttled"),
        pytest.param(NotGranted(Ending.UNREACHABLE, "503"), "try_again", "unreachable", id="in trouble"),
        pytest.param(
            NotGranted(Ending.UNREACHABLE, "connection refused"), "try_again", "unreachable", id="nothing sent"
        ),
        pytest.param(NotGranted(Ending.UNKNOWN, "read timeout"), "try_again", "unknown", id="no clear answer"),
    ],
)
def test_an_answer_without_a_grant_is_recorded_and_keeps_the_pair(
    due: Scene, answer: Answer, outcome: str, recorded: str
) -> None:
    before = due.strict.labels(NAMES.pair)[CURRENT]
    due.virtuous.answers = [answer]
    assert due.run().outcome == outcome
    assert due.strict.labels(NAMES.pair)[CURRENT] == before
    entry = due.journal()
    assert isinstance(entry, Outcome)
    assert entry.result == recorded
    assert entry.retry_at is not None
    assert entry.retry_at > due.now
    assert due.run().outcome == outcome
    assert len(due.virtuous.sent) == 1


def test_retry_after_is_waited_for_across_runs_and_not_inside_one(due: Scene) -> None:
    due.virtuous.answers = [NotGranted(Ending.THROTTLED, "429", timedelta(seconds=847))]
    began = due.now
    due.run()
    assert due.now == began
    due.now = began + timedelta(seconds=846)
    assert due.run().outcome == "try_again"
    assert len(due.virtuous.sent) == 1
    due.now = began + timedelta(seconds=847)
    assert due.run().outcome == "refreshed"


def test_an_outage_makes_few_versions_even_on_a_schedule_of_a_minute(due: Scene) -> None:
    """Two an hour, once the first quick tries are over: 24 hours more make 48 versions, of 100 that are kept."""
    due.virtuous.answers = [NotGranted(Ending.UNREACHABLE, "connection refused")] * 240
    outcomes = due.runs(120, timedelta(minutes=1))
    before = len(due.strict.versions(NAMES.pair))
    outcomes += due.runs(120, timedelta(minutes=1))
    assert set(outcomes) == {"try_again"}
    assert before <= 13
    assert len(due.strict.versions(NAMES.pair)) - before <= 4
    due.virtuous.answers = []
    due.now += timedelta(hours=1)
    assert due.run().outcome == "refreshed"


def test_a_dead_refresh_token_is_sent_once_a_day_and_so_is_the_password(due: Scene) -> None:
    due.store_login()
    due.virtuous.answers = [NotGranted(Ending.REFUSED, "invalid_grant")] * 100
    outcomes = due.runs(24, timedelta(hours=1))
    assert set(outcomes) == {"login_required"}
    assert due.virtuous.sent.count("refresh-1") == 1
    assert due.virtuous.sent.count("u@x.org p w") == 1
    due.runs(2, timedelta(hours=1))
    assert due.virtuous.sent.count("refresh-1") == 2
    assert due.virtuous.sent.count("u@x.org p w") == 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(NotGranted(Ending.THROTTLED, "429"), id="throttled"),
        pytest.param(NotGranted(Ending.UNREACHABLE, "connection refused"), id="nothing sent"),
        pytest.param(NotGranted(Ending.UNKNOWN, "HTTP 502"), id="a gateway's error"),
        pytest.param(NotGranted(Ending.MISCONFIGURED, "404"), id="a wrong address"),
    ],
)
def test_a_refused_token_stays_refused_when_its_daily_try_is_not_served(due: Scene, answer: Answer) -> None:
    """Else it would be hammered, and the alarm would end because of an error that hides the real one."""
    due.virtuous.answers = [NotGranted(Ending.REFUSED, "invalid_grant"), *[answer] * 100]
    due.run()
    due.now += DAY
    assert set(due.runs(24, timedelta(hours=1))) == {"login_required"}
    assert due.virtuous.sent == ["refresh-1"] * 2


def test_once_a_code_was_asked_for_only_an_operator_asks_again(due: Scene) -> None:
    due.virtuous.answers = [NotGranted(Ending.CODE_NEEDED, "one-time code needed")] * 100
    assert set(due.runs(10, DAY)) == {"login_required"}
    assert due.virtuous.sent == ["refresh-1"]
    due.run(force=True)
    assert due.virtuous.sent == ["refresh-1"] * 2


def test_an_operator_may_force_one_try_while_a_login_is_required(due: Scene) -> None:
    due.virtuous.answers = [NotGranted(Ending.REFUSED, "invalid_grant")] * 2
    due.run()
    assert due.run().outcome == "login_required"
    assert due.run(force=True).outcome == "login_required"
    assert due.virtuous.sent == ["refresh-1", "refresh-1"]
    assert due.run().outcome == "login_required"
    assert len(due.virtuous.sent) == 2


def test_a_refusal_of_a_pair_that_was_replaced_meanwhile_alarms_nobody(due: Scene) -> None:
    def replaced_in_flight() -> Answer:
        due.store_pair(pair(7, age=timedelta(0)).to_json())
        return NotGranted(Ending.REFUSED, "invalid_grant")

    due.virtuous.answers = [replaced_in_flight]
    assert due.run().outcome == "superseded"
    assert due.virtuous.sent == ["refresh-1"]
    assert due.pair.refresh_token == SecretText("refresh-7")
    assert due.run().outcome == "recovered"


def test_nor_does_a_list_from_before_it_was_replaced(due: Scene) -> None:
    """What this run wrote is missing there, so it is read again."""

    def replaced_in_flight() -> Answer:
        due.client.put_secret_value(SecretId=NAMES.pair, SecretString=pair(7, age=timedelta(0)).to_json())
        return NotGranted(Ending.REFUSED, "invalid_grant")

    due.virtuous.answers = [replaced_in_flight]
    writes_ago = iter([2])
    due.strict.choose_view = lambda operation, name, count: (
        next(writes_ago, 0) if operation == "ListSecretVersionIds" and name == NAMES.pair else 0
    )
    assert due.run().outcome == "superseded"
    assert list(writes_ago) == []


# Recovery


def with_previous(scene: Scene) -> None:
    """AWSPREVIOUS holds refresh-1 and AWSCURRENT refresh-2, due and published."""
    scene.store_pair(pair(1, age=timedelta(days=20)).to_json())
    scene.store_pair(pair(2).to_json())
    scene.virtuous.proofs = [ORGANIZATION]
    scene.virtuous.live = "nothing"


def test_once_a_code_was_sent_to_a_phone_nothing_else_is_tried(scene: Scene) -> None:
    with_previous(scene)
    scene.store_login()
    scene.virtuous.answers = [NotGranted(Ending.CODE_NEEDED, "one-time code needed")] * 10
    assert set(scene.runs(50, timedelta(hours=1))) == {"login_required"}
    assert scene.virtuous.sent == ["refresh-2"]


def test_the_refresh_token_before_is_tried_once(scene: Scene) -> None:
    with_previous(scene)
    assert scene.run().outcome == "login_required"
    assert scene.virtuous.sent == ["refresh-2", "refresh-1"]
    scene.now += DAY
    assert scene.run().outcome == "login_required"
    assert scene.virtuous.sent == ["refresh-2", "refresh-1", "refresh-2"]


def test_a_token_that_was_refused_is_not_sent_again_beside_a_live_one(due: Scene) -> None:
    """A person pastes a dead pair, and saves it again while the live one is sent: ours is kept beside it."""
    due.run()
    due.now += timedelta(days=8)
    typo = pair(9).to_json()
    due.store_pair(typo)

    def saved_again() -> Answer:
        due.store_pair(json.dumps(json.loads(typo) | {"note": "again"}))
        due.virtuous.live = "refresh-3"
        return granted(3, due.now)

    due.virtuous.answers = [NotGranted(Ending.REFUSED, "invalid_grant"), saved_again]
    assert due.run().outcome == "superseded"
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1", "refresh-9", "refresh-2", "refresh-3"]


def test_the_refresh_token_before_mends_it_where_it_is_reusable(scene: Scene) -> None:
    with_previous(scene)
    scene.virtuous.live = "refresh-1"
    assert scene.run().outcome == "refreshed"
    assert scene.pair.refresh_token == SecretText("refresh-3")
    assert scene.in_step


def test_the_working_token_before_stays_where_its_answer_brings_no_other(scene: Scene) -> None:
    with_previous(scene)
    scene.virtuous.answers = [NotGranted(Ending.REFUSED, "invalid_grant"), granted(3, NOW, refresh_token=None)]
    assert scene.run().outcome == "refreshed"
    assert scene.pair.refresh_token == SecretText("refresh-1")


def test_the_stored_password_is_the_last_resort(scene: Scene) -> None:
    with_previous(scene)
    scene.store_login()
    assert scene.run().outcome == "refreshed"
    assert scene.virtuous.sent == ["refresh-2", "refresh-1", "u@x.org p w"]
    assert scene.pair.replaces is None
    assert scene.in_step


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"organization_id": "78"}, id="another organisation"),
        pytest.param({"user_name": "other@x.org"}, id="another user"),
    ],
)
def test_the_token_before_is_not_tried_where_it_is_somebody_elses(scene: Scene, changes: dict[str, Any]) -> None:
    scene.store_pair(pair(1, **changes).to_json())
    scene.store_pair(pair(2).to_json())
    scene.virtuous.live = "refresh-1"
    assert scene.run().outcome == "login_required"
    assert scene.virtuous.sent == ["refresh-2"]


def test_a_login_with_a_known_second_factor_is_not_tried(due: Scene) -> None:
    due.store_login()
    due.virtuous.answers = [granted(2, NOW, two_factor_enabled=True)]
    due.run()
    due.now += timedelta(days=8)
    due.virtuous.live = "nothing"
    assert due.run().outcome == "login_required"
    assert due.virtuous.sent == ["refresh-1", "refresh-2"]


def test_a_second_factor_ends_the_password_for_good(scene: Scene) -> None:
    """Each try sends a message to somebody's phone."""
    with_previous(scene)
    scene.store_login()
    scene.virtuous.answers = [
        NotGranted(Ending.REFUSED, "invalid_grant"),
        NotGranted(Ending.REFUSED, "invalid_grant"),
        NotGranted(Ending.CODE_NEEDED, "one-time code needed"),
    ]
    scene.runs(10, DAY)
    assert scene.virtuous.sent.count("u@x.org p w") == 1


def test_a_login_is_not_followed_by_another_within_a_day(due: Scene) -> None:
    due.store_login()
    due.virtuous.live = "nothing"
    assert due.run().outcome == "refreshed"
    due.virtuous.live = "nothing"
    assert due.run(force=True).outcome == "login_required"
    assert due.virtuous.sent.count("u@x.org p w") == 1


@pytest.mark.parametrize("value", ["", "{}", "[]", "password", '{"username": "u"}', '{"username": 1, "password": 2}'])
def test_a_login_secret_that_is_no_login_is_passed_over(due: Scene, value: str) -> None:
    due.client.create_secret(Name=NAMES.login, SecretString=value or " ")
    due.virtuous.live = "nothing"
    assert due.run().outcome == "login_required"
    assert due.virtuous.sent == ["refresh-1"]


def test_a_lost_answer_is_not_repeated_in_the_same_run(due: Scene) -> None:
    due.virtuous.answers = [NotGranted(Ending.UNKNOWN, "read timeout")]
    due.store_login()
    assert due.run().outcome == "try_again"
    assert due.virtuous.sent == ["refresh-1"]


# Races


def test_a_live_claim_of_another_makes_a_run_busy(due: Scene) -> None:
    nested: list[str] = []

    def another_run_meanwhile() -> Answer:
        nested.append(str(due.run().outcome))
        return granted(2, due.now)

    due.virtuous.answers = [another_run_meanwhile]
    assert due.run().outcome == "refreshed"
    assert nested == ["busy"]
    assert due.virtuous.sent == ["refresh-1"]


def test_of_eight_runs_at_once_one_sends_and_the_others_end_busy(due: Scene) -> None:
    others_ended, ended = threading.Event(), queue.SimpleQueue[str]()

    def slow_provider() -> Answer:
        assert others_ended.wait(30)
        return granted(2, due.now)

    def run() -> None:
        ended.put(str(due.run().outcome))

    due.virtuous.answers = [slow_provider]
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert [ended.get(timeout=30) for _ in range(7)] == ["busy"] * 7
    others_ended.set()
    for thread in threads:
        thread.join(30)
    assert ended.get(timeout=30) == "refreshed"
    assert due.virtuous.sent == ["refresh-1"]
    assert len(due.strict.versions(NAMES.pair)) == 3


def test_a_pair_that_a_person_stores_in_the_middle_stays_current_and_ours_is_kept(due: Scene) -> None:
    def stored_by_hand() -> Answer:
        due.store_pair(pair(7, age=timedelta(0)).to_json())
        return granted(2, due.now)

    due.virtuous.answers = [stored_by_hand]
    assert due.run().outcome == "superseded"
    assert due.pair.access_token == SecretText("access-7")
    kept = TokenPair.parse(str(due.strict.value(NAMES.pair, SUPERSEDED)))
    assert kept.refresh_token == SecretText("refresh-2")
    assert due.run().outcome == "recovered"
    assert due.bearer.access_token == SecretText("access-7")


def test_a_superseded_pair_is_what_helps_when_the_other_is_refused(due: Scene) -> None:
    def stored_by_hand() -> Answer:
        due.store_pair(pair(7).to_json())
        return granted(2, due.now)

    due.virtuous.answers = [stored_by_hand]
    due.run()
    due.virtuous.live = "refresh-2"
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1", "refresh-7", "refresh-2"]


def test_a_live_claim_on_a_pair_that_a_person_displaced_keeps_others_away_until_it_ends(due: Scene) -> None:
    nested: list[str] = []

    def displaced_in_flight() -> Answer:
        due.store_pair(pair(7).to_json())
        nested.append(str(due.run().outcome))
        return granted(2, due.now)

    due.virtuous.answers = [displaced_in_flight]
    due.virtuous.live = "refresh-7"
    assert due.run().outcome == "superseded"
    assert nested == ["recovered"]  # published, and not refreshed
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1", "refresh-7"]


@pytest.mark.parametrize("writes_ago", [1, 2])
@pytest.mark.parametrize("operations", [{"GetSecretValue"}, {"GetSecretValue", "ListSecretVersionIds"}])
def test_a_view_from_before_a_refresh_does_not_give_readers_the_old_token_back(
    due: Scene, writes_ago: int, operations: set[str]
) -> None:
    due.run()
    published = due.strict.labels(NAMES.bearer)[CURRENT]
    due.strict.choose_view = lambda operation, name, count: (
        writes_ago if operation in operations and name == NAMES.pair else 0
    )
    assert due.run().outcome == "busy"
    assert due.strict.labels(NAMES.bearer)[CURRENT] == published
    assert due.virtuous.sent == ["refresh-1"]


def test_a_pair_that_is_displaced_while_the_readers_label_moves_is_not_published(due: Scene) -> None:
    def meanwhile(operation: str, params: object, secret: str) -> None:
        if operation == "UpdateSecretVersionStage" and secret == NAMES.bearer:
            due.strict.before = None
            due.client.put_secret_value(SecretId=NAMES.bearer, SecretString='{"access_token": "by-hand"}')
            due.client.put_secret_value(SecretId=NAMES.pair, SecretString=pair(7, age=timedelta(0)).to_json())

    due.strict.before = meanwhile
    assert due.run().outcome == "superseded"
    assert due.bearer.access_token == SecretText("by-hand")


def test_a_save_whose_answer_is_lost_is_found_done(due: Scene) -> None:
    def lost_while_saving() -> Answer:
        due.strict.fail("PutSecretValue", "ReadTimeoutError", after_effect=True)
        return granted(2, due.now)

    due.virtuous.answers = [lost_while_saving]
    assert due.run().outcome == "refreshed"
    assert due.in_step


def test_a_holder_that_was_frozen_beyond_its_deadline_tries_more_than_once_to_save(due: Scene) -> None:
    def frozen_with_it_in_hand() -> Answer:
        due.now += timedelta(minutes=6)
        due.strict.fail("PutSecretValue", "InternalServiceError", times=2, secret=NAMES.pair)
        return granted(2, due.now)

    due.virtuous.answers = [frozen_with_it_in_hand]
    assert not due.run().pair_at_risk
    assert due.pair.refresh_token == SecretText("refresh-2")


def test_a_holder_that_was_taken_for_dead_does_not_lose_its_pair(due: Scene) -> None:
    """Its slot is closed while the answer is in hand: the pair is kept beside it, and says what is spent.

    REFRESHING stays on the chain's end, where a look at an idle connection finds it.
    """

    def closed_meanwhile() -> Answer:
        due.now += timedelta(hours=1)
        due.virtuous.answers = [NotGranted(Ending.UNKNOWN, "read timeout")]
        due.run()
        ends.append(due.strict.labels(NAMES.pair)[LABEL])
        due.virtuous.live = "refresh-2"
        return granted(2, due.now)

    ends: list[str] = []
    due.virtuous.answers = [closed_meanwhile]
    result = due.run()
    assert [due.strict.labels(NAMES.pair)[LABEL]] == ends
    assert (result.outcome, "SUPERSEDED" in result.reason) == ("superseded", True)
    assert TokenPair.parse(str(due.strict.value(NAMES.pair, SUPERSEDED))).refresh_token == SecretText("refresh-2")
    due.now += timedelta(hours=1)
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1", "refresh-1", "refresh-2"]
    assert due.in_step


# A failed invocation and Lambda's own repetitions of it


@pytest.mark.parametrize(
    "error",
    [
        pytest.param("ReadTimeoutError", id="timed out"),
        pytest.param("InternalServiceError", id="answered with an error"),
    ],
)
def test_a_claim_whose_answer_was_lost_is_a_failure_in_each_of_lambdas_repetitions(due: Scene, error: str) -> None:
    """They come one and two minutes after a failure. Were one of them `busy`, nobody would hear of the failure."""

    def claim_and_lose_the_answer(operation: str, params: Any, name: str) -> None:
        if operation == "PutSecretValue" and params["VersionStages"] == [LABEL]:
            due.strict.fail("PutSecretValue", error, after_effect=True)

    due.strict.before = claim_and_lose_the_answer
    outcomes = [str(due.run().outcome)]
    due.strict.before = None
    for minutes in (1, 2):
        due.now += timedelta(minutes=minutes)
        outcomes.append(str(due.run().outcome))
    assert outcomes == ["try_again"] * 3
    assert due.virtuous.sent == []
    due.now += timedelta(minutes=4)
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1"]


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [pytest.param(45, "busy", id="as long as a request takes"), pytest.param(46, "try_again", id="longer")],
)
def test_a_holder_is_taken_for_busy_while_its_request_may_last(due: Scene, seconds: int, outcome: str) -> None:
    nested: list[str] = []

    def another_run_meanwhile() -> Answer:
        due.now += timedelta(seconds=seconds)
        nested.append(str(due.run().outcome))
        return granted(2, due.now)

    due.virtuous.answers = [another_run_meanwhile]
    assert due.run().outcome == "refreshed"
    assert nested == [outcome]


# Calls


def calls_of(scene: Scene) -> list[str]:
    scene.strict.log.clear()
    scene.run()
    return [f"{call.operation} {call.secret_name.rpartition('/')[2]}" for call in scene.strict.log]


def test_a_refresh_makes_eight_calls_to_secrets_manager_and_two_to_virtuous(due: Scene) -> None:
    due.run()
    due.now += timedelta(days=8)
    before = sum(due.strict.writes(name) for name in NAMES[:2])
    assert calls_of(due) == [
        "DescribeSecret bearer",
        "GetSecretValue tokens",
        "ListSecretVersionIds tokens",
        "PutSecretValue tokens",
        "ListSecretVersionIds tokens",
        "PutSecretValue tokens",
        "PutSecretValue bearer",
        "UpdateSecretVersionStage bearer",
    ]
    assert (due.virtuous.sent, due.virtuous.proved) == (["refresh-1", "refresh-2"], ["access-2", "access-3"])
    assert sum(due.strict.writes(name) for name in NAMES[:2]) - before == 4


def test_a_look_at_a_fresh_idle_connection_makes_two_calls(due: Scene) -> None:
    due.run()
    assert calls_of(due) == ["DescribeSecret bearer", "GetSecretValue tokens"]


def test_a_look_that_others_took_says_as_much(due: Scene) -> None:
    """Many connections are looked at with one batch read."""

    def fresh() -> Result | None:
        return fresh_result("default", SecretStore(due.client, NAMES).read(), due.policy, due.now)

    assert fresh() is None
    due.run()
    assert fresh() == due.run()._replace(notes=())
    due.store_pair(pair(3, age=timedelta(0)).to_json())
    assert fresh() is None


@pytest.mark.parametrize(
    ("labels", "listed", "is_idle"),
    [
        pytest.param({LABEL}, None, True, id="the journal's newest pair"),
        pytest.param(set(), None, False, id="a pair of a person's, and nobody knows what REFRESHING is on"),
        pytest.param(set(), {CURRENT: "v"}, True, id="nothing was ever claimed"),
        pytest.param(set(), {CURRENT: "v", PREVIOUS: "u"}, True, id="nor since another was stored by hand"),
        pytest.param(set(), {CURRENT: "v", PREVIOUS: "u", LABEL: "u"}, True, id="it displaced the journal's newest"),
        pytest.param(set(), {CURRENT: "v", PREVIOUS: "u", LABEL: "c"}, False, id="an intent or an outcome"),
        pytest.param(set(), {CURRENT: "u", LABEL: "u"}, False, id="the list is older than the pair"),
    ],
)
def test_a_connection_is_idle_where_the_labels_say_so(
    labels: set[str], listed: dict[str, str] | None, is_idle: bool
) -> None:
    assert Stored({}, CurrentPair("v", labels, "{}"), listed).is_idle is is_idle


# Time


def test_nothing_is_sent_that_could_not_be_saved(due: Scene) -> None:
    writes = due.strict.writes(NAMES.pair)
    assert due.run(seconds=119).outcome == "postponed"
    assert due.virtuous.sent == []
    assert due.strict.writes(NAMES.pair) == writes
    assert due.run(seconds=121).outcome == "refreshed"


def test_a_connection_is_not_looked_at_when_a_look_could_outlast_the_invocation(due: Scene) -> None:
    due.strict.log.clear()
    assert due.run(seconds=44).outcome == "postponed"
    assert due.strict.log == []


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(44, id="the look fits"), pytest.param(90, id="the answer came later than it may: no time to look")],
)
def test_a_look_that_hangs_does_not_eat_the_time_for_saving(due: Scene, seconds: int) -> None:
    def answered_late() -> Answer:
        def hang(operation: str, params: object, name: str) -> None:
            if operation == "ListSecretVersionIds":
                due.now += timedelta(seconds=38)
                raise botocore.exceptions.ReadTimeoutError(endpoint_url="none")

        due.now += timedelta(seconds=seconds)
        due.strict.before = hang
        return granted(2, due.now)

    due.virtuous.answers = [answered_late]
    deadline = due.now + timedelta(seconds=121)
    assert due.run(seconds=121).outcome == "refreshed"
    assert due.now < deadline
    assert due.pair.refresh_token == SecretText("refresh-2")


def test_a_claim_that_takes_too_long_sends_nothing_and_blocks_nobody(due: Scene) -> None:
    due.strict.after = lambda operation, params, name: (
        setattr(due, "now", due.now + timedelta(seconds=250)) if operation == "PutSecretValue" else None
    )
    assert due.run().outcome == "try_again"
    assert due.virtuous.sent == []
    due.strict.after = None
    due.now += timedelta(minutes=1)
    assert due.run().outcome == "refreshed"


def test_saving_survives_throttling_and_makes_one_version(due: Scene) -> None:
    def throttled() -> Answer:
        due.strict.fail("PutSecretValue", "ThrottlingException", times=2)
        return granted(2, due.now)

    due.virtuous.answers = [throttled]
    before = len(due.strict.versions(NAMES.pair))
    assert due.run().outcome == "refreshed"
    assert len(due.strict.versions(NAMES.pair)) == before + 2


def test_a_save_that_never_works_is_no_success_and_says_what_comes_next(due: Scene) -> None:
    def denied() -> Answer:
        due.strict.fail("PutSecretValue", "InternalServiceError", times=10_000)
        return granted(2, due.now)

    due.virtuous.answers = [denied]
    result = due.run()
    assert result.outcome == "try_again"
    assert result.pair_at_risk
    assert "could not be saved" in result.reason
    assert "the next run" in result.reason
    assert due.now - NOW > timedelta(seconds=290)


# Proof


@pytest.mark.parametrize(
    "proof", [pytest.param(Denied("401"), id="refused"), pytest.param(Denied("403"), id="forbidden")]
)
def test_a_token_that_virtuous_refuses_is_saved_but_not_published(due: Scene, proof: Proof) -> None:
    before = due.strict.labels(NAMES.bearer)[CURRENT]
    due.virtuous.proofs = [proof]
    assert due.run().outcome == "unproven"
    assert due.pair.refresh_token == SecretText("refresh-2")
    assert due.strict.labels(NAMES.bearer)[CURRENT] == before


def test_while_a_new_token_is_unproven_the_old_ones_end_is_what_counts(due: Scene) -> None:
    due.virtuous.proofs = [Denied("401")] * 3
    assert due.run().readers_work_until == pair().expires_at
    assert due.run().readers_work_until == pair().expires_at
    due.virtuous.proofs = []
    assert due.run().readers_work_until == NOW + timedelta(days=15)


def test_an_unproven_pair_is_proved_again_by_each_run_and_published_when_it_works(due: Scene) -> None:
    due.virtuous.proofs = [Denied("401"), Denied("401")]
    assert due.runs(3, timedelta(hours=6)) == ["unproven", "unproven", "recovered"]
    assert due.virtuous.sent == ["refresh-1"]
    assert due.in_step


def test_an_unproven_pair_is_refreshed_once_a_day(due: Scene) -> None:
    due.virtuous.proofs = [Denied("401")] * 100
    due.runs(13, timedelta(hours=6))
    assert due.virtuous.sent == ["refresh-1", "refresh-2", "refresh-3", "refresh-4"]


@pytest.mark.parametrize("removed", [False, True])
def test_a_refused_token_is_published_once_the_one_that_readers_have_is_over(due: Scene, removed: bool) -> None:
    """The proof's address may be what is refused; readers have nothing to lose then."""
    published = due.strict.labels(NAMES.bearer)[CURRENT]
    due.virtuous.proofs = [Denied("403")] * 20
    due.run()
    assert due.strict.labels(NAMES.bearer)[CURRENT] == published
    if removed:  # as Secrets Manager removes a version without a label that is older than a day
        due.client.get_secret_value(SecretId=NAMES.pair, VersionId=published)
        due.strict.remove_version(NAMES.pair, published)
    due.now += timedelta(days=16)
    result = due.run()
    assert result.outcome == "unproven"
    assert "all the same" in result.reason
    assert due.in_step


@pytest.mark.parametrize("proof", [pytest.param(Unclear("502"), id="trouble"), pytest.param(ORGANIZATION, id="proved")])
def test_a_token_is_published_unless_it_is_refused(due: Scene, proof: Proof) -> None:
    due.virtuous.proofs = [proof]
    assert due.run().outcome == "refreshed"
    assert due.in_step


def test_another_organisation_and_a_disabled_one_are_reported(due: Scene) -> None:
    due.virtuous.proofs = [Proved("78", "Other", is_enabled=False)]
    result = due.run()
    notes = "; ".join(result.notes)
    assert result.organization_changed
    assert "the organisation changed" in notes
    assert "disabled" in notes
    assert due.pair.organization_id == "77"


def test_a_pasted_pair_learns_its_organisation_at_its_first_refresh(scene: Scene) -> None:
    scene.store_pair('{"access_token": "access-1", "refresh_token": "refresh-1"}')
    assert scene.run().outcome == "refreshed"
    assert (scene.pair.organization_id, scene.pair.organization_name) == ("77", "Helping Hands")


def test_a_pair_pasted_with_its_dates_learns_it_too(due: Scene) -> None:
    version = due.store_pair(pair(organization_id=None, organization_name=None).to_json())
    due.client.put_secret_value(SecretId=NAMES.bearer, SecretString="{}", ClientRequestToken=version)
    due.run()
    assert due.pair.organization_id == "77"


def test_an_api_key_is_proved_in_every_run(scene: Scene) -> None:
    scene.store_pair('{"access_token": "v_key"}')
    scene.virtuous.proofs = [ORGANIZATION, ORGANIZATION, Denied("401"), Unclear("502")]
    results = [scene.run() for _ in range(4)]
    assert [str(result.outcome) for result in results] == ["recovered", "fresh", "login_required", "fresh"]
    assert [result.api_key_refused for result in results] == [False, False, True, False]


def test_an_api_key_that_was_refused_from_the_start_is_not_published(scene: Scene) -> None:
    scene.store_pair('{"access_token": "v_key"}')
    scene.virtuous.proofs = [Denied("401")]
    result = scene.run()
    assert (result.outcome, result.api_key_refused) == ("login_required", True)
    assert scene.strict.versions(NAMES.bearer) == []


def test_what_readers_hold_is_never_fresh_once_it_is_over(due: Scene) -> None:
    """After an answer without an access token the next try waits an hour, which may be longer than the token lives."""
    due.now = NOW + timedelta(days=7) - timedelta(minutes=10)
    due.virtuous.answers = [granted(2, due.now, access_token=None)]
    assert due.run().outcome == "try_again"
    assert due.run().outcome == "fresh"
    due.now += timedelta(minutes=20)
    assert due.run().outcome == "try_again"


def test_a_pair_from_a_clock_that_is_a_day_ahead_falls_due_by_secrets_managers(scene: Scene) -> None:
    """Its token of an hour is over in an hour, and not tomorrow."""
    tomorrow = NOW + DAY
    pasted = pair(issued_at=tomorrow, expires_at=tomorrow + timedelta(hours=1), refresh_token_issued_at=tomorrow)
    scene.store_pair(pasted.to_json())
    assert scene.run().outcome == "recovered"
    assert scene.bearer.expires_at == NOW + timedelta(hours=1)
    scene.now += timedelta(minutes=31)
    assert scene.run().outcome == "refreshed"


# Publishing


def test_a_version_of_the_bearer_that_holds_something_else_is_no_success(due: Scene) -> None:
    """It is older than the pair of that id: then the pair is refreshed, which gives it another id."""
    version = "11111111-1111-4111-8111-111111111111"
    put = {"SecretId": NAMES.bearer, "SecretString": "old", "ClientRequestToken": version, "VersionStages": ["OLD"]}
    due.client.put_secret_value(**put)
    due.now += timedelta(seconds=1)
    fresh = {"SecretString": pair(1, age=timedelta(0)).to_json(), "ClientRequestToken": version}
    due.client.put_secret_value(SecretId=NAMES.pair, **fresh)
    assert due.run().outcome == "refreshed"
    assert due.bearer.access_token == SecretText("access-2")


def test_such_a_version_under_an_api_keys_id_is_told(due: Scene) -> None:
    version = "11111111-1111-4111-8111-111111111111"
    put = {"SecretId": NAMES.bearer, "SecretString": "old", "ClientRequestToken": version, "VersionStages": ["OLD"]}
    due.client.put_secret_value(**put)
    due.now += timedelta(seconds=1)
    key = {"SecretString": '{"access_token": "v_key"}', "ClientRequestToken": version}
    due.client.put_secret_value(SecretId=NAMES.pair, **key)
    result = due.run()
    assert (result.outcome, "virtuous-token login" in result.reason) == ("misconfigured", True)


def test_what_an_earlier_run_published_in_other_words_is_ours(due: Scene) -> None:
    """A setting may have changed between its two writes."""
    version = due.store_pair(pair(2, age=timedelta(0)).to_json())
    due.now += timedelta(seconds=1)
    bearer = Bearer(access_token=SecretText("access-2"), base_url="https://before.example.org")
    put = {"SecretId": NAMES.bearer, "SecretString": bearer.to_json(), "ClientRequestToken": version}
    due.client.put_secret_value(**put, VersionStages=["AWSPENDING"])
    assert due.run().outcome == "recovered"
    assert due.bearer.access_token == SecretText("access-2")


def test_a_run_killed_before_publishing_is_finished_by_the_next(due: Scene) -> None:
    due.store_pair(pair(2, age=timedelta(0)).to_json())
    assert due.run().outcome == "recovered"
    assert due.virtuous.sent == []
    assert due.in_step


def test_the_bearer_follows_an_operator_who_moves_the_pair_back(due: Scene) -> None:
    first = due.strict.labels(NAMES.pair)[CURRENT]
    due.run()
    second = due.strict.labels(NAMES.pair)[CURRENT]
    due.now += timedelta(hours=2)
    due.client.update_secret_version_stage(
        SecretId=NAMES.pair, VersionStage=CURRENT, MoveToVersionId=first, RemoveFromVersionId=second
    )
    due.strict.settle()
    assert due.run().outcome == "refreshed"  # the old pair is due at once, and its token is known to be spent
    assert due.virtuous.sent == ["refresh-1", "refresh-2"]
    assert due.in_step


def test_moving_the_pair_back_at_once_is_followed_since_the_labels_show_it(due: Scene) -> None:
    first = due.strict.labels(NAMES.pair)[CURRENT]
    due.run()
    second = due.strict.labels(NAMES.pair)[CURRENT]
    due.client.update_secret_version_stage(
        SecretId=NAMES.pair, VersionStage=CURRENT, MoveToVersionId=first, RemoveFromVersionId=second
    )
    due.now += timedelta(minutes=10)
    assert due.run().outcome == "refreshed"
    assert due.virtuous.sent == ["refresh-1", "refresh-2"]
    assert due.in_step


def test_an_old_view_of_a_dead_claim_meets_the_pair_that_came_of_it(due: Scene) -> None:
    """The view shows the old pair and its claim, which is dead by now; the pair that came of it is in its slot."""
    due.run()
    due.now += timedelta(minutes=10)
    due.strict.choose_view = lambda operation, name, count: 1
    assert due.run().outcome == "busy"
    assert due.virtuous.sent == ["refresh-1"]


# Old and odd secrets


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(" ", id="empty"),
        pytest.param("{}", id="an empty object"),
        pytest.param("s3cret-plaintext", id="plain text"),
        pytest.param('["a"]', id="a list"),
        pytest.param("null", id="null"),
        pytest.param('{"access_token": "a b"}', id="a token that cannot be a header"),
        pytest.param('{"access_token": 7, "refresh_token": "r"}', id="a token that is a number"),
        pytest.param('{"access_token": "s3cret', id="cut off"),
        pytest.param("[" * 100_000, id="deeply nested"),
    ],
)
def test_a_secret_that_is_no_pair_is_told_without_its_value(scene: Scene, value: str) -> None:
    scene.client.put_secret_value(SecretId=NAMES.pair, SecretString=value[:60_000])
    result = scene.run()
    assert result.outcome == "misconfigured"
    assert "the pair secret" in result.reason
    assert "run virtuous-token login --connection default" in result.reason
    assert "s3cret" not in result.reason
    assert scene.virtuous.sent == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('{"access_token": "access-1", "refresh_token": "refresh-1"}', id="two tokens alone"),
        pytest.param(
            '{"access_token": " \\"access-1\\"\\n", "refresh_token": "\'refresh-1\' "}', id="quotes and newlines"
        ),
        pytest.param('{"access_token": "access-1", "refresh_token": "refresh-1", "expires_at": "soon"}', id="odd date"),
        pytest.param('{"access_token": "access-1", "refresh_token": "refresh-1", "expires_at": 12}', id="a number"),
    ],
)
def test_a_pair_that_a_person_pasted_is_published_and_refreshed_at_once(scene: Scene, value: str) -> None:
    scene.store_pair(value)
    assert scene.run().outcome == "refreshed"
    assert scene.virtuous.sent == ["refresh-1"]
    assert scene.in_step


def test_an_api_key_is_published_and_never_refreshed(scene: Scene) -> None:
    scene.store_pair('{"access_token": "v_key"}')
    assert scene.run().outcome == "recovered"
    assert scene.run(force=True).outcome == "fresh"
    assert scene.virtuous.sent == []


def test_an_access_token_that_ended_with_nothing_to_refresh_it_needs_a_login(scene: Scene) -> None:
    scene.store_pair(pair(refresh_token=None, age=timedelta(days=14)).to_json())
    scene.run()
    scene.now += 2 * DAY
    assert scene.run().outcome == "login_required"


def test_unknown_keys_survive(scene: Scene) -> None:
    stored = json.loads(pair().to_json()) | {"note": "from the board", "future": {"a": [1]}}
    scene.store_pair(json.dumps(stored))
    assert scene.run().outcome == "refreshed"
    written = json.loads(scene.strict.value(NAMES.pair))
    assert (written["note"], written["future"]) == ("from the board", {"a": [1]})


def test_a_new_pair_is_saved_even_where_unknown_keys_leave_it_no_room(scene: Scene) -> None:
    scene.store_pair(json.dumps(json.loads(pair().to_json()) | {"note": "n" * 60_000}))
    scene.virtuous.answers = [granted(2, NOW, refresh_token=SecretText("r" * 20_000))]
    assert scene.run().outcome == "refreshed"
    assert scene.pair.refresh_token == SecretText("r" * 20_000)


def test_a_label_from_elsewhere_under_refreshing_blocks_nothing(due: Scene) -> None:
    due.client.put_secret_value(SecretId=NAMES.pair, SecretString="by hand", VersionStages=[LABEL])
    assert due.run().outcome == "refreshed"


def test_a_pending_version_of_another_tool_blocks_nothing(due: Scene) -> None:
    due.client.put_secret_value(SecretId=NAMES.pair, SecretString="{}", VersionStages=["AWSPENDING"])
    assert due.run().outcome == "refreshed"


def test_a_missing_awsprevious_is_no_obstacle_to_recovery(due: Scene) -> None:
    assert PREVIOUS not in due.strict.labels(NAMES.pair)
    due.virtuous.live = "nothing"
    assert due.run().outcome == "login_required"


def test_a_version_id_that_a_person_chose_will_do(scene: Scene) -> None:
    chosen = "stored-by-hand-on-a-monday-morning"
    scene.client.put_secret_value(SecretId=NAMES.pair, SecretString=pair().to_json(), ClientRequestToken=chosen)
    assert scene.run().outcome == "refreshed"
    assert scene.pair.replaces == chosen


def spoil_deleted(scene: Scene) -> None:
    scene.client.delete_secret(SecretId=NAMES.pair)


def spoil_replica(scene: Scene) -> None:
    scene.strict.make_replica(NAMES.pair)


def spoil_kms(scene: Scene) -> None:
    scene.strict.refuse_kms(NAMES.pair, "kms:GenerateDataKey")


def spoil_bearer(scene: Scene) -> None:
    scene.client.delete_secret(SecretId=NAMES.bearer)


def spoil_missing(scene: Scene) -> None:
    scene.client.delete_secret(SecretId=NAMES.pair, ForceDeleteWithoutRecovery=True)


def spoil_full(scene: Scene) -> None:
    for number in range(200 - len(scene.strict.versions(NAMES.pair))):
        try:
            scene.client.put_secret_value(SecretId=NAMES.pair, SecretString=str(number), VersionStages=["FILLING"])
        except scene.client.exceptions.LimitExceededException:
            return


@pytest.mark.parametrize(
    ("spoil", "outcome"),
    [
        pytest.param(spoil_deleted, "misconfigured", id="marked for deletion"),
        pytest.param(spoil_missing, "misconfigured", id="not there"),
        pytest.param(spoil_replica, "misconfigured", id="a replica"),
        pytest.param(spoil_kms, "misconfigured", id="KMS refuses to encrypt"),
        pytest.param(spoil_bearer, "misconfigured", id="the bearer secret is marked for deletion"),
        pytest.param(spoil_full, "try_again", id="a hundred versions within a day"),
    ],
)
def test_a_secret_that_cannot_be_written_is_known_before_anything_is_spent(
    due: Scene, spoil: Callable[[Scene], None], outcome: str
) -> None:
    spoil(due)
    result = due.run()
    assert result.outcome == outcome
    assert any(hint in result.reason for hint in (NAMES.pair, NAMES.bearer, "the pair secret has about 100 versions"))
    assert due.virtuous.sent == []


@pytest.mark.parametrize(
    ("versions", "outcome"),
    [
        pytest.param(94, "refreshed", id="room for a claim, its result and a few puts of a person"),
        pytest.param(95, "try_again", id="one more"),
    ],
)
def test_nothing_is_sent_where_the_quota_leaves_no_room_for_the_answer(due: Scene, versions: int, outcome: str) -> None:
    while len(due.strict.versions(NAMES.pair)) < versions:
        number = len(due.strict.versions(NAMES.pair))
        due.client.put_secret_value(SecretId=NAMES.pair, SecretString=str(number), VersionStages=["FILLING"])
    result = due.run()
    assert result.outcome == outcome
    assert not result.pair_at_risk
    assert due.virtuous.sent == ([] if outcome == "try_again" else ["refresh-1"])
    due.now += timedelta(days=1, seconds=1)
    assert due.run().outcome in ("refreshed", "fresh")


def test_results_hold_no_secret(due: Scene) -> None:
    secrets = ["access-1", "access-2", "refresh-1", "refresh-2"]
    shown: Iterable[str] = (repr(due.run()), repr(due.pair), str(due.bearer), f"{due.pair.access_token}")
    assert not [secret for secret in secrets for text in shown if secret in text]
