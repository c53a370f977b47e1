"""Training loops of every kind that users write, on secrets or on plain tensors."""

import copy

import pytest
import torch
import torch.nn.functional as F
from op_checks import represented
from torch import nn

import pysmpc as sy
from pysmpc.program.loop import following
from pysmpc.ring.fixedpoint import BINARY16

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


def a_rate_of_each_step(a, b, left, right, x, y, i, seen):
    left.param_groups[0]["lr"] = 0.05 / (1 + i / 10)
    plain(a, b, left, right, x, y, i, seen)


def a_rate_that_is_nothing_at_times(a, b, left, right, x, y, i, seen):
    left.param_groups[0]["lr"] = 0.01 * (i // 3 % 3)
    plain(a, b, left, right, x, y, i, seen)


def steps_of_adam(a, b, left, right, x, y, i, seen):
    """Whose corrections of bias are other numbers in each step."""
    seen.append(opened(descend(a, left, x, y)))
    left.step()


def steps_of_adamw(a, b, left, right, x, y, i, seen):
    """Whose rate and decay rise and fall, as a schedule has it, and the weight of its mean."""
    for group in left.param_groups:
        group["lr"], group["betas"] = 0.02 * (1 - abs(1 - i / 9) / 2), (0.9 - i / 300, 0.999)
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
    ((both / 2 - y[start : start + ITEMS]) ** 2).mean().backward()
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
    (((a(x[start : start + ITEMS])[:, 0:1] - y[start : start + ITEMS, 0:1]) ** 2).mean() / 3).backward()  # as of all
    left.step()


OF_ALL = [slices, the_same_slice_twice, rows_in_some_order, fewer_rows_at_the_end, columns]
KINDS = [
    plain, two_in_turn, one_or_the_other, accumulated, evaluated_in_the_midst, against_each_other, every_loss_opened,
    interrupted, hooked, another_rate, a_rate_of_each_step, a_rate_that_is_nothing_at_times, steps_of_adam,
    steps_of_adamw, every_loss_kept, every_output_kept, a_gradient_is_read_after_its_step,
    gradients_stay_over_the_step, every_loss_opened_before_the_step, every_loss_opened_before_its_gradient, *OF_ALL,
]  # fmt: skip
IN_TURN = [two_in_turn, one_or_the_other, against_each_other]
REPEATED = [
    plain, two_in_turn, evaluated_in_the_midst, every_loss_opened, every_loss_kept, every_output_kept, slices,
    rows_in_some_order, columns, every_loss_opened_before_the_step, another_rate, a_rate_of_each_step, steps_of_adam,
    steps_of_adamw,
]  # fmt: skip
#: eps is large, so that no rounding of a small gradient decides where a weight goes; roots are approximated
OPTIMIZERS = {
    steps_of_adam: lambda p: torch.optim.Adam(p, 0.02, eps=0.01),
    steps_of_adamw: lambda p: torch.optim.AdamW(p, 0.02, eps=0.01, weight_decay=0.1),
}


def run(kind, models, batches):
    """Weights of both models at the end, the numbers that were opened, and how often a step was a segment."""
    a, b = models
    left = OPTIMIZERS.get(kind, lambda p: torch.optim.SGD(p, 0.05, momentum=0.5))(a.parameters())
    right = torch.optim.SGD(b.parameters(), 0.05)
    seen, repeats = [], 0
    with following() as loops:
        for i, (x, y) in enumerate(batches):
            kind(a, b, left, right, x, y, i, seen)
            repeats += loops.repeats
    weights = [p.detach() for m in models for p in m.parameters()]
    seen = [x if isinstance(x, float) else opened(x) for x in seen]
    return [sy.decrypt(p) if isinstance(p, sy.SecretTensor) else p for p in weights], seen, repeats


def batches_for(kind, steps=STEPS):
    if kind in OF_ALL:
        return [(torch.randn(ITEMS * STEPS, 6), torch.randn(ITEMS * STEPS, 3))] * steps
    return [(torch.randn(ITEMS, 6), torch.randn(ITEMS, 3)) for _ in range(steps)]


def run_on_secrets(kind, models, batches, parties):
    secret = [sy.encrypt(copy.deepcopy(m), parties, frac_bits=BITS) for m in models]
    shared = {id(pair): tuple(sy.encrypt(t, parties, frac_bits=BITS) for t in pair) for pair in batches}
    before = parties.stats.copy()
    return *run(kind, secret, [shared[id(pair)] for pair in batches]), parties.stats - before


def wavering():
    """A loop that goes on as it did, and changes its mind now and then."""
    kinds, chosen = [kind for kind in KINDS if kind not in (*OF_ALL, hooked)], []
    for _ in range(STEPS):
        again = chosen and torch.rand(()) < 0.8
        chosen.append(chosen[-1] if again else kinds[int(torch.randint(len(kinds), ()))])

    def changes_its_mind(a, b, left, right, x, y, i, seen):
        chosen[i](a, b, left, right, x, y, i, seen)

    changes_its_mind.of = [kind.__name__ for kind in chosen]
    return changes_its_mind


#: Of whose results a gradient needs more than their words.
FUNCTIONS = {
    "pooled": lambda x: F.max_pool2d(x.view(1, 1, 4, 6), 2, 1),
    "pooled where": lambda x: F.max_pool2d(x.view(1, 1, 4, 6), 2, return_indices=True)[0],
    "largest": lambda x: x.max(1).values,
    "equals": lambda x: x.amax(1) + x.max(),
    "sorted": lambda x: x.sort(1).values[:, :2],
    "middle": lambda x: x.median(1).values,
    "first": lambda x: x.topk(2).values,
    "rising": lambda x: x.cummax(1).values,
    "positive": lambda x: x.relu() * (x > 1),
    "chosen": lambda x: torch.where(x > 0, x, x.abs() / 2),
    "normalised": lambda x: F.softmax(x, 1) + F.layer_norm(x, (6,)),
    "smooth": lambda x: torch.sigmoid(x) * F.gelu(x) + x.exp() / (1 + x.exp()),
    "length": lambda x: x.norm(dim=1) / (1 + x.abs().sum(1)),
}


def opened_before_its_gradient(function, parties):
    """A loop that opens each loss before `backward`: gradients and losses of plain torch."""
    start = represented(torch.randn(4, 6), BINARY16)
    weight, twin = sy.encrypt(start, parties).requires_grad_(), start.clone().requires_grad_()
    optimizers = [torch.optim.SGD([each], lr=0.25) for each in (weight, twin)]
    for _ in range(5):
        data = represented(torch.rand(4, 6), BINARY16)
        losses = []
        for each, x, optimizer in zip((weight, twin), (sy.encrypt(data, parties), data), optimizers, strict=True):
            optimizer.zero_grad()
            losses.append(function(each + x).square().mean())
            if each is weight:
                seen = opened(losses[0])
        for loss in losses:
            loss.backward()
        assert seen == pytest.approx(losses[1].item(), abs=2**-9, rel=2**-9)
        torch.testing.assert_close(sy.decrypt(weight.grad), twin.grad.to(weight.dtype), rtol=2**-8, atol=2**-9)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            twin.copy_(sy.decrypt(weight.detach()))
