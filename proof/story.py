"""The product as a user deploys it, observed in an account: what runs, what readers get, and what happens to faults.

Each function is one observation and raises NotAsExpected where it saw something else. They are made in the order of
``SUBJECTS``; a later one may need the login of an earlier one.
"""

from __future__ import annotations

import io
import json
import re
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .account import assumed_role
from .deployment import CONNECTION, Deployment
from .observations import Observation, Seen, aws_code, expect, observe

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["REFRESH_AT_PERCENT", "SUBJECTS", "TOKEN_LIFE_SECONDS", "tell"]

# The access token is due after 10 % of this less up to 5 %, so half a minute to a minute after it was issued.
TOKEN_LIFE_SECONDS = 600
REFRESH_AT_PERCENT = 10
# A function that is killed after this many seconds believes that it has longer: long enough that it begins a refresh.
KILLED_AFTER_SECONDS = 20
BELIEVED_SECONDS = 150
# A dead holder's claim can be taken over at the end of the time that it believed to have, and a minute.
SECONDS_TO_RECOVER = BELIEVED_SECONDS + 60 + 60
# Lambda repeats a failed asynchronous invocation after one and after two minutes.
SECONDS_TO_DEAD_LETTER = 420
SECONDS_FOR_METRICS = 300
SECONDS_FOR_AN_ALARM = 600


def a_person_logs_in(deployed: Deployment) -> Seen:
    output = deployed.command("login", lines=(deployed.user, deployed.password))
    bearer = deployed.described("bearer")
    expect("AWSCURRENT" in bearer, "a published bearer", "none")
    return Seen(f"virtuous-token login ended with status 0 and {len(output)} characters of output")


def secrets_have_our_key(deployed: Deployment) -> Seen:
    for kind in ("tokens", "bearer"):
        described = deployed.account.client("secretsmanager").describe_secret(SecretId=deployed.secret(kind))
        expect(described.get("KmsKeyId") == deployed.key_arn, f"our key on {kind}", "another key")
    return Seen("both secrets are encrypted with the key that the stack was given")


def the_schedule_fires_by_itself(deployed: Deployment) -> Seen:
    run = deployed.wait("a run by the schedule", 240, lambda: deployed.log(source="aws.scheduler"))
    return Seen("the function took EventBridge Scheduler's event", {"scheduled_runs": len(run)})


def a_due_pair_is_refreshed_and_published(deployed: Deployment) -> Seen:
    refreshed = deployed.wait("a refresh", 300, lambda: deployed.log(outcome="refreshed"))
    labels = {kind: deployed.described(kind).get("AWSCURRENT") for kind in ("tokens", "bearer")}
    expect(labels["tokens"] == labels["bearer"], "the bearer in step with the pair", "it is not")
    return Seen(
        "the schedule found the pair due; the refresh was published under the pair's version id",
        {"refreshes": len(refreshed)},
    )


def the_schedule_can_be_disabled(deployed: Deployment) -> Seen:
    """From here on only the proof asks for runs, so that it can count them."""
    client = deployed.account.client("scheduler")
    schedule = client.get_schedule(Name=deployed.function)
    kept = ("Name", "GroupName", "Target", "ScheduleExpression", "FlexibleTimeWindow")
    client.update_schedule(**{name: schedule[name] for name in kept if name in schedule}, State="DISABLED")
    state = client.get_schedule(Name=deployed.function)["State"]
    expect(state == "DISABLED", "the state DISABLED", state)
    return Seen("EventBridge Scheduler tells the state DISABLED, which the command's check shows")


def a_reader_gets_200_and_no_pair(deployed: Deployment) -> Seen:
    answer = deployed.invoke(f"{deployed.prefix}-reader", {})
    expect(answer.get("status") == 200, "200 for the reader", f"{answer.get('status')}")
    parameter = deployed.account.client("ssm").get_parameter(Name=f"/{deployed.prefix}/reader-policy-arn")
    policy = parameter["Parameter"]["Value"]
    with assumed_role(deployed.account.session, f"{deployed.prefix}-as-reader", policy_arn=policy) as reader:
        bearer = deployed.wait(
            "the policy", 60, lambda: not aws_code(partial(_read, reader, deployed, "bearer")) or None
        )
        pair = aws_code(partial(_read, reader, deployed, "tokens"))
    expect(bearer and pair == "AccessDeniedException", "AccessDeniedException for the pair", pair or "its value")
    return Seen("with layer and policy the reader got 200; the policy allows the bearer and is refused the pair")


def _read(reader: SecretsManagerClient, deployed: Deployment, kind: str) -> object:
    return reader.get_secret_value(SecretId=deployed.secret(kind))


