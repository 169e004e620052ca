"""The command as a process: at a terminal, through pipes, with a role that asks for an MFA code; and installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.cli.operator import TAGS
from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.secrets_manager import AwsError
from tests.leak_harness import LeakHarness
from tests.support import Deployment, deployed
from tests.terminal import COMMAND, plain, typed_at_a_terminal

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(ROOT / path) for path in ("cli", "functions/token_refresher", "layers/virtuous_token"))
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:virtuous-token-refresher"
MFA_CODE = "771204"
ROLE = "arn:aws:iam::000000000000:role/operators"

linux = pytest.mark.skipif(sys.platform != "linux", reason="terminals are got by another way elsewhere")


class AwsOnLoopback(JsonHandler):
    """Secrets Manager, Lambda, the tags and STS over HTTP, for a process that is not this one."""

    deployment: Deployment

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service, _, operation = self.headers.get("X-Amz-Target", "").rpartition(".")
        if service.startswith("ResourceGroupsTagging"):
            self.answer(200, {"ResourceTagMappingList": [{"ResourceARN": FUNCTION, "Tags": TAGS}]})
        elif service:
            try:
                self.answer(200, self.deployment.account.strict.call(operation, json.loads(body)))
            except AwsError as refusal:
                self.answer(400, {"__type": refusal.code, "message": refusal.message})
        elif "/functions/" in self.path:
            answer, _ = self.deployment.invoke_as_lambda_does(json.loads(body))
            self.answer(200, answer)
        else:
            self.answer_sts({name: values[0] for name, values in parse_qs(body.decode()).items()})

    def answer_sts(self, asked: dict[str, str]) -> None:
        """STS; and of every other service that speaks XML a refusal."""
        action = asked["Action"]
        answers = {
            "AssumeRole": "<Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            "<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            f"<AssumedRoleUser><Arn>{ROLE}/x</Arn><AssumedRoleId>r</AssumedRoleId></AssumedRoleUser>",
            "GetCallerIdentity": f"<Arn>{ROLE}</Arn><Account>000000000000</Account>",
        }
        is_refused = action not in answers or (action == "AssumeRole" and asked.get("TokenCode") != MFA_CODE)
        content = f"<{action}Response><{action}Result>{answers.get(action)}</{action}Result></{action}Response>"
        if is_refused:
            content = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        self.send_response(403 if is_refused else 200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())


@contextmanager
def aws(deployment: Deployment, directory: Path) -> Iterator[dict[str, str]]:
    """What the process needs to meet *deployment*, and nothing of ours. Profile mfa's role asks for a code."""
    handler = type("Handler", (AwsOnLoopback,), {"deployment": deployment})
    config = directory / "config"
    config.write_text(
        f"[profile mfa]\nrole_arn = {ROLE}\nsource_profile = base\nmfa_serial = arn:aws:iam::000000000000:mfa/me\n"
    )
    (directory / "credentials").write_text("[base]\naws_access_key_id = none\naws_secret_access_key = none\n")
    with serving(handler) as address:
        yield {
            "HOME": str(directory),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCES,
            "PYTHONWARNINGS": "error",
            "AWS_ENDPOINT_URL": address,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(directory / "credentials"),
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
        }


