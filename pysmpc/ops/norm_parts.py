"""What torch's derivative of a p-norm makes of the norm and of its argument, one operation after another.

The derivative is x |x|^(p - 2) (grad / norm^(p - 1)), or for p < 1 sign(x) |x|^(p - 1) grad norm^(1 - p), whose factors
leave the range of fixed-point numbers where their product does not.  Each step is computed as it is written; beside its
result is noted what it is a part of (`Part`), and the last product is taken of the gradient of the norm itself, whose
values are in [-1, 1] for p > 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pysmpc.mpc.functions.known_values import known_of
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import flush

KEY = "part of a norm"


@dataclass(frozen=True, eq=False)
class PowerNorm:
    """A p-norm.  argument: of which; sizes: magnitudes of its gradient, of that shape; norm: itself."""

    p: float
    argument: SecretTensor
    sizes: Callable[[], Any]
    norm: SecretTensor


@dataclass(frozen=True, eq=False)
class Part:
    """A step of the derivative.

    role: "norm"; "power", norm^(p - 1); "quotient", rest / norm^(p - 1), and without a rest norm^(1 - p); "weight",
    |rest|^(p - 2) for p > 2 and |rest|^(p - 1) for others; "product", the argument times its weight for p > 2, and for
    others rest times the weight.
    """

    role: str
    of: PowerNorm
    rest: Any = None


@contextmanager
def unchecked(session: Session) -> Iterator[None]:
    """While a step of the derivative is computed: nobody reads what has no room, as the last product does not.

    Who computes the same for a purpose of his own has, on the way there, values that are larger still.
    """
    flush(session)  # updates that wait were checked, and are not left out of that
    before, session.checks = session.checks, None
    try:
        yield
    finally:
        session.checks = before


def note_part(x: SecretTensor, role: str, of: PowerNorm, rest: Any = None) -> SecretTensor:
    """x itself, settled, with what it is a part of."""
    x.cell.settle()
    known_of(x.cell.body).kept[KEY] = Part(role, of, rest)
    return x


def has_part(x: Any) -> bool:
    """Whether anything is noted, in whatever role."""
    known = x.cell.body.functions if isinstance(x, SecretTensor) else None
    return known is not None and KEY in known.kept


def part_of(x: Any, role: str) -> Part | None:
    """What x is a part of in this role, if it is the whole of what was noted, in its order."""
    known = x.cell.body.functions if isinstance(x, SecretTensor) else None
    part: Part | None = None if known is None else known.kept.get(KEY)
    if part is None or part.role != role:
        return None
    share = x.window()
    return part if share.dense and share.numel == share.body.n and _fits(share.shape, part) else None


def _fits(shape: tuple[int, ...], part: Part) -> bool:
    """Whether a weight or a product has the shape that it was noted with: the norm's slopes are of no other."""
    if part.role not in ("weight", "product"):
        return True
    own, rest = part.of.argument.shape, getattr(part.rest, "shape", ())
    return shape == tuple(torch.broadcast_shapes(own, rest) if part.role == "product" else own)


def note_norm(x: Share, of: PowerNorm) -> None:
    """Note that x is the argument of a norm."""
    known_of(x.body).kept["norm of", x.layout] = of


def norm_of(x: Share) -> PowerNorm | None:
    """The last norm that was taken of x."""
    known = x.body.functions
    return None if known is None else known.kept.get(("norm of", x.layout))
