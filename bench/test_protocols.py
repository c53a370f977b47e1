"""Operations on secret tensors, all roles in one process."""

import torch

import pysmpc as sy

N = 1 << 17


def secret(parties, *shape):
    plain = torch.randn(shape)
    return plain, sy.encrypt(plain, parties)


def test_relu(beside, parties):
    x, hidden = secret(parties, N)
    beside(lambda: torch.relu(hidden), lambda: torch.relu(x), parties, N)


def test_compare(beside, parties):
    x, hidden = secret(parties, N)
    beside(lambda: hidden > 0, lambda: x > 0, parties, N)


def test_multiply(beside, parties):
    x, y = torch.randn(N), torch.randn(N)

    def secure():
        a, b = sy.encrypt(x, parties), sy.encrypt(y, parties)
        (a * b).cell.settle()

    beside(secure, lambda: x * y, parties, N)


def test_matmul_256_with_truncation(beside, parties):
    x, a = secret(parties, 256, 256)
    y, b = secret(parties, 256, 256)
    beside(lambda: (a @ b).cell.settle(), lambda: x @ y, parties)


def test_argmax_of_ten(beside, parties):
    x, hidden = secret(parties, 640, 10)
    beside(lambda: hidden.argmax(1), lambda: x.argmax(1), parties, 6400)