def two_runs_at_once_spend_one_token(deployed: Deployment) -> Seen:
    before = deployed.counts([{"delay_seconds": 8}])
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: deployed.invoke(deployed.function, deployed.forced), range(2)))
    outcomes = sorted(answer["outcomes"][CONNECTION] for answer in answers)
    after = deployed.counts()
    granted, refused = (after[f"refresh {word}"] - before[f"refresh {word}"] for word in ("granted", "refused"))
    expect((granted, refused) == (1, 0), "one refresh granted and none refused", f"{granted} and {refused}")
    return Seen(f"the outcomes were {' and '.join(outcomes)}; the provider saw one refresh token, once")


def a_killed_function_is_recovered(deployed: Deployment) -> Seen:
    """A copy of the function that is killed between claim and answer; the refresh token it sent stays live."""
    name = f"{deployed.prefix}-killed"
    _make_copy_that_is_killed(deployed, name)
    try:
        deployed.counts([{"delay_seconds": 2 * KILLED_AFTER_SECONDS, "status": 503}])
        answer, error = deployed.invocation(name, deployed.forced)
    finally:
        deployed.account.client("lambda").delete_function(FunctionName=name)
    expect("timed out" in error.lower(), "the copy was ended by its time-out", error or f"{answer.get('outcomes')}")
    before = deployed.counts()
    seconds = _seconds_until_refreshed(deployed)
    after = deployed.counts()
    expect(after["refresh refused"] == before["refresh refused"], "no refusal", "a refused refresh token")
    return Seen("killed between claim and answer; a later run refreshed", {"seconds_to_recover": seconds})


def a_notice_arrives(deployed: Deployment) -> Seen:
    """The provider refuses the refresh token once: a person is needed, and then logs in."""
    deployed.counts([{"status": 400}, {"status": 400}, {"status": 400}])
    deployed.invocation(deployed.function, deployed.forced)
    text = deployed.wait("a notice", 240, partial(deployed.notice, "login"))
    expect(CONNECTION in text, "the connection's name in the notice", "it is missing")
    deployed.counts([])
    deployed.command("login", lines=(deployed.user, deployed.password))
    return Seen(f"a queue subscribed to the topic received a notice of {len(text)} characters with the name")


def a_run_that_fails_is_accepted(deployed: Deployment) -> Seen:
    """Begun early: Lambda's two repetitions take three minutes, in which a dead holder's claim runs out as well."""
    accepted = deployed.account.client("lambda").invoke(
        FunctionName=deployed.function, InvocationType="Event", Payload=b'{"unknown": true}'
    )
    expect(accepted["StatusCode"] == 202, "status 202", str(accepted["StatusCode"]))
    return Seen("an asynchronous invocation with an event that the function refuses was accepted")


def failed_runs_reach_the_queue(deployed: Deployment) -> Seen:
    queue = deployed.resource("FailedRuns")
    message = deployed.wait(
        "a message at the on-failure queue", SECONDS_TO_DEAD_LETTER, partial(deployed.message, queue)
    )
    content = json.loads(message)
    attempts = content.get("requestContext", {}).get("approximateInvokeCount", 0)
    return Seen("an event that the function refuses reached the on-failure queue", {"attempts": attempts})


def an_alarm_goes_red_and_green(deployed: Deployment) -> Seen:
    """The alarm on failed runs saw the message of the observation before; clearing the queue ends it."""
    alarm = deployed.alarm_on("FailedRuns")
    red = _seconds_until_alarm(deployed, alarm, "ALARM")
    deployed.account.client("sqs").purge_queue(QueueUrl=deployed.resource("FailedRuns"))
    green = _seconds_until_alarm(deployed, alarm, "OK")
    return Seen("the alarm on failed runs rang and ended", {"seconds_to_red": red, "seconds_to_green": green})


def metrics_arrive(deployed: Deployment) -> Seen:
    def arrived() -> list[str] | None:
        listed = deployed.account.client("cloudwatch").list_metrics(Namespace="VirtuousToken")["Metrics"]
        names = {
            metric["MetricName"]
            for metric in listed
            if any(dimension["Value"] == deployed.function for dimension in metric["Dimensions"])
        }
        return sorted(names) or None

    names = deployed.wait("metrics of the function", SECONDS_FOR_METRICS, arrived)
    return Seen(f"CloudWatch extracted {', '.join(names)} from log lines", {"metrics": len(names)})


