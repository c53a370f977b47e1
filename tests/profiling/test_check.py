"""`sy.check`: every missing operation at once, approximations, costs as they come to be, and replacements."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.tensor.storage import flush


class Odd(nn.Module):
    """What secrets lack, beside what they have."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x):
        x = torch.lgamma(self.first(x))
        if x.sum() > 0:
            x = x * 2
        return self.last(F.gelu(self.norm(torch.special.i0e(x)))) * x.mean().item()


def test_everything_that_is_missing_at_once():
    net = Odd()
    found = sy.check(net, torch.randn(5, 6))
    by_name = {each.operation: each for each in found.problems}
    assert set(by_name) == {"lgamma", "bool", "special_i0e", "item"}
    assert not found.ok
    lines = sum(each.line.startswith(__file__) for each in found.problems)
    assert lines == 4
    assert {each.layer for each in found.problems} == {"Odd"}
    assert "polynomial" in by_name["lgamma"].instead
    assert "torch.where" in by_name["bool"].instead
    text = str(found)
    assert all(f"missing: {name} in Odd" in text for name in by_name)


def test_approximations_say_within_what():
    found = sy.check(nn.Sequential(nn.Linear(3, 3), nn.Sigmoid(), nn.Softmax(-1)), torch.randn(2, 3))
    assert found.ok
    said = {each.operation: each for each in found.approximations}
    assert set(said) == {"sigmoid", "_softmax"}
    assert said["sigmoid"].layers == ("1",)
    assert "1.3 steps" in said["sigmoid"].what
    assert "nothing is missing" in str(found)


NETS = {
    "layers": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (4, 6)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True), (2, 3, 8)),
}


@pytest.mark.parametrize("protocol", ["default", "fss"])
@pytest.mark.parametrize("name", NETS)
def test_costs_are_those_of_the_step_itself(name, protocol):
    make, shape = NETS[name]
    net, x, y = make(), torch.randn(shape), torch.randn(shape)
    y = y[..., :3] if name == "layers" else y
    found = sy.check(net, (x, y), loss=F.mse_loss, optimizer=torch.optim.Adam, protocol=protocol)
    assert found.ok, str(found)
    parties = sy.virtual("alice", "bob", protocol=protocol)
    secret, mine, theirs = sy.encrypt(net, parties), sy.encrypt(x, parties), sy.encrypt(y, parties)
    before = parties.stats.copy()
    F.mse_loss(secret(mine), theirs).backward()
    torch.optim.Adam(secret.parameters()).step()
    flush(parties.session)
    spent = parties.stats - before
    told = found.profile.stats
    assert (told.rounds, told.sent, told.dealt) == (spent.rounds, spent.sent, spent.dealt)
    assert found.bytes_held >= 8 * 4 * sum(p.numel() for p in net.parameters())  # weights, gradients and moments


def test_the_model_stays_as_it_was():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    assert sy.check(net, {"input": x}, loss=F.cross_entropy, target=y, optimizer=optimizer).ok
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before.values(), strict=True))
    assert not optimizer.state


def test_a_fixed_model_has_nothing_missing():
    net = nn.Sequential(nn.Embedding(9, 4, max_norm=1.0), nn.Unflatten(1, (2, 2)), nn.CrossMapLRN2d(2)).eval()
    tokens = torch.randint(9, (3, 4))
    found = sy.check(net, tokens)
    assert not found.ok
    fixed = found.fix()
    assert isinstance(fixed[2], nn.LocalResponseNorm)
    assert net[0].max_norm == 1.0
    assert sy.check(fixed, tokens).ok


def test_an_optimizer_that_is_refused():
    net = nn.Linear(3, 1)
    found = sy.check(net, torch.randn(4, 3), loss=lambda out: out.sum(), optimizer=torch.optim.LBFGS)
    assert "LBFGS" in found.problems[-1].message


def test_what_is_refused_at_once():
    parties = sy.virtual("alice", "bob")
    with pytest.raises(EncodingError, match="plain model"):
        sy.check(sy.encrypt(nn.Linear(2, 2), parties), torch.ones(1, 2))
    with pytest.raises(TypeError, match="target=y"):
        sy.check(nn.Linear(2, 2), torch.ones(1, 2), loss=F.mse_loss)


def test_a_training_script_is_told_of_it():
    x = sy.encrypt(torch.ones(2), sy.virtual("alice", "bob"))
    with pytest.raises(NotImplementedError, match=r"sy\.check\(model, x\) lists all"):
        torch.lgamma(x)
