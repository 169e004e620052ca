"""Takes one safeguard after the other out of the journal and shows that a test notices: ``python -m tests.mutations``.

Each mutation is made in a copy of the repository, and the tests that should catch it run there until the first failure.
*argv*: words, to try the mutations alone whose name holds one of them. Exit status 1 if any mutation survives.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CORE = Path("functions/token_refresher/token_refresher")
CONTRACT = Path("layers/virtuous_token/virtuous_token/contract.py")

HAND = "tests/test_persons_hand.py"
CALLS = "tests/test_every_call_fails.py"
ORDERS = "tests/test_interleavings.py"
REFRESH, LOGIN = "tests/test_refresh.py", "tests/test_login.py"
JOURNAL, CANDIDATES = "tests/test_journal.py", "tests/test_candidates.py"


class Mutation(NamedTuple):
    """In *file*, the text *old* (it must be there exactly once) becomes *new*; one of *tests* must fail."""

    description: str
    file: str | Path
    old: str
    new: str
    tests: tuple[str, ...] = (HAND, CANDIDATES, LOGIN, JOURNAL, REFRESH, CALLS, ORDERS)  # the quick ones first


MUTATIONS = [
    # One chain
    Mutation(
        "no claim",
        "refresh/claim.py",
        "        if self.store.write_pair(claim.version_id, intent.to_json(), LABEL) is None:",
        "        if False:",
    ),
    Mutation(
        "a saved pair does not carry REFRESHING",
        "refresh/claim.py",
        "labels = store.write_pair(slot, value, label, LABEL)",
        "labels = store.write_pair(slot, value, label)",
    ),
    Mutation(
        "an outcome does not carry REFRESHING",
        "refresh/claim.py",
        "self.journal.store.write_pair(slot, outcome.to_json(), LABEL)",
        'self.journal.store.write_pair(slot, outcome.to_json(), "OUTCOME")',
    ),
    Mutation(
        "a login's pair does not carry REFRESHING",
        "refresh/login.py",
        "stored.to_json(), CURRENT, LABEL)",
        "stored.to_json(), CURRENT)",
    ),
    Mutation(
        "the chain's end is where the label is",
        "refresh/claim.py",
        "now, end = self.services.now(), chain_end(versions)",
        'now, end = self.services.now(), versions.get(versions.under(LABEL) or versions.under(CURRENT) or "")',
    ),
    Mutation(
        "a chain begins at what is current",
        "refresh/journal.py",
        "return min(versions.listed, key=lambda version: version.created_at, default=None)",
        'return next((version for version in versions.listed if "AWSCURRENT" in version.labels), None)',
    ),
    Mutation("two holders write the same bytes", "refresh/claim.py", "holder=str(uuid4())", 'holder="holder"'),
    Mutation(
        "a login begins a chain of its own",
        "refresh/login.py",
        "    return result_id(end.version_id) if isinstance(entry, Intent) else claim_id(end.version_id)",
        '    return str(__import__("uuid").uuid4())',
    ),
    Mutation(
        "a login does not take a holder's slot",
        "refresh/login.py",
        "return result_id(end.version_id) if isinstance(entry, Intent) else claim_id(end.version_id)",
        "return claim_id(end.version_id)",
    ),
    Mutation(
        "a login forgets what was refused",
        "refresh/login.py",
        "entry.history.used_up() if entry",
        "entry.history.spent if entry",
    ),
    Mutation(
        "two first logins do not meet",
        "refresh/login.py",
        "        return FIRST_PAIR_ID",
        '        return str(__import__("uuid").uuid4())',
    ),
    Mutation(
        "a login never loses its patience",
        "refresh/login.py",
        "if patience_is_over or not (is_held or is_unread):",
        "if not (is_held or is_unread):",
    ),
    Mutation(
        "a login overwrites what it could not read",
        "refresh/login.py",
        "if patience_is_over or not (is_held or is_unread):",
        "if True:",
    ),
    # Dead holders
    Mutation(
        "a live holder is passed over",
        "refresh/claim.py",
        "        if not intent.is_dead(claimed.created_at, now):",
        "        if False:",
    ),
    Mutation(
        "a holder is dead at once",
        "refresh/claim.py",
        "holds_for=dead_after - now,",
        "holds_for=dead_after - dead_after,",
    ),
    Mutation(
        "death is an instant of the holder's clock",
        "refresh/journal.py",
        "return now > (created_at + self.holds_for if self.holds_for is not None else self.dead_after)",
        "return now > self.dead_after",
    ),
    Mutation(
        "a dead holder's result slot is not closed",
        "refresh/claim.py",
        "        if self.store.write_pair(result_id(claimed.version_id), outcome.to_json(), LABEL) is None:",
        "        if False:",
    ),
    # Spent tokens
    Mutation(
        "what was sent is not noted as spent",
        "refresh/new_pair.py",
        "spent=spent if is_login or intent.credential is None else merged([intent.credential], spent),",
        "spent=spent,",
    ),
    Mutation(
        "a refused token is forgotten after a grant",
        "refresh/new_pair.py",
        "spent = intent.history.used_up(but=intent.credential) or ()",
        "spent = intent.history.spent or ()",
    ),
    Mutation(
        "an intent forgets what is spent",
        "refresh/claim.py",
        "history=replace(head.history, spent=spent),",
        "history=head.history,",
    ),
    Mutation(
        "a login forgets what is spent",
        "refresh/login.py",
        "spent=unless_granted_again(spent, pair.refresh_token), extra=extra)",
        "spent=(), extra=extra)",
    ),
    Mutation(
        "only the journal's head knows what is spent",
        "refresh/candidates.py",
        "return merged(known or (), *(self._spent_before(version) for version in others))",
        "return tuple(known or ())",
    ),
    Mutation("a spent token is sent", "refresh/candidates.py", "passed_over = set(spent)", "passed_over = set()"),
    Mutation(
        "what can't be read yet is passed over",
        "refresh/candidates.py",
        'raise StoreUnavailable("a version of the pair secret that is listed can\'t be read yet")',
        'text = ""',
    ),
    # Candidates
    Mutation(
        "SUPERSEDED is no candidate",
        "refresh/candidates.py",
        "            (CredentialKind.SUPERSEDED, self.versions.under(SUPERSEDED)),\n",
        "",
    ),
    Mutation(
        "the chain's newest pair is no candidate",
        "refresh/candidates.py",
        "            (CredentialKind.NEWEST, self.head.history.newest),\n",
        "",
    ),
    Mutation(
        "AWSPREVIOUS is no candidate",
        "refresh/candidates.py",
        "            (CredentialKind.PREVIOUS, self.versions.under(PREVIOUS)),\n",
        "",
    ),
    Mutation(
        "a first login outside the chain is no candidate",
        "refresh/candidates.py",
        "            (CredentialKind.FIRST, FIRST_PAIR_ID if is_outside else None),\n",
        "",
    ),
    Mutation(
        "a doubt uses a token up",
        "refresh/candidates.py",
        "    if not attempt.result.is_verdict:\n        return True",
        "    if not attempt.result.is_verdict:\n        return not attempt.result.in_doubt",
    ),
    Mutation(
        "an attempt counts for every token",
        "refresh/candidates.py",
        "        attempt = attempts.get(key)\n",
        "        attempt = next(iter(attempts.values()), None)\n",
    ),
    Mutation(
        "a refused token is sent in every run",
        "refresh/candidates.py",
        "return kind is CredentialKind.CURRENT and attempt.result is Ending.REFUSED and a_day_later",
        "return True",
    ),
    Mutation(
        "labels are not read afresh after a refusal",
        "refresh/refresh.py",
        "            versions = self._versions_that_show(head.end)\n",
        "",
    ),
    Mutation(
        "a stale list is believed after a refusal",
        "refresh/refresh.py",
        "            if versions.get(written) is None:",
        "            if False:",
    ),
    Mutation(
        "a refusal is reported of a pair that was replaced",
        "refresh/refresh.py",
        "            if versions.under(CURRENT) != self.version:",
        "            if False:",
    ),
    Mutation(
        "somebody else's token is tried", "refresh/candidates.py", " or _is_of_somebody_else(pair, self.pair):", ":"
    ),
    Mutation(
        "a verdict makes other tokens wait",
        "refresh/refresh.py",
        "if last is None or last.result.is_verdict or last.retry_at is None or self.force:",
        "if last is None or last.retry_at is None or self.force:",
    ),
    Mutation(
        "retry_at is not kept",
        "refresh/refresh.py",
        "if last is None or last.result.is_verdict or last.retry_at is None or self.force:",
        "if True:",
    ),
    Mutation(
        "a refusal is forgotten when the next try is not served",
        "refresh/journal.py",
        "stands = before.result if before and before.result.is_verdict and not result.is_verdict else result",
        "stands = result",
    ),
    Mutation("the password is tried in every run", "refresh/candidates.py", "(a_day_later or not uses_up)", "True"),
    Mutation(
        "a second factor is forgotten", "refresh/candidates.py", "    if pair.two_factor_enabled or (", "    if ("
    ),
    Mutation(
        "a code is asked for again",
        "refresh/candidates.py",
        "code_asked = asked_for_a_code(stored.head)",
        "code_asked = False",
    ),
    # Saving
    Mutation(
        "no look before the save",
        "refresh/claim.py",
        "label = SUPERSEDED if self._is_superseded(slot) else CURRENT",
        "label = CURRENT",
    ),
    Mutation(
        "a list without our claim is believed",
        "refresh/claim.py",
        "            if versions.get(self.version_id):",
        "            if True:",
    ),
    Mutation(
        "a taken slot loses the pair",
        "refresh/claim.py",
        "return beside_id(slot), store.write_pair(beside_id(slot), value, SUPERSEDED)",
        "return slot, ()",
    ),
    Mutation(
        "a pair beside the chain takes REFRESHING",
        "refresh/claim.py",
        "store.write_pair(beside_id(slot), value, SUPERSEDED)",
        "store.write_pair(beside_id(slot), value, SUPERSEDED, LABEL)",
    ),
    Mutation(
        "the labels that a save got are not looked at",
        "refresh/refresh.py",
        "        if CURRENT not in saved.labels:",
        "        if False:",
    ),
    Mutation(
        "proof before save",
        "refresh/refresh.py",
        "        saved = claim.save_pair(renewed)\n",
        "        self.publisher.prove(renewed)\n        saved = claim.save_pair(renewed)\n",
    ),
    Mutation(
        "a save is tried once",
        "refresh/claim.py",
        "        except retried:\n",
        "        except retried:\n            raise\n        except KeyError:\n",
    ),
    Mutation(
        "a save past the deadline is tried once",
        "refresh/claim.py",
        "if tries >= LEAST_TRIES and services.now()",
        "if services.now()",
    ),
    Mutation(
        "a look may eat the time for saving",
        "refresh/claim.py",
        "if self.journal.deadline - services.now() < LONGEST_LOOK:",
        "if False:",
    ),
    Mutation(
        "the deadline is not minded",
        "refresh/refresh.py",
        "return self.journal.time_left() >= self.policy.limits.request + self.policy.limits.save",
        "return True",
    ),
    Mutation("the version quota is not looked at", "refresh/refresh.py", "> MOST_VERSIONS_BEFORE_A_CLAIM:", "> 1000:"),
    Mutation(
        "no room is kept for a person's put",
        "refresh/refresh.py",
        "MOST_VERSIONS_BEFORE_A_CLAIM = 94",
        "MOST_VERSIONS_BEFORE_A_CLAIM = 98",
    ),
    Mutation(
        "an answer without a refresh token erases the old one",
        "refresh/new_pair.py",
        "        refresh_token=source.refresh_token,\n",
        "        refresh_token=answer.refresh_token,\n",
    ),
    Mutation("unknown keys are dropped", CONTRACT, "return _dump(known, self.extra)", "return _dump(known, {})"),
    # Publishing
    Mutation(
        "publishing moves the label from wherever it is",
        "refresh/publish.py",
        "self.store.move_bearer(version_id, moved_from=self.published):",
        "self.store.move_bearer(version_id, moved_from=self.store.bearer_versions().under(CURRENT)):",
    ),
    Mutation(
        "what displaced ours is not looked at after a failed move",
        "refresh/publish.py",
        "            self.check(version_id, versions, if_displaced=if_displaced)\n",
        "",
    ),
    Mutation(
        "what another published is always newer",
        "refresh/publish.py",
        "if ours and theirs and CURRENT in theirs.labels and theirs.created_at >= ours.created_at:",
        "if True:",
    ),
    Mutation(
        "nothing is checked before publishing what was left",
        "refresh/refresh.py",
        "        if self.publisher.published:\n",
        "        if False:\n",
    ),
    Mutation(
        "stale labels give readers an old token back",
        "refresh/publish.py",
        "if published and published.created_at >= ours.created_at and age < LONGEST_STALENESS:",
        "if False:",
    ),
    Mutation(
        "the pair's labels are read before the bearer's",
        "aws/secret_store.py",
        "        return Stored(bearer_labels, self._current_pair())",
        "        pair = self._current_pair()\n        return Stored(self._labels(self.names.bearer), pair)",
    ),
    Mutation(
        "an unproven token is published",
        "refresh/publish.py",
        "if refusal and not self._readers_token_expired(pair):",
        "if False:",
    ),
    Mutation(
        "an unproven token is never published",
        "refresh/publish.py",
        "if refusal and not self._readers_token_expired(pair):",
        "if refusal:",
    ),
    Mutation(
        "the end of a removed version is not known",
        "refresh/publish.py",
        "if text is None and newer.issued_at and newer.expires_at:",
        "if False:",
    ),
]


def main(argv: Sequence[str]) -> int:
    """Prints one line for each mutation: the first test that caught it."""
    chosen = [mutation for mutation in MUTATIONS if not argv or any(word in mutation.description for word in argv)]
    survived = 0
    with ThreadPoolExecutor(2) as pool:
        for mutation, (verdict, seconds) in zip(chosen, pool.map(_try, chosen), strict=True):
            survived += verdict is None
            description = (
                f"caught    {mutation.description}: {verdict}" if verdict else f"SURVIVED  {mutation.description}"
            )
            print(f"{description} ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen) - survived} caught, {survived} survived")
    return int(survived > 0)


def matches(mutation: Mutation) -> int:
    """How often the text to change is there."""
    return _path(ROOT, mutation).read_text().count(mutation.old)


def _path(root: Path, mutation: Mutation) -> Path:
    return root / mutation.file if isinstance(mutation.file, Path) else root / CORE / mutation.file


def _try(mutation: Mutation) -> tuple[str | None, float]:
    """The first test that fails with *mutation*, None if all pass; and how long it took."""
    if matches(mutation) != 1:
        raise SystemExit(f"{mutation.description}: the text to change is there {matches(mutation)} times, not once")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "repository")
        for part in ("functions", "layers", "tests", "pyproject.toml"):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / part)
        file = _path(copy, mutation)
        file.write_text(file.read_text().replace(mutation.old, mutation.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *mutation.tests]
        ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if ended.returncode == 0:
        return None, seconds
    failed = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (failed[0].split(" ", 1)[1].split(" - ")[0] if failed else f"exit status {ended.returncode}"), seconds


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
