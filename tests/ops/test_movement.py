"""Views, copies, indexing, padding: moving elements costs nothing and changes nothing."""

import pytest
import torch
from op_checks import check_op, encrypted, parties
from torch.nn import functional as F

import pysmpc as sy

FREE = [
    ("view", lambda x: x.reshape(2, 2, 6).view(4, 6), [(4, 6)]),
    ("reshape", lambda x: x.t().reshape(-1), [(4, 6)]),
    ("flatten", lambda x: x.flatten(1), [(2, 3, 2)]),
    ("unflatten", lambda x: x.unflatten(0, (2, 2)), [(4, 3)]),
    ("t", lambda x: x.t(), [(2, 3), (3,), ()]),
    ("T", lambda x: x.T, [(2, 3)]),
    ("mT", lambda x: x.mT, [(2, 2, 3)]),
    ("transpose", lambda x: x.transpose(0, -1), [(2, 3), (2, 3, 4)]),
    ("permute", lambda x: x.permute(2, 0, 1), [(2, 3, 4)]),
    ("movedim", lambda x: x.movedim(0, -1), [(2, 3, 4)]),
    ("slice", lambda x: x[1:, ::2], [(3, 5)]),
    ("negative slice", lambda x: x[-2:, :-1], [(3, 5)]),
    ("select", lambda x: x[1], [(3,), (3, 5)]),
    ("ellipsis", lambda x: x[..., 1], [(3, 5)]),
    ("None", lambda x: x[None, :, None], [(3, 5)]),
    ("narrow", lambda x: x.narrow(1, 1, 2), [(3, 5)]),
    ("split", lambda x: x.split(2), [(5, 3)]),
    ("split sizes", lambda x: x.split([1, 4]), [(5, 3)]),
    ("chunk", lambda x: x.chunk(3, 1), [(2, 7)]),
    ("tensor_split", lambda x: x.tensor_split(3), [(7,)]),
    ("unbind", lambda x: x.unbind(1), [(2, 3)]),
    ("iteration", lambda x: tuple(x), [(3,), (3, 2)]),
    ("expand", lambda x: x.expand(4, 2, 3), [(3,), (2, 3), (1, 1, 3)]),
    ("expand_as", lambda x: x.expand_as(torch.zeros(2, 3)), [(3,)]),
    ("broadcast_to", lambda x: torch.broadcast_to(x, (2, 3)), [(3,), ()]),
    ("squeeze", lambda x: x.squeeze(), [(1, 3, 1), (3,)]),
    ("squeeze dim", lambda x: x.squeeze(0), [(1, 3), (3, 1)]),
    ("unsqueeze", lambda x: x.unsqueeze(-1), [(3,), (2, 3), ()]),
    ("diagonal", lambda x: x.diagonal(), [(3, 3), (2, 4)]),
    ("unfold", lambda x: x.unfold(0, 3, 2), [(7,), (7, 2)]),
    ("swapaxes", lambda x: x.swapaxes(0, 1), [(2, 3)]),
    ("ravel", lambda x: x.t().ravel(), [(2, 3)]),
    ("contiguous", lambda x: x.t().contiguous(), [(2, 3)]),
    ("clone", lambda x: x.clone(), [(2, 3), (), (0,)]),
    ("clone of a view", lambda x: x.t().clone(), [(2, 3)]),
    ("alias", lambda x: x.view_as(x), [(2, 3)]),
    ("cat", lambda x: torch.cat([x, x * 2, x]), [(3,), (2, 3)]),
    ("cat dim", lambda x: torch.cat([x, x], -1), [(2, 3)]),
    ("cat with nothing", lambda x: torch.cat([x, x[:0]]), [(2, 3)]),
    ("stack", lambda x: torch.stack([x, -x], 1), [(3,), (2, 3)]),
    ("hstack", lambda x: torch.hstack([x, x]), [(3,), (2, 3)]),
    ("vstack", lambda x: torch.vstack([x, x]), [(3,), (2, 3)]),
    ("flip", lambda x: x.flip(0, -1), [(2, 3)]),
    ("flip one", lambda x: x.flip(0), [(3,)]),
    ("roll", lambda x: x.roll(1), [(3,), (2, 3)]),
    ("roll dims", lambda x: x.roll((1, -1), (0, 1)), [(2, 3)]),
    ("roll dim", lambda x: torch.roll(x, 2, 1), [(2, 5)]),
    ("repeat", lambda x: x.repeat(2, 3), [(3,), (2, 3)]),
    ("tile", lambda x: x.tile(2), [(3,), (2, 3)]),
    ("repeat_interleave", lambda x: x.repeat_interleave(2, 0), [(3,), (2, 3)]),
    ("pad", lambda x: F.pad(x, (1, 2)), [(3,), (2, 3)]),
    ("pad with", lambda x: F.pad(x, (1, 0, 0, 2), value=1.5), [(2, 3)]),
    ("crop", lambda x: F.pad(x, (-1, 1)), [(4,)]),
    ("tril", lambda x: x.tril(), [(3, 3)]),
    ("triu", lambda x: x.triu(1), [(3, 4)]),
    ("index", lambda x: x[torch.tensor([2, 0, 2])], [(3,), (3, 2)]),
    ("index two", lambda x: x[torch.tensor([0, 1]), torch.tensor([2, 0])], [(3, 4), (3, 4, 2)]),
    ("index apart", lambda x: x[torch.tensor([0, 1]), :, torch.tensor([1, 0])], [(3, 4, 2), (2, 2, 2), (3, 4, 2, 5)]),
    ("index last", lambda x: x[:, torch.tensor([[0, 1], [1, 1]])], [(3, 4), (3, 4, 2)]),
    ("mask", lambda x: x[torch.tensor([True, False, True])], [(3,), (3, 2)]),
    ("mask two", lambda x: x[torch.eye(3, dtype=torch.bool)], [(3, 3)]),
    ("index_select", lambda x: x.index_select(-1, torch.tensor([2, 0])), [(3,), (2, 3)]),
    ("gather", lambda x: x.gather(1, torch.tensor([[0, 0], [2, 1]])), [(2, 3)]),
    ("take_along_dim", lambda x: torch.take_along_dim(x, torch.tensor([[1], [0]]), 1), [(2, 3)]),
    ("masked_fill", lambda x: x.masked_fill(torch.tensor([True, False, True]), -0.5), [(3,), (2, 3)]),
    ("detach", lambda x: x.detach() * 1 + x, [(3,)]),
    ("double", lambda x: x.double(), [(3,)]),
    ("to", lambda x: x.to(torch.float64).float(), [(3,)]),
]


