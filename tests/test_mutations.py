"""What ``make mutants`` changes is still there to be changed; that run itself takes minutes."""

from __future__ import annotations

import pytest

from tests.campaigns.mutants import MUTATIONS, Mutation, matches


@pytest.mark.parametrize("mutation", [pytest.param(mutation, id=mutation.description) for mutation in MUTATIONS])
def test_the_text_that_a_mutation_changes_is_there_once(mutation: Mutation) -> None:
    assert matches(mutation) == 1
