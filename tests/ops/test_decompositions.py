"""Operations without a handler: by torch's decompositions, whole or not at all, and never with randomness."""

import copy

import pytest
import torch
from op_checks import check_op, encrypted, parties, plain
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.ops import decompositions, rehearsal
from pysmpc.ops.core import aten
from pysmpc.program.loop import following
from pysmpc.tensor.secret import HANDLERS

TARGET = torch.tensor([[0.5, -0.25, 1.0], [0.0, 0.75, -1.5]])

DECOMPOSED = {
    "hardswish": (F.hardswish, 3),
    "hardsigmoid": (F.hardsigmoid, 3),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.25), 3),
    "softshrink": (F.softshrink, 3),
    "threshold": (lambda x: F.threshold(x, 0.5, -1.0), 1),
    "smooth_l1": (lambda x: F.smooth_l1_loss(x, TARGET.to(x.dtype)), 4),
    "huber": (lambda x: F.huber_loss(x, TARGET.to(x.dtype), delta=0.5), 4),
    "embedding": (lambda x: F.embedding(torch.tensor([[1, 0], [1, 1]]), x), 1),
    "rot90": (lambda x: torch.rot90(x), 1),
    "trace": (lambda x: torch.trace(x[:, :2]), 1),
    "fold": (lambda x: F.fold(x.reshape(1, 6, 1).expand(1, 6, 8), (3, 4), (2, 3), padding=(0, 1)), 8),
}


@pytest.mark.parametrize("name", DECOMPOSED)
def test_values_and_gradients_in_every_encoding(name):
    """Binary and decimal, windows of something larger, three holders."""
    function, steps = DECOMPOSED[name]
    check_op(function, shapes=[(2, 3)], steps=steps, grad_steps=steps + 2)


@pytest.mark.parametrize("options", [{"integrity": "mac"}, {"protocol": "fss"}, {"rounding": "nearest"}])
def test_every_suite(options):
    x = torch.tensor([[-4.0, -1.5, 0.25], [1.0, 2.5, 5.0]])
    secret = sy.encrypt(x, parties(), **options).requires_grad_(True)
    twin = x.clone().requires_grad_(True)
    found, expected = F.hardswish(secret), F.hardswish(twin)
    assert torch.allclose(plain(found).float(), expected, atol=2**-14)
    found.sum().backward()
    expected.sum().backward()
    assert torch.allclose(plain(secret.grad).float(), twin.grad, atol=2**-14)


def test_in_inference_mode():
    x = torch.randn(3, 4)
    with torch.inference_mode():
        assert torch.allclose(sy.decrypt(F.hardswish(encrypted(x))), F.hardswish(x), atol=2**-13)
        assert torch.equal(sy.decrypt(F.dropout(encrypted(x), training=False)), sy.decrypt(encrypted(x)))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.rand_like(x),
        lambda x: torch.normal(x, 1.0),
        lambda x: x.clone().uniform_(),
    ],
)
def test_random_operations_are_refused(call):
    before = parties().stats.copy()
    with pytest.raises(NotImplementedError):
        call(encrypted(torch.rand(3)))
    assert (parties().stats - before).cost.rounds == 0


# --- whole or not at all --------------------------------------------------------------


@pytest.fixture
def without(monkeypatch):
    """Takes handlers away; nothing is known to pass."""

    def take(*overloads):
        monkeypatch.setattr(rehearsal, "_passed", {})
        for overload in overloads:
            monkeypatch.delitem(HANDLERS, overload)
        monkeypatch.setattr(decompositions, "way_of", decompositions.way_of.__wrapped__)

    return take


def test_a_part_that_is_missing_refuses_the_whole_before_anything_is_sent(without):
    x = encrypted(torch.randn(3))
    without(aten.div.Tensor, aten.div.Scalar)
    before = parties().stats.copy()
    with pytest.raises(NotImplementedError, match=r"aten\.hardswish\.default is not implemented.*div"):
        F.hardswish(x)
    cost = (parties().stats - before).cost
    assert cost.rounds == cost.sent == cost.dealt == 0


def test_an_error_on_the_way_names_the_operation(without, monkeypatch):
    x = encrypted(torch.randn(3))
    value = plain(x)
    without(aten.div.Tensor, aten.div.Scalar)
    monkeypatch.setattr(decompositions, "rehearse", lambda *arguments: None)
    with pytest.raises(NotImplementedError, match=r"aten\.hardswish\.default"):
        F.hardswish(x)
    assert torch.equal(plain(x), value)


