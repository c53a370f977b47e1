"""Public factors that are tiny or large: a change of scale, right to the digits that the result has."""

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.errors import EncodingError

ENCODINGS = [{}, {"precision_fractional": 3}, {"frac_bits": 24}]


SETTINGS = [{}, {"rounding": "nearest"}, {"integrity": "mac"}, {"protocol": "fss"}, {"protocol": "snn"}]


@pytest.fixture(params=SETTINGS, ids=str)
def parties(request):
    return sy.virtual("alice", "bob", **request.param)


def close(found, right, relative, absolute=0.0):
    error = (sy.decrypt(found).double() - right).abs()
    assert bool((error <= right.abs() * relative + absolute).all()), (sy.decrypt(found), right)
    assert bool((sy.decrypt(found) != 0).all()), "nothing is left"


def tiny(*magnitude):
    low, high = magnitude
    return 10 ** -(low + (high - low) * float(torch.rand(())))


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_tiny_numbers(parties, encoding):
    values = (torch.rand(5).double() + 0.5) * 1e4
    x = sy.encrypt(values, parties, **encoding)
    for factor in (1e-7, 1e-8, -1e-8, tiny(7, 12), -tiny(7, 12)):
        close(x * factor, values * factor, 2.0**-12 + 2.0**-16)
        close(x * torch.tensor(factor, dtype=torch.float64), values * factor, 2.0**-12 + 2.0**-16)
    for divisor in (1e8, 10**8, -1e9, torch.tensor(1e8)):
        close(x / divisor, values / divisor, 2e-6)
    close(x.sum() * 1e-7, values.sum() * 1e-7, 2e-6)
    close((x * 1e-8) * 1e8, values, 1e-6, 1e-3)
    close((x * 1e-8) / 1e-8, values, 1e-6, 1e-3)
    close((x * 1e-8) * 1e6, values * 1e-2, 1e-6, 1e-3)
    close(x * 1e-8 + x * 1e-8, values * 2e-8, 2e-6)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_tiny_tensors(parties, encoding):
    values = (torch.rand(4, 4).double() + 0.5) * 100
    factors = (torch.rand(4, 4).double() + 0.5) * tiny(7, 9)
    x = sy.encrypt(values, parties, **encoding)
    close(x * factors, values * factors, 1e-3)
    close(x @ factors, values @ factors, 1e-3)
    close(factors @ x, factors @ values, 1e-3)
    close(x / (1 / factors), values * factors, 1e-3)
    close(nn.functional.conv2d(x.view(1, 1, 4, 4), factors.view(1, 1, 4, 4)).view(()), (values * factors).sum(), 1e-3)


def test_factors_for_which_no_scale_takes_them_up(parties):
    values = (torch.rand(5).double() + 0.5) * 1e6
    x = sy.encrypt(values, parties)
    close(x * 1e-15, values * 1e-15, 1e-3)
    with pytest.raises(EncodingError, match="factor 1e-60 is out of range"):
        x * 1e-60
    assert torch.allclose(sy.decrypt(x), values)


def test_large_tensors_leave_room_for_the_product(parties):
    values = (torch.rand(3).double() + 0.5) * 1e6
    x = sy.encrypt(values, parties)
    whole = torch.randint(10**5, 10**6, (3,)).double()
    close(x * whole, values * whole, 1e-6)
    close(x @ whole, values @ whole, 1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_tiny_learning_rates(momentum):
    parties = sy.virtual("alice", "bob")
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    secret = nn.Parameter(sy.encrypt(parameter.detach(), parties))
    optimizers = [torch.optim.SGD([p], lr=1e-8, momentum=momentum) for p in (parameter, secret)]
    scale = torch.tensor([2e7, -5e7, 1e7], dtype=torch.float64)
    for _ in range(3):
        for p, optimizer in zip((parameter, secret), optimizers, strict=True):
            p.grad = scale.clone() if p is parameter else sy.encrypt(scale, parties)
            optimizer.step()
    close(secret.detach(), parameter.detach(), 0, 2**-14)


def test_a_tiny_rate_of_a_recorded_step():
    parties = sy.virtual("alice", "bob")
    net, x, y = nn.Linear(3, 1), torch.randn(8, 3) * 100, torch.randn(8, 1) * 1000
    secret = sy.encrypt(net, parties)
    step = sy.TrainStep(secret, torch.optim.SGD(secret.parameters(), lr=1e-8), lambda o, t: ((o - t) ** 2).sum())
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-8)
    a, b = sy.encrypt(x, parties), sy.encrypt(y, parties)
    for _ in range(8):
        step(a, b)
        optimizer.zero_grad()
        ((net(x) - y) ** 2).sum().backward()
        optimizer.step()
    assert step.repeats
    assert torch.allclose(sy.decrypt(secret.weight), net.weight, atol=2e-3)


@pytest.mark.parametrize(("n", "bits"), [(300, 24), (512, 24), (569, 23), (50000, 21)])
@pytest.mark.parametrize("in_place", [False, True])
def test_what_a_number_divides_off_is_kept_for_the_next_product(parties, n, bits, in_place):
    """x / n holds integers no larger than x: of those, a product takes more than the nominal ones."""
    x, weights = (sy.encrypt(torch.randn(400, dtype=torch.float64), parties) for _ in range(2))
    part = x.clone() if in_place else x / n
    if in_place:
        part.div_(n)
    found = part * weights
    assert part.cell.scale == 2**bits
    expected = sy.decrypt(x) / n * sy.decrypt(weights)
    assert ((sy.decrypt(found) - expected).abs() <= 2.0**-bits * sy.decrypt(weights).abs() + 2.0**-30).all()


def test_parameters_that_are_divided_in_place_keep_their_scale(parties):
    weight = nn.Parameter(sy.encrypt(torch.ones(3), parties))
    with torch.no_grad():
        weight.div_(569)
    assert weight.cell.scale == weight.unit.scale


def test_what_was_divided_off_is_forgotten_with_the_value(parties):
    """A value that is written has integers of its own size."""
    part = sy.encrypt(torch.ones(3), parties)
    part.div_(1000)
    part.copy_(sy.encrypt(torch.full((3,), 1000.0), parties))
    assert part.cell.finer == 1


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_factors_of_truth_values(encoding):
    """Their scale is 1; a factor with a denominator such as 2^15 * 3 gives one that is no multiple of the nominal."""
    parties = sy.virtual("alice", "bob")
    values = torch.tensor([-1.0, 2.0, 3.0])
    truths = (values > 0).double()
    for _ in range(40):
        x = sy.encrypt(values, parties, **encoding) > 0
        weight, count, far = torch.rand(()), int(torch.randint(2, 40, ())), 10 ** float(3 * torch.rand(()) - 1)
        right = truths * float(weight) / count * far
        found = x.float() * weight / count * far
        settled = found.clone()
        settled.cell.settle()
        scale, unit = settled.cell.scale, settled.cell.unit.scale
        assert scale < unit or scale % unit == 0
        for each in (found, settled, torch.relu(found), torch.where(x, found, 0.0), found * sy.encrypt(1.0, parties)):
            step = 1 / found.cell.unit.scale
            error = (sy.decrypt(each).double() - right).abs()
            assert bool((error <= 3 * step * max(1, far) + right * 2.0**-12).all()), (weight, count, far, encoding)
