"""The operator's command, in this process and as a process of its own with a terminal."""

from __future__ import annotations

import getpass
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.fakes import virtuous as step
from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.secrets_manager import AwsError
from tests.leak_harness import LeakHarness
from tests.support import Clock, Deployment, a_pair, a_version, deployed, issued_by
from token_refresher import cli
from token_refresher.journal import LABEL, Grant, Intent, claim_id, result_id
from token_refresher.ports import CURRENT
from virtuous_token.contract import TokenPair

ROOT = Path(__file__).parents[1]
PAIR_SECRET, BEARER_SECRET = "virtuous/default/tokens", "virtuous/default/bearer"
DUE = timedelta(days=14)


@dataclass(slots=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """What standard output holds: one JSON document, or nothing."""
        return json.loads(self.out)


@dataclass(slots=True)
class Operator:
    """Somebody who runs the command against one deployment."""

    deployment: Deployment
    patch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def pipes(self, *lines: str) -> None:
        """What standard input holds; it is no terminal."""
        self.patch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    def runs(self, *arguments: str, base_url: str | None = None) -> Ended:
        self.capsys.readouterr()
        with self.deployment.hearing_libraries():
            status = cli.main(["--base-url", base_url or self.deployment.virtuous.base_url, *arguments])
        return Ended(status, *self.capsys.readouterr())

    def logs_in(self, *more: str, connection: str = "default") -> Ended:
        """With the right e-mail and password from standard input."""
        virtuous = self.deployment.virtuous
        self.pipes(virtuous.user, virtuous.password, *more)
        return self.runs("login", "--connection", connection)


@pytest.fixture
def deployment(harness: LeakHarness) -> Iterator[Deployment]:
    with deployed(harness) as deployment:
        yield deployment


@pytest.fixture
def operator(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Operator:
    operator = Operator(deployment, monkeypatch, capsys)
    operator.pipes()
    return operator


def _versions(deployment: Deployment) -> list[str]:
    return deployment.account.strict.versions(PAIR_SECRET)


# login


def test_a_login_from_standard_input_is_stored_and_published(operator: Operator, deployment: Deployment) -> None:
    ended = operator.logs_in()

    assert ended.status == 0
    pair = deployment.account.pair()
    assert pair.access_token.reveal() in deployment.virtuous.live_access_tokens
    assert pair.refresh_token is not None
    assert pair.refresh_token.reveal() == deployment.virtuous.live_refresh_token
    assert (pair.user_name, pair.organization_id) == (deployment.virtuous.user, "4711")
    assert deployment.account.bearer().access_token == pair.access_token
    assert (
        deployment.account.strict.labels(BEARER_SECRET)[CURRENT]
        == deployment.account.strict.labels(PAIR_SECRET)[CURRENT]
    )


def test_a_login_tells_whose_it_is_on_standard_error_and_the_outcome_on_standard_output(operator: Operator) -> None:
    ended = operator.logs_in()

    assert ended.err == "Stored the token pair of Example Relief.\n"
    assert ended.result == {"checked": 1, "outcomes": {"default": "recovered"}}


def test_what_is_odd_about_the_answer_to_a_login_is_told(operator: Operator, deployment: Deployment) -> None:
    deployment.virtuous.script(step.answer(token_type="mac"))

    ended = operator.logs_in()

    assert ended.status == 0
    assert ended.err.startswith("Noticed: token_type is not bearer.\n")


@pytest.mark.parametrize("told", [True, False])
def test_a_login_stores_whether_the_user_has_a_second_factor(
    operator: Operator, deployment: Deployment, told: bool
) -> None:
    deployment.virtuous.script(step.answer(twoFactorEnabled="True" if told else "False"))

    assert operator.logs_in().status == 0

    assert deployment.account.pair().two_factor_enabled is told


def test_a_login_over_a_pair_keeps_the_keys_that_it_does_not_know(operator: Operator, deployment: Deployment) -> None:
    deployment.log_in(extra={"note": "asked for by finance"})

    assert operator.logs_in().status == 0

    assert deployment.account.pair().extra == {"note": "asked for by finance"}


def test_a_login_of_another_connection(
    harness: LeakHarness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with deployed(harness, "acme", "default") as deployment:
        assert Operator(deployment, monkeypatch, capsys).logs_in(connection="acme").status == 0

        assert deployment.account.bearer("acme").access_token == deployment.account.pair("acme").access_token
        assert deployment.invoked_with == [{"connections": ["acme"]}]
        assert _versions(deployment) == []


@pytest.mark.parametrize(
    ("user", "password"),
    [
        pytest.param("a+b@x.org", "p+w 12", id="plus signs"),
        pytest.param("me@example.org", "  spaces at both ends  ", id="spaces at the ends"),
        pytest.param("me@example.org", "&=%;\"'<>\\ %2B", id="what forms and shells treat specially"),
        pytest.param("me@example.org", "pässwörd \N{GRINNING FACE}", id="accents and an emoji"),
    ],
)
def test_e_mail_and_password_arrive_to_the_letter(
    harness: LeakHarness,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    user: str,
    password: str,
) -> None:
    with deployed(harness, users={user: password}) as deployment:
        assert Operator(deployment, monkeypatch, capsys).logs_in().status == 0


def test_a_line_from_windows_is_a_line(operator: Operator, deployment: Deployment) -> None:
    operator.pipes(f"{deployment.virtuous.user}\r", f"{deployment.virtuous.password}\r")

    assert operator.runs("login").status == 0


def test_a_one_time_code_is_asked_for_once_and_sent_along(
    harness: LeakHarness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with deployed(harness, two_factor=True, one_time_code="493027") as deployment:
        ended = Operator(deployment, monkeypatch, capsys).logs_in(" 493027 ")

        assert ended.status == 0
        assert "one-time code" in ended.err
        assert deployment.virtuous.codes_sent == 1
        assert [request.form().get("otp") for request in deployment.virtuous.token_requests] == [None, "493027"]


def test_a_wrong_code_ends_the_login(
    harness: LeakHarness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each further password would send another message to the phone."""
    with deployed(harness, two_factor=True, one_time_code="493027") as deployment:
        ended = Operator(deployment, monkeypatch, capsys).logs_in(harness.secret("112233"))

        assert ended.status == 1
        assert "gave no tokens" in ended.err
        assert _versions(deployment) == []
        assert deployment.virtuous.codes_sent == 1


def test_a_wrong_password_is_sent_once_and_told(
    operator: Operator, deployment: Deployment, harness: LeakHarness
) -> None:
    operator.pipes(deployment.virtuous.user, harness.secret("a wrong password"))

    ended = operator.runs("login")

    assert (ended.status, ended.out) == (1, "")
    assert "Refused" in ended.err
    assert len(deployment.virtuous.token_requests) == 1
    assert _versions(deployment) == []
    assert deployment.invoked_with == []


@pytest.mark.parametrize(
    "misbehaviour",
    [
        pytest.param(step.throttled(60), id="throttled"),
        pytest.param(step.bad_gateway(), id="a bad gateway"),
        pytest.param(step.answer_lost(), id="the answer lost"),
        pytest.param(step.answer(access_token="with a space"), id="an access token that no header may carry"),
    ],
)
def test_a_login_without_tokens_stores_nothing(
    operator: Operator, deployment: Deployment, misbehaviour: step.Step
) -> None:
    deployment.virtuous.script(misbehaviour)

    ended = operator.logs_in()

    assert (ended.status, ended.out) == (1, "")
    assert "virtuous-token: Virtuous " in ended.err
    assert len(deployment.virtuous.token_requests) == 1
    assert _versions(deployment) == []


@pytest.mark.parametrize("proof", [step.denied(), step.bad_gateway(), step.answer_lost()])
def test_a_login_whose_organisation_cannot_be_learned_is_stored_all_the_same(
    operator: Operator, deployment: Deployment, proof: step.Step
) -> None:
    """The function proves the token again before readers see it."""
    deployment.virtuous.script_organization(proof)

    assert operator.logs_in().status == 0

    assert deployment.account.pair().organization_id is None


def test_input_that_ends_early_is_told_and_nothing_is_sent(operator: Operator, deployment: Deployment) -> None:
    operator.pipes(deployment.virtuous.user)

    ended = operator.runs("login")

    assert (ended.status, ended.out) == (1, "")
    assert "ended before" in ended.err
    assert deployment.virtuous.requests == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_asked_on_standard_error_and_secrets_without_echo(
    harness: LeakHarness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    with deployed(harness, two_factor=True) as deployment:

        def without_echo(prompt: str, stream: object = None) -> str:
            asked.append(prompt)
            assert stream is sys.stderr
            return {"Password: ": deployment.virtuous.password, "Code: ": deployment.virtuous.last_code}[prompt]

        operator = Operator(deployment, monkeypatch, capsys)
        monkeypatch.setattr(sys, "stdin", Terminal(f"{deployment.virtuous.user}\n"))
        monkeypatch.setattr(getpass, "getpass", without_echo)

        ended = operator.runs("login")

    assert ended.status == 0
    assert asked == ["Password: ", "Code: "]
    assert ended.err.startswith("E-mail: ")
    assert "E-mail" not in ended.out


def test_an_interrupted_login_stores_nothing(
    operator: Operator, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(prompt: str, stream: object = None) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Terminal(f"{deployment.virtuous.user}\n"))
    monkeypatch.setattr(getpass, "getpass", interrupted)

    ended = operator.runs("login")

    assert (ended.status, ended.out) == (1, "")
    assert deployment.virtuous.requests == []


@pytest.mark.parametrize("option", ["--password", "--username", "--code", "--otp", "--token"])
def test_no_secret_is_taken_as_an_argument(operator: Operator, option: str) -> None:
    """Arguments are seen by every user of the machine and kept by shells."""
    assert operator.runs("login", option, "something").status == 2


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        pytest.param(
            lambda deployment: deployment.account.client.delete_secret(SecretId=PAIR_SECRET), "deletion", id="deleted"
        ),
        pytest.param(
            lambda deployment: deployment.account.client.delete_secret(
                SecretId=PAIR_SECRET, ForceDeleteWithoutRecovery=True
            ),
            "deploy the stack",
            id="missing",
        ),
        pytest.param(
            lambda deployment: deployment.account.strict.fail("DescribeSecret", "AccessDeniedException"),
            "access denied",
            id="denied",
        ),
    ],
)
def test_a_secret_that_cannot_be_written_is_told_before_anybody_is_asked(
    operator: Operator, deployment: Deployment, trouble: Callable[[Deployment], object], told: str
) -> None:
    trouble(deployment)

    ended = operator.logs_in()

    assert (ended.status, ended.out) == (1, "")
    assert PAIR_SECRET in ended.err
    assert told in ended.err
    assert sys.stdin.tell() == 0
    assert deployment.virtuous.requests == []


def _claimed(deployment: Deployment, current: str, *, dead_after: timedelta) -> str:
    """The claim of a refresh that is running."""
    claim, now = claim_id(current), datetime.now(UTC)
    intent = Intent(current, a_version(), Grant.CURRENT, started_at=now, dead_after=now + dead_after)
    assert deployment.account.store().write_pair(claim, intent.to_json(), LABEL)
    return claim


def test_a_login_waits_for_the_refresh_that_is_running(
    operator: Operator, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = _claimed(deployment, deployment.log_in(), dead_after=timedelta(minutes=5))
    refreshed = issued_by(deployment.virtuous)
    waits: list[float] = []

    def meanwhile(seconds: float) -> None:
        waits.append(seconds)
        deployment.account.store().write_pair(result_id(claim), refreshed.to_json(), CURRENT)

    monkeypatch.setattr("time.sleep", meanwhile)

    assert operator.logs_in().status == 0

    assert len(waits) == 1
    assert deployment.account.pair(version_or_label="AWSPREVIOUS") == _as_stored(refreshed)
    assert deployment.account.bearer().access_token == deployment.account.pair().access_token


def test_a_login_gives_up_where_a_refresh_never_ends(
    operator: Operator, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = deployment.log_in()
    _claimed(deployment, current, dead_after=timedelta(hours=1))
    _time_passes_only_by_waiting(monkeypatch)

    ended = operator.logs_in()

    assert (ended.status, ended.out) == (1, "")
    assert "try again in a few minutes" in ended.err
    assert deployment.account.strict.labels(PAIR_SECRET)[CURRENT] == current


def test_a_login_that_cannot_be_saved_is_told(
    operator: Operator, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = deployment.log_in()
    _time_passes_only_by_waiting(monkeypatch)

    def refuse_the_pair(operation: str, params: Any, secret_name: str) -> None:
        if operation == "PutSecretValue" and params["VersionStages"] == [CURRENT]:
            raise AwsError("InternalServiceError", "asked for by the test")

    deployment.account.strict.before = refuse_the_pair

    ended = operator.logs_in()

    assert (ended.status, ended.out) == (1, "")
    assert "could not be saved" in ended.err
    assert deployment.account.strict.labels(PAIR_SECRET)[CURRENT] == current


def _time_passes_only_by_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(datetime.now(UTC))
    monkeypatch.setattr(cli, "_now", clock.now)
    monkeypatch.setattr("time.sleep", clock.pause)


def _as_stored(pair: TokenPair) -> TokenPair:
    return TokenPair.parse(pair.to_json())


def test_without_the_function_the_pair_is_stored_and_the_schedule_publishes_it(
    operator: Operator, deployment: Deployment
) -> None:
    deployment.function_exists = False

    ended = operator.logs_in()

    assert ended.status == 1
    assert "Stored the token pair of Example Relief" in ended.err
    assert "virtuous-token-refresher" in ended.err
    assert "next scheduled run" in ended.err
    assert deployment.account.pair().organization_name == "Example Relief"


def test_a_function_that_fails_after_a_login_is_told_with_its_outcome(
    operator: Operator, deployment: Deployment
) -> None:
    deployment.account.strict.fail("DescribeSecret", "ThrottlingException", secret=BEARER_SECRET)

    ended = operator.logs_in()

    assert ended.status == 1
    assert "default: try_again" in ended.err


# refresh, status, check


def test_a_refresh_that_ends_in_a_call_for_a_person_is_no_success(operator: Operator, deployment: Deployment) -> None:
    deployment.log_in()
    deployment.virtuous.revoke_refresh_token()

    ended = operator.runs("refresh")

    assert ended.status == 1
    assert '"default": "login_required"' in ended.out
    assert "default: login_required" in ended.err


def test_a_refresh_has_the_function_refresh_though_it_is_fresh(operator: Operator, deployment: Deployment) -> None:
    deployment.log_in()

    ended = operator.runs("refresh")

    assert ended.status == 0
    assert deployment.invoked_with == [{"connections": ["default"], "force": True}]
    assert len(deployment.virtuous.token_requests) == 1


def test_the_command_itself_sends_no_refresh_token(operator: Operator, deployment: Deployment) -> None:
    """Two places that spend a refresh token are one too many."""
    deployment.log_in(age=DUE)
    deployment.function_exists = False

    for command in ("refresh", "status", "check"):
        operator.runs(command)

    assert deployment.virtuous.token_requests == []


def test_a_refresh_that_fails_says_why(operator: Operator, deployment: Deployment) -> None:
    deployment.log_in()
    deployment.virtuous.script(step.bad_gateway())

    ended = operator.runs("refresh")

    assert ended.status == 1
    assert "default: try_again" in ended.err


@pytest.mark.parametrize("command", ["refresh", "status"])
def test_a_function_that_does_not_exist_is_told(operator: Operator, deployment: Deployment, command: str) -> None:
    deployment.function_exists = False

    ended = operator.runs(command)

    assert (ended.status, ended.out) == (1, "")
    assert "ResourceNotFoundException" in ended.err


def test_a_status_is_json_for_a_person_and_changes_nothing(operator: Operator, deployment: Deployment) -> None:
    deployment.log_in(age=DUE)
    writes = deployment.account.strict.writes(PAIR_SECRET)

    ended = operator.runs("status")

    assert (ended.status, ended.err) == (0, "")
    assert deployment.invoked_with == [{"connections": ["default"], "report": True}]
    assert '"organization_name": "Example Relief"' in ended.out
    assert deployment.account.strict.writes(PAIR_SECRET) == writes


def test_a_check_calls_virtuous_with_what_readers_read(operator: Operator, deployment: Deployment) -> None:
    deployment.log_in()

    ended = operator.runs("check")

    assert (ended.status, ended.err) == (0, "")
    assert ended.result == {"organization_id": "4711", "organization_name": "Example Relief"}
    assert len(deployment.virtuous.organization_requests) == 1
    assert {call.secret_name for call in deployment.account.strict.calls("GetSecretValue")} == {BEARER_SECRET}


def test_a_check_of_a_token_that_virtuous_refuses_fails(operator: Operator, deployment: Deployment) -> None:
    deployment.log_in()
    deployment.virtuous.revoke_access_tokens()

    ended = operator.runs("check")

    assert (ended.status, ended.out) == (1, "")
    assert "does not accept" in ended.err


def test_a_check_before_the_first_login_fails(operator: Operator) -> None:
    ended = operator.runs("check")

    assert (ended.status, ended.out) == (1, "")
    assert "ResourceNotFoundException" in ended.err


@pytest.mark.parametrize(
    "value", [pytest.param("access-1", id="plain text"), pytest.param(a_pair().to_json(), id="a pair")]
)
def test_a_check_of_something_else_fails_without_showing_it(
    operator: Operator, deployment: Deployment, harness: LeakHarness, value: str
) -> None:
    harness.secret("access-1")
    deployment.account.put(BEARER_SECRET, value)

    ended = operator.runs("check")

    assert (ended.status, ended.out) == (1, "")
    assert "the bearer secret" in ended.err


# Misuse


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no command"),
        pytest.param(["logout"], id="an unknown command"),
        pytest.param(["login", "--connection", "Acme"], id="a name with a capital"),
        pytest.param(["login", "--connection", "acme/tokens"], id="a name with a slash"),
        pytest.param(["login", "--connection", ""], id="an empty name"),
        pytest.param(["login", "default"], id="a name without its option"),
        pytest.param(["status", "--force"], id="an unknown option"),
    ],
)
def test_misuse_is_told_on_standard_error_and_nothing_is_done(
    operator: Operator, deployment: Deployment, arguments: list[str]
) -> None:
    deployment.account.strict.log.clear()

    ended = operator.runs(*arguments)

    assert (ended.status, ended.out) == (2, "")
    assert "usage: virtuous-token" in ended.err
    assert deployment.account.strict.log == []


@pytest.mark.parametrize("command", ["login", "refresh", "status", "check"])
@pytest.mark.parametrize(
    "base_url",
    [
        pytest.param("http://example.org", id="plain http"),
        pytest.param("https://me:secret-1@example.org", id="a user and a password"),
        pytest.param("https://example.org/api", id="a path"),
        pytest.param("example.org", id="no scheme"),
    ],
)
def test_an_address_that_no_password_may_be_sent_to_is_misuse(
    operator: Operator, deployment: Deployment, base_url: str, command: str
) -> None:
    ended = operator.runs(command, base_url=base_url)

    assert (ended.status, ended.out) == (2, "")
    assert sys.stdin.tell() == 0
    assert deployment.invoked_with == []


@pytest.mark.parametrize("command", ["login", "refresh", "status", "check"])
def test_help_is_given_on_standard_output(operator: Operator, command: str) -> None:
    ended = operator.runs(command, "--help")

    assert (ended.status, ended.err) == (0, "")
    assert "--connection" in ended.out


@pytest.mark.parametrize("command", ["login", "refresh", "status", "check"])
def test_without_a_region_a_person_is_told_what_to_check(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)

    ended = operator.runs(command)

    assert (ended.status, ended.out) == (1, "")
    assert "Region" in ended.err


# As a process of its own


class AwsOnLoopback(JsonHandler):
    """Secrets Manager and Lambda over HTTP, for a process that is not this one."""

    deployment: Deployment

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        operation = self.headers.get("X-Amz-Target", "").removeprefix("secretsmanager.")
        if not operation:
            answer, _ = self.deployment.invoke_as_lambda_does(body)
            self.answer(200, answer)
            return
        try:
            self.answer(200, self.deployment.account.strict.call(operation, body))
        except AwsError as refusal:
            self.answer(400, {"__type": refusal.code, "message": refusal.message})


@contextmanager
def _environment(deployment: Deployment) -> Iterator[dict[str, str]]:
    """What the process needs to meet *deployment*, and nothing of ours."""
    handler = type("Handler", (AwsOnLoopback,), {"deployment": deployment})
    with serving(handler) as address:
        yield {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(
                str(ROOT / path) for path in ("functions/token_refresher", "layers/virtuous_token")
            ),
            "PYTHONWARNINGS": "error",
            "AWS_ENDPOINT_URL": address,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
        }


COMMAND = "from token_refresher.cli import run; run()"
# A session's leader gets the first terminal that it opens as its own, so that getpass finds it under /dev/tty.
ON_ITS_TERMINAL = f"import os; os.close(os.open(os.ttyname(0), os.O_RDWR)); {COMMAND}"


def _arguments(deployment: Deployment, code: str, command: str) -> list[str]:
    return [sys.executable, "-c", code, "--base-url", deployment.virtuous.base_url, command]


def test_a_process_takes_a_login_from_its_standard_input(deployment: Deployment, harness: LeakHarness) -> None:
    virtuous = deployment.virtuous
    with _environment(deployment) as environment:
        ended = subprocess.run(
            _arguments(deployment, COMMAND, "login"),
            input=f"{virtuous.user}\n{virtuous.password}\n",
            capture_output=True,
            text=True,
            env=environment,
            timeout=30,
            check=False,
        )

    harness.watch(ended)
    assert (ended.returncode, json.loads(ended.stdout)) == (0, {"checked": 1, "outcomes": {"default": "recovered"}})
    assert ended.stderr == "Stored the token pair of Example Relief.\n"
    assert deployment.account.bearer().access_token == deployment.account.pair().access_token


def test_a_process_that_is_misused_ends_with_two(deployment: Deployment) -> None:
    with _environment(deployment) as environment:
        ended = subprocess.run(
            _arguments(deployment, COMMAND, "logout"), capture_output=True, env=environment, timeout=30, check=False
        )

    assert ended.returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="terminals are got by another way elsewhere")
def test_a_terminal_shows_neither_password_nor_code(harness: LeakHarness) -> None:
    with deployed(harness, two_factor=True) as deployment, _environment(deployment) as environment:
        virtuous = deployment.virtuous
        terminal, end_of_process = os.openpty()
        process = subprocess.Popen(
            _arguments(deployment, ON_ITS_TERMINAL, "login"),
            stdin=end_of_process,
            stdout=subprocess.PIPE,
            stderr=end_of_process,
            env=environment,
            start_new_session=True,
        )
        os.close(end_of_process)
        patience = threading.Timer(30, process.kill)
        patience.start()
        answers: dict[str, Callable[[], str]] = {
            "E-mail: ": lambda: virtuous.user,
            "Password: ": lambda: virtuous.password,
            "Code: ": lambda: virtuous.last_code,
        }
        shown = ""
        try:
            for prompt, answer in answers.items():
                while not shown.endswith(prompt):
                    shown += os.read(terminal, 1024).decode()
                os.write(terminal, f"{answer()}\n".encode())
            out, _ = process.communicate(timeout=30)
            shown += _rest(terminal)
        finally:
            patience.cancel()
            process.kill()
            process.wait()
            os.close(terminal)

        harness.watch(shown)
        assert virtuous.user in shown
        assert process.returncode == 0
        assert json.loads(out)["outcomes"] == {"default": "recovered"}
        assert deployment.account.bearer().access_token == deployment.account.pair().access_token


def _rest(terminal: int) -> str:
    """What the process showed before it ended; reading further is an error on Linux."""
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 1024)
        except OSError:
            return shown.decode()
