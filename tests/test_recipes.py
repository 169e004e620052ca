"""Every recipe of the pages on reading: programs run against a Secrets Manager on loopback, others are validated."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import hcl2
import pytest
import urllib3
import yaml  # type: ignore[import-untyped]
from botocore.validate import ParamValidator

from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.one_bearer import NAME
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import served
from tests.fakes.virtuous import Virtuous, redirect
from tests.recipes import PROGRAMS, RECIPES, VIRTUOUS, run, surroundings

MODULES = ["flask_app.py", "fastapi_app.py", "tasks.py", "lambda_function.py", "conftest.py"]
STATIC = ["ecs-container-definition.json", "bearer.tf", "external-secret.yaml", "secret-provider-class.yaml"]


class World:
    """A Virtuous and a Secrets Manager with a live token, and a folder for modules that use them."""

    def __init__(self, virtuous: Virtuous, folder: Path) -> None:
        self.virtuous = virtuous
        self.folder = folder
        self.strict = StrictSecretsManager()
        self.environment: dict[str, str] = {}
        self.strict.client().create_secret(Name=NAME, SecretString=json.dumps({"access_token": "an older one"}))
        self.rotate()

    def rotate(self) -> None:
        """The token that was live is so no longer; another one is stored."""
        self.virtuous.revoke_access_tokens()
        token = self.virtuous.issue_pair()["access_token"]
        self.value = json.dumps({"access_token": token, "expires_at": "2100-01-01T00:00:00Z"})
        self.strict.client().put_secret_value(SecretId=NAME, SecretString=self.value)

    def save(self, name: str) -> None:
        """Makes a module of a recipe, with the stand-in in place of Virtuous."""
        (self.folder / name).write_text(RECIPES[name].replace(VIRTUOUS, self.virtuous.base_url))

    def python(self, program: str) -> str:
        """What it prints."""
        command, around = [sys.executable, "-W", "error", "-c", program], surroundings(self.environment)
        return subprocess.run(
            command, env=around, cwd=self.folder, check=True, text=True, stdout=subprocess.PIPE, timeout=60
        ).stdout

    @contextmanager
    def running(self, server: str) -> Iterator[None]:
        """A server, as long as the block lasts. Where the block ends in an error, what it said is added."""
        log, around = self.folder / "server.log", surroundings(self.environment)
        command = [sys.executable, "-m", *server.split()]
        with (
            log.open("w") as output,
            subprocess.Popen(command, cwd=self.folder, env=around, stdout=output, stderr=output) as process,
        ):
            try:
                yield
            except BaseException as error:
                error.add_note(log.read_text())
                raise
            finally:
                process.terminate()
                process.wait(30)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Virtuous() as virtuous, served((world := World(virtuous, tmp_path)).strict) as endpoint:
        world.environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
            "VIRTUOUS_BEARER_SECRET": NAME,
        }
        yield world


def test_every_recipe_is_run_or_validated_here() -> None:
    assert sorted(RECIPES) == sorted([*PROGRAMS, *MODULES, *STATIC, "extension.py"])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reads_the_token_and_calls_virtuous(name: str, world: World) -> None:
    done = run(name, world.virtuous.base_url, world.environment, world.folder)
    assert (done.stdout, done.stderr, done.returncode) == ("Example Relief\n", "", 0)


@pytest.mark.parametrize(
    ("name", "server", "paths"),
    [
        ("flask_app.py", "gunicorn --preload --workers 4 --bind 127.0.0.1:{port} flask_app:app", ["/organization"]),
        ("fastapi_app.py", "uvicorn --host 127.0.0.1 --port {port} fastapi_app:app", ["/async", "/sync"]),
    ],
)
def test_a_server_answers_before_and_after_a_rotation(name: str, server: str, paths: list[str], world: World) -> None:
    world.save(name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    get = urllib3.PoolManager(retries=urllib3.Retry(200, backoff_factor=0.1, backoff_max=0.1), timeout=30)
    with world.running(server.format(port=port)), get:
        for _ in range(2):
            for path in paths * 8:
                answer = get.request("GET", f"http://127.0.0.1:{port}{path}")
                assert (answer.status, answer.data.decode().strip('"')) == (200, "Example Relief")
            world.rotate()


def test_celerys_workers_read_for_themselves(world: World) -> None:
    pytest.importorskip("celery")
    world.save("tasks.py")
    (world.folder / "data_in").mkdir()
    (world.folder / "data_out").symlink_to("data_in")  # the worker takes what the caller leaves
    (world.folder / "results").mkdir()
    world.environment["CELERY_BROKER_URL"] = "filesystem://"
    world.environment["CELERY_RESULT_BACKEND"] = f"file://{world.folder}/results"
    caller = "import tasks; print({task.get(timeout=60) for task in [tasks.organization.delay() for _ in range(8)]})"
    with world.running("celery -A tasks worker --pool prefork --concurrency 2"):
        for _ in range(2):
            assert world.python(caller) == "{'Example Relief'}\n"
            world.rotate()


def test_a_lambda_function_with_powertools(world: World) -> None:
    world.save("lambda_function.py")
    context = {"http": {"method": "GET"}, "stage": "$default"}
    event = {"version": "2.0", "rawPath": "/organization", "requestContext": context}
    caller = (
        "import lambda_function\n"
        f"print(*(lambda_function.lambda_handler({event}, None)['body'] for _ in range(2)), sep='')"
    )
    for _ in range(2):
        assert world.python(caller) == '{"organization":"Example Relief"}' * 2 + "\n"
        world.rotate()
    world.strict.client().delete_secret(SecretId=NAME)
    assert '"Virtuous is not available"' in world.python(caller)


def test_the_fixtures_for_tests_work(world: World) -> None:
    base_url = world.virtuous.base_url
    (world.folder / "conftest.py").write_text(RECIPES["conftest.py"].replace("http://localhost:8080", base_url))
    (world.folder / "test_own.py").write_text(
        "import requests, virtuous_token\n"
        "def test_one():\n    assert virtuous_token.bearer_token()\n"
        f"def test_other(auth):\n    assert virtuous_token.process_reader().expires_at is None\n"
        f"    assert requests.get('{base_url}/api/Organization/Current', auth=auth, timeout=9).status_code == 401\n"
    )
    assert "2 passed" in world.python("import pytest; pytest.main(['-q', '-p', 'no:cacheprovider'])")


@pytest.mark.parametrize("redirects", [False, True], ids=["Virtuous answers", "Virtuous redirects to another host"])
def test_the_extension_is_asked_without_a_proxy_and_no_redirect_is_followed(redirects: bool, world: World) -> None:
    asked: list[tuple[str, str | None]] = []

    class Extension(JsonHandler):
        """Path, parameters, header and answer are those that AWS's page of it describes."""

        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            asked.append((self.path, self.headers.get("X-Aws-Parameters-Secrets-Token")))
            self.answer(200, {"Name": NAME, "SecretString": world.value, "VersionStages": ["AWSCURRENT"]})

    class NobodyMayAsk(JsonHandler):
        def do_GET(self) -> None:  # noqa: N802
            asked.append((self.path, "elsewhere"))
            self.answer(200, {"organizationName": "nobody"})

    with serving(Extension) as address, serving(NobodyMayAsk) as elsewhere:
        if redirects:
            world.virtuous.script_organization(redirect(elsewhere.replace("127.0.0.1", "localhost")))
        environment = {
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(urlsplit(address).port),
            "AWS_SESSION_TOKEN": "session-token",
            "http_proxy": elsewhere,
            "no_proxy": "127.0.0.1",  # where the stand-in for Virtuous is, which has no https
        }
        done = run("extension.py", world.virtuous.base_url, environment, world.folder)
    query = "secretId=virtuous%2Fdefault%2Fbearer&versionStage=AWSCURRENT"
    assert asked == [(f"/secretsmanager/get?{query}", "session-token")]
    if redirects:
        assert "HTTP Error 302" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("Example Relief\n", "")


