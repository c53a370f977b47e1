"""`sy.decrypt(x, to=...)`: one holder learns a value, the others see uniform words."""

import math

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.errors import PartyError


@pytest.mark.parametrize("names", [("alice", "bob"), ("alice", "bob", "carol")])
@pytest.mark.parametrize("options", [{}, {"integrity": "mac"}])
def test_the_value_is_at_the_receiver(names, options):
    parties = sy.virtual(*names, **options)
    x = torch.randn(3, 4)
    secret = sy.encrypt(x, parties)
    for name in names:
        pointer = sy.decrypt(secret, to=name)
        assert isinstance(pointer, sy.PointerTensor)
        assert pointer.handle.worker.id == name
        torch.testing.assert_close(pointer.fetch(), x, atol=1e-4, rtol=0)
    torch.testing.assert_close(sy.decrypt(secret), x, atol=1e-4, rtol=0)


def test_integers_booleans_views_and_products():
    parties = sy.virtual("alice", "bob")
    whole, x = torch.randint(-1000, 1000, (6,)), torch.randn(2, 3)
    assert torch.equal(sy.decrypt(sy.encrypt(whole, parties), to="bob").fetch(), whole)
    secret = sy.encrypt(x, parties)
    assert torch.equal(sy.decrypt(secret > 0, to="bob").fetch(), x > 0)
    torch.testing.assert_close(
        sy.decrypt((secret * secret).t()[1:], to="bob").fetch(), (x * x).t()[1:], atol=1e-3, rtol=0
    )


def test_what_is_sent_is_uniform_whatever_the_value():
    """The opened words, which every holder sees: each bit is as often one as zero."""
    parties = sy.virtual("alice", "bob")
    n = 4000
    for value in (torch.zeros(n, dtype=torch.int64), torch.arange(n)):
        seen = []
        channel = parties.session.party.channel
        channel.observer = lambda cause, sent, opened, seen=seen: seen.extend(opened)
        secret = sy.encrypt(value, parties)
        assert torch.equal(sy.decrypt(secret, to="alice").fetch(), value)
        channel.observer = None
        [words] = seen
        bits = torch.stack([words.reshape(-1) >> place & 1 for place in range(64)]).double().mean(1)
        assert ((bits - 0.5).abs() < 6 / (2 * math.sqrt(n))).all()


def test_it_costs_an_opening_and_a_mask():
    parties = sy.virtual("alice", "bob", "carol")
    secret = sy.encrypt(torch.randn(10), parties)
    before = parties.stats.copy()
    sy.decrypt(secret, to="carol")
    cost = parties.stats - before
    assert (cost.rounds, cost.sent, cost.shared, cost.dealt) == (1, 8 * 2 * 10, 80, 0)


def test_a_model_trained_on_secrets_for_its_owner_alone():
    parties = sy.virtual("alice", "bob")
    models = [sy.encrypt(nn.Linear(3, 2), parties) for _ in range(2)]
    plain = [sy.decrypt(model) for model in models]
    there = sy.decrypt(sy.fed_avg(models), to="bob")
    assert all(isinstance(p, sy.PointerTensor) for p in there.parameters())
    mean = (plain[0].weight + plain[1].weight).detach() / 2
    torch.testing.assert_close(there.weight.fetch().detach(), mean, atol=1e-3, rtol=0)


def test_a_nest():
    parties = sy.virtual("alice", "bob")
    x = torch.randn(2)
    [found] = sy.decrypt({"a": [sy.encrypt(x, parties)]}, to="alice")["a"]
    torch.testing.assert_close(found.fetch(), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (lambda parties: sy.encrypt(torch.ones(2), parties), PartyError),
        (lambda parties: torch.ones(2), TypeError),
        (lambda parties: 3, TypeError),
    ],
)
def test_who_is_no_holder(value, error):
    with pytest.raises(error, match=r"no holder|holds no secret"):
        sy.decrypt(value(sy.virtual("alice", "bob")), to="mallory")
