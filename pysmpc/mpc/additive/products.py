"""Products of two secrets: Beaver's trick with one mask a value.

A value x is opened once, as d = x - a for a mask a that only the dealer knows in
full; the opening serves every later product of x or of a window on it.  With d and
the opening e = y - b of y,
    x y = (d + a) y = d y + a e + a b,
so holder i computes d * y_i + a_i * e + c_i with its shares y_i, a_i and a share c_i
of a b, which the dealer corrects at one holder.  (Beaver, CRYPTO 1991; one mask a
value: Escudero et al., "circuit-dependent" masks, as in ABY2.0 section 3.)

Cost of each product: one round if an operand was not opened before, in which a
holder sends it (8 bytes an element to every other holder, 2 of what a truncation by
a power of two up to 2^16 made: `reopening`), and 8 bytes from the
dealer an element of the result.  An elementwise product of what truncations have
opened takes no round (`pysmpc.mpc.additive.affine`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import torch

from pysmpc.mpc.additive import affine
from pysmpc.mpc.additive.affine_values import factor_of
from pysmpc.mpc.additive.reopening import open_again, opened_again, short_of
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import affine_kernels, product_kernels, z2k
from pysmpc.ring.matrix_layout import Layout
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share, ShareStorage, broadcast

DEFER_MIN_SIZE = 1 << 14  # elements from which it may pay to deal the c of a matrix product later, or never


@declares_openings("mask")
def open_masked(party: Party, *secrets: Share) -> None:
    """Open the bodies that have not been, under fresh masks, or the rest of those that truncations prepared: at most
    one round."""
    waiting = unopened(secrets)
    if not waiting:
        return
    fresh = [body for body in waiting if short_of(body) is None]
    pairs = [(body, known) for body in waiting if (known := short_of(body)) is not None]
    again, short = [body for body, _ in pairs], [each for _, each in pairs]
    messages, shapes = masked(party, fresh), [b.shape for b in (*fresh, *again)]
    found, lanes = party.channel.open_lanes(messages, open_again(party, again, short), "mask", shapes)
    for body, opened in zip(fresh, found, strict=True):
        body.opened = opened
    opened_again(again, short, lanes)


def unopened(secrets: Sequence[Share]) -> list[ShareStorage]:
    """The bodies that have not been opened, each once."""
    return list({id(x.body): x.body for x in secrets if x.body.opened is None}.values())


def masked(party: Party, bodies: Sequence[ShareStorage]) -> list[torch.Tensor]:
    """Messages that open bodies under fresh masks; whoever sends them stores what comes of it as `opened`."""
    messages = []
    for body in bodies:
        body.mask = party.dealer.streams()
        messages.append(party.dealer.keys.mask(body.mask, body.words))
    return messages


def _mask_of(body: ShareStorage) -> int:
    assert body.mask is not None
    return body.mask


def _opened(x: Share) -> torch.Tensor:
    assert x.body.opened is not None
    return x.body.opened


def _known(x: Share) -> affine_kernels.Known:
    """Of a whole body that was opened, for kernels that take each of its words once and draw no mask again."""
    return affine_kernels.Known(_mask_of(x.body), None, False, 1, _opened(x))


def _masks(keys: KeySet, x: Share) -> torch.Tensor:
    """Shares of the mask of x's whole body, drawn again."""
    return keys.draw(_mask_of(x.body), x.body.n)


def _total_mask(keys: KeySet, x: Share) -> torch.Tensor:
    """Dealer: the mask of x's whole body, [1, n]."""
    return keys.total(_mask_of(x.body), x.body.n).reshape(1, -1)


@declares_openings("mask")
def mul(party: Party, x: Share, y: Share) -> Share:
    """x * y elementwise, broadcast; the scale is the product of the scales.

    Of operands that need not be opened it is `affine.mul`.
    """
    x, y = x.compact(), y.compact()
    shape = broadcast(x.shape, y.shape)
    known = affine.pair_of(x, y, math.prod(shape))
    if known is not None:
        return affine.mul(party, x.expand(shape), y.expand(shape), *known)
    # 1. open what has not been opened
    open_masked(party, x, y)
    x, y = x.expand(shape), y.expand(shape)
    n = math.prod(shape)
    whole = (_known(x), _known(y)) if x.dense and y.dense else None

    # 2. the dealer shares a * b
    def deal(keys: KeySet, out: torch.Tensor) -> None:
        if whole is not None:
            affine_kernels.affine_deal(keys, stream, *whole, out)
            return
        product = z2k.mul(x.gather(_total_mask(keys, x)), y.gather(_total_mask(keys, y)))
        out.copy_(keys.take(stream, product.reshape(-1)))

    stream = party.dealer.streams()
    corrections = party.dealer.corrections(n, deal)
    # 3. combine
    if whole is not None:
        words = affine_kernels.affine_mul(party.dealer.keys, stream, *whole, x.body.words, y.body.words, corrections)
        return Share.of(words, shape, x.scale * y.scale)
    z = party.dealer.keys.draw(stream, n, corrections)
    a = x.gather(_masks(party.dealer.keys, x))
    product_kernels.beaver_mul(party.dealer.keys, x.gather(_opened(x)), y.words(), a, y.gather(_opened(y)), z)
    return Share.of(z, shape, x.scale * y.scale)


