"""Training steps and inference of whole networks: forward, backward and update beside plain torch."""

import pytest
import torch
from models import lenet, mlp, squares, step, vgg_block

import pysmpc as sy


def train(beside, parties, plain, x, y, *, repeated=False, loss=squares, rate=0.02, **encoding):
    hidden = sy.encrypt(plain, parties, **encoding)
    hx, hy = sy.encrypt(x, parties, **encoding), sy.encrypt(y, parties, **encoding)
    ours = torch.optim.SGD(hidden.parameters(), lr=rate)
    theirs = torch.optim.SGD(plain.parameters(), lr=rate)

    if repeated:
        again = sy.TrainStep(hidden, ours, loss)
        for _ in range(6):
            again(hx, hy)
        assert again.repeats, again.reason

    def secure():
        if repeated:
            again(hx, hy)
        else:
            step(hidden, ours, hx, hy, loss)
            next(hidden.parameters()).cell.body  # noqa: B018  (updates that wait are part of the step)

    beside(secure, lambda: step(plain, theirs, x, y, loss), parties)


def infer(beside, parties, plain, x):
    """Sharing a batch, the forward pass, opening the result; the weights were opened under their masks before."""
    hidden = sy.encrypt(plain, parties)
    with torch.no_grad():
        beside(lambda: sy.decrypt(hidden(sy.encrypt(x, parties))), lambda: plain(x), parties)


@pytest.mark.parametrize("batch", [64, 512])
@pytest.mark.parametrize("encoding", [{"frac_bits": 16}, {"precision_fractional": 3}], ids=["2^-16", "10^-3"])
def test_mlp_step(beside, parties, batch, encoding):
    train(beside, parties, mlp(128, 64), torch.randn(batch, 784), torch.randn(batch, 10), **encoding)


@pytest.mark.parametrize("batch", [64, 512])
def test_mlp_step_repeated(beside, parties, batch):
    train(beside, parties, mlp(128, 64), torch.randn(batch, 784), torch.randn(batch, 10), repeated=True)


@pytest.mark.parametrize("batch", [1, 64])
def test_mlp_inference(beside, parties, batch):
    infer(beside, parties, mlp(128, 64), torch.randn(batch, 784))


@pytest.mark.parametrize("batch", [1, 32])
def test_lenet_forward(beside, parties, batch):
    infer(beside, parties, lenet(), torch.randn(batch, 1, 28, 28))


def test_lenet_step(beside, parties):
    train(beside, parties, lenet(), torch.randn(64, 1, 28, 28), torch.randn(64, 10))


def test_lenet_step_repeated(beside, parties):
    train(beside, parties, lenet(), torch.randn(64, 1, 28, 28), torch.randn(64, 10), repeated=True)


def test_vgg_block_step(beside, parties):
    """Its loss is a sum of the output times public numbers, which nothing bounds: the rate is small."""
    weights = torch.randn(4, 128, 16, 16) / 128
    x, unused = torch.randn(4, 3, 64, 64), torch.zeros(1)
    train(beside, parties, vgg_block(), x, unused, loss=lambda out, _: (out * weights).sum(), rate=0.001)


@pytest.mark.parametrize("batch", [64, 512])
def test_mlp_step_with_codes(beside, batch):
    """Beside the row of the same step without: what integrity costs."""
    coded = sy.virtual("alice", "bob", integrity="mac")
    train(beside, coded, mlp(128, 64), torch.randn(batch, 784), torch.randn(batch, 10))
