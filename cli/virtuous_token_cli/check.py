"""``virtuous-token check``: looks at everything that must be right, and says of each thing what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from token_refresher import __version__
from token_refresher.refresh.model import Unclear
from virtuous_token.secret_text import SecretText

from .aws import explained
from .check_connection import connection_findings
from .check_stack import StackChecks, alarm_findings
from .obtain import open_endpoint
from .remedies import CommandFailed, Run, aws_cli, ours, sam_deploy
from .stack import Report, Stack
from .words import Finding, Severity, fine

__all__ = ["run_checks"]

TOLERATED_SKEW = timedelta(minutes=2)
LOOKS_AT_A_TIME = 8


def run_checks(stack: Stack, report: Report | CommandFailed, now: datetime) -> tuple[list[Finding], list[Finding]]:
    """What was found about the stack, and about connections. *report* is one with proof, or why there is none.

    What may not be looked at is a finding that is not fine.
    """
    checks, settings = StackChecks(stack, now), report.settings if isinstance(report, Report) else {}
    looks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("stack", checks.of_stack),
        ("function", partial(_of_function, report)),
        ("environment", checks.of_environment),
        ("schedule", checks.of_schedule),
        ("last run", checks.of_last_run),
        ("role", checks.of_role),
        ("alarms", partial(alarm_findings, stack)),
        ("layer", checks.of_layer),
        ("Virtuous", partial(_of_virtuous, settings, now)),
        ("clock", partial(_of_clock, stack)),
        ("key", partial(_of_key, stack, settings)),
    ]
    found = report.connections if isinstance(report, Report) else []
    key = settings.get("kms_key_arn")
    about = [(one.name, partial(connection_findings, stack, key, one, now)) for one in found]
    with ThreadPoolExecutor(LOOKS_AT_A_TIME) as pool:
        of_stack = list(pool.map(lambda look: _guarded(stack, *look), looks))
        of_connections = list(pool.map(lambda look: _guarded(stack, *look), about))
    if isinstance(report, Report) and not found:
        of_connections.append([Finding("connections", "there is none yet", (ours("login"),))])
    return [finding for part in of_stack for finding in part], [each for part in of_connections for each in part]


def _guarded(stack: Stack, about: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except (ClientError, BotoCoreError) as error:
        failure = explained(error, stack.aws.log_in_again)
        return [Finding(about, f"could not be looked at: {failure}", failure.run)]
    except CommandFailed as failure:
        return [Finding(about, str(failure), failure.run)]


def _of_function(report: Report | CommandFailed) -> Iterator[Finding]:
    if isinstance(report, CommandFailed):
        yield Finding("function", str(report), report.run)
    elif report.version == __version__:
        yield fine("version", __version__)
    else:
        what = f"the function's is {report.version}, the command's {__version__}: from the newer one's checkout"
        yield Finding("version", what, (*sam_deploy(), Run(("pipx", "install", "--force", "./cli"))), Severity.LATER)


def _of_virtuous(settings: Mapping[str, Any], now: datetime) -> Iterator[Finding]:
    if not (base_url := settings.get("base_url")):
        return
    answer = open_endpoint(base_url, lambda: now).prove(SecretText("no-token"))
    if isinstance(answer, Unclear):
        remedy = "check this machine's network and proxy; for a proxy that opens TLS, SSL_CERT_FILE"
        yield Finding("Virtuous", f"{base_url} from here: {answer.reason}", (remedy,), Severity.LATER)
    else:
        yield fine("Virtuous", f"{base_url} answers from here")


def _of_clock(stack: Stack) -> Iterator[Finding]:
    answer = stack.aws.client("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"]
    skew = parsedate_to_datetime(answer["date"]) - datetime.now(UTC) if "date" in answer else timedelta()
    if abs(skew) <= TOLERATED_SKEW:
        yield fine("clock", "agrees with AWS's")
    else:
        remedy = "set this machine's clock, for instance with timedatectl set-ntp true"
        yield Finding("clock", f"{abs(round(skew.total_seconds()))} s away from AWS's", (remedy,), Severity.LATER)


def _of_key(stack: Stack, settings: Mapping[str, Any]) -> Iterator[Finding]:
    if not (key := settings.get("kms_key_arn")):
        return
    state = stack.aws.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
    said = f"{key.rpartition('/')[2]} is {state}"
    if state == "Enabled":
        yield fine("key", said)
        return
    enable, cancel = (aws_cli("kms", verb, "--key-id", key) for verb in ("enable-key", "cancel-key-deletion"))
    yield Finding("key", said, (cancel, enable) if state == "PendingDeletion" else (enable,))
