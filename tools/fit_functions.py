"""Make pysmpc/protocols/functions/fits.py: coefficients of the trigonometric sums.

    python tools/fit_functions.py > pysmpc/protocols/functions/fits.py

Least squares on Chebyshev nodes, the weights moved towards where the error is largest (Lawson's
iteration), in float64 by numpy.  What is printed has been rounded to what the kernels take, and the
stated error was measured on other points, beyond the ends too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

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


def _columns(x: Array, period: float, terms: int) -> Array:
    w = 2 * math.pi / period * np.arange(1, terms + 1)
    return np.concatenate([np.ones((len(x), 1)), np.cos(np.outer(x, w)), np.sin(np.outer(x, w))], 1)


def _fit(f: Function, lo: float, hi: float, period: float, terms: int, slope: float, relative: bool = False) -> Array:
    nodes = np.cos(math.pi * (np.arange(NODES) + 0.5) / NODES)
    x = (lo + hi) / 2 + (hi - lo) / 2 * nodes
    columns, wanted = _columns(x, period, terms), f(x) - slope * x
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


def main() -> None:
    """Print the module."""
    print('"""Coefficients of trigonometric sums: made by tools/fit_functions.py, not by hand."""\n')
    print("from pysmpc.protocols.functions.characters import Fit\n")
    for name, (f, lo, hi, period, terms, slope, below, above) in FITS.items():
        found = np.array([_rounded(v) for v in _fit(f, lo, hi, period, terms, slope, name in RELATIVE)])
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
    main()
