"""One small run of every protocol of a suite: what its security tests have in common.

`values(rng)` are what the owner shares, `run(suite, party, *shares)` the protocol and
`declared(suite)` the causes for which it may open something, as the protocol's `@opens` says (or, with "asks", for
which it may ask the provider).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from settings import bounded_words

from pysmpc.mpc.derived import division
from pysmpc.mpc.derived.out_of_range import outside
from pysmpc.mpc.functions import fits, piecewise_fits
from pysmpc.mpc.functions.angle import angle
from pysmpc.mpc.functions.attention_scores import means as means_by_powers
from pysmpc.mpc.functions.attention_scores import powers
from pysmpc.mpc.functions.characters import turns
from pysmpc.mpc.functions.exponent import power
from pysmpc.mpc.functions.moments import MEAN, SQUARE, Average, averages, over_root
from pysmpc.mpc.functions.normaliser import logarithm, reciprocal_fast
from pysmpc.mpc.functions.piecewise_polynomials import piecewise
from pysmpc.mpc.functions.power_sums import power_sum
from pysmpc.mpc.functions.smooth import smooth
from pysmpc.mpc.functions.softmax import log_softmax, quotients, softmax
from pysmpc.mpc.interfaces import opens_as
from pysmpc.ring.shares import Share

SCALE = 1 << 16
N = 70
#: Three pieces of a function, both of whose sides count.
PIECES = replace(piecewise_fits.ASINH, pieces=piecewise_fits.ASINH.pieces[:3], growth=0.0)


@dataclass(frozen=True)
class Case:
    """Protocols of a suite on `inputs` secrets of N elements, magnitudes up to 2**bits."""

    protocols: str
    run: Callable
    inputs: int = 1
    bits: int = 40
    scale: int = SCALE

    def values(self, rng):
        return [bounded_words(rng, self.bits, N) for _ in range(self.inputs)]

    def contrast(self, n):
        """Two sets of inputs as different as can be: zeros, and large constants and a pattern."""
        large = torch.full((n,), 1 << self.bits, dtype=torch.int64)
        large[n // 2 :: 2] = -(1 << self.bits)
        large[n // 2 + 3 :: 4] = 1
        return [torch.zeros(n, dtype=torch.int64)] * self.inputs, [large] * self.inputs

    def declared(self, suite, what="opens"):
        return {cause for name in self.protocols.split() for cause in getattr(getattr(suite, name), what, ())}


@dataclass(frozen=True)
class WithThresholds(Case):
    """A protocol whose masks are opened with thresholds, where a suite can."""

    def declared(self, suite, what="opens"):
        found = super().declared(suite, what)
        return found if suite.scaled_thresholds is None else found - {"mask"}


@dataclass(frozen=True)
class Beside(Case):
    """A protocol that is no operation of a suite, and the same for all."""

    def declared(self, suite, what="opens"):
        return set(getattr(self.run, what))


@opens_as(outside)
def too_large(suite, party, x):
    """Whether any is above 2^60."""
    return outside(party, x.words(), torch.full((x.numel,), 1 << 60))


def scaled(suite, party, x):
    """Multiples of x by thresholds, or the thresholds where a suite has only those."""
    ends, steps = [1 << 10, 1 << 20], [3, -(1 << 20)]
    if suite.scaled_thresholds is None:
        return suite.thresholds(party, x, ends)
    return suite.scaled_thresholds(party, x, ends, steps)[1]


#: What function secret sharing does in its own way.
FSS_CASES = ("negative", "zero", "relu", "larger", "select", "bit_share")


def matrix(x):
    """A secret as a matrix of few rows."""
    rows = 7 if x.numel % 7 == 0 else 16
    return Share(x.body, (rows, x.numel // rows), x.scale)


def turned(x):
    """The transpose of `matrix`."""
    rows, cols = (m := matrix(x)).shape
    return Share(x.body, (cols, rows), m.scale, (1, cols))


def read(product):
    """A product of what was not opened waits until it is read."""
    product.words()
    return product


def updates(suite, party, x, y):
    """Of x by a product (whose c is never dealt, where it is large), and of y by x."""
    product = suite.matmul(party, Share(x.body, (x.numel, 1)), Share(y.body, (1, 1)))
    return suite.update_all(party, [(x, product, -3, 1 << 20), (y, x, 5, 1000), (x, y, 1, 1 << 40)])


def of_quotients(suite, party, x, y):
    """Products of what truncations opened, by a power of two and another divisor, and one of what was opened anew."""
    v, w = suite.truncate_all(party, [(x, 1 << 16), (y, 1000)])
    return [suite.square(party, suite.scale_by(party, v, 2)), suite.mul(party, v, w), suite.mul(party, v, y)]


def matrices_of_quotients(suite, party, x, y):
    """A quotient that is opened again, with another factor, and both with what was opened before."""
    v, w = suite.truncate_all(party, [(x, 1 << 16), (y, 1 << 16)])
    return [read(suite.matmul(party, matrix(v), turned(y))), read(suite.matmul(party, matrix(w), turned(v)))]


def at_once(suite, party, bit, x, y):
    """Products of a selection with itself and with a quotient, and of what was not opened.  Nothing is rounded."""
    chosen = suite.select(party, bit, suite.scale_by(party, y, 1000), 1000)
    [quotient] = suite.truncate_all(party, [(suite.scale_by(party, x, 1000), 1000)])
    pairs = (chosen, quotient), (chosen, chosen), (x, y)
    return [suite.mul_at_once(party, *pair) for pair in pairs]


def in_one_round(suite, party, x, y):
    """A factor; then an argument, and a quotient that is not rounded."""
    suite.together(party, (), (), [y])
    return suite.together(party, [x], [(suite.scale_by(party, y, 1000), 1000)], [x])[1]


def largest(suite, party, x, y):
    """Of groups of four candidates, beside another secret; of suites that have that."""
    if suite.largest is None:
        return []
    return suite.largest(party, Share(x.body, (8, x.numel // 8), x.scale), (y,))


def arranged(suite, party, x):
    """Rows of few, which are put back, in suites that shuffle."""
    if suite.arrange is None:
        return []
    rows = 10 if x.numel % 10 == 0 else 16
    values, how = suite.arrange(party, Share(x.body, (x.numel // rows, rows), x.scale))
    return [values, how.places(), how.back(values)]


def positions(suite, party, x):
    """Of numbers that need not be positions, as nobody asks; of suites that have that."""
    return [] if suite.one_hot is None else suite.one_hot(party, x, 10)


def reciprocals(suite, party, x):
    """Of numbers that need not be counts, which is nobody's business; of suites that have that."""
    return [] if suite.count_reciprocals is None else suite.count_reciprocals(party, x, 10)


