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
