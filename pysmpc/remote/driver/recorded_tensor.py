"""`RecordedTensor`: a secret at workers of other machines, whose operations go to the recorder of its session.

Views need no message: what travels is always a window on a cell.  Operations that a handler calls are the handler's
business; only the outermost is sent.
"""

from __future__ import annotations

from typing import Any

from pysmpc.ops import views
from pysmpc.remote.arguments import leaves
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.tensor.watching import WATCHERS, run_watched
from pysmpc.torch_modes import FOLLOWERS, following, without_modes

_SILENT = frozenset(func for func, handler in HANDLERS.items() if handler.__module__ == views.__name__)


class RecordedTensor(SecretTensor):
    """A secret at workers of other machines."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if FOLLOWERS and (follower := following()) is not None:
            return follower.operation(cls, func, args, kwargs or {})
        recorder = None if func in _SILENT else _recorder_of([*args, *kwargs.values()] if kwargs else args)
        if recorder is None or recorder.busy or func not in HANDLERS:
            return super().__torch_dispatch__(func, types, args, kwargs)
        with without_modes():
            return cls._recorded(recorder, func, args, kwargs)

    @staticmethod
    def _recorded(recorder: Any, func: Any, args: Any, kwargs: Any) -> Any:
        if WATCHERS:
            return run_watched(func, lambda *args, **kwargs: recorder.call(func, args, kwargs), args, kwargs or {})
        return recorder.call(func, args, kwargs or {})


def _recorder_of(args: Any) -> Any:
    for x in leaves(args):
        if isinstance(x, RecordedTensor) and x.cell.session.recorder is not None:  # else public: a mask
            return x.cell.session.recorder
    return None
