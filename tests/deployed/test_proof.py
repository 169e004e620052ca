"""``make prove`` on the local AWS: it works in one account, shows or marks each observation, and leaves nothing."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from proof.__main__ import main, refused_by_virtuous
from proof.account import WHERE, Account, AnotherAccount
from proof.cleanup import FAMILY, TAG, clean
from tests.deployed.local_aws import REGION, REPOSITORY
from tests.deployed.proof_on_local_aws import NOT_TO_BE_HAD
from tests.deployed.story import STEPS
from tests.deployed.world import StepFailed, World
from tests.fakes.virtuous import bad_gateway

pytestmark = pytest.mark.deployed

COMMAND = [sys.executable, "-m", "tests.deployed.proof_on_local_aws", "run", "--yes", "--profile", "other"]
# The local AWS takes an access key of twelve digits for the administrator's of that account.
DEFAULT, OTHER = "000000000000", "111122223333"
PROFILE = f"[profile other]\nregion = {REGION}\naws_access_key_id = {OTHER}\naws_secret_access_key = none\n"

LISTED = [
    ("cloudformation", "describe_stacks", "Stacks"),
    ("secretsmanager", "list_secrets", "SecretList"),
    ("sns", "list_topics", "Topics"),
    ("lambda", "list_functions", "Functions"),
    ("lambda", "list_layers", "Layers"),
    ("iam", "list_roles", "Roles"),
    ("logs", "describe_log_groups", "logGroups"),
]


@pytest.fixture
def environment(empty_world: World, tmp_path: Path) -> dict[str, str]:
    """Static keys of the default account, and beside them a profile of another."""
    (tmp_path / "config").write_text(PROFILE)
    return empty_world.environment | {"AWS_CONFIG_FILE": str(tmp_path / "config")}


@pytest.fixture
def account(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Account:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Account.of("other", None)


def left(account: Account) -> list[str]:
    """What has a proof's prefix, and the keys that carry the tag and do not wait for their deletion."""
    found = [entry for service, ask, entries in LISTED for entry in account.pages(service, ask, entries)]
    found += account.client("s3").list_buckets()["Buckets"] + account.client("sqs").list_queues().get("QueueUrls", [])
    ours = [str(one) for one in found if FAMILY in str(one) and "DELETE_COMPLETE" not in str(one)]
    return ours + keys(account, "Enabled")


def keys(account: Account, state: str) -> list[str]:
    """Those that carry the tag."""
    kms, ids = account.client("kms"), [key["KeyId"] for key in account.pages("kms", "list_keys", "Keys")]
    ours = [key for key in ids if any(tag["TagKey"] == TAG for tag in kms.list_resource_tags(KeyId=key)["Tags"])]
    return [key for key in ours if kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == state]


def test_a_profile_counts_for_the_proof_and_for_what_it_starts(account: Account) -> None:
    assert account.number == OTHER
    assert (account.environment["AWS_PROFILE"], account.environment["AWS_REGION"]) == ("other", REGION)
    assert "AWS_ACCESS_KEY_ID" not in account.environment
    assert OTHER not in repr(account)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"AWS_ACCESS_KEY_ID": DEFAULT, "AWS_SECRET_ACCESS_KEY": "none"}, id="another account"),
        pytest.param({"AWS_DEFAULT_REGION": "eu-west-1"}, id="another Region"),
        pytest.param({"AWS_PROFILE": "nobody"}, id="no account at all"),
    ],
)
def test_nothing_is_made_if_a_command_would_work_elsewhere(account: Account, changed: dict[str, str]) -> None:
    account.environment.update(changed)
    with pytest.raises(AnotherAccount) as refused:
        account.compare()
    assert OTHER not in str(refused.value)


@pytest.mark.parametrize(
    ("where", "said_yes", "status"),
    [
        pytest.param(f"print('{DEFAULT}', '{REGION}')", ["--yes"], 1, id="a command would work in another account"),
        pytest.param(WHERE, [], 2, id="nobody said yes"),
    ],
)
def test_nothing_is_made_before_accounts_are_compared_and_somebody_says_yes(
    account: Account, monkeypatch: pytest.MonkeyPatch, where: str, said_yes: list[str], status: int
) -> None:
    monkeypatch.setattr("proof.account.WHERE", where)
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert main(["run", "--profile", "other", *said_yes]) == status
    assert left(account) == []


