"""Builds and deploys the proof's three stacks with the AWS SAM CLI, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .account import Account

__all__ = ["DeploymentFailed", "Stacks"]

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = {
    "stand-in": REPOSITORY / "proof" / "stand_in",
    "product": REPOSITORY,
    "reader": REPOSITORY / "examples" / "reader",
}
TEMPLATES = {which: folder / "template.yaml" for which, folder in FOLDERS.items()}
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
SECONDS_FOR_A_COMMAND = 900.0


class DeploymentFailed(Exception):
    """The AWS SAM CLI failed; the text names its log."""


@dataclass(frozen=True, slots=True)
class Stacks:
    """The stacks under *prefix*. Artefacts go to a bucket of the proof's own, so that nothing is left in another."""

    account: Account
    prefix: str
    directory: Path

    def name(self, which: str) -> str:
        """The name of the stack ``product``, ``stand-in`` or ``reader``."""
        return self.prefix if which == "product" else f"{self.prefix}-{which}"

    def deploy(self, which: str, parameters: Mapping[str, str]) -> Mapping[str, str]:
        """Builds, deploys and returns the stack's outputs. Raises DeploymentFailed."""
        built = self.directory / "build" / which
        # The quotes are for sam, which splits each of these once more.
        overrides = [f'{name}="{value}"' for name, value in {"PythonRuntime": RUNTIME, **parameters}.items()]
        self._sam(
            f"build-{which}",
            *("build", "--template-file", str(TEMPLATES[which]), "--base-dir", str(FOLDERS[which])),
            *("--build-dir", str(built)),
            *("--parameter-overrides", f"PythonRuntime={RUNTIME}"),
        )
        self._sam(
            f"deploy-{which}",
            *("deploy", "--template-file", str(built / "template.yaml"), "--stack-name", self.name(which)),
            *("--s3-bucket", self.bucket, "--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"),
            *("--no-confirm-changeset", "--no-progressbar", "--region", self.account.region),
            *("--parameter-overrides", *overrides),
        )
        (described,) = self.account.client("cloudformation").describe_stacks(StackName=self.name(which))["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}

    @property
    def bucket(self) -> str:
        """Where artefacts are uploaded; ``make_bucket`` makes it."""
        return f"{self.prefix}-artefacts"

    def make_bucket(self) -> None:
        region = self.account.region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self.account.client("s3").create_bucket(Bucket=self.bucket, **where)

    def built(self, which: str, resource: str) -> Path:
        """The folder of a function as ``sam build`` packed it."""
        return self.directory / "build" / which / resource

    def _sam(self, log_name: str, *arguments: str) -> None:
        beside = Path(sys.executable).parent
        log = self.directory / f"{log_name}.log"
        with log.open("wb") as output:
            done = subprocess.run(  # noqa: S603 (our own tool, and arguments of ours)
                [str(beside / "sam"), *arguments],
                cwd=self.directory,
                env={
                    **os.environ,
                    # "sam build" looks for the runtime's Python there.
                    "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}",
                    "SAM_CLI_TELEMETRY": "0",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SECONDS_FOR_A_COMMAND,
                check=False,
            )
        if done.returncode:
            raise DeploymentFailed(f"sam {arguments[0]} failed; its output is in {log}")
