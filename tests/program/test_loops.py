"""Loops that are followed, of every kind that users write, have the weights and numbers of plain torch."""

import copy

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.errors import RangeError
from pysmpc.program.loop import LOOPS, following

BITS, ITEMS, STEPS = 20, 4, 18


class Square(nn.Module):
    """Smooth: where a ReLU bends, rounding alone may decide whether a unit learns."""

    def forward(self, x):
        return x * x


def network():
    return nn.Sequential(nn.Linear(6, 8), Square(), nn.Linear(8, 3))


def opened(x):
    return float(sy.decrypt(x.detach()) if isinstance(x, sy.SecretTensor) else x.detach())


def descend(model, optimizer, x, y, fresh=True):
    if fresh:
        optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    return loss


def plain(a, b, left, right, x, y, i, seen):
    descend(a, left, x, y)
    left.step()


def two_in_turn(a, b, left, right, x, y, i, seen):
    plain(a, b, left, right, x, y, i, seen)
    descend(b, right, x, y)
    right.step()


def one_or_the_other(a, b, left, right, x, y, i, seen):
    plain(*((a, b, left, right) if i % 2 else (b, a, right, left)), x, y, i, seen)


def accumulated(a, b, left, right, x, y, i, seen):
    descend(a, left, x, y, fresh=i % 3 == 0)
    if i % 3 == 2:
        left.step()


def evaluated_in_the_midst(a, b, left, right, x, y, i, seen):
    plain(a, b, left, right, x, y, i, seen)
    if i % 4 == 3:
        with torch.no_grad():
            seen.append(opened(a(x).sum()))


def against_each_other(a, b, left, right, x, y, i, seen):
    left.zero_grad()
    (b(torch.cat([a(x), a(x)], 1)) ** 2).mean().backward()
    left.step()
    descend(b, right, x, y)
    right.step()


def every_loss_opened(a, b, left, right, x, y, i, seen):
    loss = descend(a, left, x, y)
    left.step()
    seen.append(opened(loss))


def interrupted(a, b, left, right, x, y, i, seen):
    try:
        left.zero_grad()
        out = a(x)
        if i % 5 == 4:
            raise KeyboardInterrupt
        ((out - y) ** 2).mean().backward()
        left.step()
    except KeyboardInterrupt:
        pass


def hooked(a, b, left, right, x, y, i, seen):
    if i == STEPS // 2:
        a[0].register_forward_hook(lambda module, given, out: out * 1.5)
    plain(a, b, left, right, x, y, i, seen)


def another_rate(a, b, left, right, x, y, i, seen):
    left.param_groups[0]["lr"] = 0.05 / (1 + i // 6)
    plain(a, b, left, right, x, y, i, seen)


def every_loss_opened_before_the_step(a, b, left, right, x, y, i, seen):
    seen.append(opened(descend(a, left, x, y)))
    left.step()


def every_loss_opened_before_its_gradient(a, b, left, right, x, y, i, seen):
    left.zero_grad()
    loss = ((a(x) - y) ** 2).mean()
    seen.append(opened(loss))
    loss.backward()
    left.step()


def every_loss_kept(a, b, left, right, x, y, i, seen):
    seen.append(descend(a, left, x, y).detach())
    left.step()


def every_output_kept(a, b, left, right, x, y, i, seen):
    left.zero_grad()
    out = a(x)
    ((out - y) ** 2).mean().backward()
    left.step()
    seen.append(out.detach().sum())


def a_gradient_is_read_after_its_step(a, b, left, right, x, y, i, seen):
    descend(a, left, x, y)
    left.step()
    if i % 3 == 2:
        seen.append(opened(a[2].weight.grad.sum()))


def gradients_stay_over_the_step(a, b, left, right, x, y, i, seen):
    descend(a, left, x, y, fresh=i % 2 == 0)
    left.step()
    seen.append(opened((b(x) ** 2).mean()))


def slices(a, b, left, right, x, y, i, seen):
    """x, y are of all batches."""
    start = ITEMS * (i % STEPS)
    descend(a, left, x[start : start + ITEMS], y[start : start + ITEMS])
    left.step()


def the_same_slice_twice(a, b, left, right, x, y, i, seen):
    start, other = ITEMS * (i % STEPS), 0 if i % 5 == 3 else ITEMS * (i % STEPS)
    left.zero_grad()
    both = a(x[start : start + ITEMS]) + a(x[other : other + ITEMS])
    ((both - y[start : start + ITEMS]) ** 2).mean().backward()
    left.step()


def rows_in_some_order(a, b, left, right, x, y, i, seen):
    left.zero_grad()
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(i))[:ITEMS]
    ((a(x[rows]) - y[rows]) ** 2).mean().backward()
    left.step()


