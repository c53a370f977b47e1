"""Layers that torch sends as one operation: LSTMs, bags of embeddings, pools of windows at random."""

import pytest
import torch
from op_checks import SUITE_OPTIONS, encrypted, parties, plain, twins
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import RevealError


def close(found, expected, atol=2**-10):
    assert torch.allclose(plain(found.detach()).double(), expected.detach(), atol=atol)


# --- LSTM ----------------------------------------------------------------------------------

LSTMS = {
    "one": ({}, (4, 2, 3)),
    "both ways": ({"bidirectional": True}, (4, 2, 3)),
    "two, batch first": ({"num_layers": 2, "batch_first": True}, (2, 4, 3)),
    "without biases": ({"bias": False}, (4, 2, 3)),
    "one sequence": ({}, (4, 3)),
    "one step": ({"bidirectional": True}, (1, 2, 3)),
}


def train(secret, twin, x, states=(), **options):
    mine, theirs = encrypted(x, **options).requires_grad_(), plain(encrypted(x)).double().requires_grad_()
    mine_states = [encrypted(s, **options).requires_grad_() for s in states]
    their_states = [plain(encrypted(s)).double().requires_grad_() for s in states]
    found, (h, c) = secret(mine, tuple(mine_states)) if states else secret(mine)
    expected, (eh, ec) = twin(theirs, tuple(their_states)) if states else twin(theirs)
    for a, b in ((found, expected), (h, eh), (c, ec)):
        close(a, b)
    weights = torch.rand(expected.shape)
    ((found * weights).sum() + h.sum() + (c * c).sum()).backward()
    ((expected * weights.double()).sum() + eh.sum() + (ec * ec).sum()).backward()
    pairs = [(mine, theirs), *zip(mine_states, their_states, strict=True)]
    for a, b in [*pairs, *zip(secret.parameters(), twin.parameters(), strict=True)]:
        close(a.grad, b.grad, 2**-9)


@pytest.mark.parametrize("name", LSTMS)
def test_lstm(name):
    options, shape = LSTMS[name]
    train(*twins(nn.LSTM(3, 4, **options)), torch.randn(shape))


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
def test_lstm_of_every_suite(suite):
    options = SUITE_OPTIONS[suite]
    train(*twins(nn.LSTM(2, 3), **options), torch.randn(3, 2, 2), **options)


def test_lstm_from_given_states():
    train(*twins(nn.LSTM(3, 4)), torch.randn(3, 2, 3), [torch.randn(1, 2, 4), torch.randn(1, 2, 4)])


def test_lstm_without_a_graph():
    secret, twin = twins(nn.LSTM(3, 4))
    x = torch.randn(4, 2, 3)
    with torch.no_grad():
        close(secret.eval()(encrypted(x))[0], twin.eval()(x.double())[0])


def test_bounds_of_many_steps_of_time():
    """States of bounded layers are bounded by the number of steps, and no bound refuses the gradient."""
    net, time = nn.LSTM(1, 1), 100
    secret, twin = twins(net, bounded=2.0)
    x = torch.rand(time, 1, 1)
    found, (_, state) = secret(encrypted(x, bounded=1.0))
    assert time <= state.cell.bound <= 1.1 * time
    assert found.cell.bound <= 1.1
    expected, _ = twin(plain(encrypted(x)).double())
    found.sum().backward()
    expected.sum().backward()
    for a, b in zip(secret.parameters(), twin.parameters(), strict=True):
        close(a.grad, b.grad, 2**-8 * max(1.0, float(b.grad.abs().max())))


def test_rounds_of_an_lstm():
    """A step of time: one sigmoid for all gates."""
    secret, _ = twins(nn.LSTM(3, 4))
    found = []
    for steps in (3, 4):
        x = encrypted(torch.randn(steps, 2, 3))
        before = parties().stats.copy()
        secret(x)
        found.append((parties().stats - before).rounds)
    assert found[1] - found[0] <= 16


