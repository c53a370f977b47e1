"""Tasks that an owner installed: functions of her own, which a driver with the right to them calls by name.

No code travels.  A task is given the driver's model and the owner's data, and what it returns leaves her only as shares
of one term in a sum over owners.  What is refused for public facts (no such task, no right to it, arguments of other
types, other shapes, too few owners) is said to the driver.  What depends on her values (an error of the task, NaN, an
element out of range, lateness) makes her leave the round, and only her own log says why.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import logging
import math
import threading
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from pysmpc.errors import ConfigurationError, ObjectNotFoundError, RemoteError, RoundError
from pysmpc.federated.opened_sums import Key
from pysmpc.federated.updates import Left, Terms, changes
from pysmpc.remote.arguments import dtype_of
from pysmpc.remote.config import Loop, Task
from pysmpc.remote.program_messages import Collect
from pysmpc.remote.worker.data import Store
from pysmpc.remote.worker.drivers_loops import Allowed, DriversLoop

log = logging.getLogger("pysmpc.worker")

KINDS = (bool, int, float, str)
RIGHT, RIGHT_TO_LOOPS = "task:", "loop:"
RUNNING = 3  # tasks of one driver at once
LOOK = 0.1  # seconds after which one who waits for a task looks whether its session has ended


class Installed:
    """A task: the function, the names and types of its arguments, and what it is given."""

    kind = "task"
    private = False  # that she leaves a round may be seen

    def __init__(self, name: str, settings: Task, data: Store) -> None:
        self.name, self.settings = name, settings
        module, _, attribute = settings.function.partition(":")
        where = f"tasks.{name}"
        try:
            self.function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(
                f"{where}: {settings.function!r} cannot be loaded ({error}); it is 'package.module:function'"
            ) from None
        parameters = list(inspect.signature(self.function).parameters.values())
        arguments = parameters[2:]
        if len(parameters) < 2 or any(each.kind is not inspect.Parameter.KEYWORD_ONLY for each in arguments):
            raise ConfigurationError(f"{where}: a task is function(state, data, *, arguments with types)")
        hints = typing.get_type_hints(self.function)
        self.kinds = {each.name: hints.get(each.name) for each in arguments}
        self.required = {each.name for each in arguments if each.default is inspect.Parameter.empty}
        for argument, kind in self.kinds.items():
            if kind not in KINDS:
                raise ConfigurationError(f"{where}: argument {argument} needs a type, one of bool, int, float, str")
        try:
            self.data = {each: data[each].tensor for each in settings.data or data.names}
        except ObjectNotFoundError as error:
            raise ConfigurationError(f"{where}: {error}") from None
        if len({len(tensor) if tensor.dim() else 0 for tensor in self.data.values()}) != 1:
            raise ConfigurationError(f"{where}: its data must have the same number of rows, and there must be some")

    @property
    def rows(self) -> int:
        """Of the owner's data."""
        return len(next(iter(self.data.values())))

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a driver gives it; RemoteError where names or types are others."""
        wrong = [name for name in given if name not in self.kinds] + [n for n in self.required if n not in given]
        for name, value in given.items():
            kind = self.kinds.get(name)
            fits = type(value) is kind or (kind is float and type(value) is int)
            if kind is not None and not (fits and (not isinstance(value, float) or math.isfinite(value))):
                wrong.append(name)
        if wrong:
            takes = ", ".join(f"{name}: {kind.__name__}" for name, kind in self.kinds.items() if kind) or "nothing"
            raise RemoteError(f"task {self.name} takes {takes}; not as given: {', '.join(sorted(set(wrong)))[:200]}")
        return {name: float(value) if self.kinds[name] is float else value for name, value in given.items()}


class Tasks:
    """All tasks of a worker, and what it allows to loops of drivers' own.  state: a folder, for what these spend."""

    def __init__(
        self, settings: Mapping[str, str | Task], data: Store, loops: Mapping[str, Loop] | None = None, state: str = ""
    ) -> None:
        self._loops = {name: Allowed(name, each, data, state) for name, each in (loops or {}).items()}
        self._tasks = {
            name: Installed(name, Task(each) if isinstance(each, str) else each, data)
            for name, each in settings.items()
        }
        for name, task in self._tasks.items():
            if task.settings.in_the_clear:
                log.warning("single updates may leave in the clear", extra={"task": name})
        self._threads: dict[str, list[threading.Thread]] = {}  # of drivers, what they called and still runs

    def __len__(self) -> int:
        return len(self._tasks)

    def run(self, driver: str, turn: Turn, deadline: float, over: Callable[[], bool]) -> torch.Tensor | None:
        """The words that leave the owner; None where she leaves the round.

        A task that is late goes on in its thread; while a driver has too many of these, she leaves its rounds.
        """
        running = self._threads[driver] = [each for each in self._threads.get(driver, ()) if each.is_alive()]
        if len(running) >= RUNNING:
            return turn.nothing("tasks of rounds before have not ended")
        running.append(turn.start())
        return turn.finish(deadline, over)

    def of(self, me: str, driver: str, rights: Sequence[str], operation: Collect) -> Installed | DriversLoop:
        """What a driver with these rights may call, or RemoteError: the same for what there is not."""
        name = operation.task
        if operation.loop is None:
            if name in self._tasks and RIGHT + name in rights:
                return self._tasks[name]
            raise RemoteError(f"{me} has no task {name[:80]!r} for this driver")
        if name in self._loops and RIGHT_TO_LOOPS + name in rights:
            return DriversLoop(me, driver, self._loops[name], operation, terms_of(operation))
        raise RemoteError(f"{me} allows no loops on {name[:80]!r} to this driver")


