"""Short real dtypes and autocast: torch's dtypes, values at least as good as torch's, or an error."""

import copy

import pytest
import torch
from op_checks import encrypted, parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

SHORT = [torch.float16, torch.bfloat16]
EPS = {torch.float16: 2**-9, torch.bfloat16: 2**-6}


@pytest.mark.parametrize("dtype", [*SHORT, torch.float32, torch.float64])
def test_a_dtype_stays(dtype):
    x = torch.randn(4, 3).to(dtype)
    secret = encrypted(x)
    assert secret.dtype == sy.decrypt(secret).dtype == dtype
    assert torch.allclose(sy.decrypt(secret), x, atol=2**-16)
    for found, expected in (
        (secret + secret, x + x),
        (secret * 2.5, x * 2.5),
        (secret.sum(0), x.sum(0)),
        (torch.relu(secret), torch.relu(x)),
        (secret @ secret.t(), x @ x.t()),
        (secret.float() * 0.5, x.float() * 0.5),
    ):
        assert found.dtype == expected.dtype
        assert torch.allclose(sy.decrypt(found).double(), expected.double(), atol=EPS.get(dtype, 2**-12), rtol=2**-7)


@pytest.mark.parametrize("dtype", SHORT)
def test_operands_of_two_dtypes(dtype):
    """As torch: elementwise the wider one; products of matrices raise."""
    x = torch.randn(3, 3)
    secret, short = encrypted(x), encrypted(x.to(dtype))
    assert (secret * short).dtype == (secret + x.to(dtype)).dtype == torch.float32
    for a, b in ((secret, short), (secret, x.to(dtype)), (x, short)):
        with pytest.raises(RuntimeError, match="same dtype"):
            a @ b
    with pytest.raises(RuntimeError, match="same dtype"):
        F.conv1d(secret[None], short[None])
    with pytest.raises(RuntimeError, match="same dtype"):
        sy.encrypt(nn.Linear(3, 2).to(dtype), parties())(secret)


@pytest.mark.parametrize("dtype", SHORT)
def test_a_model_of_a_short_dtype(dtype, tmp_path):
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).to(dtype)
    model, other = sy.encrypt(net, parties()), sy.encrypt(net, parties())
    assert {p.dtype for p in model.parameters()} == {dtype}
    x = torch.randn(4, 6).to(dtype)
    twin = copy.deepcopy(net).double()
    out = model(encrypted(x))
    assert out.dtype == dtype
    assert torch.allclose(sy.decrypt(out).double(), twin(x.double()), atol=4 * EPS[dtype])
    out.sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {dtype}
    sy.save(model, None, tmp_path)
    sy.load(other, None, tmp_path)
    assert {p.dtype for p in other.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", SHORT)
def test_autocast(dtype):
    """Dtypes of torch; values of the encoding, which keeps more digits than the short dtype has."""
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    model, x, t = sy.encrypt(net, parties()), torch.randn(8, 6), torch.randint(0, 3, (8,))
    secret = encrypted(x)
    with torch.autocast("cpu", dtype=dtype):
        out, expected = model(secret), net(x)
        loss, wanted = F.cross_entropy(out, t), F.cross_entropy(expected, t)
        product = secret @ secret.t()
        square = F.mse_loss(out, out * 0.5)
    assert out.dtype == expected.dtype == product.dtype == dtype
    assert loss.dtype == wanted.dtype == square.dtype == torch.float32
    exact = net(x)
    assert torch.allclose(plain(out.detach()).float(), exact, atol=4 * EPS[dtype])
    loss.backward()
    F.cross_entropy(exact, t).backward()
    for p, q in zip(model.parameters(), net.parameters(), strict=True):
        assert p.grad.dtype == torch.float32
        assert torch.allclose(plain(p.grad).float(), q.grad, atol=2**-10)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("dtype", SHORT)
def test_steps_of_a_short_dtype(dtype, optimizer):
    """Parameters keep their dtype; what an optimizer keeps of them is finer than torch's own state would be."""
    net = nn.Linear(3, 2).to(dtype)
    model, twin = sy.encrypt(net, parties()), copy.deepcopy(net).double()
    optimizers = [getattr(torch.optim, optimizer)(each.parameters(), lr=0.05) for each in (model, twin)]
    x = torch.randn(4, 3).to(dtype)
    for _ in range(3):
        for each, own, given in zip(optimizers, (model, twin), (encrypted(x), x.double()), strict=True):
            each.zero_grad()
            (own(given) - 3.0).square().mean().backward()
            each.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.dtype == dtype
        assert torch.allclose(plain(p.detach()).double(), q.detach(), atol=2 * EPS[dtype])


def test_a_training_step_under_autocast():
    """Convolution and batch norm, secret classes, Adam: as torch's own step in the full dtype."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    model, x, t = sy.encrypt(net, parties()), torch.randn(4, 1, 6, 6), torch.randint(0, 3, (4,))
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, net)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(encrypted(x)), encrypted(t))
    assert loss.dtype == torch.float32
    loss.backward()
    F.cross_entropy(net(x), t).backward()
    for each in optimizers:
        each.step()
    for p, q in zip(model.parameters(), net.parameters(), strict=True):
        assert p.dtype == torch.float32
        assert torch.allclose(plain(p.detach()).float(), q.detach(), atol=2**-9)


def test_what_is_shorter_is_refused():
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        with pytest.raises(sy.errors.EncodingError, match=str(dtype)):
            encrypted(torch.ones(2).to(dtype))


def test_a_scaler_of_gradients_is_refused():
    model = sy.encrypt(nn.Linear(3, 1), parties())
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    before = sy.decrypt(model.weight.detach())
    scaler.scale(model(encrypted(torch.randn(4, 3))).sum()).backward()
    with pytest.raises(NotImplementedError, match="GradScaler"):
        scaler.step(optimizer)
    assert torch.equal(sy.decrypt(model.weight.detach()), before)
    off = torch.amp.GradScaler("cpu", enabled=False)
    optimizer.zero_grad()
    off.scale(model(encrypted(torch.ones(4, 3))).sum()).backward()
    off.step(optimizer)
    assert torch.allclose(sy.decrypt(model.weight.detach()), before - 0.4, atol=2**-10)
