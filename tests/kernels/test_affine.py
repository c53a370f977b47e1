"""Products of values that are public numbers plus dealt words, one holder at a time, against integer arithmetic."""

import pytest
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, dealt_share, drawn, signed, total

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

BASE = 1 << 35
TOP = 1 << 62
#: None stands for what was opened under a mask.
DIVISORS = [None, 2, 1 << 16, 1 << 45, 3, 1000, (1 << 61) - 1]


class Known:
    """A factor: what was opened of it, and what the dealer knows, by definition."""

    def __init__(self, keys, d, stream, factor, n, rng, reopened=False):
        self.d, self.stream, self.factor, self.reopened = d, stream, factor, reopened
        self.divisor = None if d is None else _beaver.Divisor(d)
        self.c = [int(v) for v in rng.integers(0, WORD, n, endpoint=True, dtype="uint64")]
        if n > 2:
            self.c[:3] = [0, WORD, 1 << 63]
        masks = total(keys, stream, n)
        if d is None:
            self.public = [factor * v for v in self.c]
            self.words, self.factors = [[factor * v for v in masks]], [[1] * n]
        else:
            if reopened:  # the stream is of b, and r is -b d plus what is below d
                masks = [-b * d & WORD for b in masks]
            self.public = [factor * (v // d - TOP // d) for v in self.c]
            quotients = [v // d for v in masks]
            jumps = [v // d - signed(v) // d for v in masks]
            self.words = [[-factor * v for v in quotients], [factor * v for v in jumps]]
            self.factors = [[1] * n, [int(v < 1 << 63) for v in self.c]]
        self.opened = Guarded(self.c, 3)

    @property
    def values(self):
        """The value itself."""
        parts = [[f * w for f, w in zip(*pair, strict=True)] for pair in zip(self.factors, self.words, strict=True)]
        return [sum(column) & WORD for column in zip(self.public, *parts, strict=True)]

    @property
    def masked(self):
        return self.stream, self.divisor, self.reopened, self.factor

    @property
    def known(self):
        return self.divisor, self.factor, self.opened.view


def holder(keys, i):
    return KeySet([keys[i]], 0 if i == 0 else -1, 0 if i == len(keys) - 1 else -1)


def shares(values, holders, rng):
    rows = [[int(v) for v in rng.integers(0, WORD, len(values), endpoint=True, dtype="uint64")] for _ in range(holders)]
    rows[0] = [(v - sum(row[i] for row in rows[1:])) & WORD for i, v in enumerate(values)]
    return rows


def rows_of(x, y):
    """The dealt products, by definition, and the public factor of each."""
    if y is None:
        [first, *rest] = x.words
        rows = [[v * v for v in first]]
        rows += [[j * (j + 2 * v) for v, j in zip(first, each, strict=True)] for each in rest]
        return rows, x.factors
    pairs = [(k, j) for k in range(len(x.words)) for j in range(len(y.words))]
    return tuple(
        [[a * b for a, b in zip(one[k], two[j], strict=True)] for k, j in pairs]
        for one, two in ((x.words, y.words), (x.factors, y.factors))
    )


def check(holders, dx, dy, n, rng, square=False, factors=(1, 1), reopened=(False, False)):
    keys = [fresh_key() for _ in range(holders)]
    x = Known(keys, dx, BASE - 64, factors[0], n, rng, reopened[0])
    y = None if square else Known(keys, dy, BASE - 32, factors[1], n, rng, reopened[1])
    rows, turns = rows_of(x, y)
    sent = Guarded([0] * (len(rows) * n), 1)
    if square:
        launch(_ring.affine_square_deal, KeySet(keys).native, BASE, *x.masked, sent.view, n)
    else:
        launch(_ring.affine_mul_deal, KeySet(keys).native, BASE, *x.masked, *y.masked, sent.view, n)
    less = [drawn(keys, BASE + k, n) for k in range(len(rows))]
    assert sent.values() == [(v - t) & WORD for row in zip(rows, less, strict=True) for v, t in zip(*row, strict=True)]

    given = [shares(x.values, holders, rng)] + ([] if square else [shares(y.values, holders, rng)])
    result = [0] * n
    for i in range(holders):
        mine, out = [Guarded(each[i], 1) for each in given], Guarded([0] * n, 3)
        dealt = sent.view if i == holders - 1 else None
        kernel, known = (_ring.affine_square, x.known) if square else (_ring.affine_mul, (*x.known, *y.known))
        launch(kernel, holder(keys, i).native, BASE, *known, *(each.view for each in mine), dealt, out.view, n)
        result = [(a + b) & WORD for a, b in zip(result, out.values(), strict=True)]
        # of each holder alone: its shares times what is public, less the product of that once
        a, b, c, d = mine[0].values(), mine[-1].values(), x.public, (x if square else y).public
        own = [p * w + q * v - (p * q if i == 0 else 0) for v, w, p, q in zip(a, b, c, d, strict=True)]
        for k, turn in enumerate(turns):
            part = dealt_share(keys, i, BASE + k, n, sent.values()[k * n : (k + 1) * n])
            own = [v + f * w for v, f, w in zip(own, turn, part, strict=True)]
        assert out.values() == [v & WORD for v in own]
    others = x.values if square else y.values
    assert result == [v * w & WORD for v, w in zip(x.values, others, strict=True)]


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_lengths(n, rng):
    check(2, 1 << 16, 1000, n, rng, factors=(1, 2))
    check(2, 1 << 16, None, n, rng, square=True)


@pytest.mark.parametrize("dx", DIVISORS)
@pytest.mark.parametrize("holders", [2, 3, 5])
def test_factors(holders, dx, rng):
    for factor in (1, -1, 6, 1 << 63):
        check(holders, dx, None, 67, rng, square=True, factors=(factor, 1))
    for dy in DIVISORS:
        check(holders, dx, dy, 67, rng, factors=(2, -3))


@pytest.mark.parametrize("power", [1, 7, 16])
@pytest.mark.parametrize("holders", [2, 3])
def test_factors_that_may_be_opened_again(holders, power, rng):
    for dy, again in ((1000, False), (None, False), (1 << power, True)):
        check(holders, 1 << power, dy, 67, rng, factors=(1, 3), reopened=(True, again))
    check(holders, 1 << power, None, 67, rng, square=True, factors=(2, 1), reopened=(True, False))
