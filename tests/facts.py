"""What AWS Secrets Manager must do for the refresher's journal, stated once.

Asked of the strict fake, of moto where it agrees, of the local AWS, and by the proof of a real account. Sources: the
Secrets Manager API Reference; where AWS documents nothing the fact says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any, NamedTuple
from uuid import uuid4

from botocore.exceptions import ClientError

CURRENT, PREVIOUS, CUSTOM = "AWSCURRENT", "AWSPREVIOUS", "REFRESHING"
WRITERS = 16
# A read may be older than a write that was answered, for seconds; a listing for minutes (ListSecrets).
SECONDS_FOR_A_READ = 30.0
SECONDS_FOR_A_LISTING = 300.0


def refusal(call: Callable[[], object]) -> str:
    """The AWS code that *call* is refused with, ``success`` if it is not."""
    try:
        call()
    except ClientError as refused:
        return refused.response["Error"]["Code"]
    return "success"


class Secret(NamedTuple):
    """A secret, and a client to ask about it."""

    client: Any
    name: str

    def put(self, value: str, *labels: str, version: str | None = None) -> str:
        """A new version's id. Without *labels* the put names none."""
        stages = {"VersionStages": labels} if labels else {}
        asked = {"SecretId": self.name, "SecretString": value, "ClientRequestToken": version or str(uuid4())}
        return str(self.client.put_secret_value(**asked, **stages)["VersionId"])

    def value(self, **version: str) -> str:
        return str(self.client.get_secret_value(SecretId=self.name, **version)["SecretString"])

    def move(self, label: str, to: str, away: str | None = None) -> object:
        asked = {"VersionStage": label, "MoveToVersionId": to} | ({"RemoveFromVersionId": away} if away else {})
        return self.client.update_secret_version_stage(SecretId=self.name, **asked)

    def labels(self) -> dict[str, str]:
        """The version of each label. One label on two versions is an AssertionError."""
        described = self.client.describe_secret(SecretId=self.name).get("VersionIdsToStages", {})
        pairs = [(label, version) for version, labels in described.items() for label in labels]
        assert len(pairs) == len(dict(pairs)), f"a label is on two versions: {described}"
        return dict(pairs)

    def labels_become(self, expected: dict[str, str]) -> None:
        becomes(self.labels, expected)


def refused(code: str, *calls: Callable[[], object]) -> None:
    for call in calls:
        seen = refusal(call)
        assert seen == code, f"expected {code}, seen {seen}"


def becomes(look: Callable[[], object], expected: object, seconds: float | None = None) -> None:
    """A read that is older than the write before it is repeated, at longer and longer intervals."""
    deadline, pause = time.monotonic() + (SECONDS_FOR_A_READ if seconds is None else seconds), 0.01
    while (seen := look()) != expected:
        assert time.monotonic() < deadline, f"expected {expected}, seen {seen}"
        time.sleep(pause)  # another system's work is waited for: it can only be asked
        pause = min(pause * 2, 2.0)


