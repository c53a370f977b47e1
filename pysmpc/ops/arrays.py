"""NumPy arrays, NumPy numbers and pandas columns as public operands of secrets.

torch takes arrays beside a tensor by asking the tensor for its memory, and Python asks the left
operand first: a secret has no memory, and an array on the left would take it for a list of
numbers.  So a secret answers NumPy's functions itself (`__array_ufunc__`), comes before pandas
in their order of operands, and reads whatever offers `__array__` as a public tensor.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pysmpc.errors import EncodingError, RevealError
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import HOW


def is_array(value: Any) -> bool:
    """Whether a value is an array, a NumPy number, or offers itself as an array; a tensor is none."""
    return not isinstance(value, torch.Tensor | type) and hasattr(value, "__array__")


def plain(value: Any, refusal: str = "cannot meet a secret") -> torch.Tensor:
    """A tensor with an array's values, of memory of its own.

    Raises EncodingError for elements that are no numbers: "arrays of <dtype> <refusal>".
    """
    array = np.asarray(value)
    if array.dtype.kind == "O":  # columns that pandas keeps as objects, such as its nullable integers
        array = _numbers(array, refusal)
    if array.dtype.kind not in "biuf":
        raise EncodingError(
            f"{_what(value)} of {array.dtype} {refusal}; numbers and booleans can: choose numeric columns, or encode "
            "the others as numbers first"
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), copy=True, order="C"))


def _what(value: Any) -> str:
    return "NumPy arrays" if isinstance(value, np.ndarray | np.generic) else f"columns ({type(value).__name__})"


def _numbers(array: np.ndarray[Any, Any], refusal: str) -> np.ndarray[Any, Any]:
    kinds = {type(x) for x in array.reshape(-1).tolist()}
    if kinds and kinds <= {bool}:
        return array.astype(np.bool_)
    if kinds and kinds <= {int, bool}:
        return array.astype(np.int64)
    if kinds and kinds <= {int, float, bool}:
        return array.astype(np.float64)
    other = next((kind.__name__ for kind in kinds if kind not in (int, float, bool)), "nothing")
    raise EncodingError(
        f"an array of Python objects, of which one is a {other}, {refusal}; numbers and booleans can: fill what is "
        "missing, and choose numeric columns"
    )


def operand(value: Any) -> Any:
    """A value as torch takes it beside a secret: arrays as tensors, NumPy numbers as Python's."""
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item() if not isinstance(value, np.longdouble) else float(value)
    return plain(value) if is_array(value) else value


def _matmul(x: Any, y: Any) -> torch.Tensor:
    """x @ y, where a public factor takes the dtype of the secret one, as it does in products of elements."""
    if x.dtype != y.dtype:
        dtype = torch.promote_types(x.dtype, y.dtype)
        x, y = x.to(dtype), y.to(dtype)
    return torch.matmul(x, y)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.divide: operator.truediv,
    np.floor_divide: operator.floordiv, np.remainder: operator.mod, np.power: operator.pow, np.matmul: _matmul,
    np.negative: operator.neg, np.positive: operator.pos, np.absolute: torch.abs, np.fabs: torch.abs,
    np.square: torch.square, np.sign: torch.sign, np.reciprocal: torch.reciprocal, np.sqrt: torch.sqrt,
    np.exp: torch.exp, np.exp2: torch.exp2, np.expm1: torch.expm1, np.log: torch.log, np.log2: torch.log2,
    np.log10: torch.log10, np.log1p: torch.log1p, np.sin: torch.sin, np.cos: torch.cos, np.tan: torch.tan,
    np.arctan: torch.atan, np.tanh: torch.tanh, np.maximum: torch.maximum, np.minimum: torch.minimum,
    np.less: operator.lt, np.less_equal: operator.le, np.greater: operator.gt, np.greater_equal: operator.ge,
    np.equal: operator.eq, np.not_equal: operator.ne, np.logical_and: torch.logical_and,
    np.logical_or: torch.logical_or, np.logical_xor: torch.logical_xor, np.logical_not: torch.logical_not,
    np.bitwise_and: operator.and_, np.bitwise_or: operator.or_, np.bitwise_xor: operator.xor,
    np.invert: operator.invert,
}  # fmt: skip

_TWO = (torch.maximum, torch.minimum, torch.logical_and, torch.logical_or, torch.logical_xor)


def _ufunc(self: SecretTensor, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    """A function of NumPy that met a secret, computed by torch's of the same meaning."""
    function = FUNCTIONS.get(ufunc)
    name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    if function is None or method != "__call__":
        raise RevealError(f"{name} would open a secret unasked; use torch's function on the secret, or {HOW}")
    if options:
        raise TypeError(f"{name} of a secret takes no {', '.join(options)}; it gives a new secret")
    operands = [operand(x) for x in inputs]
    if function in _TWO:
        operands = [x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in operands]
    return function(*operands)


def _function(self: SecretTensor, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Raises: what NumPy computes from arrays would have to open a secret."""
    raise RevealError(
        f"numpy.{func.__name__} would open a secret unasked; use torch's function on the secret, or {HOW}"
    )


def _operator(name: str) -> None:
    """Let an operator of secrets take arrays, which Python or torch would turn to something else."""
    own = getattr(SecretTensor, name)
    product = name in ("__matmul__", "__rmatmul__")

    @functools.wraps(own)
    def method(self: SecretTensor, other: Any) -> Any:
        if isinstance(other, torch.Tensor | int | float) or not is_array(other):
            return own(self, other)
        if product:
            return _matmul(self, plain(other)) if name == "__matmul__" else _matmul(plain(other), self)
        return own(self, operand(other))

    setattr(SecretTensor, name, method)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _operator(f"__{_name}__")
    _operator(f"__r{_name}__")
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "iadd", "isub", "imul", "itruediv", "iand", "ior", "ixor"):
    _operator(f"__{_name}__")

SecretTensor.__array_ufunc__ = _ufunc  # type: ignore[attr-defined]
SecretTensor.__array_function__ = _function  # type: ignore[attr-defined]
SecretTensor.__pandas_priority__ = 1 << 20  # type: ignore[attr-defined]  # above that of frames, 4000
