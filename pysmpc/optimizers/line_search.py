"""torch.optim.LBFGS on secret parameters, unmodified: the numbers that it decides by are opened, if that is asked for.

LBFGS asks of numbers whether to stop, whether to keep a direction, and how far to go.  They are losses, the largest and
the summed magnitude of a gradient, and inner products of gradients and steps.  Within `opened_line_search` these are
opened as LBFGS computes them.  Parameters, gradients and directions stay secret.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from pysmpc.api.decrypting import decrypt
from pysmpc.tensor.secret import SecretTensor

#: Methods of tensors by which LBFGS computes what it decides by.
NUMBERS = ("dot", "max", "sum")


class _Choice(threading.local):
    opened = False  # by this thread


_choice = _Choice()


@contextmanager
def opened_line_search() -> Iterator[None]:
    """Within, torch.optim.LBFGS steps secret parameters, by numbers that it opens.

    In each iteration these are the loss, the largest magnitude in the gradient (in the first, the sum of them) and up
    to 3 + 2 history_size inner products of gradients and steps; a loss and an inner product more for each evaluation of
    a line search.  Each is a number of all rows, which every holder learns and every owner must consent to, as with
    `sy.decrypt`.  A step returns the loss that it opened.  Of the calling thread.

    >>> optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    >>> with sy.opened_line_search():
    ...     optimizer.step(closure)
    """
    before, _choice.opened = _choice.opened, True
    try:
        yield
    finally:
        _choice.opened = before


class _Opening(TorchFunctionMode):
    """While LBFGS computes: numbers that come of its vectors are opened.  Not while it calls the user's closure."""

    asleep = False

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.asleep or getattr(func, "__name__", "") not in NUMBERS or not isinstance(out, SecretTensor):
            return out
        return decrypt(out) if not out.dim() else out

    def closure(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """The user's closure, whose loss is opened."""

        def call() -> Any:
            self.asleep = True
            try:
                loss = closure()
            finally:
                self.asleep = False
            return decrypt(loss) if isinstance(loss, SecretTensor) else loss

        return call


def _check(secrets: list[SecretTensor]) -> None:
    """NotImplementedError where that was not asked for, or a party would not learn the numbers."""
    if not _choice.opened:
        raise NotImplementedError(
            "torch.optim.LBFGS is not implemented for secret parameters without opening numbers: it decides by losses "
            "and inner products how far to go; open those, with sy.opened_line_search(): optimizer.step(closure), "
            "or use torch.optim.Adam or SGD"
        )
    if any(p.session.me is not None for p in secrets):
        raise NotImplementedError(
            "torch.optim.LBFGS is not implemented for ranks of sy.distributed: the provider runs the same program, and "
            "does not learn the numbers by which it would go on; use torch.optim.Adam or SGD"
        )


def install() -> None:
    """Have LBFGS open what it decides by, where its parameters are secret and that was asked for."""
    original: Any = torch.optim.LBFGS.step

    @functools.wraps(original)
    def step(self: torch.optim.LBFGS, *args: Any, **kwargs: Any) -> Any:
        secrets = [p for group in self.param_groups for p in group["params"] if isinstance(p, SecretTensor)]
        if not secrets:
            return original(self, *args, **kwargs)
        _check(secrets)
        (closure,) = inspect.signature(original).bind(self, *args, **kwargs).args[1:]
        with _Opening() as opening:
            return original(self, opening.closure(closure))

    torch.optim.LBFGS.step = step  # type: ignore[method-assign]
