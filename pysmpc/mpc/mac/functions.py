"""Openings and dealt words of nonlinear functions, with codes."""

from __future__ import annotations

import torch

from pysmpc.mpc.functions.masked import Masked, Words
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.mpc.mac.dealt import MASK_COST, VALUE_COST, constant, deal, deal_mask, loose, share_of
from pysmpc.mpc.mac.opening import open_words
from pysmpc.ring import z2k, z2k_128
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share


@declares_openings("function", "check")
def mask_open(party: Party, x: Share) -> Masked:
    """Open c = x + r for a fresh uniform r that has a code.  One round."""
    stream, mask = deal_mask(party, x.numel)
    message = z2k_128.pack(loose(party, x.words()).contiguous(), mask)
    [c] = open_words(party, [message], "function", [x.shape])
    return Masked(stream, c, x.shape)


def mask_open_cost(holders: int, n: int) -> Cost:
    """One word an element and peer."""
    return opening(holders, n) + Cost(dealt=MASK_COST * n)


def deal_words(party: Party, x: Masked, planes: int, words: Words) -> torch.Tensor:
    """Tight [rows * 2, 2, planes * n] shares of words(r), with codes."""

    def values(keys: KeySet) -> torch.Tensor:
        return words(x.mask(keys)).reshape(-1).contiguous()

    return deal(party, planes * x.n, values)


def deal_words_cost(holders: int, n: int, planes: int) -> Cost:
    """A share and a code of each word."""
    return Cost(dealt=VALUE_COST * planes * n)


def combine(party: Party, x: Masked, dealt: torch.Tensor, factors: Words, constant_: int = 0, scale: int = 1) -> Share:
    """The sum of public factors times dealt words, and a public constant.  No message."""
    n = x.n
    out = torch.zeros(dealt.shape[0], z2k_128.LANES, n, dtype=torch.int64)
    if party.rows:
        found = factors(x.c.reshape(-1)).contiguous()
        planes = dealt.view(dealt.shape[0], z2k_128.WORDS, len(found), n)
        for plane, factor in enumerate(found):
            out += z2k_128.scaled(planes[:, :, plane].contiguous(), factor)
        out = z2k_128.loosen(z2k_128.pack(out.contiguous()))
        if constant_:
            out = out + constant(party, torch.full((n,), z2k.wrap(constant_), dtype=torch.int64))
    return share_of(out, x.shape, scale)
