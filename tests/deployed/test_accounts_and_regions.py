"""The recipes of docs/accounts-and-regions.md, followed: another account, and a second Region.

Commands and policies are the page's own, with the local AWS's account and the names of the test in them. It knows no
secret of another account, so the reader here is of the same one, where a resource's policy lets in by itself.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.deployed.aws_command import run
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.people import ACCOUNT, Person, person_with
from tests.deployed.world import World
from tests.facts import refusal
from virtuous_token import TokenReader, VirtuousTokenError

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

PAGE = (REPOSITORY / "docs" / "accounts-and-regions.md").read_text()
BEARER = json.dumps({"version": 1, "access_token": "access-shared", "token_type": "Bearer"})
SECOND_REGION = "eu-west-1"


def policy(name: str) -> Any:
    (text,) = re.findall(rf"<!-- policy: {name} -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    return json.loads(re.sub("111122223333|444455556666", ACCOUNT, text))


def command(operation: str, connection: str) -> str:
    """The page's first command of that operation, for another connection, with its prefix, than the page's."""
    (_, found, *_) = re.split(rf"(aws secretsmanager {operation}[^`]*)", PAGE)
    return " ".join(found.split("\n```")[0].split()).replace("virtuous/default", connection)


def reads(person: Person, secret: str, region: str = "us-east-1") -> str:
    """The token that our reader gets, or why none."""
    try:
        return TokenReader(secret, client=person.client("secretsmanager", region)).token()
    except VirtuousTokenError as error:
        return type(error).__name__


def test_the_policies_let_the_named_role_read_and_nobody_else_and_nothing_more(
    empty_world: World, tmp_path: Path
) -> None:
    connection, manager = f"shared/{uuid4().hex[:8]}", empty_world.client("secretsmanager")
    arn = manager.create_secret(Name=f"{connection}/bearer", SecretString=BEARER)["ARN"]
    key = empty_world.client("kms").create_key()["KeyMetadata"]["Arn"]
    named, another = person_with(empty_world, name="reader"), person_with(empty_world)
    its_own = {**policy("key"), "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*"}
    del its_own["Condition"]

    (allowed,), before = policy("bearer")["Statement"], reads(named, arn)
    (tmp_path / "bearer.json").write_text(json.dumps(policy("bearer")))
    run(command("put-resource-policy", connection), manager, tmp_path)
    document = json.dumps({"Version": "2012-10-17", "Statement": [its_own, policy("key")]})
    empty_world.client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=document)

    assert (before, reads(named, arn), reads(another, arn)) == ("NotAllowed", "access-shared", "NotAllowed")
    theirs = named.client("secretsmanager")
    for attempt in (
        partial(theirs.put_secret_value, SecretId=arn, SecretString="{}"),
        partial(theirs.delete_secret, SecretId=arn),
        partial(theirs.delete_resource_policy, SecretId=arn),
        partial(named.client("kms").decrypt, KeyId=key, CiphertextBlob=b"-"),
    ):
        assert refusal(attempt) == "AccessDeniedException", attempt
    assert (policy("key")["Action"], policy("key")["Principal"]) == ("kms:Decrypt", allowed["Principal"])


def test_a_reader_of_the_second_region_reads_the_replica_alone(empty_world: World, tmp_path: Path) -> None:
    connection, manager = f"shared/{uuid4().hex[:8]}", empty_world.client("secretsmanager")
    name = manager.create_secret(Name=f"{connection}/bearer", SecretString=BEARER)["Name"]
    there = f"arn:aws:secretsmanager:{SECOND_REGION}:{ACCOUNT}:secret:{name}-??????"
    allowed = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": there}

    (with_a_key,) = re.findall(r"`--add-replica-regions [^`]*(,KmsKeyId=)ARN`", PAGE)
    run(f"{command('replicate-secret-to-regions', connection)}{with_a_key}alias/there", manager, tmp_path)
    (status,) = manager.describe_secret(SecretId=name)["ReplicationStatus"]
    reader = person_with(empty_world, document={"Version": "2012-10-17", "Statement": [allowed]})

    assert (status["Region"], status["KmsKeyId"]) == (SECOND_REGION, "alias/there")
    assert (reads(reader, name, SECOND_REGION), reads(reader, name)) == ("access-shared", "NotAllowed")
    with pytest.raises(ClientError, match="Unknown action"):  # of the local AWS; its options are botocore's
        run(command("remove-regions-from-replication", connection), manager, tmp_path)
