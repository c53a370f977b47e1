"""Selections and logic with codes: products with shared bits."""

from __future__ import annotations

import torch

from pysmpc.mpc.interfaces import Cost, Party, declares_openings
from pysmpc.mpc.mac.comparison_mac import bit_share, negative, negative_cost
from pysmpc.mpc.mac.products_mac import mul, product_cost
from pysmpc.mpc.mac.sharing_mac import add, public, scale_by, sub
from pysmpc.mpc.mac.truncation_mac import truncate, truncate_cost
from pysmpc.ring.shares import MaskedBit, Share


@declares_openings("mask", "truncate", "check")
def select(party: Party, bit: MaskedBit, x: Share, by: int = 1) -> Share:
    """bit * x / by: a product, and a truncation of it.  One round, or two."""
    out = mul(party, bit_share(party, bit, x.shape), x)
    return truncate(party, out, by) if by > 1 else out


def select_cost(holders: int, n: int, truncated: bool) -> Cost:
    """By bits that were not opened under a mask before."""
    cost = product_cost(holders, 2 * n, n)
    return cost + truncate_cost(holders, n) if truncated else cost


@declares_openings("compare", "mask", "truncate", "check")
def relu(party: Party, x: Share, by: int = 1) -> Share:
    """max(x, 0) / by, with the bits x > 0 left on the result's body.  Eight rounds, or nine."""
    one = Share(public(party, torch.tensor([1])).body, x.shape, 1, (0,) * len(x.shape))
    bit = negative(party, sub(party, x.at(1), one)).flipped()
    out = select(party, bit, x, by)
    out.body.sign = bit
    return out


def relu_cost(holders: int, n: int, truncated: bool) -> Cost:
    """A sign and a selection."""
    return negative_cost(holders, n) + select_cost(holders, n, truncated)


@declares_openings("mask", "check")
def logical_and(party: Party, x: Share, y: Share) -> Share:
    """x & y of 0 and 1: a product."""
    return mul(party, x.at(1), y.at(1))


@declares_openings("mask", "check")
def logical_xor(party: Party, x: Share, y: Share) -> Share:
    """x ^ y of 0 and 1: x + y - 2 x y."""
    return sub(party, add(party, x, y), scale_by(party, mul(party, x, y), 2))


def no_bits(party: Party, x: Share, y: object) -> Share:
    """Raises: the bits of integers have no authenticated form here."""
    raise NotImplementedError(
        'the bits of integers (& | ^ and shifts by tensors) are not available under integrity="mac"; logic on truth '
        "values, comparisons, // and % are"
    )
