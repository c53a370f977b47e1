"""The largest of many candidates, level by level, and the way back to where it stood.

A level makes groups of up to four of the candidates that are left and keeps the largest of each
(pysmpc.mpc.additive.maxima): four rounds for a quarter of them.  Suites without that protocol keep
the larger of two, in the rounds of a ReLU for half of them.  Candidates stay in order, and
the first of equals wins, as torch's do on the CPU.  The bits that tell which of a group was
the largest stay with the result: a gradient goes down by them, a position comes up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pysmpc.mpc.additive.maxima import blocks
from pysmpc.ops.comparing import comparing
from pysmpc.ring.shares import LaterBody, MaskedBit, Share
from pysmpc.session.session import Session

MANY = 1 << 18  # elements of a level beyond which bytes cost more than the rounds that groups save


def halves(x: Share) -> tuple[Share, Share, Share | None]:
    """Rows 0, 2, ... and rows 1, 3, ... of a dense [k, n], and the last of an odd number."""
    k, n = x.shape
    first, second = (Share(x.body, (k // 2, n), x.scale, (2 * n, 1), at) for at in (0, n))
    return first, second, Share(x.body, (1, n), x.scale, (n, 1), (k - 1) * n) if k % 2 else None


def _joined(chosen: Share, rest: Share | None, k: int, n: int) -> Share:
    """The [k, n] that are left."""
    words = chosen.words()
    if rest is not None:
        words = torch.cat([words, rest.words()], 1)
    return Share.of(words, (k, n), chosen.scale)


@dataclass(frozen=True)
class Groups:
    """A level by groups.  won: bits [groups, size - 1, n], of all candidates of a group but its first."""

    k: int
    won: Share

    def others(self, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, k, n] as first candidates [rows, groups, n] and what the others are more: [rows, groups, size - 1, n].

        0 where a group is smaller.
        """
        first, more = [], []
        for block in blocks(self.k):
            x = block.of(words)
            first.append(x[:, 0])
            apart = (x[:, 1:] - x[:, :1]).transpose(1, 2)
            more.append(torch.nn.functional.pad(apart, (0, 0, 0, self.won.shape[1] - apart.shape[2])))
        return torch.cat(first, 1), torch.cat(more, 1)

    def spread(self, top: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """[rows, groups, n], and what goes to others than the first of a group, as [rows, k, n]."""
        found, at = [], 0
        for block in blocks(self.k):
            here = chosen[:, at : at + block.count, : block.size - 1]
            first = top[:, at : at + block.count].unsqueeze(2) - here.sum(2, keepdim=True)
            found.append(torch.cat([first, here], 2).flatten(1, 2))
            at += block.count
        return torch.cat(found, 1)


@dataclass(frozen=True)
class Pairs:
    """A level by pairs.  bit: the second of two is larger."""

    k: int
    bit: MaskedBit


@dataclass
class Levels:
    """The way of the largest of k candidates, of each of n columns, up a tree."""

    n: int
    levels: list[Groups | Pairs] = field(default_factory=list)

    def down(self, session: Session, top: Share) -> torch.Tensor:
        """Words [rows, k, n]: top [n] where the largest stood, zero elsewhere.  A round a level."""
        suite, party = session.suite, session.party
        words = top.words().unsqueeze(1)
        for level in reversed(self.levels):
            rows = words.shape[0]
            if isinstance(level, Groups):
                groups = words.shape[1]
                above = Share.of(words.reshape(rows, groups * self.n).contiguous(), (groups, 1, self.n), top.scale)
                chosen = suite.mul(party, level.won, above).words()
                words = level.spread(words, chosen.view(rows, *level.won.shape))
                continue
            half = level.k // 2
            upper = words[:, :half].reshape(rows, half * self.n).contiguous()
            second = suite.select(party, level.bit, Share.of(upper, (half * self.n,), top.scale))
            below = torch.empty((rows, level.k, self.n), dtype=torch.int64)
            moved = second.words().reshape(rows, half, self.n)
            torch.sub(words[:, :half], moved, out=below[:, : 2 * half : 2])
            below[:, 1 : 2 * half : 2] = moved
            below[:, 2 * half :] = words[:, half:]
            words = below
        return words

    def up(self, session: Session, tags: torch.Tensor) -> Share:
        """The tag [n] of where the largest stood, of public integers [k, n].  A round a level but the first."""
        climb = Climb(session, self.n, tags)
        for level in self.levels:
            climb.step(level)
        return climb.top()


class Climb:
    """A tag of each candidate that is left, from level to level.

    The product that a level asks for is made when the next needs it; what it multiplies (`waiting`) may be opened
    before that.
    """

    def __init__(self, session: Session, n: int, tags: torch.Tensor) -> None:
        self._session, self._n = session, n
        self._tags: torch.Tensor | None = tags  # while they are public
        self._at: Share | None = None
        self.waiting: tuple[Share, ...] = ()

    def step(self, level: Groups | Pairs) -> None:
        """One level up.  Of the first level, whose tags are public, no product is asked for."""
        self._multiply()
        if isinstance(level, Pairs):
            self._pairs(level)
            return
        suite, party = self._session.suite, self._session.party
        if self._tags is not None:
            first, more = (x[0] for x in level.others(self._tags.unsqueeze(0)))
            weighed = suite.mul_public(party, level.won, more)
            self._at = suite.add(party, suite.public(party, first.contiguous()), self._sum(weighed))
            self._tags = None
            return
        assert self._at is not None
        words = self._at.words()
        first, more = level.others(words.view(words.shape[0], *self._at.shape))
        groups = first.shape[1]
        self._at = Share.of(first.reshape(words.shape[0], groups * self._n).contiguous(), (groups, self._n))
        apart = more.reshape(words.shape[0], level.won.numel).contiguous()
        self.waiting = level.won, Share.of(apart, level.won.shape)

    def _sum(self, weighed: Share) -> Share:
        words, groups = weighed.words(), weighed.shape[0]
        total = words.view(words.shape[0], *weighed.shape).sum(2)
        return Share.of(total.reshape(words.shape[0], groups * self._n), (groups, self._n))

    def _pairs(self, level: Pairs) -> None:
        suite, party = self._session.suite, self._session.party
        if self._tags is not None:
            half = level.k // 2
            gap = self._tags[1 : 2 * half : 2] - self._tags[: 2 * half : 2]
            step = suite.mul_public(party, suite.bit_share(party, level.bit, tuple(gap.shape)), gap)
            at = suite.public(party, self._tags)
            self._tags = None
        else:
            assert self._at is not None
            at, step = self._at, None
        first, second, rest = halves(at)
        if step is None:
            step = suite.select(party, level.bit, suite.sub(party, second, first))
        self._at = _joined(suite.add(party, first, step.at(1)), rest, (level.k + 1) // 2, self._n)

    def _multiply(self) -> None:
        """A round, unless what is multiplied has been opened."""
        suite, party = self._session.suite, self._session.party
        if self.waiting:
            assert self._at is not None
            self._at = suite.add(party, self._at, self._sum(suite.mul(party, *self.waiting)))
            self.waiting = ()

    def top(self) -> Share:
        """The tag [n] of the one that is left."""
        self._multiply()
        if self._tags is not None:  # there was but one
            return self._session.suite.public(self._session.party, self._tags[0].contiguous())
        assert self._at is not None
        return Share(self._at.body, (self._n,))


def tournament(
    session: Session, x: Share, tags: torch.Tensor | None = None, groups: bool = True
) -> tuple[Share, Levels, Share | None]:
    """The largest [n] of candidates x [k, n], how it was found, and (of public tags [k, n]) the tag of where it stood.

    4 ceil(log4 k) rounds by default, where k n <= MANY; where two are left, by a ReLU.  Tags take one more if
    there are two levels or more: what their products need is opened in the first rounds of later levels.
    groups: by groups of four, if the suite has them; else by pairs, as levels of more than MANY elements are.
    """
    protocols, party = comparing(session), session.party
    of_groups = protocols.largest if groups else None
    k, n = x.shape
    found = Levels(n)
    climb = None if tags is None else Climb(session, n, tags)
    level: Groups | Pairs
    while k > 1:
        if of_groups is not None and k * n <= MANY and (k > 2 or (climb is not None and climb.waiting)):
            beside = climb.waiting if climb is not None else ()
            x, won = of_groups(party, x, beside)
            level = Groups(k, won)
        else:
            first, second, rest = halves(x)
            chosen, bit = protocols.larger(party, first, second)
            x, level = _joined(chosen, rest, (k + 1) // 2, n), Pairs(k, bit)
        found.levels.append(level)
        k = x.shape[0]
        if climb is not None:
            climb.step(level)
    return Share(x.body, (n,), x.scale), found, None if climb is None else climb.top()


def by_pairs(session: Session, k: int, first: Share, second: Share, rest: Share | None) -> tuple[Share, Levels]:
    """As `tournament` by pairs, from the first and the second of each pair of the k candidates, and the rest."""
    n = first.numel // (k // 2)
    chosen, bit = comparing(session).larger(session.party, first, second)
    value, found, _ = tournament(session, _joined(chosen, rest, (k + 1) // 2, n), groups=False)
    return value, Levels(n, [Pairs(k, bit), *found.levels])


class Positions(LaterBody):
    """Tags of where the largest stood, which the levels of its tree know."""

    __slots__ = ("_session", "_tags", "levels", "table")

    def __init__(
        self, session: Session, levels: Levels, tags: torch.Tensor, rows: int, table: torch.Tensor | None = None
    ) -> None:
        """table: of windows that are no regular views of an image, where their elements lie in it."""
        self._session, self.levels, self._tags, self.table = session, levels, tags, table
        super().__init__(rows, levels.n)

    @property
    def candidates(self) -> int:
        """Among how many they are."""
        return self._tags.shape[0]

    def compute(self) -> torch.Tensor:
        """The tags."""
        return self.levels.up(self._session, self._tags).words()
