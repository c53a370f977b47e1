"""rounding="nearest": every result of fixed point is torch's, rounded once."""

import pytest
import torch
from twins import opened

import pysmpc as sy
from pysmpc.errors import SessionMismatchError

STEP = 2.0**-16


def rounded(x):
    """Nearest step, halves upward."""
    return torch.floor(x.double() / STEP + 0.5) * STEP


def steps(*shape):
    return torch.randint(-(1 << 20), 1 << 20, shape).double() * STEP


@pytest.mark.parametrize("holders", [2, 3])
def test_products_are_rounded_to_nearest(holders):
    parties = sy.virtual(*"abc"[:holders], rounding="nearest")
    a, b = steps(40, 30), steps(30, 20)
    x, y = sy.encrypt(a, parties), sy.encrypt(b, parties)
    for secret, exact in ((x @ y, a @ b), (x * x, a * a), (torch.relu(x @ y), torch.relu(a @ b))):
        # a product with one and then a division settle the scale
        secret.cell.settle()
        assert torch.equal(opened(secret), rounded(exact))
    for _ in range(3):  # the same every time
        again = sy.encrypt(a, parties) @ sy.encrypt(b, parties)
        again.cell.settle()
        assert torch.equal(opened(again), rounded(a @ b))


def test_gradients_and_updates_are_rounded_to_nearest():
    parties = sy.virtual("a", "b", rounding="nearest")
    start, data = steps(6, 3), steps(10, 6)
    w = sy.encrypt(start, parties, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.125)
    loss = torch.relu(sy.encrypt(data, parties) @ w).sum()
    loss.backward()
    gradient = opened(w.grad)
    optimizer.step()
    assert torch.equal(opened(w), rounded(start - 0.125 * gradient))


def test_the_option_of_encrypt_and_share():
    parties = sy.virtual("alice", "bob")
    a = steps(50)
    x = sy.encrypt(a, parties, rounding="nearest")
    before = parties.stats.copy()
    y = x * x
    y.cell.settle()
    assert torch.equal(opened(y), rounded(a * a))
    assert (parties.stats - before).cost.rounds == 1 + 5 + 1
    with pytest.raises(SessionMismatchError, match="nearest"):
        x + sy.encrypt(a, parties)
    assert torch.equal(opened(x + sy.encrypt(a, parties, rounding="nearest")), 2 * a)
    with pytest.raises(ValueError, match="rounding is"):
        sy.encrypt(a, parties, rounding="down")
    assert len(parties["alice"].shares()) >= 2


def test_a_module_in_nearest():
    parties = sy.virtual("alice", "bob")
    model = torch.nn.Linear(4, 3)
    secret = sy.encrypt(model, parties, rounding="nearest")
    data = steps(5, 4)
    first = sy.decrypt(secret(sy.encrypt(data, parties, rounding="nearest")))
    assert torch.equal(first, sy.decrypt(secret(sy.encrypt(data, parties, rounding="nearest"))))


def test_division_is_within_a_step_over_the_whole_range():
    parties = sy.virtual("alice", "bob")
    k = torch.randint(0, 62, (400,))
    divisors = (torch.randint(1 << 61, (1 << 62) - 1, (400,)) >> k) * (1 - 2 * torch.randint(0, 2, (400,)))
    divisors[:4] = torch.tensor([1, -1, (1 << 62) - 1, 1 - (1 << 62)])
    for precision in ({}, {"precision_fractional": 3}):
        scale = 1000 if precision else 1 << 16
        x = torch.randint(-(1 << 30), 1 << 30, (400,))
        # the encoding takes float64: a divisor is put together from two halves
        y = sy.encrypt((divisors >> 31).double() / scale, parties, **precision) * 2**31
        y = y + sy.encrypt((divisors & ((1 << 31) - 1)).double() / scale, parties, **precision)
        top = sy.encrypt(x.double() / scale, parties, **precision)
        secret = top / y
        assert secret.cell.scale == scale
        opened = secret.session.suite.reveal(secret.session.party, *(v.window() for v in (secret, top, y)))
        assert int(opened[2].abs().max()) > 1 << 61
        for found, a, b in zip(*(words.tolist() for words in opened), strict=True):
            assert b == 0 == found or abs(found * b - a * scale) <= abs(b)


def test_division_by_zero_is_zero():
    parties = sy.virtual("alice", "bob")
    y = sy.encrypt(torch.tensor([0.0, 2.0, 0.0]), parties)
    assert torch.equal(sy.decrypt(sy.encrypt(torch.tensor([5.0, 5.0, -1.0]), parties) / y), torch.tensor([0, 2.5, 0]))
    assert torch.equal(sy.decrypt(1 / y), torch.tensor([0, 0.5, 0]))
    assert torch.equal(sy.decrypt(torch.tensor([3.0, 3.0, 3.0]) / y), torch.tensor([0, 1.5, 0]))


def test_the_gradient_of_a_quotient_knows_the_divisor():
    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.tensor([3.0, -1.0]), parties, requires_grad=True)
    y = sy.encrypt(torch.tensor([2.0, 5.0]), parties, requires_grad=True)
    out = x / y
    before = parties.stats.copy()
    out.sum().backward()
    assert (parties.stats - before).rounds < 52 + 2 * 24
    assert torch.allclose(sy.decrypt(x.grad), torch.tensor([0.5, 0.2]), atol=2**-15)
    assert torch.allclose(sy.decrypt(y.grad), torch.tensor([-0.75, 0.04]), atol=2**-14)
