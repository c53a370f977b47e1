"""Make pysmpc/mpc/functions/fits.py and piecewise_fits.py: coefficients of the trigonometric sums.

    python tools/fit_functions.py > pysmpc/mpc/functions/fits.py
    python tools/fit_functions.py piecewise > pysmpc/mpc/functions/piecewise_fits.py

Least squares on Chebyshev nodes, the weights moved towards where the error is largest (Lawson's
iteration), in float64 by numpy.  What is printed has been rounded to what the kernels take, and the
stated error was measured on other points, beyond the ends too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

NODES = 4001
ROUNDS = 80
BITS = 40  # of what is printed: finer than any coefficient that the kernels take


def _erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x])


def _sigmoid(x: Array) -> Array:
    return np.where(x < 0, np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))), 1 / (1 + np.exp(-np.abs(x))))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _normal(x: Array) -> Array:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


def _density(x: Array) -> Array:
    out: Array = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return out


_SLOPE, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh(x: Array) -> Array:
    out: Array = x * _sigmoid(2 * _SLOPE * (x + _CUBIC * x**3))
    return out


def _gelu_tanh_derivative(x: Array) -> Array:
    s = _sigmoid(2 * _SLOPE * (x + _CUBIC * x**3))
    out: Array = s + x * s * (1 - s) * 2 * _SLOPE * (1 + 3 * _CUBIC * x * x)
    return out


def _silu_derivative(x: Array) -> Array:
    s = _sigmoid(x)
    out: Array = s + x * s * (1 - s)
    return out


def _mish(x: Array) -> Array:
    out: Array = x * np.tanh(_softplus(x))
    return out


def _mish_derivative(x: Array) -> Array:
    t = np.tanh(_softplus(x))
    out: Array = t + x * (1 - t * t) * _sigmoid(x)
    return out


#: name: (function, lo, hi, period, terms, slope, below, above)
FITS: dict[str, tuple[Function, float, float, float, int, float, float, float | str]] = {
    "SIGMOID": (_sigmoid, -12.5, 12.5, 32, 18, 0, 0, 1),
    "SIGMOID_DERIVATIVE": (lambda x: _sigmoid(x) * _sigmoid(-x), -12.5, 12.5, 32, 18, 0, 0, 0),
    "SOFTPLUS": (_softplus, -12.5, 12.5, 32, 18, 0.5, 0, "x"),
    "SILU": (lambda x: x * _sigmoid(x), -14.5, 14.5, 36, 20, 0.5, 0, "x"),
    "SILU_DERIVATIVE": (_silu_derivative, -14.5, 14.5, 36, 20, 0, 0, 1),
    "TANH_PLUS_ONE": (lambda x: 1 + np.tanh(x), -6.25, 6.25, 16, 18, 0, 0, 2),
    "TANH_DERIVATIVE": (lambda x: 1 - np.tanh(x) ** 2, -6.25, 6.25, 16, 18, 0, 0, 0),
    "ERF_PLUS_ONE": (lambda x: 1 + _erf(x), -3.4, 3.4, 10, 11, 0, 0, 2),
    "ERF_DERIVATIVE": (lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x), -3.4, 3.4, 10, 11, 0, 0, 0),
    "GELU": (lambda x: x * _normal(x), -5, 5, 14, 10, 0.5, 0, "x"),
    "GELU_DERIVATIVE": (lambda x: _normal(x) + x * _density(x), -5, 5, 14, 10, 0, 0, 1),
    "GELU_TANH": (_gelu_tanh, -5, 5, 14, 10, 0.5, 0, "x"),
    "GELU_TANH_DERIVATIVE": (_gelu_tanh_derivative, -5, 5, 14, 10, 0, 0, 1),
    "MISH": (_mish, -14.5, 14.5, 34, 24, 0.5, 0, "x"),
    "MISH_DERIVATIVE": (_mish_derivative, -14.5, 14.5, 34, 24, 0, 0, 1),
    "LOG": (np.log, 1, 4, 8, 8, 0, 0, 0),
    "RSQRT": (lambda x: x**-0.5, 1, 4, 8, 8, 0, 0, 0),
    "SQRT": (np.sqrt, 1, 4, 8, 8, 0, 0, 0),
    "RECIPROCAL": (lambda x: 1 / x, 1, 4, 8, 8, 0, 0, 0),
    # of two stages of a normaliser, for the moments of optimizers: few terms, and one period for all
    "WIDE_RSQRT": (lambda x: x**-0.5, 0.985, 6.42, 14, 4, 0, 0, 0),
    "WIDE_SQRT": (np.sqrt, 0.985, 6.42, 14, 4, 0, 0, 0),
    "WIDE_RECIPROCAL": (lambda x: 1 / x, 0.985, 6.42, 14, 4, 0, 0, 0),
    "WIDE_INVERSE": (lambda x: 1 / x, 0.985, 6.42, 14, 6, 0, 0, 0),
}

#: Those whose error relative to the function is made small.
RELATIVE = {"WIDE_RSQRT", "WIDE_RECIPROCAL", "WIDE_INVERSE"}


def _columns(x: Array, period: float, terms: int, symmetry: str = "") -> Array:
    w = 2 * math.pi / period * np.arange(1, terms + 1)
    columns = np.concatenate([np.ones((len(x), 1)), np.cos(np.outer(x, w)), np.sin(np.outer(x, w))], 1)
    if symmetry == "odd":
        columns[:, : terms + 1] = 0
    if symmetry == "even":
        columns[:, terms + 1 :] = 0
    return columns


def _fit(
    f: Function,
    lo: float,
    hi: float,
    period: float,
    terms: int,
    slope: float,
    symmetry: str = "",
    relative: bool = False,
) -> Array:
    nodes = np.cos(math.pi * (np.arange(NODES) + 0.5) / NODES)
    x = (lo + hi) / 2 + (hi - lo) / 2 * nodes
    columns, wanted = _columns(x, period, terms, symmetry), f(x) - slope * x
    weights, best, least = np.ones(NODES), np.zeros(columns.shape[1]), math.inf
    unit = 1 / np.abs(f(x)) if relative else np.ones(NODES)
    for _ in range(ROUNDS):
        root = np.sqrt(weights) * unit
        found, *_ = np.linalg.lstsq(columns * root[:, None], wanted * root, rcond=1e-13)
        error = np.abs(columns @ found - wanted) * unit
        if error.max() < least:
            least, best = error.max(), found
        weights = weights * (error / error.max() + 1e-3)
        weights /= weights.mean()
    return best


def _rounded(v: float) -> float:
    return float(Fraction(round(v * 2**BITS), 2**BITS))


# --- functions by pieces -----------------------------------------------------------------


def _arcsine(x: Array) -> Array:
    u = 1 - x  # exact near 1
    out: Array = np.where(x < 0.5, np.arcsin(np.minimum(x, 0.5)), math.pi / 2 - 2 * np.arcsin(np.sqrt(u / 2)))
    return out


def _area_tangent(x: Array) -> Array:
    out: Array = (np.log1p(x) - np.log1p(-x)) / 2
    return out


def _area_cosine(x: Array) -> Array:
    u = x - 1
    out: Array = np.log1p(u + np.sqrt(u * (u + 2)))
    return out


#: Where pieces end: |x| for functions that grow, or end, far out; those which end at 1.
FAR = (3, 24, 192, 1536, 12288, 2**18)
GROWING = (3, 16, 128, 1024, 8192)  # the last period is a power of two: so are those of what follows, at every scale
NEAR_ONE = tuple(1 - 2.0**-k for k in (2, 5, 8, 11, 14, 17, 20, 23, 26))
FROM_ONE = (*(1 + 2.0**-k for k in (26, 23, 20, 17, 14, 11, 8, 5, 2)), *GROWING)

#: What they have in common: (symmetry, ends, a period and terms for each piece, periods in lengths of the piece).
SHAPES: dict[str, tuple[str, tuple[float, ...], tuple[tuple[float, int], ...]]] = {
    "ATAN": ("odd", (0, *FAR), ((2.7, 14), (2.1, 9), (2.1, 7), (2.1, 6), (2.1, 4), (1.6, 4))),
    "ATAN_OF_QUOTIENT": ("odd", (0, 1), ((4, 8),)),
    "ASINH": ("odd", (0, *GROWING), ((3, 12), (2.1, 8), *((16 / 7, 9),) * 3)),
    "ASINH_DERIVATIVE": (
        "even",
        (0, *GROWING, 2.0**16, 2.0**19),
        ((3, 12), (2.1, 8), *((16 / 7, 9),) * 5),
    ),
    "ACOSH": (
        "right",
        FROM_ONE,
        ((2.4, 3), (2.4, 3), (2.4, 4), (2.4, 4), (2.4, 5), (2.4, 5), (2.4, 6), (2.4, 6), (2.4, 8), (2.1, 8),
         *((16 / 7, 9),) * 3),
    ),
    "ASIN": (
        "odd",
        (0, *NEAR_ONE),
        ((3.4, 9), (2.4, 6), (2.4, 6), (2.4, 5), (2.4, 4), (2.4, 4), (2.4, 4), (2.4, 3), (2.4, 3)),
    ),
    "ATANH": ("odd", (0, *NEAR_ONE), ((3.4, 10), *((2.1, 8),) * 8)),
}  # fmt: skip

#: name: (function, shape, symmetry if another, options of the table)
TABLES: dict[str, tuple[Function, str, str, str]] = {
    "ATAN": (np.arctan, "ATAN", "", f"beyond={math.pi / 2!r}"),
    "ATAN_DERIVATIVE": (lambda x: 1 / (1 + x * x), "ATAN", "even", ""),
    "ATAN_OF_QUOTIENT": (np.arctan, "ATAN_OF_QUOTIENT", "", ""),
    "ASINH": (np.arcsinh, "ASINH", "", f"growth={math.log(8)!r}"),
    "ASINH_DERIVATIVE": (lambda x: 1 / np.sqrt(1 + x * x), "ASINH_DERIVATIVE", "", ""),
    "ACOSH": (_area_cosine, "ACOSH", "", f"growth={math.log(8)!r}, finest=1 << 26"),
    "ASIN": (_arcsine, "ASIN", "", f"beyond={math.pi / 2!r}, finest=1 << 26"),
    "ATANH": (_area_tangent, "ATANH", "", "finest=1 << 26"),
}


def _print_fit(
    indent: str, name: str, lo: float, hi: float, period: float, slope: float, found: Array, rest: str
) -> None:
    terms = (len(found) - 1) // 2
    print(f"Fit(\n{indent}    name={name!r},".replace("'", '"'))
    for field, value in (("lo", lo), ("hi", hi), ("period", period), ("constant", found[0]), ("slope", slope)):
        print(f"{indent}    {field}={float(value)!r},")
    for field, values in (("cosines", found[1 : terms + 1]), ("sines", found[terms + 1 :])):
        print(f"{indent}    {field}=(")
        for v in values:
            print(f"{indent}        {float(v)!r},")
        print(f"{indent}    ),")
    print(f"{indent}    {rest}\n{indent})", end="")


def piecewise() -> None:
    """Print the module of tables."""
    print('"""Coefficients of functions by pieces: made by tools/fit_functions.py, not by hand."""\n')
    print("from pysmpc.mpc.functions.characters import Fit")
    print("from pysmpc.mpc.functions.piecewise_polynomials import Table")
    for name, (f, shape, other, options) in TABLES.items():
        symmetry, ends, sizes = SHAPES[shape]
        symmetry = other or symmetry
        print(f'\n{name} = Table(\n    name="{name.lower()}",\n    symmetry="{symmetry}",\n    pieces=(')
        for i, ((lo, hi), (length, terms)) in enumerate(zip(pairwise(ends), sizes, strict=True)):
            kind = symmetry if i == 0 and symmetry != "right" else ""
            period = length * (hi - lo)
            found = np.array([_rounded(v) for v in _fit(f, lo, hi, period, terms, 0, kind)])
            x = np.linspace(lo, hi, 100_003)
            error = float(np.abs(_columns(x, period, terms, kind) @ found - f(x)).max())
            total = abs(found[0]) + np.hypot(found[1 : terms + 1], found[terms + 1 :]).sum()
            assert total < 256, (name, lo, hi, total)
            print("        ", end="")
            shown = f"2^{math.log2(error):.1f}; the sum is at most {total:.1f}"
            rest = f"below=0.0,\n            above=0.0,\n            error={float(f'{error:.3g}')!r},  # {shown}"
            _print_fit(" " * 8, f"{name.lower()} from {lo:.8g} on", lo, hi, period, 0, found, rest)
            print(",")
            print(f"{name} {lo:.8g} {hi:.8g}: {terms} terms, {shown}", file=sys.stderr)
        print("    ),")
        for option in options.split(", ") if options else ():
            print(f"    {option},")
        print(")")


def main() -> None:
    """Print the module."""
    print('"""Coefficients of trigonometric sums: made by tools/fit_functions.py, not by hand."""\n')
    print("from pysmpc.mpc.functions.characters import Fit\n")
    for name, (f, lo, hi, period, terms, slope, below, above) in FITS.items():
        found = np.array([_rounded(v) for v in _fit(f, lo, hi, period, terms, slope, relative=name in RELATIVE)])
        x = np.linspace(lo, hi, 100_003)
        apart = np.abs(_columns(x, period, terms) @ found + slope * x - f(x))
        error = float((apart / np.abs(f(x)) if name in RELATIVE else apart).max())
        if lo < 0:
            out = np.linspace(hi, 4 * hi, 10_001)
            high = out if above == "x" else np.full_like(out, float(above))
            error = max(error, float(np.abs(f(out) - high).max()), float(np.abs(f(-out) - below).max()))
        total = abs(found[0]) + np.hypot(found[1 : terms + 1], found[terms + 1 :]).sum()
        assert total < 100, (name, total)
        print(f"{name} = Fit(")
        print(f'    name="{name.lower()}",')
        for field, value in (("lo", lo), ("hi", hi), ("period", period)):
            print(f"    {field}={float(value)!r},")
        print(f"    constant={found[0]!r},".replace("np.float64(", "").replace(")", ""))
        print(f"    slope={float(slope)!r},")
        for field, values in (("cosines", found[1 : terms + 1]), ("sines", found[terms + 1 :])):
            print(f"    {field}=(")
            for v in values:
                print(f"        {float(v)!r},")
            print("    ),")
        shown = '"x"' if above == "x" else repr(float(above))
        print(f"    below={float(below)!r},\n    above={shown},")
        print(f"    error={float(f'{error:.3g}')!r},  # 2^{math.log2(error):.1f}; the sum is at most {total:.1f}\n)")


if __name__ == "__main__":
    piecewise() if sys.argv[1:] == ["piecewise"] else main()
