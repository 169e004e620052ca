"""Adapter: many connections at once. A hundred secrets are listed in one call, and twenty pairs are read in one.

What it shows may be minutes old. It decides only that nothing is to be done about a connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..refresh.formats import CONNECTION_NAME, SecretNames
from ..refresh.model import CURRENT, REMOVED_TAG, CurrentPair, RefreshError, Stored
from .secret_store import converted, version_by_label

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_T = TypeVar("_T")

READ_AT_ONCE = 20  # the most that BatchGetSecretValue takes
# Enough to fill the pace of batch reads (pacing.py) where one takes a tenth of a second.
READERS = 8


class Connections(NamedTuple):
    """The connections under a prefix and, of each, the version that readers are given and the labels of the pair.

    ``problems``: why batch reads failed. It costs calls and time and no more: each connection is read by itself then.
    """

    client: SecretsManagerClient
    prefix: str
    published: Mapping[str, str | None]
    pair_labels: Mapping[str, Mapping[str, str]]
    problems: set[str]

    @classmethod
    def of(cls, client: SecretsManagerClient, prefix: str) -> Connections:
        """A connection is a name under which there is a pair or a bearer secret, also one marked for deletion unless an
        operator removed it. Raises StoreUnavailable and StoreMisconfigured.
        """
        published: dict[str, str | None] = {}
        pair_labels: dict[str, Mapping[str, str]] = {}
        form = re.compile(f"{re.escape(prefix)}/({CONNECTION_NAME.pattern})/(tokens|bearer)")
        with converted("ListSecrets", f"{prefix}/"):
            pages = client.get_paginator("list_secrets").paginate(
                Filters=[{"Key": "name", "Values": [f"{prefix}/"]}],
                IncludePlannedDeletion=True,
                PaginationConfig={"PageSize": 100},  # the most that it gives
            )
            for secret in (secret for page in pages for secret in page["SecretList"]):
                is_deleted = "DeletedDate" in secret
                was_removed = is_deleted and any(tag.get("Key") == REMOVED_TAG for tag in secret.get("Tags", ()))
                if was_removed or not (ours := form.fullmatch(secret["Name"])):
                    continue
                connection, labels = ours[1], version_by_label(secret.get("SecretVersionsToStages", {}))
                published.setdefault(connection, None)
                if ours[2] == "tokens":
                    pair_labels[connection] = labels
                elif not is_deleted:
                    published[connection] = labels.get(CURRENT)
        return cls(client, prefix, published, pair_labels, set())

    @property
    def names(self) -> list[str]:
        return sorted(self.published)

    def read(self, names: Sequence[str], work: Callable[[str, Stored | None], _T]) -> list[_T]:
        """What *work* makes of what is stored of each connection, None where that could not be read; in *names*' order.

        No more than a few pairs are held at a time. *work* is called by several threads.
        """

        def read_some(some: Sequence[str]) -> list[_T]:
            found = self._read(some)
            return [work(name, found.get(name)) for name in some]

        parts = [names[start : start + READ_AT_ONCE] for start in range(0, len(names), READ_AT_ONCE)]
        with ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="batch-read") as pool:
            return [worked for part in pool.map(read_some, parts) for worked in part]

    def _read(self, names: Sequence[str]) -> dict[str, Stored]:
        """Those that could be read."""
        secrets = {SecretNames.of(self.prefix, name).pair: name for name in names}
        try:
            with converted("BatchGetSecretValue", f"{self.prefix}/"):
                answer = self.client.batch_get_secret_value(SecretIdList=list(secrets))
        except RefreshError as error:
            self.problems.add(str(error))
            return {}
        found = {}
        for value in answer["SecretValues"]:
            name, labels = secrets[value["Name"]], frozenset(value.get("VersionStages", ()))
            pair = CurrentPair(value["VersionId"], labels, value.get("SecretString", ""), value.get("CreatedDate"))
            published = self.published[name]
            found[name] = Stored({CURRENT: published} if published else {}, pair, self.pair_labels.get(name))
        return found
