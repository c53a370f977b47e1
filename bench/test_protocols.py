"""Operations on secret tensors, all roles in one process."""

import copy

import pytest
import torch

import pysmpc as sy

N = 1 << 17


def secret(parties, *shape):
    plain = torch.randn(shape)
    return plain, sy.encrypt(plain, parties)


def test_encrypt(beside, parties):
    x = torch.randn(N)
    beside(lambda: sy.encrypt(x, parties), lambda: x.clone(), parties, N)


def test_decrypt(beside, parties):
    x, hidden = secret(parties, N)
    beside(lambda: sy.decrypt(hidden), lambda: x.clone(), parties, N)


def large():
    """67 M parameters in 64 layers."""
    return torch.nn.Sequential(*(torch.nn.Linear(1024, 1024, bias=False) for _ in range(64)))


def test_encrypt_a_model(beside, parties):
    model = large()
    beside(lambda: sy.encrypt(model, parties), lambda: copy.deepcopy(model), parties, 1 << 26)


def test_decrypt_a_model(beside, parties):
    model = large()
    hidden = sy.encrypt(model, parties)
    beside(lambda: sy.decrypt(hidden), lambda: copy.deepcopy(model), parties, 1 << 26)


def test_truncate(beside, parties):
    x, hidden = secret(parties, N)
    beside(lambda: (hidden * 0.3).cell.settle(), lambda: x * 0.3, parties, N)


def test_multiply(beside, parties):
    x, y = torch.randn(N), torch.randn(N)

    def secure():
        a, b = sy.encrypt(x, parties), sy.encrypt(y, parties)
        (a * b).cell.settle()

    beside(secure, lambda: x * y, parties, N)


def test_relu(beside, parties):
    x, hidden = secret(parties, N)
    beside(lambda: torch.relu(hidden), lambda: torch.relu(x), parties, N)


def test_compare(beside, parties):
    x, hidden = secret(parties, N)
    beside(lambda: hidden > 0, lambda: x > 0, parties, N)


def test_argmax_of_ten(beside, parties):
    x, hidden = secret(parties, 640, 10)
    beside(lambda: hidden.argmax(1), lambda: x.argmax(1), parties, 6400)


def test_matmul_256_with_truncation(beside, parties):
    x, a = secret(parties, 256, 256)
    y, b = secret(parties, 256, 256)
    beside(lambda: (a @ b).cell.settle(), lambda: x @ y, parties, macs=256**3)


def test_convolution(beside, parties):
    """32 images of 28 x 28, six filters of 5 x 5."""
    x, a = secret(parties, 32, 1, 28, 28)
    w, b = secret(parties, 6, 1, 5, 5)
    conv = torch.nn.functional.conv2d
    beside(lambda: conv(a, b, padding=2).cell.settle(), lambda: conv(x, w, padding=2), parties, macs=32 * 6 * 25 * 784)


@pytest.mark.parametrize(
    ("images", "channels", "filters", "kernel", "side"),
    [(4, 64, 64, 3, 64), (4, 64, 64, 1, 64), (1, 64, 64, 3, 112), (4, 128, 128, 3, 32), (64, 20, 50, 5, 12)],
)
def test_convolutions_of_large_networks(beside, parties, images, channels, filters, kernel, side):
    """Products alone: what is to be truncated later is left as it is."""
    x, a = secret(parties, images, channels, side, side)
    w, b = secret(parties, filters, channels, kernel, kernel)
    conv, padding = torch.nn.functional.conv2d, kernel // 2
    macs = images * side**2 * filters * channels * kernel**2
    beside(lambda: conv(a, b, padding=padding).cell.body.words, lambda: conv(x, w, padding=padding), parties, macs=macs)


def test_max_of_a_thousand(beside, parties):
    x, hidden = secret(parties, 64, 1000)
    beside(lambda: hidden.max(1).values, lambda: x.max(1).values, parties, 64000)


def test_max_pool(beside, parties):
    x, a = secret(parties, 32, 6, 28, 28)
    pool = torch.nn.functional.max_pool2d
    beside(lambda: pool(a, 2), lambda: pool(x, 2), parties, x.numel())
