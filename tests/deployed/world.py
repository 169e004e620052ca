"""The product deployed by its own commands, and what can be seen of it: in some account, or on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch
from uuid import uuid4

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.deployed.local_aws import REPOSITORY, aws_environment, local_aws, process_group
from tests.fakes.virtuous import Virtuous

STACK = "virtuous-token-refresher"
READER_STACK = "virtuous-example-reader"
SAM = str(Path(sys.executable).parent / "sam")
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
# A token is due after 10 % of its life, moved by up to 5 %: 15 to 45 seconds after the login, so before the schedule,
# which fires every minute, does so for the first time.
TOKEN_LIFE_SECONDS = 300
REFRESH_AT_PERCENT = 10
# Three firings: the first may come too early on a machine that is slow.
SECONDS_TO_REFRESH = 200.0
# A new role can be assumed, and its policy holds, within seconds ("IAM is eventually consistent", IAM User Guide).
SECONDS_FOR_A_ROLE = 60.0
SECONDS_FOR_A_COMMAND = 600.0

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_PROFILE")
VERSION = {"Version": "2012-10-17"}  # of the policy language
SOURCES = ("cli", "functions/token_refresher", "layers/virtuous_token")

Found = TypeVar("Found")


class StepFailed(Exception):
    """A step did not do what it should; the text says which and where to look."""


class Run(NamedTuple):
    """One invocation of the refresher as its log tells it. *source* is ``aws.scheduler``, or ``invoke`` by a caller."""

    source: str
    outcomes: dict[str, str]


@dataclass(slots=True)
class Deployment(ABC):
    """The stack *stack* under *prefix*. *environment* is what a command needs to work in the same account and Region;
    *say* gets each step as it begins; logs go to *directory*."""

    directory: Path
    virtuous: Any  # whoever plays Virtuous: base_url, user, password, revoke_refresh_token
    environment: dict[str, str] = field(repr=False)
    say: Callable[[str], object]
    prefix: str = "virtuous"
    stack: str = STACK
    # What "sam deploy" is told to work here, and what everything that costs is tagged with when it is made.
    sam_options: tuple[str, ...] = ("--config-file", str(REPOSITORY / "samconfig.toml"), "--config-env", "local")
    tags: Mapping[str, str] = field(default_factory=dict)
    clients: dict[tuple[str, str, str], Any] = field(default_factory=dict, repr=False)

    @abstractmethod
    def token_sent(self) -> str:
        """Which access token the stand-in saw last, by a name that is no secret."""

    @abstractmethod
    def refusals(self) -> int:
        """How many refresh tokens the stand-in has refused."""

    @abstractmethod
    def answering_late(self) -> contextlib.AbstractContextManager[object]:
        """As long as the block lasts the stand-in answers so late that two runs meet."""

    @property
    def function(self) -> str:
        return f"{self.prefix}-token-refresher"

    @property
    def reader(self) -> str:
        """The reader's function and stack."""
        return f"{self.prefix}-example-reader"

    def secret(self, kind: str, connection: str = "default") -> str:
        return f"{self.prefix}/{connection}/{kind}"

    def deploy(self, **parameters: str) -> None:
        """Builds and deploys the refresher, unchanged but for its parameters."""
        self._build("refresher", REPOSITORY)
        self._deploy(
            "refresher",
            self.stack,
            Prefix=self.prefix,
            Schedule="rate(1 minute)",
            RefreshAtPercent=str(REFRESH_AT_PERCENT),
            VirtuousBaseUrl=self.virtuous.base_url,
            **parameters,
        )

    def deploy_reader(self) -> None:
        """Builds and deploys the reader's stack; the refresher's must be there."""
        self._build("reader", REPOSITORY / "examples" / "reader")
        self._deploy(
            "reader",
            self.reader,
            FunctionName=self.reader,
            ReaderLayerArn=f"/{self.prefix}/reader-layer-arn",
            ReaderPolicyArn=f"/{self.prefix}/reader-policy-arn",
            BearerSecret=self.secret("bearer"),
            VirtuousBaseUrl=self.virtuous.base_url,
            MaxAgeSeconds="1",  # so that a refresh is seen at once
        )

    def log_in(self, connection: str = "default") -> None:
        """Logs in with the operator's own command; e-mail and password go through its standard input."""
        self.say(f"Log in: virtuous-token login --connection {connection}")
        self.operate("login", "--connection", connection, piped=f"{self.virtuous.user}\n{self.virtuous.password}\n")

    def operate(self, *arguments: str, piped: str = "") -> str:
        """Runs the operator's command as the administrator and returns its standard output."""
        name = "-".join(("virtuous-token", *(argument.lstrip("-") for argument in arguments)))
        return self.run_ours(name, "-m", "virtuous_token_cli", "--prefix", self.prefix, *arguments, piped=piped)

    def run_ours(
        self, name: str, *arguments: str, piped: str = "", environment: Mapping[str, str] | None = None
    ) -> str:
        """Runs this repository's Python, *environment* added to its own."""
        sources = os.pathsep.join(str(REPOSITORY / path) for path in SOURCES)
        more = {**self.environment, "PYTHONPATH": sources, **(environment or {})}
        return self.run(name, [sys.executable, *arguments], piped=piped, environment=more)

    def _build(self, name: str, folder: Path) -> None:
        self.say(f"sam build ({name})")
        template = ["--template-file", str(folder / "template.yaml"), "--base-dir", str(folder)]
        runtime = ["--parameter-overrides", f"PythonRuntime={RUNTIME}"]
        self.run(f"build-{name}", [SAM, "build", *template, "--build-dir", str(self.built(name)), *runtime])

    def _deploy(self, name: str, stack: str, **parameters: str) -> None:
        self.say(f"sam deploy ({name})")
        template = ["--template-file", str(self.built(name) / "template.yaml"), "--stack-name", stack]
        # The quotes are for sam, which splits each of these once more.
        given = [f'{key}="{value}"' for key, value in {**parameters, "PythonRuntime": RUNTIME}.items()]
        self.run(f"deploy-{name}", [SAM, "deploy", *template, *self.sam_options, "--parameter-overrides", *given])

    def built(self, name: str) -> Path:
        return self.directory / "build" / name

    def client(self, service: str, environment: Mapping[str, str] | None = None) -> Any:
        """A boto3 client of the administrator, or of whose *environment* is given; always the same one."""
        environment = environment or self.environment
        known = service, environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_REGION", "")
        if known not in self.clients:
            key, secret, token, region, profile = map(environment.get, CREDENTIALS)
            session = boto3.Session(key, secret, token, region, profile_name=profile)
            endpoint, make = self.environment.get("AWS_ENDPOINT_URL"), session.client
            # A function that is invoked again is another run.
            config = Config(read_timeout=320, max_pool_connections=32, proxies={} if endpoint else None)
            once = Config(retries={"total_max_attempts": 1}) if endpoint or service == "lambda" else Config()
            self.clients[known] = make(service, endpoint_url=endpoint, config=config.merge(once))  # type: ignore[call-overload]
        return self.clients[known]

    def outputs(self, stack: str | None = None) -> dict[str, str]:
        """What the stack says of itself, by the outputs' names."""
        (described,) = self.client("cloudformation").describe_stacks(StackName=stack or self.stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    def physical(self, logical_id: str) -> str:
        """The name or ARN that a resource of the stack got."""
        asked = {"StackName": self.stack, "LogicalResourceId": logical_id}
        found = self.client("cloudformation").describe_stack_resource(**asked)["StackResourceDetail"]
        return str(found["PhysicalResourceId"])

    def version(self, kind: str, connection: str = "default") -> str:
        """The id of what is under AWSCURRENT."""
        manager, name = self.client("secretsmanager"), self.secret(kind, connection)
        return str(manager.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["VersionId"])

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """The function's answer. StepFailed with the type of its error where it ends in one."""
        answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
        payload = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise StepFailed(f"{function} ended in {payload.get('errorType', 'an error')}: {payload}")
        return payload

    def refresh(self, connection: str) -> str:
        """The outcome of a run that somebody asked for."""
        answer = self.invoke(self.function, {"connections": [connection], "force": True})
        return str(answer["outcomes"][connection])

    def read_as_reader(self) -> tuple[int, str]:
        """The reader calls Virtuous: the status that it got, and which token it sent."""
        return self.invoke(self.reader, {})["status"], self.token_sent()

    def take_role(self, name: str, *policies: str, document: Mapping[str, Any] | None = None) -> dict[str, str]:
        """The credentials, as variables, of a new role with these *policies* and, inline, *document*. It stays."""
        iam, sts = self.client("iam"), self.client("sts")
        here = {"AWS": sts.get_caller_identity()["Account"]}
        trust = {"Statement": [{"Effect": "Allow", "Principal": here, "Action": "sts:AssumeRole"}]}
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(VERSION | trust))["Role"]["Arn"]
        for policy in policies:
            iam.attach_role_policy(RoleName=name, PolicyArn=policy)
        if document:
            iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=json.dumps(document))

        def assume() -> Any:
            with contextlib.suppress(ClientError):
                return sts.assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]

        taken = self.wait("a new role", assume, SECONDS_FOR_A_ROLE)
        parts = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        return {variable: taken[part] for variable, part in zip(CREDENTIALS, parts, strict=False)}

    def as_reader(self) -> dict[str, str]:
        """The environment of somebody who has the policy of readers and no other."""
        policy = self.client("ssm").get_parameter(Name=f"/{self.prefix}/reader-policy-arn")["Parameter"]["Value"]
        kept = {name: value for name, value in self.environment.items() if name.startswith("AWS_")}
        kept.pop("AWS_PROFILE", None)
        return kept | self.take_role(f"{self.prefix}-as-reader-{uuid4().hex[:8]}", policy)

    def runs(self) -> list[Run]:
        """Every invocation of the refresher so far, from its log."""
        pages = self.client("logs").get_paginator("filter_log_events")
        runs: list[Run] = []
        latest: dict[str, Run] = {}  # each instance of the function writes a stream of its own, one run after the other
        for page in pages.paginate(logGroupName=f"/aws/lambda/{self.function}"):
            for event in page["events"]:
                line, stream = None, event["logStreamName"]
                with contextlib.suppress(ValueError):
                    line = json.loads(event["message"])
                match line:
                    case {"message": "invoked", "report": False, "source": source}:
                        runs.append(Run(source, {}))
                        latest[stream] = runs[-1]
                    case {"outcome": outcome, "connection": name} if stream in latest:
                        latest[stream].outcomes[name] = outcome  # the local AWS may put late lines elsewhere
        return runs

    def wait(self, what: str, look: Callable[[], Found | None], seconds: float = SECONDS_TO_REFRESH) -> Found:
        """What *look* finds, asked for until it is true. StepFailed once *seconds* are over."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                raise StepFailed(f"waited {seconds:.0f} seconds for {what}")
            time.sleep(0.5)  # what is waited for is another process's work: it can only be asked
        return found

    def run(self, name: str, command: list[str], *, piped: str = "", environment: dict[str, str] | None = None) -> str:
        """Runs a command to its end and returns its standard output. StepFailed where its status is not 0.

        Both of its outputs go to a log of that name. *piped* goes to its standard input alone.
        """
        log, seconds = self.directory / f"{name}.log", SECONDS_FOR_A_COMMAND
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with process_group(command, cwd=self.directory, env=environment or self.environment, **pipes) as process:
            try:
                output, errors = process.communicate(piped.encode(), seconds)
            except subprocess.TimeoutExpired:
                raise StepFailed(f"{name} took more than {seconds:.0f} seconds") from None
        log.write_bytes(output + errors)
        if process.returncode != 0:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise StepFailed(f"{name} ended with status {process.returncode}; see {log}\n{last}")
        return output.decode()


def for_commands(directory: Path) -> dict[str, str]:
    """What an environment needs for ``sam``: the Python of the functions, and a place of its own."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(directory / "sam"),
    }