def signed(run):
    """A run that starts from the sign bit of the first secret: its openings are a comparison's too."""

    def with_sign(suite, party, x, *rest):
        return run(suite, party, suite.negative(party, x), x, *rest)

    return with_sign


STEP_OF_TURN = 1 << 43  # of integers of x, where 2^21 of them are a turn


def dealt(suite, party, x):
    """x under a mask, and the dealt words of three multiples of the mask's angle."""
    masked = suite.mask_open(party, x)
    return masked, suite.deal_words(party, masked, 6, lambda r: turns(r, STEP_OF_TURN, 3))


def words_of(party, words):
    """What each holder has of dealt words."""
    return [torch.cat([each.flatten(1) for _, each in words.pieces(party.dealer.keys)], 1)]


def combined(suite, party, x):
    masked, words = dealt(suite, party, x)
    return suite.combine(party, masked, words, lambda c: turns(c, STEP_OF_TURN, 3) >> 6, 77)


def regions(suite, party, x):
    """Bits or shares of them, and a product with x beside one by itself, which some suites make of the first."""
    where = suite.regions(party, suite.mask_open(party, x), x, -(1 << 20), 1 << 30)
    return [where.inside, where.above, where.above_times(suite, party, x), suite.mul(party, x, x)]


def beside(suite, party, x, *out):
    """Results, and what opens for that of which one suite or another makes them."""
    fine = suite.truncate(party, suite.mul(party, x, x), SCALE)
    return [*out, suite.select(party, suite.negative(party, x), fine)]


