"""`sy.TrainStep` with adaptive optimizers: the steps of a loop, with the bias corrections and counts of each."""

import pytest
import torch
from op_checks import parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

ULP = 2.0**-16
STEPS = 8

#: eps is large, so that no rounding of a small gradient decides where a weight goes.
SETTINGS = {
    "Adam": {"lr": 0.05, "eps": 0.01, "amsgrad": True},
    "AdamW": {"lr": 0.05, "eps": 0.01},
    "NAdam": {"lr": 0.05, "eps": 0.01},
    "RAdam": {"lr": 0.05, "eps": 0.01},
    "Adamax": {"lr": 0.05, "eps": 0.01},
    "RMSprop": {"lr": 0.05, "eps": 0.01, "momentum": 0.5, "centered": True},
    "Adagrad": {"lr": 0.05, "eps": 0.01},
    "Adadelta": {"lr": 1.0},
    "Rprop": {"lr": 0.01},
    "ASGD": {"lr": 0.05},
}

#: ASGD multiplies its parameters by another number in each step; RAdam has other operations from the sixth on.
REPEATED = SETTINGS.keys() - {"ASGD", "RAdam"}


def drawn(name, turn):
    """A batch of inputs (8, 3) and targets (8, 2).

    A step of Rprop depends on the signs of gradients alone, and rounding decides the sign of a small one: its
    targets are far from what the model says, on the same side in each turn for one output, on the other side in
    every other turn for the other.
    """
    if name == "Rprop":
        return torch.rand(8, 3) + 0.5, torch.tensor([4.0, -4.0 if turn else 4.0]).expand(8, 2)
    return torch.randn(8, 3), torch.randn(8, 2)


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_are_those_of_a_loop(name):
    net = nn.Linear(3, 2)
    models = [sy.encrypt(net, parties()) for _ in range(2)]
    mine, theirs = (getattr(torch.optim, name)(model.parameters(), **SETTINGS[name]) for model in models)
    step = sy.TrainStep(models[0], mine, F.mse_loss)
    batches = [[sy.encrypt(part, parties()) for part in drawn(name, turn)] for turn in range(2)]
    for turn in range(STEPS):
        x, y = batches[turn % 2]
        loss = step(x, y)
        theirs.zero_grad()
        expected = F.mse_loss(models[1](x), y)
        expected.backward()
        theirs.step()
        assert abs(float(plain(loss)) - float(plain(expected.detach()))) < 64 * ULP
    assert step.repeats == (name in REPEATED), step.reason
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert float((plain(a.detach()) - plain(b.detach())).abs().max()) <= 32 * ULP
        assert mine.state[a].keys() == theirs.state[b].keys()
        for key, value in mine.state[a].items():
            other = theirs.state[b][key]
            if isinstance(value, sy.SecretTensor):
                assert value.cell.unit == other.cell.unit
                # a buffer holds gradients over roots, which make their rounding up to 1 / eps as large
                assert torch.allclose(plain(value).double(), plain(other).double(), atol=400 * ULP, rtol=2.0**-8)
            else:
                assert float(value) == pytest.approx(float(other))
        assert float(mine.state[a]["step"]) == STEPS