def durations_and_memory(deployed: Deployment) -> Seen:
    lines = deployed.wait("REPORT lines", 120, lambda: deployed.log_messages('"REPORT RequestId"'))
    reports = [_report(line) for line in lines]
    warm = [report["duration_ms"] for report in reports if "init_ms" not in report]
    cold = [report["init_ms"] for report in reports if "init_ms" in report]
    architecture = deployed.account.client("lambda").get_function_configuration(FunctionName=deployed.function)
    expect(bool(warm and cold), "cold and warm invocations", f"{len(cold)} cold, {len(warm)} warm")
    figures: dict[str, int | float | str] = {
        "cold_init_ms": statistics.median(cold),
        "warm_median_ms": statistics.median(warm),
        "warm_longest_ms": max(warm),
        "peak_memory_mb": max(report["memory_mb"] for report in reports),
    }
    return Seen(f"{len(reports)} invocations on {architecture['Architectures'][0]}", figures)


def _make_copy_that_is_killed(deployed: Deployment, name: str) -> None:
    """The deployed function's code, role, layers and environment, with a context that promises too much time."""
    client = deployed.account.client("lambda")
    configured = client.get_function_configuration(FunctionName=deployed.function)
    client.create_function(
        FunctionName=name,
        Runtime=configured["Runtime"],
        Role=configured["Role"],
        Handler="killed.lambda_handler",
        Code={"ZipFile": _zipped(deployed.stacks.built("product", "TokenRefresher"))},
        Timeout=KILLED_AFTER_SECONDS,
        MemorySize=configured["MemorySize"],
        Layers=[layer["Arn"] for layer in configured.get("Layers", [])],
        Environment={"Variables": configured["Environment"]["Variables"]},
        Architectures=configured.get("Architectures", ["x86_64"]),
        LoggingConfig={"LogGroup": f"/aws/lambda/{deployed.function}"},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)


def _seconds_until_alarm(deployed: Deployment, alarm: str, state: str) -> float:
    def reached() -> bool | None:
        (described,) = deployed.account.client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
        return described["StateValue"] == state or None

    began = time.monotonic()
    deployed.wait(f"the alarm to be {state}", SECONDS_FOR_AN_ALARM, reached)
    return time.monotonic() - began


def _seconds_until_refreshed(deployed: Deployment) -> float:
    began = time.monotonic()

    def refreshed() -> bool | None:
        answer, _ = deployed.invocation(deployed.function, deployed.forced)
        return answer.get("outcomes", {}).get(CONNECTION) == "refreshed" or None

    deployed.wait("a run that refreshes", SECONDS_TO_RECOVER, refreshed, pause=5.0)
    return time.monotonic() - began


SUBJECTS: Mapping[str, Callable[[Deployment], Seen]] = {
    "a person logs in with the command": a_person_logs_in,
    "the secrets have the stack's own key": secrets_have_our_key,
    "the schedule fires by itself and the function takes its event": the_schedule_fires_by_itself,
    "a due pair is refreshed and published": a_due_pair_is_refreshed_and_published,
    "the schedule can be disabled": the_schedule_can_be_disabled,
    "a reader gets 200 and is refused the pair": a_reader_gets_200_and_no_pair,
    "two runs at once spend one token": two_runs_at_once_spend_one_token,
    "a run that fails is accepted": a_run_that_fails_is_accepted,
    "a function killed in the middle is recovered": a_killed_function_is_recovered,
    "a notice reaches whoever subscribed": a_notice_arrives,
    "a run that fails for good reaches the queue": failed_runs_reach_the_queue,
    "an alarm goes red and green": an_alarm_goes_red_and_green,
    "metrics arrive": metrics_arrive,
    "durations and memory": durations_and_memory,
}


def tell(deployed: Deployment, *, missing_here: Mapping[str, str]) -> Iterator[Observation]:
    """One observation for each subject, in turn. *missing_here*: the reason, by subject, why it cannot be had."""
    for subject, look in SUBJECTS.items():
        deployed.say(f"Observe: {subject}")
        yield observe(subject, partial(look, deployed), missing_here=missing_here.get(subject, ""))


_KILLED = f"""
from token_refresher import handler


class Promising:
    def __init__(self, context):
        self._context = context

    def __getattr__(self, name):
        return getattr(self._context, name)

    def get_remaining_time_in_millis(self):
        return {BELIEVED_SECONDS * 1000}


def lambda_handler(event, context):
    return handler.lambda_handler(event, Promising(context))
"""


def _zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder))
        archive.writestr("killed.py", _KILLED)
    return content.getvalue()


def _report(line: str) -> dict[str, float]:
    """Lambda's REPORT line: durations in milliseconds, memory in MB."""
    patterns = {
        "duration_ms": r"\tDuration: ([0-9.]+) ms",
        "memory_mb": r"Max Memory Used: ([0-9]+) MB",
        "init_ms": r"Init Duration: ([0-9.]+) ms",
    }
    found = {name: re.search(pattern, line) for name, pattern in patterns.items()}
    return {name: float(match[1]) for name, match in found.items() if match}
