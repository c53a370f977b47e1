"""Function secret sharing in other settings: keys dealt to disk ahead of the program."""

import torch
from torch.nn import functional as F

import pysmpc as sy


def program(parties):
    x = sy.encrypt(torch.tensor([0.5, -1.0, 2.0]), parties).requires_grad_()
    y = F.relu(x * x - 1)
    y.sum().backward()
    return sy.decrypt(y.detach()), sy.decrypt(x.grad), sy.decrypt(x > 0), sy.decrypt(x == 2)


def test_keys_from_disk(tmp_path):
    with sy.plan("alice", "bob", protocol="fss") as plan:
        program(plan.parties)
    plan.deal(tmp_path / "material")
    parties = sy.virtual("alice", "bob", material=tmp_path / "material", protocol="fss")
    y, gradient, positive, two = program(parties)
    assert torch.allclose(y, torch.tensor([0.0, 0.0, 3.0]), atol=1e-3)
    assert torch.allclose(gradient, torch.tensor([0.0, 0.0, 4.0]), atol=1e-3)
    assert positive.tolist() == [True, False, True]
    assert two.tolist() == [False, False, True]
    assert parties.stats == plan.parties.stats
