"""Takes one rule after the other out of the journal and shows that a test notices: ``python -m tests.campaigns.mutants``.

Each is taken out in a copy of the code, and the quick tests that can see it run there until the first failure.
*argv*: words, to try those alone whose text holds one of them. Exit status 1 where a rule is missed by no test, or its
text is not in the code any more.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = Path("functions/token_refresher/token_refresher/refresh")
# The tests that can see a change in a file, those first that are likely to.
SUITES = {
    "candidates": "candidates login refresh schedules",
    "claim": "refresh login schedules",
    "formats": "contract refresh",
    "journal": "journal login refresh schedules",
    "login": "login schedules",
    "new_pair": "refresh schedules",
    "publish": "refresh schedules",
    "refresh": "refresh schedules",
}
# In a file, a text (it is there exactly once) becomes another.
RULES = [
    # One chain
    ("journal", "str(uuid5(NAMESPACE_URL, versions.arn))", 'str(uuid5(NAMESPACE_URL, "first"))'),
    ("journal", "and ids.isdisjoint((claim_id(version.version_id), result_id(version.version_id)))", ""),
    ("journal", "if is_of_the_chain(version.version_id)\n", "if True\n"),
    ("journal", 'str(uuid3(_namespace(slot), "late"))', 'str(uuid5(_namespace(slot), "late"))'),
    ("claim", "if work.store.write_pair(claim.version_id, intent.to_json(), LABEL) is None:", "if False:"),
    ("claim", "holder=str(uuid4()),", 'holder="holder",'),
    ("claim", "else CURRENT, LABEL)", "else CURRENT)"),
    ("login", "stored.to_json(), CURRENT, LABEL)", "stored.to_json(), CURRENT)"),
    ("login", "(result_id if intent else claim_id)", "claim_id"),
    ("login", "if adopted and is_held:", "if False:"),
    # Dead holders, and ends that can't be read
    ("claim", "if not intent.is_dead(written.created_at, now):", "if False:"),
    ("claim", "work.store.write_pair(result_id(written.version_id), outcome.to_json(), LABEL)", "written"),
    ("claim", "head.entry, versions.at)", "head.entry, work.now())"),
    ("claim", "versions.at - head.written.created_at <= LONGEST_CLAIM:", "True:"),
    ("claim", "None if is_pair or is_result else intent", "None"),
    ("claim", "None if is_pair or is_result else intent", "None if is_result else intent"),
    # Spent tokens
    ("journal", "MOST_SPENT = 200", "MOST_SPENT = 20"),
    ("new_pair", "spent = merged([intent.credential], spent)", "pass"),
    ("new_pair", "spent = intent.history.spent_and_refused", "spent = intent.history.spent"),
    ("new_pair", "merged(spent, but=renewed.refresh_token)", "merged(spent)"),
    ("claim", "history=head.history._replace(spent=spent),", "history=head.history,"),
    ("login", "but=None if adopted else pair.refresh_token", "but=pair.refresh_token"),
    ("login", "but=None if adopted else pair.refresh_token", "but=None"),
    ("login", "known_spent(store, versions, known)", "known.spent"),
    ("candidates", "filter(is_late, listed)", "[]"),
    ("candidates", "listed if history.newest is None else ", ""),
    ("candidates", "set(spent)", "set()"),
    # Candidates
    ("candidates", "reverse=True", "reverse=False"),
    ("candidates", "not attempt.result.is_verdict or (forced", "(forced"),
    ("candidates", "return is_current and attempt.result is Ending.REFUSED and", "return"),
    ("candidates", " or _is_of_somebody_else(pair, current):", ":"),
    ("candidates", "head.history.attempts, asked_for_a_code(head)", "head.history.attempts, False"),
    ("refresh", "            versions = self._versions_that_show(head.end)\n", ""),
    ("refresh", "        if versions.get(written) is None:", "        if False:"),
    ("refresh", "        if versions.under(CURRENT) != self.version:", "        if False:"),
    ("refresh", "                self.work.store.pair_value(self.version)", "                pass"),
    ("refresh", "last.is_waited_for(version, token, self.work.now())", "False"),
    ("journal", "is_about and not self.result.is_verdict and", "is_about and"),
    ("journal", "before.result.is_verdict and not result.is_verdict else result", "False else result"),
    # Saving
    ("claim", "SUPERSEDED if self._is_superseded(slot) else CURRENT", "CURRENT"),
    ("claim", "write(late_pair_id(slot), value, SUPERSEDED) or ()", "()"),
    ("claim", "if tries >= LEAST_TRIES and services.now()", "if services.now()"),
    ("claim", "if self.work.time_left() < LONGEST_LOOK:", "if False:"),
    ("refresh", "        if CURRENT not in labels:", "        if False:"),
    ("refresh", "MOST_VERSIONS_BEFORE_A_CLAIM = 94", "MOST_VERSIONS_BEFORE_A_CLAIM = 98"),
    # Publishing
    ("publish", "moved_from=self.published):", "moved_from=self.work.store.bearer_versions().under(CURRENT)):"),
    ("publish", "            self.check(version_id, store.pair_versions(), if_displaced=if_displaced)\n", ""),
    ("publish", "if there.created_at < saved.created_at:", "if False:"),
    ("publish", "if text is None and life:", "if False:"),
    ("publish", "versions.at - published.created_at < LONGEST_STALENESS:", "False:"),
    ("publish", "if refusal and not self._readers_token_is_over(pair):", "if refusal:"),
    ("refresh", "self.force or is_misplaced or", "self.force or"),
    ("refresh", "            due = min(due or now, (pair.issued_at or LONG_AGO) + ONE_TRY_A_DAY)", "            pass"),
    ("refresh", "        if self.publisher.published:\n", "        if False:\n"),
    ("refresh", "now():\n            return OutcomeWord.TRY", "now() and False:\n            return OutcomeWord.TRY"),
    ("formats", "if created_at is None or self.issued_at is None or self.issued_at <= created_at:", "if True:"),
]


def main(argv: Sequence[str]) -> int:
    """Prints one line for each rule: the first test that noticed."""
    chosen = [rule for rule in RULES if not argv or any(word in f"{rule[0]} {rule[1]}" for word in argv)]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("functions", "layers", "cli", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for file, old, new in chosen:
            noticed_by = _noticed_by(copy, file, old, new)
            missed += noticed_by is None
            print(f"{file}: {old.strip()} -> {new.strip()}: {noticed_by or 'MISSED'}", flush=True)
    print(f"{len(chosen) - missed} rules are held by a test, {missed} by none")
    return int(missed > 0)


def _noticed_by(copy: Path, name: str, old: str, new: str) -> str | None:
    """The first test that fails without the rule; None where all pass."""
    file = copy / CORE / f"{name}.py"
    text = file.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{name}: {old!r} is not there once")
    file.write_text(text.replace(old, new))
    shutil.rmtree(copy / CORE / "__pycache__", ignore_errors=True)  # a file's time may be too coarse to tell
    tests = [f"tests/test_{suite}.py" for suite in SUITES[name].split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *tests]
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    file.write_text(text)
    failed = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" ", 1)[1].split(" - ")[0] if failed else None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