@dataclass(slots=True)
class World(Deployment):
    """One on this machine, which the demo, the tests and ``make local`` share."""

    virtuous: Virtuous

    def deploy_another(self, prefix: str, **parameters: str) -> str:
        """Deploys what ``deploy`` built once more, under another prefix, and returns its stack's name."""
        stack = f"another-{prefix}"
        self._deploy("refresher", stack, Prefix=prefix, **parameters)
        return stack

    def delete(self, stack: str) -> None:
        """As a person does. The secrets of its connections stay."""
        self.say(f"sam delete ({stack})")
        self.run("delete", [SAM, "delete", "--no-prompts", "--stack-name", stack, "--region", "us-east-1"])

    def token_sent(self) -> str:
        seen = [event for event in list(self.virtuous.events) if event.call == "organization"][-1]
        return f"generation {seen.generation_sent}"

    def refusals(self) -> int:
        return self.grants("refresh_token", "refused")

    def answering_late(self) -> contextlib.AbstractContextManager[object]:
        return patch.object(self.virtuous, "answer_seconds", 3)

    def grants(self, kind: str, outcome: str = "granted") -> int:
        return sum((event.call, event.outcome) == (kind, outcome) for event in list(self.virtuous.events))


@contextlib.contextmanager
def open_world(directory: Path, say: Callable[[str], object] = lambda _: None) -> Iterator[World]:
    """Starts local AWS and stand-in; nothing is deployed yet. Logs go to *directory*, whose old content is removed."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    say("Start the local AWS, permissions enforced")
    with local_aws(directory) as endpoint, Virtuous(token_life_seconds=TOKEN_LIFE_SECONDS) as virtuous:
        environment = aws_environment(endpoint, os.environ, directory) | for_commands(directory)
        # SAM looks every five seconds how far CloudFormation is, which here takes one.
        environment |= {"SAM_CLI_POLL_DELAY": "0.2", "VIRTUOUS_BEARER_SECRET": "virtuous/default/bearer"}
        yield World(directory, virtuous, environment, say)
