"""What secrets, parties and models show: facts that are public, and never a value."""

import random

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.tensor import display


@pytest.fixture
def parties():
    return sy.virtual("alice", "bob")


def test_a_secret_is_one_line(parties):
    number = random.randint(10**6, 10**7) + 0.5
    x = sy.encrypt(torch.full((2, 3), number), parties)
    text = "SecretTensor(..., size=(2, 3), frac_bits=16, holders=('alice', 'bob'), provider='crypto_provider')"
    assert repr(x) == str(x) == f"{x}" == text
    assert str(int(number)) not in repr(x * 1)
    y = sy.encrypt(torch.ones(2), parties, requires_grad=True)
    assert repr(y).endswith(", requires_grad=True)")
    assert repr(y * y).endswith(", grad_fn=<MulBackward0>)")
    assert "dtype=torch.int64" in repr(sy.encrypt(torch.tensor([3]), parties))
    assert "base=10, precision_fractional=3" in repr(sy.encrypt(1.5, parties, precision_fractional=3))
    assert repr(sy.encrypt(nn.Linear(2, 1), parties).weight).startswith("Parameter containing:\nSecretTensor(..., ")


def test_pysyfts_words_show_its_chain():
    hook = sy.TorchHook(torch)
    try:
        alice, bob = sy.VirtualWorker(hook, id="alice"), sy.VirtualWorker(hook, id="bob")
        shared = torch.tensor([1.5]).fix_precision().share(alice, bob, crypto_provider=sy.VirtualWorker(hook, id="c"))
        for value in (shared, shared * shared, shared + 1):
            assert repr(value).startswith("(Wrapper)>FixedPrecisionTensor>[AdditiveSharingTensor]")
    finally:
        hook.unhook()


def test_tables_for_jupyter(parties):
    number = random.randint(10**6, 10**7) + 0.5
    x = sy.encrypt(torch.full((2, 3), number), parties, bounded=2.0**24)
    text = x._repr_html_()
    for part in ("(2, 3)", "alice, bob", "crypto_provider", "frac_bits=16", "1.67772e+07"):
        assert part in text
    assert str(int(number)) not in text
    text = parties._repr_html_()
    assert "alice, bob" in text
    assert "default" in text


def test_names_are_escaped():
    parties = sy.virtual("<b>", "bob")
    assert "<b>," not in sy.encrypt(torch.ones(1), parties)._repr_html_()
    assert "&lt;b&gt;" in parties._repr_html_()


def test_models(parties):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    assert display.model(model) is None
    text = display.model(sy.encrypt(model, parties, private_layers=["1"]))
    assert "3 x 2, public" in text
    assert "1 x 3, secret, frac_bits=16" in text
