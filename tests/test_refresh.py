"""One connection through the real core and store, against the strict Secrets Manager and a scripted provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import botocore.exceptions
import pytest

from tests.support import Account, a_pair
from token_refresher.refresh.due import due_at
from token_refresher.refresh.formats import SecretNames, TokenPair
from token_refresher.refresh.journal import LABEL, SUPERSEDED, late_pair_id
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
from token_refresher.refresh.refresh import Policy, Result, refresh_connection
from virtuous_token.contract import Bearer
from virtuous_token.secret_text import SecretText

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NAMES = SecretNames.of("virtuous", "default")
ORGANIZATION = Proved("77", "Helping Hands", is_enabled=True)
REFUSED = NotGranted(Ending.REFUSED, "invalid_grant")
CODE_NEEDED = NotGranted(Ending.CODE_NEEDED, "one-time code needed")
LOST = NotGranted(Ending.UNKNOWN, "read timeout")
NOT_SENT = NotGranted(Ending.UNREACHABLE, "connection refused")
THROTTLED = NotGranted(Ending.THROTTLED, "429")
MISCONFIGURED = NotGranted(Ending.MISCONFIGURED, "404")
PASSWORD = "u@x.org p w"


def granted(number: int, at: datetime = NOW, **changes: Any) -> Granted:
    new = Granted(SecretText(f"access-{number}"), SecretText(f"refresh-{number}"), at, at + timedelta(days=15))
    return new._replace(**changes)


def pair(number: int = 1, *, age: timedelta = timedelta(days=8), **changes: Any) -> TokenPair:
    known = {"user_name": "u@x.org", "organization_id": "77", "organization_name": "Helping Hands"}
    return replace(a_pair(number, NOW - age, **known), **changes)


class Scene(Account):
    """A stack with one connection, a clock that moves when a test moves it, and Virtuous.

    Virtuous gives the scripted answers in turn, and rotates strictly where nothing is scripted.
    """

    def __init__(self) -> None:
        self.now = NOW
        super().__init__(now=lambda: self.now)
        self.policy = Policy("https://api.virtuoussoftware.com")
        self.answers: list[Answer | Callable[[], Answer]] = []
        self.proofs: list[Proof] = []
        self.sent: list[str] = []
        self.proved: list[str] = []
        self.live = "refresh-1"

    def refresh(self, refresh_token: SecretText) -> Answer:
        self.sent.append(refresh_token.reveal())
        return self._answer(accepted=refresh_token.reveal() == self.live)

    def log_in(self, username: str, password: SecretText, code: SecretText | None = None) -> Answer:
        self.sent.append(f"{username} {password.reveal()}")
        return self._answer(accepted=True)

    def prove(self, access_token: SecretText) -> Proof:
        self.proved.append(access_token.reveal())
        return self.proofs.pop(0) if self.proofs else ORGANIZATION

    def _answer(self, *, accepted: bool) -> Answer:
        if self.answers:
            answer = self.answers.pop(0)
            return answer() if callable(answer) else answer
        if not accepted:
            return REFUSED
        self.live = f"refresh-{len(self.sent) + 1}"
        return granted(len(self.sent) + 1, self.now)

    def store_pair(self, value: TokenPair | str) -> str:
        version = self.put(NAMES.pair, value if isinstance(value, str) else value.to_json())
        self.strict.settle()
        return version

    def store_password(self) -> None:
        login = json.dumps({"username": "u@x.org", "password": "p w"})
        self.client.create_secret(Name=NAMES.login, SecretString=login)

    def services(self) -> Services:
        return Services(self, lambda: self.now, lambda seconds: self.wait(timedelta(seconds=seconds)))

    def run(self, *, force: bool = False, seconds: float = 300) -> Result:
        deadline = self.now + timedelta(seconds=seconds)
        services = self.services()
        return refresh_connection("default", self.store(), services, self.policy, deadline=deadline, force=force)

    def runs(self, times: int, every: timedelta) -> list[str]:
        outcomes = []
        for _ in range(times):
            outcomes.append(str(self.run().outcome))
            self.now += every
        return outcomes

    def meanwhile(self, *happens: Callable[[], object], answer: Answer | None = None) -> None:
        """The next request to Virtuous: this happens while its *answer* is on the way."""

        def answered() -> Answer:
            for happening in happens:
                happening()
            return answer or granted(2, self.now)

        self.answers.append(answered)

    def wait(self, wait: timedelta) -> None:
        self.now += wait

    def labels(self, name: str = NAMES.pair) -> dict[str, str]:
        return dict(self.strict.labels(name))

    @property
    def in_step(self) -> bool:
        return self.labels(NAMES.bearer).get(CURRENT) == self.labels()[CURRENT]


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def due(scene: Scene) -> Scene:
    """A published pair that is due."""
    scene.put(NAMES.bearer, "{}", version=scene.store_pair(pair()))
    scene.strict.settle()
    return scene


@pytest.fixture
def displaced(scene: Scene) -> Scene:
    """AWSPREVIOUS holds refresh-1 and AWSCURRENT refresh-2, due; none works."""
    scene.store_pair(pair(1, age=timedelta(days=20)))
    scene.store_pair(pair(2))
    scene.live = "nothing"
    return scene


# The main job


def test_a_due_pair_is_refreshed_saved_proved_and_published(due: Scene) -> None:
    before = due.labels()[CURRENT]
    result = due.run()
    assert (result.outcome, due.sent, due.proved) == ("refreshed", ["refresh-1"], ["access-2"])
    new = pair(2, age=timedelta(), replaces=before, spent=(SecretText("refresh-1").fingerprint(),))
    assert due.pair() == new
    assert due.in_step
    assert due.bearer() == Bearer(
        access_token=new.access_token,
        issued_at=NOW,
        expires_at=NOW + timedelta(days=15),
        next_refresh_at=due_at(new, "default", 50),
        base_url="https://api.virtuoussoftware.com",
        organization_name="Helping Hands",
    )
    shown = (repr(result), repr(due.pair()), str(due.bearer()), f"{due.pair().access_token}")
    assert not [text for text in shown for token in ("access-", "refresh-1", "refresh-2") if token in text]


def test_the_first_login_is_published_without_a_refresh(scene: Scene) -> None:
    assert scene.run().outcome == "login_required"
    scene.store_pair(pair(age=timedelta()))
    assert scene.runs(2, MINUTE) == ["recovered", "fresh"]
    assert scene.sent == []
    assert scene.in_step
    assert scene.run(force=True).outcome == "refreshed"


@pytest.mark.parametrize(
    ("wait", "outcome"),
    [
        pytest.param(timedelta(seconds=-1), "fresh", id="one second before it is due"),
        pytest.param(timedelta(seconds=1), "refreshed", id="one second after"),
    ],
)
def test_a_pair_is_refreshed_once_it_is_due(due: Scene, wait: timedelta, outcome: str) -> None:
    due.now = (due_at(due.pair(), "default", 50) or NOW) + wait
    assert due.run().outcome == outcome


@pytest.mark.parametrize("percent", [10, 50, 80])
def test_connections_made_together_fall_due_apart_and_never_late(percent: int) -> None:
    made = pair(age=timedelta(0))
    latest = NOW + timedelta(days=15) * percent / 100
    instants = {due_at(made, f"connection-{n}", percent) for n in range(1000)}
    assert len(instants) > 990
    assert all(at is not None and latest - timedelta(days=0.75) <= at <= latest for at in instants)


# What an answer lacks


@pytest.mark.parametrize("second", [None, "refresh-3", 'odd "two"'])
def test_an_answer_without_a_refresh_token_keeps_the_old_one_over_two_cycles(due: Scene, second: str | None) -> None:
    """What is granted may hold what a pasted token may not (RFC 6749 appendix A.17)."""
    due.answers = [granted(2, refresh_token=None)]
    assert due.run().outcome == "refreshed"
    assert (due.pair().refresh_token, due.pair().refresh_token_issued_at) == (SecretText("refresh-1"), NOW - 8 * DAY)
    due.wait(8 * DAY)
    due.answers = [granted(3, due.now, refresh_token=SecretText(second) if second else None)]
    assert due.run().outcome == "refreshed"
    due.store_pair(json.dumps(json.loads(due.pair().to_json()) | {"note": "edited"}))
    due.wait(8 * DAY)
    due.run()
    assert due.sent == ["refresh-1", "refresh-1", second or "refresh-1"]


def test_a_refresh_token_that_the_provider_grants_again_is_sent_again(due: Scene) -> None:
    """One that was spent, and one that was refused: what it grants now is good now."""
    numbers = [1, 2, 1, 2]
    for number in numbers[1:]:
        due.answers = [granted(number, due.now)]
        assert due.run().outcome == "refreshed"
        due.wait(8 * DAY)
    due.answers = [REFUSED] * 3
    due.run()
    store, again = due.store(), pair(2, age=NOW - due.now)
    store_login(store, due.services(), again, give_up_at=due.now, adopted=False)
    due.wait(8 * DAY)
    due.answers = [granted(3, due.now)]
    assert due.run().outcome == "refreshed"
    assert due.sent == [f"refresh-{number}" for number in (*numbers, 2)]


def test_an_unusable_access_token_stays_out_and_its_refresh_token_is_saved(due: Scene) -> None:
    """A provider that goes on like that is asked once an hour; what readers hold is never fresh once it is over."""
    due.now = NOW + 7 * DAY - 90 * MINUTE
    due.answers = [granted(2, due.now, access_token=None), granted(3, due.now + HOUR, access_token=None)]
    assert due.runs(4, 35 * MINUTE) == ["try_again", "fresh", "try_again", "try_again"]
    assert (due.pair().access_token, due.pair().refresh_token) == (SecretText("access-1"), SecretText("refresh-3"))
    assert due.in_step
    assert len(due.sent) == 2


def test_what_is_odd_about_an_answer_is_reported(due: Scene) -> None:
    due.policy = due.policy._replace(schedule_interval=timedelta(hours=6))
    odd = granted(2, expires_at=NOW + HOUR, clock_skew=10 * MINUTE, oddities=("expires_in is a word",))
    due.answers = [odd]
    due.proofs = [Proved("78", "Other", is_enabled=False)]
    result = due.run()
    for hint in ("differs from ours by 600 s", "schedule is too slow", "is a word", "organisation changed", "disabled"):
        assert hint in "; ".join(result.notes)
    assert result.organization_changed
    assert due.pair().organization_id == "77"


def test_a_life_that_nobody_knows_is_stored_as_unknown_and_falls_due_soon(due: Scene) -> None:
    due.answers = [granted(2, expires_at=None)]
    due.live = "refresh-2"
    assert due.runs(3, 20 * MINUTE) == ["refreshed", "fresh", "refreshed"]


# Answers without a grant


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(REFUSED, "login_required", id="refused"),
        pytest.param(CODE_NEEDED, "login_required", id="a one-time code is asked for"),
        pytest.param(MISCONFIGURED, "misconfigured", id="the request is wrong"),
        pytest.param(THROTTLED, "try_again", id="throttled"),
        pytest.param(NOT_SENT, "try_again", id="nothing sent"),
        pytest.param(LOST, "try_again", id="no clear answer, and nothing else is sent in that run"),
    ],
)
def test_an_answer_without_a_grant_is_waited_for_and_keeps_the_pair(due: Scene, answer: Answer, outcome: str) -> None:
    before = due.labels()[CURRENT]
    due.answers = [answer]
    assert due.runs(2, timedelta()) == [outcome] * 2
    assert due.labels()[CURRENT] == before
    assert len(due.sent) == 1


def test_retry_after_is_waited_for_across_runs_and_not_inside_one(due: Scene) -> None:
    due.answers = [NotGranted(Ending.THROTTLED, "429", timedelta(seconds=847))]
    assert due.run().throttled_until == NOW + timedelta(seconds=847)
    assert due.now == NOW
    assert due.runs(1, timedelta(seconds=846)) + due.runs(2, timedelta(seconds=1)) == [*["try_again"] * 2, "refreshed"]


def test_an_outage_makes_few_versions_even_on_a_schedule_of_a_minute(due: Scene) -> None:
    """Two an hour, once the first quick tries are over: 24 hours more make 48 versions, of 100 that are kept."""
    due.answers = [NOT_SENT] * 240
    outcomes = due.runs(120, MINUTE)
    before = len(due.strict.versions(NAMES.pair))
    outcomes += due.runs(120, MINUTE)
    assert set(outcomes) == {"try_again"}
    assert before <= 13
    assert len(due.strict.versions(NAMES.pair)) - before <= 4
    due.answers = []
    due.wait(HOUR)
    assert due.run().outcome == "refreshed"


@pytest.mark.parametrize(
    ("answers", "password", "runs", "every", "sent"),
    [
        pytest.param([REFUSED], True, 24, HOUR, "2 1 p", id="each once in a day"),
        pytest.param([REFUSED], True, 2, DAY, "2 1 p 2 p", id="the current one and the password again the next day"),
        pytest.param([REFUSED], False, 3, DAY, "2 1 2 2", id="no stored password"),
        pytest.param([CODE_NEEDED], True, 50, HOUR, "2", id="a code that was sent to a phone ends it all"),
        pytest.param([REFUSED, REFUSED, CODE_NEEDED, REFUSED], True, 3, DAY, "2 1 p 2 2", id="by the password alone"),
        pytest.param([REFUSED, REFUSED, THROTTLED], False, 3, DAY, "2 1 2 2", id="a refusal stays one if throttled"),
    ],
)
def test_what_is_sent_while_nothing_works(
    displaced: Scene, answers: list[Answer], password: bool, runs: int, every: timedelta, sent: str
) -> None:
    if password:
        displaced.store_password()
    displaced.answers = [*answers, *[answers[-1]] * 200]
    assert set(displaced.runs(runs, every)) == {"login_required"}
    names = {"1": "refresh-1", "2": "refresh-2", "p": PASSWORD}
    assert displaced.sent == [names[which] for which in sent.split()]


@pytest.mark.parametrize("answer", [REFUSED, CODE_NEEDED])
def test_an_operator_may_force_one_try_while_a_login_is_required(due: Scene, answer: Answer) -> None:
    due.answers = [answer] * 9
    words = [str(due.run(force=force).outcome) for force in (False, False, True, False)]
    assert words == ["login_required"] * 4
    assert due.sent == ["refresh-1"] * 2


@pytest.mark.parametrize(
    ("writes_ago", "outcome"),
    [
        pytest.param(0, "superseded", id="a list shows it"),
        pytest.param(2, "try_again", id="a stale list lacks what this run wrote itself"),
    ],
)
def test_a_refusal_of_a_pair_that_was_replaced_meanwhile_alarms_nobody(
    due: Scene, writes_ago: int, outcome: str
) -> None:
    def replaced() -> None:
        due.client.put_secret_value(SecretId=NAMES.pair, SecretString=pair(7, age=timedelta()).to_json())
        due.strict.choose_view = lambda operation, *_: writes_ago if operation == "ListSecretVersionIds" else 0

    due.meanwhile(replaced, answer=REFUSED)
    assert due.run().outcome == outcome
    due.strict.choose_view = lambda *_: 0
    assert (due.sent, due.run().outcome) == (["refresh-1"], "recovered")


# Recovery


def test_another_stored_token_mends_it_and_stays_where_its_answer_brings_no_other(displaced: Scene) -> None:
    displaced.answers = [REFUSED, granted(3, refresh_token=None)]
    assert displaced.run().outcome == "refreshed"
    assert (displaced.pair().refresh_token, displaced.in_step) == (SecretText("refresh-1"), True)


def test_what_a_pair_that_came_late_knew_as_spent_stays_known(due: Scene) -> None:
    due.put(NAMES.pair, pair(7, spent=("0a0a0a0a",)).to_json(), SUPERSEDED, late_pair_id(due.labels()[CURRENT]))
    due.run()
    assert "0a0a0a0a" in due.pair().spent


def test_a_token_that_was_refused_is_not_sent_again_beside_a_live_one(due: Scene) -> None:
    """A person pastes a dead pair, and saves it again while the live one is sent: ours is kept beside it."""
    due.run()
    due.wait(8 * DAY)
    typo = pair(9).to_json()
    due.store_pair(typo)
    due.answers = [REFUSED]
    due.meanwhile(lambda: due.store_pair(json.dumps(json.loads(typo) | {"note": "again"})), answer=granted(3, due.now))
    due.live = "refresh-3"
    assert due.runs(2, timedelta()) == ["superseded", "refreshed"]
    assert due.sent == ["refresh-1", "refresh-9", "refresh-2", "refresh-3"]


@pytest.mark.parametrize("changes", [{"organization_id": "78"}, {"user_name": "other@x.org"}])
def test_a_token_that_is_somebody_elses_is_not_tried(scene: Scene, changes: dict[str, Any]) -> None:
    scene.store_pair(pair(1, **changes))
    scene.store_pair(pair(2))
    assert scene.run().outcome == "login_required"
    assert scene.sent == ["refresh-2"]


def test_the_stored_password_is_the_last_resort_and_not_repeated_within_a_day(displaced: Scene) -> None:
    displaced.store_password()
    assert displaced.run().outcome == "refreshed"
    assert displaced.sent == ["refresh-2", "refresh-1", PASSWORD]
    assert (displaced.pair().replaces, displaced.in_step) == (None, True)
    displaced.live = "nothing"
    assert displaced.run(force=True).outcome == "login_required"
    assert displaced.sent.count(PASSWORD) == 1


def test_a_login_with_a_known_second_factor_is_not_tried(due: Scene) -> None:
    due.store_password()
    due.answers = [granted(2, two_factor_enabled=True)]
    due.run()
    due.wait(8 * DAY)
    due.live = "nothing"
    assert due.run().outcome == "login_required"
    assert due.sent == ["refresh-1", "refresh-2"]


@pytest.mark.parametrize("value", [" ", "{}", "[]", "password", '{"username": "u"}', '{"username": 1, "password": 2}'])
def test_a_login_secret_that_is_no_login_is_passed_over(due: Scene, value: str) -> None:
    due.client.create_secret(Name=NAMES.login, SecretString=value)
    due.live = "nothing"
    assert due.run().outcome == "login_required"
    assert due.sent == ["refresh-1"]


# Races


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [pytest.param(45, "busy", id="as long as a request takes"), pytest.param(46, "try_again", id="longer")],
)
def test_a_live_claim_keeps_others_away(due: Scene, seconds: int, outcome: str) -> None:
    nested: list[str] = []
    due.meanwhile(lambda: due.wait(timedelta(seconds=seconds)), lambda: nested.append(str(due.run().outcome)))
    assert due.run().outcome == "refreshed"
    assert (nested, due.sent) == ([outcome], ["refresh-1"])


@pytest.mark.parametrize("stale", [("GetSecretValue",), ("GetSecretValue", "ListSecretVersionIds")])
def test_a_stale_view_does_not_give_readers_an_older_token_back(due: Scene, stale: tuple[str]) -> None:
    due.wait(MINUTE)
    due.store_pair(pair(2, age=timedelta()))
    due.put(NAMES.pair, pair(3, age=timedelta()).to_json())
    assert due.run().outcome == "recovered"
    published = due.labels(NAMES.bearer)[CURRENT]
    due.strict.choose_view = lambda operation, name, _: 1 if operation in stale and name == NAMES.pair else 0
    assert (due.run().outcome, due.labels(NAMES.bearer)[CURRENT]) == ("busy", published)


def test_a_pair_that_is_displaced_while_the_readers_label_moves_is_not_published(due: Scene) -> None:
    def meanwhile(operation: str, params: object, secret: str) -> None:
        if operation == "UpdateSecretVersionStage" and secret == NAMES.bearer:
            due.strict.before = None
            due.client.put_secret_value(SecretId=NAMES.bearer, SecretString='{"access_token": "by-hand"}')
            due.client.put_secret_value(SecretId=NAMES.pair, SecretString=pair(7, age=timedelta(0)).to_json())

    due.strict.before = meanwhile
    assert due.run().outcome == "superseded"
    assert due.bearer().access_token == SecretText("by-hand")


@pytest.mark.parametrize(
    "frozen",
    [pytest.param(timedelta(), id="in time"), pytest.param(6 * MINUTE, id="its holder was frozen beyond its deadline")],
)
def test_a_save_that_fails_is_repeated(due: Scene, frozen: timedelta) -> None:
    fails = partial(due.strict.fail, "PutSecretValue", "InternalServiceError", times=2, secret=NAMES.pair)
    due.meanwhile(lambda: due.wait(frozen), fails)
    assert due.run().outcome == "refreshed"
    assert len(due.strict.versions(NAMES.pair)) == 3
    assert due.in_step


def test_a_save_that_never_works_is_no_success_and_says_what_comes_next(due: Scene) -> None:
    due.meanwhile(lambda: due.strict.fail("PutSecretValue", "InternalServiceError", times=10_000))
    result = due.run()
    assert (result.outcome, result.pair_at_risk) == ("try_again", True)
    assert "could not be saved" in result.reason
    assert "the next run" in result.reason
    assert due.now - NOW > timedelta(seconds=290)


# Calls


def calls_of(scene: Scene) -> list[str]:
    scene.strict.log.clear()
    scene.run()
    return [f"{call.operation} {call.secret_name.rpartition('/')[2]}" for call in scene.strict.log]


def test_what_is_called(due: Scene) -> None:
    """Eight calls a refresh, four of them writes, and two for a look at a fresh and idle connection."""
    due.run()
    due.wait(8 * DAY)
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
    assert (due.sent, due.proved) == (["refresh-1", "refresh-2"], ["access-2", "access-3"])
    assert calls_of(due) == ["DescribeSecret bearer", "GetSecretValue tokens"]


@pytest.mark.parametrize(
    ("labels", "listed", "is_idle"),
    [
        pytest.param({LABEL}, None, True, id="the journal's newest pair"),
        pytest.param(set(), None, False, id="a pair of a person's, and nobody knows what REFRESHING is on"),
        pytest.param(set(), {CURRENT: "v"}, True, id="nothing was ever claimed"),
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


@pytest.mark.parametrize(
    ("seconds", "outcome", "calls"),
    [
        pytest.param(44, "postponed", 0, id="a look could outlast the invocation"),
        pytest.param(119, "postponed", 3, id="what is sent could not be saved"),
        pytest.param(121, "refreshed", 8, id="enough"),
    ],
)
def test_nothing_is_begun_that_could_not_be_ended(due: Scene, seconds: int, outcome: str, calls: int) -> None:
    due.run()
    due.wait(8 * DAY)
    due.strict.log.clear()
    assert due.run(seconds=seconds).outcome == outcome
    assert len(due.strict.log) == calls
    assert len(due.sent) == 1 + (outcome == "refreshed")


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(44, id="the look fits"), pytest.param(90, id="the answer came later than it may: no time to look")],
)
def test_a_look_that_hangs_does_not_eat_the_time_for_saving(due: Scene, seconds: int) -> None:
    def hang(operation: str, params: object, name: str) -> None:
        if operation == "ListSecretVersionIds":
            due.now += timedelta(seconds=38)
            raise botocore.exceptions.ReadTimeoutError(endpoint_url="none")

    due.meanwhile(lambda: due.wait(timedelta(seconds=seconds)), lambda: setattr(due.strict, "before", hang))
    assert due.run(seconds=121).outcome == "refreshed"
    assert due.now < NOW + timedelta(seconds=121)


def test_a_claim_that_takes_too_long_sends_nothing_and_blocks_nobody(due: Scene) -> None:
    due.strict.after = lambda operation, *_: due.wait(timedelta(seconds=250 * (operation == "PutSecretValue")))
    assert due.run().outcome == "try_again"
    assert due.sent == []
    due.strict.after = None
    due.wait(MINUTE)
    assert due.run().outcome == "refreshed"


def test_a_pair_from_a_clock_that_is_a_day_ahead_falls_due_by_secrets_managers(scene: Scene) -> None:
    """Its token of an hour is over in an hour, and not tomorrow."""
    tomorrow = NOW + DAY
    scene.store_pair(pair(issued_at=tomorrow, expires_at=tomorrow + HOUR, refresh_token_issued_at=tomorrow))
    assert scene.run().outcome == "recovered"
    assert scene.bearer().expires_at == NOW + HOUR
    scene.wait(31 * MINUTE)
    assert scene.run().outcome == "refreshed"


# Proof and publishing


def test_a_token_that_virtuous_refuses_is_saved_and_proved_again_until_it_works(due: Scene) -> None:
    before = due.labels(NAMES.bearer)[CURRENT]
    due.proofs = [Denied("401"), Denied("403")]
    result = due.run()
    assert (result.outcome, result.readers_work_until) == ("unproven", pair().expires_at)
    assert (due.pair().refresh_token, due.labels(NAMES.bearer)[CURRENT]) == (SecretText("refresh-2"), before)
    assert due.runs(2, HOUR) == ["unproven", "recovered"]
    assert (due.sent, due.in_step) == (["refresh-1"], True)
    assert due.run().readers_work_until == NOW + timedelta(days=15)


def test_an_unproven_pair_is_refreshed_once_a_day(due: Scene) -> None:
    due.proofs = [Denied("401")] * 100
    due.runs(13, 6 * HOUR)
    assert due.sent == ["refresh-1", "refresh-2", "refresh-3", "refresh-4"]


@pytest.mark.parametrize("removed", [False, True])
def test_a_refused_token_is_published_once_the_one_that_readers_have_is_over(due: Scene, removed: bool) -> None:
    """The proof's address may be what is refused; readers have nothing to lose then."""
    published = due.labels(NAMES.bearer)[CURRENT]
    due.proofs = [Denied("403")] * 20
    due.run()
    assert due.labels(NAMES.bearer)[CURRENT] == published
    if removed:  # as Secrets Manager removes a version without a label that is older than a day
        due.client.get_secret_value(SecretId=NAMES.pair, VersionId=published)
        due.strict.remove_version(NAMES.pair, published)
    due.wait(16 * DAY)
    result = due.run()
    assert (result.outcome, "all the same" in result.reason, due.in_step) == ("unproven", True, True)


