"""SecureNN's protocols by themselves, on secret tensors of two holders.

    parties = sy.virtual("alice", "bob", protocol="snn")
    x = sy.encrypt(torch.randn(5), parties)
    sy.decrypt(sy.securenn.relu_deriv(x))

With `protocol="snn"` the tensors' own operators use them; these functions work under any
protocol of two holders whose provider takes part.  `pysmpc.mpc.securenn.securenn_comparison` has the
steps, and docs/protocols.md what they cost.  Three holders or more raise PartyError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from pysmpc.api.parties import Parties
from pysmpc.errors import EncodingError, PartyError, SessionMismatchError
from pysmpc.mpc.additive import comparison, products
from pysmpc.mpc.securenn import securenn_comparison as steps
from pysmpc.mpc.securenn import securenn_functions as functions
from pysmpc.ops.core import finer, rescale, result
from pysmpc.ring.fixedpoint import INTEGER
from pysmpc.ring.shares import MaskedBit, Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.torch_modes import undisturbed

__all__ = [
    "OddShares",
    "SharedBits",
    "division",
    "matmul",
    "maxpool",
    "maxpool_deriv",
    "msb",
    "private_compare",
    "relu",
    "relu_deriv",
    "select_share",
    "share_bits",
    "share_convert",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def _locked(function: Function) -> Function:
    """A function that computes with the session of its arguments: one thread at a time."""

    @undisturbed
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        of = next(x for x in (*args, *kwargs.values()) if hasattr(x, "session"))
        with of.session.lock:
            return function(*args, **kwargs)

    return cast(Function, call)


class SharedBits:
    """Bits of numbers from 0 to 2^64 - 1, shared over Z_67: what `private_compare` takes."""

    def __init__(self, session: Session, shares: steps.BitShares) -> None:
        self.session, self.shares, self.shape = session, shares, torch.Size(shares.shape)

    def __repr__(self) -> str:
        return f"SharedBits({', '.join(self.session.holders)}; shape {tuple(self.shape)})"


class OddShares:
    """Shares over Z_(2^64 - 1): what `share_convert` makes and `msb` takes."""

    def __init__(self, session: Session, shares: steps.Odd) -> None:
        self.session, self.shares, self.shape = session, shares, torch.Size(shares.shape)

    @_locked
    def reveal(self) -> torch.Tensor:
        """Open the residues, 0 to 2^64 - 2, as torch.uint64.  One round."""
        opened = steps.reveal_odd(self.session.party, self.shares)
        if not opened.shape[0]:
            raise PartyError("this process holds no share and is not a receiver: it cannot open a secret")
        return opened[0].view(torch.uint64).reshape(self.shape)

    def __repr__(self) -> str:
        return f"OddShares({', '.join(self.session.holders)}; shape {tuple(self.shape)})"


@_locked
def share_bits(values: torch.Tensor, parties: Parties) -> SharedBits:
    """Share the bits of integers over Z_67; negative ones as 2^64 more.  The owner sends 56 bytes a number."""
    if values.dtype.is_floating_point or values.dtype.is_complex:
        raise EncodingError(f"bits are shared of integers, not of {values.dtype}")
    session = parties.session
    steps.pair_of(session.party)
    return SharedBits(session, steps.share_bits(session.party, values.to(torch.int64), values.shape))


def _truth(session: Session, bit: MaskedBit, shape: torch.Size) -> SecretTensor:
    share = comparison.bit_share(session.party, bit, tuple(shape))
    return result(share, session, INTEGER, torch.bool)


@_locked
def private_compare(x: SharedBits, r: torch.Tensor) -> SecretTensor:
    """x > r for public integers r, both read as 0 to 2^64 - 1; torch.bool.  Two rounds."""
    wide = r.to(torch.int64).expand(x.shape).contiguous()
    return _truth(x.session, steps.private_compare(x.session.party, x.shares, wide), x.shape)


@_locked
def share_convert(x: SecretTensor) -> OddShares:
    """The integers behind x, in Z_(2^64 - 1).  Four rounds.

    A negative integer is 2^64 more; 2^64 - 1, which is -1, becomes 0.
    """
    return OddShares(x.session, steps.share_convert(x.session.party, x.window()))


@_locked
def msb(x: SecretTensor | OddShares) -> SecretTensor:
    """The highest bit, torch.bool: whether a secret tensor is negative (seven rounds), or of a residue (three)."""
    if isinstance(x, OddShares):
        return _truth(x.session, steps.compute_msb(x.session.party, x.shares), x.shape)
    return _truth(x.session, steps.negative(x.session.party, x.window()), x.shape)


@_locked
def relu_deriv(x: SecretTensor) -> SecretTensor:
    """x >= 0, torch.bool, which is 1 at 0 as in the paper (torch's slope there is 0).  Seven rounds."""
    return _truth(x.session, steps.negative(x.session.party, x.window()).flipped(), x.shape)


@_locked
def relu(x: SecretTensor) -> SecretTensor:
    """max(x, 0), with the truncation that x still owed.  Seven rounds."""
    cell = x.cell
    by = cell.scale // cell.unit.scale if cell.scale > cell.unit.scale else 1
    return result(steps.relu(x.session.party, x.window(), by), x.session, x.unit, x.dtype)


def _together(*secrets: SecretTensor) -> Session:
    session = secrets[0].session
    if any(x.session is not session for x in secrets):
        raise SessionMismatchError("these secrets are of different parties or protocols; share them alike")
    return session


@_locked
def select_share(bit: SecretTensor, x: SecretTensor, y: SecretTensor) -> SecretTensor:
    """x where the bit is false, y where it is true; of equal shape.  One round."""
    session = _together(bit, x, y)
    first, second = _aligned(x, y)
    out = steps.select_share(session.party, bit.window().at(1), first, second)
    return result(out, session, finer(x.unit, y.unit), torch.promote_types(x.dtype, y.dtype))


def _aligned(x: SecretTensor, y: SecretTensor) -> tuple[Share, Share]:
    x.cell.settle()
    y.cell.settle()
    scale = max(x.cell.scale, y.cell.scale)
    return rescale(x.session, x.window(), scale), rescale(y.session, y.window(), scale)


@_locked
def matmul(x: SecretTensor, y: SecretTensor) -> SecretTensor:
    """x @ y by Beaver's triples, which the provider deals: the default protocol's product."""
    session = _together(x, y)
    x.cell.settle()
    y.cell.settle()
    out = products.matmul(session.party, x.window(), y.window())
    return result(out, session, finer(x.unit, y.unit), torch.promote_types(x.dtype, y.dtype))


@_locked
def division(x: SecretTensor, y: SecretTensor, bits: int = 32) -> SecretTensor:
    """x / y, toward zero at the last step of the encoding, by long division.  8 bits + 9 rounds.

    bits: of the quotient in steps of the encoding, so that |x / y| < 2^bits / s at scale s
    (2^16 at 2^-16).  Takes |x| < 2^62 / s^2 and 0 < |y| < 2^(63 - bits) / s; outside of
    them, as nobody can tell, the result is without meaning.  `x / y` is faster.
    """
    session = _together(x, y)
    if not 1 <= bits <= 62:
        raise EncodingError(f"a quotient has 1 to 62 bits, not {bits}")
    if x.shape != y.shape:
        raise ValueError(f"division takes tensors of equal shape, not {tuple(x.shape)} and {tuple(y.shape)}")
    first, second = _aligned(x, y)
    scale = first.scale
    lifted = session.suite.scale_by(session.party, first, scale)
    flat = Share.of(second.words(), (second.numel,))
    out = functions.signed_division(session.party, lifted, flat, bits)
    unit = finer(x.unit, y.unit)
    dtype = torch.promote_types(x.dtype, y.dtype)
    return result(Share(out.body, tuple(x.shape), scale), session, unit, dtype)


@_locked
def maxpool(x: SecretTensor) -> tuple[SecretTensor, SecretTensor]:
    """Largest along the last dimension, and its place: the first of equals.  8 rounds for each halving."""
    x.cell.settle()
    k = x.shape[-1]
    if k == 0:
        raise IndexError("a maximum of no elements has no value")
    share = x.window()
    flat = Share.of(share.words(), (share.numel // k, k), share.scale)
    values, places = functions.maxpool(x.session.party, flat)
    shape = tuple(x.shape[:-1])
    return (
        result(Share(values.body, shape, share.scale), x.session, x.unit, x.dtype),
        result(Share(places.body, shape), x.session, INTEGER, torch.int64),
    )


@_locked
def maxpool_deriv(places: SecretTensor, k: int) -> SecretTensor:
    """[..., k] int64 with a one at each place, as found by `maxpool` of k elements.  Two rounds."""
    share = places.window()
    out = functions.maxpool_derivative(places.session.party, Share.of(share.words(), (share.numel,)), k)
    return result(Share(out.body, (*places.shape, k)), places.session, INTEGER, torch.int64)