@pytest.mark.parametrize(("fn", "shapes"), [case[1:] for case in FREE], ids=[case[0] for case in FREE])
def test_movement(fn, shapes):
    check_op(fn, shapes, steps=1)


@pytest.mark.parametrize("name", [c[0] for c in FREE if c[0] not in {"detach", "cat", "stack", "contiguous"}])
def test_movement_sends_nothing(name):
    fn, shapes = next(case[1:] for case in FREE if case[0] == name)
    secret = encrypted(torch.rand(shapes[0]))
    before = parties().stats.copy()
    fn(secret)
    assert (parties().stats - before).sent == 0


def test_index_put():
    def in_place(x, y):
        out = x.clone()
        out[torch.tensor([2, 0])] = y
        out[1, torch.tensor([0])] = 0.25
        return out

    check_op(in_place, [[(3, 2), (2,)], [(3, 2), (2, 2)]], steps=2)

    def apart(x, y):
        out = x.clone()
        out[torch.tensor([0, 1]), :, torch.tensor([1, 0])] = y
        return out

    check_op(apart, [[(2, 2, 2), (2, 2)], [(3, 4, 2), (2, 4)], [(3, 4, 2), (4,)]], steps=2)

    def masked(x):
        out = x.clone()
        out[torch.tensor([True, False, True])] = -1.5
        return out

    check_op(masked, [(3,), (3, 2)], steps=2)


