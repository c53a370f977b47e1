"""Truncations whose results are opened again, as factors of matrix products, by 16 bits an element in place of 64.

A truncation by d = 2^p opens c = z + offset + r.  If its result v is a factor of a matrix product, v - b is opened,
too, under a mask b of its own.  Both masks can be one: let b be drawn first, and
    r = -b 2^p + l mod 2^64,  l uniform below 2^p and dealt.
Then floor(r / 2^p) = -b - 2^(64 - p) t mod 2^64, t the upper p bits of -b mod 2^64, so that (src/c/truncate.inc.h)
    v = C - floor(r / 2^p) + s J = C + b + 2^(64 - p) w,  w = t + s h,
with C = floor(c / 2^p) - offset / 2^p and s = [c < 2^63] public, and h the uppermost bit of r, bit 63 - p of -b.
v - b is known once w mod 2^p is: the rest of it is C.

1. The dealer draws b as the sum of a stream, and shares l mod 2^64, and t and h mod 2^p.
2. Open c = z + offset - b 2^p + l.  Holder i has v_i = b_i + 2^(64 - p) (t_i + s h_i), the leading one C more.
3. Where v becomes a factor of matrices, and not before: open w mod 2^p; v - b = C + 2^(64 - p) w.

**What is seen.**  Let all holders but one work together.  Of the stream of b, and of the shares of l, t and h, the
missing holder's part is uniform and independent of what the others have; so b is uniform for them, and l below 2^p.  r
is made of the lower 64 - p bits of b, and of l, each r in one way: so r is uniform, and c is, whatever z is.  t is the
upper p bits of -b: uniform whatever r is, and so is w = t + s h mod 2^p, given c and with it s and h.  The missing
holder's two messages follow from c, w and what the others have.  So both openings are uniform together, for every z,
and can be drawn without it.  l is shared mod 2^64 as it has to be below 2^p: a sum of shares of p bits would be larger,
and what it carries would be in b.  Products deal what they need of b under streams of their own, as with any mask.

**What it gives** is what any truncation gives, as r is uniform there too, and the equation the same: floor(z / 2^p) or
one more, the latter with probability (z mod 2^p) / 2^p, for |z| <= offset and any number of holders.

p is 16 at most, as t and h are dealt in lanes of 16 bits, four in a word, and w is opened so: in a lane's upper p
bits.  A divisor that is no power of two has no such t.  What is rounded to the nearest integer is another value, v less
a secret bit, and is opened in full.  (Masks that later ones are made of: ABY2.0, Patra, Schneider, Suresh, Yalame,
USENIX Security 2021, section 3; the wrap of an opened sum: Escudero, Ghosh, Keller, Rachuri, Scholl, CRYPTO 2020,
section 5.1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pysmpc.mpc.additive.affine_values import Truncated
from pysmpc.mpc.interfaces import Party
from pysmpc.ring import reopen_kernels
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import ShareStorage

#: The largest p.
MOST_BITS = 16


def reopens(by: int) -> bool:
    """Whether truncations by it are made so that their results can be opened again."""
    return by & (by - 1) == 0 and 2 <= by <= 1 << MOST_BITS


@dataclass(eq=False, repr=False)
class Reopened(Truncated):
    """The result of such a truncation; base: the stream of b.  again: whether it may be opened by 16 bits."""

    again: bool = True
    reopened = True

    def dealt(self, keys: KeySet) -> tuple[torch.Tensor, torch.Tensor]:
        """Dealer: q = floor(r / 2^p) and J, which follow from b."""
        power = self.by.value.bit_length() - 1
        less = -keys.total(self.base, self.c.shape[1])
        return less & ((1 << (64 - power)) - 1), ((less >> (63 - power)) & 1) << (64 - power)


def short_of(body: ShareStorage) -> Reopened | None:
    """How a body that was not opened yet is opened by 16 bits; None where it takes 64."""
    return body.affine if isinstance(body.affine, Reopened) and body.affine.again else None


def open_in_full(body: ShareStorage) -> None:
    """Have a body opened by 64 bits: what was written in place outlives a step, and a repeated step has its words
    alone.  So both open the same.
    """
    if short_of(body) is not None:
        body.affine = replace(body.affine, again=False)


def open_again(party: Party, bodies: Sequence[ShareStorage], short: Sequence[Reopened]) -> list[torch.Tensor]:
    """Step 3's messages, of lanes."""
    keys = party.dealer.keys
    return [
        reopen_kernels.reopen_message(keys, each.base, each.by, each.c, body.words)
        for body, each in zip(bodies, short, strict=True)
    ]


def opened_again(bodies: Sequence[ShareStorage], short: Sequence[Reopened], sums: Sequence[torch.Tensor]) -> None:
    """Note v - b in the bodies, from the sums of the messages: b is their mask from now on."""
    for body, each, w in zip(bodies, short, sums, strict=True):
        body.mask, body.opened = each.base, reopen_kernels.reopen_opened(each.by, each.c, w)