def test_an_api_key_is_published_proved_in_every_run_and_never_refreshed(scene: Scene) -> None:
    scene.store_pair('{"access_token": "v_key"}')
    scene.proofs = [Denied("401"), ORGANIZATION, ORGANIZATION, Denied("401"), Unclear("502")]
    results = [scene.run(force=True) for _ in range(5)]
    words = ["login_required", "recovered", "fresh", "login_required", "fresh"]
    assert [str(result.outcome) for result in results] == words
    assert [result.api_key_refused for result in results] == [True, False, False, True, False]
    assert len(scene.strict.versions(NAMES.bearer)) == 1


def test_an_access_token_that_ended_with_nothing_to_refresh_it_needs_a_login(scene: Scene) -> None:
    scene.store_pair(pair(refresh_token=None, age=timedelta(days=14)))
    assert scene.runs(2, 2 * DAY) == ["recovered", "login_required"]


@pytest.mark.parametrize(
    ("stored", "outcome"),
    [
        pytest.param(pair(1, age=timedelta()).to_json(), "refreshed", id="a pair is refreshed, and gets another id"),
        pytest.param('{"access_token": "v_key"}', "misconfigured", id="of an API key a person is told"),
    ],
)
def test_a_version_of_the_bearer_that_holds_something_else_is_no_success(due: Scene, stored: str, outcome: str) -> None:
    """It is older than the pair of that id."""
    version = "11111111-1111-4111-8111-111111111111"
    due.put(NAMES.bearer, "old", "OLD", version)
    due.wait(timedelta(seconds=1))
    due.client.put_secret_value(SecretId=NAMES.pair, SecretString=stored, ClientRequestToken=version)
    result = due.run()
    assert result.outcome == outcome
    assert "virtuous-token login" in result.reason or due.bearer().access_token == SecretText("access-2")


