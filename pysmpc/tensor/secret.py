"""`SecretTensor`: a torch.Tensor whose values are shares.

It sits below autograd: torch records the graph, runs the backward pass, views,
modules and optimizers; what reaches here are aten operations, each with a handler in
`pysmpc.ops` that works on shares.  An operation without a handler raises.

Sizes, strides and offset are the tensor's own (torch computes them), and describe a
window on a `TensorStorage`; torch views of one another share the cell.  A cell's content is
replaced, never written, so what an in-place operation invalidates goes with it.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from pysmpc.errors import RevealError
from pysmpc.ring.fixedpoint import Precision
from pysmpc.ring.shares import Share, ShareStorage
from pysmpc.session.session import Session
from pysmpc.tensor import display
from pysmpc.torch_modes import FOLLOWERS, active, following, keep_promises, undisturbed, without_modes

Handler = Callable[..., Any]
HANDLERS: dict[Any, Handler] = {}

#: Asked in order for an operation without a handler: fallback(func, args, kwargs) is its result, or NotImplemented.
FALLBACKS: list[Callable[[Any, Any, Any], Any]] = []

#: Told of every operation before it is carried out: watcher(func, args, kwargs) may return what to call after it, with
#: its result, or None where it has failed.
WATCHERS: list[Callable[[Any, Any, Any], Callable[[Any], object] | None]] = []

#: Asked first, of real secrets: complex(args, kwargs) is a complex result (`ops.complex_values`), or NotImplemented.
MAY_BE_COMPLEX: dict[Any, Callable[[Any, Any], Any]] = {}

#: What a cell has once its content is computed.
FACTS = frozenset(("_body", "_scale", "bound", "finer", "pending", "inner", "places"))


class Estimate(float):
    """A bound (`TensorStorage.bound`) of sums of many elements at their worst, which such sums seldom come near.

    Other bounds are direct: they were stated for a value, or follow element by element from such bounds and from
    public numbers.
    """


class TensorStorage:
    """What torch views of one another have in common: the value, its scale, its session.

    scale: steps to one at the moment; a multiple of unit.scale after products, until
    `settle` divides it out.
    finer: how much finer than unit.scale it may stay then: what a public number divided off, since its integers
    are no larger for it than those of the dividend.
    bound: no element is larger in magnitude, where that is publicly known (`pysmpc.ops.bounds`).

    A cell may be a promise (`pysmpc.program.follow`): it has none of `FACTS` yet, and asking for one makes them all.
    """

    __slots__ = (
        "__weakref__", "_body", "_scale", "bound", "finer", "pending", "promise", "provenance", "session", "slot",
        "unit",
    )  # fmt: skip

    promise: Any  # who computes the content when it is asked for (pysmpc.program.follow)
    slot: int  # of the value at workers of other machines, where it is there
    provenance: Any  # at such a worker: where the value came from (pysmpc.remote.worker.origins)

    def __init__(self, body: ShareStorage, scale: int, unit: Precision, session: Session) -> None:
        self._body = body
        self._scale = scale
        self.unit = unit
        self.session = session
        self.pending = False
        self.finer = 1
        self.bound: float | None = None
        session.register(body)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called for a fact that is not there: whoever promised it makes it."""
            if name in FACTS and (promise := getattr(self, "promise", None)) is not None:
                promise.keep()
            return object.__getattribute__(self, name)

    @property
    def body(self) -> ShareStorage:
        """The value; updates that wait are applied first."""
        if self.pending:
            flush(self.session)
        return self._body

    @property
    def scale(self) -> int:
        """Steps to one."""
        if self.pending:
            flush(self.session)
        return self._scale

    def replace(self, body: ShareStorage, scale: int) -> None:
        """New content; everything known about the old (opening, signs, bound, what was divided off) is gone."""
        if self.pending:
            flush(self.session)
        self._body = body
        self._scale = scale
        self.bound, self.finer = None, 1
        self.session.register(body)

    def defer(self, delta: Share, factor: int) -> None:
        """Add factor times a share of finer scale later, truncated together with others."""
        if self.pending:
            flush(self.session)
        self.pending = True
        self.bound = None
        self.session.waiting.append((self, delta, factor))

    def settle(self, headroom: int = 1) -> None:
        """Truncate to the nominal scale, unless the scale is at most `headroom` times it."""
        unit = self.unit.scale
        if self.scale > unit * headroom:
            plain = self.finer == 1 and self.scale % unit == 0
            up, scale = (1, unit) if plain else self.kept(min(self.finer, headroom))
            arithmetic, party = self.session.arithmetic, self.session.party
            whole = Share(self.body, (self.body.n,), self.scale)
            if up > 1:
                whole = arithmetic.scale_by(party, whole, up).at(whole.scale * up)
            out = arithmetic.truncate(party, whole, (2 * whole.scale + scale) // (2 * scale))
            if whole.body.functions is not None:
                out.body.functions = whole.body.functions.truncated(whole)
            bound = self.bound
            self.replace(out.body, scale)
            if bound is not None:  # which rounding may exceed by a step
                self.bound = type(bound)(bound + 1 / unit)

    def kept(self, finer: int) -> tuple[int, int]:
        """(a factor, the scale to which `factor` times the integers is truncated), at most `finer` times nominal."""
        unit = self.unit.scale
        while finer > 1:
            up = unit * finer // math.gcd(self.scale, unit * finer)
            if self.scale * up <= 2 * unit**2:  # as large as products may be
                return up, unit * finer
            finer //= 2
        return whole_multiple(self.scale, unit), unit


def whole_multiple(scale: int, unit: int) -> int:
    """The factor that makes a scale above a nominal one a multiple of it, or one to 2^-22 where integers lack room."""
    if scale <= unit:
        return 1
    up = unit // math.gcd(scale, unit)
    return up if scale * up < 1 << 52 else max(1, (unit << 22) // scale)


#: Attributes that a copy of a secret does not take from it.
_OWN = ("cell", "_is_param", "pysmpc_id")

_memory: Any = torch._C.TensorBase.__dict__["data"]

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])


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


