"""The whole product on this machine: local AWS, a stand-in for Virtuous, the stack and a reader's stack.

The demo, the tests and ``make local`` share it. Everything is on loopback, and everything that it starts is stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.deployed.local_aws import REPOSITORY, aws_environment, local_aws, process_group
from tests.fakes.virtuous import Virtuous

__all__ = ["Run", "StepFailed", "World", "open_world"]

STACK = "virtuous-token-refresher"
READER_STACK = "virtuous-example-reader"
READER_TEMPLATE = REPOSITORY / "examples" / "reader" / "template.yaml"
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
# A token is due after 10 % of its life, moved by up to 5 %: 15 to 45 seconds after the login, so before the schedule,
# which fires every minute, does so for the first time.
TOKEN_LIFE_SECONDS = 300
REFRESH_AT_PERCENT = 10
# Three firings: the first may come too early on a machine that is slow.
SECONDS_TO_REFRESH = 200.0
SECONDS_FOR_A_COMMAND = 240.0

SOURCES = ("cli", "functions/token_refresher", "layers/virtuous_token")

Found = TypeVar("Found")


class StepFailed(Exception):
    """A step did not do what it should; the text says which and where to look."""


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation of the refresher as its log tells it. *source* is ``aws.scheduler``, or ``invoke`` by a caller."""

    source: str
    outcomes: dict[str, str] = field(default_factory=dict)

    @property
    def is_scheduled(self) -> bool:
        return self.source == "aws.scheduler"

    @property
    def has_refreshed(self) -> bool:
        return "refreshed" in self.outcomes.values()


