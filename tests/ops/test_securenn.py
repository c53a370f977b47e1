"""`sy.securenn` on secret tensors, and the operators of tensors under protocol="snn"."""

import pytest
import torch
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import EncodingError, PartyError, SessionMismatchError


@pytest.fixture(params=["snn", None])
def parties(request):
    return sy.virtual("alice", "bob", protocol=request.param)


@pytest.fixture
def values():
    out = 3 * torch.randn(6, 5)
    out[0, :3] = torch.tensor([0.0, 2.0**-16, -(2.0**-16)])
    return out


def test_signs(parties, values):
    x = sy.encrypt(values, parties)
    exact = sy.decrypt(x)
    assert torch.equal(sy.decrypt(sy.securenn.msb(x)), exact < 0)
    assert torch.equal(sy.decrypt(sy.securenn.relu_deriv(x)), exact >= 0)
    assert torch.equal(sy.decrypt(sy.securenn.relu(x)), F.relu(exact))
    assert torch.equal(sy.decrypt(sy.securenn.msb(x.t())), exact.t() < 0)


def test_share_convert(parties):
    x = torch.tensor([[0, 1, -1], [5, 1 - (1 << 62), (1 << 62) - 1]])
    odd = sy.securenn.share_convert(sy.encrypt(x, parties))
    assert odd.reveal().tolist() == [[v % 2**64 % (2**64 - 1) for v in row] for row in x.tolist()]
    assert torch.equal(sy.decrypt(sy.securenn.msb(odd)), torch.tensor([[0, 0, 0], [0, 1, 0]]).bool())
    assert "5" not in repr(odd)


def test_private_compare(parties):
    x, r = torch.tensor([0, 5, -1, 7]), torch.tensor([0, 4, 7, -1])
    shared = sy.securenn.share_bits(x, parties)
    assert sy.decrypt(sy.securenn.private_compare(shared, r)).tolist() == [False, True, True, False]
    assert sy.decrypt(sy.securenn.private_compare(shared, torch.tensor(5))).tolist() == [False, False, True, True]
    with pytest.raises(EncodingError, match="of integers"):
        sy.securenn.share_bits(torch.randn(3), parties)


def test_division(parties, values):
    y = values.flip(0) + 4 * values.flip(0).sign() + 1
    x, secret = sy.encrypt(values, parties), sy.encrypt(y, parties)
    found = sy.decrypt(sy.securenn.division(x, secret))
    exact = sy.decrypt(x).double() / sy.decrypt(secret).double()
    assert float((found - exact).abs().max()) < 2**-16 + 1e-6
    with pytest.raises(EncodingError, match="62 bits"):
        sy.securenn.division(x, secret, 63)
    with pytest.raises(ValueError, match="equal shape"):
        sy.securenn.division(x, secret[:2])


def test_maxpool(parties, values):
    x = sy.encrypt(values.view(2, 3, 5), parties)
    best, places = sy.securenn.maxpool(x)
    exact = sy.decrypt(x)
    assert torch.equal(sy.decrypt(best), exact.max(-1)[0])
    assert torch.equal(sy.decrypt(places), exact.argmax(-1))
    assert torch.equal(sy.decrypt(sy.securenn.maxpool_deriv(places, 5)), F.one_hot(exact.argmax(-1), 5))


def test_select_and_matmul(parties, values):
    x, y = sy.encrypt(values, parties), sy.encrypt(-2 * values, parties)
    chosen = sy.decrypt(sy.securenn.select_share(sy.securenn.msb(x), x, y))
    assert torch.equal(chosen, torch.where(sy.decrypt(x) < 0, sy.decrypt(y), sy.decrypt(x)))
    product = sy.decrypt(sy.securenn.matmul(x, y.t()))
    assert float((product - values @ (-2 * values).t()).abs().max()) < 0.01
    other = sy.encrypt(values, sy.virtual("alice", "bob"))
    with pytest.raises(SessionMismatchError, match="different parties"):
        sy.securenn.matmul(x, other)


def test_three_holders_are_told_what_to_do():
    with pytest.raises(PartyError, match="2 holders, not 3; leave protocol out"):
        sy.virtual("alice", "bob", "carol", protocol="snn")
    three = sy.virtual("alice", "bob", "carol")
    for call in (sy.securenn.msb, sy.securenn.share_convert, sy.securenn.relu_deriv, sy.securenn.maxpool):
        with pytest.raises(PartyError, match="two holders and the provider"):
            call(sy.encrypt(torch.ones(2, 2), three))
    with pytest.raises(PartyError, match="two holders and the provider"):
        sy.securenn.share_bits(torch.tensor([1]), three)


def test_operators_of_tensors(values):
    parties = sy.virtual("alice", "bob", protocol="snn")
    x, y = sy.encrypt(values, parties, requires_grad=True), sy.encrypt(values.flip(0), parties)
    a, b = sy.decrypt(x), sy.decrypt(y)
    assert torch.equal(sy.decrypt(x > y), a > b)
    assert torch.equal(sy.decrypt(x == y), a == b)
    assert torch.equal(sy.decrypt(x.max(1)[1]), a.argmax(1))
    assert float((sy.decrypt(x.abs()) - a.abs()).abs().max()) < 1e-4
    before = parties.stats.copy()
    out = F.relu(x)
    spent = parties.stats - before
    assert spent.rounds == 3
    assert spent.asked > 0
    out.sum().backward()
    assert torch.equal(sy.decrypt(x.grad), (a > 0).float())