def locked(function: Wrapped) -> Wrapped:
    """A function that computes with the session of its arguments: one thread at a time."""

    @undisturbed
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        keep_promises()
        with lock_of(args):
            return function(*args, **kwargs)

    return cast(Wrapped, call)


def watched(name: str) -> Callable[[Wrapped], Wrapped]:
    """Tell the watchers of a function that is no operation of torch, too; it has the session's lock, as those have."""

    def wrap(function: Wrapped) -> Wrapped:
        @undisturbed
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            keep_promises()
            with lock_of(args):
                return run_watched(name, function, args, kwargs) if WATCHERS else function(*args, **kwargs)

        return cast(Wrapped, call)

    return wrap


def flush(session: Session) -> None:
    """Apply the updates that wait: one round for all.

    Where it happens depends on the program alone, so all processes agree.
    """
    if session.recorder is not None and session.waiting and session.recorder.flush(session):
        return
    if session.waiting:
        _update(session)


@watched("update")
def _update(session: Session) -> None:
    waiting, session.waiting = session.waiting, []
    for cell, _, _ in waiting:
        cell.pending = False
    arithmetic, party = session.arithmetic, session.party
    updates = []
    for cell, delta, factor in waiting:
        cell.settle()
        scale = cell.unit.scale
        own = Share(cell.body, (cell.body.n,), cell.scale)
        if own.scale != scale:
            own = arithmetic.scale_by(party, own, scale // own.scale).at(scale)
        updates.append((own, delta, factor, delta.scale // scale))
    if updates:
        checks = session.checks
        cells = [cell for cell, _, _ in waiting]
        found = arithmetic.update_all(party, updates) if checks is None else checks.pay(party, cells, updates)
        for cell, share in zip(cells, found, strict=True):
            cell.replace(share.body, cell.unit.scale)


class SecretTensor(torch.Tensor):
    """A secret-shared tensor.  Make one with `sy.encrypt` or `.share`; open it with
    `sy.decrypt`, `.reveal()` or `.get()`."""

    cell: TensorStorage
    chained: bool  # made by share(requires_grad=True): shown as AutogradTensor

    if TYPE_CHECKING:  # torch declares that these return Tensor; on a SecretTensor they return another

        def _same(self, *args: Any, **kwargs: Any) -> SecretTensor: ...

        reshape = view = expand = detach = clone = to = squeeze = unsqueeze = movedim = contiguous = _same
        flatten = mean = sum = requires_grad_ = __getitem__ = __neg__ = __add__ = __sub__ = __rsub__ = __mul__ = _same

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(
        cls,
        cell: TensorStorage,
        size: Any,
        stride: Any,
        offset: int = 0,
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
            if WATCHERS:
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
            f"a secret has no truth value that Python may branch on; {HOW}, or use torch.where{_loop_instead()}"
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


#: Operations that torch sends for a layer or a function, and which no program calls by the names that they have there.
CALLED = {
    "aten.mkldnn_rnn_layer": "torch.nn.LSTM",
    "aten.mkldnn_rnn_layer_backward": "the gradient of torch.nn.LSTM",
    "aten._scaled_dot_product_flash_attention_for_cpu": "scaled_dot_product_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": "the gradient of scaled_dot_product_attention",
    "aten._native_multi_head_attention": "torch.nn.MultiheadAttention",
    "aten._transformer_encoder_layer_fwd": "torch.nn.TransformerEncoderLayer",
}


def called(func: Any) -> str:
    """An operation by its name, or by that of the layer which it is."""
    name = str(func)
    return CALLED.get(name.rpartition(".")[0], name)


def not_implemented(func: Any, why: str = "") -> NotImplementedError:
    """How an operation is refused.  why: a clause that says more."""
    return NotImplementedError(
        f"{called(func)} is not implemented for secret tensors{why and ': '}{why}; rewrite it with supported "
        "operations, or open the value first with sy.decrypt(x) if it may be known; sy.check(model, x) lists all that "
        "a model would need"
    )


def run_watched(func: Any, handler: Handler, args: Any, kwargs: Any) -> Any:
    """handler(*args, **kwargs), of which the watchers are told as `func`."""
    after = [done for watcher in tuple(WATCHERS) if (done := watcher(func, args, kwargs)) is not None]
    out = None
    try:
        out = handler(*args, **kwargs)
        return out
    finally:
        for done in reversed(after):
            done(out)


def _loop_instead() -> str:
    """What to write in the place of a library's loop that asks for truth values; nothing where none does."""
    frame = inspect.currentframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("transformers.generation"):
            return (
                ". generate() of the library transformers asks whether tokens end the text and what is in a prompt; "
                "for secret ones call the model in a loop of your own, as examples/text_generation.py does: "
                "logits[:, -1].argmax(-1) is the next input, with past_key_values"
            )
        frame = frame.f_back
    return ""


HOW = "open it by name with sy.decrypt(x), x.reveal() or x.get()"


def describe(tensor: SecretTensor, autograd: bool) -> str:
    """The chain of the documents: what the value is made of and who holds it; no value."""
    if not isinstance(tensor.cell, TensorStorage):
        return repr(tensor.cell)
    session, fixed = tensor.session, tensor.unit.scale > 1
    chain = ("AutogradTensor>" if autograd else "") + ("FixedPrecisionTensor>" if fixed else "")
    if session.plain:
        return f"{chain}{_integers(tensor)}"
    serial = tensor.cell.body.serial
    lines = [f"{chain}[AdditiveSharingTensor]"]
    lines += [f"\t-> [PointerTensor | me:{session.serial}{serial:08d} -> {name}:{serial}]" for name in session.holders]
    lines += [
        f"\t*crypto provider: {session.provider}*",
        f"\t*shape: {tuple(tensor.shape)}, scale: {tensor.cell.scale}*",
    ]
    return "\n".join(lines)


def _integers(tensor: SecretTensor) -> torch.Tensor:
    """A public value as integers of its nominal scale, whatever finer scale it is held at."""
    share = tensor.window()
    words = share.words().reshape(tensor.shape)
    if share.scale == tensor.unit.scale or not tensor.dtype.is_floating_point:
        return words
    return (words.double() / share.scale * tensor.unit.scale).round().to(torch.int64)
