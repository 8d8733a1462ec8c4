"""What becomes of concurrent operations: each row of docs/SEMANTICS.md is a case here, played by real engines."""

from __future__ import annotations

from itertools import permutations

import pytest
from tests.semantics.case import Case, tree
from tests.semantics.table import BEGIN, PAGE, all_cases, rows
from tests.semantics.world import play

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_outcome(case: Case) -> None:
    outcomes = [(tree(usual), tree(other)) for usual, other in case.outcomes[: None if case.races else 1]]
    assert play(case, range(len(case.acts))) in outcomes


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_outcome_whoever_does_what(case: Case) -> None:
    outcomes = [(tree(usual), tree(other)) for usual, other in case.outcomes]
    for seed, order in enumerate(permutations(range(len(case.acts)))):
        assert play(case, order, seed) in outcomes


def test_the_page_has_a_row_for_each_case_and_no_other() -> None:
    _, _, written = PAGE.read_text().partition(BEGIN)
    assert written.strip() == rows().strip(), "run `python -m tests.semantics`"


def test_no_two_rows_have_one_name() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 60