def test_other_errors_keep_their_kind_and_name_the_operation(monkeypatch):
    x = encrypted(torch.randn(3))

    def failing(*arguments):
        raise ZeroDivisionError("there it is")

    monkeypatch.setattr(rehearsal, "_passed", {})
    monkeypatch.setitem(HANDLERS, aten.div.Tensor, failing)
    monkeypatch.setitem(HANDLERS, aten.div.Scalar, failing)
    with pytest.raises(ZeroDivisionError, match=r"there it is \(within aten\.hardswish\.default\)"):
        F.hardswish(x)


def test_in_place_changes_nothing_where_it_fails(without):
    x = encrypted(torch.randn(3))
    value = plain(x)
    without(aten.div.Tensor, aten.div.Scalar)
    with pytest.raises(NotImplementedError, match="hardswish"):
        F.hardswish(x, inplace=True)
    assert torch.equal(plain(x), value)


def test_in_place_by_the_other_form():
    x = torch.randn(2, 3)
    secret = encrypted(x)
    view = secret[0]
    assert F.hardswish(secret, inplace=True) is secret
    assert torch.allclose(sy.decrypt(view), F.hardswish(x)[0], atol=2**-13)


def test_a_rehearsal_costs_nothing_and_is_held_once(monkeypatch):
    monkeypatch.setattr(rehearsal, "_passed", {})
    costs = []
    for _ in range(2):
        x = encrypted(torch.randn(3))
        before = parties().stats.copy()
        with following(False):  # what tests before may have begun is no part of it
            F.hardswish(x)
        costs.append((parties().stats - before).cost)
    assert costs[0] == costs[1]
    assert len(rehearsal._passed) == 1
    F.hardswish(encrypted(torch.randn(4)))
    assert len(rehearsal._passed) == 2


# --- lists of tensors, recorded steps ---------------------------------------------------


def test_loops_over_lists():
    xs, ys = [torch.randn(3), torch.randn(2, 2)], [torch.rand(3), torch.rand(2, 2)]
    secrets = [encrypted(x) for x in xs]
    for found, expected in (
        (torch._foreach_add(secrets, ys, alpha=2), torch._foreach_add(xs, ys, alpha=2)),
        (torch._foreach_mul(secrets, [2.0, 0.5]), torch._foreach_mul(xs, [2.0, 0.5])),
        (torch._foreach_addcmul(secrets, ys, ys, value=0.5), torch._foreach_addcmul(xs, ys, ys, value=0.5)),
        (torch._foreach_norm(secrets, 1), torch._foreach_norm(xs, 1)),
        (torch._foreach_neg(secrets), torch._foreach_neg(xs)),
    ):
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.allclose(sy.decrypt(mine), theirs, atol=2**-12)
    torch._foreach_mul_(secrets, 2.0)
    for mine, theirs in zip(secrets, xs, strict=True):
        assert torch.allclose(sy.decrypt(mine), 2 * theirs, atol=2**-14)


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}])
def test_an_optimizer_with_foreach(options):
    model, x, y = nn.Linear(4, 3), torch.randn(5, 4), torch.randn(5, 3)
    found = []
    for foreach in (True, False):
        mine = sy.encrypt(copy.deepcopy(model), parties())
        optimizer = torch.optim.SGD(mine.parameters(), lr=0.1, foreach=foreach, **options)
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(mine(encrypted(x)), encrypted(y)).backward()
            nn.utils.clip_grad_value_(mine.parameters(), 0.5, foreach=foreach)
            optimizer.step()
        found.append([sy.decrypt(p) for p in mine.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=2**-12)


def test_recorded_steps():
    def loss(out, target):
        return F.smooth_l1_loss(F.hardswish(out), target)

    model = nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.25), nn.Linear(6, 3))
    twin = copy.deepcopy(model)
    mine = sy.encrypt(model, parties())
    optimizer, other = (torch.optim.SGD(m.parameters(), lr=0.05) for m in (mine, twin))
    step = sy.TrainStep(mine, optimizer, loss)
    repeated = 0
    for _ in range(7):
        x, y = torch.randn(5, 4), torch.randn(5, 3)
        found = step(encrypted(x), encrypted(y))
        repeated += step.repeats
        other.zero_grad()
        expected = loss(twin(x), y)
        expected.backward()
        other.step()
        assert abs(float(sy.decrypt(found)) - float(expected.detach())) < 2**-9
    assert repeated >= 2
