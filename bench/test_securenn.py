"""SecureNN's protocols, all three roles in one process; docs/protocols.md has the paper's figures beside these."""

import pytest
import torch

import pysmpc as sy
from pysmpc import securenn

N = 1 << 17


@pytest.fixture(scope="module")
def three():
    return sy.virtual("alice", "bob", protocol="snn")


def secret(parties, *shape):
    plain = torch.randn(shape)
    return plain, sy.encrypt(plain, parties)


def test_snn_relu(beside, three):
    x, hidden = secret(three, N)
    beside(lambda: torch.relu(hidden), lambda: torch.relu(x), three, N)


def test_snn_compare(beside, three):
    x, hidden = secret(three, N)
    beside(lambda: hidden > 0, lambda: x > 0, three, N)


def test_snn_private_compare(beside, three):
    x, r = torch.randint(1 << 62, (N,)), torch.randint(1 << 62, (N,))
    hidden = securenn.share_bits(x, three)
    beside(lambda: securenn.private_compare(hidden, r), lambda: x > r, three, N)


def test_snn_share_convert(beside, three):
    x, hidden = secret(three, N)
    beside(lambda: securenn.share_convert(hidden), lambda: x + 0, three, N)


def test_snn_msb_of_a_residue(beside, three):
    x, hidden = secret(three, N)
    odd = securenn.share_convert(hidden)
    beside(lambda: securenn.msb(odd), lambda: x < 0, three, N)


def test_snn_division(beside, three):
    n = 1 << 10
    x, a = secret(three, n)
    y, b = secret(three, n)
    beside(lambda: securenn.division(a, b, 32), lambda: x / y, three, n)


def test_snn_maxpool_of_four(beside, three):
    x, hidden = secret(three, N // 4, 4)
    beside(lambda: securenn.maxpool(hidden), lambda: x.max(1), three, N // 4)


def test_snn_maxpool_derivative(beside, three):
    x, hidden = secret(three, N // 4, 4)
    _, places = securenn.maxpool(hidden)
    at = x.argmax(1)
    beside(lambda: securenn.maxpool_deriv(places, 4), lambda: torch.nn.functional.one_hot(at, 4), three, N // 4)
