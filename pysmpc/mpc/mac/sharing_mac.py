"""Inputs, results, and everything that needs no message, with codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from pysmpc.errors import IntegrityError, PartyError
from pysmpc.mpc.additive import sharing
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.mpc.mac.dealt import SETS, VALUE_COST, constant, deal, loose, share_of, tight
from pysmpc.mpc.mac.opening import check, check_cost, open_words
from pysmpc.ring import z2k, z2k_128
from pysmpc.ring.fixedpoint import Encoding, Integers
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share, broadcast


def share(party: Party, values: Integers | None, shape: Sequence[int], scale: int = 1) -> Share:
    """Authenticated shares of integers that the owner's process knows (None in the others).

    1. Owner and dealer know a mask r; the dealer shares it with its code.
    2. The owner sends x - r to every holder; the leading one adds it.
    8 bytes an element and holder from the owner, 32 from the dealer.
    """
    notary = party.notary
    if notary is None:
        raise PartyError(
            'integrity="mac" needs a provider that deals while the program runs, as it shares a key with the owners of '
            "inputs; what was dealt ahead has none: leave integrity out, or deal as the program runs"
        )
    n = math.prod(shape)
    stream = party.owner.streams()
    # 1. the mask
    mask = z2k_128.loosen(deal(party, n, lambda keys: notary.total(stream, n)))

    # 2. the difference
    def difference(keys: KeySet, out: torch.Tensor) -> None:
        if values is None:
            raise ValueError("the owner of an input must pass its values")
        if isinstance(values, Encoding):
            values.write(out)
        else:
            out.copy_(values.reshape(-1))
        out.sub_(notary.total(stream, n))

    sent = party.owner.broadcast(n, difference)
    return share_of(mask if sent is None else mask + constant(party, sent), tuple(shape), scale)


def share_cost(holders: int, n: int) -> Cost:
    """The owner sends to every holder."""
    return Cost(shared=8 * n * holders, dealt=VALUE_COST * n)


@declares_openings("reveal", "check")
def reveal(party: Party, *secrets: Share) -> list[torch.Tensor]:
    """The integers behind each share, when all that was opened so far, and they, were found right.

    1. Check what waits: five rounds, if something does.
    2. Open: one round.
    3. Check that: five rounds.  IntegrityError, and no value, if anything was altered.
    """
    check(party)
    opened = open_words(party, [tight(party, x.words()) for x in secrets], "reveal", [x.shape for x in secrets])
    check(party)
    return [
        words.reshape(x.shape) if words.shape[0] else words.reshape(0, *x.shape)
        for words, x in zip(opened, secrets, strict=True)
    ]


@declares_openings("reveal", "check")
def disclose(party: Party, x: Share, permitted: bool) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """Open x to the owner of inputs alone, if every holder permits it; 12 rounds, or 7 where nothing waits.

    1. Check what waits.
    2. Owner and dealer know a mask r; the dealer shares it with its code.
    3. Tell each other who permits it: one round.
    4. Open x + r, or r if somebody does not; check that.
    5. Each holder sends it to the owner, who takes r away.
    Returns what a holder sends, [1 or 0, n], and what the owner makes of all that were sent, [holders, n].
    """
    notary = party.notary
    assert notary is not None
    n, stream = x.numel, party.owner.streams()
    # 1. check
    check(party)
    # 2. the mask
    mask = deal(party, n, lambda keys: notary.total(stream, n))
    # 3. consent
    said = party.channel.gather(torch.full((party.rows, 1), int(permitted), dtype=torch.int64), "check")
    # 4. open
    words = loose(party, x.words()) * int(bool((said == 1).all()))
    opened = open_words(party, [z2k_128.pack(words, mask)], "reveal", [x.shape])[0]
    check(party)

    # 5. at the owner
    def received(rows: torch.Tensor) -> torch.Tensor:
        if bool((rows != rows[0]).any()):
            party.end.reason = "the holders sent different words of one opening"
            raise IntegrityError(f"{party.end.reason}; no result is returned")
        return rows[0] - notary.total(stream, n)

    return opened, received


def disclose_cost(holders: int, n: int) -> Cost:
    """Where nothing waits for a check."""
    return reveal_cost(holders, n) + opening(holders, 1) + Cost(dealt=VALUE_COST * n)


def reveal_cost(holders: int, n: int) -> Cost:
    """Where nothing waits for a check."""
    return opening(holders, n) + check_cost(holders)


def public(party: Party, values: torch.Tensor, scale: int = 1) -> Share:
    """A public constant.  No message."""
    return share_of(constant(party, values), tuple(values.shape), scale)


def refresh(party: Party, x: Share) -> Share:
    """The same secret under fresh shares and codes.  No message."""
    n, stream = x.numel, party.dealer.streams()
    one, two = (
        z2k_128.loosen(keys.draw(stream, SETS * z2k_128.WORDS * n).view(party.rows * SETS, z2k_128.WORDS, n))
        for keys in (party.own, party.next)
    )
    return share_of(z2k_128.loosen(z2k_128.pack(loose(party, x.words()) + one - two)), x.shape, x.scale)


add, sub = sharing.add, sharing.sub


def neg(party: Party, x: Share) -> Share:
    """-x.  No message."""
    return Share.of(-x.words(), x.shape, x.scale)


def scale_by(party: Party, x: Share, factor: int) -> Share:
    """factor * x for a public integer.  No message."""
    return mul_public(party, x, torch.tensor(z2k.wrap(factor))).at(x.scale)


def mul_public(party: Party, x: Share, values: torch.Tensor, scale: int = 1) -> Share:
    """x * values for public integers, broadcast.  No message."""
    shape = broadcast(x.shape, values.shape)
    flat = values.expand(shape).reshape(-1).contiguous()
    words = loose(party, x.expand(shape).words())
    return share_of(z2k_128.combine(None, words, flat), shape, x.scale * scale)


def matmul_public(party: Party, x: Share, values: torch.Tensor, scale: int = 1, left: bool = True) -> Share:
    """x @ values (left) or values @ x for public integers.  No message."""
    a, b = (x.shape, values.shape) if left else (values.shape, x.shape)
    batch = broadcast(a[:-2], b[:-2])
    shape = (*batch, a[-2], b[-1])
    x = x.expand((*batch, *x.shape[-2:]))
    plain = values.expand(*batch, *values.shape[-2:]).reshape(math.prod(batch), *values.shape[-2:])
    z = torch.zeros(party.rows * SETS, z2k_128.WORDS, math.prod(shape), dtype=torch.int64)
    matrices = tight(party, x.words()).view(party.rows * SETS, z2k_128.WORDS, math.prod(batch), *x.shape[-2:])
    z2k_128.add_matmul(z, plain, matrices, left=left)
    return share_of(z2k_128.loosen(z), shape, x.scale * scale)
