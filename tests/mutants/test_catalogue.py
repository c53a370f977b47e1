"""The list of mutants still applies; `make mutants` runs them."""

import collections
from pathlib import Path

import pytest
from catalogue import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{Path(m.file).name}: {m.what}")
def test_the_text_of_a_mutant_occurs_once(mutant):
    times = (ROOT / mutant.file).read_text().count(mutant.old)
    assert times == 1, f"found {times} times; change the mutant in tests/mutants/catalogue.py with the line"
    assert mutant.old != mutant.new
    assert all((ROOT / test.partition("::")[0]).exists() for test in mutant.tests.split())


def test_there_are_enough_and_they_differ():
    assert len(MUTANTS) >= 120
    assert sum(m.compiled for m in MUTANTS) >= 15
    names = collections.Counter((m.file, m.what) for m in MUTANTS)
    assert not [name for name, times in names.items() if times > 1]
