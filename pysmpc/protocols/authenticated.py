"""Every protocol on shares with message authentication codes (`integrity="mac"`).

What pysmpc.protocols.integrity opens, it checks: before anything is revealed, all that
was opened on the way to it, and then what was revealed itself, before it is returned.
The dealer gives every mask, product and bit with its code, so that products,
truncations, comparisons and selections are all linear in authenticated shares and
public words, and every word that is opened has a code: nothing is left out.

The protocols are those of the default suite with the same masks, rounding and ranges.
Comparisons work on bits as numbers, three more rounds and many more bytes.  A secret is
words [rows * 12, n]: for every hosted holder, six lanes of its share and six of its code.

Inputs: the owner and the dealer share a key; the dealer gives authenticated shares of the
mask under that key, the owner sends the difference to every holder, who cannot change it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from pysmpc import ring, wide
from pysmpc.errors import PartyError
from pysmpc.layout import Layout
from pysmpc.prg import KeySet
from pysmpc.protocols import integrity, sharing
from pysmpc.protocols.comparison import larger_by
from pysmpc.protocols.integrity import MASK_COST, VALUE_COST, add_public, check, check_cost, flat, open_words, parted
from pysmpc.protocols.interfaces import Cost, Party, opening, opens
from pysmpc.protocols.truncation import divisor, updates_by
from pysmpc.shares import Body, Share, broadcast


@dataclass(eq=False)
class Truth:
    """Shared bits, as authenticated shares of 0 and 1."""

    share: Share
    flip: bool = False

    def flipped(self) -> Truth:
        """not(bit), for nothing."""
        return Truth(self.share, not self.flip)


def _of(words: torch.Tensor, shape: Sequence[int], scale: int = 1) -> Share:
    return Share.of(words if words.dim() == 2 else flat(words), shape, scale)


def _words(party: Party, x: Share) -> torch.Tensor:
    """Normal [rows, 2, 6, numel]."""
    return parted(x.words())


# --- inputs and results -----------------------------------------------------------------


def share(party: Party, values: torch.Tensor | None, shape: Sequence[int], scale: int = 1) -> Share:
    """Authenticated shares of integers that the owner's process knows (None in the others).

    1. Owner and dealer know a mask r; the dealer shares it with its code.
    2. The owner sends x - r to every holder; the leading one adds it.
    8 bytes an element and holder from the owner, 48 from the dealer.
    """
    notary = party.notary
    if notary is None:
        raise PartyError(
            'integrity="mac" needs a key between the owners of inputs and the provider, which this kind of session '
            "does not have; use sy.virtual, or leave integrity out"
        )
    n = math.prod(shape)
    stream = party.owner.streams()
    # 1. the mask
    mask = integrity.deal(party, n, lambda keys: _input_mask(notary, stream, n))

    # 2. the difference
    def difference(keys: KeySet, out: torch.Tensor) -> None:
        if values is None:
            raise ValueError("the owner of an input must pass its values")
        out.copy_(values.reshape(-1) - wide.low(_input_mask(notary, stream, n)))

    sent = party.owner.broadcast(n, difference)
    return _of(mask if sent is None else add_public(party, mask, sent), shape, scale)


def _input_mask(notary: KeySet, stream: int, n: int) -> torch.Tensor:
    return integrity.mask_total(notary, stream, n)


def share_cost(holders: int, n: int) -> Cost:
    """The owner sends to every holder."""
    return Cost(shared=8 * n * holders, dealt=VALUE_COST * n)


@opens("reveal", "check")
def reveal(party: Party, *secrets: Share) -> list[torch.Tensor]:
    """The integers behind each share, when all that was opened so far, and they, were found right.

    1. Check what waits: five rounds, if something does.
    2. Open: one round.
    3. Check that: five rounds.  IntegrityError, and no value, if anything was altered.
    """
    check(party)
    opened = open_words(party, [x.words() for x in secrets], "reveal", [x.shape for x in secrets])
    check(party)
    return [
        words.reshape(x.shape) if words.shape[0] else words.reshape(0, *x.shape)
        for words, x in zip(opened, secrets, strict=True)
    ]


def reveal_cost(holders: int, n: int) -> Cost:
    """Where nothing waits for a check."""
    return opening(holders, n) + check_cost(holders)


def public(party: Party, values: torch.Tensor, scale: int = 1) -> Share:
    """A public constant.  No message."""
    zeros = torch.zeros(party.rows * 2 * wide.LANES, values.numel(), dtype=torch.int64)
    return _of(add_public(party, zeros, values.reshape(-1)), values.shape, scale)


def refresh(party: Party, x: Share) -> Share:
    """The same secret under fresh shares and codes.  No message."""
    words = x.words()
    stream = party.dealer.streams()
    size = 2 * wide.LANES * words.shape[1]
    zero = (party.own.draw(stream, size) & wide.MASK) - (party.next.draw(stream, size) & wide.MASK)
    return _of(parted(words + zero.reshape(words.shape)), x.shape, x.scale)


# --- without a message --------------------------------------------------------------------

add, sub = sharing.add, sharing.sub


def neg(party: Party, x: Share) -> Share:
    """-x.  No message."""
    return _of(wide.normal(-_words(party, x)), x.shape, x.scale)


def scale_by(party: Party, x: Share, factor: int) -> Share:
    """factor * x for a public integer.  No message."""
    flat = torch.tensor([ring.wrap(factor)])
    return _of(wide.mul(_words(party, x), wide.split(flat)), x.shape, x.scale)


def mul_public(party: Party, x: Share, values: torch.Tensor, scale: int = 1) -> Share:
    """x * values for public integers, broadcast.  No message."""
    shape = broadcast(x.shape, values.shape)
    flat = values.reshape(1) if values.numel() == 1 else values.expand(shape).reshape(-1)
    words = _words(party, x.expand(shape))
    return _of(wide.mul(words, wide.split(flat)), shape, x.scale * scale)


def matmul_public(party: Party, x: Share, values: torch.Tensor, scale: int = 1, left: bool = True) -> Share:
    """x @ values (left) or values @ x for public integers.  No message."""
    a, b = (x.shape, values.shape) if left else (values.shape, x.shape)
    batch = broadcast(a[:-2], b[:-2])
    shape = (*batch, a[-2], b[-1])
    x = x.expand((*batch, *x.shape[-2:]))
    size = math.prod(batch)
    lanes = wide.split(values.expand(*batch, *values.shape[-2:]).reshape(1, -1))[0]
    plain = lanes.reshape(3, size, *values.shape[-2:])
    words = _words(party, x).reshape(party.rows * 2, wide.LANES, size, *x.shape[-2:])
    out = torch.zeros(party.rows * 2, wide.LANES, size, shape[-2], shape[-1], dtype=torch.int64)
    for part, target in zip(words, out, strict=True):
        wide.matmul(plain, part, target, left=not left)
    return _of(parted(out.reshape(party.rows * 2 * wide.LANES, math.prod(shape))), shape, x.scale * scale)


# --- products -----------------------------------------------------------------------------


@opens("mask", "check")
def open_masked(party: Party, *secrets: Share) -> None:
    """Open the bodies that have not been, under fresh authenticated masks: at most one round."""
    fresh = list({id(x.body): x.body for x in secrets if x.body.opened is None}.values())
    if not fresh:
        return
    messages = []
    for body in fresh:
        body.mask, mask = integrity.deal_mask(party, body.n)
        body.masked = mask
        messages.append(body.words - mask)
    for body, opened in zip(fresh, open_words(party, messages, "mask", [body.shape for body in fresh]), strict=True):
        body.opened = opened


def _mask_words(keys: KeySet, body: Body) -> torch.Tensor:
    """Dealer: the mask of a body mod 2^64, [n]."""
    assert body.mask is not None
    return wide.low(integrity.mask_total(keys, body.mask, body.n))


def _public(x: Share) -> torch.Tensor:
    """The opened words of a share's elements, [1 or 0, numel]."""
    assert x.body.opened is not None
    return x.gather(x.body.opened)