def test_what_an_earlier_run_published_in_other_words_is_ours(due: Scene) -> None:
    """A setting may have changed between its two writes."""
    version = due.store_pair(pair(2, age=timedelta(0)))
    due.wait(timedelta(seconds=1))
    bearer = Bearer(access_token=SecretText("access-2"), base_url="https://before.example.org")
    due.put(NAMES.bearer, bearer.to_json(), "AWSPENDING", version)
    assert due.run().outcome == "recovered"
    assert due.bearer().access_token == SecretText("access-2")


# Old and odd secrets


def test_a_secret_that_is_no_pair_is_told_without_its_value(scene: Scene) -> None:
    scene.store_pair("s3cret-plaintext")
    result = scene.run()
    assert (result.outcome, scene.sent) == ("misconfigured", [])
    assert "the pair secret" in result.reason
    assert "run virtuous-token login --connection default" in result.reason
    assert "s3cret" not in result.reason


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param('{"access_token": "access-1", "refresh_token": "refresh-1", "note": [1]}', id="without dates"),
        pytest.param(pair(organization_id=None, organization_name=None).to_json(), id="with its dates"),
    ],
)
def test_a_pair_that_a_person_pasted_is_refreshed_at_once(scene: Scene, value: str, published: bool) -> None:
    """It learns its organisation, and keeps unknown keys."""
    version = scene.store_pair(value)
    if published:
        scene.put(NAMES.bearer, "{}", version=version)
    assert (scene.run().outcome, scene.in_step, scene.sent) == ("refreshed", True, ["refresh-1"])
    assert (scene.pair().organization_id, scene.pair().organization_name) == ("77", "Helping Hands")
    assert scene.pair().extra.get("note") == json.loads(value).get("note")


