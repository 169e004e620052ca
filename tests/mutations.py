"""Takes one safeguard after the other out of the journal and shows that tests notice: ``python -m tests.mutations``.

Each mutation is made in a copy of the repository; the tests of the journal run there until the first failure. Exit
status 1 if any mutation survives.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CORE = Path("functions/token_refresher/token_refresher")
TESTS = (
    "tests/test_refresh.py",
    "tests/test_every_call_fails.py",
    "tests/test_login.py",
    "tests/test_interleavings.py",
)


class Mutation(NamedTuple):
    """In *file*, the text *old* (it must be there exactly once) becomes *new*."""

    told: str
    file: str
    old: str
    new: str


MUTATIONS = [
    Mutation(
        "no claim",
        "claim.py",
        "return Claim(version_id, intent) if self.store.write_pair(version_id, intent.to_json(), LABEL) else None",
        "return Claim(version_id, intent)",
    ),
    Mutation(
        "a dead holder's result slot is not closed",
        "claim.py",
        "if self.store.write_pair(slot, died.to_json(), LABEL):\n                return _spot(current, slot, died)",
        "if True:\n                return _spot(current, labels[LABEL], died)",
    ),
    Mutation(
        "no look before the save", "claim.py", "theirs = self.replaced_by(claim, unless_by=slots)", "theirs = None"
    ),
    Mutation(
        "proof before save",
        "refresh.py",
        "        version = self._claims.save_pair(claim, renewed, credential.sent)\n",
        "        self._prove(renewed)\n        version = self._claims.save_pair(claim, renewed, credential.sent)\n",
    ),
    Mutation("no second look at a refusal", "refresh.py", "if self._claims.replaced_by(claim):", "if False:"),
    Mutation(
        "an answer without a refresh token erases the old one",
        "refresh.py",
        "            refresh_token=source.refresh_token,\n",
        "            refresh_token=answer.refresh_token,\n",
    ),
    Mutation("two holders write the same bytes", "claim.py", "holder=str(uuid4())", 'holder="holder"'),
    Mutation("a holder is dead at once", "claim.py", "dead_after=self.deadline + GRACE", "dead_after=self.world.now()"),
    Mutation(
        "a save is tried once",
        "claim.py",
        "                return save()\n            except RefreshError:\n",
        "                return save()\n            except RefreshError:\n                raise\n",
    ),
    Mutation(
        "the deadline is not minded",
        "refresh.py",
        "        return self.deadline - self.world.now() >= budget",
        "        return True",
    ),
    Mutation(
        "a look may eat the time for saving",
        "claim.py",
        "            if self.deadline - self.world.now() < LONGEST_LOOK:",
        "            if False:",
    ),
    Mutation(
        "a view from before the claim is believed",
        "claim.py",
        "            if labels.get(LABEL) == claim.version_id or labels.get(PREVIOUS) == replaced:\n",
        "            if labels:\n",
    ),
    Mutation(
        "our own save counts as another's", "claim.py", "if current is not None and current in unless_by:", "if False:"
    ),
    Mutation(
        "a superseded pair takes the label of another's claim",
        "claim.py",
        "label, saved = (SUPERSEDED, pair) if keys is None",
        "label, saved = (LABEL, pair) if keys is None",
    ),
    Mutation(
        "an edit beside the spent token wins",
        "claim.py",
        "return theirs.extra if sent is not None and theirs.refresh_token == sent else None",
        "return None",
    ),
    Mutation(
        "a claim depends on the current version",
        "claim.py",
        "version_id = claim_id(spot.slot)",
        "version_id = claim_id(spot.current)",
    ),
    Mutation(
        "a live claim on another version is passed over",
        "claim.py",
        "        if value is None:\n            return None\n        current, result",
        "        if value is None:\n            return _spot(labels[CURRENT], slot, None)\n        current, result",
    ),
    Mutation(
        "a taken slot is followed at once",
        "claim.py",
        "if result is not None or entry.replaces != current or slot in labels.values() or _is_old(value, now):",
        "if True:",
    ),
    Mutation(
        "a taken slot is never followed",
        "claim.py",
        "if result is not None or entry.replaces != current or slot in labels.values() or _is_old(value, now):",
        "if False:",
    ),
    Mutation(
        "a taken slot loses the pair",
        "claim.py",
        "                slots.append(result_id(slots[-1]))",
        "                return None",
    ),
    Mutation(
        "stale labels give readers an old token back",
        "refresh.py",
        "        if self._is_older_view(labels):",
        "        if False:",
    ),
    Mutation("the version quota is not looked at", "refresh.py", "> MOST_VERSIONS_BEFORE_A_CLAIM:", "> 1000:"),
    Mutation(
        "the bearer's version is not looked at",
        "refresh.py",
        "before = None if in_step else",
        "before = None if True else",
    ),
    Mutation(
        "AWSPREVIOUS is tried again and again",
        "recovery.py",
        "        if _is_open(attempts, grant, once=True):",
        "        if True:",
    ),
    Mutation("somebody else's token is tried", "refresh.py", "or _is_of_somebody_else(other, stored.pair)", "or False"),
    Mutation(
        "a refusal is forgotten when the next try is not served",
        "journal.py",
        "before.ended if before and before.ended.is_verdict and not ended.is_verdict else ended",
        "ended",
    ),
    Mutation(
        "the password is tried in every run",
        "recovery.py",
        "if _is_open(attempts, Grant.PASSWORD, once=True) or _is_a_day_old(attempts, Grant.PASSWORD, now):",
        "if True:",
    ),
    Mutation(
        "a second factor is forgotten",
        "recovery.py",
        "    if _asked_for_a_code(attempts, Grant.PASSWORD):",
        "    if False:",
    ),
    Mutation(
        "a code is asked for again",
        "recovery.py",
        "    if any(_asked_for_a_code(attempts, grant) for grant in _REFRESH_TOKENS):",
        "    if False:",
    ),
    Mutation(
        "retry_at is not kept",
        "refresh.py",
        "        if waits and waits.retry_at and self.world.now() < waits.retry_at and not self.force:",
        "        if False:",
    ),
    Mutation(
        "an unproven token is published", "refresh.py", "        if isinstance(proof, Denied):", "        if False:"
    ),
    Mutation(
        "an existing bearer version is not made current",
        "refresh.py",
        "            self.store.move_bearer(version)",
        "            pass",
    ),
    Mutation(
        "a login ignores the claim",
        "login.py",
        "claims.claim(spot, Grant.LOGIN) if spot else None",
        "claims.claim(spot or Spot(labels[CURRENT], labels[CURRENT]), Grant.LOGIN)",
    ),
    Mutation(
        "unknown keys are dropped",
        "../../../layers/virtuous_token/virtuous_token/contract.py",
        "return _dump(known, self.extra)",
        "return _dump(known, {})",
    ),
]


def main() -> int:
    """Prints one line for each mutation: the first test that caught it."""
    if (red := _try(None)) is not None:
        raise SystemExit(f"the tests fail without any mutation: {red}")
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(_try, MUTATIONS))
    survived = 0
    for mutation, verdict in zip(MUTATIONS, verdicts, strict=True):
        survived += verdict is None
        print(f"{'SURVIVED' if verdict is None else 'caught  '}  {mutation.told}" + (f": {verdict}" if verdict else ""))
    print(f"{len(MUTATIONS) - survived} caught, {survived} survived")
    return int(survived > 0)


def _try(mutation: Mutation | None) -> str | None:
    """The first test that fails with *mutation* (None: without any), None if all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "repository")
        for part in ("functions", "layers", "tests", "events", "benchmarks", "docs", "pyproject.toml"):
            if Path(ROOT, part).is_dir():
                shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            elif Path(ROOT, part).exists():
                shutil.copy(ROOT / part, copy / part)
        if mutation is not None:
            _apply(mutation, copy / CORE / mutation.file)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *TESTS]
        ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return None
    failed = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].removeprefix("FAILED ").split(" - ")[0] if failed else f"exit status {ended.returncode}"


def _apply(mutation: Mutation, file: Path) -> None:
    text = file.read_text()
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.told}: the text to change is there {text.count(mutation.old)} times, not once")
    file.write_text(text.replace(mutation.old, mutation.new))


if __name__ == "__main__":
    raise SystemExit(main())
