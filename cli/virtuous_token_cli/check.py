"""``virtuous-token check``: looks at everything that must be right, and says of each thing what mends it.

CloudFormation leaves a resource alone whose template did not change, whatever a person did to it. So what was changed
by hand is put right by the service's own command; what is too long for one, by a change set that reverts drift.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from token_refresher import __version__

from .aws import FAILURES, code_of, explained
from .check_connection import connection_findings
from .options import FAILED, Session
from .remedies import CommandFailed, Remedy, Run, aws_cli, ours, sam_deploy
from .screen import say, working
from .show import lines_of
from .stack import MissingConnection, Report, Stack, now
from .words import Finding, Severity, days_and_hours, fine, told

LOOKS_AT_A_TIME = 8
# What the function's role must allow, as template.yaml grants it.
FUNCTION_NEEDS = {
    "secretsmanager:{region}:{account}:secret:{prefix}/any/tokens-a1B2c3": (
        "GetSecretValue ListSecretVersionIds PutSecretValue"
    ),
    "secretsmanager:{region}:{account}:secret:{prefix}/any/bearer-a1B2c3": (
        "DescribeSecret ListSecretVersionIds PutSecretValue UpdateSecretVersionStage"
    ),
    "events:{region}:{account}:event-bus/default": "PutEvents",
}
# On condition that the events are our own.
SOURCE = {"ContextKeyName": "events:source", "ContextKeyType": "string", "ContextKeyValues": ["virtuous.token"]}
# The function's variables that are parameters of the stack.
PARAMETER_OF = {
    "SECRET_PREFIX": "Prefix",
    "VIRTUOUS_BASE_URL": "VirtuousBaseUrl",
    "REFRESH_AT_PERCENT": "RefreshAtPercent",
    "SCHEDULE_EXPRESSION": "Schedule",
    "KMS_KEY_ARN": "KmsKeyArn",
    "LOG_LEVEL": "LogLevel",
    "HTTPS_PROXY": "HttpsProxy",
    "NO_PROXY": "NoProxy",
}
# The others that the template sets.
FIXED_VARIABLES = ("POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME")
# The alarm of silence rings after a day; an hour more is the schedule's own window.
LONGEST_SILENCE = timedelta(hours=25)


def check(session: Session, names: Sequence[str]) -> int:
    """Says what was found, and returns the exit status."""
    stack = session.stack()
    with working("Looking at everything, and asking Virtuous about each token"):
        try:
            report: Report | CommandFailed = stack.report_of_existing(names, prove=True)
        except MissingConnection:
            raise
        except CommandFailed as failure:
            report = failure
        of_stack, of_connections = _findings(stack, report)
    say(f"Checking {session.asked()}")
    findings = [*(told([finding])[0] for finding in of_stack), *told(of_connections)]
    for found in findings:
        mark = "fine   " if found.severity is Severity.FINE else "WRONG  "
        for line in lines_of(found, session.named, "       ", "run: ", mark):
            say(line)
    wrong = sum(found.severity is not Severity.FINE for found in findings)
    say(f"{wrong} to mend." if wrong else "All is well.")
    return FAILED if wrong else 0


def _findings(stack: Stack, report: Report | CommandFailed) -> tuple[list[Finding], list[Finding]]:
    """What was found about the stack, and about connections. *report* is one with proof, or why there is none.

    What may not be looked at is a finding that is not fine.
    """
    connections = report.connections if isinstance(report, Report) else []
    key = report.document["settings"].get("kms_key_arn") if isinstance(report, Report) else None
    with ThreadPoolExecutor(LOOKS_AT_A_TIME) as pool:
        of_stack = [pool.submit(_guarded, stack, look.__name__[4:].replace("_", " "), look, stack) for look in LOOKS]
        of_stack.insert(1, pool.submit(_guarded, stack, "function", _of_function, report))
        of_connections = [
            pool.submit(_guarded, stack, one.name, connection_findings, stack, key, one, now()) for one in connections
        ]
    about_connections = [finding for look in of_connections for finding in look.result()]
    if isinstance(report, Report) and not connections:
        about_connections = [Finding("connections", "there is none yet", (ours("login"),))]
    return [finding for look in of_stack for finding in look.result()], about_connections


def _guarded(stack: Stack, about: str, look: Callable[..., Iterable[Finding]], *at: object) -> list[Finding]:
    try:
        return list(look(*at))
    except FAILURES as error:
        failure = explained(error, stack.aws)
        return [Finding(about, f"could not be looked at: {failure}", failure.run)]


def _of_stack(stack: Stack) -> Iterator[Finding]:
    name, status = stack.name, stack.described["StackStatus"]
    if status.endswith("_COMPLETE") and "ROLLBACK" not in status:
        yield fine("stack", f"{name} is {status}")
        return
    why = aws_cli("cloudformation", "describe-stack-events", "--stack-name", name)
    again = aws_cli("cloudformation", "continue-update-rollback", "--stack-name", name)
    before = (again,) if status == "UPDATE_ROLLBACK_FAILED" else ()
    then = "when it has ended, and what this names is mended:"
    yield Finding("stack", f"{name} is {status}", (why, then, *before, *sam_deploy(name)))


def _of_function(report: Report | CommandFailed) -> Iterator[Finding]:
    if isinstance(report, CommandFailed):
        yield Finding("function", str(report), report.run)
    elif (version := report.document["version"]) == __version__:
        yield fine("version", __version__)
    else:
        what = f"the function's is {version}, the command's {__version__}: from the newer one's checkout"
        yield Finding("version", what, (*sam_deploy(), Run(("pipx", "install", "--force", "./cli"))), Severity.LATER)


def _of_environment(stack: Stack) -> Iterator[Finding]:
    """Drift of the function's variables from the stack's parameters."""
    parameters = stack.parameters
    variables: dict[str, str] = stack.configuration.get("Environment", {}).get("Variables", {})
    wanted = {name: parameters[given] for name, given in PARAMETER_OF.items() if given in parameters}
    wrong = {name: value for name, value in wanted.items() if variables.get(name, "") != value}
    if not wrong:
        yield fine("environment", f"the function has the stack's parameters; Virtuous is {wanted['VIRTUOUS_BASE_URL']}")
        return
    if set(variables) <= {*PARAMETER_OF, *FIXED_VARIABLES}:
        document = json.dumps({"Variables": variables | wanted})
        remedy: Remedy = _update_function(stack, "--environment", document)
    else:  # a stranger's variable may be a secret, which is not to be printed
        changes = ", ".join(f"{name} to {value!r}" for name, value in wrong.items())
        remedy = f"in the console of Lambda, {stack.function}, Configuration, Environment variables: set {changes}"
    yield Finding("environment", f"{', '.join(wrong)} not as the stack's parameters say", (remedy,))


def _update_function(stack: Stack, *options: str) -> Run:
    return aws_cli("lambda", "update-function-configuration", "--function-name", stack.function, *options)


def _of_schedule(stack: Stack) -> Iterator[Finding]:
    try:
        schedule = stack.aws.client("scheduler").get_schedule(Name=stack.function)
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        yield Finding("schedule", f"there is no schedule {stack.function}", _revert_drift(stack))
        return
    wanted = stack.parameters["Schedule"]
    said = f"{schedule['ScheduleExpression']}, {schedule['State'].lower()}"
    if schedule["State"] == "ENABLED" and schedule["ScheduleExpression"] == wanted:
        yield fine("schedule", said)
    else:
        is_other = "" if schedule["ScheduleExpression"] == wanted else f", and the stack's parameter is {wanted}"
        mended = schedule | {"State": "ENABLED", "ScheduleExpression": wanted}
        yield Finding("schedule", said + is_other, (_update_schedule(mended),))


def _update_schedule(schedule: Mapping[str, Any]) -> Run:
    """With everything that it has: what is left out would get its default."""
    kept = ("ScheduleExpressionTimezone", "Description", "StartDate", "EndDate", "KmsKeyArn", "ActionAfterCompletion")
    words = ["scheduler", "update-schedule"]
    for key in ("Name", "GroupName", "ScheduleExpression", *kept, "State", "FlexibleTimeWindow", "Target"):
        if (value := schedule.get(key)) is not None:
            text = json.dumps(value) if isinstance(value, dict) else value
            words += [f"--{xform_name(key, '-')}", text.isoformat() if isinstance(text, datetime) else text]
    return aws_cli(*words)


def _of_last_run(stack: Stack) -> Iterator[Finding]:
    """By the function's log, in which each run says what asked for it."""
    group, since = f"/aws/lambda/{stack.function}", int((now() - LONGEST_SILENCE).timestamp() * 1000)
    pages = stack.aws.client("logs").get_paginator("filter_log_events")
    found = pages.paginate(logGroupName=group, filterPattern='"aws.scheduler"', startTime=since)
    if instants := [event["timestamp"] for page in found for event in page["events"]]:
        yield fine("last run", f"{days_and_hours(now() - datetime.fromtimestamp(max(instants) / 1000, UTC))} ago")
    elif now() - stack.aws.client("scheduler").get_schedule(Name=stack.function)["CreationDate"] < timedelta(days=1):
        yield fine("last run", "none yet, the schedule is new")
    else:
        meanwhile = "if the schedule is fine and its role may invoke the function, this says more:"
        why = aws_cli("logs", "tail", group, "--since", "2d")
        yield Finding("last run", "the schedule has not run it for a day", (meanwhile, why))


