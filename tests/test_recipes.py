"""Every recipe of the pages on reading: programs run against a Secrets Manager on loopback, others are validated."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
import hcl2
import pytest
import urllib3
import yaml  # type: ignore[import-untyped]
from botocore.validate import ParamValidator

from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import served
from tests.fakes.virtuous import Virtuous, redirect
from tests.recipes import MODULES, NAMES, PROGRAMS, recipe, run, running, save, surroundings

NAME = "virtuous/default/bearer"
STATIC = {
    "conftest.py",
    "extension.py",
    "ecs-container-definition.json",
    "bearer.tf",
    "external-secret.yaml",
    "secret-provider-class.yaml",
}


@pytest.fixture
def virtuous() -> Iterator[Virtuous]:
    with Virtuous() as stand_in:
        yield stand_in


@pytest.fixture
def bearer(virtuous: Virtuous) -> str:
    """The value of the bearer secret."""
    token = virtuous.issue_pair()["access_token"]
    return json.dumps({"version": 1, "access_token": token, "expires_at": "2100-01-01T00:00:00Z"})


@pytest.fixture
def strict() -> StrictSecretsManager:
    return StrictSecretsManager()


@pytest.fixture
def environment(strict: StrictSecretsManager, bearer: str) -> Iterator[dict[str, str]]:
    client = strict.client()
    client.create_secret(Name=NAME, SecretString=json.dumps({"access_token": "an older one"}))
    client.put_secret_value(SecretId=NAME, SecretString=bearer)
    with served(strict) as endpoint:
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
        }


def test_every_recipe_is_run_or_validated_here() -> None:
    assert sorted(NAMES) == sorted([*PROGRAMS, *MODULES, *STATIC])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reads_the_token_and_calls_virtuous(
    name: str, virtuous: Virtuous, environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(name, virtuous.base_url, environment, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("Example Relief\n", "", 0)
    assert len(virtuous.requests) == 1


@pytest.fixture
def configured(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a program whose secret the variable names."""
    return {**environment, "VIRTUOUS_BEARER_SECRET": NAME}


def revoke(strict: StrictSecretsManager, virtuous: Virtuous) -> None:
    virtuous.revoke_access_tokens()
    value = json.dumps({"access_token": virtuous.issue_pair()["access_token"], "base_url": virtuous.base_url})
    strict.client().put_secret_value(SecretId=NAME, SecretString=value)


@pytest.mark.parametrize(
    ("name", "server", "paths"),
    [
        pytest.param(
            "flask_app.py",
            "gunicorn --preload --workers 4 --bind 127.0.0.1:{port} flask_app:app",
            ["/organization"],
            id="Flask under gunicorn",
        ),
        pytest.param(
            "fastapi_app.py",
            "uvicorn --host 127.0.0.1 --port {port} fastapi_app:app",
            ["/async", "/sync"],
            id="FastAPI under uvicorn",
        ),
    ],
)
def test_a_server_answers_before_and_after_a_rotation(
    name: str,
    server: str,
    paths: list[str],
    strict: StrictSecretsManager,
    virtuous: Virtuous,
    configured: dict[str, str],
    tmp_path: Path,
) -> None:
    save(name, virtuous.base_url, tmp_path)
    port = free_port()
    get = urllib3.PoolManager(retries=urllib3.Retry(200, backoff_factor=0.1, backoff_max=0.1), timeout=30)
    with running(server.format(port=port).split(), configured, tmp_path), get:
        for _ in range(2):
            for path in paths * 8:
                answer = get.request("GET", f"http://127.0.0.1:{port}{path}")
                assert (answer.status, answer.data.decode().strip('"')) == (200, "Example Relief")
            revoke(strict, virtuous)


def test_celerys_workers_read_for_themselves(
    strict: StrictSecretsManager, virtuous: Virtuous, configured: dict[str, str], tmp_path: Path
) -> None:
    save("tasks.py", virtuous.base_url, tmp_path)
    (tmp_path / "data_in").mkdir()
    (tmp_path / "data_out").symlink_to("data_in")  # the worker takes what the caller leaves
    (tmp_path / "results").mkdir()
    environment = {
        **configured,
        "CELERY_BROKER_URL": "filesystem://",
        "CELERY_RESULT_BACKEND": f"file://{tmp_path}/results",
    }
    caller = "import tasks; print({task.get(timeout=60) for task in [tasks.organization.delay() for _ in range(8)]})"
    with running(["celery", "-A", "tasks", "worker", "--pool", "prefork", "--concurrency", "2"], environment, tmp_path):
        for _ in range(2):
            assert python(caller, environment, tmp_path) == "{'Example Relief'}\n"
            revoke(strict, virtuous)


def test_a_lambda_function_with_powertools(
    strict: StrictSecretsManager, virtuous: Virtuous, configured: dict[str, str], tmp_path: Path
) -> None:
    save("lambda_function.py", virtuous.base_url, tmp_path)
    (tmp_path / "event.json").write_text(
        json.dumps(
            {
                "version": "2.0",
                "rawPath": "/organization",
                "requestContext": {"http": {"method": "GET"}, "stage": "$default"},
            }
        )
    )
    caller = (
        "import json, lambda_function; event = json.load(open('event.json'));"
        "print(*(lambda_function.lambda_handler(event, None)['body'] for _ in range(2)), sep='')"
    )
    for _ in range(2):
        assert python(caller, configured, tmp_path) == '{"organization":"Example Relief"}' * 2 + "\n"
        revoke(strict, virtuous)
    strict.client().delete_secret(SecretId=NAME)
    assert '"Virtuous is not available"' in python(caller, configured, tmp_path)


