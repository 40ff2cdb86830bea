"""The planted faults fit the source; that tests find them is for `make mutants` to show."""

import ast

import pytest

from mutants.catalogue import Mutant, all_mutants, planted

MUTANTS = all_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_each_fault_fits_the_source_and_is_still_python(mutant: Mutant) -> None:
    assert mutant.old != mutant.new
    ast.parse(planted(mutant))


def test_no_fault_is_planted_twice() -> None:
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
    assert len({mutant.breaks for mutant in MUTANTS}) == len(MUTANTS)
