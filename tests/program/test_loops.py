"""Loops that are followed, of every kind that users write, have the weights and numbers of plain torch."""

import weakref

import pytest
import torch
from training_loops import (
    BITS,
    FUNCTIONS,
    IN_TURN,
    ITEMS,
    KINDS,
    OPTIMIZERS,
    REPEATED,
    STEPS,
    batches_for,
    descend,
    network,
    opened,
    opened_before_its_gradient,
    run,
    run_on_secrets,
)

import pysmpc as sy
from pysmpc.errors import RangeError
from pysmpc.program.loop import LOOPS
from pysmpc.program.loop_regions import NotedRegion


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_weights_are_those_of_plain_torch(kind):
    models, batches = (network(), network()), batches_for(kind)
    found, seen, repeats, cost = run_on_secrets(kind, models, batches, sy.virtual("alice", "bob"))
    written, _, never, eager = run_on_secrets(kind, models, batches, sy.virtual("alice", "bob", eager=True))
    expected, wanted, _ = run(kind, models, batches)
    for one, same, other in zip(found, written, expected, strict=True):
        torch.testing.assert_close(one, same, rtol=0, atol=2**-12)
        torch.testing.assert_close(one, other, rtol=0, atol=2**-10 if kind in OPTIMIZERS else 2**-12)
    assert seen == pytest.approx(wanted, abs=2**-10)
    assert repeats or kind not in REPEATED
    assert not never
    assert (cost.sent, cost.dealt) == (eager.sent, eager.dealt)
    # each step ends with a round of updates, where two that follow one another may share one
    assert eager.rounds <= cost.rounds <= eager.rounds + (STEPS if kind in IN_TURN else 0)


def test_a_loop_that_is_noted_keeps_no_value():
    """An evaluation after a step may be long."""
    parties = sy.virtual("alice", "bob")
    model = sy.encrypt(network(), parties, frac_bits=BITS)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x, target = (sy.encrypt(torch.ones(ITEMS, n), parties, frac_bits=BITS) for n in (6, 3))
    descend(model, optimizer, x, target)
    optimizer.step()
    known = []
    for _ in range(10):
        x = x + 1
        known.append(weakref.ref(x.cell))
    assert isinstance(LOOPS._region, NotedRegion)
    assert [ref() is None for ref in known] == [True] * 9 + [False]
    assert opened(x[0, 0]) == 11


@pytest.mark.parametrize("eager", [False, True], ids=["followed", "eager"])
def test_an_error_names_the_layer_and_changes_nothing(eager):
    """Wherever the loop was noted, is recorded or runs, what is too large is found where it was called."""
    LOOPS.repeats = False  # of the loop before
    parties = sy.virtual("alice", "bob", eager=eager)
    model = sy.encrypt(network(), parties, frac_bits=BITS)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    small, large = (sy.encrypt(scale * torch.ones(ITEMS, 6), parties, frac_bits=BITS) for scale in (0.1, 2.0**14))
    target, repeats = sy.encrypt(torch.zeros(ITEMS, 3), parties, frac_bits=BITS), 0
    with torch.no_grad():
        model[0].weight.fill_(1.0)

    def turn(x):
        descend(model, optimizer, x, target)
        optimizer.step()
        opened(next(model.parameters()).sum())

    for _ in range(3):
        for _ in range(3):
            turn(small)
            repeats += LOOPS.repeats
        before = [sy.decrypt(p.detach()) for p in model.parameters()]
        with pytest.raises(RangeError, match="mul in layer 1:"):
            turn(large)
        assert all(map(torch.equal, before, [sy.decrypt(p.detach()) for p in model.parameters()]))
    assert bool(repeats) != eager


@pytest.mark.parametrize(
    ("name", "protocol"), [(n, None) for n in FUNCTIONS] + [(n, "fss") for n in ("pooled", "largest", "chosen")]
)
def test_a_gradient_after_its_loss_was_opened(name, protocol):
    """That cuts the step in two, and the second half needs more of the first than its words."""
    opened_before_its_gradient(FUNCTIONS[name], sy.virtual("alice", "bob", protocol=protocol))
