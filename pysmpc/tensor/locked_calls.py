"""Functions of secrets that are no operations of torch, as `sy.decrypt`: one thread at a time computes with a session.

Operations of torch are under the same lock, in `SecretTensor.__torch_dispatch__`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from pysmpc.tensor.secret import lock_of
from pysmpc.tensor.watching import WATCHERS, WITNESSES, run_watched
from pysmpc.torch_modes import keep_promises, undisturbed

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])


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
                if WATCHERS or WITNESSES:
                    return run_watched(name, function, args, kwargs)
                return function(*args, **kwargs)

        return cast(Wrapped, call)

    return wrap
