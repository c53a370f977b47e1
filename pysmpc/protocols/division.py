"""The reciprocal of a secret: normalise between powers of two, then Newton.

Works on the integer X = x * s of a fixed-point x, and returns about s * s / X.  The
relative error is below 2^-18 for s up to 2^16 (tested over the whole range); results
below half a step of s are 0.  1 / 0 is a large number without meaning: nothing can be
told about a secret zero.
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.protocols.comparison import negative_cost, select_cost
from pysmpc.protocols.interfaces import Cost, Party, opens
from pysmpc.protocols.products import product_cost
from pysmpc.protocols.truncation import truncate_cost
from pysmpc.shares import Share

FRACTION = 30  # bits of the normalised value during the iteration
STEPS = 3  # the first guess is off by 1/17 at most; each step squares that


def _bits(s: int) -> tuple[int, int]:
    """Bits of the largest |x| that is told from infinity, and of w before the last product."""
    top = (2 * s * s).bit_length()
    spare = min(61 - top, FRACTION)
    if spare < 16:
        raise EncodingError(f"division by a secret needs a scale of at most 2**21, not {s}; use fewer fractional bits")
    return top, spare


@opens("compare", "select", "mask", "truncate")
def reciprocal(suite: Any, party: Party, x: Share, s: int) -> Share:
    """s * s / x, at scale s.

    1. |x|: four rounds for the sign, one to apply it.
    2. Compare |x| with every power of two up to 2^top: four rounds.
    3. The power F that brings |x| into [2^(top-1), 2^top) is linear in those bits.
    4. v = |x| F / 2^top in [1/2, 1); w = 48/17 - 32/17 v; w = w (2 - v w), three times.
    5. s^2 / |x| = s^2 F w / 2^top, and the sign.
    """
    top, spare = _bits(s)
    shape = x.shape
    flat = Share.of(x.words(), (x.numel,))

    # 1. magnitude
    positive = suite.negative(party, flat).flipped()
    kept = suite.select(party, positive, flat)
    size = suite.sub(party, suite.scale_by(party, kept, 2), flat)

    # 2. position of the highest bit
    powers = torch.tensor([1 << k for k in range(1, top + 1)], dtype=torch.int64).reshape(-1, 1)
    below = suite.negative(party, suite.sub(party, size, suite.public(party, powers)))
    reached = suite.bit_share(party, below.flipped(), (top, x.numel))

    # 3. F = 2^(top-1), halved at every power reached, and 0 beyond the last
    steps = torch.tensor([(1 << (top - 1 - k)) - (1 << (top - k)) for k in range(1, top)] + [-1]).reshape(-1, 1)
    weighted = suite.mul_public(party, reached, steps)
    words = weighted.window(weighted.body.words).sum(1)
    factor = suite.add(party, Share.of(words, (x.numel,)), suite.public(party, torch.tensor([1 << (top - 1)])))

    # 4. Newton's iteration with FRACTION bits
    v = suite.mul(party, size, factor)
    v = (
        suite.truncate(party, v, 1 << (top - FRACTION))
        if top > FRACTION
        else suite.scale_by(party, v, 1 << (FRACTION - top))
    )
    one = 1 << FRACTION
    guess = suite.scale_by(party, v, -32)
    constant = suite.public(party, torch.tensor([48 * one]))
    w = suite.truncate(party, suite.add(party, guess, constant), 17)
    for _ in range(STEPS):
        product = suite.truncate(party, suite.mul(party, v, w), one)
        error = suite.sub(party, suite.public(party, torch.tensor([2 * one])), product)
        w = suite.truncate(party, suite.mul(party, w, error), one)

    # 5. undo the normalisation
    if spare < FRACTION:
        w = suite.truncate(party, w, 1 << (FRACTION - spare))
    divisor = round((1 << (top + spare)) / (s * s))
    out = suite.truncate(party, suite.mul(party, w, factor), divisor)
    kept = suite.select(party, positive, out)
    out = suite.sub(party, suite.scale_by(party, kept, 2), out)
    return Share(out.body, shape, s)


def reciprocal_cost(holders: int, n: int, s: int) -> Cost:
    """Cost of n reciprocals at scale s."""
    top, spare = _bits(s)
    signs = negative_cost(holders, n) + negative_cost(holders, top * n) + select_cost(holders, n, False) * 2
    truncations = truncate_cost(holders, n) * (2 * STEPS + 2 + (top > FRACTION) + (spare < FRACTION))
    first = product_cost(holders, 2 * n, n) * 2  # size and factor; v and w
    rest = product_cost(holders, n, n) * (2 * STEPS)  # an error or a new w each
    return signs + truncations + first + rest