@declares_openings("mask")
def mul_at_once(party: Party, x: Share, y: Share) -> Share:
    """x * y elementwise, broadcast: without a round where both follow from dealt words, however many.

    What selections and truncations give does, and what was opened for products.  Of a selection there are five words,
    of a truncation two, of an opening one, and 8 bytes an element are dealt for each pair of them: 200 bytes for two
    selections.  `mul` opens such values in a round, 8 bytes each to every other holder, and deals 8.
    """
    a, b = factor_of(x), factor_of(y)
    shape = broadcast(x.shape, y.shape)
    if a is None or b is None or not math.prod(shape):
        return mul(party, x, y)
    return affine.mul(party, x.expand(shape), y.expand(shape), a, b)


@declares_openings("mask")
def square(party: Party, x: Share) -> Share:
    """x * x elementwise: d (x + a) + a a, so one multiplication a holder, or d (2 x - d) + a a of whole bodies.

    Of what need not be opened it is `affine.square`.
    """
    x = x.compact()
    known = affine.single_of(x)
    if known is not None:
        return affine.square(party, x, known)
    open_masked(party, x)
    n = x.numel
    whole = _known(x) if x.dense else None

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        if whole is not None:
            affine_kernels.affine_deal(keys, stream, whole, None, out)
            return
        a = x.gather(_total_mask(keys, x))
        out.copy_(keys.take(stream, z2k.mul(a, a).reshape(-1)))

    stream = party.dealer.streams()
    corrections = party.dealer.corrections(n, deal)
    if whole is not None:
        words = affine_kernels.affine_square(party.dealer.keys, stream, whole, x.body.words, corrections)
        return Share.of(words, x.shape, x.scale * x.scale)
    z = party.dealer.keys.draw(stream, n, corrections)
    product_kernels.beaver_square(
        party.dealer.keys, x.gather(_opened(x)), x.words(), x.gather(_masks(party.dealer.keys, x)), z
    )
    return Share.of(z, x.shape, x.scale * x.scale)


@declares_openings("mask")
def matmul(party: Party, x: Share, y: Share) -> Share:
    """x @ y for [..., m, k] and [..., k, n], leading sizes broadcast.

    Where neither was opened yet, both are when the product is first read (`Unopened`).
    """
    x, y = x.compact(), y.compact()
    batch = broadcast(x.shape[:-2], y.shape[:-2])
    x, y = x.expand((*batch, *x.shape[-2:])), y.expand((*batch, *y.shape[-2:]))
    shape, scale = (*batch, x.shape[-2], y.shape[-1]), x.scale * y.scale
    if x.body.opened is None and y.body.opened is None:
        later = Share(Unopened(party, x, y, math.prod(shape)), shape, scale)
        later.body.shape = shape
        return later
    product = _product(party, x, x.matrices(), y, y.matrices())
    if product.size < DEFER_MIN_SIZE:
        return Share.of(_completed(party, product), shape, scale)
    out = Share(DeferredProduct(party, product), shape, scale)
    out.body.shape = shape
    return out


