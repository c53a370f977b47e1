"""Every line of the table of operations (tests/support/op_cases.py), in every way to run it."""

import pytest
from op_cases import CASES
from op_checks import RUNS, SUITES, THREE, check_run, operands, parties

EVERYWHERE = [*RUNS, THREE, *SUITES]
WHERE_SHAPES_MATTER = [run for run in RUNS if run.encoding == "binary"]


def values(case):
    return {"low": case.low, "high": case.high, "values": case.values}


def empty(shape):
    """Of an operand, or of several of which one is."""
    return any(0 in each for each in (shape if isinstance(shape, list) else [shape]))


@pytest.mark.parametrize("run", EVERYWHERE, ids=lambda run: run.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradient(case, run):
    """Torch's, within the steps that the line allows: of every shape by two holders, of the first one elsewhere.

    In decimal encoding, which changes divisors and no shape, of the first one and of those without elements.
    """
    checks = {name: getattr(case, name) for name in ("steps", "grad_steps", "rtol", "grad", "bounded")}
    if run.name in case.refused:
        with pytest.raises(NotImplementedError):
            check_run(case.fn, case.first, run, **values(case), **checks)
        return
    for place, shape in enumerate(case.shapes):
        if place and run not in WHERE_SHAPES_MATTER and not (run in RUNS and empty(shape)):
            continue
        check_run(case.fn, shape, run, **values(case), **checks)


@pytest.mark.parametrize("run", [RUNS[0], THREE], ids=["two-holders", "three-holders"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rounds_and_bytes(case, run):
    """What the line declares, for each other holder."""
    given = operands(case.counted, **values(case))
    secrets, _ = run.operands(given, bounded=case.bounded)
    stats = parties(run.holders).stats
    before = stats.copy()
    case.fn(*secrets)
    spent = stats - before
    dealt = spent.dealt / given[0].numel()
    sent = spent.sent / given[0].numel() / (run.holders - 1)
    more = case.shuffles * (run.holders - 2)
    rounds, sent, dealt = spent.rounds - more, sent - 8 * more, dealt - 8 * more
    took = f"{case.name} took rounds={rounds}, sent={sent}, dealt={dealt}"
    assert (rounds, sent) == (case.rounds, case.sent), took
    assert case.dealt in (None, dealt), took


def test_names_are_told_apart():
    assert len({case.name for case in CASES}) == len(CASES)
