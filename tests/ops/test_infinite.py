"""Minus infinity of public masks: in softmax as in torch, and refused elsewhere."""

import copy
import math

import pytest
import torch
from op_checks import SUITE_OPTIONS, encrypted, parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import EncodingError

MASK = torch.tensor([[True, False, False, True], [False, False, True, False], [False, True, True, True]])
ADDED = torch.zeros(3, 4).masked_fill(MASK, -math.inf)
WAYS = {
    "masked_fill": lambda x: x.masked_fill(MASK, -math.inf),
    "where": lambda x: torch.where(MASK, -math.inf, x),
    "where not": lambda x: torch.where(~MASK, x, torch.tensor(-math.inf)),
    "sum": lambda x: x + ADDED,
    "sum, then more": lambda x: (ADDED + x) + x * 0.5 + torch.ones(4),
    "twice": lambda x: (x + ADDED).masked_fill(MASK.flip(1) & ~MASK.all(1, keepdim=True) & MASK, -math.inf),
    "moved": lambda x: (x + ADDED).t().unsqueeze(0)[0].t(),
}


def close(found, expected, atol=2**-11):
    assert torch.allclose(plain(found.detach()).float(), expected.detach().float(), atol=atol)


@pytest.mark.parametrize("way", WAYS)
def test_softmax_of_masked_scores(way):
    x = torch.randn(3, 4) * 5
    mine, theirs = encrypted(x).requires_grad_(), x.clone().requires_grad_()
    found, expected = WAYS[way](mine).softmax(-1), WAYS[way](theirs).softmax(-1)
    close(found, expected)
    assert bool((plain(found.detach())[expected == 0] == 0).all())
    weights = torch.rand(3, 4)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    close(mine.grad, theirs.grad)


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
def test_every_suite(suite):
    x = torch.randn(3, 4)
    close((encrypted(x, **SUITE_OPTIONS[suite]) + ADDED).softmax(-1), (x + ADDED).softmax(-1))


@pytest.mark.parametrize("way", ["masked_fill", "sum"])
@pytest.mark.parametrize(
    "call",
    [
        lambda x: x * 2, lambda x: x.sum(), torch.relu, lambda x: x @ x.t(), lambda x: x - 1, torch.exp,
        lambda x: x.log_softmax(-1),
        lambda x: x.clone(), lambda x: x.mul_(2), lambda x: x > 0, lambda x: torch.cat([x, x]), sy.decrypt,
        lambda x: F.mse_loss(x, x * 0), lambda x: x.cumsum(0), lambda x: x.max(), lambda x: x[MASK],
    ],
)  # fmt: skip
def test_all_else_is_refused(way, call):
    x = encrypted(torch.randn(3, 4))
    with pytest.raises(EncodingError, match=r"minus infinity.*softmax"):
        call(WAYS[way](x))


def test_what_is_no_mask_is_refused():
    x = encrypted(torch.randn(3, 4))
    for call in (lambda: x - ADDED, lambda: x + -ADDED, lambda: torch.add(x, ADDED, alpha=-1), lambda: x * ADDED):
        with pytest.raises(EncodingError):
            call()
    with pytest.raises(EncodingError, match="row"):
        x.masked_fill(torch.ones(3, 1, dtype=torch.bool), -math.inf).softmax(-1)
    before = sy.decrypt(x)
    with pytest.raises(EncodingError):
        x.masked_fill_(MASK, -math.inf)
    assert torch.equal(sy.decrypt(x), before)


@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_in_training_with_masks(need_weights):
    """With dropout torch takes attention apart, and adds masks to the scores."""
    layer = nn.MultiheadAttention(8, 2, dropout=0.3)
    twin, secret = copy.deepcopy(layer), sy.encrypt(layer, parties())
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    padding = torch.tensor([[False, False, True], [False, False, False]])
    x, seed = torch.randn(3, 2, 8), int(torch.randint(1 << 40, ()))
    results = []
    for net, q in ((secret, encrypted(x)), (twin, x)):
        torch.manual_seed(seed)
        options = {"attn_mask": causal, "key_padding_mask": padding.float().masked_fill(padding, -math.inf)}
        results.append(net(q, q, q, need_weights=need_weights, **options)[0])
    torch.seed()
    close(*results, atol=2**-10)
    weights = torch.rand(results[1].shape)
    for out in results:
        (out * weights).sum().backward()
    for a, b in zip(secret.parameters(), twin.parameters(), strict=True):
        close(a.grad, b.grad, atol=2**-8)


def test_a_repeated_step_with_a_mask():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 4)

        def forward(self, x):
            return self.inner(x).masked_fill(MASK, -math.inf).softmax(-1)

    net = Masked()
    twin, secret = copy.deepcopy(net), sy.encrypt(net, parties())
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.5) for each in (secret, twin)]
    step = sy.TrainStep(secret, optimizers[0], F.mse_loss)
    for _ in range(7):
        x, y = torch.randn(3, 6), torch.rand(3, 4)
        step(encrypted(x), encrypted(y))
        optimizers[1].zero_grad()
        F.mse_loss(twin(x), y).backward()
        optimizers[1].step()
    assert step.repeats, step.reason
    for a, b in zip(secret.parameters(), twin.parameters(), strict=True):
        close(a, b, atol=2**-9)
