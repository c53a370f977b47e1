"""Training loops as they are written: found by where optimizers step, then followed.

A region goes from the first operation on secrets after one `optimizer.step()` to the first one after the next, or to
whoever looks at what came of it.  The first time a region is computed and noted (`Noting`); from then on it is
followed (`Following`).  At its end, if all of it was asked for again, it is recorded as a `Segment` from the notes: the
handlers of what was followed are called, and traced.  The next time, the same is held against that recording, and
later the segment runs.  What the region only reads (a batch) is its argument, whatever it writes to (weights, momenta)
its state, and what is alive at its end its result.  Whatever differs is computed operation by operation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from pysmpc.ops import views
from pysmpc.program.known_paths import CHANGED, Paths
from pysmpc.program.loop_regions import FollowedRegion, NotedRegion, unfit_for_loops
from pysmpc.session import ledger
from pysmpc.session.session import Session
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.tensor.storage import flush
from pysmpc.tensor.watching import WATCHERS
from pysmpc.torch_modes import FOLLOWERS


class _Here(threading.local):
    within = False


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class Loops:
    """The loops of the main thread.  repeats: whether the last region ran as a segment; reason: why not."""

    busy = False

    def __init__(self) -> None:
        self._here = _Here()
        self.enabled = True
        self.ended = False  # whether the next operation is of another region
        self.repeats = False
        self.reason: str | None = None
        self._region: NotedRegion | FollowedRegion | None = None
        self._paths: Paths | None = None  # of the step that this is

    @property
    def within(self) -> bool:
        """Whether this thread is in a step whose end is told, not found."""
        return self._here.within

    # --- where steps begin and end ---

    def install(self) -> None:
        """Have torch tell when an optimizer of secrets steps.  Once."""
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)

    def begin_anew(self) -> None:
        """Forget how steps before went; what is known of the loops of a session stays with it."""
        self.ended = self.repeats = False
        self.reason = None

    def _concerned(self, optimizer: torch.optim.Optimizer) -> bool:
        if not self.enabled or self.within or not _in_main_thread():
            return False
        return any(isinstance(p, SecretTensor) for group in optimizer.param_groups for p in group["params"])

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._concerned(optimizer):
            self.ended = False

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._concerned(optimizer):
            self.ended = True
            if self._region is None:
                FOLLOWERS[threading.get_ident()] = self

    @contextmanager
    def step(self, paths: Paths) -> Iterator[None]:
        """A region of its own, whichever optimizers step in it.  paths: where what is known of it is kept."""
        first, paths.begun, paths.repeats = not paths.begun, True, False
        if self.within or not _in_main_thread():
            paths.reason = "it is a part of another step, or of another thread than the main one"
            yield
            return
        self.stop()
        self.repeats, self.reason = False, "only steps of secrets are repeated"
        self._here.within, self._paths = True, paths
        if first or not self.enabled:  # optimizers make their state in the first
            self.reason = Paths.reason
        else:
            self.idle()
        try:
            yield
            self.ended = True
        except BaseException:
            if isinstance(self._region, NotedRegion):
                self._region.path.refused = "it was interrupted"
            raise
        finally:
            try:
                self.stop()
            finally:
                self._here.within, self.ended, self._paths = False, False, None
                paths.repeats, paths.reason = self.repeats, self.reason

    def stop(self) -> None:
        """End what there is; nothing is followed until an optimizer steps again."""
        region = self._region
        if region is not None:
            region.keep()
        self.left()

    def left(self) -> None:
        """The region has left its path, or can have none."""
        self._region = None
        if FOLLOWERS.get(threading.main_thread().ident or 0) is self:
            del FOLLOWERS[threading.main_thread().ident or 0]

    def idle(self) -> None:
        """The region has ended: the next operation begins another."""
        self._region = None
        FOLLOWERS[threading.main_thread().ident or 0] = self

    # --- as a listener: between regions ---

    def keep(self) -> None:
        """Nothing was promised."""

    def operation(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The first operation of a region; another layout of what is there is none."""
        handler = HANDLERS.get(func)
        if handler is not None and handler.__module__ == views.__name__ and not func._schema.is_mutable:
            self.busy = True
            try:
                return cls.__torch_dispatch__(func, (), args, kwargs)
            finally:
                self.busy = False
        self.ended = False
        self.left()
        session = _session_of((args, kwargs))
        self.reason = _obstacle(session)
        if session is not None and self.reason is None:
            flush(session)
            paths = session.loops = Paths() if session.loops is None else session.loops
            paths = paths if self._paths is None else self._paths
            for known in paths:
                region = FollowedRegion(self, paths, known, session)
                if region.begins(func, args, kwargs):
                    self._region = region
                    region.__enter__()
                    return region.operation(cls, func, args, kwargs)
            if paths.pause:
                paths.pause -= 1
                self.reason = CHANGED
            else:
                self._region = noting = NotedRegion(self, paths, session)
                noting.__enter__()
                return noting.operation(cls, func, args, kwargs)
        return cls.__torch_dispatch__(func, (), args, kwargs)


def _obstacle(session: Session | None) -> str | None:
    if session is None:
        return "only steps of secrets are repeated"
    if ledger.kept() or WATCHERS:
        return "a ledger or a profile is kept"
    return unfit_for_loops(session)


def _session_of(values: Any) -> Session | None:
    for x in values:
        if isinstance(x, SecretTensor):
            return x.cell.session
        if isinstance(x, tuple | list | dict):
            found = _session_of(x.values() if isinstance(x, dict) else x)
            if found is not None:
                return found
    return None


LOOPS = Loops()
LOOPS.install()


@contextmanager
def following(enabled: bool = True) -> Iterator[Loops]:
    """While within, loops of the main thread are followed, or not.

    >>> with following():
    ...     for x, y in batches:
    ...         optimizer.zero_grad()
    ...         loss(model(x), y).backward()
    ...         optimizer.step()
    """
    before = LOOPS.enabled
    LOOPS.stop()
    LOOPS.begin_anew()
    LOOPS.enabled = enabled
    try:
        yield LOOPS
    finally:
        try:
            LOOPS.stop()
        finally:
            LOOPS.enabled = before