class Stated(Secret):
    """Each method states a fact by its name. AssertionError says what was seen instead."""

    def a_secret_made_without_a_value_has_no_version(self) -> None:
        """CreateSecret: without SecretString or SecretBinary there is no version."""
        assert self.labels() == {}
        refused("ResourceNotFoundException", self.value)

    def the_first_version_is_current_whatever_its_label(self) -> None:
        """PutSecretValue: AWSCURRENT is attached to the first version of a secret."""
        first = self.put("1", CUSTOM)
        self.labels_become({CURRENT: first, CUSTOM: first})

    def a_version_is_written_once(self) -> None:
        """PutSecretValue, ClientRequestToken."""
        first = self.put("1")
        refused("ResourceExistsException", lambda: self.put("2", version=first))
        assert self.value(VersionId=first) == "1"

    def the_same_put_again_moves_no_label(self) -> None:
        """PutSecretValue, ClientRequestToken: the operation succeeds but does nothing."""
        first, second, third = self.put("1"), self.put("2", CUSTOM), self.put("3", CUSTOM)
        assert self.put("2", CUSTOM, CURRENT, version=second) == second
        self.labels_become({CURRENT: first, CUSTOM: third})

    def a_put_takes_its_labels_from_the_versions_that_held_them(self) -> None:
        """PutSecretValue, VersionStages. AWSCURRENT stays where it is not named; AWSPREVIOUS follows it."""
        first, second = self.put("1"), self.put("2", CUSTOM)
        self.labels_become({CURRENT: first, CUSTOM: second})
        third = self.put("3", CURRENT, CUSTOM)
        self.labels_become({CURRENT: third, CUSTOM: third, PREVIOUS: first})
        fourth = self.put("4")
        self.labels_become({CURRENT: fourth, CUSTOM: third, PREVIOUS: third})

    def a_version_without_a_label_is_listed_when_asked_and_read(self) -> None:
        """ListSecretVersionIds, IncludeDeprecated; GetSecretValue, VersionId."""
        first, *others = [self.put(value) for value in "123"]
        assert self.value(VersionId=first) == "1"

        def listed() -> set[str]:
            answer = self.client.list_secret_version_ids(SecretId=self.name, IncludeDeprecated=True)
            return {entry["VersionId"] for entry in answer["Versions"] if entry["CreatedDate"]}

        becomes(listed, {first, *others})

    def a_label_moves_only_from_where_it_is(self) -> None:
        """UpdateSecretVersionStage: a compare and swap without idempotency, whatever the label."""
        first, second, third = self.put("1"), self.put("2", CUSTOM), self.put("3", "OTHER")
        moves = [(label, third, away) for label in (CURRENT, CUSTOM) for away in (third, None)]
        refused("InvalidParameterException", *(partial(self.move, *move) for move in moves))
        self.labels_become({CURRENT: first, CUSTOM: second, "OTHER": third})
        self.move(CURRENT, second, first)
        refused("InvalidParameterException", lambda: self.move(CURRENT, second, first))
        self.labels_become({CURRENT: second, PREVIOUS: first, CUSTOM: second, "OTHER": third})
        becomes(self.value, "2")

    def a_read_tells_all_labels_of_its_version(self) -> None:
        """GetSecretValue and BatchGetSecretValue, VersionStages. A batch gives AWSCURRENT alone."""
        self.put("1")
        version = self.put("2", CURRENT, CUSTOM)
        self.put("3", "OTHER")

        def told() -> list[tuple[str, list[str]]]:
            one = self.client.get_secret_value(SecretId=self.name, VersionStage=CURRENT)
            answers = [one, *self.client.batch_get_secret_value(SecretIdList=[self.name])["SecretValues"]]
            return [(answer["VersionId"], sorted(answer["VersionStages"])) for answer in answers]

        becomes(told, [(version, [CURRENT, CUSTOM])] * 2)

    def what_is_not_there_is_not_found(self) -> None:
        """GetSecretValue and DescribeSecret, ResourceNotFoundException; BatchGetSecretValue, Errors."""
        self.put("1")
        unknown, code, client = str(uuid4()), "ResourceNotFoundException", self.client
        refused(code, lambda: self.value(VersionId=unknown), lambda: self.value(VersionStage=CUSTOM))
        refused(code, lambda: client.describe_secret(SecretId=f"{self.name}-{unknown}"))
        answer = client.batch_get_secret_value(SecretIdList=[self.name, f"{self.name}-{unknown}"])
        assert [entry["Name"] for entry in answer["SecretValues"]] == [self.name]
        assert [entry["ErrorCode"] for entry in answer["Errors"]] == [code]

    def a_name_is_given_once(self) -> None:
        """CreateSecret, ResourceExistsException."""
        refused("ResourceExistsException", lambda: self.client.create_secret(Name=self.name))

    def a_deletion_can_be_undone(self) -> None:
        """InvalidRequestException of each operation; DescribeSecret, DeletedDate; RestoreSecret."""
        first, second = self.put("1"), self.put("2")

        def is_marked() -> bool:
            return "DeletedDate" in self.client.describe_secret(SecretId=self.name)

        self.client.delete_secret(SecretId=self.name, RecoveryWindowInDays=7)
        becomes(is_marked, True)
        move = partial(self.move, CURRENT, first, second)
        refused("InvalidRequestException", self.value, lambda: self.put("3"), move)
        self.client.restore_secret(SecretId=self.name)
        becomes(is_marked, False)
        self.labels_become({CURRENT: second, PREVIOUS: first})
        assert self.value() == "2"

    def a_listing_tells_deletions_when_asked(self) -> None:
        """ListSecrets, Filters, IncludePlannedDeletion and SecretVersionsToStages."""
        version = self.put("1")

        def listed(*, planned: bool) -> dict[str, dict[str, list[str]]]:
            pages = self.client.get_paginator("list_secrets").paginate(
                IncludePlannedDeletion=planned, Filters=[{"Key": "name", "Values": [self.name]}]
            )
            entries = [entry for page in pages for entry in page["SecretList"]]
            return {entry["Name"]: dict(entry.get("SecretVersionsToStages", {})) for entry in entries}

        becomes(lambda: listed(planned=False), {self.name: {version: [CURRENT]}}, SECONDS_FOR_A_LISTING)
        self.client.delete_secret(SecretId=self.name, RecoveryWindowInDays=7)
        both: object = ({}, {self.name})
        becomes(lambda: (listed(planned=False), listed(planned=True).keys()), both, SECONDS_FOR_A_LISTING)

    def one_of_many_simultaneous_puts_wins(self) -> None:
        """Not documented: simultaneous puts with one ClientRequestToken and different data. May be asked repeatedly."""
        version, together = str(uuid4()), Barrier(WRITERS)

        def race(value: str) -> str:
            together.wait()
            later = ("ThrottlingException", "InternalServiceError")
            while (code := refusal(lambda: self.put(value, CUSTOM, version=version))) in later:
                time.sleep(0.2)  # asked to come back later: the put is not judged yet
            return code

        with ThreadPoolExecutor(WRITERS) as pool:
            codes = list(pool.map(race, map(str, range(WRITERS))))
        winners = [str(writer) for writer, code in enumerate(codes) if code == "success"]
        assert len(winners) == 1, f"{len(winners)} of {WRITERS} puts won"
        becomes(lambda: self.value(VersionId=version), winners[0])


class Fact(NamedTuple):
    name: str

    def check(self, client: Any, secret: str) -> None:
        """AssertionError where it does not hold for *secret*, which exists and has no value."""
        getattr(Stated(client, secret), self.name.replace(" ", "_"))()


FACTS = [Fact(method.replace("_", " ")) for method in vars(Stated) if not method.startswith("_")]
