"""Sessions whose ranges are tested by protocol (`pysmpc.mpc.derived.tested`): what tests are told, and how they end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from pysmpc.mpc.derived.tested import state
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor


def state_bounds(operands: Iterable[Any]) -> None:
    """Public bounds of an operation's operands need no test: note them where tests look."""
    for x in operands:
        if isinstance(x, SecretTensor):
            cell = x.cell
            if cell.bound is not None and cell.session.flags is not None and not cell.pending:
                state(cell._body, cell.bound, cell._scale)
        elif isinstance(x, list | tuple):
            state_bounds(x)


class TestedTensor(SecretTensor):
    """A secret of such a session whose parties are in this process, or ranks."""

    __test__ = False  # no test, whatever its name begins with

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        state_bounds(args)
        state_bounds((kwargs or {}).values())
        return super().__torch_dispatch__(func, types, args, kwargs)


def open_flags(session: Session) -> None:
    """Before a value is opened to all holders: RangeError where an operand was too large since the last opening.

    Processes without holders hear of it from the others.
    """
    flags = session.flags
    assert flags is not None
    if not flags.pending:
        flags.check()
        return
    failed = flags.open()
    said = session.gather(torch.tensor([int(failed)]))
    flags.end(any(bool(word) for word in said))
    flags.check()
