"""Compiled kernels against torch on integers or floats of the same size."""

import os

import pytest
import torch

from pysmpc import ring
from pysmpc.prg import KeySet


def words(*shape):
    return torch.randint(-(1 << 62), 1 << 62, shape)


@pytest.mark.parametrize("shape", [(64, 784, 128), (784, 64, 128), (256, 256, 256), (64, 64, 10)], ids=str)
def test_ring_matmul_against_float32(beside, shape):
    m, k, n = shape
    a, b, out = words(m, k), words(k, n), ring.empty(m, n)
    x, y = torch.randn(m, k), torch.randn(k, n)
    beside(lambda: ring.matmul(a, b, out), lambda: x @ y, elements=m * k * n)


def test_ring_matmul_against_int64(beside):
    a, b, out = words(64, 784), words(784, 128), ring.empty(64, 128)
    beside(lambda: ring.matmul(a, b, out), lambda: a @ b, elements=64 * 784 * 128)


def test_generator_against_torch_randint(beside):
    keys, n = KeySet([os.urandom(16)]), 1 << 17
    beside(lambda: keys.draw(0, n), lambda: torch.randint(-(1 << 62), 1 << 62, (n,)), elements=n)
