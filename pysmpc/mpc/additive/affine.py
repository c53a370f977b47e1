"""Products that need no opening: of values that are public numbers plus dealt words (`affine_values.py`).

Such a value is under a mask already, so an elementwise product needs products of the dealt words only, as that of two
values that were opened under masks of their own does (Beaver, CRYPTO 1991; values as public parts and dealt masks:
ABY2.0, Patra, Schneider, Suresh, Yalame, USENIX Security 2021, section 3).

Nothing is opened here.  What is dealt is shared under streams of its own, and the mask of a truncation, which hid one
value when it was opened, hides nothing else.  Matrix products sum over elements with different public factors, for
which no few words are enough: those open their operands under masks of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pysmpc.mpc.additive.affine_values import Affine, Factor, Factors, affine_of, known_of
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.ring import affine_kernels, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

#: Dealt words of an element of a product up to which nothing is opened.
MOST = 4


def pair_of(x: Share, y: Share, n: int) -> tuple[Affine, Affine] | None:
    """Both factors of a product of n elements, where it is better made of dealt words than of openings."""
    a, b = affine_of(x), affine_of(y)
    if a is None or b is None or a.count * b.count > MOST:
        return None
    return (a, b) if _spares(n, x, y) else None


def single_of(x: Share) -> Affine | None:
    """The same of a square."""
    a = affine_of(x)
    return None if a is None or a.square_count > MOST or not _spares(x.numel, x) else a


def _spares(n: int, *operands: Share) -> bool:
    """Whether openings are spared, none of which takes fewer bytes, since its elements are repeated."""
    fresh = [x for x in operands if x.body.opened is None]
    return bool(n and fresh) and all(x.body.n >= n for x in fresh)


def mul(party: Party, x: Share, y: Share, a: Factor, b: Factor) -> Share:
    """x * y of two shares of one shape, from what is known of their bodies.  No message between holders.

    1. The dealer shares the product of each dealt word of x with each of y.
    2. C_x y + C_y x - C_x C_y, and those words times their public factors.
    8 bytes from the dealer for each of those words, two for each truncated operand.
    """
    ours, theirs = known_of(x, a), known_of(y, b)
    if ours is not None and theirs is not None:
        base, corrections = _kernel(party, x.numel, ours, theirs)
        out = affine_kernels.affine_mul(party.dealer.keys, base, ours, theirs, x.words(), y.words(), corrections)
        return Share.of(out, x.shape, x.scale * y.scale)
    n = x.numel
    pairs = [(k, j) for k in range(a.count) for j in range(b.count)]

    # 1. products of words
    def words(keys: KeySet) -> list[torch.Tensor]:
        ours, theirs = ([s.gather(word.reshape(1, -1)) for word in f.words(keys)] for s, f in ((x, a), (y, b)))
        return [z2k.mul(ours[k], theirs[j]).reshape(-1) for k, j in pairs]

    def factors() -> Factors:
        ours, theirs = ([f if f is None else s.gather(f) for f in g.factors()] for s, g in ((x, a), (y, b)))
        return [_product(ours[k], theirs[j]) for k, j in pairs]

    parts = _dealt(party, n, len(pairs), words)
    # 2. combine
    left, right = x.gather(a.public()), y.gather(b.public())
    out = left * y.words() + right * x.words()
    if party.lead is not None:
        out[party.lead] -= (left * right)[0]
    return Share.of(_add(out, parts, factors()), x.shape, x.scale * y.scale)


def square(party: Party, x: Share, a: Affine) -> Share:
    """x * x elementwise, from what is known of its body.  No message between holders.

    1. The dealer shares the words whose sum, with public factors, is the square of the mask (`Affine.squares`).
    2. C (2 x - C), and those words times their public factors.
    16 bytes an element from the dealer for what was truncated, 32 for what was rounded to the nearest integer.
    """
    known = known_of(x, a)
    if known is not None:
        base, corrections = _kernel(party, x.numel, known, None)
        out = affine_kernels.affine_square(party.dealer.keys, base, known, x.words(), corrections)
        return Share.of(out, x.shape, x.scale * x.scale)
    # 1. squares of words
    factors = [f if f is None else x.gather(f) for f in a.square_factors()]
    parts = _dealt(
        party, x.numel, len(factors), lambda keys: [x.gather(w.reshape(1, -1)).reshape(-1) for w in a.squares(keys)]
    )
    # 2. combine
    left = x.gather(a.public())
    out = 2 * x.words()
    if party.lead is not None:
        out[party.lead] -= left[0]
    return Share.of(_add(left * out, parts, factors), x.shape, x.scale * x.scale)


def product_cost(n: int, words: int) -> Cost:
    """Of n elements of `words` dealt words each."""
    return Cost(dealt=8 * words * n)


def _kernel(
    party: Party, n: int, x: affine_kernels.Known, y: affine_kernels.Known | None
) -> tuple[int, torch.Tensor | None]:
    """(The first stream, the corrections) of the products of words that a kernel deals."""
    count = affine_kernels.product_rows(x, y)
    base = party.dealer.streams(count)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        affine_kernels.affine_deal(keys, base, x, y, out)

    return base, party.dealer.corrections(count * n, deal)


def _product(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    return b if a is None else a if b is None else a * b


def _dealt(party: Party, n: int, count: int, words: Callable[[KeySet], list[torch.Tensor]]) -> list[torch.Tensor]:
    """Shares [rows, n] of each of the dealer's words."""
    stream = party.dealer.streams(count)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        for k, (place, word) in enumerate(zip(out.split(n), words(keys), strict=True)):
            place.copy_(keys.take(stream + k, word))

    corrections = party.dealer.corrections(count * n, deal)
    sent = [None] * count if corrections is None else corrections.split(n)
    return [party.dealer.keys.draw(stream + k, n, own) for k, own in enumerate(sent)]


def _add(out: torch.Tensor, parts: Sequence[torch.Tensor], factors: Factors) -> torch.Tensor:
    for part, factor in zip(parts, factors, strict=True):
        out += part if factor is None else part * factor
    return out
