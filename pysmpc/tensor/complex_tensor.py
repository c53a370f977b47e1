"""`ComplexTensor`: a secret of complex numbers, real and imaginary part of each side by side in one storage.

Every operation on one is made of operations on that real secret (`pysmpc.ops.complex_values`), so whoever looks at
operations, records, sends or follows them meets real secrets alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.ring.shares import Share
from pysmpc.tensor import display
from pysmpc.tensor.secret import SecretTensor, lock_of
from pysmpc.tensor.secret_errors import not_implemented
from pysmpc.tensor.storage import TensorStorage
from pysmpc.torch_modes import without_modes

#: What an operation with a complex secret among its operands is made of; by torch's name for all of its overloads.
COMPLEX: dict[Any, Callable[..., Any]] = {}

#: Overloads that are views of their first argument, or change its shape in place.
VIEWS: set[Any] = set()
RESHAPES: set[Any] = set()

#: What to write in the place of an operation that complex secrets do not have, by its name.
INSTEAD: dict[str, str] = {}

PARTS = "complex secrets do not have it; compute with x.real and x.imag, or with torch.view_as_real(x)"


class ComplexTensor(SecretTensor):
    """A complex secret.  Sizes, strides and offset count complex numbers, each of two elements of the cell."""

    modulus: tuple[int, SecretTensor] | None = None  # the version of which the magnitudes are known, and those

    @staticmethod
    def __new__(
        cls,
        cell: TensorStorage,
        size: Any,
        stride: Any,
        offset: int = 0,
        dtype: torch.dtype = torch.complex64,
        requires_grad: bool = False,
    ) -> ComplexTensor:
        self: ComplexTensor = torch.Tensor._make_wrapper_subclass(
            _beside(cell.session.tensor or SecretTensor),
            size,
            strides=stride,
            storage_offset=offset,
            dtype=dtype,
            device=torch.device("cpu"),
            requires_grad=requires_grad,
        )
        self.cell = cell
        self.chained = False
        return self

    @property
    def pair(self) -> SecretTensor:
        """Real and imaginary parts, [*shape, 2]: a window on the same cell, outside the graph."""
        stride = [2 * step for step in self.stride()]
        offset = 2 * int(self.storage_offset())
        return SecretTensor(self.cell, (*self.shape, 2), (*stride, 1), offset, self.dtype.to_real())

    @property
    def whole(self) -> bool:
        """Whether this is all of its cell, in order."""
        return self.pair.whole

    def window(self) -> Share:
        """Raises: shares are of real numbers."""
        raise NotImplementedError(
            "this takes real secrets, and here is a complex one; give torch.view_as_real(x), and make the result "
            "complex again with torch.view_as_complex"
        )

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return display.line(self)

    __str__ = __repr__  # type: ignore[assignment]

    def __complex__(self) -> complex:
        raise RevealError("complex() would open a secret unasked; open it by name with sy.decrypt(x)")

    def reveal(self) -> torch.Tensor:
        """Open the value to the caller, as a plain complex tensor.  One round, 16 bytes an element and holder."""
        return torch.view_as_complex(self.pair.reveal())

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        kwargs = kwargs or {}
        with without_modes(), lock_of([*args, *kwargs.values()]):
            return _dispatched(func, args, kwargs)


@cache
def _beside(kind: type[SecretTensor]) -> type[ComplexTensor]:
    """The complex secrets of the sessions whose real ones are of a type: a subtype, so that torch asks them first."""
    return ComplexTensor if kind is SecretTensor else type(f"Complex{kind.__name__}", (ComplexTensor, kind), {})


def _dispatched(func: Any, args: Any, kwargs: Any) -> Any:
    if func in VIEWS:
        return _viewed(func, args, kwargs)
    if func in RESHAPES:
        with torch._C._DisableTorchDispatch():
            func(*args, **kwargs)
        return args[0]
    name = func.overloadpacket.__name__
    packet = getattr(torch.ops.aten, name, None)
    if packet in COMPLEX and not any(arg.is_out for arg in func._schema.arguments):
        return COMPLEX[packet](*args, **kwargs)
    if func._schema.is_mutable and name.endswith("_") and (functional := _functional(name)) in COMPLEX:
        return _written(args[0], COMPLEX[functional](*args, **kwargs), func)
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        return func.decompose(*args, **kwargs)
    raise not_implemented(func, INSTEAD.get(name.rstrip("_"), PARTS))


def _functional(name: str) -> Any:
    return getattr(torch.ops.aten, name[:-1], None)


def _written(target: Any, value: Any, func: Any) -> Any:
    """The in-place form of an operation: its result is written to the first argument."""
    if not isinstance(target, SecretTensor):
        raise TypeError(
            f"{func} would write a secret into a plain tensor; use the out-of-place form, or encrypt the target"
        )
    return COMPLEX[torch.ops.aten.copy_](target, value)


def _viewed(func: Any, args: Any, kwargs: Any) -> Any:
    x = args[0]
    with torch._C._DisableTorchDispatch():
        out = func(*args, **kwargs)

    def alias(layout: torch.Tensor) -> ComplexTensor:
        return ComplexTensor(x.cell, layout.size(), layout.stride(), int(layout.storage_offset()), x.dtype)

    return alias(out) if isinstance(out, torch.Tensor) else [alias(each) for each in out]
