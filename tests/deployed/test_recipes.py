"""The programs of docs/reading.md against the deployed stack, with no more than the reader policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.deployed.world import World
from tests.recipes import PROGRAMS, run

pytestmark = pytest.mark.deployed

USER = "somebody-who-reads"


@pytest.fixture(scope="module")
def reader_environment(deployed_world: World) -> Iterator[dict[str, str]]:
    """What points a program at the local AWS as a user who has the stack's reader policy alone."""
    iam, ssm = deployed_world.client("iam"), deployed_world.client("ssm")
    policy = ssm.get_parameter(Name="/virtuous/reader-policy-arn")["Parameter"]["Value"]
    iam.create_user(UserName=USER)
    iam.attach_user_policy(UserName=USER, PolicyArn=policy)
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    administrators = {name: value for name, value in deployed_world.environment.items() if name.startswith("AWS_")}
    yield administrators | {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "NO_PROXY": "127.0.0.1,localhost",
    }
    iam.delete_access_key(UserName=USER, AccessKeyId=key["AccessKeyId"])
    iam.detach_user_policy(UserName=USER, PolicyArn=policy)
    iam.delete_user(UserName=USER)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reads_the_token_and_calls_virtuous(
    name: str, deployed_world: World, reader_environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(name, deployed_world.virtuous.base_url, reader_environment, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("Example Relief\n", "", 0)


def test_the_same_user_may_not_read_the_pair(deployed_world: World, reader_environment: dict[str, str]) -> None:
    client = boto3.client(
        "secretsmanager",
        endpoint_url=reader_environment["AWS_ENDPOINT_URL"],
        region_name=reader_environment["AWS_REGION"],
        aws_access_key_id=reader_environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=reader_environment["AWS_SECRET_ACCESS_KEY"],
    )
    with pytest.raises(ClientError) as refused:
        client.get_secret_value(SecretId="virtuous/default/tokens")
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
