"""Modes of torch that are in force around a call, and what they may not do to shares.

`torch.set_default_device` and `with torch.device(...)` change where torch makes tensors; a
FakeTensorMode, a trace or functionalization put tensors without memory in their place.  Shares
are words in this process's memory, which compiled code reads by address, so the package makes
its own tensors without the first kind of mode and refuses to compute under the second.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar, cast

import torch

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

_FAKING = tuple(torch._C._TorchDispatchModeKey.__members__.values())
_NONE: AbstractContextManager[Any] = nullcontext()


def active() -> bool:
    """Whether any mode of torch is in force in this thread."""
    return bool(torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack())


def without_modes() -> AbstractContextManager[Any]:
    """A context in which torch makes ordinary tensors in memory, whatever modes the caller has set.

    Raises NotImplementedError under a mode that replaces tensors by ones without memory.
    """
    if torch._C._len_torch_dispatch_stack():
        for key in _FAKING:
            mode = torch._C._get_dispatch_mode(key)
            if mode is not None:
                raise NotImplementedError(
                    f"secrets cannot be traced or faked: under {type(mode).__name__} (torch.export, make_fx, an "
                    "estimate of memory) tensors have no memory for shares; leave the mode to compute with secrets"
                )
    return torch._C.DisableTorchFunction() if torch._C._len_torch_function_stack() else _NONE


def undisturbed(function: Wrapped) -> Wrapped:
    """A function that runs `without_modes`."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if active():
            with without_modes():
                return function(*args, **kwargs)
        return function(*args, **kwargs)

    return cast(Wrapped, call)


_told = threading.local()


def in_backward() -> bool:
    """Whether autograd asks for what this thread computes, or asked for it when the operation was called."""
    told: bool | None = getattr(_told, "backward", None)
    return torch._C._current_graph_task_id() != -1 if told is None else told


@contextmanager
def asked(backward: bool) -> Iterator[None]:
    """While an operation runs later, or elsewhere, than it was called: whether autograd called it."""
    before, _told.backward = getattr(_told, "backward", None), backward
    try:
        yield
    finally:
        _told.backward = before


#: By thread: who takes operations on secrets in the place of their handlers (pysmpc.program.follow).
FOLLOWERS: dict[int, Any] = {}


def following() -> Any:
    """Who takes this thread's next operation in the place of its handler; None for nobody."""
    follower = FOLLOWERS.get(threading.get_ident())
    return None if follower is None or follower.busy else follower


def keep_promises() -> None:
    """Before anybody looks at what was done so far: what this thread has followed and not computed is computed."""
    if FOLLOWERS and (follower := following()) is not None:
        follower.keep()
