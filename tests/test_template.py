"""template.yaml: its parameters admit only what works, and its resources are what they should be in every partition."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.transformed import transformed as transform
from token_refresher.notices import NEED_A_PERSON, SOURCE
from token_refresher.settings import Settings

yaml_helper: Any = importlib.import_module("samtranslator.yaml_helper")  # it has no types

ROOT = Path(__file__).parents[1]
TEMPLATE = (ROOT / "template.yaml").read_text()
PARAMETERS: dict[str, Any] = yaml_helper.yaml_parse(TEMPLATE)["Parameters"]
RECIPES = [(path.name, path.read_text()) for path in sorted((ROOT / "examples" / "notices").glob("*.yaml"))]


def pattern(parameter: str) -> re.Pattern[str]:
    """CloudFormation holds the whole value against it, by Java's rules, which are Python's for what these use."""
    return re.compile(PARAMETERS[parameter]["AllowedPattern"], re.ASCII)


@pytest.fixture(scope="module")
def transformed() -> dict[str, Any]:
    """The resources that CloudFormation gets from SAM."""
    resources: dict[str, Any] = transform()["Resources"]
    return resources


@given(
    prefix=st.from_regex(pattern("Prefix"), fullmatch=True),
    percent=st.from_regex(pattern("RefreshAtPercent"), fullmatch=True),
    base_url=st.from_regex(pattern("VirtuousBaseUrl"), fullmatch=True),
    key=st.from_regex(pattern("KmsKeyArn"), fullmatch=True),
    schedule=st.from_regex(pattern("Schedule"), fullmatch=True),
    proxy=st.from_regex(pattern("HttpsProxy"), fullmatch=True),
)
def test_whatever_a_parameter_admits_the_function_takes(
    prefix: str, percent: str, base_url: str, key: str, schedule: str, proxy: str
) -> None:
    """But for a host's part of more than 63 letters, and ports that there are not: the function names them."""
    for address in filter(None, (base_url, proxy)):
        _, host, port = f"{address}:443".split(":")[:3]
        assume(not re.search(r"[^.]{64}", host.lstrip("/")) and 0 < int(port) < 65536)
    settings = Settings.from_environment(
        {
            "SECRET_PREFIX": prefix,
            "REFRESH_AT_PERCENT": percent,
            "VIRTUOUS_BASE_URL": base_url,
            "KMS_KEY_ARN": key,
            "SCHEDULE_EXPRESSION": schedule,
            **({"HTTPS_PROXY": proxy} if proxy else {}),
        }
    )

    assert (settings.secret_prefix, settings.refresh_at_percent) == (prefix, int(percent))
    assert not prefix.startswith(("aws", "ssm"))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("Prefix", "aws-crm"),  # Systems Manager refuses parameters under such a name
        ("Prefix", "ssm"),
        ("Prefix", "-crm"),
        ("Prefix", "a" * 41),
        ("RefreshAtPercent", "33.3"),
        ("RefreshAtPercent", "9"),
        ("RefreshAtPercent", "81"),
        ("RefreshAtPercent", "050"),
        ("VirtuousBaseUrl", "http://api.virtuoussoftware.com"),
        ("VirtuousBaseUrl", "https://api.virtuoussoftware.com/"),
        ("VirtuousBaseUrl", "https://a..b"),
        ("ScheduleWindowMinutes", "61"),
        ("ScheduleWindowMinutes", "0.5"),
        ("VirtuousBaseUrl", "https://user@host"),
        ("Schedule", "rate(2 days)"),
        ("Schedule", "rate(0 hours)"),
        ("Schedule", "at(2026-11-25T12:00:00)"),
        ("Schedule", "cron(0 3 * * ?)"),
        ("HttpsProxy", "http://user:password@proxy:3128"),
        ("HttpsProxy", "https://proxy:3128"),
        ("VpcSubnetIds", "subnet-0123456789abcdef0, subnet-0123456789abcdef1"),
        ("PermissionsBoundaryArn", "boundary"),
        ("AlarmEmail", "nobody"),
    ],
)
def test_a_parameter_refuses_what_would_fail_later(parameter: str, value: str) -> None:
    assert not pattern(parameter).fullmatch(value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("Prefix", "virtuous"),
        ("Prefix", "crm-2"),
        ("Schedule", "rate(6 hours)"),
        ("Schedule", "rate(1 day)"),
        ("Schedule", "rate(1440 minutes)"),
        ("ScheduleWindowMinutes", "0"),
        ("ScheduleWindowMinutes", "60"),
        ("Schedule", "cron(0 3 * * ? *)"),
        ("VirtuousBaseUrl", "http://127.0.0.1:65432"),
        ("HttpsProxy", "http://proxy.example.org:3128"),
        ("PermissionsBoundaryArn", "arn:aws-us-gov:iam::123456789012:policy/team/boundary"),
        ("VpcSubnetIds", "subnet-0123456789abcdef0,subnet-0123456789abcdef1"),
        ("AlarmEmail", "on-call@example.org"),
    ],
)
def test_a_parameter_admits_what_works(parameter: str, value: str) -> None:
    assert pattern(parameter).fullmatch(value)


