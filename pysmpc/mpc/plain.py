"""The oracle: every protocol computed on the value itself.

One "holder" holds the integer in the clear.  It passes the same tests as the real
protocols, which is how the tests are tested, and it carries the fixed-precision
tensors of the documents before they are shared.  Rounds and bytes: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pysmpc.mpc.derived import counts
from pysmpc.mpc.functions.masked import Masked, Words
from pysmpc.mpc.interfaces import Party
from pysmpc.ring import z2k
from pysmpc.ring.fixedpoint import Encoding, Integers
from pysmpc.ring.matrix_layout import Layout
from pysmpc.ring.shares import MaskedBit, Share


def share(party: Party, values: Integers | None, shape: Sequence[int], scale: int = 1) -> Share:
    """The values themselves."""
    if values is None:
        raise ValueError("the owner of an input must pass its values")
    words = values.words() if isinstance(values, Encoding) else values
    return Share.of(words.reshape(1, -1).contiguous(), shape, scale)


def reveal(party: Party, *secrets: Share) -> list[torch.Tensor]:
    """The values themselves."""
    return [x.words().reshape(x.shape) for x in secrets]


def public(party: Party, values: torch.Tensor, scale: int = 1) -> Share:
    """The values themselves."""
    return share(party, values, values.shape, scale)


def refresh(party: Party, x: Share) -> Share:
    """x."""
    return Share.of(x.words(), x.shape, x.scale)


def _values(x: Share) -> torch.Tensor:
    return x.window(x.body.words)[0]


def _share(values: torch.Tensor, scale: int) -> Share:
    return Share.of(values.contiguous().reshape(1, -1), values.shape, scale)


def add(party: Party, x: Share, y: Share) -> Share:
    """x + y."""
    return _share(_values(x) + _values(y), x.scale)


def sub(party: Party, x: Share, y: Share) -> Share:
    """x - y."""
    return _share(_values(x) - _values(y), x.scale)


def scale_by(party: Party, x: Share, factor: int) -> Share:
    """factor * x."""
    return _share(_values(x) * z2k.wrap(factor), x.scale)


def neg(party: Party, x: Share) -> Share:
    """-x."""
    return _share(-_values(x), x.scale)


def mul_public(party: Party, x: Share, values: torch.Tensor, scale: int = 1) -> Share:
    """x * values."""
    return _share(_values(x) * values, x.scale * scale)


def matmul_public(party: Party, x: Share, values: torch.Tensor, scale: int = 1, left: bool = True) -> Share:
    """x @ values or values @ x."""
    a, b = (_values(x), values) if left else (values, _values(x))
    return _share(torch.matmul(a, b), x.scale * scale)


def mul(party: Party, x: Share, y: Share) -> Share:
    """x * y."""
    return _share(_values(x) * _values(y), x.scale * y.scale)


def square(party: Party, x: Share) -> Share:
    """x * x."""
    return mul(party, x, x)


def matmul(party: Party, x: Share, y: Share) -> Share:
    """x @ y."""
    return _share(torch.matmul(_values(x), _values(y)), x.scale * y.scale)


def contract(party: Party, x: Share, left: Layout, y: Share, right: Layout) -> torch.Tensor:
    """Products of matrices found by layouts."""
    return torch.matmul(left.take(x.body.words[0]), right.take(y.body.words[0])).reshape(1, -1)


def truncate(party: Party, z: Share, by: int) -> Share:
    """floor(z / by)."""
    return _share(torch.div(_values(z), by, rounding_mode="floor"), z.scale // by)


def truncate_all(party: Party, dividends: Sequence[tuple[Share, int]]) -> list[Share]:
    """floor(z / by) of each."""
    return [truncate(party, z, by) for z, by in dividends]


def update_all(party: Party, updates: Sequence[tuple[Share, Share, int, int]]) -> list[Share]:
    """own + floor(factor * z / by) of each."""
    out = []
    for own, z, factor, by in updates:
        part = truncate(party, scale_by(party, z, factor), by)
        out.append(Share.of(own.words() + part.words(), own.shape, own.scale))
    return out


def _bit(values: torch.Tensor) -> MaskedBit:
    flat = values.to(torch.int64).reshape(-1).contiguous()
    return MaskedBit(z2k.pack_bits(flat).reshape(1, -1), torch.zeros((1, flat.numel()), dtype=torch.int64), -1)


def _of(bit: MaskedBit) -> torch.Tensor:
    values = z2k.unpack_bits(bit.beta[0].contiguous(), bit.rho.shape[1])
    return 1 - values if bit.flip else values


def negative(party: Party, x: Share) -> MaskedBit:
    """x < 0."""
    return _bit(_values(x) < 0)


def zero(party: Party, x: Share) -> Share:
    """x == 0."""
    return bit_share(party, _bit(_values(x) == 0), x.shape)


def bit_share(party: Party, bit: MaskedBit, shape: tuple[int, ...]) -> Share:
    """The bits as 0 and 1."""
    out = _share(_of(bit).reshape(shape), 1)
    out.body.bit = bit
    return out


def relu(party: Party, x: Share, by: int = 1) -> Share:
    """max(x, 0) / by."""
    bit = _bit(_values(x) > 0)
    out = select(party, bit, x, by)
    out.body.sign = bit
    return out


def larger(party: Party, x: Share, y: Share) -> tuple[Share, MaskedBit]:
    """The larger of two, and the bits y > x."""
    values = torch.maximum(_values(x), _values(y))
    return _share(values, x.scale), _bit(_values(y) > _values(x))


@dataclass(frozen=True, repr=False)
class Arranged:
    """How rows were sorted: order [rows, n], the place of each rank."""

    order: torch.Tensor

    def places(self) -> Share:
        """The order itself."""
        return _share(self.order, 1)

    def forward(self, x: Share) -> Share:
        """Elements in that order."""
        values = _values(x)
        return _share(values.gather(-1, self.order.expand(values.shape)), x.scale)

    def back(self, x: Share) -> Share:
        """Elements back from that order."""
        values = _values(x)
        return _share(torch.empty_like(values).scatter_(-1, self.order.expand(values.shape), values), x.scale)


def arrange(party: Party, x: Share) -> tuple[Share, Arranged]:
    """Rows sorted, and how."""
    values, order = _values(x).sort(stable=True, dim=1)
    return _share(values, x.scale), Arranged(order)


def one_hot(party: Party, x: Share, classes: int) -> Share:
    """Positions as bits, modulo the least power of two that has room for the classes."""
    values = _values(x) & ((1 << max(0, classes - 1).bit_length()) - 1)
    return _share((values.unsqueeze(-1) == torch.arange(classes)).to(torch.int64), 1)


def count_reciprocals(party: Party, x: Share, most: int) -> Share:
    """Of whole numbers from 1 to most, as the table has them."""
    table = counts.reciprocals(most)
    return _share(table[_values(x) % table.numel()], 1)


def select(party: Party, bit: MaskedBit, x: Share, by: int = 1) -> Share:
    """bit * x / by."""
    chosen = Share.of(_of(bit).reshape(1, -1) * x.words(), x.shape, x.scale)
    return truncate(party, chosen, by) if by > 1 else chosen


def logical_and(party: Party, x: Share, y: Share) -> Share:
    """x & y of 0 and 1."""
    return mul(party, x, y)


def logical_xor(party: Party, x: Share, y: Share) -> Share:
    """x ^ y of 0 and 1."""
    return _share(_values(x) ^ _values(y), 1)


def bitwise_and(party: Party, x: Share, y: Share) -> Share:
    """x & y."""
    return _share(_values(x) & _values(y), 1)


def bitwise_and_public(party: Party, x: Share, mask: torch.Tensor) -> Share:
    """x & mask."""
    return _share(_values(x) & mask, 1)


def shift_right_each(party: Party, x: Share, bits: torch.Tensor) -> Share:
    """x >> bits."""
    return _share(_values(x) >> bits, 1)


def mask_open(party: Party, x: Share) -> Masked:
    """x itself, under a mask of 0."""
    return Masked(-1, x.words(), x.shape)


def deal_words(party: Party, x: Masked, planes: int, words: Words) -> torch.Tensor:
    """The words of a mask of 0."""
    return words(torch.zeros(x.n, dtype=torch.int64))


def combine(party: Party, x: Masked, dealt: torch.Tensor, factors: Words, constant: int = 0, scale: int = 1) -> Share:
    """The sum of factors times words, and the constant."""
    total = (factors(x.c[0]) * dealt).sum(0) + z2k.wrap(constant)
    return Share.of(total.reshape(1, -1), x.shape, scale)
