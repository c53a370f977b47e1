"""Integers to compute with, and equality with torch in value and dtype."""

import torch

import pysmpc as sy


def integers(dtype, *shape, bits=None):
    """Every magnitude, both signs, and the edges."""
    bits = bits or (61 if dtype == torch.int64 else 31)
    out = torch.randint(0, 1 << 62, shape) >> torch.randint(62 - bits, 63, shape)
    out = torch.where(torch.rand(shape) < 0.5, out, -out)
    out.view(-1)[:4] = torch.tensor([0, -1, 1, -(1 << (bits - 1))])
    return out.to(dtype)


def same(secret, plain):
    assert isinstance(secret, sy.SecretTensor)
    assert secret.dtype == plain.dtype
    opened = sy.decrypt(secret)
    assert opened.dtype == plain.dtype
    assert torch.equal(opened, plain)
