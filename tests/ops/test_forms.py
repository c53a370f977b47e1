"""In place, `out=`, numbers for operands: forms that follow from the functional one, and what torch refuses of them."""

import pytest
import torch
from op_checks import encrypted, parties, represented
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import SessionMismatchError
from pysmpc.ring.fixedpoint import BINARY16

aten = torch.ops.aten
OUT = {
    "add": lambda x, y, out: torch.add(x, y, alpha=2, out=out),
    "add number": lambda x, y, out: torch.add(x, 1.5, out=out),
    "mul": lambda x, y, out: torch.mul(x, y, out=out),
    "mul plain": lambda x, y, out: torch.mul(x, torch.tensor([[1.0], [2.0], [3.0]], dtype=x.dtype), out=out),
    "div": lambda x, y, out: torch.div(x, 4, out=out),
    "mm": lambda x, y, out: torch.mm(x, y, out=out),
    "addmm": lambda x, y, out: torch.addmm(x, x, y, out=out),
    "neg": lambda x, y, out: torch.neg(x, out=out),
    "abs": lambda x, y, out: torch.abs(x, out=out),
    "square": lambda x, y, out: torch.square(x, out=out),
    "maximum": lambda x, y, out: torch.maximum(x, y, out=out),
    "clamp": lambda x, y, out: torch.clamp(x, -1, 1, out=out),
    "where": lambda x, y, out: torch.where(x > y, x, y, out=out),
    "lt": lambda x, y, out: torch.lt(x, y, out=out),
    "cumsum": lambda x, y, out: torch.cumsum(x, 0, out=out),
    "tril": lambda x, y, out: torch.tril(x, out=out),
    "index_select": lambda x, y, out: torch.index_select(x, 0, torch.tensor([2, 0, 1]), out=out),
    "cat": lambda x, y, out: torch.cat([x[:1], y[1:]], out=out),
    "stack": lambda x, y, out: torch.stack([x[0], y[1], x[2]], out=out),
    "public": lambda x, y, out: torch.add(torch.ones(3, 3), torch.full((3, 3), 0.25), out=out),
    "its own operand": lambda x, y, out: torch.mul(out, x, out=out),
}


def square():
    return represented(4 * torch.rand(3, 3, dtype=torch.float64) - 2, BINARY16)


@pytest.mark.parametrize("place", ["whole", "window"])
@pytest.mark.parametrize("name", OUT)
def test_out(name, place):
    """The value goes to `out`, is seen through every view of it, and `out` is what is returned."""
    call, values = OUT[name], [square() for _ in range(3)]
    results = []
    for make in (encrypted, lambda v: v.clone()):
        x, y, out = (make(v) for v in values)
        if place == "window":
            out = torch.cat([out, out], 1)
        target = out if place == "whole" else out[:, ::2]
        assert call(x, y, target) is target
        results.append(sy.decrypt(out).double() if make is encrypted else out)
    assert (results[0] - results[1]).abs().max() <= 2.0**-14


def test_several_results():
    x, a = encrypted(square()), encrypted(square())
    values, places = a[0].clone(), sy.encrypt(torch.zeros(3, dtype=torch.int64), parties())
    torch.max(x, 1, out=(values, places))
    expected = sy.decrypt(x).max(1)
    assert torch.equal(sy.decrypt(values), expected.values)
    assert torch.equal(sy.decrypt(places), expected.indices)


def test_out_of_a_reduction():
    x, out = encrypted(square()), encrypted(torch.zeros(3, dtype=torch.float64))
    torch.sum(x, 0, out=out)
    assert torch.allclose(sy.decrypt(out), sy.decrypt(x).sum(0))
    torch.mean(x, 1, out=out)
    assert torch.allclose(sy.decrypt(out), sy.decrypt(x).mean(1), atol=2**-15)


def secret(*values):
    return sy.encrypt(torch.tensor(values), parties())