def run(
    *arguments: str, environment: dict[str, str], piped: str = "", detached: bool = False, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """*detached*: without any terminal, as under cron."""
    ended = subprocess.run(
        [*COMMAND, *arguments],
        input=piped.encode(),
        capture_output=True,
        env=environment,
        cwd="/",
        timeout=60,
        check=False,
        start_new_session=detached,
    )
    out, err = ended.stdout.decode(encoding), ended.stderr.decode(encoding)
    return subprocess.CompletedProcess(ended.args, ended.returncode, out, err)


def test_a_login_from_a_pipe(harness: LeakHarness, tmp_path: Path) -> None:
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        virtuous = deployment.virtuous

        ended = run("login", environment=environment, piped=f"{virtuous.user}\n{virtuous.password}\n")

        harness.watch(ended)
        assert (ended.returncode, ended.stdout) == (0, "default: logged in. Readers have the token.\n"), ended.stderr
        assert deployment.account.bearer().access_token == deployment.account.pair().access_token
        assert run("logout", environment=environment).returncode == 2


@linux
def test_a_terminal_shows_neither_password_nor_code(harness: LeakHarness, tmp_path: Path) -> None:
    with deployed(harness, empty=True, two_factor=True) as deployment, aws(deployment, tmp_path) as environment:
        virtuous = deployment.virtuous
        typed = [("E-mail:", virtuous.user), ("Password (not shown):", virtuous.password)]

        status, shown = typed_at_a_terminal(
            [*COMMAND, "login"], [*typed, ("Code (not shown):", "not it")], environment=environment, directory=tmp_path
        )

        harness.watch(shown)
        assert status == 1
        assert "one-time code" in plain(shown)
        assert virtuous.user in shown
        assert deployment.account.client.list_secrets()["SecretList"] == []


@linux
@pytest.mark.parametrize("kind", ["--api-key", "--refresh-token"])
def test_tokens_that_are_typed_are_not_shown(harness: LeakHarness, tmp_path: Path, kind: str) -> None:
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        issued = {key: str(value) for key, value in deployment.virtuous.issue_pair().items()}
        typed = [("API key (not shown):", issued["access_token"])]
        if kind == "--refresh-token":
            typed = [
                ("Access token (not shown):", issued["access_token"]),
                ("Refresh token (not shown):", issued["refresh_token"]),
                ("Go on? [y/N]:", "y"),
            ]

        status, shown = typed_at_a_terminal(
            [*COMMAND, "login", kind], typed, environment=environment, directory=tmp_path
        )

        harness.watch(shown)
        assert status == 0, shown
        assert "Readers have the token." in plain(shown)


@linux
def test_the_mfa_code_comes_from_the_terminal_and_the_login_from_the_pipe(harness: LeakHarness, tmp_path: Path) -> None:
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        virtuous = deployment.virtuous
        del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]

        status, shown = typed_at_a_terminal(
            [*COMMAND, "login", "--profile", "mfa"],
            [("Enter MFA code for arn:aws:iam::000000000000:mfa/me:", MFA_CODE)],
            environment=environment,
            directory=tmp_path,
            piped=f"{virtuous.user}\n{virtuous.password}\n",
        )

        harness.watch(shown)
        assert status == 0, shown
        (request,) = virtuous.token_requests
        assert request.form()["username"] == virtuous.user
        again = run("status", "--profile", "mfa", environment=environment, detached=True)
        assert again.returncode == 0, "the role's credentials are shared with the AWS CLI, for as long as they last"


def test_an_mfa_code_that_nobody_can_type_takes_no_line_of_the_pipe(harness: LeakHarness, tmp_path: Path) -> None:
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        virtuous = deployment.virtuous
        piped = f"{virtuous.user}\n{virtuous.password}\n"

        ended = run("login", "--profile", "mfa", environment=environment, piped=piped, detached=True)

        harness.watch(ended)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "asks for an MFA code, and there is no terminal to ask at" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert virtuous.token_requests == []


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_becomes_another_character(harness: LeakHarness, tmp_path: Path, encoding: str) -> None:
    with deployed(harness, empty=True, organization_name="Łódź ━ Relief") as deployment:
        with aws(deployment, tmp_path) as environment:
            virtuous = deployment.virtuous
            environment |= {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}

            made = run(
                "login", environment=environment, piped=f"{virtuous.user}\n{virtuous.password}\n", encoding=encoding
            )
            shown = run("status", environment=environment, encoding=encoding)

        assert (made.returncode, shown.returncode) == (0, 0), made.stderr + shown.stderr
        assert ("━━━━━ 14 d" if encoding == "utf-8" else "##### 14 d") in shown.stdout
        assert {"utf-8": "Łódź ━ Relief", "latin-1": "?ódz # Relief"}.get(encoding, "Relief") in made.stderr


