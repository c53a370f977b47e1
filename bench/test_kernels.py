"""Compiled kernels against torch on integers or floats of the same size."""

import os

import pytest
import torch

from pysmpc.ring import affine_kernels, integer_functions, product_kernels, reopen_kernels, z2k
from pysmpc.ring.prg import KeySet

N = 1 << 17


def words(*shape):
    return torch.randint(-(1 << 62), 1 << 62, shape)


def keys():
    return KeySet([os.urandom(16)])


@pytest.mark.parametrize(
    "shape",
    [(64, 784, 128), (784, 64, 128), (512, 784, 128), (256, 256, 256), (1024, 1024, 1024), (64, 64, 10)],
    ids=str,
)
def test_ring_matmul_against_float32(beside, shape):
    m, k, n = shape
    a, b, out = words(m, k), words(k, n), z2k.empty(m, n)
    x, y = torch.randn(m, k), torch.randn(k, n)
    beside(lambda: product_kernels.matmul(a, b, out), lambda: x @ y, macs=m * k * n)


def test_ring_matmul_against_int64(beside):
    a, b, out = words(64, 784), words(784, 128), z2k.empty(64, 128)
    beside(lambda: product_kernels.matmul(a, b, out), lambda: a @ b, macs=64 * 784 * 128)


def test_generator_against_torch_randint(beside):
    key = keys()
    beside(lambda: key.draw(0, N), lambda: torch.randint(-(1 << 62), 1 << 62, (N,)), elements=N)


def test_masking_against_a_subtraction(beside):
    key, x, y = keys(), words(1, N), words(1, N)
    beside(lambda: key.mask(0, x), lambda: x - y, elements=N)


def test_addition(beside):
    x, y = words(1, N), words(1, N)
    beside(lambda: z2k.add(x, y), lambda: x + y, elements=N)


def test_product(beside):
    x, y = words(1, N), words(1, N)
    beside(lambda: z2k.mul(x, y), lambda: x * y, elements=N)


def test_square_of_a_quotient_against_a_square(beside):
    key, x, y = keys(), words(1, N), words(1, N)
    known = affine_kernels.Known(0, z2k.Divisor(1 << 16), False, 1, words(1, N))
    beside(lambda: affine_kernels.affine_square(key, 16, known, x, None), lambda: y * y, elements=N)


def test_truncation_that_is_opened_again_against_a_shift(beside):
    key, c, y, by = keys(), words(1, N), words(1, N), z2k.Divisor(1 << 16)
    beside(lambda: reopen_kernels.reopen_finish(key, 0, by, c, None), lambda: y >> 16, elements=N)


def test_cosines_dealt_against_cosines(beside):
    multiples, everyone, out = integer_functions.Multiples(12345 << 32, 16, 1 << 11), keys(), z2k.empty(32 * N // 8)
    x = torch.randn(16, N // 8)
    beside(lambda: multiples.deal(everyone, 0, 1, 0, out, N // 8), lambda: (x.cos(), x.sin()), elements=32 * N // 8)


def test_cosines_combined_against_a_sum(beside):
    multiples, key, c, weights = (
        integer_functions.Multiples(12345 << 32, 16, 1 << 11),
        keys(),
        words(N // 8),
        words(2, 16),
    )
    x, y = torch.randn(32, N // 8), torch.randn(32, N // 8)
    beside(
        lambda: multiples.combine(key, 1, None, c, weights >> 32, 36, 0), lambda: (x * y).sum(0), elements=32 * N // 8
    )


def test_combinations_against_a_product_of_matrices(beside):
    x, weights, constants, out = words(1, 5 * N), words(3, 5), words(3), z2k.empty(1, 3 * N)
    a, b = torch.randn(3, 5), torch.randn(5, N)
    beside(lambda: z2k.combinations(x, weights, constants, 0, out), lambda: a @ b, elements=3 * N)
