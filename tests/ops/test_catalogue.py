"""Torch's catalogue of operations, its layers and its optimizers on secrets: as `tests/ops/coverage.json` says.

Few samples of each here, all of them in the slow lane.  Something that worked and is refused now fails by its name;
what is wrong fails in any case.  After changes, `make coverage` writes the table and its page anew.
"""

import coverage_table
import module_sweep
import pytest
import torch
from coverage_table import WORKS
from op_checks import encrypted
from op_sweep import NO_GRADIENT, OUTSIDE, REFUSED, RIGHT, name_of, operations, outcomes

from pysmpc.ops import decompositions
from pysmpc.ops.allowed import ALLOWED, NEVER, WAITING

TABLE = coverage_table.load()
CASES = [pytest.param(info, id=name_of(info)) for info in operations()]


def check(name, known, found):
    """Outcomes as the table has them, or better."""
    states = {o.state for o in found} - {OUTSIDE}
    why = next((o.why for o in found if o.why), "")
    if known in WORKS:
        assert states <= {RIGHT}, f"{name} was {known}, and is refused: {why}"
    if known == "no gradient":
        assert REFUSED not in states, f"{name} had values, and is refused: {why}"


def test_nothing_is_wrong():
    assert not {e["state"] for entries in TABLE.values() for e in entries.values()} & {"WRONG", "inexact"}


@pytest.mark.parametrize("info", CASES)
def test_operations(info):
    name = name_of(info)
    known = TABLE["operations"][name]["state"]
    check(name, known, outcomes(info, 2 if known in WORKS else 1, gradients_of=1, seconds=2))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("info", CASES)
def test_every_sample(info):
    name = name_of(info)
    check(name, TABLE["operations"][name]["state"], outcomes(info))


@pytest.mark.parametrize("name", module_sweep.layers())
def test_layers(name):
    check(name, TABLE["layers"][name]["state"], [module_sweep.layer_outcome(name)])


@pytest.mark.parametrize("name", module_sweep.optimizers())
def test_optimizers(name):
    check(name, TABLE["optimizers"][name]["state"], [module_sweep.optimizer_outcome(name)])


def test_the_table_names_all_there_is():
    assert set(TABLE["operations"]) == {name_of(info) for info in operations()}
    assert set(TABLE["layers"]) == set(module_sweep.layers()) == set(module_sweep.SPECS)
    assert set(TABLE["optimizers"]) == set(module_sweep.optimizers())


def test_the_page_is_of_the_table():
    assert coverage_table.PAGE.read_text() == coverage_table.page(TABLE), "make coverage writes it"


def test_a_check_fails_for_what_is_lost():
    from op_sweep import Outcome

    check("x", "right", [Outcome(RIGHT), Outcome(OUTSIDE)])
    with pytest.raises(AssertionError, match="x was right, and is refused: because"):
        check("x", "right", [Outcome(RIGHT), Outcome(NO_GRADIENT, "because")])
    with pytest.raises(AssertionError, match="x had values, and is refused"):
        check("x", "no gradient", [Outcome(REFUSED, "because")])


# --- the allow-list -------------------------------------------------------------------


def test_the_lists_are_of_operations_that_torch_decomposes():
    known = {str(func) for func in torch._decomp.decomposition_table}
    assert not ALLOWED - known
    assert not WAITING - ALLOWED
    names = {name.split(".")[1] for name in ALLOWED}
    assert not names & NEVER


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_decomposition_that_is_allowed_is_proved(monkeypatch):
    """By a sample of the catalogue that is right, values and gradients, and takes that way."""
    used, proved, way_of = set(), set(), decompositions.way_of

    def noted(func):
        used.add(str(func))
        return way_of(func)

    monkeypatch.setattr(decompositions, "way_of", noted)
    for info in operations():
        if TABLE["operations"][name_of(info)]["state"] not in ("refused", "not asked"):
            used.clear()
            if {o.state for o in outcomes(info, 60, seconds=5)} & {RIGHT}:
                proved |= used
    assert ALLOWED - proved <= WAITING


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (torch.erfinv, "erfinv"),
        (torch.linalg.eig, "eig"),
        (torch.bernoulli, "bernoulli"),
        (torch.linalg.ldl_factor, "ldl_factor"),
        (lambda x: torch.nextafter(x, x), "nextafter"),
        (lambda x: torch.fft.fft(x).exp(), "exp"),
        (lambda x: x.random_(), "random_"),
        (lambda x: torch.nonzero(x), "nonzero"),
    ],
)
def test_a_refusal_names_the_operation(call, name):
    with pytest.raises(NotImplementedError, match=name):
        call(encrypted(torch.rand(2, 2)))