def test_the_container_definition_is_one_that_ecs_takes() -> None:
    container = json.loads(RECIPES["ecs-container-definition.json"])
    shape = botocore.session.Session().get_service_model("ecs").shape_for("ContainerDefinition")
    report = ParamValidator().validate(container, shape)
    assert not report.has_errors(), report.generate_report()
    value_from = container["secrets"][0]["valueFrom"].split(":")
    assert value_from[-4:] == [f"{NAME}-AbCdEf", "access_token", "AWSCURRENT", ""]


def test_the_terraform_data_source_parses() -> None:
    parsed: Any = hcl2.loads(RECIPES["bearer.tf"])
    assert set(parsed) >= {"data", "locals"}
    text = json.dumps(parsed)
    assert "aws_secretsmanager_secret_version" in text
    assert "AWSCURRENT" in text


def test_the_kubernetes_resources_have_what_the_operator_and_the_driver_ask_for() -> None:
    resource: Any = yaml.safe_load(RECIPES["external-secret.yaml"])
    assert (resource["apiVersion"], resource["kind"]) == ("external-secrets.io/v1", "ExternalSecret")
    assert resource["spec"]["secretStoreRef"].keys() == {"kind", "name"}
    (entry,) = resource["spec"]["data"]
    assert entry["remoteRef"] == {"key": NAME, "property": "access_token", "version": "AWSCURRENT"}
    resource = yaml.safe_load(RECIPES["secret-provider-class.yaml"])
    assert (resource["apiVersion"], resource["kind"]) == ("secrets-store.csi.x-k8s.io/v1", "SecretProviderClass")
    assert resource["spec"]["provider"] == "aws"
    (entry,) = yaml.safe_load(resource["spec"]["parameters"]["objects"])
    assert (entry["objectName"], entry["objectType"]) == (NAME, "secretsmanager")
    assert [path["path"] for path in entry["jmesPath"]] == ["access_token"]