def test_the_fixtures_for_tests_work(virtuous: Virtuous, configured: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(recipe("conftest.py").replace("http://localhost:8080", virtuous.base_url))
    url = f"{virtuous.base_url}/api/Organization/Current"
    (tmp_path / "test_own.py").write_text(
        "import requests, virtuous_token\n"
        "def test_one():\n    assert virtuous_token.bearer_token()\n"
        f"def test_other(auth):\n    assert virtuous_token.process_reader().base_url is None\n"
        f"    assert requests.get({url!r}, auth=auth, timeout=9).status_code == 401\n"
    )
    assert "2 passed" in python("import pytest; pytest.main(['-q', '-p', 'no:cacheprovider'])", configured, tmp_path)


def python(program: str, environment: dict[str, str], directory: Path) -> str:
    """What it prints."""
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(
        command, env=surroundings(environment), cwd=directory, check=True, text=True, stdout=subprocess.PIPE, timeout=60
    ).stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Extension:
    """The extension of Lambda: path, parameters, header and answer are those that AWS's page of it describes."""

    def __init__(self, bearer: str) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], str | None]] = []
        extension = self

        class Handler(JsonHandler):
            def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
                address = urlsplit(self.path)
                session = self.headers.get("X-Aws-Parameters-Secrets-Token")
                extension.asked.append((address.path, parse_qs(address.query), session))
                self.answer(200, {"Name": NAME, "SecretString": bearer, "VersionStages": ["AWSCURRENT"]})

        self.handler = Handler


@pytest.fixture
def recorder() -> Iterator[tuple[str, list[str]]]:
    """A server that nobody may ask, and what it was asked."""
    asked: list[str] = []

    class Handler(JsonHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            asked.append(f"{self.path}\n{self.headers}")
            self.answer(200, {"organizationName": "nobody"})

    with serving(Handler) as url:
        yield url, asked


@pytest.mark.parametrize("redirects", [False, True], ids=["Virtuous answers", "Virtuous redirects to another host"])
def test_the_extension_is_asked_without_a_proxy_and_no_redirect_is_followed(
    redirects: bool, virtuous: Virtuous, bearer: str, recorder: tuple[str, list[str]], tmp_path: Path
) -> None:
    extension, (elsewhere, asked) = Extension(bearer), recorder
    if redirects:
        virtuous.script_organization(redirect(elsewhere.replace("127.0.0.1", "localhost")))
    with serving(extension.handler) as address:
        environment = {
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(urlsplit(address).port),
            "AWS_SESSION_TOKEN": "session-token",
            "http_proxy": elsewhere,
            "no_proxy": "127.0.0.1",  # where the stand-in for Virtuous is, which has no https
        }
        done = run("extension.py", virtuous.base_url, environment, tmp_path)
    assert extension.asked == [
        ("/secretsmanager/get", {"secretId": [NAME], "versionStage": ["AWSCURRENT"]}, "session-token")
    ]
    assert asked == []
    if redirects:
        assert "HTTP Error 302" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("Example Relief\n", "")


def test_the_container_definition_is_one_that_ecs_takes() -> None:
    container = json.loads(recipe("ecs-container-definition.json"))
    shape = botocore.session.Session().get_service_model("ecs").shape_for("ContainerDefinition")
    report = ParamValidator().validate(container, shape)
    assert not report.has_errors(), report.generate_report()
    arn, key, label, version = container["secrets"][0]["valueFrom"].rsplit(":", 3)
    assert arn.split(":", 6)[::6] == ["arn", f"{NAME}-AbCdEf"]
    assert (key, label, version) == ("access_token", "AWSCURRENT", "")


def test_the_terraform_data_source_parses() -> None:
    parsed: Any = hcl2.loads(recipe("bearer.tf"))
    assert set(parsed) >= {"data", "locals"}
    text = json.dumps(parsed)
    assert "aws_secretsmanager_secret_version" in text
    assert "AWSCURRENT" in text


def test_the_external_secret_has_what_the_operator_asks_for() -> None:
    resource: Any = yaml.safe_load(recipe("external-secret.yaml"))
    assert (resource["apiVersion"], resource["kind"]) == ("external-secrets.io/v1", "ExternalSecret")
    assert resource["spec"]["secretStoreRef"].keys() == {"kind", "name"}
    (entry,) = resource["spec"]["data"]
    assert entry["remoteRef"] == {"key": NAME, "property": "access_token", "version": "AWSCURRENT"}


def test_the_provider_class_has_what_the_driver_asks_for() -> None:
    resource: Any = yaml.safe_load(recipe("secret-provider-class.yaml"))
    assert (resource["apiVersion"], resource["kind"]) == ("secrets-store.csi.x-k8s.io/v1", "SecretProviderClass")
    assert resource["spec"]["provider"] == "aws"
    (entry,) = yaml.safe_load(resource["spec"]["parameters"]["objects"])
    assert (entry["objectName"], entry["objectType"]) == (NAME, "secretsmanager")
    assert [path["path"] for path in entry["jmesPath"]] == ["access_token"]