def test_accumulated_index_put():
    check_op(
        lambda x, y: x.index_put((torch.tensor([0, 0, 1]),), y, accumulate=True),
        [[(3,), (3,)], [(3, 2), (3, 2)]],
        steps=2,
    )


def test_assignment_to_slices():
    def in_place(x, y):
        out = x.clone()
        out[1:, 0] = y
        out[0] = 0.5
        out[:, 2:] *= 2
        out[2] = torch.tensor([0.25, 0.5, 0.75, 1.0])
        return out

    check_op(in_place, [[(3, 4), (2,)], [(3, 4), ()]], steps=2)


def test_plain_and_secret_join():
    plain = torch.tensor([[0.5, -1.0, 2.0]])
    check_op(lambda x: torch.cat([x, plain.to(x.dtype)]), [(2, 3)], steps=1)
    check_op(lambda x: torch.stack([plain[0].to(x.dtype), x]), [(3,)], steps=1)


def test_dtypes_follow_torch():
    a = torch.tensor([1, 2, 3])
    x = sy.encrypt(a, parties())
    b = sy.encrypt(a > 1, parties())
    mask = torch.tensor([True, False, True])
    cases = [
        lambda v, w: F.pad(v, (1, 1)),
        lambda v, w: F.pad(v, (1, 1), value=3),
        lambda v, w: v.masked_fill(mask, 7),
        lambda v, w: torch.cat([v, v]),
        lambda v, w: torch.where(mask, v, -v),
        lambda v, w: torch.where(w, v, -v),
        lambda v, w: w.to(torch.int64),
        lambda v, w: ~w,
        lambda v, w: w & (v > 2),
        lambda v, w: w * v,
        lambda v, w: w.sum(),
        lambda v, w: torch.zeros_like(v) + v,
        lambda v, w: torch.relu(v - 2),
        lambda v, w: (v - 2).abs(),
        lambda v, w: v.clamp(2, 2),
        lambda v, w: torch.maximum(v, v.flip(0)),
    ]
    for case in cases:
        found, expected = case(x, b), case(a, a > 1)
        assert found.dtype == expected.dtype
        assert torch.equal(sy.decrypt(found), expected)


def test_factories():
    x = encrypted(torch.rand(2, 3))
    for made, value in (
        (torch.zeros_like(x), 0.0), (torch.ones_like(x), 1.0), (torch.full_like(x, 0.5), 0.5),
        (x.new_zeros(2, 2), 0.0), (x.new_ones(3), 1.0),
    ):  # fmt: skip
        assert torch.equal(sy.decrypt(made), torch.full(made.shape, value))
    assert torch.empty_like(x).shape == x.shape


def test_choosing_by_secrets_is_refused():
    x = encrypted(torch.rand(3))
    for read in (lambda: x[x > 0], lambda: x[x.argmax()]):
        with pytest.raises((TypeError, NotImplementedError)):
            read()


def test_values_do_not_leak_through_conversions():
    x = encrypted(torch.rand(()))
    for leak in (bool, float, int, lambda v: v.item(), lambda v: v.tolist(), lambda v: v.numpy(), lambda v: f"{v:.2f}"):
        with pytest.raises(TypeError):
            leak(x)
    with pytest.raises((TypeError, RuntimeError)):
        torch.zeros(()).copy_(x)


