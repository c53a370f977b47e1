"""Fixed-point numbers: real values as integers under a public scale.

A `Precision` is the nominal resolution of a tensor: `base ** digits` steps to one.
The scale under which a value is held at the moment may be finer (a product keeps
the scales of both factors until something needs it coarser), so functions here take
the scale as an integer.  Encoded values stay below 2**62 in magnitude: that is the
bound of truncation, and lets two of them be subtracted and compared exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import torch

from pysmpc.errors import EncodingError
from pysmpc.ring.prg import KeySet

LIMIT = 1 << 62
FINEST = 52  # fractional bits of the state of an optimizer, at most


@dataclass(frozen=True)
class Precision:
    """Resolution of a fixed-point tensor: steps of base**-digits.

    Binary encodings round to nearest; others round toward zero, as the documents'
    `fix_precision` does (0.123 at two decimals is the integer 12).
    """

    base: int = 2
    digits: int = 16
    fine: bool = field(default=False, repr=False, compare=False)  # may be finer than users may ask for
    scale: int = field(init=False, repr=False, compare=False)  # steps to one

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", int(self.base ** max(self.digits, 0)))
        finest = FINEST if self.fine and self.base == 2 else 30
        if self.base < 2 or self.digits < 0 or self.scale > 1 << finest:
            raise EncodingError(
                f"precision base={self.base}, digits={self.digits} is not usable: the base must be at least 2 "
                "and base**digits at most 2**30"
            )


def kept(base: int, digits: int) -> Precision:
    """The precision of a value that was made before: it may be the state of an optimizer, and finer than others."""
    return Precision(base, digits, fine=True)


INTEGER = Precision(2, 0)
BINARY16 = Precision(2, 16)


def encode(values: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Integers of `values` under precision.scale, as contiguous int64.

    Raises EncodingError for NaN, infinity, magnitudes of 2**62 and above, and tensors that are
    sparse or not in this machine's memory.
    """
    check_memory(values)
    if values.dtype == torch.bool:
        return values.to(torch.int64) * precision.scale
    if values.is_complex():
        raise EncodingError("complex values cannot be encoded; share real and imaginary parts apart")
    if values.is_floating_point() and values.element_size() < 2:
        raise EncodingError(f"values of {values.dtype} cannot be encoded; convert them first: x.to(torch.bfloat16)")
    if not values.is_floating_point():
        return _encode_integers(values, precision.scale)
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    if not bool(torch.isfinite(values).all()):
        raise EncodingError("NaN or infinity cannot be encoded; clean the data first (torch.nan_to_num)")
    rounded = _steps(values, precision)
    if bool((rounded.abs() >= LIMIT).any()):
        raise _out_of_range(precision.scale)
    return rounded.to(torch.int64).contiguous()


PIECE = 1 << 16  # elements of a large tensor that are converted at a time, so that what they become stays in the cache


class Encoding:
    """Real values as integers under precision.scale, which are computed where they are wanted.

    So a large tensor is shared without a copy of its integers.  Whether all values can be encoded is
    known at once, as rounding keeps their order.

    extremes: the smallest and the largest integer; empty where there is none.  Raises as `encode`.
    """

    __slots__ = ("_precision", "_values", "extremes")

    def __init__(self, values: torch.Tensor, precision: Precision) -> None:
        check_memory(values)
        self._values, self._precision = values.detach().reshape(-1), precision
        known = values.dtype in (torch.float32, torch.float64) and values.numel() > 0
        if not known:
            self.extremes = encode(self._values[:1], precision)  # values of no use are refused by their kind
        if values.numel():
            self.extremes = encode(torch.stack(torch.aminmax(self._values)), precision)

    def __repr__(self) -> str:
        return f"Encoding(of {self._values.numel()})"

    def write(self, out: torch.Tensor, keys: KeySet | None = None, stream: int = 0) -> None:
        """out [n] = the integers, less what all but the last of some holders draw from a stream."""
        if self._at_once():
            (keys or _NOBODY).encode(stream, self._values, self._precision.digits, out)
            return
        for part, place in zip(torch.split(self._values, PIECE), torch.split(out, PIECE), strict=True):
            place.copy_(encode(part, self._precision))
        if keys is not None:
            keys.take(stream, out)

    def _at_once(self) -> bool:
        """Whether the values are such that a kernel encodes and masks them in one pass: in steps of a power of two."""
        x = self._values
        kind = x.dtype in (torch.float32, torch.float64) and x.is_contiguous() and x.numel() > 1 and not x.is_neg()
        return kind and self._precision.base == 2 and x.storage_offset() * x.element_size() % 8 == x.data_ptr() % 8 == 0

    def words(self) -> torch.Tensor:
        """The integers [n]."""
        out = torch.empty(self._values.numel(), dtype=torch.int64)
        self.write(out)
        return out


