"""Tensors at workers: what is computed with them is computed there."""

import copy
import gc

import pytest
import torch
import torch.nn.functional as F

import pysmpc as sy
from pysmpc.compat.pysyft.pysyft_errors import (
    ConsumedError,
    InvalidTensorForRemoteGet,
    NothingToGetError,
    TensorsNotCollocatedException,
)
from pysmpc.errors import RevealError

X = torch.tensor([[1.0, -2.0], [3.0, 4.0]])


def test_arithmetic(bob):
    a, b = torch.tensor([1, 2]).send(bob), torch.tensor([3, 4]).send(bob)
    assert torch.equal((a + b).get(), torch.tensor([4, 6]))
    assert torch.equal((2 * b - a).get(), torch.tensor([5, 6]))


@pytest.mark.parametrize(
    "op",
    [
        lambda x: -x,
        lambda x: 1 - x / 2,
        lambda x: x @ x.t(),
        lambda x: x[0],
        lambda x: x[:, 1:],
        lambda x: x.T,
        lambda x: torch.cat([x, x], dim=1),
        lambda x: torch.stack((x, x)),
        lambda x: torch.where(x > 0, x, -x),
        lambda x: x.max(dim=1).values,
        lambda x: x.split(1)[1],
        lambda x: F.softmax(x, dim=0),
        lambda x: F.linear(x, x, x[0]),
        lambda x: F.cross_entropy(x, torch.zeros_like(x[0], dtype=torch.long)),
        lambda x: torch.einsum("ij,jk->ik", x, x),
        lambda x: sum(row.sum() for row in x),
        lambda x: x.clone().add_(1).mul_(x),
        lambda x: x.float_precision().copy(),
    ],
)
def test_functions_and_methods(bob, op):
    assert torch.equal(op(X.send(bob)).get(), op(X))


def test_what_describes_comes_back(bob):
    p = X.send(bob)
    assert (p.shape, p.size(0), p.dim(), p.ndim, len(p), p.numel()) == (X.shape, 2, 2, 2, 2, 4)
    assert (p.dtype, p.requires_grad, p.is_leaf, p.is_floating_point()) == (torch.float32, False, True, True)
    assert p.view(-1).shape == (4,)
    assert "shape" in dir(p)
    assert p.type() == "torch.FloatTensor"


@pytest.mark.parametrize(
    "use",
    [
        bool,
        float,
        int,
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: 1.5 in x,
        lambda x: [1, 2][x],
        lambda x: f"{x:.2f}",
        lambda x: torch.equal(x, x),
        lambda x: copy.copy(x),
        lambda x: x.type(torch.float64).is_nonzero(),
        lambda x: torch.tensor([x]),
    ],
)
def test_values_come_back_by_get_only(bob, use):
    with pytest.raises(RevealError, match=r"\.get\(\)"):
        use(torch.tensor(1.5).send(bob))


def test_functions_of_the_caller_are_not_shown_values(bob):
    seen = []
    p = torch.ones(2, requires_grad=True).send(bob)
    with pytest.raises(NotImplementedError, match="function of yours"):
        p.register_hook(seen.append)
    assert not seen


def test_get_consumes(bob):
    p = X.send(bob)
    assert torch.equal(p.get(), X)
    for use in (p.get, lambda: p + 1, lambda: p.shape):
        with pytest.raises(ConsumedError, match=r"first \.get"):
            use()
    assert issubclass(ConsumedError, AttributeError)
    assert "(fetched or deleted)" in repr(p)


def test_sending_copies(bob):
    x = torch.ones(2)
    p = x.send(bob)
    p += 1
    assert torch.equal(x, torch.ones(2))
    got = p.get()
    assert torch.equal(got, torch.full((2,), 2.0))


def test_in_place(bob, alice):
    x = torch.ones(2)
    same = x
    assert x.send_(bob) is same
    assert x.location == bob
    assert x.move_(alice) is same
    assert x.location == alice
    assert x.get_() is same
    assert torch.equal(same, torch.ones(2))
    with pytest.raises(ValueError, match="one worker"):
        x.send_(alice, bob)


def test_move(alice, bob):
    p = X.clone().tag("#x").send(bob)
    q = p.move(alice)
    assert (q.location, q.tags, bob.objects_count()) == (alice, {"#x"}, 0)
    with pytest.raises(ConsumedError):
        p.get()
    assert torch.equal(q.get(), X)
    assert torch.equal(X.send(bob).move(sy.local_worker), X)
    assert torch.equal(X.move(bob).get(), X)


def test_different_places_do_not_mix(alice, bob):
    p, q = X.send(alice), X.send(bob)
    with pytest.raises(TensorsNotCollocatedException, match=r"alice, bob.*\.move"):
        p + q
    with pytest.raises(TensorsNotCollocatedException, match="send"):
        p + X
    with pytest.raises(TensorsNotCollocatedException):
        torch.cat([p, torch.tensor([1]).share(alice, bob)])
    assert torch.equal((p + q.move(alice)).get(), 2 * X)