@linux
@pytest.mark.parametrize(
    ("answers", "says", "status"),
    [
        pytest.param([("E-mail:", "\x03")], "E-mail: ^C\nInterrupted. Nothing was changed.", 130, id="at the e-mail"),
        pytest.param(
            [("E-mail:", "me"), ("(not shown):", "\x03")],
            "(not shown): \nInterrupted. Nothing was changed.",
            130,
            id="at the password",
        ),
        pytest.param(
            [("E-mail:", "\x04")], "E-mail: \nInterrupted. Nothing was changed.", 1, id="by the end of the input"
        ),
    ],
)
def test_a_prompt_that_is_interrupted_ends_its_line(
    harness: LeakHarness, tmp_path: Path, answers: list[tuple[str, str]], says: str, status: int
) -> None:
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        ended, shown = typed_at_a_terminal([*COMMAND, "login"], answers, environment=environment, directory=tmp_path)

    assert ended == status
    assert says in plain(shown).replace("\n\n", "\n")
    assert "Traceback" not in shown


@linux
def test_a_key_that_the_terminal_cuts_is_said_to_be_and_a_pipe_takes_it(harness: LeakHarness, tmp_path: Path) -> None:
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        key = harness.secret("k" * 5_000)
        typed = ["login", "--api-key", "--connection", "acme"]

        status, shown = typed_at_a_terminal(
            [*COMMAND, *typed], [("API key (not shown):", key)], environment=environment, directory=tmp_path
        )
        piped = run(*typed, environment=environment, piped=f"{key}\n")

    said = plain(shown)
    assert status == 1
    assert "The API key is cut: a terminal takes 4,095 characters of a line" in said.replace("\n", " ")
    assert "Run: virtuous-token login --api-key --connection acme < FILE" in said
    assert "Virtuous refuses this API key (HTTP 401)" in piped.stderr


