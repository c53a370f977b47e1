"""Which of many public ends a value reaches, from one opening: bits that are there as sums, or one by one if asked for.

What is made of such bits is linear in them, a number for the largest end that was reached: a sum of steps.  Sums are
taken from the opened bits and the dealt shares directly, so that the bits, of which there are thirty for every element,
need not be written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from pysmpc.mpc.additive.truncation import MATERIAL, RHO_SHARES
from pysmpc.mpc.functions.masked import Masked
from pysmpc.mpc.interfaces import Party, declares_openings
from pysmpc.ring import threshold_kernels
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import LaterBody, Share
from pysmpc.ring.threshold_kernels import Ends

Columns = Sequence[tuple[int, Sequence[int]]]  # a constant, and a weight for every end


class Reached(LaterBody):
    """The bits x >= end for n elements, one end after the other, as 0 and 1.

    betas: the opened [x < end] under dealt bits, of which `corrections` and streams give shares.
    """

    __slots__ = ("_betas", "_corrections", "_ends", "_keys")

    def __init__(self, keys: KeySet, ends: Ends, corrections: torch.Tensor | None, betas: torch.Tensor) -> None:
        self._keys, self._ends, self._corrections, self._betas = keys, ends, corrections, betas
        super().__init__(keys.rows, ends.count * ends.n)

    def sums(self, columns: Columns) -> list[Share]:
        """[n] for each (constant, weights): the constant plus the weights of all ends that x reaches.  No message."""
        found = threshold_kernels.sums(self._keys, self._ends, RHO_SHARES, self._corrections, self._betas, columns)
        return [Share.of(words, (self._ends.n,)) for words in found]

    def compute(self) -> torch.Tensor:
        """The bits themselves."""
        count = self._ends.count
        single = [(0, [int(i == j) for i in range(count)]) for j in range(count)]
        found = threshold_kernels.sums(
            self._keys, self._ends, RHO_SHARES, self._corrections, self._betas, single, by_holder=True
        )
        return found.view(self._keys.rows, count * self._ends.n)


@declares_openings("compare")
def reached(party: Party, x: Masked, ends: Sequence[int], nodes: int) -> Share:
    """The bits x >= end for public integers with |x - end| < 2^63, [ends, n].  Three rounds.

    nodes: of the circuit, from two on; with fewer than four, |x - end| < 2^(16 nodes - 1).  Bytes as of as many calls
    of `regions.threshold_bits`.

    1. The inputs of the nodes of every circuit.
    2. The inputs of their roots.
    3. The signs, each under a dealt bit of its own.
    """
    keys, n, again = party.dealer.keys, x.n, x.compared
    fresh = len(ends) - 1 + again
    streams = party.dealer.streams(MATERIAL * fresh) if fresh else x.base
    first, rest = (streams, streams + MATERIAL) if again else (x.base, streams)
    all_ends = Ends(first, rest, MATERIAL, len(ends), n, nodes, again)
    dealt = party.dealer.corrections(all_ends.corrections(), partial(_deal, all_ends))
    if not again:
        x.compared, x.chunks = True, dealt
    # 1. inputs of the nodes
    offsets = threshold_kernels.words_of(tuple(ends))
    state, message = threshold_kernels.chunks(keys, all_ends, x.base, x.chunks, x.c, offsets)
    [opened] = party.channel.open_xor([message], "compare")
    # 2. inputs of the roots
    sign, message = threshold_kernels.nodes(keys, all_ends, dealt, opened, state)
    [opened] = party.channel.open_xor([message], "compare")
    # 3. signs
    [betas] = party.channel.open_xor([threshold_kernels.root(keys, all_ends, dealt, opened, sign)], "compare")
    return Share(Reached(keys, all_ends, dealt, betas), (len(ends), n))


def _deal(ends: Ends, keys: KeySet, out: torch.Tensor) -> None:
    """Dealer: the circuits, and what turns their bits to numbers."""
    threshold_kernels.deal(keys, ends, out)
