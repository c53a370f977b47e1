"""Comparisons of one opening with many public ends, and sums of their bits (src/c/thresholds.inc.h): one call a round.

Messages, state and corrections of one end stand behind those of the one before, as so many calls of
`comparison_kernels` would leave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring.comparison_kernels import NODES, compare_sizes
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import empty, optional, packed_words, sized, use_torch_threads, wrap


@dataclass(frozen=True)
class Ends:
    """Comparisons of n elements with `count` ends.

    first: where streams of the first end begin; rest, apart: of the second, and between those of later ones.
    known: whether the monomials of the mask were dealt for another comparison of the same opening.
    """

    first: int
    rest: int
    apart: int
    count: int
    n: int
    nodes: int = NODES
    known: bool = False

    def corrections(self) -> int:
        """Words from the dealer: of every circuit, each with n shares of the bit under which its sign is opened."""
        _, *_, first = compare_sizes(self.n, self.nodes, self.known)
        _, *_, other = compare_sizes(self.n, self.nodes, True)
        return first + (self.count - 1) * other + self.count * self.n

    def streams(self, more: int = 0) -> tuple[int, int, int, int]:
        """As kernels take them; more: which of an end's streams."""
        return self.first + more, self.rest + more, self.apart, self.count


@lru_cache(maxsize=256)
def words_of(numbers: tuple[int, ...]) -> torch.Tensor:
    """Public integers mod 2^64."""
    return torch.tensor([wrap(value) for value in numbers], dtype=torch.int64)


def deal(keys: KeySet, ends: Ends, out: torch.Tensor) -> None:
    """Dealer: corrections [ends.corrections()]."""
    use_torch_threads()
    launch(
        _ring.thresholds_deal, keys.native, *ends.streams(), ends.nodes, ends.known, sized(out, ends.corrections()),
        ends.n,
    )  # fmt: skip


def chunks(
    keys: KeySet, ends: Ends, known: int, monomials: torch.Tensor | None, c: torch.Tensor, offsets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Holders, round 1: (state, message) of x - offset for every offset [count], from the opened c.

    known, monomials: streams and corrections of the comparison for which monomials of the mask were dealt.
    """
    use_torch_threads()
    sizes = compare_sizes(ends.n, ends.nodes)
    state, message = empty(keys.rows, ends.count * sizes[0]), empty(keys.rows, ends.count * sizes[1])
    launch(
        _ring.thresholds_chunks, keys.native, *ends.streams(), known, ends.nodes, monomials, c,
        sized(offsets, ends.count), state, message, ends.n,
    )  # fmt: skip
    return state, message


def nodes(
    keys: KeySet, ends: Ends, corrections: torch.Tensor | None, opened: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Holders, round 2: (signs so far, message); of one node, the message is the sign bits under rho."""
    sign = empty(keys.rows, ends.count * packed_words(ends.n))
    message = empty(keys.rows, ends.count * compare_sizes(ends.n, ends.nodes)[2])
    launch(
        _ring.thresholds_nodes, keys.native, *ends.streams(), ends.nodes, ends.known, corrections, opened, state, sign,
        message, ends.n,
    )  # fmt: skip
    return sign, message


def root(
    keys: KeySet, ends: Ends, corrections: torch.Tensor | None, opened: torch.Tensor, sign: torch.Tensor
) -> torch.Tensor:
    """Holders, round 3: the sign bits under rho."""
    message = empty(keys.rows, ends.count * compare_sizes(ends.n, ends.nodes)[3])
    launch(
        _ring.thresholds_root, keys.native, *ends.streams(), ends.nodes, ends.known, corrections, opened, sign, message,
        ends.n,
    )  # fmt: skip
    return message


def sums(
    keys: KeySet,
    ends: Ends,
    stream: int,
    corrections: torch.Tensor | None,
    betas: torch.Tensor,
    columns: Sequence[tuple[int, Sequence[int]]],
    by_holder: bool = False,
) -> torch.Tensor:
    """Holders: [sums, rows, n] of each (constant, weights) the constant and the weights of the ends that x reaches.

    betas: the opened bits x < end under rho, packed, one end after the other.  stream: which of an end's streams shares
    rho.  by_holder: [rows, sums, n] instead.
    """
    use_torch_threads()
    n, count = ends.n, len(columns)
    shape = (keys.rows, count, n) if by_holder else (count, keys.rows, n)
    out = empty(*shape)
    weights = words_of(tuple(value for _, column in columns for value in column))
    launch(
        _ring.thresholds_sums,
        keys.native,
        *ends.streams(stream),
        ends.nodes,
        ends.known,
        optional(corrections, ends.corrections()),
        betas,
        sized(weights, count * ends.count),
        words_of(tuple(constant for constant, _ in columns)),
        count,
        count * n if by_holder else n,
        n if by_holder else keys.rows * n,
        out,
        n,
    )
    return out
