"""Takes one rule after the other out of the journal and shows that a test notices: ``python -m tests.campaigns.mutants``.

Each is taken out in a copy of the repository, and the tests that should catch it run there until the first failure.
*argv*: words, to try those alone whose text holds one of them. Exit status 1 where a rule is missed by no test.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CORE = Path("functions/token_refresher/token_refresher/refresh")
SUITES = ("persons_hand", "candidates", "login", "journal", "refresh", "every_call_fails", "interleavings")
TESTS = tuple(f"tests/test_{name}.py" for name in SUITES)  # the quick ones first


class Rule(NamedTuple):
    """In *file*, the text *old* (it is there exactly once) becomes *new*."""

    file: str
    old: str
    new: str


RULES = [
    # One chain
    Rule("journal", "str(uuid5(NAMESPACE_URL, versions.arn))", 'str(uuid5(NAMESPACE_URL, "first"))'),
    Rule("journal", "and ids.isdisjoint((claim_id(version.version_id), result_id(version.version_id)))", ""),
    Rule("journal", "if is_of_the_chain(version.version_id)\n", "if True\n"),
    Rule("journal", 'str(uuid3(_namespace(slot), "late"))', 'str(uuid5(_namespace(slot), "late"))'),
    Rule("claim", "if self.store.write_pair(claim.version_id, intent.to_json(), LABEL) is None:", "if False:"),
    Rule("claim", "holder=str(uuid4()),", 'holder="holder",'),
    Rule(
        "claim", "labels = store.write_pair(slot, value, label, LABEL)", "labels = store.write_pair(slot, value, label)"
    ),
    Rule("login", "stored.to_json(), CURRENT, LABEL)", "stored.to_json(), CURRENT)"),
    Rule("login", "result_id(end.version_id) if end and is_claim else ", ""),
    Rule("login", "(adopted and is_held)", "False"),
    Rule("login", "(None in (text, displaced_text) or", "(False or"),
    # Dead holders
    Rule("claim", "if not intent.is_dead(written.created_at, now):", "if False:"),
    Rule(
        "claim",
        "if self.store.write_pair(result_id(written.version_id), outcome.to_json(), LABEL) is None:",
        "if False:",
    ),
    Rule("claim", "versions.at - written.created_at <= LONGEST_CLAIM:", "True:"),
    Rule("claim", "if may_be_an_intent(written, versions):", "if True:"),
    Rule("claim", "if may_be_an_intent(written, versions):", "if False:"),
    Rule("claim", "if PREVIOUS in written.labels or ", "if "),
    Rule("candidates", "[previous] if self.head.history.newest is None else []", "[]"),
    Rule(
        "claim",
        "self._closed(written, entry, versions.at, busy_for)",
        "self._closed(written, entry, self.now(), busy_for)",
    ),
    # Spent tokens
    Rule("journal", "MOST_SPENT = 200", "MOST_SPENT = 20"),
    Rule("new_pair", "spent=spent if is_login else merged([intent.credential], spent),", "spent=spent,"),
    Rule("new_pair", "intent.history.spent_and_refused(but=intent.credential)", "intent.history.spent"),
    Rule("new_pair", "spent=without(renewed.spent, renewed.refresh_token)", "spent=renewed.spent"),
    Rule("claim", "history=replace(head.history, spent=spent),", "history=head.history,"),
    Rule("login", "spent = spent if adopted else without(spent, pair.refresh_token)", "spent = ()"),
    Rule("candidates", "= [late] if late and not is_of_the_chain(late) else []", "= []"),
    Rule("candidates", "pairs = [self.pair, *", "pairs = [*"),
    Rule("candidates", "passed_over = set(spent)", "passed_over = set()"),
    # Candidates
    Rule("candidates", "(self.current, superseded,", "(self.current,"),
    Rule("candidates", "self.head.history.newest, previous):", "previous):"),
    Rule("candidates", "self.head.history.newest, previous):", "self.head.history.newest):"),
    Rule("candidates", "not attempt.result.is_verdict or (forced", "(forced"),
    Rule("candidates", "return is_current and attempt.result is Ending.REFUSED and", "return"),
    Rule("candidates", " or _is_of_somebody_else(pair, self.pair):", ":"),
    Rule(
        "candidates",
        "        except StoreMisconfigured:\n            return None",
        "        except KeyError:\n            return None",
    ),
    Rule("candidates", "code_asked = asked_for_a_code(stored.head)", "code_asked = False"),
    Rule("refresh", "            versions = self._versions_that_show(head.end)\n", ""),
    Rule("refresh", "            if versions.get(written) is None:", "            if False:"),
    Rule("refresh", "            if versions.under(CURRENT) != self.version:", "            if False:"),
    Rule("refresh", "last.result.is_verdict or last.retry_at is None", "last.retry_at is None"),
    # Saving
    Rule("claim", "label = SUPERSEDED if self._is_superseded(slot) else CURRENT", "label = CURRENT"),
    Rule(
        "claim", "return late_pair_id(slot), store.write_pair(late_pair_id(slot), value, SUPERSEDED)", "return slot, ()"
    ),
    Rule("claim", "if tries >= LEAST_TRIES and services.now()", "if services.now()"),
    Rule("claim", "if self.journal.time_left() < LONGEST_LOOK:", "if False:"),
    Rule("refresh", "        if CURRENT not in saved.labels:", "        if False:"),
    Rule("refresh", "MOST_VERSIONS_BEFORE_A_CLAIM = 94", "MOST_VERSIONS_BEFORE_A_CLAIM = 98"),
    # Publishing
    Rule("publish", "moved_from=self.published):", "moved_from=self.store.bearer_versions().under(CURRENT)):"),
    Rule("publish", "            self.check(version_id, self.store.pair_versions(), if_displaced=if_displaced)\n", ""),
    Rule("publish", "if there.created_at < saved.created_at:", "if False:"),
    Rule("publish", "published.created_at >= ours.created_at and age < LONGEST_STALENESS:", "False:"),
    Rule("publish", "if refusal and not self._readers_token_expired(pair):", "if refusal:"),
    Rule("refresh", "if word is OutcomeWord.MISCONFIGURED:", "if False:"),
    Rule(
        "refresh",
        "if pair.expires_at and pair.expires_at <= self.journal.now():\n            return OutcomeWord.TRY",
        "if False:\n            return OutcomeWord.TRY",
    ),
    Rule("formats", "if created_at is None or self.issued_at is None or self.issued_at <= created_at:", "if True:"),
]


def main(argv: Sequence[str]) -> int:
    """Prints one line for each rule: the first test that noticed."""
    chosen = [rule for rule in RULES if not argv or any(word in f"{rule.file} {rule.old}" for word in argv)]
    missed = 0
    for rule in chosen:
        noticed_by = _noticed_by(rule)
        missed += noticed_by is None
        print(f"{rule.file}: {rule.old.strip()} -> {rule.new.strip()}: {noticed_by or 'MISSED'}", flush=True)
    print(f"{len(chosen) - missed} rules are held by a test, {missed} by none")
    return int(missed > 0)


def matches(rule: Rule) -> int:
    """How often the text to change is there."""
    return (ROOT / CORE / f"{rule.file}.py").read_text().count(rule.old)


def _noticed_by(rule: Rule) -> str | None:
    """The first test that fails without *rule*; None where all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "repository")
        for part in ("functions", "layers", "cli", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / CORE / f"{rule.file}.py"
        file.write_text(file.read_text().replace(rule.old, rule.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *TESTS]
        ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    failed = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" ", 1)[1].split(" - ")[0] if failed else None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
