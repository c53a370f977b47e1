"""The matmul family, reductions, and losses."""

import pytest
import torch
from op_checks import check_op, encrypted, parties
from torch.nn import functional as F

import pysmpc as sy

W = torch.tensor([[0.5, -1.0, 0.25], [1.5, 0.0, -0.75]])


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (torch.mm, [[(2, 3), (3, 4)], [(1, 1), (1, 1)], [(0, 3), (3, 2)], [(2, 0), (0, 3)]]),
        (torch.bmm, [[(2, 3, 4), (2, 4, 1)], [(1, 2, 2), (1, 2, 2)]]),
        (torch.mv, [[(2, 3), (3,)]]),
        (torch.dot, [[(5,), (5,)], [(1,), (1,)]]),
        (
            torch.matmul,
            [
                [(3,), (3,)],
                [(2, 3), (3,)],
                [(3,), (3, 2)],
                [(2, 2, 3), (3, 4)],
                [(2, 1, 2, 3), (4, 3, 2)],
                [(4,), (2, 4, 3)],
            ],
        ),
        (torch.outer, [[(3,), (2,)]]),
        (torch.vdot, [[(3,), (3,)]]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_products(fn, shapes):
    check_op(fn, shapes, steps=2)


def test_products_with_plain_matrices():
    check_op(lambda x: x @ W.t().to(x.dtype), [(4, 3), (3,), (2, 4, 3)], steps=3)
    check_op(lambda x: W.to(x.dtype) @ x, [(3, 4), (3,), (5, 3, 2)], steps=3)
    check_op(lambda x: torch.mv(W.to(x.dtype), x), [(3,)], steps=3)


def test_addmm():
    shapes = [[(2, 4), (2, 3), (3, 4)], [(4,), (2, 3), (3, 4)]]
    check_op(torch.addmm, shapes, steps=2)
    check_op(lambda b, x, y: torch.addmm(b, x, y, beta=0.5, alpha=2), shapes, steps=3)
    check_op(lambda b, x, y: torch.addmm(b, x, y, beta=0), shapes, steps=2)
    check_op(torch.baddbmm, [[(2, 2, 4), (2, 2, 3), (2, 3, 4)]], steps=2)
    check_op(torch.addmv, [[(2,), (2, 3), (3,)]], steps=2)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,kj->ki", [(2, 3), (4, 3)]),
        ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
        ("i,j->ij", [(2,), (3,)]),
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ii->i", [(3, 3)]),
        ("ij,ij->i", [(2, 3), (2, 3)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 2), (2, 2, 4, 2)]),
        ("i,i,i->i", [(3,), (3,), (3,)]),
    ],
)
def test_einsum(equation, shapes):
    check_op(lambda *xs: torch.einsum(equation, *xs), [shapes], steps=8)


def test_linear():
    bias = torch.tensor([0.5, -0.5])
    check_op(F.linear, [[(4, 3), (2, 3)], [(3,), (2, 3)], [(2, 4, 3), (2, 3)]], steps=2)
    check_op(
        F.linear,
        [[(4, 3), (2, 3), (2,)], [(3,), (2, 3), (2,)], [(0, 3), (2, 3), (2,)], [(2, 4, 3), (2, 3), (2,)]],
        steps=2,
    )
    check_op(lambda x: F.linear(x, W.to(x.dtype), bias.to(x.dtype)), [(4, 3), (3,), (2, 4, 3)], steps=3)


REDUCED = [(), (3,), (2, 5), (2, 3, 4)]


@pytest.mark.parametrize("keepdim", [False, True])
def test_sums(keepdim):
    check_op(torch.sum, [*REDUCED, (0,), (0, 3)])
    check_op(lambda x: x.sum(-1, keepdim=keepdim), [*REDUCED[1:], (0, 3), (2, 0)])
    check_op(lambda x: x.sum(0, keepdim=keepdim), [*REDUCED[1:], (0, 3)])
    check_op(lambda x: x.sum((0, -1), keepdim=keepdim), REDUCED[2:])


@pytest.mark.parametrize("keepdim", [False, True])
def test_means(keepdim):
    check_op(torch.mean, REDUCED, steps=2)
    check_op(lambda x: x.mean(-1, keepdim=keepdim), REDUCED[1:], steps=2)
    check_op(lambda x: x.mean((0, 1), keepdim=keepdim), REDUCED[2:], steps=2)


@pytest.mark.parametrize("keepdim", [False, True])
def test_variances(keepdim):
    check_op(torch.var, REDUCED[1:], steps=8)
    check_op(lambda x: x.var(-1, keepdim=keepdim), REDUCED[1:], steps=8)
    check_op(lambda x: x.var(0, correction=0, keepdim=keepdim), REDUCED[1:], steps=8)
    check_op(lambda x: x.var(unbiased=False), REDUCED, steps=8)


def test_running_sums():
    check_op(lambda x: x.cumsum(0), [(3,), (2, 5)])
    check_op(lambda x: x.cumsum(-1), [(3,), (2, 5), (2, 0)])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss(reduction):
    check_op(lambda x, y: F.mse_loss(x, y, reduction=reduction), [[(3,), (3,)], [(2, 5), (2, 5)]], steps=4)
    target = torch.tensor([1.0, 0.5, -0.5])
    check_op(lambda x: F.mse_loss(x, target.to(x.dtype), reduction=reduction), [(3,)], steps=4)


def test_sums_of_integers_and_bits():
    a = torch.tensor([[3, -1], [4, 1]])
    x = sy.encrypt(a, parties())
    assert torch.equal(sy.decrypt(x.sum(0)), a.sum(0))
    assert torch.equal(sy.decrypt((x > 0).sum()), (a > 0).sum())
    assert torch.equal(sy.decrypt(x.cumsum(1)), a.cumsum(1))
    assert torch.equal(sy.decrypt(x @ x), a @ a)
    with pytest.raises(RuntimeError):
        x.mean()
    assert float(sy.decrypt(x.float().mean())) == a.float().mean()


def test_sums_that_change_the_dtype():
    x = encrypted(torch.tensor([1.5, 1.5]))
    assert sy.decrypt(x.sum(dtype=torch.float64)).item() == 3.0
    with pytest.raises(NotImplementedError):  # torch rounds each element first: 2
        x.sum(dtype=torch.int64)
    with pytest.raises(NotImplementedError):
        x.cumsum(0, dtype=torch.int64)


def test_nothing_to_average_is_refused():
    x = encrypted(torch.zeros(0))
    for fn in (torch.mean, torch.var, lambda v: v.mean(0)):
        with pytest.raises((ZeroDivisionError, IndexError)):
            fn(x)


def test_shapes_that_do_not_fit_are_refused():
    x, y = encrypted(torch.zeros(2, 3)), encrypted(torch.zeros(2, 3))
    for fn in (torch.mm, torch.matmul, torch.dot):
        with pytest.raises(RuntimeError):
            fn(x, y)