class Turn:
    """One task that a driver called: checked, run, and encoded.  Public faults raise RemoteError or RoundError."""

    def __init__(
        self, me: str, driver: str, task: Installed | DriversLoop, operation: Collect, values: torch.Tensor
    ) -> None:
        self._me, self._task, self._operation = me, task, operation
        self._what = f"{task.kind} {task.name}"
        self._arguments = task.arguments(operation.arguments)
        own = task.settings
        self.terms = terms_of(operation)
        if not (math.isfinite(operation.deadline) and operation.deadline >= 0):
            raise RemoteError("a deadline is a number of seconds")
        if operation.max_rows > own.max_rows or operation.max_value > own.max_value:
            raise RemoteError(
                f"{me} lets {self._what} leave at most {own.max_rows} rows and elements up to {own.max_value:g}"
            )
        if own.max_norm is not None and not (operation.max_norm is not None and operation.max_norm <= own.max_norm):
            raise RemoteError(f"{me} clips updates of {self._what} to a norm of {own.max_norm:g} or less (max_norm)")
        if operation.clear and not (isinstance(own, Task) and own.in_the_clear and not own.min_noise):
            raise RemoteError(f"{me} gives no single update of {self._what} to anybody (in_the_clear)")
        if (
            isinstance(own, Task)
            and own.min_noise
            and not (
                operation.max_norm is not None
                and operation.noise >= own.min_noise * operation.max_norm
                and operation.sharers <= own.min_owners
            )
        ):
            raise RemoteError(
                f"{me} takes part in sums of {self._what} whose noise is {own.min_noise:g} times max_norm or more, "
                f"in parts of which any {own.min_owners} owners have all of it (min_noise)"
            )
        self._state = parted(operation, values)
        self.key: Key = driver, task.name, hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
        self.rows = task.rows
        self._found: list[Any] = []  # what the task returned, or why it did not

    def refusal(self, present: frozenset[str]) -> str:
        """Why this owner does not consent to a sum of these, or nothing."""
        least = self._task.settings.min_owners
        if len(present) < least:
            return f"{self._me} consents to sums of {self._what} over {least} owners or more; {len(present)} took part"
        if self._operation.noise and len(present) < self._operation.sharers:
            return f"{self._me}: the noise is of {self._operation.sharers} owners, and {len(present)} took part"
        return ""

    def start(self) -> threading.Thread:
        """Run the task, in a thread of its own."""
        self._thread = threading.Thread(target=self._work, name=f"task {self._task.name}", daemon=True)
        self._thread.start()
        return self._thread

    def _work(self) -> None:
        try:
            state = {name: value.clone() for name, value in self._state.items()}
            self._found.append(self._task.function(state, dict(self._task.data), **self._arguments))
        except Exception as error:
            self._found.append(Left(f"the task failed: {type(error).__name__}: {error}"))

    def finish(self, deadline: float, over: Callable[[], bool]) -> torch.Tensor | None:
        """The words that leave her; None where she leaves the round.  over: whether nobody waits for them any more."""
        until = time.monotonic() + deadline
        while self._thread.is_alive() and not over() and (left := until - time.monotonic()) > 0:
            self._thread.join(min(left, LOOK))
        try:
            if not self._found:
                raise Left(f"the task took longer than {deadline:g} s, or its session ended")
            if isinstance(self._found[0], Left):
                raise self._found[0]
            return self._words(self._found[0])
        except Left as reason:
            return self.nothing(str(reason))

    def nothing(self, reason: str) -> torch.Tensor | None:
        """She leaves the round, or, where that must not be seen, stays with noise alone.  Her own log says why."""
        log.warning("left the round", extra={"worker": self._me, "task": self._task.name, "reason": reason})
        if not self._task.private:
            return None
        return self.terms.encoded({name: torch.zeros(shape) for name, shape in self.terms.shapes.items()}, self.rows)

    def spend(self) -> str:
        """Count what leaves now, or say why no more may be told."""
        try:
            if isinstance(self._task, DriversLoop):
                self._task.spend()
        except RoundError as error:
            return str(error)
        return ""

    def _words(self, result: Any) -> torch.Tensor:
        if not isinstance(result, Mapping) or not all(isinstance(each, torch.Tensor) for each in result.values()):
            raise RoundError(f"{self._me}: {self._what} returned no dictionary of tensors")
        try:
            left = changes(self._state, result) if self._operation.less_start else result
            return self.terms.encoded(left, self.rows)
        except RoundError as error:
            raise RoundError(f"{self._me}, {self._what}: {error}") from None


def terms_of(operation: Collect) -> Terms:
    """What the owners of a round leave; RemoteError for terms that make no sense."""
    names = operation.gives
    try:
        return Terms(
            {name: tuple(shape) for name, shape in names.items()},
            len(operation.owners),
            operation.max_norm,
            operation.max_value,
            operation.max_rows,
            operation.noise,
            operation.sharers,
        )
    except ValueError as error:
        raise RemoteError(str(error)) from None


def parted(operation: Collect, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """The driver's model, by name."""
    sizes = [math.prod(shape) for shape in operation.shapes]
    least = min([0, *(n for shape in operation.shapes for n in shape)])
    if not len(sizes) == len(operation.names) == len(operation.dtypes) or sum(sizes) != values.numel() or least < 0:
        raise RemoteError("a model whose parameters do not fit what was said of them")
    parts = values.reshape(-1).split(sizes) if sizes else ()  # type: ignore[no-untyped-call]
    return {
        name: part.reshape(shape).to(dtype_of(kind))
        for name, part, shape, kind in zip(operation.names, parts, operation.shapes, operation.dtypes, strict=True)
    }
