"""What compares, by function secret sharing and by the default, all roles in one process."""

import pytest
import torch

import pysmpc as sy
from pysmpc.fss import Dcf, Dpf

N = 1 << 17
OPERATIONS = {
    "less": lambda x: x < 0,
    "equal": lambda x: x == 0,
    "relu": torch.relu,
    "relu_and_truncation": lambda x: torch.relu(x * 0.5),
}


@pytest.mark.parametrize("protocol", ["default", "fss"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(beside, name, protocol):
    parties, x = sy.virtual("alice", "bob", protocol=protocol), torch.randn(N)
    hidden = sy.encrypt(x, parties)
    beside(lambda: OPERATIONS[name](hidden), lambda: OPERATIONS[name](x), parties, N)


@pytest.mark.parametrize("make", [Dpf, Dcf], ids=lambda make: make.__name__)
def test_functions_on_64_bits(beside, make):
    """Keys and both evaluations."""
    f, alpha = make(64), torch.randint(1 << 62, (1 << 12,))

    def both():
        first, second = f.keygen(alpha)
        return f.eval(0, first, alpha) + f.eval(1, second, alpha)

    beside(both, lambda: alpha == alpha, elements=1 << 12)