def test_a_new_pair_is_saved_even_where_unknown_keys_leave_it_no_room(scene: Scene) -> None:
    scene.store_pair(pair(extra={"note": "n" * 60_000}))
    scene.answers = [granted(2, refresh_token=SecretText("r" * 20_000))]
    assert scene.run().outcome == "refreshed"
    assert scene.pair().refresh_token == SecretText("r" * 20_000)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda scene: scene.client.delete_secret(SecretId=NAMES.pair), id="marked for deletion"),
        pytest.param(lambda scene: scene.strict.make_replica(NAMES.pair), id="a replica"),
        pytest.param(lambda scene: scene.strict.refuse_kms(NAMES.pair, "kms:GenerateDataKey"), id="KMS refuses"),
        pytest.param(lambda scene: scene.client.delete_secret(SecretId=NAMES.bearer), id="the bearer's is marked"),
    ],
)
def test_a_secret_that_cannot_be_written_is_known_before_anything_is_spent(
    due: Scene, spoil: Callable[[Scene], object]
) -> None:
    spoil(due)
    result = due.run()
    assert (result.outcome, due.sent) == ("misconfigured", [])
    assert NAMES.pair in result.reason or NAMES.bearer in result.reason


def test_a_secret_that_is_deleted_while_tokens_are_tried_asks_nobody_to_log_in(displaced: Scene) -> None:
    displaced.meanwhile(answer=REFUSED)
    displaced.strict.after = lambda operation, params, name: (
        displaced.client.delete_secret(SecretId=NAMES.pair)
        if operation == "PutSecretValue" and displaced.sent
        else None
    )
    assert displaced.run().outcome == "misconfigured"


@pytest.mark.parametrize(
    ("versions", "outcome"),
    [
        pytest.param(94, "refreshed", id="room for a claim, its result and a few puts of a person"),
        pytest.param(95, "try_again", id="one more"),
    ],
)
def test_nothing_is_sent_where_the_quota_leaves_no_room_for_the_answer(due: Scene, versions: int, outcome: str) -> None:
    while (number := len(due.strict.versions(NAMES.pair))) < versions:
        due.client.put_secret_value(SecretId=NAMES.pair, SecretString=str(number), VersionStages=["FILLING"])
    result = due.run()
    assert (result.outcome, result.pair_at_risk) == (outcome, False)
    assert due.sent == ([] if outcome == "try_again" else ["refresh-1"])
    due.wait(DAY + timedelta(seconds=1))
    assert due.run().outcome in ("refreshed", "fresh")