_NOBODY = KeySet([])

Integers = torch.Tensor | Encoding


def check_layout(values: torch.Tensor) -> None:
    """Raise EncodingError for a tensor that is not a plain array of its elements, such as a sparse one."""
    if values.layout is torch.strided and not values.is_nested and not values.is_quantized:
        return
    if values.is_nested:
        what, way = "nested", "pad it first, x.to_padded_tensor(0.0)"
    elif values.is_quantized:
        what, way = "quantized", "use its values, x.dequantize()"
    else:
        sparse = "sparse, " if "sparse" in str(values.layout) else ""
        what, way = (
            f"{sparse}{values.layout}",
            "make it dense first, x.to_dense(); which elements are stored would be public",
        )
    raise EncodingError(f"this tensor ({what}) cannot be encoded: {way}")


def check_memory(values: torch.Tensor) -> None:
    """Raise EncodingError for a tensor whose elements are not an array in this machine's memory."""
    check_layout(values)
    if values.device.type != "cpu":
        way = "it has no values" if values.is_meta else "shares are on the CPU: use x.cpu()"
        raise EncodingError(f"a public tensor on the device {values.device} cannot meet a secret: {way}")


def _steps(values: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Real values in steps of a precision: whole numbers, still real."""
    # binary scales multiply exactly; others round once more than they would in float32
    if precision.base == 2:
        return (values.double() * precision.scale).round()
    return (values * precision.scale).trunc()


def saturating(values: torch.Tensor, precision: Precision, limit: int = LIMIT) -> tuple[torch.Tensor, torch.Tensor]:
    """As `encode`, but what is out of range becomes the nearest value in range, and nothing is raised for a value.

    Returns the integers, of magnitudes below `limit`, and how many of them were out of range: a
    tensor of one number, so that nothing here branches on what the values are.  Values must not be NaN.

    For an owner's data at a worker, where an error would tell a driver about them.
    """
    if values.is_complex():
        raise EncodingError("complex values cannot be encoded; share real and imaginary parts apart")
    if not values.is_floating_point():
        integers = values.to(torch.int64)
        bound = (limit - 1) // precision.scale
        kept = integers.clamp(-bound, bound)
        return (kept * precision.scale).contiguous(), (kept != integers).sum()
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    return _whole(_steps(values, precision), limit)


def saturating_integers(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Real values rounded toward zero, saturated as by `saturating`."""
    return _whole(values.double().trunc(), LIMIT)


def _whole(rounded: torch.Tensor, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers that are still real, as integers below a limit in magnitude; how many were not."""
    # 2**62 is a float64 and converts; limit - 1 need not be one, so that bound is applied to integers
    kept = rounded.double().clamp(-float(LIMIT), float(LIMIT)).to(torch.int64).clamp(1 - limit, limit - 1)
    return kept.contiguous(), (rounded.abs() >= limit).sum()


def _encode_integers(values: torch.Tensor, scale: int, what: str = "a value") -> torch.Tensor:
    if values.dtype == torch.uint64:
        if bool((values.view(torch.int64) < 0).any()):
            raise _out_of_range(scale, what)
        values = values.view(torch.int64)
    values = values.to(torch.int64)
    bound = (LIMIT - 1) // scale
    if bool(((values > bound) | (values < -bound)).any()):
        raise _out_of_range(scale, what)
    return (values * scale).contiguous()


def _out_of_range(scale: int, what: str = "a value") -> EncodingError:
    return EncodingError(
        f"{what} is out of range: at scale {scale} magnitudes must stay below {LIMIT / scale:.4g}; "
        "rescale the data or use fewer fractional digits"
    )


# --- public numbers between steps, for comparisons -----------------------------------

_COMPARED = "a public value that a secret is compared with"


@lru_cache(maxsize=4096, typed=True)
def number_in_steps(value: float | Fraction, scale: int, dtype: torch.dtype = torch.float64) -> tuple[int, int]:
    """floor(value * scale) and the ceiling, exactly, of a finite number.

    The steps of a decimal encoding are no floats: one that a step decodes to in `dtype`
    (0.3 at three decimals) is that step.  Raises EncodingError for magnitudes of 2**62
    and above.
    """
    exact = Fraction(value) * scale
    below, above = math.floor(exact), math.ceil(exact)
    if below >= LIMIT or above <= -LIMIT:
        raise _out_of_range(scale, _COMPARED)
    if below != above and isinstance(value, float):
        near = round(exact)
        decoded = near / scale
        if dtype != torch.float64:
            decoded = float(torch.tensor(decoded, dtype=torch.float64).to(dtype))
        if decoded == value and abs(near) * torch.finfo(dtype).eps <= _CLOSE:
            return near, near
    return below, above


#: Of a step: how far apart floats may be that are read as the step next to them.
_CLOSE = 0.25


def tensor_in_steps(values: torch.Tensor, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`number_in_steps` of every element of a finite tensor, as int64."""
    if values.is_complex():
        raise EncodingError("complex values cannot be compared with a secret")
    if not values.is_floating_point():
        words = _encode_integers(values, scale, _COMPARED)
        return words, words
    exact = values.double()
    steps = exact * float(scale)  # without rounding, by a power of two
    if bool((steps.abs() >= LIMIT).any()):
        raise _out_of_range(scale, _COMPARED)
    below, above = steps.floor(), steps.ceil()
    if not scale & (scale - 1):
        return below.to(torch.int64), above.to(torch.int64)
    near = steps.round()
    step = (near / float(scale)).to(values.dtype) == values
    step &= near.abs() * torch.finfo(values.dtype).eps <= _CLOSE
    low, high = (torch.where(step, near, x).to(torch.int64) for x in (below, above))
    # where rounding the product may have moved it across a step, or onto one
    unsure = ~step & ((steps - near).abs() <= steps.abs() * 2.0**-50) & (exact != 0)
    for i in map(tuple, unsure.nonzero().tolist()):
        low[i], high[i] = number_in_steps(float(exact[i]), scale, values.dtype)
    return low, high


def fraction_in_steps(integers: torch.Tensor, by: Fraction, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """floor(integers * by) and the ceiling, exactly, as int64.  scale: for the message, where that is out of range."""
    if by == 1:
        return integers, integers
    found = [divmod(x * by.numerator, by.denominator) for x in integers.reshape(-1).tolist()]
    below = [whole for whole, _ in found]
    above = [whole + (rest > 0) for whole, rest in found]
    if max(below, default=0) >= LIMIT or min(above, default=0) <= -LIMIT:
        raise _out_of_range(scale, _COMPARED)
    low, high = (torch.tensor(x, dtype=torch.int64).reshape(integers.shape) for x in (below, above))
    return low, high


def decode(integers: torch.Tensor, scale: int) -> torch.Tensor:
    """The real values of integers under a scale, in float64."""
    return integers.double() / scale


def decode_as(integers: torch.Tensor, scale: int, dtype: torch.dtype, out: torch.Tensor | None = None) -> torch.Tensor:
    """The real values of integers under a scale, rounded to double precision and then to a dtype; piece by piece.

    out: where they are wanted, contiguous.
    """
    if out is None and integers.numel() <= PIECE:
        return decode(integers, scale).to(dtype)
    out = torch.empty(integers.shape, dtype=dtype) if out is None else out
    for part, place in zip(torch.split(integers.reshape(-1), PIECE), torch.split(out.view(-1), PIECE), strict=True):
        place.copy_(decode(part, scale))
    return out


def rational(value: float, base: int, bits: int) -> Fraction:
    """A fraction near `value` whose denominator suits the base.

    Base 2: at most `bits` significant bits over a power of two.  Other bases: the
    simplest fraction that is `value` in float64, where both parts have at most
    `bits` bits; otherwise as for base 2.
    """
    exact = Fraction(value)
    if exact.numerator.bit_length() <= bits:
        return exact
    if base != 2:
        simple = exact.limit_denominator(1 << min(bits, 20))
        if float(simple) == value and simple.numerator.bit_length() <= bits:
            return simple
    shift = exact.numerator.bit_length() - bits
    if shift > 0 and exact.denominator > 1:
        step = Fraction(2) ** (shift - (exact.denominator.bit_length() - 1))
        return round(exact / step) * step
    return exact
