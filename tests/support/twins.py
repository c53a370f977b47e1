"""A training program for secrets that every party runs, and its twin in float64."""

import copy
import itertools

import torch
from torch import nn

from pysmpc.api import decrypting
from pysmpc.ring.fixedpoint import BINARY16, decode, encode
from pysmpc.tensor.secret import SecretTensor


class Owner:
    """Encrypts in any process of a session: the values are looked at where their owner is."""

    def __init__(self, session, owner, precision=BINARY16):
        self.session = session
        self.owner = owner
        self.precision = precision

    def share(self, values, requires_grad=False):
        words = encode(values.detach(), self.precision) if self.owner else None
        suite, party = self.session.suite, self.session.party
        share = suite.share(party, words, values.shape, self.precision.scale)
        out = SecretTensor.of(share, self.session, self.precision, torch.float32)
        return out.requires_grad_(requires_grad)

    def module(self, module):
        return decrypting.replace_tensors(module, lambda p: self.share(p))


def opened(secret):
    """The values in float64, or None in a process without holders."""
    [words] = secret.session.suite.reveal(secret.session.party, secret.detach().window())
    return decode(words, secret.cell.scale) if secret.session.party.rows else None


def representable(values, precision=BINARY16):
    """The values that the encoding of `values` stands for, in float64."""
    return decode(encode(values, precision), precision.scale)


def double_twin(module):
    """A copy of a module in float64 on representable values."""
    twin = copy.deepcopy(module).double()
    with torch.no_grad():
        for mine, theirs in zip(twin.parameters(), module.parameters(), strict=True):
            mine.copy_(representable(theirs))
    return twin


def task(batch, *sizes, margin=2.0**-11, steps=1, **options):
    """(model, x, y) in which no ReLU is so near to 0 that rounding could turn it.

    steps: of training by mean squared errors and SGD with these options, in all of which that is so.
    """
    while True:
        model, x, y = mlp(*sizes), torch.randn(batch, sizes[0]), torch.randn(batch, sizes[-1])
        twin, nearest = double_twin(model), 1.0
        optimizer = torch.optim.SGD(twin.parameters(), **options)
        for _ in range(steps):
            value = representable(x)
            for layer in twin:
                if isinstance(layer, nn.ReLU):
                    nearest = min(nearest, float(value.detach().abs().min()))
                value = layer(value)
            optimizer.zero_grad()
            nn.functional.mse_loss(value, representable(y)).backward()
            optimizer.step()
        if nearest > margin:
            return model, x, y


def mlp(*sizes):
    layers = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
