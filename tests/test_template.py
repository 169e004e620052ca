"""template.yaml: its parameters admit only what works, and its resources are what they should be in every partition."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.transformed import TEMPLATE, parsed, transformed
from token_refresher.notices import NEED_A_PERSON, SOURCE
from token_refresher.settings import Settings

TEXT = TEMPLATE.read_text()
PARAMETERS: dict[str, Any] = parsed()["Parameters"]
RESOURCES: dict[str, Any] = transformed()["Resources"]
# By parameter: what works, and what would fail later.
VALUES: dict[str, tuple[list[str], list[str]]] = {
    # Systems Manager refuses parameters whose names begin with aws or ssm.
    "Prefix": (["virtuous", "crm-2"], ["aws-crm", "ssm", "-crm", "a" * 41]),
    "RefreshAtPercent": (["10", "80"], ["33.3", "9", "81", "050"]),
    "VirtuousBaseUrl": (
        ["http://127.0.0.1:65432"],
        ["http://api.virtuoussoftware.com", "https://api.virtuoussoftware.com/", "https://a..b", "https://user@host"],
    ),
    "ScheduleWindowMinutes": (["0", "60"], ["61", "0.5"]),
    "Schedule": (
        ["rate(1 day)", "rate(1440 minutes)", "cron(0 3 * * ? *)"],
        ["rate(2 days)", "rate(0 hours)", "at(2026-11-25T12:00:00)", "cron(0 3 * * ?)"],
    ),
    "HttpsProxy": (["http://proxy.example.org:3128"], ["http://user:password@proxy:3128", "https://proxy:3128"]),
    "VpcSubnetIds": (["subnet-01234567,subnet-76543210"], ["subnet-01234567, subnet-76543210"]),
    "PermissionsBoundaryArn": (["arn:aws-us-gov:iam::123456789012:policy/team/boundary"], ["boundary"]),
    "AlarmEmail": (["on-call@example.org"], ["nobody"]),
}


def pattern(parameter: str) -> re.Pattern[str]:
    """CloudFormation holds the whole value against it, by Java's rules, which are Python's for what these use."""
    return re.compile(PARAMETERS[parameter]["AllowedPattern"], re.ASCII)


def of_type(kind: str) -> list[Any]:
    return [resource["Properties"] for resource in RESOURCES.values() if resource["Type"] == kind]


@pytest.mark.parametrize("parameter", VALUES)
def test_a_parameter_admits_what_works_and_refuses_what_would_fail_later(parameter: str) -> None:
    works, fails = VALUES[parameter]

    assert [value for value in works + fails if pattern(parameter).fullmatch(value)] == works


def test_every_default_is_admitted() -> None:
    for name, found in PARAMETERS.items():
        assert "AllowedPattern" not in found or pattern(name).fullmatch(found["Default"]), name


VARIABLES = {
    "SECRET_PREFIX": "Prefix",
    "REFRESH_AT_PERCENT": "RefreshAtPercent",
    "VIRTUOUS_BASE_URL": "VirtuousBaseUrl",
    "KMS_KEY_ARN": "KmsKeyArn",
    "SCHEDULE_EXPRESSION": "Schedule",
    "HTTPS_PROXY": "HttpsProxy",
}


@given(st.fixed_dictionaries({name: st.from_regex(pattern(one), fullmatch=True) for name, one in VARIABLES.items()}))
def test_whatever_a_parameter_admits_the_function_takes(variables: dict[str, str]) -> None:
    """But for a host's part of more than 63 letters, and ports that there are not: the function names them."""
    for address in filter(None, (variables["VIRTUOUS_BASE_URL"], variables["HTTPS_PROXY"])):
        _, host, port = f"{address}:443".split(":")[:3]
        assume(not re.search(r"[^.]{64}", host.lstrip("/")) and 0 < int(port) < 65536)

    settings = Settings.from_environment(variables)

    assert settings.secret_prefix == variables["SECRET_PREFIX"]
    assert settings.refresh_at_percent == int(variables["REFRESH_AT_PERCENT"])


def test_the_function_gets_the_parameters_and_hears_who_invokes_it() -> None:
    (function,), (schedule,) = of_type("AWS::Lambda::Function"), of_type("AWS::Scheduler::Schedule")

    passed = function["Environment"]["Variables"]
    expected = {**VARIABLES, "NO_PROXY": "NoProxy", "LOG_LEVEL": "LogLevel"}
    assert {name: passed[name] for name in expected} == {name: {"Ref": one} for name, one in expected.items()}
    assert schedule["Target"]["Input"] == '{"source": "aws.scheduler"}'


def test_the_template_serves_every_partition() -> None:
    """KMS, "kms:ViaService": the service's name ends in amazonaws.com, in China as well."""
    assert not re.findall(r"arn:aws:", TEXT.replace("arn:aws[a-z-]*:", ""))
    assert TEXT.count('"kms:ViaService": !Sub "secretsmanager.${AWS::Region}.amazonaws.com"') == 3
    assert TEXT.count("kms:ViaService") == 3


def test_nothing_that_a_deleted_stack_leaves_is_in_the_next_ones_way() -> None:
    """A name that is the stack's own is free again once the stack is gone, or its creation was rolled back."""
    kept = {name: found for name, found in RESOURCES.items() if found.get("DeletionPolicy", "Delete") != "Delete"}

    assert {found["Type"] for found in kept.values()} == {"AWS::Lambda::LayerVersion"}, "which AWS numbers"
    assert not of_type("AWS::SecretsManager::Secret")


def test_every_role_has_the_permissions_boundary() -> None:
    boundaries = [str(role["PermissionsBoundary"]) for role in of_type("AWS::IAM::Role")]

    assert ["PermissionsBoundaryArn" in boundary for boundary in boundaries] == [True, True]


def test_every_notice_that_needs_a_person_reaches_the_topic_or_the_queue() -> None:
    """EventBridge User Guide: it does not support Condition blocks in an SNS topic's policy."""
    (rule,), (topic,), (queue,) = map(of_type, ("AWS::Events::Rule", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy"))

    taken, (target,) = rule["EventPattern"], rule["Targets"]
    assert (taken["source"], set(taken["detail-type"])) == ([SOURCE], set(NEED_A_PERSON))
    statements = topic["PolicyDocument"]["Statement"]
    conditions = {statement["Principal"]["Service"]: "Condition" in statement for statement in statements}
    assert conditions == {"events.amazonaws.com": False, "cloudwatch.amazonaws.com": True}
    (statement,) = queue["PolicyDocument"]["Statement"]
    assert target["DeadLetterConfig"]["Arn"] == statement["Resource"]
    assert (statement["Principal"], statement["Action"]) == ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
    assert "NoticeRule" in str(statement["Condition"]["ArnEquals"]["aws:SourceArn"])


def test_the_dashboard_is_json_and_shows_every_alarm() -> None:
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard")

    widgets = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]
    (shown,) = (widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm")
    alarms = [name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::CloudWatch::Alarm"]
    assert sorted(shown) == sorted(f"${{{name}.Arn}}" for name in alarms)
