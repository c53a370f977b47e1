"""Operations without a handler of their own: torch's decompositions into those that have one.

What happens to an operation, in this order:
1. its own handler (`pysmpc.tensor.secret`);
2. random operations: refused, but for those that draw as torch does, in the open (DRAWING);
3. compositions of this package (COMPOSED);
4. NEVER: refused by name, as torch's formula would be wrong, or open and compute much more than needed;
5. loops over lists of tensors (`_foreach_*`), and in-place forms: by the operation that they are made of;
6. `torch._decomp.decomposition_table`, for the operations of ALLOWED;
7. the composition that torch itself makes of it above autograd, where there is one;
8. refused by name.

What is sent to workers of other machines are the operations with handlers that come of it.  The whole is rehearsed on
empty shares first (`pysmpc.ops.rehearsal`), so that it is refused before anything was computed or sent; whatever is
raised names the operation that was called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch._ops import OpOverload

from pysmpc.errors import EncodingError, RangeError, RevealError
from pysmpc.ops.allowed import ALLOWED, NEVER
from pysmpc.ops.core import aten
from pysmpc.ops.rehearsal import rehearse
from pysmpc.tensor.secret import FALLBACKS, HANDLERS, SecretTensor, lock_of
from pysmpc.tensor.secret_errors import called, not_implemented

prims = torch.ops.prims

Way = Callable[..., Any]


#: Made of other operations by a function of this package, in place of torch's.
COMPOSED: dict[Any, Way] = {}


def composes(*overloads: Any) -> Callable[[Way], Way]:
    """Register a function that calls operations with handlers, and nothing else, on secrets."""

    def register(way: Way) -> Way:
        COMPOSED.update(dict.fromkeys(overloads, way))
        return way

    return register


#: Of those, the ones that draw random numbers: public ones, and in the open.
DRAWING: set[Any] = set()


def draws(*overloads: Any) -> Callable[[Way], Way]:
    """`composes`, for an operation that draws random numbers."""

    def register(way: Way) -> Way:
        DRAWING.update(overloads)
        return composes(*overloads)(way)

    return register


class _State(threading.local):
    inside = False  # an operation is being decomposed, by this thread


_state = _State()


@contextmanager
def rehearsed() -> Iterator[None]:
    """While a worker runs an operation that its driver has run on empty shares: nothing of it is tried again."""
    before, _state.inside = _state.inside, True
    try:
        yield
    finally:
        _state.inside = before


def convert_element_type(x: Any, dtype: torch.dtype) -> Any:
    """Another dtype; between real ones a secret stays what it is."""
    return x if x.dtype == dtype else aten._to_copy.default(x, dtype=dtype)


#: Of torch's own building blocks below aten.
PRIMS: dict[Any, Way] = {
    prims.convert_element_type.default: convert_element_type,
    prims.device_put.default: lambda x, device, non_blocking=False: aten._to_copy.default(x, device=device),
    prims.view_of.default: aten.alias.default,
}


def _is_out_of_training(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a random operation is asked for nothing random, as dropout in evaluation."""
    for place, argument in enumerate(func._schema.arguments):
        given = args[place] if place < len(args) else kwargs.get(argument.name, argument.default_value)
        if argument.name in ("train", "training") and given is False:
            return True
        if argument.name == "dropout_p" and given == 0:
            return True
    return False


@cache
def _functional(func: Any) -> Any:
    """The out-of-place form of an in-place operation; None for others."""
    name = func._opname
    if not name.endswith("_") or name.endswith("__") or not func._schema.is_mutable:
        return None
    packet = getattr(getattr(torch.ops, func.namespace), name[:-1], None)
    return getattr(packet, func._overloadname, None)