def _of_role(stack: Stack) -> Iterator[Finding]:
    role = str(stack.configuration["Role"])
    _, partition, _, _, account, *_ = role.split(":")
    denied = []
    for resource, actions in FUNCTION_NEEDS.items():
        named = resource.format(region=stack.aws.region, account=account, prefix=stack.prefix)
        results = stack.aws.client("iam").simulate_principal_policy(
            PolicySourceArn=role,
            ActionNames=[f"{resource.partition(':')[0]}:{action}" for action in actions.split()],
            ResourceArns=[f"arn:{partition}:{named}"],
            ContextEntries=[SOURCE],
        )["EvaluationResults"]
        where = named.rpartition(":")[2].replace("/any/", "/*/").removesuffix("-a1B2c3")
        denied += [f"{found['EvalActionName']} on {where}" for found in results if found["EvalDecision"] != "allowed"]
    if denied:
        yield Finding("role", f"the function may not {', '.join(denied)}", _revert_drift(stack))
    else:
        yield fine("role", "allows what the function needs")


def _revert_drift(stack: Stack) -> tuple[Remedy, ...]:
    """What makes anew what is gone, and puts right what was changed by hand: a drift-aware change set.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html
    """
    named = ("--stack-name", stack.name, "--change-set-name", "revert-drift")
    as_it_is = ("--use-previous-template", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
    parameters = [f"ParameterKey={key},UsePreviousValue=true" for key in stack.parameters]
    mode = ("--deployment-mode", "REVERT_DRIFT", "--parameters", *parameters)
    return (
        "CloudFormation puts back what somebody changed, with the rights of whoever deploys:",
        aws_cli("cloudformation", "create-change-set", *named, *as_it_is, *mode),
        aws_cli("cloudformation", "wait", "change-set-create-complete", *named),
        aws_cli("cloudformation", "execute-change-set", *named),
    )


def _of_alarms(stack: Stack) -> Iterator[Finding]:
    """Which are gone, which are muted, which ring, and whether somebody hears them."""
    pages = stack.aws.client("cloudwatch").get_paginator("describe_alarms")
    found = pages.paginate(AlarmNamePrefix=f"{stack.function}-", AlarmTypes=["MetricAlarm"])
    alarms = sorted((alarm for page in found for alarm in page["MetricAlarms"]), key=lambda alarm: alarm["AlarmName"])
    there = [alarm["AlarmName"] for alarm in alarms]
    missing = ", ".join(sorted({*stack.made("AWS::CloudWatch::Alarm")} - {*there})) or ("" if there else "all")
    muted = [alarm["AlarmName"] for alarm in alarms if not alarm.get("ActionsEnabled", True)]
    ringing = ", ".join(alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM")
    if missing:
        yield Finding("alarms", f"missing: {missing}", _revert_drift(stack))
    if muted:
        unmute = aws_cli("cloudwatch", "enable-alarm-actions", "--alarm-names", *muted)
        yield Finding("alarms", f"they tell nobody: {', '.join(muted)}", (unmute,))
    if ringing:
        yield Finding("alarms", f"ringing: {ringing}", ("what each means and what ends it: docs/run-book.md",))
    if not (missing or muted or ringing):
        yield fine("alarms", f"{len(alarms)}, none rings")
    topics = {action for alarm in alarms for action in alarm["AlarmActions"] if ":sns:" in action}
    if alarms and not topics:
        remedies = sam_deploy(stack.name, "--parameter-overrides", "AlarmEmail=you@example.org")
        yield Finding("topic", "alarms and notices reach nobody", ("with your address:", *remedies))
    for topic in sorted(topics):
        yield _topic_finding(stack, topic)


def _topic_finding(stack: Stack, topic: str) -> Finding:
    name = topic.rpartition(":")[2]
    pages = stack.aws.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    subscriptions = [subscription for page in pages for subscription in page["Subscriptions"]]
    pending = [found["Endpoint"] for found in subscriptions if not found["SubscriptionArn"].startswith("arn:")]
    if pending:
        return Finding("topic", f"{name}: not confirmed by {', '.join(pending)}", ("open the link in AWS's e-mail",))
    if subscriptions:
        plural = "" if len(subscriptions) == 1 else "s"
        return fine("topic", f"{name} has {len(subscriptions)} confirmed subscription{plural}")
    words = ("--topic-arn", topic, "--protocol", "email", "--notification-endpoint", "you@example.org")
    subscribe = aws_cli("sns", "subscribe", *words)
    return Finding("topic", f"nobody is subscribed to {name}", ("with your address:", subscribe))


def _of_layer(stack: Stack) -> Iterator[Finding]:
    name = f"/{stack.prefix}/reader-layer-arn"
    offered = stack.aws.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    made = next(iter(stack.made("AWS::Lambda::LayerVersion")), offered)
    used = [layer["Arn"] for layer in stack.configuration.get("Layers", ())]
    if offered == made and made in used:
        yield fine("layer", f"readers are given version {made.rpartition(':')[2]}, which the function uses as well")
    if offered != made:
        put = aws_cli("ssm", "put-parameter", "--name", name, "--value", made, "--overwrite")
        what = f"readers are given {offered}, and the stack made {made}"
        yield Finding("layer", what, (put, "then deploy the readers again"))
    if made not in used:
        others = [arn for arn in used if arn.rpartition(":")[0] != made.rpartition(":")[0]]
        what = f"the function uses {', '.join(used) or 'none'}, and the stack made {made}"
        yield Finding("layer", what, (_update_function(stack, "--layers", made, *others),))


def _of_key(stack: Stack) -> Iterator[Finding]:
    if not (key := stack.parameters.get("KmsKeyArn")):
        return
    try:
        state = stack.aws.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
    except ClientError as error:
        if code_of(error) != "NotFoundException":
            raise
        state = "gone"
    said, enable = f"{key.rpartition('/')[2]} is {state}", aws_cli("kms", "enable-key", "--key-id", key)
    remedies: tuple[Remedy, ...] = (enable,)
    if state == "Enabled":
        yield fine("key", said)
        return
    if state == "PendingDeletion":
        remedies = (aws_cli("kms", "cancel-key-deletion", "--key-id", key), enable)
    elif state != "Disabled":
        other = sam_deploy(stack.name, "--parameter-overrides", "KmsKeyArn=ANOTHER")
        remedies = ("deploy with another key, move each secret to it, and log in again:", *other)
    yield Finding("key", said, remedies)


# In the order in which they are told; each is told as what its name says.
LOOKS = (_of_stack, _of_environment, _of_schedule, _of_last_run, _of_role, _of_alarms, _of_layer, _of_key)
