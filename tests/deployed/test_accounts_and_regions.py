"""The recipes of docs/accounts-and-regions.md, followed: another account, and a second Region.

Commands and policies are the page's own, with the local AWS's account and the names of the test in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.deployed.aws_command import run
from tests.deployed.local_aws import REPOSITORY
from tests.deployed.people import ACCOUNT, Person, person_with
from tests.deployed.world import STACK, World
from virtuous_token import TokenReader, VirtuousTokenError

pytestmark = [pytest.mark.deployed, pytest.mark.campaign]

PAGE = (REPOSITORY / "docs" / "accounts-and-regions.md").read_text()
THERE = "444455556666"
SECOND_REGION = "eu-west-1"
VALUE = json.dumps({"version": 1, "access_token": "access-shared", "token_type": "Bearer"})


def policy(name: str) -> Any:
    (text,) = re.findall(rf"<!-- policy: {name} -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    return json.loads(text.replace("111122223333", ACCOUNT))


def command(operation: str, connection: str) -> str:
    """The page's first command of that operation, for another connection than the page's."""
    (_, found, *_) = re.split(rf"(aws secretsmanager {operation}[^`]*)", PAGE)
    return " ".join(found.split("\n```")[0].split()).replace("/default/", f"/{connection}/")


def allow(**resources: str) -> Mapping[str, Any]:
    """A policy of a reader's own."""
    actions = {"read": "secretsmanager:GetSecretValue", "decrypt": "kms:Decrypt", "write": "secretsmanager:*"}
    statements = [
        {"Effect": "Allow", "Action": actions[kind], "Resource": resource} for kind, resource in resources.items()
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def reads(person: Person, secret: str, region: str = "us-east-1") -> str:
    """The token that our reader gets, or why none."""
    try:
        return TokenReader(secret, client=person.client("secretsmanager", region)).token()
    except VirtuousTokenError as error:
        return type(error).__name__


@dataclass(frozen=True, slots=True)
class Shared:
    """A bearer secret under a key of its own, and what the page has somebody do to it."""

    world: World
    connection: str
    arn: str
    key: str
    directory: Path

    def reader(self, name: str = "reader", account: str = THERE, **allowed: str) -> Person:
        """Somebody of the other account with the role of the page, and what the page says that it needs."""
        iam = self.world.client("iam", self.world.environment | {"AWS_ACCESS_KEY_ID": account})
        for role in iam.list_roles()["Roles"]:
            if role["RoleName"] == name:
                iam.delete_role_policy(RoleName=name, PolicyName="inline")
                iam.delete_role(RoleName=name)
        document = allow(**(allowed or {"read": self.arn, "decrypt": self.key}))
        return person_with(self.world, document=document, account=account, name=name)

    def share_key(self, *statements: object) -> None:
        """Adds *statements* to the key's own."""
        account = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
        its_own = {"Effect": "Allow", "Principal": account, "Action": "kms:*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [its_own, *statements]})
        self.world.client("kms").put_key_policy(KeyId=self.key, PolicyName="default", Policy=document)

    def share_secret(self) -> None:
        (self.directory / "bearer.json").write_text(json.dumps(policy("bearer")))
        run(command("put-resource-policy", self.connection), self.manager, self.directory)

    @property
    def manager(self) -> Any:
        return self.world.client("secretsmanager")


@pytest.fixture
def shared(empty_world: World, tmp_path: Path) -> Iterator[Shared]:
    connection, key = f"shared-{uuid4().hex[:8]}", empty_world.client("kms").create_key()["KeyMetadata"]["Arn"]
    name = f"virtuous/{connection}/bearer"
    made = empty_world.client("secretsmanager").create_secret(Name=name, SecretString=VALUE, KmsKeyId=key)
    yield Shared(empty_world, connection, made["ARN"], key, tmp_path)
    empty_world.client("secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def test_a_reader_in_another_account_needs_all_three_permissions_and_the_whole_arn(shared: Shared) -> None:
    shared.share_key(policy("key"))
    shared.share_secret()
    reader = shared.reader()

    assert reads(reader, shared.arn) == "access-shared"

    assert reads(reader, f"virtuous/{shared.connection}/bearer") == "NotAllowed", "a name is of one's own account"
    assert reads(shared.reader(decrypt=shared.key), shared.arn) == "NotAllowed"
    assert reads(shared.reader(read=shared.arn), shared.arn) == "NotAllowed"
    assert reads(shared.reader("reader-2", read=shared.arn, decrypt=shared.key), shared.arn) == "NotAllowed"
    reader = shared.reader()
    shared.share_key()
    assert reads(reader, shared.arn) == "NotAllowed", "without the key's statement"
    shared.share_key(policy("key"))
    assert reads(reader, shared.arn) == "access-shared"
    shared.manager.delete_resource_policy(SecretId=shared.arn)
    assert reads(reader, shared.arn) == "NotAllowed", "without the secret's policy"


def test_a_reader_in_another_account_only_reads(shared: Shared) -> None:
    """Whatever its own policy allows: and the key serves it through Secrets Manager alone."""
    shared.share_key(policy("key"))
    shared.share_secret()
    reader = shared.reader(write=shared.arn, decrypt="*")
    manager = reader.client("secretsmanager")

    with pytest.raises(ClientError) as refused:
        reader.client("kms").decrypt(KeyId=shared.key, CiphertextBlob=b"-")
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    for operation, more in (
        ("put_secret_value", {"SecretString": "{}"}),
        ("delete_secret", {}),
        ("put_resource_policy", {"ResourcePolicy": "{}"}),
    ):
        with pytest.raises(ClientError) as refused:
            getattr(manager, operation)(SecretId=shared.arn, **more)
        assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    assert reads(reader, shared.arn) == "access-shared"


def test_a_secret_under_awss_own_key_cannot_be_shared(shared: Shared) -> None:
    shared.share_key(policy("key"))
    shared.share_secret()
    shared.manager.update_secret(SecretId=shared.arn, KmsKeyId="alias/aws/secretsmanager")

    with pytest.raises(ClientError) as refused:
        shared.reader().client("secretsmanager").get_secret_value(SecretId=shared.arn)
    assert refused.value.response["Error"]["Code"] == "InvalidRequestException"


def test_a_replica_follows_each_refresh_and_cannot_be_written(deployed_world: World, tmp_path: Path) -> None:
    deployed_world.log_in("replicated")
    manager, name = deployed_world.client("secretsmanager"), "virtuous/replicated/bearer"

    run(command("replicate-secret-to-regions", "replicated"), manager, tmp_path)
    reader = person_with(
        deployed_world, document=allow(read=f"arn:aws:secretsmanager:{SECOND_REGION}:{ACCOUNT}:secret:{name}-??????")
    )
    first, first_there = current(manager, name), reads(reader, name, SECOND_REGION)
    deployed_world.invoke(STACK, {"connections": ["replicated"], "force": True})
    second, second_there = current(manager, name), reads(reader, name, SECOND_REGION)

    assert first != second
    assert (first_there, second_there) == (first, second)
    assert reads(reader, name) == "NotAllowed", "in the first Region"
    administrator = person_with(deployed_world, document=allow(write="*")).client("secretsmanager", SECOND_REGION)
    with pytest.raises(ClientError) as refused:
        administrator.put_secret_value(SecretId=name, SecretString="{}")
    assert refused.value.response["Error"]["Code"] != "AccessDeniedException"
    assert reads(reader, name, SECOND_REGION) == second


def current(manager: Any, name: str) -> str:
    token: str = json.loads(manager.get_secret_value(SecretId=name)["SecretString"])["access_token"]
    return token


def test_a_replica_is_read_with_a_key_of_its_region(shared: Shared) -> None:
    anything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    there = person_with(shared.world, document=anything)
    key = there.client("kms", SECOND_REGION).create_key()["KeyMetadata"]["Arn"]
    (option,) = re.findall(r"`(--add-replica-regions [^`]*KmsKeyId=ARN)`", PAGE)
    with_key = command("replicate-secret-to-regions", shared.connection).partition(" --add-replica-regions")[0]

    run(f"{with_key} {option.replace('KmsKeyId=ARN', f'KmsKeyId={key}')}", shared.manager, shared.directory)

    arn = shared.arn.replace("us-east-1", SECOND_REGION)
    reader = person_with(shared.world, document=allow(read=arn, decrypt=key))
    assert reads(reader, arn, SECOND_REGION) == "access-shared"
    lacking = person_with(shared.world, document=allow(read=arn, decrypt=shared.key))
    assert reads(lacking, arn, SECOND_REGION) == "NotAllowed"
