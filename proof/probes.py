"""The facts of Secrets Manager that the journal stands on, each asked of the real service.

Every probe makes its own secrets under the prefix that it is given and leaves them to ``cleanup.py``. The values that
it stores are numbers, never tokens. Sources: the Secrets Manager API reference and its "Quotas" page; where AWS
documents nothing the probe says so.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
from botocore.config import Config

from .account import assumed_role
from .observations import Observation, Seen, aws_code, expect, observe

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["Extent", "probe_secrets_manager"]

CURRENT, PREVIOUS, CUSTOM = "AWSCURRENT", "AWSPREVIOUS", "REFRESHING"
WRITERS = 16
# Secrets Manager keeps about 100 versions of a secret, and a round makes one.
ROUNDS_A_SECRET = 50
# An IAM policy reaches all of Secrets Manager within seconds, as a rule (IAM user guide, on eventual consistency).
SECONDS_FOR_A_POLICY = 60.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is asked. *rounds* of simultaneous puts; *reads* right after a put; *rates* in writes a second."""

    rounds: int = 200
    reads: int = 40
    rates: Sequence[int] = (20, 40, 50, 60, 80, 120)
    seconds_a_rate: float = 4.0


@dataclass(frozen=True, slots=True)
class Probes:
    """The probes over one client without repetition by the SDK; names are made under *prefix*."""

    client: SecretsManagerClient
    session: boto3.Session
    prefix: str
    extent: Extent

    def one_of_many_puts_wins(self) -> Seen:
        """Not documented by AWS: simultaneous puts with one ClientRequestToken and different data."""
        refusals: Counter[str] = Counter()
        secret = ""
        with ThreadPoolExecutor(WRITERS) as pool:
            for number in range(self.extent.rounds):
                if number % ROUNDS_A_SECRET == 0:
                    secret = self._secret(f"race-{number // ROUNDS_A_SECRET}", first="0")
                winners, codes, stored = self._race(pool, secret)
                refusals.update(codes)
                expect(winners == [stored], f"exactly one of {WRITERS} puts wins", f"{len(winners)} won")
        return Seen(
            f"in each of {self.extent.rounds} rounds one of {WRITERS} simultaneous puts won, and its value is stored",
            {"rounds": self.extent.rounds, "refusals": dict(refusals)},
        )

    def _race(self, pool: ThreadPoolExecutor, secret: str) -> tuple[list[str], list[str], str]:
        version, together = str(uuid4()), Barrier(WRITERS)

        def put(value: str) -> str:
            together.wait()
            while True:
                code = aws_code(lambda: self._put(secret, value, CUSTOM, version=version))
                if code not in ("ThrottlingException", "InternalServiceError"):
                    return code
                time.sleep(0.2)  # asked to come back later: the put is not judged yet

        codes = list(pool.map(put, map(str, range(WRITERS))))
        stored = self.client.get_secret_value(SecretId=secret, VersionId=version)["SecretString"]
        return [str(i) for i, code in enumerate(codes) if not code], [code for code in codes if code], stored

    def the_same_put_again_moves_no_label(self) -> Seen:
        secret = self._secret("again", first="1")
        version = self._put(secret, "2", CUSTOM)
        self._put(secret, "3", CUSTOM)
        self._put(secret, "2", CUSTOM, version=version)
        labels = self._labels(secret)
        expect(labels.get(CUSTOM) != version, "the label stays on the newer version", "it moved back")
        code = aws_code(lambda: self._put(secret, "4", CUSTOM, version=version))
        expect(code == "ResourceExistsException", "ResourceExistsException for other data", code or "success")
        return Seen("the same data again changed nothing; other data was refused with ResourceExistsException")

    def one_put_moves_two_labels(self) -> Seen:
        secret = self._secret("labels", first="1")
        self._put(secret, "2", CUSTOM)
        version = self._put(secret, "3", CURRENT, CUSTOM)
        labels = self._labels(secret)
        expect(labels.get(CURRENT) == labels.get(CUSTOM) == version, "both labels on the new version", _shape(labels))
        expect(PREVIOUS in labels, "AWSPREVIOUS on the version before", _shape(labels))
        return Seen("one put took AWSCURRENT and a custom label from two versions, and AWSPREVIOUS followed")

    def the_first_version_is_current(self) -> Seen:
        secret = self._secret("first")
        version = self._put(secret, "1", CUSTOM)
        labels = self._labels(secret)
        expect(labels.get(CURRENT) == version, "AWSCURRENT on the first version", _shape(labels))
        return Seen(f"a first put with a custom label alone ended with {_shape(labels)}")

    def current_moves_only_from_where_it_is(self) -> Seen:
        secret = self._secret("swap", first="1")
        first = self._labels(secret)[CURRENT]
        second, third = self._put(secret, "2", "AWSPENDING"), self._put(secret, "3", CUSTOM)

        def move(to: str, away: str) -> str:
            return aws_code(
                lambda: self.client.update_secret_version_stage(
                    SecretId=secret, VersionStage=CURRENT, MoveToVersionId=to, RemoveFromVersionId=away
                )
            )

        wrong = move(second, third)
        expect(wrong == "InvalidParameterException", "InvalidParameterException", wrong or "success")
        right = move(second, first)
        labels = self._labels(secret)
        expect(not right and labels.get(CURRENT) == second, "the label on the second version", right or _shape(labels))
        expect(labels.get(PREVIOUS) == first, "AWSPREVIOUS on the first version", _shape(labels))
        return Seen("a move from the wrong version was refused; from the right one AWSPREVIOUS moved along")

    def reads_tell_all_labels(self) -> Seen:
        secret = self._secret("stages", first="1")
        self._put(secret, "2", CURRENT, CUSTOM)
        single = self.client.get_secret_value(SecretId=secret, VersionStage=CURRENT)["VersionStages"]
        batch = self.client.batch_get_secret_value(SecretIdList=[secret])["SecretValues"][0]["VersionStages"]
        for name, labels in (("GetSecretValue", single), ("BatchGetSecretValue", batch)):
            expect(set(labels) == {CURRENT, CUSTOM}, f"{name} tells both labels", f"{sorted(labels)}")
        return Seen("GetSecretValue and BatchGetSecretValue told both labels of the version that they gave")

    def an_unknown_version_is_not_found(self) -> Seen:
        secret = self._secret("unknown", first="1")
        code = aws_code(lambda: self.client.get_secret_value(SecretId=secret, VersionId=str(uuid4())))
        expect(code == "ResourceNotFoundException", "ResourceNotFoundException", code or "success")
        return Seen("GetSecretValue of a version that does not exist: ResourceNotFoundException")

    def deletion_can_be_undone(self) -> Seen:
        secret = self._secret("deleted", first="1")
        before = self._labels(secret)
        self.client.delete_secret(SecretId=secret, RecoveryWindowInDays=7)
        refusals = {
            "GetSecretValue": aws_code(lambda: self.client.get_secret_value(SecretId=secret)),
            "PutSecretValue": aws_code(lambda: self._put(secret, "2", CURRENT)),
        }
        for operation, code in refusals.items():
            expect(code == "InvalidRequestException", f"{operation}: InvalidRequestException", code or "success")
        expect("DeletedDate" in self.client.describe_secret(SecretId=secret), "DescribeSecret tells DeletedDate", "no")
        self.client.restore_secret(SecretId=secret)
        expect(self._labels(secret) == before, "the labels as before", _shape(self._labels(secret)))
        return Seen("marked for deletion it refused reads and writes; restored it had its labels and value")

    def listing_tells_deletions_when_asked(self) -> Seen:
        kept, deleted = self._secret("listed-kept", first="1"), self._secret("listed-deleted", first="1")
        self.client.delete_secret(SecretId=deleted, RecoveryWindowInDays=7)

        def differs() -> bool:
            plain, planned = self._listed(planned=False), self._listed(planned=True)
            return plain == {kept} and planned == {kept, deleted}

        seconds = _seconds_until(differs, 300.0)
        expect(seconds is not None, "the deleted one only with IncludePlannedDeletion", f"{self._listed(planned=True)}")
        return Seen(
            "ListSecrets named the deleted secret with IncludePlannedDeletion only", {"seconds": seconds or 0.0}
        )

    def how_stale_reads_get(self) -> Seen:
        """AWS gives no figures. A histogram of the time from the put's answer to the first right read."""
        secret = self._secret("stale", first="0")
        delays: Counter[str] = Counter()
        for number in range(self.extent.reads):
            version = self._put(secret, str(number), CURRENT)
            for operation, seen in (("GetSecretValue", self._current_by_value), ("DescribeSecret", self._current)):
                seconds = _seconds_until(partial(_is_seen, seen, secret, version), 60.0)
                expect(seconds is not None, f"{operation} shows the new version within a minute", "it does not")
                delays[f"{operation} {_bucket(seconds or 0.0)}"] += 1
        return Seen(f"{self.extent.reads} puts were read back at once", {"first_right_read": dict(delays)})

    def where_throttling_begins(self) -> Seen:
        """Quotas: PutSecretValue and UpdateSecretVersionStage together 50 a second. Moves a label, makes no version."""
        secret = self._secret("rate", first="1")
        versions = [self._put(secret, "2", CUSTOM), self._put(secret, "3", "OTHER")]
        throttled: dict[str, int] = {}
        for rate in self.extent.rates:
            throttled[f"at {rate} a second"] = self._throttled(secret, versions, rate)
        first = next((rate for rate, count in throttled.items() if count), None)
        expect(first is not None, "throttling at some rate", "none")
        return Seen(f"throttling began {first}", {"throttled_calls": throttled})

    def _throttled(self, secret: str, versions: Sequence[str], rate: int) -> int:
        def put(number: int) -> str:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))  # the pace is what is measured
            # The same bytes under the same id: a write for the quota, and no new version.
            return aws_code(lambda: self._put(secret, str(2 + number % 2), CUSTOM, version=versions[number % 2]))

        began = time.monotonic()
        with ThreadPoolExecutor(64) as pool:
            codes = Counter(pool.map(put, range(int(rate * self.extent.seconds_a_rate))))
        return codes["ThrottlingException"]

    def a_condition_can_hold_a_reader_to_one_stage(self) -> Seen:
        """The condition key secretsmanager:VersionStage (service authorization reference)."""
        secret = self._secret("condition", first="1")
        version = self._put(secret, "2", CURRENT)
        arn = self.client.describe_secret(SecretId=secret)["ARN"]
        statement = {
            "Effect": "Allow",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": arn,
            "Condition": {"StringEquals": {"secretsmanager:VersionStage": CURRENT}},
        }
        with assumed_role(self.session, f"{self.prefix}-stage", statement=statement) as reader:
            allowed = _seconds_until(
                lambda: not aws_code(lambda: reader.get_secret_value(SecretId=secret, VersionStage=CURRENT)),
                SECONDS_FOR_A_POLICY,
            )
            expect(allowed is not None, "the stage AWSCURRENT is allowed", "it is denied")
            others = {
                "by AWSPREVIOUS": aws_code(lambda: reader.get_secret_value(SecretId=secret, VersionStage=PREVIOUS)),
                "by version id": aws_code(lambda: reader.get_secret_value(SecretId=secret, VersionId=version)),
                "with no stage": aws_code(lambda: reader.get_secret_value(SecretId=secret)),
            }
        expect(others["by AWSPREVIOUS"] == "AccessDeniedException", "AWSPREVIOUS is denied", f"{others}")
        return Seen(
            "AWSCURRENT was allowed and AWSPREVIOUS denied", {way: code or "allowed" for way, code in others.items()}
        )

    # What the probes share

    def _secret(self, name: str, first: str | None = None) -> str:
        full = f"{self.prefix}/{name}"
        value: dict[str, Any] = {} if first is None else {"SecretString": first}
        self.client.create_secret(Name=full, Description="made by make prove; may be deleted", **value)
        return full

    def _put(self, secret: str, value: str, *labels: str, version: str | None = None) -> str:
        return self.client.put_secret_value(
            SecretId=secret, SecretString=value, ClientRequestToken=version or str(uuid4()), VersionStages=labels
        )["VersionId"]

    def _labels(self, secret: str) -> dict[str, str]:
        described = self.client.describe_secret(SecretId=secret).get("VersionIdsToStages", {})
        return {label: version for version, labels in described.items() for label in labels}

    def _current(self, secret: str) -> str | None:
        return self._labels(secret).get(CURRENT)

    def _current_by_value(self, secret: str) -> str | None:
        return self.client.get_secret_value(SecretId=secret)["VersionId"]

    def _listed(self, *, planned: bool) -> set[str]:
        pages = self.client.get_paginator("list_secrets").paginate(
            IncludePlannedDeletion=planned, Filters=[{"Key": "name", "Values": [f"{self.prefix}/listed-"]}]
        )
        return {secret["Name"] for page in pages for secret in page["SecretList"]}


