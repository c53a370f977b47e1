"""`sy.encrypt(model, parties, private_layers=...)`: some layers secret, the others plain torch."""

import copy

import pytest
import torch
from op_checks import encrypted, parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.interfaces import Cost


def network():
    return nn.Sequential(
        nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
    )


def secrets(model):
    return [name for name, each in model.state_dict().items() if isinstance(each, sy.SecretTensor)]


@pytest.mark.parametrize("chosen", ["name", "module", "one", "several"])
def test_what_becomes_secret(chosen):
    net = network()
    before = copy.deepcopy(net.state_dict())
    layers = {"name": ["1"], "module": [net[1]], "one": "1", "several": [net[0][0], "3", "0.0"]}[chosen]
    model = sy.encrypt(net, parties(), private_layers=layers)
    expected = ["0.0.weight", "0.0.bias", "3.weight", "3.bias"] if chosen == "several" else ["1.weight", "1.bias"]
    assert secrets(model) == expected
    assert all(torch.equal(each, before[name]) for name, each in net.state_dict().items())
    whole = sy.encrypt(net, parties(), private_layers=["0"])
    assert secrets(whole) == ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "0.1.running_mean", "0.1.running_var"]
    assert secrets(sy.encrypt(net, parties(), private_layers=[])) == []
    assert len(secrets(sy.encrypt(net, parties(), private_layers=[net]))) == 10


def test_values_and_what_the_public_part_costs():
    net = network().eval()
    model = sy.encrypt(net, parties(), private_layers=["3"])
    x = torch.randn(4, 6)
    before = parties().stats.copy()
    body = model[:3](x)
    assert not isinstance(body, sy.SecretTensor)
    assert (parties().stats - before).cost == Cost()
    whole = model(x)
    spent = (parties().stats - before).cost
    before = parties().stats.copy()
    sy.encrypt(net[3], parties(), private_layers=None)
    before = parties().stats.copy()
    alone = model[3](body)
    assert spent == (parties().stats - before).cost or spent.rounds <= 1
    assert torch.allclose(plain(whole).float(), net(x), atol=2**-11)
    assert torch.allclose(plain(alone).float(), net(x), atol=2**-11)
    secret = model(encrypted(x))
    assert torch.allclose(plain(secret).float(), net(x), atol=2**-10)
    assert torch.allclose(sy.decrypt(model)(x), net(x), atol=2**-11)


def test_only_the_private_layers_learn():
    """Gradients of the public layers are secret: an optimizer of them says what to do; one of the others steps."""
    net = network()
    model = sy.encrypt(net, parties(), private_layers=["1", "3"])
    twin = copy.deepcopy(net)
    x, y = torch.randn(8, 6), torch.randn(8, 3)
    private = [p for p in model.parameters() if isinstance(p, sy.SecretTensor)]
    assert len(private) == 4
    theirs = [*twin[1].parameters(), *twin[3].parameters()]
    mine = torch.optim.SGD(private, lr=0.1), torch.optim.SGD(theirs, lr=0.1)
    for _ in range(3):
        for each, optimizer in zip((model, twin), mine, strict=True):
            each.zero_grad()
            F.mse_loss(each(x), y).backward()
            optimizer.step()
    for a, b in zip(private, theirs, strict=True):
        assert torch.allclose(plain(a.detach()).float(), b.detach(), atol=2**-9)
    grads = [p.grad for p in model[0].parameters()]
    assert all(isinstance(each, sy.SecretTensor) for each in grads)
    before = copy.deepcopy(model[0].state_dict())
    with pytest.raises(TypeError, match=r"encrypt the model|open them by name"):
        torch.optim.SGD(model[0].parameters(), lr=0.1).step()
    assert torch.equal(model[0][0].weight, before["0.weight"])
    for p in model[0].parameters():  # the way that the message names
        p.grad = sy.decrypt(p.grad)
    torch.optim.SGD(model[0].parameters(), lr=0.1).step()
    assert not torch.equal(model[0][0].weight, before["0.weight"])


def test_a_frozen_public_part():
    model = sy.encrypt(network(), parties(), private_layers=["3"])
    model[:3].requires_grad_(False)
    model(torch.randn(4, 6)).sum().backward()
    assert all(p.grad is None for p in model[:3].parameters())
    assert isinstance(model[3].weight.grad, sy.SecretTensor)


def test_checkpoints(tmp_path):
    net = network()
    first, second = (sy.encrypt(net, parties(), private_layers=["3"]) for _ in range(2))
    with torch.no_grad():
        first[0][0].weight.mul_(2)
        first[3].weight.mul_(2)
    sy.save(first, None, tmp_path)
    sy.load(second, None, tmp_path)
    for (name, a), (_, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(sy.decrypt(a), sy.decrypt(b)), name
    assert secrets(second) == ["3.weight", "3.bias"]


def test_what_is_refused():
    net = network()
    for layer in ("4", "weight", "", nn.Linear(2, 2)):
        if layer == "":
            continue
        with pytest.raises(EncodingError, match=r"no layer of this module.*'0\.0'"):
            sy.encrypt(net, parties(), private_layers=[layer])
    with pytest.raises(EncodingError, match="for modules"):
        sy.encrypt(torch.ones(3), parties(), private_layers=["0"])
    net[3].weight = net[1].weight
    with pytest.raises(EncodingError, match=r"'3\.weight' is also a part of '1'"):
        sy.encrypt(net, parties(), private_layers=["1"])
    both = sy.encrypt(net, parties(), private_layers=["1", "3"])
    assert both[1].weight is both[3].weight
