"""Secret permutations: rows of secrets in an order that nobody knows.

Each holder has a permutation of its own for each row, drawn from its key, so that the dealer knows it and no
other holder does.  One after another permutes what came of the one before:

1. Open c = x - a under a dealt mask a.
2. The dealer shares the elements of a in the order of holder i's permutation.
3. Holder i adds the elements of c in that order to its share.

(Chase, Ghosh, Poburinnaya, ASIACRYPT 2020, section 3, with a dealer in place of their share translation.)
All holders but one see uniform words and do not know the last one's permutation, so that to them the order is
uniform.  What is compared after that may be opened (`pysmpc.mpc.derived.arranging`).

Cost of one column: a round for each holder, in which 8 bytes an element go to every other holder, and 8 bytes an
element from the dealer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from pysmpc.errors import PartyError
from pysmpc.mpc.interfaces import Cost, Party, opening
from pysmpc.ring.prg import KeySet
from pysmpc.ring.recording import Drawing, active
from pysmpc.ring.shares import Share

#: Streams of a permutation: it is the order of the words of the first one in which no two are equal.
TRIES = 4


def noted(call: Callable[..., None], *args: Any) -> None:
    """call(*args), which writes to tensors among its arguments: in a recorded program, one call."""
    recorder = active()
    if recorder is None:
        call(*args)
        return
    before, recorder.silent = recorder.silent, True
    try:
        call(*args)
    finally:
        recorder.silent = before
    recorder.note(call, *args)


def _draw(keys: KeySet, stream: int, out: torch.Tensor) -> None:
    """Permutations of the holders of some keys: out [holders, rows, n]."""
    todo = list(range(keys.rows))
    _, rows, n = out.shape
    for attempt in range(TRIES):
        words = keys.draw(stream + attempt, rows * n).view(keys.rows, rows, n)
        for i in list(todo):
            ordered, order = words[i].sort(1)
            if not bool((ordered[:, 1:] == ordered[:, :-1]).any()):
                out[i] = order
                todo.remove(i)
        if not todo:
            return
    raise PartyError("a stream has the same words again and again: its key is broken")


class Shuffle:
    """For each of some rows of n places, a permutation of each holder."""

    def __init__(self, party: Party, rows: int, n: int) -> None:
        self.party, self.rows, self.n = party, rows, n
        self._stream = party.dealer.streams(TRIES)
        self._own = torch.empty((party.rows, rows, n), dtype=torch.int64)
        noted(Drawing(partial(_draw, party.dealer.keys)), self._stream, self._own)
        self._known: torch.Tensor | None = None

    def _all(self, keys: KeySet) -> torch.Tensor:
        """Dealer: of every holder, [holders, rows, n]."""
        if self._known is None:
            self._known = torch.empty((keys.rows, self.rows, self.n), dtype=torch.int64)
            noted(Drawing(partial(_draw, keys)), self._stream, self._known)
        return self._known

    def origins(self, keys: KeySet) -> torch.Tensor:
        """Dealer: which place each element comes from, [rows, n]."""
        first, *others = self._all(keys)
        for each in others:
            first = first.gather(1, each)
        return first

    def places(self) -> Share:
        """Which place each element comes from, [rows, n].  No message; 8 bytes an element from the dealer."""
        dealer, size = self.party.dealer, self.rows * self.n
        stream = dealer.streams()

        def deal(keys: KeySet, out: torch.Tensor) -> None:
            out.copy_(self.origins(keys).reshape(-1))
            keys.take(stream, out)

        return Share.of(dealer.keys.draw(stream, size, dealer.corrections(size, deal)), (self.rows, self.n))

    def move(self, x: Share, back: bool = False) -> Share:
        """x [..., rows, n] with each row in its secret order; back: from that to the one that it was in.

        A round for each holder.
        """
        party, dealer = self.party, self.party.dealer
        words, size = x.words(), x.numel
        shape = size // (self.rows * self.n) if size else 0, self.rows, self.n
        passes = range(party.holders)
        for i in reversed(passes) if back else passes:
            mask, stream = dealer.streams(), dealer.streams()
            # 1. open
            message = dealer.keys.mask(mask, words)
            corrections = dealer.corrections(size, partial(self._deal, i, back, mask, stream, shape))
            [c] = party.channel.open([message], "shuffle", [x.shape])
            # 2. and 3. the same elements in another order
            words = dealer.keys.draw(stream, size, corrections)
            if i in party.ranks:
                row = party.ranks.index(i)
                words[row] += _moved(c.view(shape), self._own[row], back)
        return Share.of(words, x.shape, x.scale)

    def _deal(
        self, i: int, back: bool, mask: int, stream: int, shape: tuple[int, ...], keys: KeySet, out: torch.Tensor
    ) -> None:
        a = keys.total(mask, math.prod(shape)).view(shape)
        out.copy_(_moved(a, self._all(keys)[i], back))
        keys.take(stream, out)


def _moved(x: torch.Tensor, order: torch.Tensor, back: bool) -> torch.Tensor:
    """[m, rows, n] in an order of each row, or back from it, as [m * rows * n]."""
    places = order.expand(x.shape)
    return (torch.empty_like(x).scatter_(2, places, x) if back else x.gather(2, places)).reshape(-1)


def shuffle_cost(holders: int, n: int) -> Cost:
    """Of moving n elements."""
    return (opening(holders, n) + Cost(dealt=8 * n)) * holders