def test_clean_finds_by_the_tag_what_has_no_name_of_a_proof(account: Account) -> None:
    """As a run leaves it that was killed right after it had made something."""
    name, tag = uuid4().hex, f"{FAMILY}killed"
    kms, s3, sqs = (account.client(service) for service in ("kms", "s3", "sqs"))
    of_others, key = (
        kms.create_key(Tags=[{"TagKey": tagged, "TagValue": tag}])["KeyMetadata"]["KeyId"] for tagged in ("other", TAG)
    )
    sqs.create_queue(QueueName=name, tags={TAG: tag})
    s3.create_bucket(Bucket=name)
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": TAG, "Value": tag}]})

    assert clean(account, FAMILY, lambda _: None) == []

    assert key in keys(account, "PendingDeletion")
    assert sqs.list_queues().get("QueueUrls", []) == s3.list_buckets()["Buckets"] == []
    assert kms.describe_key(KeyId=of_others)["KeyMetadata"]["KeyState"] == "Enabled"
    said: list[str] = []
    assert clean(account, FAMILY, said.append) == said == []


def test_clean_touches_only_what_is_a_proofs(account: Account) -> None:
    with pytest.raises(ValueError, match="are a proof's"):
        clean(account, "virtuous", print)


def test_virtuous_is_asked_with_a_token_that_never_existed(empty_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proof.__main__.VIRTUOUS", empty_world.virtuous.base_url)
    assert refused_by_virtuous() == "it was refused (invalid_grant)"
    empty_world.virtuous.script(bad_gateway())
    with pytest.raises(StepFailed, match="expected: refused"):
        refused_by_virtuous()


@pytest.mark.campaign
def test_everything_is_shown_or_marked_with_the_reason_in_the_profiles_account_alone(
    account: Account, environment: dict[str, str], tmp_path: Path
) -> None:
    """The notice goes through the stack's own rule and topic: a step of the story."""
    default = dataclasses.replace(account, session=boto3.Session(DEFAULT, "none", region_name=REGION))
    asked = [*COMMAND, "--directory", str(tmp_path)]
    done = subprocess.run(asked, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)

    page = (tmp_path / "report.md").read_text()
    verdicts = dict(re.findall(r"^\| (.*?) \| (shown|not shown|not to be had here) \|", page, re.MULTILINE))
    assert [subject for subject, verdict in verdicts.items() if verdict == "not shown"] == [], done.stdout
    assert {subject for subject, verdict in verdicts.items() if verdict != "shown"} == NOT_TO_BE_HAD.keys()
    assert STEPS.keys() <= verdicts.keys()
    assert done.returncode == 3, done.stderr
    assert (DEFAULT in page, OTHER in page) == (False, False)
    assert (left(account), left(default)) == ([], [])
    assert (keys(account, "PendingDeletion") != [], keys(default, "PendingDeletion")) == (True, [])


@pytest.mark.campaign
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "a kill, and clean"])
def test_a_run_that_is_ended_leaves_nothing(
    account: Account, environment: dict[str, str], tmp_path: Path, how: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--directory", str(tmp_path)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A program that is started in the background ignores Ctrl-C, and so do those that it starts.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    with process:
        prefix = next(found[1] for line in process.stdout if (found := re.search(f"({FAMILY}[0-9a-f]+)", line)))
        assert any("sam build (reader)" in line for line in process.stdout)
        schedule = account.client("scheduler").get_schedule(Name=f"{prefix}-token-refresher")
        assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}, "when it fires is known"
        assert len(left(account)) > 3
        send = os.killpg if how is signal.SIGKILL else os.kill
        send(process.pid, how)
        process.stdout.read()
    if how is signal.SIGKILL:
        assert clean(account, FAMILY, print) == []
    else:
        assert process.returncode == 130
    assert left(account) == []
