"""The exponential of secret matrices, by a polynomial of a 32nd part that is squared five times.

method   e^A = (e^(A / 32))^32, of which the inner one is its Taylor polynomial of degree 6 in three products
domain   |A| up to 8 (any norm of matrices), and so results below 2^12
error    a step, and |e^A| 2^-18 max(1, |A|)
rounds   2 for each of 3 + 5 products, and up to 2
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from pysmpc.ops.arithmetic import add
from pysmpc.ops.core import aten, like
from pysmpc.ops.fine_matrices import at, batched, check_square, fine_scale, multiple_of_unit, product, shortened
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor

SQUARINGS = 5


def _polynomial(unit: SecretTensor, powers: list[Any], terms: list[int], scale: int) -> Any:
    """The sum of I, B, B^2, ... over public divisors.  One round for each that is not 1."""
    out = None
    for power, by in zip([unit, *powers], terms, strict=True):
        part = power if by == 1 else shortened(power, scale, Fraction(1, by))
        out = part if out is None else add(out, part)
    return out


@implements(aten.linalg_matrix_exp.default)
def matrix_exp(x: SecretTensor) -> Any:
    """e^A, to a step and |e^A| 2^-18 max(1, |A|), for matrices [..., n, n] with |A| up to 8."""
    check_square(x, "linalg.matrix_exp")
    if not x.numel():
        return like(x, x.window())
    rows, rest = batched(x)
    scale, n = fine_scale(x), x.shape[-1]
    b = shortened(at(rows, scale), scale, Fraction(1, 1 << SQUARINGS))
    b2 = product(b, b, scale)
    b3 = product(b2, b, scale)
    unit = multiple_of_unit(scale, n, b)
    high = _polynomial(multiple_of_unit(scale // 6, n, b), [b, b2, b3], [1, 24, 120, 720], scale)
    out: Any = add(_polynomial(unit, [b, b2], [1, 1, 2], scale), product(b3, high, scale))
    for _ in range(SQUARINGS):
        out = product(out, out, scale)
    found: Any = at(out, x.cell.unit.scale)
    return found.reshape(*rest, n, n)
