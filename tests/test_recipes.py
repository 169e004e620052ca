"""Every recipe of docs/reading.md: programs run against a Secrets Manager on loopback, the others are validated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
import hcl2
import pytest
import yaml  # type: ignore[import-untyped]
from botocore.validate import ParamValidator

from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.secrets_manager import StrictSecretsManager
from tests.fakes.secrets_manager_http import served
from tests.fakes.virtuous import Virtuous, denied, hook
from tests.recipes import NAMES, PROGRAMS, recipe, run

NAME = "virtuous/default/bearer"
STATIC = {
    "extension.py",
    "ecs-task-definition.json",
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
    assert sorted(NAMES) == sorted([*PROGRAMS, *STATIC])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reads_the_token_and_calls_virtuous(
    name: str, virtuous: Virtuous, environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(name, virtuous.base_url, environment, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("Example Relief\n", "", 0)
    assert len(virtuous.organization_requests) == 1


def test_aiohttp_tries_once_more_with_another_token(
    strict: StrictSecretsManager, virtuous: Virtuous, environment: dict[str, str], tmp_path: Path
) -> None:
    def publish_another(_: object) -> None:
        another = json.dumps({"access_token": virtuous.issue_pair()["access_token"]})
        strict.client().put_secret_value(SecretId=NAME, SecretString=another)

    virtuous.script_organization(hook(publish_another) | denied())
    assert run("aiohttp.py", virtuous.base_url, environment, tmp_path).stdout == "Example Relief\n"
    assert [event.generation_sent for event in virtuous.events if event.call == "organization"] == [1, 2]


def test_aiohttp_does_not_send_the_same_token_again(
    virtuous: Virtuous, environment: dict[str, str], tmp_path: Path
) -> None:
    virtuous.script_organization(denied())
    assert "ClientResponseError: 401" in run("aiohttp.py", virtuous.base_url, environment, tmp_path).stderr
    assert len(virtuous.organization_requests) == 1


def test_the_extensions_call(virtuous: Virtuous, bearer: str, tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, list[str]], str | None]] = []

    class Extension(JsonHandler):
        """The path, the parameters, the header and the answer are those that AWS's page of the extension describes."""

        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            address = urlsplit(self.path)
            asked.append((address.path, parse_qs(address.query), self.headers.get("X-Aws-Parameters-Secrets-Token")))
            self.answer(200, {"Name": NAME, "SecretString": bearer, "VersionStages": ["AWSCURRENT"]})

    with serving(Extension) as address:
        environment = {
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(urlsplit(address).port),
            "AWS_SESSION_TOKEN": "session-token",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        done = run("extension.py", virtuous.base_url, environment, tmp_path)
    assert (done.stdout, done.stderr) == ("Example Relief\n", "")
    assert asked == [("/secretsmanager/get", {"secretId": [NAME], "versionStage": ["AWSCURRENT"]}, "session-token")]


def test_the_task_definition_is_one_that_ecs_takes() -> None:
    definition = json.loads(recipe("ecs-task-definition.json"))
    shape = botocore.session.Session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    assert shape is not None
    report = ParamValidator().validate(definition, shape)
    assert not report.has_errors(), report.generate_report()
    (secret,) = definition["containerDefinitions"][0]["secrets"]
    arn, key, label, version = secret["valueFrom"].rsplit(":", 3)
    assert arn.startswith("arn:aws:secretsmanager:")
    assert arn.split(":", 6)[6] == f"{NAME}-AbCdEf"
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