def _in_place(functional: Any) -> Way:
    def way(x: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(x, SecretTensor):
            raise TypeError(
                f"{functional} in place would write a secret into a plain tensor; use the out-of-place form, or "
                "encrypt the target"
            )
        return aten.copy_.default(x, functional(x, *args, **kwargs))

    return way


def _loop(func: Any) -> Way | None:
    """A `_foreach_` operation: the operation of its name on one element of each list after another."""
    name = func._opname.removeprefix("_foreach_")
    lists = [a.name for a in func._schema.arguments if "List[" in str(a.type)]
    names = [a.name for a in func._schema.arguments]
    one: Any = torch.linalg.vector_norm if name == "norm" else getattr(torch.Tensor, name, None)
    if one is None:
        return None

    def way(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        out = []
        for i in range(len(given["self"])):
            each = {key: value[i] if key in lists and isinstance(value, list | tuple) else value
                    for key, value in given.items()}  # fmt: skip
            if name == "norm":
                out.append(one(each["self"], each.get("ord", 2), dtype=each.get("dtype")))
                continue
            first = each.pop("self")
            by_name = {key: each.pop(key) for key in ("alpha", "value") if key in each}
            out.append(one(first, *each.values(), **by_name))
        return None if name.endswith("_") else out

    return way


@cache
def way_of(func: Any) -> Way | None:
    """How an operation is made of others, if it may be."""
    if not isinstance(func, OpOverload):
        return None
    name = str(func)
    if func in COMPOSED:
        return COMPOSED[func]
    if func._opname in NEVER:
        return None
    if func in PRIMS:
        return PRIMS[func]
    if func._opname.startswith("_foreach_"):
        return _loop(func)
    functional = _functional(func)
    if functional is not None and (functional in HANDLERS or way_of(functional) is not None):
        return _in_place(functional)
    if name in ALLOWED:
        return decomposition_table[func]
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        return func.decompose
    return None


def _rehearses(func: Any) -> bool:
    return func in COMPOSED or str(func) in ALLOWED or func._opname.startswith("_foreach_")


def decomposed(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation without a handler, made of others; NotImplemented where there is no way."""
    way = way_of(func)
    if way is None:
        return NotImplemented
    drawn = torch.Tag.nondeterministic_seeded in func.tags and not _is_out_of_training(func, args, kwargs)
    if drawn and func not in DRAWING:
        return NotImplemented
    lock = lock_of([*args, *kwargs.values()])
    if _state.inside or (not _rehearses(func) and getattr(lock, "held", True)):
        return way(*args, **kwargs)  # part of something else: a composition's, or a handler's own
    with lock:
        _state.inside = True
        try:
            whole = None if drawn else _without_writing(func)
            if whole is not None:
                rehearse(whole, args, kwargs, _rehearsed)
            return way(*args, **kwargs)
        except Exception as error:
            named = _named(func, error)
            if named is error:
                raise
            raise named from error
        finally:
            _state.inside = False


def _without_writing(func: Any) -> Any:
    """What to rehearse: an operation that changes none of its arguments."""
    if not func._schema.is_mutable:
        return func
    found = _functional(func)
    return found if found is not None and (found in HANDLERS or way_of(found) is not None) else None


def _rehearsed(func: Any, args: Any, kwargs: Any) -> Any:
    handler = HANDLERS.get(func) or way_of(func)
    assert handler is not None
    return handler(*args, **kwargs)


#: Kinds of errors that are about the operation, and made of nothing but a text.
_OF_A_TEXT = frozenset(
    (
        EncodingError,
        RangeError,
        RevealError,
        RuntimeError,
        ValueError,
        TypeError,
        ZeroDivisionError,
        OverflowError,
        IndexError,
    )
)


def _named(func: Any, error: Exception) -> Exception:
    """The same error, which says in which operation it was met."""
    text = str(error)
    if str(func) in text or called(func) in text:
        return error
    if isinstance(error, NotImplementedError):
        return not_implemented(func, f"it is made of others, of which one says '{text.partition('; rewrite it')[0]}'")
    return type(error)(f"{text} (within {called(func)})") if type(error) in _OF_A_TEXT else error


FALLBACKS.append(decomposed)