def silu(suite, party, x):
    """A whole function."""
    return beside(suite, party, x, smooth(suite, party, x, fits.SILU, SCALE))


def softmaxes(suite, party, x):
    """Rows as they come: sums of what is not below 0 are some number."""
    n = 4 if x.numel % 4 == 0 else 5
    q = quotients(suite, party, Share(x.body, (x.numel // n, n), x.scale))
    return [softmax(suite, party, q, SCALE), log_softmax(suite, party, q)]


def attended(suite, party, x):
    """Means of x by powers of it, in suites that have what they take; sums are some number."""
    rows = x.numel // 5
    p = powers(suite, party, Share(x.body, (rows, 5), x.scale))
    if suite.scaled_thresholds is None:
        return beside(suite, party, x, p)
    v = Share(x.body, (5, min(rows, 7)), x.scale)
    out, how = means_by_powers(suite, party, p, v, suite.matmul, lambda z, by: None)
    return beside(suite, party, x, out, how.weights(party))


def norms(suite, party, x):
    """Sums of cubes of rows, beside some number for their largest."""
    rows = x.numel // 5
    found = power_sum(suite, party, Share(x.body, (rows, 5)), Share(x.body, (rows, 1), 1, (5, 1)), Fraction(3))
    return beside(suite, party, x, found.gaps, found.zero, found.log_sum)


def quotient(suite, party, x):
    """A numerator over the root of itself: of negative values some number."""
    return over_root(suite, party, x, x, Fraction(1, 1 << 20), MEAN, SQUARE)[0]


def means(suite, party, x, y):
    """One of each kind."""
    return averages(suite, party, [Average(x, y, Fraction(1, 10), short=True), Average(x, y, Fraction(1, 1000))])


def public(x):
    return torch.arange(x.numel) + 3


CASES = {
    "share": Case("share", lambda suite, party, x: x),
    "reveal": Case("reveal", lambda suite, party, x: suite.reveal(party, x)),
    "public": Case("public", lambda suite, party, x: suite.public(party, public(x))),
    "refresh": Case("refresh", lambda suite, party, x: suite.refresh(party, x)),
    "add": Case("add", lambda suite, party, x, y: suite.add(party, x, y), 2),
    "sub": Case("sub", lambda suite, party, x, y: suite.sub(party, x, y), 2),
    "neg": Case("neg", lambda suite, party, x: suite.neg(party, x)),
    "scale_by": Case("scale_by", lambda suite, party, x: suite.scale_by(party, x, -5)),
    "mul_public": Case("mul_public", lambda suite, party, x: suite.mul_public(party, x, public(x))),
    "matmul_public": Case(
        "matmul_public",
        lambda suite, party, x: suite.matmul_public(party, matrix(x), public(x).reshape(matrix(x).shape[::-1])),
    ),
    "mul": Case("mul", lambda suite, party, x, y: suite.mul(party, x, y), 2),
    "square": Case("square", lambda suite, party, x: suite.square(party, x)),
    "mul_at_once": Case("negative select truncate_all mul_at_once", signed(at_once), 2),
    "together": Case("together", in_one_round, 2),
    "products of quotients": Case("truncate_all mul square", of_quotients, 2),
    "matrices of quotients": Case("truncate_all matmul", matrices_of_quotients, 2),
    "matmul": Case("matmul", lambda suite, party, x, y: read(suite.matmul(party, matrix(x), turned(y))), 2),
    "contract": Case(
        "contract",
        lambda suite, party, x, y: suite.contract(party, x, matrix(x).matrices(), y, turned(y).matrices()),
        2,
    ),
    "truncate": Case("truncate", lambda suite, party, x: suite.truncate(party, x, 1 << 10)),
    "truncate_all": Case(
        "truncate_all", lambda suite, party, x, y: suite.truncate_all(party, [(x, 1000), (y, 1 << 16)]), 2
    ),
    "update_all": Case("matmul update_all", updates, 2),
    "negative": Case("negative", lambda suite, party, x: suite.negative(party, x), bits=61),
    "zero": Case("zero", lambda suite, party, x: suite.zero(party, x), bits=61),
    "bit_share": Case("negative bit_share", signed(lambda suite, party, b, x: suite.bit_share(party, b, x.shape))),
    "relu": Case("relu", lambda suite, party, x: suite.relu(party, x, SCALE)),
    "larger": Case("larger", lambda suite, party, x, y: suite.larger(party, x, y)[0], 2),
    "largest": Case("largest", largest, 2),
    "arrange": Case("arrange", arranged),
    "one_hot": Case("one_hot", positions, bits=3),
    "count_reciprocals": Case("count_reciprocals", reciprocals, bits=4),
    "select": Case("negative select", signed(lambda suite, party, b, x, y: suite.select(party, b, y, SCALE)), 2),
    "reciprocal": Case(
        "negative select mul truncate", lambda suite, party, x: division.reciprocal(suite, party, x, SCALE), bits=32
    ),
    "mask_open": Case("mask_open", lambda suite, party, x: suite.mask_open(party, x).c, bits=61),
    "deal_words": Case("mask_open deal_words", lambda suite, party, x: words_of(party, dealt(suite, party, x)[1])),
    "combine": Case("mask_open deal_words combine", combined),
    "regions": Case("mask_open regions mul", regions, bits=61),
    "silu": Case("mask_open regions negative select mul truncate", silu, bits=30),
    "power": Case(
        "mask_open regions negative select mul truncate",
        lambda suite, party, x: beside(suite, party, x, power(suite, party, x, SCALE)),
    ),
    "logarithm": Case("thresholds mul mask_open", logarithm, bits=61),
    "reciprocal_fast": Case(
        "thresholds mul mask_open truncate",
        lambda suite, party, x: reciprocal_fast(suite, party, x, SCALE),
        bits=61,
    ),
    "piecewise": Case(
        "mask_open thresholds mul truncate",
        lambda suite, party, x: piecewise(suite, party, x, PIECES, SCALE),
    ),
    "angle": Case(
        "negative bit_share mul thresholds mask_open truncate_all truncate",
        lambda suite, party, y, x: angle(suite, party, y, x, SCALE),
        2,
    ),
    "power_sum": Case(
        "thresholds mul mask_open truncate regions negative select",
        lambda suite, party, x: norms(suite, party, x),
        bits=30,
    ),
    "over_root": Case("thresholds mul truncate mask_open", quotient, bits=50),
    "averages": Case("truncate_all", means, 2, bits=40),
    "softmax": Case(
        "mask_open regions thresholds negative select mul truncate",
        lambda suite, party, x: beside(suite, party, x, *softmaxes(suite, party, x)),
        bits=30,
    ),
    "attention": WithThresholds("mask_open regions negative select mul truncate", attended, bits=20),
    "thresholds": Case(
        "thresholds", lambda suite, party, x: suite.thresholds(party, x, [-(1 << 40), 0, 1 << 20]), bits=61
    ),
    "scaled_thresholds": Case("scaled_thresholds thresholds", scaled, bits=30),
    "outside": Beside("", too_large, bits=61),
    "logical_and": Case("logical_and", lambda suite, party, x, y: suite.logical_and(party, x, y), 2, bits=0),
    "logical_xor": Case("logical_xor", lambda suite, party, x, y: suite.logical_xor(party, x, y), 2, bits=0),
    "bitwise_and": Case("bitwise_and", lambda suite, party, x, y: suite.bitwise_and(party, x, y), 2, bits=61),
    "bitwise_and_public": Case(
        "bitwise_and_public", lambda suite, party, x: suite.bitwise_and_public(party, x, public(x)), bits=61
    ),
    "shift_right_each": Case(
        "shift_right_each", lambda suite, party, x: suite.shift_right_each(party, x, public(x) % 64), bits=61
    ),
}