@linux
def test_forty_columns_are_readable(harness: LeakHarness, tmp_path: Path) -> None:
    with deployed(harness, "acme") as deployment, aws(deployment, tmp_path) as environment:
        deployment.log_in("acme")

        for command in ("status", "check"):
            _, shown = typed_at_a_terminal(
                [*COMMAND, command], [], environment=environment, directory=tmp_path, columns=40
            )
            lines = [line for line in plain(shown).splitlines() if "run: " not in line]
            assert max(len(line.rstrip()) for line in lines if " " in line[7:].strip()) <= 40, shown
            assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        pytest.param(["--help"], {}, id="help"),
        pytest.param(["login", "--help"], {}, id="a command's help"),
        pytest.param(["--version"], {}, id="version"),
        pytest.param(
            [],
            {"_VIRTUOUS_TOKEN_COMPLETE": "bash_complete", "COMP_WORDS": "virtuous-token st", "COMP_CWORD": "1"},
            id="completion",
        ),
    ],
)
def test_what_asks_nothing_of_aws_waits_for_no_aws_library(arguments: list[str], environment: dict[str, str]) -> None:
    program = (
        "import atexit, sys; from virtuous_token_cli.main import run; slow = {'boto3', 'botocore', 'rich', 'urllib3'};"
        "atexit.register(lambda: print(slow & set(sys.modules), file=sys.stderr)); run()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES} | environment,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "set()\n")
    assert ended.stdout


def test_a_profile_of_aws_login_works(harness: LeakHarness, tmp_path: Path) -> None:
    """With the cached credentials of a session that has not ended."""
    session = "arn:aws:iam::000000000000:user/me"
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        (tmp_path / "config").write_text(f"[profile me]\nlogin_session = {session}\n")
        cached = tmp_path / "cache" / f"{sha256(session.encode()).hexdigest()}.json"
        cached.parent.mkdir()
        keys = {"accessKeyId": "ASIA", "secretAccessKey": "s", "sessionToken": "t", "accountId": "000000000000"}
        token = {"accessToken": keys | {"expiresAt": "2099-01-01T00:00:00Z"}, "clientId": "c"}
        environment["AWS_LOGIN_CACHE_DIRECTORY"] = str(cached.parent)

        missing = run("status", "--profile", "me", environment=environment)
        cached.write_text(json.dumps(token | {"refreshToken": "r", "dpopKey": "k", "tokenType": "urn:aws:params"}))
        found = run("status", "--profile", "me", environment=environment)

    assert "Run: aws login --profile me" in missing.stderr
    assert found.returncode == 0, found.stderr


WATCHED = """
import os, sys
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.putenv"):
        os.write(2, f"SEEN {event}\\n".encode())
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        os.write(2, f"SEEN a file opened for writing: {arguments[0]!r}\\n".encode())
sys.addaudithook(watch)
from virtuous_token_cli.main import run
run()
"""


def test_a_login_starts_no_process_and_writes_no_file(harness: LeakHarness, tmp_path: Path) -> None:
    """So a secret can be in no argument list, no child's environment, no temporary file."""
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        virtuous = deployment.virtuous
        ended = subprocess.run(
            [sys.executable, "-B", "-c", WATCHED, "login", "--remember", "--yes"],
            input=f"{virtuous.user}\n{virtuous.password}\n",
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )

        harness.watch(ended)
        assert ended.returncode == 0, ended.stderr
        assert "SEEN" not in ended.stderr


# As it is installed


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the two wheels of this checkout; what they need besides is lent by the tests' own."""
    folder = tmp_path_factory.mktemp("installed")
    for project in ("cli", "layers/virtuous_token"):
        build = f"from hatchling import build; build.build_wheel({str(folder)!r})"
        subprocess.run([sys.executable, "-c", build], cwd=ROOT / project, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv/bin/python"), "--disable-pip-version-check"]
    wheels = [str(wheel) for wheel in folder.glob("*.whl")]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", *wheels], check=True, capture_output=True)
    return folder / "venv/bin"


def in_environment(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    lent = {"PATH": os.environ["PATH"], "PYTHONPATH": sysconfig.get_paths()["purelib"], "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, env=lent, cwd="/", timeout=60, check=False
    )


def test_the_installed_command_runs_outside_the_checkout(installed: Path) -> None:
    asked = in_environment(installed / "virtuous-token", "--version")
    where = in_environment(
        installed / "python",
        "-c",
        "import virtuous_token_cli, token_refresher.refresh.login, virtuous_token as v; print(v.__file__)",
    )

    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith("virtuous-token, version ")
    assert Path(where.stdout.strip()).is_relative_to(installed.parent), where.stderr


def test_what_the_command_imports_needs_nothing_of_the_functions(installed: Path) -> None:
    asked = in_environment(
        installed / "python", "-c", "import sys, virtuous_token_cli.main; print('aws_lambda_powertools' in sys.modules)"
    )

    assert asked.stdout == "False\n", asked.stderr


def test_the_command_brings_what_profiles_of_aws_login_need(installed: Path) -> None:
    (metadata,) = installed.parent.glob("lib/python*/site-packages/virtuous_token_cli-*/METADATA")

    assert "Requires-Dist: botocore[crt]" in metadata.read_text()


def test_removing_the_command_leaves_the_reader_whole(installed: Path) -> None:
    files = {
        name: {str(path) for path in _files_of(installed, name)} for name in ("virtuous-token", "virtuous-token-cli")
    }

    assert files["virtuous-token"]
    assert files["virtuous-token-cli"]
    assert not files["virtuous-token"] & files["virtuous-token-cli"]


def _files_of(installed: Path, distribution: str) -> list[str]:
    program = f"import importlib.metadata as m; print(*m.files({distribution!r}), sep='\\n')"
    return in_environment(installed / "python", "-c", program).stdout.split()
