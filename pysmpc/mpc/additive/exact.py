"""Division by a public divisor without an error, for every value that truncation takes.

Truncation gives q, one of the two integers next to z / d.  Then z - q d is in [0, d)
where q is the lower of them and in [-d, 0) where it is the upper, exactly and mod 2^64
alike, so its sign corrects q.  Any number of holders, any divisor.

The suites of `nearest` round to the nearest integer, halves upward, wherever their base
would round at random: in `truncate`, `relu`, `select`, and so in everything above them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch

from pysmpc.mpc.additive.affine_values import Rounded, Truncated
from pysmpc.mpc.additive.comparison import negative_cost, relu_cost, select_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.derived import derived_operations as makers
from pysmpc.mpc.interfaces import LOCAL, Cost, Party, declares_openings
from pysmpc.mpc.operations import Suite, derived
from pysmpc.ring import told
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import MaskedBit, Share


def constant(suite: Suite, party: Party, shape: tuple[int, ...], value: int, scale: int) -> Share:
    """A public integer everywhere."""
    out = suite.public(party, told.tensor([value]), scale)
    return Share(out.body, shape, scale, (0,) * len(shape))


def excess(by: int) -> int:
    """What 2^62 is above a multiple of a divisor."""
    return LIMIT % by


@declares_openings("truncate", "compare")
def floor_all(suite: Suite, party: Party, dividends: Sequence[tuple[Share, int]], add: bool = False) -> list[Share]:
    """floor(z / by) of each, -2^62 <= z < 2^62; or floor(z / by + 1/2) with `add`, |z| <= 2^62 - by; by >= 2.

    1. q = floor(z / by) or one more, by truncation: one round for all.  It takes numbers from
       minus a multiple of `by` on; with e = 2^62 mod by added to z, those are all from -2^62 on,
       and q may be one more yet.
    2. The signs of z - q by, and of that plus `by` where e was added: four rounds for all.
    3. q less the signs.
    """
    suite = suite.probabilistic
    taken = []
    for z, by in dividends:
        more = by // 2 if add else excess(by)
        taken.append(suite.add(party, z, constant(suite, party, z.shape, more, z.scale)) if more else z)
    # 1. one of the two integers next to the quotient
    pairs = [(z, by) for z, (_, by) in zip(taken, dividends, strict=True)]
    quotients = suite.truncate_all(party, pairs)
    # 2. on which side of it z is
    rests, several = [], []
    for (z, by), given, q in zip(dividends, taken, quotients, strict=True):
        rest = suite.sub(party, (given if add else z).at(1), suite.scale_by(party, q.at(1), by))
        rests.append(rest.words())
        several.append(0 if add else excess(by))
        if several[-1]:
            rests.append(suite.add(party, rest, constant(suite, party, rest.shape, by, 1)).words())
    words = torch.cat(rests, 1) if len(rests) > 1 else rests[0]
    sign = suite.negative(party, Share.of(words, (words.shape[1],)))
    below = suite.bit_share(party, sign, (words.shape[1],))
    # 3. correct
    out, at = [], 0
    for q, two in zip(quotients, several, strict=True):
        corrected = Share.of(q.words(), (q.numel,))
        for _ in range(2 if two else 1):
            corrected = suite.sub(party, corrected, Share(below.body, (q.numel,), 1, None, at))
            at += q.numel
        rounded = q.body.affine
        if not two and isinstance(rounded, Truncated) and type(sign) is MaskedBit and sign.stream is not None:
            corrected.body.affine = Rounded(rounded, sign.beta, sign.stream, words.shape[1], at - q.numel)
        out.append(Share(corrected.body, q.shape, q.scale))
    return out


def floor(suite: Suite, party: Party, z: Share, by: int) -> Share:
    """floor(z / by) for any by but zero; |z| < 2^62.  Five rounds, none for by = 1 or -1."""
    if by < 0:
        return floor(suite, party, suite.neg(party, z), -by)
    return floor_all(suite, party, [(z, by)])[0] if by > 1 else z


@declares_openings("truncate", "compare")
def shift_right(suite: Suite, party: Party, x: Share, bits: int) -> Share:
    """floor(x / 2^bits) for every x of the ring, 0 <= bits < 64.  Nine rounds; four for bits = 63.

    1. The sign: four rounds.  With it, y = x - 2^62, or x + 2^62 where x is negative, is in
       [-2^62, 2^62), which is what a division by a power of two takes.
    2. floor(y / 2^bits): five rounds.
    3. Put back what was added, divided.
    """
    if bits == 0:
        return x
    # 1. move x into range
    negative = suite.bit_share(party, suite.negative(party, x), x.shape)
    if bits == 63:
        return suite.neg(party, negative)
    y = suite.add(party, x.at(1), suite.scale_by(party, negative, 1 << 63))
    y = suite.sub(party, y, constant(suite, party, x.shape, 1 << 62, 1))
    # 2. divide; 2^62 is more than a divisor may be
    first = min(bits, 61)
    y = floor(suite, party, y, 1 << first)
    # 3. put back
    y = suite.add(party, y, constant(suite, party, x.shape, 1 << (62 - first), 1))
    y = suite.sub(party, y, suite.scale_by(party, negative, 1 << (63 - first)))
    return floor(suite, party, y, 1 << (bits - first)) if bits > first else y.at(x.scale)


def shift_right_cost(holders: int, n: int, bits: int) -> Cost:
    """A sign, a division, and a second one for bits = 62."""
    cost = negative_cost(holders, n) if bits else LOCAL
    for division, by in ((0 < bits < 63, 1 << min(bits, 61)), (bits == 62, 2)):
        cost += floor_cost(holders, n, by) if division else LOCAL
    return cost


def floor_cost(holders: int, n: int, by: int = 3) -> Cost:
    """Of n quotients: 32.5 bytes an element and peer, 114 from the dealer; for a power of two, as `nearest_cost`."""
    return truncate_cost(holders, n, by) + negative_cost(holders, 2 * n if excess(by) else n)


def nearest_cost(holders: int, n: int, by: int = 3) -> Cost:
    """20.25 bytes an element and peer, 65 from the dealer (62 for a power of two up to 2^40)."""
    return truncate_cost(holders, n, by) + negative_cost(holders, n)


@lru_cache(maxsize=64)
def nearest(base: Suite) -> Suite:
    """The suite with exact rounding; itself where that is what it has."""
    if base.exact_rounding:
        return base

    @declares_openings("truncate", "compare")
    def truncate_all(party: Party, dividends: Sequence[tuple[Share, int]]) -> list[Share]:
        """floor(z / by + 1/2) of each; five rounds for all."""
        return floor_all(base, party, dividends, add=True) if dividends else []

    @declares_openings("truncate", "compare")
    def truncate(party: Party, z: Share, by: int) -> Share:
        """floor(z / by + 1/2); five rounds."""
        return truncate_all(party, [(z, by)])[0]

    @declares_openings("relu", "compare", "truncate")
    def relu(party: Party, x: Share, by: int = 1) -> Share:
        """floor(max(x, 0) / by + 1/2), with the bits x > 0; four rounds, and five for the division."""
        out = base.relu(party, x)
        return divided(party, out, by) if by > 1 else out

    def divided(party: Party, out: Share, by: int) -> Share:
        """What a ReLU found, divided; it keeps the bits."""
        rounded = truncate(party, out, by)
        rounded.body.sign = out.body.sign
        return rounded

    @declares_openings("select", "compare", "truncate")
    def select(party: Party, bit: MaskedBit, x: Share, by: int = 1) -> Share:
        """floor(bit * x / by + 1/2); one round, and five for the division."""
        out = base.select(party, bit, x)
        return truncate(party, out, by) if by > 1 else out

    bounded = base.bounded
    if bounded is not None:
        short = bounded.relu

        @declares_openings("relu", "compare", "truncate")
        def bounded_relu(party: Party, x: Share, by: int = 1, bits: int = 64) -> Share:
            """As `relu`, of a value that fits in so many bits."""
            out = short(party, x, 1, bits)
            return divided(party, out, by) if by > 1 else out

        bounded = replace(bounded, relu=bounded_relu)
    name = "nearest" if base.name == "default" else f"{base.name}, nearest"
    return replace(
        base,
        name=name,
        base=base,
        bounded=bounded,
        truncate=truncate,
        truncate_all=truncate_all,
        update_all=derived(makers.update_all),
        together=derived(makers.together),
        relu=relu,
        select=select,
    )


def nearest_relu_cost(holders: int, n: int, by: int = 3) -> Cost:
    """A ReLU and the division of its result."""
    return relu_cost(holders, n, truncated=False) + nearest_cost(holders, n, by)


def nearest_select_cost(holders: int, n: int, by: int = 3) -> Cost:
    """A selection and the division of its result."""
    return select_cost(holders, n, truncated=False) + nearest_cost(holders, n, by)