def test_every_default_is_admitted() -> None:
    refused = [
        name
        for name, parameter in PARAMETERS.items()
        if "AllowedPattern" in parameter and not pattern(name).fullmatch(str(parameter["Default"]))
    ]

    assert refused == []


def test_no_arn_names_a_partition() -> None:
    assert not re.findall(r"arn:aws:", TEMPLATE.replace("arn:aws[a-z-]*:", ""))


def test_every_role_has_the_permissions_boundary(transformed: dict[str, Any]) -> None:
    roles = {
        name: resource["Properties"] for name, resource in transformed.items() if resource["Type"] == "AWS::IAM::Role"
    }

    assert len(roles) == 2
    assert all("PermissionsBoundaryArn" in str(properties["PermissionsBoundary"]) for properties in roles.values())


def test_the_schedule_says_itself_what_it_sends(transformed: dict[str, Any]) -> None:
    (schedule,) = (r for r in transformed.values() if r["Type"] == "AWS::Scheduler::Schedule")

    assert schedule["Properties"]["Target"]["Input"] == '{"source": "aws.scheduler"}'


def test_the_key_is_used_through_secrets_manager_alone_in_every_partition() -> None:
    """KMS, "kms:ViaService": the service's name ends in amazonaws.com, in China as well."""
    conditions = re.findall(r'"kms:ViaService": !Sub "(.*)"', TEMPLATE)

    assert len(conditions) == TEMPLATE.count("kms:ViaService") == 3
    assert set(conditions) == {"secretsmanager.${AWS::Region}.amazonaws.com"}


def test_notices_reach_the_topic_by_a_statement_without_a_condition(transformed: dict[str, Any]) -> None:
    """EventBridge User Guide: it does not support Condition blocks in an SNS topic's policy."""
    statements = transformed["AlarmTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]

    conditions = {statement["Principal"]["Service"]: "Condition" in statement for statement in statements}
    assert conditions == {"events.amazonaws.com": False, "cloudwatch.amazonaws.com": True}


def test_the_rule_takes_every_notice_that_needs_a_person(transformed: dict[str, Any]) -> None:
    pattern = transformed["NoticeRule"]["Properties"]["EventPattern"]

    assert (pattern["source"], set(pattern["detail-type"])) == ([SOURCE], set(NEED_A_PERSON))


def test_the_dashboard_is_json_and_shows_every_alarm(transformed: dict[str, Any]) -> None:
    body = transformed["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]

    (shown,) = (w["properties"]["alarms"] for w in json.loads(body)["widgets"] if w["type"] == "alarm")

    alarms = [name for name, resource in transformed.items() if resource["Type"] == "AWS::CloudWatch::Alarm"]
    assert sorted(shown) == sorted(f"${{{name}.Arn}}" for name in alarms)


@pytest.mark.parametrize(("name", "recipe"), RECIPES, ids=[name for name, _ in RECIPES])
def test_a_recipe_is_a_template_that_cloudformation_takes(name: str, recipe: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(recipe)

    checked = subprocess.run(
        [Path(sys.executable).parent / "cfn-lint", path], capture_output=True, text=True, check=False
    )

    assert (checked.stdout, checked.returncode) == ("", 0)
