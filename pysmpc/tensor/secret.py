"""`SecretTensor`: a torch.Tensor whose values are shares.

It sits below autograd: torch records the graph, runs the backward pass, views, modules and optimizers; what reaches
here are aten operations, each with a handler in `pysmpc.ops` that works on shares.  An operation without a handler
raises (`secret_errors.py`).

Sizes, strides and offset are the tensor's own (torch computes them), and describe a window on a `TensorStorage`, which
torch views of one another share.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from html import escape
from typing import Any, cast

import torch

from pysmpc.errors import RevealError
from pysmpc.ring.fixedpoint import Precision
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.tensor import display
from pysmpc.tensor.chains import describe
from pysmpc.tensor.methods import TensorMethods
from pysmpc.tensor.secret_errors import HOW, loop_instead, not_implemented
from pysmpc.tensor.storage import TensorStorage
from pysmpc.tensor.watching import WATCHERS, WITNESSES, run_watched
from pysmpc.torch_modes import FOLLOWERS, active, following, without_modes

Handler = Callable[..., Any]
HANDLERS: dict[Any, Handler] = {}

#: Asked in order for an operation without a handler: fallback(func, args, kwargs) is its result, or NotImplemented.
FALLBACKS: list[Callable[[Any, Any, Any], Any]] = []

#: Asked first, of real secrets: complex(args, kwargs) is a complex result (`ops.complex_values`), or NotImplemented.
MAY_BE_COMPLEX: dict[Any, Callable[[Any, Any], Any]] = {}

#: Attributes that a copy of a secret does not take from it.
_OWN = ("cell", "_is_param", "pysmpc_id")

_memory: Any = torch._C.TensorBase.__dict__["data"]

_NO_LOCK = nullcontext()


def lock_of(operands: Iterable[Any]) -> AbstractContextManager[None]:
    """The lock of the session that the operands are of; no lock where they are public."""
    for x in operands:
        if isinstance(x, SecretTensor):
            session: Session = x.cell.session
        elif isinstance(x, list | tuple):
            if (found := lock_of(x)) is not _NO_LOCK:
                return found
            continue
        elif isinstance(x, Session):
            session = x
        else:
            continue
        if not session.plain:
            return session.lock
    return _NO_LOCK


class SecretTensor(TensorMethods):
    """A secret-shared tensor.  Make one with `sy.encrypt` or `.share`; open it with
    `sy.decrypt`, `.reveal()` or `.get()`."""

    cell: TensorStorage
    chained: bool  # made by share(requires_grad=True): shown as AutogradTensor

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(
        cls,
        cell: TensorStorage,
        size: Any,
        stride: Any,
        offset: int | torch.SymInt = 0,
        dtype: torch.dtype = torch.float32,
        requires_grad: bool = False,
    ) -> SecretTensor:
        assert not dtype.is_complex, "a secret of complex numbers is a ComplexTensor"
        self: SecretTensor = torch.Tensor._make_wrapper_subclass(
            cell.session.tensor or cls,
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    @classmethod
    def of(cls, share: Share, session: Session, unit: Precision, dtype: torch.dtype) -> SecretTensor:
        """A tensor of its own for a share."""
        return cls(
            TensorStorage(share.body, share.scale, unit, session), share.shape, share.strides, share.offset, dtype
        )

    @property
    def session(self) -> Session:
        """Holders and provider."""
        return self.cell.session

    @property
    def unit(self) -> Precision:
        """Nominal resolution."""
        return self.cell.unit

    @property
    def whole(self) -> bool:
        """Whether this is all of its cell, in order."""
        return self.storage_offset() == 0 and self.is_contiguous() and self.numel() == self.cell._body.n

    def window(self) -> Share:
        """This tensor's part of its cell."""
        return Share(self.cell.body, self.size(), self.cell.scale, self.stride(), int(self.storage_offset()))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func in MAY_BE_COMPLEX and (out := MAY_BE_COMPLEX[func](args, kwargs)) is not NotImplemented:
            return out
        if FOLLOWERS and (follower := following()) is not None:
            return follower.operation(cls, func, args, kwargs or {})
        if active():
            with without_modes():
                return cls._dispatched(func, args, kwargs)
        return cls._dispatched(func, args, kwargs)

    @classmethod
    def _dispatched(cls, func: Any, args: Any, kwargs: Any) -> Any:
        handler = HANDLERS.get(func)
        if handler is None:
            for fallback in FALLBACKS:
                out = fallback(func, args, kwargs or {})
                if out is not NotImplemented:
                    return out
            raise not_implemented(func)
        lock = lock_of(args)
        with lock_of(kwargs.values()) if kwargs and lock is _NO_LOCK else lock:
            if WATCHERS or WITNESSES:
                return run_watched(func, handler, args, kwargs or {})
            return handler(*args, **kwargs) if kwargs else handler(*args)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        from_parameter = getattr(self, "_is_param", False)
        if isinstance(self.cell, TensorStorage) and not self.session.chains:
            return f"{'Parameter containing:' + chr(10) if from_parameter else ''}{display.line(self)}"
        head = "Parameter" if from_parameter else "(Wrapper)"
        text = f"{head}>{describe(self, self.requires_grad or self.chained)}"
        return f"Parameter containing:\n{text}" if from_parameter else text

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return display.table(self) if isinstance(self.cell, TensorStorage) else f"<pre>{escape(repr(self))}</pre>"

    def __format__(self, spec: str) -> str:
        if spec:
            raise RevealError(f"a secret cannot be formatted with '{spec}'; {HOW}")
        return repr(self)

    def __bool__(self) -> bool:
        raise RevealError(
            f"a secret has no truth value that Python may branch on; {HOW}, or use torch.where{loop_instead()}"
        )

    def _refuse(self, what: str) -> RevealError:
        return RevealError(f"{what} would open a secret unasked; {HOW}")

    def __float__(self) -> float:
        raise self._refuse("float()")

    def __int__(self) -> int:
        raise self._refuse("int()")

    def __index__(self) -> int:
        raise self._refuse("use as an index")

    def __rtruediv__(self, other: Any) -> Any:
        """other / self, exact as every quotient; torch's own is other times the reciprocal, an approximation."""
        dtype = self.dtype if self.dtype.is_floating_point else torch.get_default_dtype()
        return torch.div(torch.as_tensor(other, dtype=dtype, device="cpu"), self)

    def __contains__(self, element: Any) -> bool:
        raise self._refuse("'in'")

    def item(self) -> Any:
        """Raises: a secret has no item."""
        raise self._refuse("item()")

    def tolist(self) -> Any:
        """Raises: a secret has no list."""
        raise self._refuse("tolist()")

    def numpy(self, *, force: bool = False) -> Any:
        """Raises: a secret has no array."""
        raise self._refuse("numpy()")

    def __array__(self, dtype: Any = None) -> Any:
        raise self._refuse("numpy.asarray()")

    def data_ptr(self) -> int:
        """Raises: the tensor has no memory of its own."""
        raise self._refuse("data_ptr()")

    def untyped_storage(self) -> Any:
        """Raises: the tensor has no memory of its own."""
        raise self._refuse("untyped_storage()")

    def __dlpack__(self, **options: Any) -> Any:
        raise self._refuse("DLPack")

    @property  # type: ignore[override]
    def data(self) -> SecretTensor:
        """The same value outside the graph."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        if type(value) is not type(self):
            what = "a secret at workers of other machines" if isinstance(value, SecretTensor) else "a plain tensor"
            raise NotImplementedError(
                f"x.data takes a secret of the same kind of parties, not {what}; encrypt it, or write its values with "
                "x.data.copy_(y)"
            )
        _memory.__set__(self, value)  # sizes, strides, offset and dtype
        self.cell = value.cell

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RevealError(
            "a secret cannot be pickled: its shares belong to different parties; keep a model with sy.save, or decrypt "
            "the value first"
        )

    def __copy__(self) -> SecretTensor:
        """Another tensor on the same value, outside the graph, as torch's copy of a tensor is."""
        out = self._leaf(self.detach())
        vars(out).update({name: kept for name, kept in vars(self).items() if name not in _OWN})
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> SecretTensor:
        if not self.is_leaf:
            raise RuntimeError("only leaf tensors can be deep-copied; use detach() first")
        out = memo[id(self)] = self._leaf(self.detach().clone())
        if self.grad is not None:
            out.grad = copy.deepcopy(self.grad, memo)
        others = {name: kept for name, kept in vars(self).items() if name not in _OWN}
        vars(out).update(copy.deepcopy(others, memo))
        return out

    def _leaf(self, value: SecretTensor) -> SecretTensor:
        """A value as a leaf like this one: a parameter where this is one."""
        if getattr(self, "_is_param", False):
            out = cast(SecretTensor, torch.nn.Parameter(value, self.requires_grad))
        else:
            out = value.requires_grad_(self.requires_grad)
        return out

    def reveal(self) -> torch.Tensor:
        """Open the value to the caller, as a plain tensor of this dtype.  One round."""
        raise NotImplementedError  # set by pysmpc.api.decrypting, which knows how to decode
