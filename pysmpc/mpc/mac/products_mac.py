"""Products with codes: Beaver's, by masks, openings and products that all have codes.

With x = d + a and y = e + b, where d and e are open, x y = d y + a e + a b is linear.
"""

from __future__ import annotations

import math

import torch

from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.mpc.mac.dealt import MASK_COST, SETS, VALUE_COST, deal, deal_mask, loose, share_of, tight
from pysmpc.mpc.mac.opening import open_words
from pysmpc.ring import product_kernels, z2k, z2k_128
from pysmpc.ring.matrix_layout import Layout
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share, ShareStorage, broadcast


@declares_openings("mask", "check")
def open_masked(party: Party, *secrets: Share) -> None:
    """Open the bodies that have not been, under fresh authenticated masks: at most one round."""
    fresh = list({id(x.body): x.body for x in secrets if x.body.opened is None}.values())
    if not fresh:
        return
    messages = []
    for body in fresh:
        body.mask, mask = deal_mask(party, body.n)
        body.masked = mask.view(party.rows * SETS * z2k_128.WORDS, body.n)
        messages.append(z2k_128.pack(loose(party, body.words).contiguous(), mask, subtract=True))
    for body, opened in zip(fresh, open_words(party, messages, "mask", [body.shape for body in fresh]), strict=True):
        body.opened = opened


def _mask_words(keys: KeySet, body: ShareStorage) -> torch.Tensor:
    """Dealer: the mask of a body mod 2^64, [n]."""
    assert body.mask is not None
    return keys.total(body.mask, body.n)


def _public(x: Share) -> torch.Tensor:
    """The opened words [n] of a share's elements, or [0]."""
    assert x.body.opened is not None
    return x.gather(x.body.opened).reshape(-1)


def mul_all(party: Party, *pairs: tuple[Share, Share]) -> list[Share]:
    """Products of pairs, elementwise and broadcast, in at most one round."""
    pairs = tuple((x.compact(), y.compact()) for x, y in pairs)
    # 1. open what has not been opened
    open_masked(party, *(x for pair in pairs for x in pair))
    out = []
    for x, y in pairs:
        shape = broadcast(x.shape, y.shape)
        out.append(_product(party, x.expand(shape), y.expand(shape), shape))
    return out


def _product(party: Party, x: Share, y: Share, shape: tuple[int, ...]) -> Share:
    n = math.prod(shape)

    # 2. the dealer shares a * b
    def ab(keys: KeySet) -> torch.Tensor:
        one, two = (v.gather(_mask_words(keys, v.body).reshape(1, -1))[0] for v in (x, y))
        return one * two

    z = deal(party, n, ab)
    # 3. d y + a e + a b
    if not party.rows:
        return share_of(z2k_128.loosen(z), shape, x.scale * y.scale)
    masks = x.gather(x.body.masked).view(party.rows * SETS, z2k_128.WORDS, n)
    words = loose(party, y.words())
    return share_of(z2k_128.combine(z, words, _public(x), masks, _public(y)), shape, x.scale * y.scale)


@declares_openings("mask", "check")
def mul(party: Party, x: Share, y: Share) -> Share:
    """x * y elementwise, broadcast; the scale is the product of the scales."""
    return mul_all(party, (x, y))[0]


def product_cost(holders: int, fresh: int, n: int) -> Cost:
    """A product with n results whose operands have `fresh` unopened elements."""
    cost = Cost(dealt=VALUE_COST * n + MASK_COST * fresh)
    return cost + opening(holders, fresh) if fresh else cost


@declares_openings("mask", "check")
def matmul(party: Party, x: Share, y: Share) -> Share:
    """x @ y for [..., m, k] and [..., k, n], leading sizes broadcast."""
    x, y = x.compact(), y.compact()
    batch = broadcast(x.shape[:-2], y.shape[:-2])
    x, y = x.expand((*batch, *x.shape[-2:])), y.expand((*batch, *y.shape[-2:]))
    words = contract(party, x, x.matrices(), y, y.matrices())
    return Share.of(words, (*batch, x.shape[-2], y.shape[-1]), x.scale * y.scale)


@declares_openings("mask", "check")
def contract(party: Party, x: Share, left: Layout, y: Share, right: Layout) -> torch.Tensor:
    """Products of the matrices that two layouts find: words [rows * 8, batch * m * n]."""
    # 1. open what has not been opened
    open_masked(party, x, y)
    size = left.batch * left.height * right.width

    # 2. the dealer shares a @ b
    def ab(keys: KeySet) -> torch.Tensor:
        out = z2k.empty(left.batch, left.height, right.width)
        one, two = left.view(_mask_words(keys, x.body)), right.view(_mask_words(keys, y.body))
        return product_kernels.matmul(one, two, out).reshape(-1)

    z = deal(party, size, ab)
    # 3. d @ y + a @ e + a @ b
    if party.rows:
        masks = x.body.masked.view(party.rows * SETS, z2k_128.WORDS, x.body.n)
        z2k_128.add_matmul(z, left.view(_body_opened(x)), right.view(tight(party, y.body.words)))
        z2k_128.add_matmul(z, right.view(_body_opened(y)), left.view(masks), left=True)
    return share_of(z2k_128.loosen(z), (size,)).body.words


def _body_opened(x: Share) -> torch.Tensor:
    assert x.body.opened is not None
    return x.body.opened[0]