def _masks(x: Share) -> torch.Tensor:
    """Shares and codes of the mask of x, [rows, 2, 6, numel]."""
    return parted(x.gather(x.body.masked))


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

    z = parted(integrity.deal(party, n, ab))
    # 3. d y + a e + a b
    if party.rows:
        d, e = (wide.split(_public(v)[0]) for v in (x, y))
        z = wide.normal(z + wide.mul(_words(party, y), d) + wide.mul(_masks(x), e))
    return _of(z, shape, x.scale * y.scale)


@opens("mask", "check")
def mul(party: Party, x: Share, y: Share) -> Share:
    """x * y elementwise, broadcast; the scale is the product of the scales."""
    return mul_all(party, (x, y))[0]


@opens("mask", "check")
def square(party: Party, x: Share) -> Share:
    """x * x elementwise."""
    return mul(party, x, x)


def product_cost(holders: int, fresh: int, n: int) -> Cost:
    """A product with n results whose operands have `fresh` unopened elements."""
    cost = Cost(dealt=VALUE_COST * n + MASK_COST * fresh)
    return cost + opening(holders, fresh) if fresh else cost


@opens("mask", "check")
def matmul(party: Party, x: Share, y: Share) -> Share:
    """x @ y for [..., m, k] and [..., k, n], leading sizes broadcast."""
    x, y = x.compact(), y.compact()
    batch = broadcast(x.shape[:-2], y.shape[:-2])
    x, y = x.expand((*batch, *x.shape[-2:])), y.expand((*batch, *y.shape[-2:]))
    words = contract(party, x, x.matrices(), y, y.matrices())
    return Share.of(words, (*batch, x.shape[-2], y.shape[-1]), x.scale * y.scale)


