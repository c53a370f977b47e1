"""Comparisons and choices by bits under masks (src/c/compare.inc.h, src/c/select.inc.h): one call a round."""

from __future__ import annotations

import torch

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import Divisor, empty, optional, packed_words, sized, use_torch_threads

# --- comparison (src/c/compare.inc.h) -----------------------------------------------


NODES = 4  # of a comparison of whole words; one for every 16 bits of what is known to be shorter


def compare_sizes(n: int, nodes: int = NODES, known: bool = False) -> tuple[int, int, int, int, int]:
    """Words of state, of each of three messages of one holder, and of corrections; one node has two messages.

    known: of a comparison that uses the monomials of r that were dealt for another of the same opening.
    """
    return _beaver.compare_sizes(n, nodes, known)


def compare_deal(
    keys: KeySet,
    base: int,
    n: int,
    out: torch.Tensor,
    nodes: int = NODES,
    known: bool = False,
    masks: torch.Tensor | None = None,
) -> None:
    """Dealer: corrections for the sign bits of n elements; known: without the monomials of r.

    masks [n]: under which they are opened, where that is not what the stream `base` shares.
    """
    use_torch_threads()
    words = compare_sizes(n, nodes, known)[4]
    launch(_ring.compare_deal, keys.native, base, nodes, sized(out, words), n, known, optional(masks, n))


def compare_chunks(
    keys: KeySet,
    base: int,
    corrections: torch.Tensor | None,
    c: torch.Tensor,
    offset: int,
    nodes: int = NODES,
    known: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Holders, round 1: (state, message) from the opened c.

    known: base of the comparison whose monomials of r these are, if another's; it had as many nodes, and
    the corrections are those of that one, too.
    """
    n = c.shape[1]
    sizes = compare_sizes(n, nodes)
    state, message = empty(keys.rows, sizes[0]), empty(keys.rows, sizes[1])
    launch(
        _ring.compare_chunks,
        keys.native,
        base,
        nodes,
        corrections,
        c,
        offset,
        state,
        message,
        n,
        base if known is None else known,
    )
    return state, message


def compare_nodes(
    keys: KeySet,
    base: int,
    corrections: torch.Tensor | None,
    opened: torch.Tensor,
    state: torch.Tensor,
    n: int,
    nodes: int = NODES,
    known: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Holders, round 2: (sign so far, message); of one node, the message is the sign bit under rho.

    known: the corrections were dealt without the monomials of r.
    """
    sign, message = empty(keys.rows, packed_words(n)), empty(keys.rows, compare_sizes(n, nodes)[2])
    launch(
        _ring.compare_nodes,
        keys.native,
        base,
        nodes,
        corrections,
        opened,
        state,
        sign,
        message,
        n,
        known,
    )
    return sign, message


def compare_root(
    keys: KeySet,
    base: int,
    corrections: torch.Tensor | None,
    opened: torch.Tensor,
    sign: torch.Tensor,
    n: int,
    nodes: int = NODES,
    known: bool = False,
) -> torch.Tensor:
    """Holders, round 3: the sign bit under rho; known: as of the nodes."""
    message = empty(keys.rows, compare_sizes(n, nodes)[3])
    launch(_ring.compare_root, keys.native, base, nodes, corrections, opened, sign, message, n, known)
    return message


# --- bits in both worlds (src/c/select.inc.h) ----------------------------------------


def bit_deal(keys: KeySet, rho: int, stream: int, out: torch.Tensor) -> None:
    """Dealer: corrections [n] of arithmetic shares of the bits of stream rho."""
    launch(_ring.bit_deal, keys.native, rho, stream, out, out.numel())


def bit_share(keys: KeySet, beta: torch.Tensor, rho: torch.Tensor) -> torch.Tensor:
    """Holders: arithmetic shares [rows, n] of the bits beta ^ rho."""
    out = torch.empty_like(rho)
    launch(_ring.bit_share, keys.native, beta, rho, out, rho.shape[1])
    return out


def select_rows(divisor: Divisor | None) -> int:
    """Corrections an element of a select."""
    return 1 if divisor is None else 4


def select_deal(keys: KeySet, base: int, rho: int, divisor: Divisor | None, out: torch.Tensor) -> None:
    """Dealer: corrections [select_rows * n]."""
    use_torch_threads()
    n = out.numel() // select_rows(divisor)
    launch(_ring.select_deal, keys.native, base, rho, divisor, out, n)


def select_finish(
    keys: KeySet,
    base: int,
    divisor: Divisor | None,
    flip: bool,
    c: torch.Tensor,
    beta: torch.Tensor,
    rho: torch.Tensor,
    corrections: torch.Tensor | None,
) -> torch.Tensor:
    """Holders: shares [rows, n] of bit * floor(z / divisor) from the opened c."""
    n = c.shape[1]
    out = empty(keys.rows, n)
    launch(
        _ring.select_finish,
        keys.native,
        base,
        divisor,
        flip,
        c,
        beta,
        sized(rho, keys.rows, n),
        optional(corrections, select_rows(divisor) * n),
        out,
        n,
    )
    return out