def test_a_public_lstm_and_public_inputs():
    net, x = nn.LSTM(3, 4), torch.randn(4, 2, 3)
    close(net(encrypted(x))[0], net.double()(plain(encrypted(x)).double())[0])
    secret, twin = twins(nn.LSTM(3, 4))
    close(secret(x)[0], twin(x.double())[0])


@pytest.mark.parametrize("make", [nn.GRU, nn.RNN])
def test_other_recurrent_layers(make):
    secret, twin = twins(make(3, 4, bidirectional=True))
    x = torch.randn(3, 2, 3)
    close(secret(encrypted(x))[0], twin(plain(encrypted(x)).double())[0])


# --- bags of embeddings --------------------------------------------------------------------

INDICES, OFFSETS = torch.tensor([1, 2, 4, 5, 4, 3, 2, 9]), torch.tensor([0, 4, 4, 6])


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"include_last_offset": True}])
@pytest.mark.parametrize("weights", [None, "public", "secret"])
def test_embedding_bags(mode, options, weights):
    if weights and mode == "mean":
        return
    secret, twin = twins(nn.EmbeddingBag(10, 3, mode=mode, **options))
    offsets = torch.tensor([0, 4, 8]) if options.get("include_last_offset") else OFFSETS
    theirs = torch.rand(8).double().requires_grad_() if weights else None
    mine = None
    if weights:
        value = theirs.detach().float()
        mine = encrypted(value).requires_grad_() if weights == "secret" else value
    found = secret(INDICES, offsets, per_sample_weights=mine)
    expected = twin(INDICES, offsets, per_sample_weights=theirs)
    close(found, expected)
    part = torch.rand(expected.shape)
    (found * part).sum().backward()
    (expected * part.double()).sum().backward()
    close(secret.weight.grad, twin.weight.grad)
    if weights == "secret":
        close(mine.grad, theirs.grad)
    with torch.no_grad():
        close(secret(INDICES.reshape(2, 4)) if not options.get("include_last_offset") else found,
              twin(INDICES.reshape(2, 4)) if not options.get("include_last_offset") else expected)  # fmt: skip


@pytest.mark.parametrize("options", [{"mode": "max"}, {"sparse": True}, {"scale_grad_by_freq": True}])
def test_bags_that_are_refused(options):
    secret = sy.encrypt(nn.EmbeddingBag(10, 3, **{"mode": "sum", **options}), parties())
    with pytest.raises(NotImplementedError, match="_embedding_bag"):
        secret(INDICES, OFFSETS)


def test_bags_of_secret_indices_say_what_to_do():
    secret = sy.encrypt(nn.EmbeddingBag(10, 3), parties())
    with pytest.raises(RevealError, match="one_hot"):
        secret(encrypted(INDICES), OFFSETS)


# --- pools ---------------------------------------------------------------------------------

POOLS = {
    "2d": (F.fractional_max_pool2d, (2, 3, 7, 6), (2, 2), (4, 3)),
    "2d, one image": (F.fractional_max_pool2d, (3, 7, 6), (3, 2), (3, 1)),
    "3d": (F.fractional_max_pool3d, (2, 2, 5, 6, 4), (2, 2, 2), (3, 3, 2)),
}


@pytest.mark.parametrize("name", POOLS)
def test_fractional_pools(name):
    pool, shape, kernel, out = POOLS[name]
    x = torch.randn(shape)
    mine, theirs = encrypted(x).requires_grad_(), x.clone().requires_grad_()
    seed = int(torch.randint(1 << 40, ()))
    results = []
    for each in (mine, theirs):
        torch.manual_seed(seed)
        results.append(pool(each, kernel, output_size=out, return_indices=True))
    torch.seed()
    (found, at), (expected, places) = results
    assert torch.equal(plain(at).to(torch.int64), places)
    assert torch.allclose(plain(found.detach()).float(), expected.detach(), atol=2**-14)
    weights = torch.rand(expected.shape)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(plain(mine.grad).float(), theirs.grad, atol=2**-13)


def test_what_has_another_layer_says_so():
    with pytest.raises(NotImplementedError, match="LocalResponseNorm"):
        nn.CrossMapLRN2d(2)(encrypted(torch.rand(1, 4, 3, 3)))