def probe_secrets_manager(
    session: boto3.Session, prefix: str, extent: Extent, *, missing_here: Mapping[str, str]
) -> Iterator[Observation]:
    """One observation for each probe, in turn. *missing_here*: the reason, by a probe's name, why it cannot be had."""
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=64)
    probes = Probes(session.client("secretsmanager", config=config), session, prefix, extent)
    looks: Mapping[str, Callable[[], Seen]] = {
        "one of many simultaneous puts wins": probes.one_of_many_puts_wins,
        "the same put again moves no label": probes.the_same_put_again_moves_no_label,
        "one put moves two labels": probes.one_put_moves_two_labels,
        "the first version is current whatever its label": probes.the_first_version_is_current,
        "AWSCURRENT moves only from where it is": probes.current_moves_only_from_where_it_is,
        "a read tells all labels of its version": probes.reads_tell_all_labels,
        "an unknown version is not found": probes.an_unknown_version_is_not_found,
        "a deletion can be undone": probes.deletion_can_be_undone,
        "a listing tells deletions when asked": probes.listing_tells_deletions_when_asked,
        "how stale reads get": probes.how_stale_reads_get,
        "where throttling begins": probes.where_throttling_begins,
        "a condition can hold a reader to one stage": probes.a_condition_can_hold_a_reader_to_one_stage,
    }
    for subject, look in looks.items():
        yield observe(f"Secrets Manager: {subject}", look, missing_here=missing_here.get(subject, ""))


def _seconds_until(holds: Callable[[], bool], at_most: float) -> float | None:
    """How long it took until *holds*, None if it did not within *at_most* seconds. Asks less and less often."""
    began, pause = time.monotonic(), 0.005
    while not holds():
        if time.monotonic() - began > at_most:
            return None
        time.sleep(pause)  # another system's work is waited for: it can only be asked
        pause = min(pause * 2, 2.0)
    return time.monotonic() - began


def _is_seen(look: Callable[[str], str | None], secret: str, version: str) -> bool:
    return look(secret) == version


def _bucket(seconds: float) -> str:
    for milliseconds in (10, 50, 100, 500, 1000, 5000):
        if seconds * 1000 <= milliseconds:
            return f"within {milliseconds} ms"
    return "later than 5 s"


def _shape(labels: Mapping[str, str]) -> str:
    """Which labels share a version, without the ids."""
    versions: dict[str, list[str]] = {}
    for label, version in sorted(labels.items()):
        versions.setdefault(version, []).append(label)
    return json.dumps(list(versions.values()))
