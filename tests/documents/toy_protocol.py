"""A protocol backend written outside of pysmpc, for two holders: textbook products, and truncation without a message.

It has products of its own, with a fresh triple for each (Beaver, CRYPTO 1991), where pysmpc opens a value once and uses
the opening again; and truncation of each holder by itself (Mohassel and Zhang, S&P 2017). Shares are additive, as those
of pysmpc's default, from which it takes everything else: sharing, sums, comparisons, what functions are made of.

What it assumes: semi-honest holders, and a provider that deals the triples and sees no message. A truncated value z is
wrong by 2^64 / divisor with probability |z| / 2^64.

    import toy_protocol
    parties = sy.virtual("alice", "bob", protocol="toy")
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from pysmpc.protocols import (
    Cost,
    KeySet,
    Party,
    Share,
    Suite,
    declares_openings,
    default,
    derived,
    makers,
    opening,
    register,
)

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


# --- products -------------------------------------------------------------------------------


@declares_openings("mask")
def mul(party: Party, x: Share, y: Share) -> Share:
    """x * y elementwise, broadcast; the scale is the product of the scales.

    One round, in which each holder sends 16 bytes an element; the provider sends 8.
    """
    shape = torch.broadcast_shapes(x.shape, y.shape)
    x, y = (Share.of(each.expand(shape).words(), shape, each.scale) for each in (x, y))
    return triple_product(party, x, y, shape, torch.mul)


def mul_cost(holders: int, n: int) -> Cost:
    """Of n products."""
    return opening(holders, 2 * n) + Cost(dealt=8 * n)


@declares_openings("mask")
def matmul(party: Party, x: Share, y: Share) -> Share:
    """x @ y of [..., m, k] and [..., k, n], leading sizes broadcast.

    One round, in which each holder sends 8 bytes for each element of x and y; the provider sends 8 for one of x @ y.
    """
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = (Share.of(z.expand((*batch, *z.shape[-2:])).words(), (*batch, *z.shape[-2:]), z.scale) for z in (x, y))
    return triple_product(party, x, y, (*batch, x.shape[-2], y.shape[-1]), torch.matmul)


def triple_product(party: Party, x: Share, y: Share, shape: tuple[int, ...], product: Product) -> Share:
    """Any bilinear product of x and y, of size `shape`.

    1. The provider deals shares of uniform a and b, which are streams of its keys and cost nothing, and of
       c = product(a, b), of which the last holder is sent its own.
    2. The holders open d = x - a and e = y - b: uniform, as a and b are, whatever x and y are.
    3. x y = d e + d b + a e + c: each holder adds up what it can, and the first one adds d e.
    """
    keys = party.dealer.keys
    size = int(torch.Size(shape).numel())
    a, b, c = range(first := party.dealer.streams(3), first + 3)

    # 1. deal
    def deal(everyone: KeySet, out: torch.Tensor) -> None:
        whole = product(
            everyone.total(a, x.numel).reshape(x.shape),
            everyone.total(b, y.numel).reshape(y.shape),
        )
        out.copy_(everyone.take(c, whole.reshape(-1)))

    corrections = party.dealer.corrections(size, deal)
    # 2. open
    hidden = [keys.mask(a, x.words()), keys.mask(b, y.words())]
    d, e = party.channel.open(hidden, "mask", [x.shape, y.shape])
    # 3. combine
    words = keys.draw(c, size, corrections)
    of_a, of_b = keys.draw(a, x.numel), keys.draw(b, y.numel)
    for row in range(party.rows):
        opened = d[0].reshape(x.shape), e[0].reshape(y.shape)
        part = product(opened[0], of_b[row].reshape(y.shape)) + product(of_a[row].reshape(x.shape), opened[1])
        if row == party.lead:
            part += product(*opened)
        words[row] += part.reshape(-1)
    return Share.of(words, shape, x.scale * y.scale)


# --- truncation -----------------------------------------------------------------------------


def truncate_all(party: Party, dividends: Sequence[tuple[Share, int]]) -> list[Share]:
    """Each z / by, rounded to one of the two integers next to it: every holder by itself, no message."""
    return [_truncated(party, z, by) for z, by in dividends]


def _truncated(party: Party, z: Share, by: int) -> Share:
    """floor(z_0 / by) + ceil(z_1 / by), for shares taken as signed: z_0 + z_1 = z without a wrap, almost always."""
    words = z.words()
    out = torch.empty_like(words)
    for row, rank in enumerate(party.ranks):
        mine = words[row] if rank == 0 else -words[row]
        quotient = torch.div(mine, by, rounding_mode="floor")
        out[row] = quotient if rank == 0 else -quotient
    return Share.of(out, z.shape, z.scale // by)


# --- the backend ----------------------------------------------------------------------------

#: What is derived here is made of the operations above; `default` would keep those that it has of its own.
toy: Suite = replace(
    default,
    name="toy",
    holders=2,
    mul=mul,
    mul_at_once=derived(makers.mul_at_once),
    square=derived(makers.square),
    matmul=matmul,
    truncate_all=truncate_all,
    truncate=derived(makers.truncate),
    update_all=derived(makers.update_all),
    together=derived(makers.together),
)

register(toy)