REFUSED = {
    "a plain target": (lambda x, out: torch.add(x, x, out=torch.zeros(3)), TypeError, "encrypt the target"),
    "another shape": (lambda x, out: torch.add(x, x, out=out[:2]), RuntimeError, "shape"),
    "a wider shape": (lambda x, out: torch.add(x, x, out=out.expand(2, 3)), RuntimeError, "shape"),
    "integers": (lambda x, out: torch.add(x, x, out=secret(1, 2, 3)), RuntimeError, "can't be cast"),
    "truths": (lambda x, out: torch.add(secret(1, 2), 1, out=secret(True, False)), RuntimeError, "can't be cast"),
    "other parties": (lambda x, out: torch.add(x, x, out=encrypted(torch.ones(3), 3)), SessionMismatchError, "held"),
    "copy to truths": (lambda x, out: secret(True, False).copy_(secret(2, 0)), NotImplementedError, "x != 0"),
    "a public secret": (lambda x, out: torch.add(x, x, out=torch.ones_like(out)), SessionMismatchError, "public"),
    "a gradient": (lambda x, out: torch.add(x.clone().requires_grad_(), x, out=out), RuntimeError, "out="),
    "broadcast in place": (lambda x, out: out.add_(torch.ones(2, 3)), RuntimeError, "broadcast shape"),
    "product in place": (lambda x, out: out.mul_(x.expand(2, 3)), RuntimeError, "broadcast shape"),
    "copy of more": (lambda x, out: out.copy_(torch.ones(2, 3)), RuntimeError, "broadcast shape"),
    "copy of another size": (lambda x, out: out[:2].copy_(x), RuntimeError, "shape"),
    "real in place": (lambda x, out: secret(1, 2, 3).add_(x), RuntimeError, "can't be cast"),
    "half in place": (lambda x, out: secret(1, 2, 3).mul_(0.5), RuntimeError, "can't be cast"),
    "number of truths": (lambda x, out: secret(True, False, True).add_(1), RuntimeError, "can't be cast"),
    "update of truths": (lambda x, out: (out > 0).add_(x * x), RuntimeError, "can't be cast"),
    "half of integers": (lambda x, out: torch.add(secret(1, 2), secret(1, 2), alpha=0.5), RuntimeError, "alpha"),
    "plain in place": (lambda x, out: torch.zeros(3).square_().mul_(x), TypeError, "plain"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """With torch's meaning, and the target is as it was."""
    call, error, match = REFUSED[name]
    values = represented(torch.rand(3, dtype=torch.float64), BINARY16)
    x, out = encrypted(values), encrypted(values)
    with pytest.raises(error, match=match):
        call(x, out)
    assert torch.equal(sy.decrypt(out).double(), values)
    assert torch.equal(sy.decrypt(x).double(), values)


def test_a_step_of_integers():
    """What does fit is written: integers to real secrets, truths to integers."""
    real = encrypted(torch.zeros(3))
    torch.add(secret(1, 2, 3), 1, out=real)
    assert torch.equal(sy.decrypt(real), torch.tensor([2.0, 3, 4]))
    count = secret(5, 6, 7)
    assert torch.equal(sy.decrypt(count.gt_(5)), torch.tensor([0, 1, 1]))
    torch.eq(real, 3, out=count)
    assert torch.equal(sy.decrypt(count), torch.tensor([0, 1, 0]))
    assert torch.equal(
        sy.decrypt(secret(True, False, True).copy_(torch.tensor([2, 0, 0]))), torch.tensor([1, 0, 0]) > 0
    )
    assert sy.decrypt(secret(True, False, True).copy_(torch.tensor([2, 0, 0]))).tolist() == [True, False, False]
    narrow = sy.encrypt(torch.tensor([1, 2, 3], dtype=torch.int32), parties())
    torch.mul(narrow, 3, out=count)
    assert torch.equal(sy.decrypt(count), torch.tensor([3, 6, 9]))


def test_numbers_for_tensors():
    """Overloads that take a number where the registered one takes a tensor."""
    x, plain = encrypted(torch.tensor([1.5, -0.5])), torch.tensor([1.5, -0.5])
    for call in (
        lambda v: aten.add.Scalar(v, 2, 3),
        lambda v: aten.rsub.Scalar(v, 2, 3),
        lambda v: aten.where.Scalar(v > 0, 2.5, -1),
        lambda v: aten.clamp_min.default(v, 0.25),
        lambda v: aten.floor_divide.Scalar(v, 0.5),
        lambda v: aten.div.Scalar_mode(v, 0.5, rounding_mode="trunc"),
        lambda v: aten.remainder.Scalar(v, 1),
        lambda v: F.hardtanh_(v.clone(), -1, 1),
    ):
        out = call(x)
        assert torch.allclose(sy.decrypt(out), call(plain), atol=2**-14)
        assert out.dtype == call(plain).dtype
    bits = secret(12, 10)
    assert torch.equal(sy.decrypt(aten.bitwise_and.Scalar_Tensor(6, bits)), torch.tensor([4, 2]))


def test_a_handler_of_its_own_is_kept():
    """A form that is registered by itself stays, whichever of the two came first."""
    from pysmpc.ops.registering import implements
    from pysmpc.tensor.secret import HANDLERS

    forms = [aten.erfinv.default, aten.erfinv_.default, aten.erfinv.out]
    assert not any(form in HANDLERS for form in forms)
    try:
        implements(aten.erfinv_.default)(lambda x: "own")
        implements(aten.erfinv.default)(lambda x: x * 2)
        x, out = encrypted(torch.tensor([1.5, -0.5])), encrypted(torch.zeros(2))
        assert HANDLERS[aten.erfinv_.default](x) == "own"
        assert torch.equal(sy.decrypt(torch.erfinv(x, out=out)), torch.tensor([3.0, -1.0]))
        implements(aten.erfinv.out)(lambda x, *, out: "own, too")
        implements(aten.erfinv.default)(lambda x: x * 3)
        assert HANDLERS[aten.erfinv.out](x, out=out) == "own, too"
    finally:
        for form in forms:
            HANDLERS.pop(form, None)
