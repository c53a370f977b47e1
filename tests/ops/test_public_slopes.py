"""A public layer before a secret one: its gradients are secret, and torch's."""

import copy
import warnings

import module_sweep
import pytest
import torch
from op_checks import encrypted, parties, plain
from torch import nn

import pysmpc as sy
from pysmpc.mpc.interfaces import Cost

NAMES = """
ReLU ReLU6 Hardtanh Sigmoid Tanh GELU SiLU Softplus LogSigmoid Hardshrink Softshrink Mish ELU LeakyReLU PReLU Tanhshrink
Softmax LogSoftmax Softmin MaxPool1d MaxPool2d MaxPool3d AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d
AvgPool3d LPPool2d FractionalMaxPool2d FractionalMaxPool3d LSTM GRU Linear Conv2d Embedding LayerNorm BatchNorm1d
GroupNorm Dropout MSELoss CrossEntropyLoss MultiMarginLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_gradients_of_a_public_layer(name):
    arguments, shapes = module_sweep.SPECS[name]
    values = [module_sweep._values(shape) for shape in shapes]
    layer = getattr(nn, name)(*arguments)
    twin = copy.deepcopy(layer)
    seed = int(torch.randint(1 << 40, ()))
    sides = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in (layer, twin):
            given = [v.clone().requires_grad_() if v.is_floating_point() else v for v in values]
            torch.manual_seed(seed)
            sides.append((given, module_sweep._results(each(*given))))
        torch.seed()
    (mine, found), (theirs, expected) = sides
    assert not any(isinstance(x, sy.SecretTensor) for x in found)
    weights = [torch.rand(x.shape) for x in expected]
    sum((x * encrypted(w)).sum() for x, w in zip(found, weights, strict=True)).backward()
    sum((x * w).sum() for x, w in zip(expected, weights, strict=True)).backward()
    for a, b in [*zip(mine, theirs, strict=True), *zip(layer.parameters(), twin.parameters(), strict=True)]:
        if b.is_floating_point() and b.grad is not None:
            assert torch.allclose(plain(a.grad).float(), b.grad, atol=2**-9), name


def test_elementwise_ones_cost_nothing():
    x = torch.randn(8, 5, requires_grad=True)
    weight = encrypted(torch.rand(8, 5))
    out = torch.relu(x) * weight
    before = parties().stats.copy()
    out.sum().backward()
    assert (parties().stats - before).cost == Cost()
    assert isinstance(x.grad, sy.SecretTensor)
