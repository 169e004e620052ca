"""What ``make mutants`` takes out is still there to be taken out; that run itself takes minutes."""

from __future__ import annotations

import pytest

from tests.campaigns.mutants import RULES, Rule, matches


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"{rule.file}: {rule.old.strip()}") for rule in RULES])
def test_the_text_of_a_rule_is_there_once(rule: Rule) -> None:
    assert matches(rule) == 1
