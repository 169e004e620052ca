"""The command as a process: at a terminal, through pipes, with a role that asks for an MFA code; and installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
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
SESSION = "arn:aws:iam::000000000000:user/me"
ASSUMED = f"""<Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
<AssumedRoleUser><Arn>{ROLE}/x</Arn><AssumedRoleId>r</AssumedRoleId></AssumedRoleUser>"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="terminals are got by another way elsewhere")


def answer_of_sts(asked: Mapping[str, list[str]]) -> tuple[int, str]:
    """STS's; and of every other service that speaks XML a refusal."""
    (action,) = asked.get("Action", [""])
    result = {"GetCallerIdentity": f"<Arn>{ROLE}</Arn><Account>000000000000</Account>", "AssumeRole": ASSUMED}.get(
        action
    )
    if result is None or (action == "AssumeRole" and asked.get("TokenCode") != [MFA_CODE]):
        return 403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    return 200, f"<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"


@contextmanager
def aws(deployment: Deployment, directory: Path, *, lost: int = 0) -> Iterator[dict[str, str]]:
    """What a process needs to meet *deployment*, and nothing of ours: Secrets Manager, Lambda, the tags and STS.

    The invocation of number *lost* is refused. Profile mfa's role asks for a code; profile me is one of "aws login",
    with credentials that have not ended.
    """
    invocations: list[str] = []

    class Handler(JsonHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            service, _, operation = self.headers.get("X-Amz-Target", "").rpartition(".")
            if service.startswith("ResourceGroupsTagging"):
                self.answer(200, {"ResourceTagMappingList": [{"ResourceARN": FUNCTION, "Tags": TAGS}]})
            elif service:
                try:
                    self.answer(200, deployment.account.strict.call(operation, json.loads(body)))
                except (AwsError, NotImplementedError) as refusal:
                    self.answer(400, {"__type": getattr(refusal, "code", "AccessDeniedException"), "message": "no"})
            elif "/functions/" in self.path:
                invocations.append(self.path)
                if len(invocations) == lost:
                    self.do_GET()
                else:
                    self.answer(200, deployment.invoke_as_lambda_does(json.loads(body))[0])
            else:
                status, content = answer_of_sts(parse_qs(body.decode()))
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content.encode())

        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            self.answer(403, {}, **{"x-amzn-ErrorType": "AccessDeniedException"})

    (directory / "config").write_text(
        f"[profile mfa]\nrole_arn = {ROLE}\nsource_profile = base\nmfa_serial = arn:aws:iam::000000000000:mfa/me\n"
        f"[profile me]\nlogin_session = {SESSION}\n[profile ended]\nlogin_session = {SESSION}-2\n"
    )
    (directory / "credentials").write_text("[base]\naws_access_key_id = none\naws_secret_access_key = none\n")
    keys = {"accessKeyId": "ASIA", "secretAccessKey": "s", "sessionToken": "t", "accountId": "000000000000"}
    token = {"accessToken": keys | {"expiresAt": "2099-01-01T00:00:00Z"}, "clientId": "c", "refreshToken": "r"}
    cached = directory / "logins" / f"{sha256(SESSION.encode()).hexdigest()}.json"
    cached.parent.mkdir(exist_ok=True)
    cached.write_text(json.dumps(token | {"dpopKey": "k", "tokenType": "urn:aws:params"}))
    with serving(Handler) as address:
        yield {
            "HOME": str(directory),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCES,
            "PYTHONWARNINGS": "error",
            "AWS_ENDPOINT_URL": address,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(directory / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(directory / "credentials"),
            "AWS_LOGIN_CACHE_DIRECTORY": str(cached.parent),
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
        }


def run(
    *command: object, environment: Mapping[str, str], piped: str = "", detached: bool = False
) -> subprocess.CompletedProcess[str]:
    """*detached*: without any terminal, as under cron."""
    options: Any = {"capture_output": True, "text": True, "cwd": "/", "timeout": 60, "check": False}
    words = [str(word) for word in command]
    return subprocess.run(words, input=piped, env=environment, start_new_session=detached, **options)


class AtATerminal(NamedTuple):
    """What somebody types, and what must be shown then. E-MAIL, PASSWORD and CODE stand for the right ones."""

    command: str
    typed: Sequence[tuple[str, str]] = ()
    says: Sequence[str] = ()
    status: int = 0
    before: Callable[[Deployment], object] = lambda deployment: deployment.log_in()
    lacks: str = "Traceback"
    environment: Mapping[str, str | None] = {}
    columns: int = 80


LOGIN = [("E-mail:", "E-MAIL"), ("Password (not shown):", "PASSWORD")]
NO_KEYS = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
CASES = {
    "a profile of aws login works": AtATerminal(
        "status --profile me", says=["Example Relief", "1 connection, all well."], environment=NO_KEYS
    ),
    "an ended session of aws login is begun again by aws login": AtATerminal(
        "status --profile ended", says=["Run: aws login --profile ended"], status=1, environment=NO_KEYS
    ),
    "an encoding without the bar's characters gets others": AtATerminal(
        "status", says=["##### 14 d", "1 connection, all well."], environment={"PYTHONIOENCODING": "cp1252"}
    ),
    "a code in two groups is taken, and no secret is shown": AtATerminal(
        "login",
        [*LOGIN, ("Code (not shown):", "CODE")],
        before=lambda deployment: setattr(deployment.virtuous, "two_factor", True),
        says=["one-time code", "default: logged in. Readers have the token."],
        lacks="CODE",
    ),
    "a key that the terminal cut is said to be, with the way through a pipe": AtATerminal(
        "login --api-key --connection default --prefix virtuous",
        [("API key (not shown):", "k" * 5_000)],
        says=[
            "The API key is cut: a terminal takes 4,095 characters of a line",
            "Run: virtuous-token login --api-key --connection default --prefix virtuous < FILE",
        ],
        lacks="kkk",
        status=1,
    ),
    "an interruption at a prompt ends its line": AtATerminal(
        "login", [("E-mail: ", "\x03")], says=["E-mail: ^C\nInterrupted. Nothing was changed."], status=130
    ),
    "an interruption at a hidden prompt as well": AtATerminal(
        "login",
        [("E-mail:", "me"), ("(not shown): ", "\x03")],
        says=["(not shown): \nInterrupted. Nothing was changed."],
        status=130,
    ),
    "the end of the input is no interruption": AtATerminal(
        "login", [("E-mail: ", "\x04")], says=["E-mail: \nInterrupted. Nothing was changed."], status=1
    ),
    "an adopted pair is not shown": AtATerminal(
        "login --refresh-token",
        [("Access token (not shown):", "ACCESS"), ("Refresh token (not shown):", "REFRESH"), ("Go on? [y/N]:", "y")],
        says=["Readers have the token."],
    ),
    "forty columns are enough for a check": AtATerminal("check", says=["to mend."], columns=40, status=1),
}


@linux
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_at_a_terminal(harness: LeakHarness, tmp_path: Path, case: AtATerminal) -> None:
    with deployed(harness, "default") as deployment, aws(deployment, tmp_path) as environment:
        case.before(deployment)
        virtuous, code = deployment.virtuous, deployment.virtuous.one_time_code
        issued = virtuous.issue_pair()
        words = {"E-MAIL": virtuous.user, "PASSWORD": virtuous.password, "CODE": f"{code[:6]} {code[6:]}"}
        words |= {"ACCESS": str(issued["access_token"]), "REFRESH": str(issued["refresh_token"])}
        changed: dict[str, str | None] = {**environment, **case.environment}

        status, shown = typed_at_a_terminal(
            [*COMMAND, *case.command.split()],
            [(prompt, words.get(answer, answer)) for prompt, answer in case.typed],
            environment={name: value for name, value in changed.items() if value is not None},
            directory=tmp_path,
            columns=case.columns,
        )

    said = plain(harness.watch(shown)).replace("\n\n", "\n")
    unbroken = " ".join(said.split())
    assert status == case.status, said
    assert not [text for text in case.says if text not in (said if "\n" in text else unbroken)], said
    assert words.get(case.lacks, case.lacks) not in said
    broken = [line.rstrip() for line in said.splitlines() if not re.search(r"(aws|virtuous-token|y/N)\b", line)]
    assert max(len(line) for line in broken if " " in line[7:].strip()) <= case.columns


@linux
def test_watching_goes_on_after_a_lost_connection(harness: LeakHarness, tmp_path: Path) -> None:
    program = "from virtuous_token_cli import main, show; show.WATCH_SECONDS = 1; main.run()"
    with deployed(harness, "default") as deployment, aws(deployment, tmp_path, lost=2) as environment:
        deployment.log_in()

        status, shown = typed_at_a_terminal(
            [sys.executable, "-c", program, "status", "--watch"],
            [("looking again.", ""), ("all well.", "\x03")],
            environment=environment,
            directory=tmp_path,
        )

    assert status == 130
    assert "AWS denies Invoke" in plain(shown)
    assert "Interrupted." in plain(shown)


def test_what_is_piped_is_whole_and_a_login_from_a_pipe_starts_no_process_and_writes_no_file(
    harness: LeakHarness, tmp_path: Path
) -> None:
    """So a secret can be in no argument list, no child's environment, no temporary file."""
    name = "An organisation whose name is longer than any column that a terminal has " * 2
    with deployed(harness, empty=True, organization_name=name) as deployment:
        with aws(deployment, tmp_path) as environment:
            virtuous = deployment.virtuous
            login = [sys.executable, "-B", "-c", WATCHED, "login", "--connection", "a" * 64, "--remember", "--yes"]
            ended = run(*login, environment=environment, piped=f"{virtuous.user}\n{virtuous.password}\n")
            shown = run(*COMMAND, "status", environment=environment)

        harness.watch(ended)
        assert ended.returncode == 0, ended.stderr
        assert "SEEN" not in ended.stderr
        assert any("a" * 64 in line and name.strip() in line for line in shown.stdout.splitlines())


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


@linux
def test_the_mfa_code_comes_from_the_terminal_and_the_login_from_the_pipe(harness: LeakHarness, tmp_path: Path) -> None:
    with deployed(harness, empty=True) as deployment, aws(deployment, tmp_path) as environment:
        virtuous = deployment.virtuous
        environment = {name: value for name, value in environment.items() if name not in NO_KEYS}
        piped = f"{virtuous.user}\n{virtuous.password}\n"

        nobody = run(*COMMAND, "login", "--profile", "mfa", environment=environment, piped=piped, detached=True)
        status, shown = typed_at_a_terminal(
            [*COMMAND, "login", "--profile", "mfa"],
            [("Enter MFA code for arn:aws:iam::000000000000:mfa/me:", MFA_CODE)],
            environment=environment,
            directory=tmp_path,
            piped=piped,
        )
        again = run(*COMMAND, "status", "--profile", "mfa", environment=environment, detached=True)

        harness.watch((nobody, shown))
        assert (nobody.returncode, nobody.stdout) == (1, "")
        assert "asks for an MFA code, and there is no terminal to ask at" in nobody.stderr
        assert status == 0, shown
        (request,) = virtuous.token_requests
        assert request.form()["username"] == virtuous.user
        assert again.returncode == 0, "the role's credentials are shared with the AWS CLI, for as long as they last"


COMPLETION = {"_VIRTUOUS_TOKEN_COMPLETE": "bash_complete", "COMP_WORDS": "virtuous-token st", "COMP_CWORD": "1"}


@pytest.mark.parametrize(
    "arguments", ["--help", "login --help", "--version", ""], ids=lambda said: said or "completion"
)
def test_what_asks_nothing_of_aws_waits_for_no_aws_library(arguments: str) -> None:
    program = (
        "import atexit, sys; from virtuous_token_cli.main import run; slow = {'boto3', 'botocore', 'rich', 'urllib3'};"
        "atexit.register(lambda: print(slow & set(sys.modules), file=sys.stderr)); run()"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES} | ({} if arguments else COMPLETION)
    ended = run(sys.executable, "-c", program, *arguments.split(), environment=environment)
    assert (ended.returncode, ended.stderr, bool(ended.stdout)) == (0, "set()\n", True)


def test_the_installed_command_runs_outside_the_checkout_beside_the_reader(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """From the two wheels of this checkout; what they need besides is lent by the tests' own environment."""
    folder = tmp_path_factory.mktemp("installed")
    for project in ("cli", "layers/virtuous_token"):
        build = f"from hatchling import build; build.build_wheel({str(folder)!r})"
        subprocess.run([sys.executable, "-c", build], cwd=ROOT / project, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv/bin/python"), "--disable-pip-version-check"]
    wheels = [str(wheel) for wheel in folder.glob("*.whl")]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", *wheels], check=True, capture_output=True)
    lent = {"PATH": os.environ["PATH"], "PYTHONPATH": sysconfig.get_paths()["purelib"], "PYTHONSAFEPATH": "1"}
    program = (
        "import sys, virtuous_token_cli.main, virtuous_token_cli.check, token_refresher.refresh.login;"
        "import virtuous_token as v; print('aws_lambda_powertools' in sys.modules, v.__file__)"
    )

    asked = run(folder / "venv/bin/virtuous-token", "--version", environment=lent)
    seen = run(folder / "venv/bin/python", "-c", program, environment=lent)

    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith("virtuous-token, version ")
    assert seen.stdout.startswith(f"False {folder}"), "nothing of the function's own requirements is needed"
    ours, readers = (
        {line.partition(",")[0] for line in record.read_text().splitlines()}
        for record in sorted(folder.glob("venv/lib/python*/site-packages/virtuous_token*-*/RECORD"))
    )
    assert {"virtuous_token_cli/main.py", "token_refresher/handler.py"} <= ours | readers
    assert not ours & readers, "removing the command leaves the reader whole"
    (metadata,) = folder.glob("venv/lib/python*/site-packages/virtuous_token_cli-*/METADATA")
    assert "Requires-Dist: botocore[crt]" in metadata.read_text(), "what profiles of aws login need"