@dataclass(slots=True)
class World:
    """A running world. *environment* is what a command needs to find it; *say* gets each step as it begins."""

    directory: Path
    virtuous: Virtuous
    environment: dict[str, str] = field(repr=False)
    say: Callable[[str], object]
    clients: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    # Making it

    def deploy(self) -> None:
        """Builds and deploys the refresher, unchanged but for its parameters."""
        self._build("refresher", REPOSITORY / "template.yaml")
        self._deploy(
            "refresher",
            STACK,
            Schedule="rate(1 minute)",
            RefreshAtPercent=str(REFRESH_AT_PERCENT),
            VirtuousBaseUrl=self.virtuous.base_url,
            PythonRuntime=RUNTIME,
        )

    def deploy_another(self, prefix: str, **parameters: str) -> str:
        """Deploys what ``deploy`` built once more, under another prefix, and returns its stack's name."""
        stack = f"another-{prefix}"
        self._deploy("refresher", stack, Prefix=prefix, PythonRuntime=RUNTIME, **parameters)
        return stack

    def delete(self, stack: str) -> None:
        """Deletes a stack as a person does. The secrets of its connections stay."""
        self.say(f"sam delete ({stack})")
        self.run("delete", [self.tool("sam"), "delete", "--no-prompts", "--stack-name", stack, "--region", "us-east-1"])

    def deploy_reader(self) -> None:
        """Builds and deploys the reader's stack; the refresher's must be there."""
        self._build("reader", READER_TEMPLATE)
        self._deploy(
            "reader",
            READER_STACK,
            VirtuousBaseUrl=self.virtuous.base_url,
            PythonRuntime=RUNTIME,
            MaxAgeSeconds="1",  # so that a refresh is seen at once
        )

    def log_in(self, connection: str = "default") -> None:
        """Logs in with the operator's own command; e-mail and password go through its standard input."""
        self.say(f"Log in: virtuous-token login --connection {connection}")
        self.operate("login", "--connection", connection, piped=f"{self.virtuous.user}\n{self.virtuous.password}\n")

    def operate(self, *arguments: str, piped: str = "") -> str:
        """Runs the operator's command as the administrator and returns its standard output."""
        command = [sys.executable, "-m", "virtuous_token_cli", "--prefix", "virtuous", *arguments]
        sources = os.pathsep.join(str(REPOSITORY / path) for path in SOURCES)
        name = "-".join(("virtuous-token", *(argument.lstrip("-") for argument in arguments)))
        return self.run(name, command, piped=piped, environment=self.environment | {"PYTHONPATH": sources})

    def make_secrets(self, prefix: str, connection: str) -> None:
        """Makes the connection's two secrets, without a value, where they are missing."""
        manager = self.client("secretsmanager")
        for kind in ("tokens", "bearer"):
            with contextlib.suppress(manager.exceptions.ResourceExistsException):
                manager.create_secret(Name=f"{prefix}/{connection}/{kind}")

    def _build(self, name: str, template: Path) -> None:
        self.say(f"sam build ({name})")
        self._sam(
            "build",
            name,
            template_file=template,
            build_dir=self._built(name).parent,
            base_dir=template.parent,
            parameter_overrides=[f"PythonRuntime={RUNTIME}"],
        )

    def _deploy(self, name: str, stack: str, **parameters: str) -> None:
        self.say(f"sam deploy ({name})")
        self._sam(
            "deploy",
            name,
            config_file=REPOSITORY / "samconfig.toml",
            config_env="local",
            template_file=self._built(name),
            stack_name=stack,
            # The quotes are for sam, which splits each of these once more.
            parameter_overrides=[f'{parameter}="{value}"' for parameter, value in parameters.items()],
        )

    def _sam(self, command: str, name: str, **options: Path | str | list[str]) -> str:
        arguments = [self.tool("sam"), command]
        for option, value in options.items():
            arguments += [f"--{option.replace('_', '-')}", *(value if isinstance(value, list) else [str(value)])]
        return self.run(f"{command}-{name}", arguments)

    def _built(self, name: str) -> Path:
        return self.directory / "build" / name / "template.yaml"

    # Looking at it

    def client(self, service: str, environment: Mapping[str, str] | None = None) -> Any:
        """A boto3 client of the local AWS's administrator, or of whose *environment* is given; always the same one."""
        environment = environment or self.environment
        known = service, environment["AWS_ACCESS_KEY_ID"]
        if known in self.clients:
            return self.clients[known]
        session = boto3.Session(
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_REGION"],
        )
        config = Config(retries={"total_max_attempts": 1}, proxies={})
        make: Any = session.client
        self.clients[known] = make(service, endpoint_url=self.environment["AWS_ENDPOINT_URL"], config=config)
        return self.clients[known]

    def outputs(self, stack: str = STACK) -> dict[str, str]:
        """What the stack says of itself, by the outputs' names."""
        (described,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """The function's answer. StepFailed with the type of its error where it ends in one."""
        answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
        payload = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise StepFailed(f"{function} ended in {payload.get('errorType', 'an error')}: {payload}")
        return payload

    def read_as_reader(self) -> tuple[int, int]:
        """The reader calls Virtuous: the status that it got, and the generation of the token that it sent."""
        answer = self.invoke(READER_STACK, {})
        seen = [event for event in self.virtuous.events if event.call == "organization"][-1]
        return answer["status"], seen.generation_sent or 0

    @contextlib.contextmanager
    def reader_user(self) -> Iterator[dict[str, str]]:
        """The environment of a user who has the policy of readers and no other, as long as the block lasts."""
        iam, name = self.client("iam"), f"reader-{uuid4()}"
        policy = self.client("ssm").get_parameter(Name="/virtuous/reader-policy-arn")["Parameter"]["Value"]
        iam.create_user(UserName=name)
        iam.attach_user_policy(UserName=name, PolicyArn=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        of_aws = {variable: value for variable, value in self.environment.items() if variable.startswith("AWS_")}
        yield of_aws | {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        iam.detach_user_policy(UserName=name, PolicyArn=policy)
        iam.delete_user(UserName=name)

    def reader_reads(self, secret: str) -> str:
        """What a reader gets for that secret: ``read``, or the code of the refusal."""
        with self.reader_user() as environment:
            try:
                self.client("secretsmanager", environment).get_secret_value(SecretId=secret)
            except ClientError as refused:
                return refused.response["Error"]["Code"]
        return "read"

    def refreshes_accepted(self) -> int:
        """How many refresh grants the stand-in has made."""
        return sum(event.call == "refresh_token" and event.outcome == "granted" for event in list(self.virtuous.events))

    def runs(self) -> list[Run]:
        """Every invocation of the refresher so far, from its log."""
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{STACK}")
        runs: list[Run] = []
        for message in (event["message"] for page in pages for event in page["events"]):
            line: Any = None
            with contextlib.suppress(ValueError):
                line = json.loads(message)
            if not isinstance(line, dict):
                continue
            if line.get("message") == "invoked" and not line["report"]:
                runs.append(Run(line["source"]))
            elif "outcome" in line:
                runs[-1].outcomes[line["connection"]] = line["outcome"]
        return runs

    def wait_for_the_schedule(self) -> Run:
        """The first run of the schedule that refreshed, from its log. StepFailed if there is none in three firings."""
        self.say("Wait for the schedule to find the token due")
        return self.wait(
            "a refresh", lambda: next((run for run in self.runs() if run.is_scheduled and run.has_refreshed), None)
        )

    def wait(self, what: str, look: Callable[[], Found | None], seconds: float = SECONDS_TO_REFRESH) -> Found:
        """What *look* finds, asked for twice a second. StepFailed once *seconds* are over."""
        deadline = time.monotonic() + seconds
        while (found := look()) is None:
            if time.monotonic() > deadline:
                raise StepFailed(f"waited {seconds:.0f} seconds for {what}; runs so far: {self.runs()}")
            time.sleep(0.5)  # what is waited for is another process's work: ask it twice a second, up to the deadline
        return found

    # Running commands

    def tool(self, name: str) -> str:
        """The path of a command beside this interpreter."""
        return str(Path(sys.executable).parent / name)

    def run(self, name: str, command: list[str], *, piped: str = "", environment: dict[str, str] | None = None) -> str:
        """Runs a command to its end and returns its standard output. StepFailed where its status is not 0.

        Both of its outputs go to a log of that name. *piped* goes to its standard input alone.
        """
        log = self.directory / f"{name}.log"
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with process_group(command, cwd=self.directory, env=environment or self.environment, **pipes) as process:
            try:
                output, errors = process.communicate(piped.encode(), SECONDS_FOR_A_COMMAND)
            except subprocess.TimeoutExpired:
                raise StepFailed(f"{name} took more than {SECONDS_FOR_A_COMMAND:.0f} seconds") from None
        log.write_bytes(output + errors)
        if process.returncode != 0:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise StepFailed(f"{name} ended with status {process.returncode}; see {log}\n{last}")
        return output.decode()


@contextlib.contextmanager
def open_world(directory: Path, say: Callable[[str], object] = lambda _: None) -> Iterator[World]:
    """Starts local AWS and stand-in; nothing is deployed yet. Logs go to *directory*, whose old content is removed."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    say("Start the local AWS, permissions enforced")
    with local_aws(directory) as endpoint, Virtuous(token_life_seconds=TOKEN_LIFE_SECONDS) as virtuous:
        environment = aws_environment(endpoint, os.environ, directory) | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # sam looks for python3.X there
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(directory / "sam"),
            "VIRTUOUS_BEARER_SECRET": "virtuous/default/bearer",
        }
        yield World(directory, virtuous, environment, say)