def test_representation(bob):
    p = X.send(bob)
    assert repr(p) == f"(Wrapper)>[PointerTensor | me:{p.id} -> bob:{next(iter(bob._objects))}]" == str(p) == f"{p}"
    p.tag("#x").describe("numbers of some sort, " * 5)
    lines = repr(p).split("\n")
    assert lines[1:3] == ["\tTags: #x ", "\tShape: torch.Size([2, 2])"]
    assert lines[3].startswith("\tDescription: numbers")
    assert lines[3].endswith("...")


def test_autograd_at_the_worker(bob):
    w = X.clone().requires_grad_()
    p = w.send(bob)
    (p**2).sum().backward()
    assert repr(p.grad).endswith("::grad")
    assert torch.equal(p.grad.copy().get(), 2 * X)
    got = p.get()
    assert torch.equal(got.grad, 2 * X)
    assert got.requires_grad
    assert w.grad is None


def test_gradients_can_be_set(bob):
    p = X.clone().requires_grad_().send(bob)
    assert p.grad is None
    p.grad = torch.ones(2, 2).send(bob)
    assert torch.equal(p.grad.get(), torch.ones(2, 2))
    p.grad = None
    assert p.grad is None


def test_several_workers(alice, bob, charlie):
    p = X.send(alice, bob)
    assert repr(p).count("\n\t-> [PointerTensor | me:") == 2
    assert repr(p).startswith("(Wrapper)>[MultiPointerTensor]")
    assert p.location == [alice, bob]
    assert p.shape == (2, 2)
    q = p @ p + 1
    same = q.add_(0)
    assert same is q
    assert all(torch.equal(t, X @ X + 1) for t in q.copy().get())
    assert torch.equal(q.get(sum_results=True), 2 * (X @ X + 1))
    assert [len(part) for part in p.max(dim=0).values.get()] == [2, 2]
    with pytest.raises(TensorsNotCollocatedException):
        p + X.send(alice, charlie)
    with pytest.raises(TensorsNotCollocatedException):
        p + X.send(alice)
    with pytest.raises(TensorsNotCollocatedException):
        p + X
    with pytest.raises(NotImplementedError):
        p.move(charlie)


def test_pointers_to_pointers(alice, bob, charlie):
    p = X.send(bob)
    q = p.send(alice)
    assert (q.location, q.owner.id) == (alice, "me")
    assert torch.equal((q + 1).get().get(), X + 1)
    assert q.remote_get() is q
    assert torch.equal(q.get(), X)
    with pytest.raises(InvalidTensorForRemoteGet):
        X.send(bob).remote_get()
    with pytest.raises(InvalidTensorForRemoteGet):
        X.remote_get()
    r = X.send(bob).remote_send(charlie)
    assert torch.equal(r.mid_get().get(), X)
    gc.collect()
    assert charlie.objects_count() == 0


def test_sharing_what_a_worker_has(alice, bob, james):
    p = torch.tensor([1.5, -2.25]).send(bob)
    shared = p.fix_precision().share(alice, bob, crypto_provider=james)
    assert repr(shared).startswith("(Wrapper)>[PointerTensor | me:")
    assert torch.equal((shared + shared).get().get().float_precision(), torch.tensor([3.0, -4.5]))
    secret = shared.get()
    assert "AdditiveSharingTensor" in repr(secret)
    assert torch.equal(secret.get().float_precision(), torch.tensor([1.5, -2.25]))
    q = p.encrypt(workers=[alice, bob]).decrypt()
    assert torch.equal(q.get(), torch.tensor([1.5, -2.25]))


def test_a_shared_tensor_is_not_sent(alice, bob):
    with pytest.raises(NotImplementedError, match="holders"):
        torch.tensor([1]).share(alice, bob).send(bob)
    assert torch.tensor([1.5]).fix_precision().send(bob).get().float_precision() == 1.5


def test_errors(alice, bob):
    with pytest.raises(TypeError, match="worker"):
        X.send()
    with pytest.raises(TypeError, match="workers"):
        X.send("bob")
    with pytest.raises(TypeError, match="worker"):
        X.move("bob")
    for option in ("user", "local_autograd", "requires_grad", "preinitialize_grad", "no_wrap"):
        with pytest.raises(NotImplementedError, match=option):
            X.send(bob, **{option: True})
    with pytest.raises(NotImplementedError, match="user"):
        X.send(bob).get(user="me")
    with pytest.raises(NotImplementedError, match="sum_results"):
        X.send(bob).get(sum_results=True)
    with pytest.raises(NotImplementedError):
        X.send(alice, bob).send(bob)
    with pytest.raises(NothingToGetError):
        X.get()


@pytest.mark.parametrize("cls", [sy.PointerTensor, sy.MultiPointerTensor])
def test_pointers_hide_no_method_of_torch(cls):
    own = {n for c in cls.__mro__[: cls.__mro__.index(torch.Tensor)] for n in (*vars(c), *vars(c)["__annotations__"])}
    assert {n for n in own if hasattr(torch.Tensor, n) and not n.startswith("__")} == set()


def test_deep_copies(bob):
    p = X.send(bob)
    q = copy.deepcopy(p)
    q += 1
    assert torch.equal(p.get(), X)
    assert torch.equal(q.get(), X + 1)
