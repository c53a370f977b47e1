"""Sharing, opening, and everything that needs no message.

Secrets are additive: n shares, uniform but for their sum, over Z_2^64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from pysmpc.mpc.additive.affine_values import Multiple
from pysmpc.mpc.additive.products import begin
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import product_kernels, z2k
from pysmpc.ring.fixedpoint import Encoding, Integers
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share, broadcast


def share(party: Party, values: Integers | None, shape: Sequence[int], scale: int = 1) -> Share:
    """Shares of integers that the owner's process knows (None in the others).

    1. Owner and holder i know a key; each share is a stream under it.
    2. The owner sends values - (sum of the streams) to the last holder, who adds it.
    Rounds: none to wait for; the owner sends 8 bytes an element.
    """
    n = math.prod(shape)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        if values is None:
            raise ValueError("the owner of an input must pass its values")
        if isinstance(values, Encoding):
            values.write(out, keys, stream)
            return
        out.copy_(values.reshape(-1))
        keys.take(stream, out)

    stream = party.owner.streams()
    keys = party.owner.keys
    words = z2k.empty(keys.rows, n)
    corrections = party.owner.corrections(n, deal, words[keys.target] if keys.target >= 0 else None)
    return Share.of(keys.draw(stream, n, corrections, words), shape, scale)


def share_cost(holders: int, n: int) -> Cost:
    """8 bytes an element from the owner, to one holder."""
    return Cost(shared=8 * n)


@declares_openings("reveal")
def reveal(party: Party, *secrets: Share) -> list[torch.Tensor]:
    """The integers behind each share, as int64 of its shape; one round for all.

    Every hosting process learns them: a user must have asked.  A process without
    holders gets tensors of size [0, *shape].
    """
    begin(party, *(x.body for x in secrets))
    opened = party.channel.open([x.words() for x in secrets], "reveal", [x.shape for x in secrets])
    return [
        words.reshape(x.shape) if words.shape[0] else words.reshape(0, *x.shape)
        for words, x in zip(opened, secrets, strict=True)
    ]


def reveal_cost(holders: int, n: int) -> Cost:
    """8 bytes an element to every other holder."""
    return opening(holders, n)


def public(party: Party, values: torch.Tensor, scale: int = 1) -> Share:
    """A public constant as a share: the leading holder's, zeros for the others."""
    words = torch.zeros((party.rows, values.numel()), dtype=torch.int64)
    if party.lead is not None:
        words[party.lead] = values.reshape(-1)
    return Share.of(words, values.shape, scale)


def refresh(party: Party, x: Share) -> Share:
    """The same secret under fresh shares.  No message."""
    words = x.words()
    stream = party.dealer.streams()
    zero = party.next.mask(stream, party.own.draw(stream, words.shape[1]))
    return Share.of(z2k.add(words, zero), x.shape, x.scale)


Operation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _pair(x: Share, y: Share) -> tuple[Share, Share, tuple[int, ...]]:
    shape = broadcast(x.shape, y.shape)
    return x.expand(shape), y.expand(shape), shape


def add(party: Party, x: Share, y: Share) -> Share:
    """x + y, broadcast; scales must be equal.  No message."""
    return _linear(x, y, z2k.add, torch.add)


def sub(party: Party, x: Share, y: Share) -> Share:
    """x - y, broadcast; scales must be equal.  No message."""
    return _linear(x, y, z2k.sub, torch.sub)


def _linear(x: Share, y: Share, flat: Operation, strided: Operation) -> Share:
    """Of whole bodies alike by the kernel, of windows by torch, whose integers wrap alike; in the order of memory."""
    order = (x if x.numel >= y.numel else y).order
    if order is not None and x.shape == y.shape and x.order == y.order:
        return Share.ordered(flat(x.body.words, y.body.words), x.shape, order, x.scale)
    x, y, shape = _pair(x, y)
    if order is None or len(order) != len(shape):
        order = tuple(range(len(shape)))
    axes = (0, *(axis + 1 for axis in order))
    out = strided(x.window(x.body.words).permute(axes), y.window(y.body.words).permute(axes)).contiguous()
    return Share.ordered(out.reshape(out.shape[0], math.prod(shape)), shape, order, x.scale)


def neg(party: Party, x: Share) -> Share:
    """-x.  No message."""
    return scale_by(party, x, -1)


def scale_by(party: Party, x: Share, factor: int) -> Share:
    """factor * x for a public integer.  No message."""
    out = Share.of(z2k.scale(x.words(), factor), x.shape, x.scale)
    if x.dense and x.body.affine is not None:
        out.body.affine = Multiple(x.body.affine, factor)
    return out


def mul_public(party: Party, x: Share, values: torch.Tensor, scale: int = 1) -> Share:
    """x * values for public integers, broadcast.  No message."""
    shape = broadcast(x.shape, values.shape)
    words = x.expand(shape).words()
    flat = values.expand(shape).reshape(1, -1).expand(words.shape).contiguous()
    return Share.of(z2k.mul(words, flat), shape, x.scale * scale)


def matmul_public(party: Party, x: Share, values: torch.Tensor, scale: int = 1, left: bool = True) -> Share:
    """x @ values (left) or values @ x for public integers [..., k, n].  No message."""
    a, b = (x.shape, values.shape) if left else (values.shape, x.shape)
    batch = broadcast(a[:-2], b[:-2])
    shape = (*batch, a[-2], b[-1])
    secret = x.expand((*batch, *x.shape[-2:])).window(x.body.words)
    plain = values.expand(*batch, *values.shape[-2:])
    out = torch.empty((party.rows, *shape), dtype=torch.int64)
    for row in range(party.rows):
        first, second = (secret[row], plain) if left else (plain, secret[row])
        product_kernels.matmul(first, second, out[row])
    return Share.of(out.reshape(party.rows, math.prod(shape)), shape, x.scale * scale)