def fewer_rows_at_the_end(a, b, left, right, x, y, i, seen):
    start = ITEMS * (i % 4)
    descend(a, left, x[start : start + ITEMS - i % 4 // 3], y[start : start + ITEMS - i % 4 // 3])
    left.step()


def columns(a, b, left, right, x, y, i, seen):
    """Not one element after the other."""
    start = ITEMS * (i % STEPS)
    left.zero_grad()
    ((a(x[start : start + ITEMS])[:, 0:1] - y[start : start + ITEMS, 0:1]) ** 2).mean().backward()
    left.step()


OF_ALL = [slices, the_same_slice_twice, rows_in_some_order, fewer_rows_at_the_end, columns]
KINDS = [
    plain, two_in_turn, one_or_the_other, accumulated, evaluated_in_the_midst, against_each_other, every_loss_opened,
    interrupted, hooked, another_rate, every_loss_kept, every_output_kept, a_gradient_is_read_after_its_step,
    gradients_stay_over_the_step, every_loss_opened_before_the_step, every_loss_opened_before_its_gradient, *OF_ALL,
]  # fmt: skip
IN_TURN = [two_in_turn, one_or_the_other, against_each_other]
REPEATED = [
    plain, two_in_turn, evaluated_in_the_midst, every_loss_opened, every_loss_kept, every_output_kept, slices,
    rows_in_some_order, columns, every_loss_opened_before_the_step,
]  # fmt: skip


def run(kind, models, batches):
    """Weights of both models at the end, the numbers that were opened, and how often a step was a segment."""
    a, b = models
    left = torch.optim.SGD(a.parameters(), 0.05, momentum=0.5)
    right = torch.optim.SGD(b.parameters(), 0.05)
    seen, repeats = [], 0
    with following() as loops:
        for i, (x, y) in enumerate(batches):
            kind(a, b, left, right, x, y, i, seen)
            repeats += loops.repeats
    weights = [p.detach() for m in models for p in m.parameters()]
    seen = [x if isinstance(x, float) else opened(x) for x in seen]
    return [sy.decrypt(p) if isinstance(p, sy.SecretTensor) else p for p in weights], seen, repeats


def batches_for(kind):
    if kind in OF_ALL:
        return [(torch.randn(ITEMS * STEPS, 6), torch.randn(ITEMS * STEPS, 3))] * STEPS
    return [(torch.randn(ITEMS, 6), torch.randn(ITEMS, 3)) for _ in range(STEPS)]


def run_on_secrets(kind, models, batches, parties):
    secret = [sy.encrypt(copy.deepcopy(m), parties, frac_bits=BITS) for m in models]
    shared = {id(pair): tuple(sy.encrypt(t, parties, frac_bits=BITS) for t in pair) for pair in batches}
    before = parties.stats.copy()
    return *run(kind, secret, [shared[id(pair)] for pair in batches]), parties.stats - before


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_weights_are_those_of_plain_torch(kind):
    models, batches = (network(), network()), batches_for(kind)
    found, seen, repeats, cost = run_on_secrets(kind, models, batches, sy.virtual("alice", "bob"))
    *_, never, eager = run_on_secrets(kind, models, batches, sy.virtual("alice", "bob", eager=True))
    expected, wanted, _ = run(kind, models, batches)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2**-12)
    assert seen == pytest.approx(wanted, abs=2**-10)
    assert repeats or kind not in REPEATED
    assert not never
    assert (cost.sent, cost.dealt) == (eager.sent, eager.dealt)
    # each step ends with a round of updates, where two that follow one another may share one
    assert eager.rounds <= cost.rounds <= eager.rounds + (STEPS if kind in IN_TURN else 0)


@pytest.mark.parametrize("eager", [False, True], ids=["followed", "eager"])
def test_an_error_names_the_layer_and_changes_nothing(eager):
    """Wherever the loop was noted, is recorded or runs, what is too large is found where it was called."""
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