class DeferredProduct(ShareStorage):
    """A product without its c: the dealer shares a @ b when the words are first read.

    Where a truncation reads it first, no c is ever dealt (truncation.update_all).  Which
    it is follows from the program, so all processes agree.
    """

    __slots__ = ("_held", "_party", "product")

    def __init__(self, party: Party, product: product_kernels.Product) -> None:
        self._party = party
        self._held: torch.Tensor
        super().__init__(product.part(party.dealer.keys))
        self.product: product_kernels.Product | None = product

    @classmethod
    def resumed(cls, party: Party, words: torch.Tensor, product: product_kernels.Product) -> DeferredProduct:
        """One whose words without c are there."""
        out = cls.__new__(cls)
        out._party = party
        ShareStorage.__init__(out, words)
        out.product = product
        return out

    @property
    def unread(self) -> bool:
        """Whether some of the words is still to be made."""
        return self.product is not None

    @property
    def held(self) -> torch.Tensor:
        """The words without c, until it is dealt."""
        return self._held

    @property
    def words(self) -> torch.Tensor:
        """The words of the product."""
        return self._read()

    @words.setter
    def words(self, words: torch.Tensor) -> None:
        self._held, self.product = words, None

    def own(self) -> None:
        """The words go on in memory of their own."""
        self._held = self._held.clone()

    def _read(self) -> torch.Tensor:
        if self.product is not None:
            dealer, product = self._party.dealer, self.product
            stream = dealer.streams()
            corrections = dealer.corrections(product.size, lambda keys, out: product.deal(keys, stream, out))
            self.words = z2k.add(self._held, dealer.keys.draw(stream, product.size, corrections))
        return self._held


class Unopened(DeferredProduct):
    """A product of matrices that were not opened: they are when the words are first read.

    Several that are read together are opened in one round (`begin`): gradients of a public model, which are not
    needed before all of them are there.  Which it is follows from the program, so all processes agree.
    """

    __slots__ = ("operands",)

    def __init__(self, party: Party, x: Share, y: Share, n: int) -> None:
        self._party = party
        self.operands: tuple[Share, Share] | None = None
        # no tensor, not even one without memory: a recorded step would take what that refers to for its own
        ShareStorage.__init__(self, SimpleNamespace(shape=(party.rows, n)))  # type: ignore[arg-type]
        self.operands = x, y

    @property
    def rows(self) -> int:
        """Hosted holders."""
        return self._party.rows

    @property
    def unread(self) -> bool:
        """Whether some of the words is still to be made."""
        return self.operands is not None or self.product is not None

    @property
    def held(self) -> torch.Tensor:
        """The words without c, until it is dealt; zeros before anything was opened."""
        if self.operands is not None:
            return torch.zeros((self.rows, self.n), dtype=torch.int64)
        return self._held

    def begin(self) -> None:
        """Multiply: the operands are open."""
        assert self.operands is not None
        (x, y), self.operands = self.operands, None
        product = _product(self._party, x, x.matrices(), y, y.matrices())
        if product.size < DEFER_MIN_SIZE:
            self.words = _completed(self._party, product)
        else:
            self._held, self.product = product.part(self._party.dealer.keys), product

    @property
    def words(self) -> torch.Tensor:
        """The words of the product."""
        begin(self._party, self)
        return self._read()

    @words.setter
    def words(self, words: torch.Tensor) -> None:
        self._held, self.product, self.operands = words, None, None


@declares_openings("mask")
def begin(party: Party, *bodies: ShareStorage) -> None:
    """Open what products that are read together have still to open: one round, or none."""
    waiting = list({id(body): body for body in bodies if isinstance(body, Unopened) and body.operands}.values())
    open_masked(party, *(x for body in waiting for x in body.operands or ()))
    for body in waiting:
        body.begin()


@declares_openings("mask")
def contract(party: Party, x: Share, left: Layout, y: Share, right: Layout) -> torch.Tensor:
    """Products of the matrices that two layouts find in the bodies of x and y.

    Returns words [rows, batch * m * n].
    """
    return _completed(party, _product(party, x, left, y, right))


def _product(party: Party, x: Share, left: Layout, y: Share, right: Layout) -> product_kernels.Product:
    # 1. open what has not been opened
    open_masked(party, x, y)
    return product_kernels.Product(_factor(x, left), _factor(y, right))


def _completed(party: Party, product: product_kernels.Product) -> torch.Tensor:
    # 2. the dealer shares a @ b
    stream = party.dealer.streams()
    corrections = party.dealer.corrections(product.size, lambda keys, out: product.deal(keys, stream, out))
    # 3. combine: d @ y_i + a_i @ e, or x_i @ e + d @ b_i where fewer masks are drawn
    return product.combine(party.dealer.keys, stream, corrections)


def _factor(x: Share, layout: Layout) -> product_kernels.Factor:
    return product_kernels.Factor(x.body.words, _opened(x), _mask_of(x.body), layout)


def product_cost(holders: int, fresh: int, n: int) -> Cost:
    """A product with n results whose operands have `fresh` unopened elements."""
    cost = Cost(dealt=8 * n)
    return cost + opening(holders, fresh) if fresh else cost