@opens("mask", "check")
def contract(party: Party, x: Share, left: Layout, y: Share, right: Layout) -> torch.Tensor:
    """Products of the matrices that two layouts find: words [rows * 12, batch * m * n]."""
    # 1. open what has not been opened
    open_masked(party, x, y)
    size = left.batch * left.height * right.width

    # 2. the dealer shares a @ b
    def ab(keys: KeySet) -> torch.Tensor:
        out = ring.empty(left.batch, left.height, right.width)
        one, two = left.take(_mask_words(keys, x.body)), right.take(_mask_words(keys, y.body))
        return ring.matmul(one.contiguous(), two.contiguous(), out).reshape(-1)

    z = parted(integrity.deal(party, size, ab))
    # 3. combine
    if party.rows:
        assert x.body.opened is not None
        assert y.body.opened is not None
        d = torch.stack([left.take(lane) for lane in wide.split(x.body.opened[0])])
        e = torch.stack([right.take(lane) for lane in wide.split(y.body.opened[0])])
        out = z.reshape(party.rows * 2, wide.LANES, left.batch, left.height, right.width).contiguous()
        words, masks = parted(y.body.words).flatten(0, 1), parted(x.body.masked).flatten(0, 1)
        for part, mask, target in zip(words, masks, out, strict=True):
            wide.matmul(d, torch.stack([right.take(lane) for lane in part]), target)
            wide.matmul(e, torch.stack([left.take(lane) for lane in mask]), target, left=False)
        z = parted(out.reshape(party.rows * 2 * wide.LANES, size))
    return flat(z)


# --- truncation -----------------------------------------------------------------------------


@opens("truncate", "check")
def truncate(party: Party, z: Share, by: int) -> Share:
    """z / by, rounded to one of the two integers next to it, as the default does.  One round."""
    return truncate_all(party, [(z, by)])[0]