ONE = torch.tensor([0])
SCALAR = {
    "gather": lambda x: x.gather(0, torch.tensor([0, 0, 0])),
    "gather of no dimension": lambda x: x.gather(-1, torch.tensor(0)),
    "index_select": lambda x: x.index_select(0, ONE),
    "index_add": lambda x: x.index_add(0, ONE, x * 2),
    "index_add, alpha": lambda x: x.index_add(-1, torch.tensor(0), x, alpha=3),
    "scatter_add": lambda x: x.scatter_add(0, ONE, (x * 2).reshape(1)),
    "unfold": lambda x: x.unfold(0, 1, 1),
    "flip": lambda x: x.flip(0),
    "cumsum": lambda x: x.cumsum(0),
    "sum": lambda x: x.sum(-1),
    "mean": lambda x: x.mean(0),
    "roll": lambda x: x.roll(1),
    "stack": lambda x: torch.stack([x, x], -1),
}


@pytest.mark.parametrize("name", SCALAR)
@pytest.mark.parametrize("n", [2, 3])
def test_scalars(name, n):
    plain = torch.randn(()).requires_grad_()
    secret = sy.encrypt(plain.detach(), parties(n), requires_grad=True)
    right, found = SCALAR[name](plain), SCALAR[name](secret)
    assert found.shape == right.shape
    assert torch.allclose(sy.decrypt(found), right, atol=1e-3)
    right.sum().backward()
    found.sum().backward()
    assert torch.allclose(sy.decrypt(secret.grad), plain.grad, atol=1e-3)


def test_scalars_that_are_refused():
    x = sy.encrypt(torch.tensor(1.5), parties(2))
    for use in (
        lambda: x.index_select(0, torch.tensor([0, 0])),
        lambda: torch.cat([x, x]),
        lambda: x.roll(1, 0),
        lambda: x.gather(1, ONE),
        lambda: x.index_add(0, ONE, torch.ones(1)),
    ):
        with pytest.raises((RuntimeError, IndexError), match=r"scalar|[Dd]imension|shape"):
            use()


ALONG = {
    "sum": lambda x, d: x.sum(d),
    "mean": lambda x, d: x.mean(d),
    "two": lambda x, d: x.sum((0, d)),
    "var": lambda x, d: x.var(d),
    "any": lambda x, d: (x > 0).any(d),
    "cumsum": lambda x, d: x.cumsum(d),
    "flip": lambda x, d: x.flip(d),
    "roll": lambda x, d: x.roll(1, d),
    "cat": lambda x, d: torch.cat([x, x], d),
    "stack": lambda x, d: torch.stack([x, x], d if d < 0 else d + 1),
    "gather": lambda x, d: x.gather(d, torch.zeros(1, 1, dtype=torch.int64)),
    "index_select": lambda x, d: x.index_select(d, ONE),
    "index_add": lambda x, d: x.index_add(d, ONE, torch.ones(1, 3)),
    "scatter_add": lambda x, d: x.scatter_add(d, torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1)),
}


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.parametrize("dim", [2, 5, -4])
def test_a_dimension_that_there_is_not(name, dim):
    """It is not taken for another one."""
    for x in (torch.ones(2, 3), encrypted(torch.ones(2, 3))):
        with pytest.raises(IndexError, match="out of range"):
            ALONG[name](x, dim)


def test_a_dimension_that_is_named_twice():
    with pytest.raises(RuntimeError, match="twice"):
        encrypted(torch.ones(2, 3)).sum((1, -1))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64, torch.int32])
def test_truth_values_of_numbers(kind):
    values = torch.tensor([5, 0, -2, 1, 0]).to(kind)
    found = sy.encrypt(values, parties(2)).bool()
    assert found.dtype == torch.bool
    assert torch.equal(sy.decrypt(found), values.bool())
    assert sy.decrypt(found.sum()) == 3
    assert torch.equal(sy.decrypt(found.float()), values.bool().float())
    assert torch.equal(sy.decrypt(~found), ~values.bool())
    quarter = sy.encrypt(torch.tensor([0.25, 0.0]), parties(2)) * 0.25
    assert sy.decrypt(quarter.bool()).tolist() == [True, False]
