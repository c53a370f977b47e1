"""Numbers mod 2^132 as six lanes of 22 bits in int64: the ring of authenticated shares.

A lane may hold any int64 whose weighted sum is meant: sums and differences of wide
numbers are torch's own, lane by lane, for as long as no lane overflows (2^40 additions);
`normal` carries.  Lanes are the last dimension but one: [..., 6, n].
"""

from __future__ import annotations

import torch

from pysmpc import ring

LANES = 6
BITS = 22
MASK = (1 << BITS) - 1
WORDS = 3  # of 64 bits that carry a wide number, two lanes each


def normal(x: torch.Tensor) -> torch.Tensor:
    """Lanes in [0, 2^22), what is above 2^132 dropped; a new tensor."""
    x = x.clone()
    for j in range(x.shape[-2] - 1):
        x[..., j + 1, :] += x[..., j, :] >> BITS
    return x.bitwise_and_(MASK)


def split(words: torch.Tensor) -> torch.Tensor:
    """Unsigned 64-bit words [..., n] as three lanes [..., 3, n]."""
    top = (words >> (2 * BITS)) & ((1 << (64 - 2 * BITS)) - 1)
    return torch.stack([words & MASK, (words >> BITS) & MASK, top], -2)


def low(x: torch.Tensor) -> torch.Tensor:
    """Wide numbers mod 2^64, [..., n]."""
    x0, x1, x2 = x[..., 0, :], x[..., 1, :], x[..., 2, :]
    return x0 + (x1 << BITS) + (x2 << (2 * BITS))


def extended(lanes: torch.Tensor) -> torch.Tensor:
    """Fewer lanes [..., k, n] as six."""
    return torch.nn.functional.pad(lanes, (0, 0, 0, LANES - lanes.shape[-2]))


def mul(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """x * factor for normal x and factors of k normal lanes, [..., k, n], broadcast."""
    out = torch.zeros_like(x + factor[..., :1, :])
    for i in range(factor.shape[-2]):
        out[..., i:, :] += factor[..., i : i + 1, :] * x[..., : LANES - i, :]
    return normal(out)


def pack(x: torch.Tensor) -> torch.Tensor:
    """Normal lanes [..., 6, n] as words [..., 3, n]."""
    return x[..., ::2, :] | (x[..., 1::2, :] << BITS)


def unpack(words: torch.Tensor) -> torch.Tensor:
    """Words [..., 3, n], or sums of some, as lanes [..., 6, n], not normal."""
    return torch.stack([words & MASK, words >> BITS], -2).flatten(-3, -2)


def matmul(d: torch.Tensor, y: torch.Tensor, out: torch.Tensor, left: bool = True) -> None:
    """out += d @ y (left) or y @ d: d [3, b, m, k] the lanes of words, y and out [6, b, ., .] wide.

    Exact while k < 2^16: every lane is a sum of 3 k products of 44 bits.
    """
    for i in range(d.shape[0]):
        for j in range(LANES - i):
            one, two = (d[i], y[j]) if left else (y[j], d[i])
            ring.matmul(one, two, out[i + j], accumulate=True)