@opens("truncate", "check")
def truncate_all(party: Party, dividends: Sequence[tuple[Share, int]]) -> list[Share]:
    """Each z / by, all in one round.

    1. The dealer shares r, floor(r / by) and the jump of a signed r, of r mod 2^64.
    2. Open c = z + offset + r.
    3. floor(c / by) - floor(r / by) + [c < 2^63] jump - offset / by.
    """
    # 1. material
    pieces, messages = [], []
    for z, by in dividends:
        n, offset = z.numel, divisor(by).offset
        stream, mask = integrity.deal_mask(party, n)

        def quotients(keys: KeySet, stream: int = stream, n: int = n, by: int = by) -> torch.Tensor:
            r = wide.low(integrity.mask_total(keys, stream, n))
            quotient = _unsigned(r, by)
            return torch.cat([quotient, quotient - torch.div(r, by, rounding_mode="floor")])

        pieces.append((integrity.deal(party, 2 * n, quotients), offset))
        messages.append(add_public(party, z.words() + mask, torch.full((n,), offset)))
    # 2. open
    opened = open_words(party, messages, "truncate", [z.shape for z, _ in dividends])
    # 3. combine
    out = []
    for (z, by), (dealt, offset), c in zip(dividends, pieces, opened, strict=True):
        quotient, jump = parted(dealt).tensor_split(2, -1)
        words = quotient.neg()
        if party.rows:
            words = add_public(party, flat(words + jump * (c[0] >= 0)), _unsigned(c[0], by) - offset // by)
        out.append(_of(parted(words if words.dim() == 2 else flat(words)), z.shape, z.scale // by))
    return out


def _unsigned(words: torch.Tensor, by: int) -> torch.Tensor:
    """floor(word / by) of words taken as unsigned."""
    return torch.from_numpy((words.numpy().view(np.uint64) // np.uint64(by)).view(np.int64))


def truncate_cost(holders: int, n: int) -> Cost:
    """Cost of truncating n elements."""
    return opening(holders, n) + Cost(dealt=(MASK_COST + 2 * VALUE_COST) * n)


update_all = updates_by(SimpleNamespace(scale_by=scale_by, add=add), truncate_all)


# --- comparison -------------------------------------------------------------------------------

LEAVES = 32  # pairs of bits


@opens("compare", "mask", "check")
def negative(party: Party, x: Share) -> Truth:
    """The bits x < 0, for any x in [-2^63, 2^63).  Seven rounds.

    1. Open c = x + r.  The dealer shares, as numbers, r_63 and, of 2 r mod 2^64, every bit
       and the product of the two bits of every pair.
    2. less and equal of the pairs of 2 c and 2 r are linear in those.
    3. Five times: two neighbours join, less = less_1 + equal_1 less_0, equal = equal_1 equal_0.
    4. x < 0 is c_63 ^ r_63 ^ [2 c < 2 r].
    """
    n = x.numel
    # 1. open
    stream, mask = integrity.deal_mask(party, n)

    def bits(keys: KeySet) -> torch.Tensor:
        r = wide.low(integrity.mask_total(keys, stream, n))
        high, low = _pairs(r)
        return torch.cat([high, low, high * low, ((r >> 63) & 1).unsqueeze(0)]).reshape(-1)

    dealt = parted(integrity.deal(party, (3 * LEAVES + 1) * n, bits))
    [c] = open_words(party, [x.words() + mask], "compare", [x.shape])
    # 2. pairs
    high, low, both, sign = dealt.split([LEAVES * n] * 3 + [n], -1)
    if party.rows:
        c1, c0 = (bit.reshape(-1) for bit in _pairs(c[0]))
        # of one bit: less = (1 - c) r, equal = (1 - c) + (2 c - 1) r
        less = (1 - c1) * high + (1 - c0) * ((1 - c1) * low + (2 * c1 - 1) * both)
        equal = (1 - c1) * (2 * c0 - 1) * low + (1 - c0) * (2 * c1 - 1) * high + (2 * c1 - 1) * (2 * c0 - 1) * both
        equal = add_public(party, flat(equal), (1 - c1) * (1 - c0))
    else:
        less, equal = high, both
    # 3. tree
    lt, eq = (_of(v, (LEAVES * n,)) for v in (less, equal))
    leaves = LEAVES
    while leaves > 1:
        leaves //= 2
        # pair j stands at [2 j, 2 j + 1], the lower first
        (lt0, eq0), (lt1, eq1) = (
            tuple(Share.of(Share(v.body, (leaves, n), 1, (2 * n, 1), at * n).words(), (leaves * n,)) for v in (lt, eq))
            for at in (0, 1)
        )
        carried, eq = mul_all(party, (eq1, lt0), (eq1, eq0))
        lt = add(party, lt1, carried)
    # 4. sign
    if party.rows:
        top = (c[0] >> 63) & 1
        u = _of(parted(add_public(party, flat(sign * (1 - 2 * top)), top)), (n,))
    else:
        u = _of(sign, (n,))
    return Truth(_exclusive(party, u, lt))


def _pairs(words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The higher and the lower bit of every pair of 2 * word, [32, n] each, lowest pair first."""
    at = torch.arange(0, 2 * LEAVES, 2).unsqueeze(1)
    doubled = words << 1
    return (doubled >> (at + 1)) & 1, (doubled >> at) & 1


def _exclusive(party: Party, x: Share, y: Share) -> Share:
    """x + y - 2 x y of 0 and 1."""
    return sub(party, add(party, x, y), scale_by(party, mul(party, x, y), 2))


def negative_cost(holders: int, n: int) -> Cost:
    """Signs of n elements: 768 bytes an element and peer, 10 kB from the dealer."""
    cost = opening(holders, n) + Cost(dealt=MASK_COST * n + VALUE_COST * (3 * LEAVES + 1) * n)
    for leaves in (16, 8, 4, 2, 1):
        cost += product_cost(holders, 3 * leaves * n, leaves * n) + Cost(dealt=VALUE_COST * leaves * n)
    return cost + product_cost(holders, 2 * n, n)


@opens("compare", "mask", "check")
def zero(party: Party, x: Share) -> Share:
    """x == 0 as 0 and 1: neither negative nor positive, in one comparison of 2 n elements.  Seven rounds."""
    n = x.numel
    flat = Share(Body(x.words()), (n,))
    both = torch.cat([flat.words(), neg(party, flat).words()], 1)
    signs = negative(party, Share.of(both, (2 * n,))).share.body
    below, above = (Share(signs, (n,), 1, None, at) for at in (0, n))
    out = add(party, below, above).words()
    return _of(parted(add_public(party, -out, torch.ones(n, dtype=torch.int64))), x.shape)


def bit_share(party: Party, bit: Truth, shape: tuple[int, ...]) -> Share:
    """The bits as shares of 0 and 1.  No message."""
    out = Share(bit.share.body, shape)
    if bit.flip:
        words = -out.body.words
        out = _of(parted(add_public(party, words, torch.ones(words.shape[1], dtype=torch.int64))), shape)
    out.body.bit = bit  # type: ignore[assignment]
    return out


@opens("mask", "truncate", "check")
def select(party: Party, bit: Truth, x: Share, by: int = 1) -> Share:
    """bit * x / by: a product, and a truncation of it.  One round, or two."""
    out = mul(party, bit_share(party, bit, x.shape), x)
    return truncate(party, out, by) if by > 1 else out


def select_cost(holders: int, n: int, truncated: bool) -> Cost:
    """By bits that were not opened under a mask before."""
    cost = product_cost(holders, 2 * n, n)
    return cost + truncate_cost(holders, n) if truncated else cost


@opens("compare", "mask", "truncate", "check")
def relu(party: Party, x: Share, by: int = 1) -> Share:
    """max(x, 0) / by, with the bits x > 0 left on the result's body.  Eight rounds, or nine."""
    bit = negative(party, sub(party, x.at(1), Share(_one(party).body, x.shape, 1, (0,) * len(x.shape)))).flipped()
    out = select(party, bit, x, by)
    out.body.sign = bit  # type: ignore[assignment]
    return out


larger = larger_by(relu)


def _one(party: Party) -> Share:
    return public(party, torch.tensor([1]))


def relu_cost(holders: int, n: int, truncated: bool) -> Cost:
    """A sign and a selection."""
    return negative_cost(holders, n) + select_cost(holders, n, truncated)


# --- logic --------------------------------------------------------------------------------------


@opens("mask", "check")
def logical_and(party: Party, x: Share, y: Share) -> Share:
    """x & y of 0 and 1: a product."""
    return mul(party, x.at(1), y.at(1))


@opens("mask", "check")
def logical_xor(party: Party, x: Share, y: Share) -> Share:
    """x ^ y of 0 and 1: x + y - 2 x y."""
    return _exclusive(party, x, y)


def _no_bits(party: Party, *operands: object) -> Share:
    """Raises: the bits of integers have no authenticated form here."""
    raise NotImplementedError(
        'the bits of integers (& | ^ and shifts by tensors) are not available under integrity="mac"; logic on truth '
        "values, comparisons, // and % are"
    )


bitwise_and = bitwise_and_public = shift_right_each = _no_bits
