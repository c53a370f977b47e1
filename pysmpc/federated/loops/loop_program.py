"""A captured loop at an owner: checked on tensors without elements, then repeated on batches of her rows.

Whatever is wrong with a program for what is public of it (operations, shapes, sizes) is found by `Checked`, before
anything is computed.  Programs come from drivers, who may have written them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from pysmpc.errors import ChannelError, RoundError
from pysmpc.federated.loops.loop_operations import CONSTANTS, OPERATIONS, names
from pysmpc.remote.arguments import DTYPES, decode_plain
from pysmpc.remote.program_messages import Dtype, LoopProgram, Plain, Seq, Step, Use, Value

Shape = tuple[int, ...]


class Stopped(Exception):
    """The time for a loop is over."""


class Checked:
    """A program that keeps to the table of operations, to its shapes, and to so many bytes.

    state: shapes and dtypes of the model's tensors.  memory: bytes of all results that are needed at one time, what
    operations need beside them not counted.  Raises RoundError, which names the step.
    """

    def __init__(self, program: LoopProgram, state: Sequence[tuple[Shape, torch.dtype]], memory: int) -> None:
        self.program = program
        batch = [(tuple(shape), _dtype(name)) for shape, name in zip(program.shapes, program.dtypes, strict=False)]
        if not batch or len(batch) != len(program.dtypes) or any(not shape or shape[0] < 1 for shape, _ in batch):
            raise RoundError("a loop is given one tensor or more, of a batch of one row or more")
        if len({shape[0] for shape, _ in batch}) != 1:
            raise RoundError("the tensors of a loop's batch have different numbers of rows")
        self.batch, self.rows = batch, batch[0][0][0]
        self.inputs = len(state) + len(batch)
        try:
            values: list[Any] = [torch.empty(shape, dtype=kind, device="meta") for shape, kind in (*state, *batch)]
            self._last = _last_uses(program, self.inputs)
        except (RuntimeError, ValueError, TypeError) as error:
            raise RoundError(f"what a loop is given has no such shapes: {_line(error)}") from None
        #: Of each place: shape and dtype of its tensors.
        self.found: list[list[tuple[Shape, torch.dtype]]] = [_shapes(each) for each in values]
        self._blanks: list[Any] = []  # of each step: what stands for its results where it fails
        held = sum(_bytes(each) for each in values)
        for number, step in enumerate(program.steps):
            where = f"step {number} of the loop, {step.name[:60]}"
            if step.name not in OPERATIONS:
                raise RoundError(f"{where}: no operation of a loop at owners; see loop_operations")
            try:
                _trusted(step, program, self.inputs, values)
                out = apply(step, values, "meta")
            except RoundError as error:
                raise RoundError(f"{where}: {error}") from None
            except Exception as error:  # whatever torch has against it, it follows from shapes
                raise RoundError(f"{where}: {_line(error)}") from None
            values.append(out)
            self.found.append(_shapes(out))
            self._blanks.append(_blank(out))
            held += _bytes(out)
            if held > memory:
                raise RoundError(f"{where}: {held} bytes are needed by then, and {memory} are allowed (memory)")
            for place in self._last[self.inputs + number]:
                held -= _bytes(values[place])
                values[place] = None
        self._check_results(state)

    def _check_results(self, state: Sequence[tuple[Shape, torch.dtype]]) -> None:
        results = [self.at(use) for use in self.program.results]
        if results != list(state):
            raise RoundError("what a loop makes of a batch is the model again: tensors of its shapes and dtypes")

    def at(self, use: Use) -> tuple[Shape, torch.dtype]:
        """Shape and dtype of what is used.  RoundError where there is no such thing."""
        if not 0 <= use.place < len(self.found) or not -1 <= use.item < len(self.found[use.place]):
            raise RoundError(f"the loop uses place {use.place}, which there is not at that step")
        if use.item < 0 and len(self.found[use.place]) != 1:
            raise RoundError(f"the loop uses place {use.place} as one tensor, and there are several")
        return self.found[use.place][max(use.item, 0)]

    def once(
        self,
        state: Sequence[torch.Tensor],
        batch: Sequence[torch.Tensor],
        over: Callable[[], bool],
        failures: list[Exception],
    ) -> list[Any]:
        """The model after one batch.  Raises Stopped once it is over.

        failures: the first thing that torch has against the values goes there, and zeros stand for the results of
        such a step.  What comes after it is computed all the same, or the time would tell of the values.
        """
        values: list[Any] = [*state, *batch]
        for number, step in enumerate(self.program.steps):
            if over():
                raise Stopped
            try:
                out = apply(step, values, "cpu")
                if _shapes(out) != self.found[self.inputs + number]:
                    raise RuntimeError(f"step {number} gave other shapes than were expected of it")
            except Exception as error:
                if not failures:
                    failures.append(error.with_traceback(None))  # which would keep the values
                out = _zeros(self._blanks[number])
            values.append(out)
            for place in self._last[self.inputs + number]:
                values[place] = None
        return [_used(values, use) for use in self.program.results]

    def repeat(
        self,
        state: Mapping[str, torch.Tensor],
        data: Sequence[torch.Tensor],
        epochs: int,
        shuffle: bool,
        over: Callable[[], bool],
    ) -> dict[str, torch.Tensor]:
        """The model after so many passes over the data in batches; rows that do not fill a batch are left out.

        shuffle: the order of rows is drawn anew for each pass.  Raises what torch has against the values, at the end.
        """
        now, failures = list(state.values()), list[Exception]()
        with torch.no_grad():
            for _ in range(epochs):
                order = torch.randperm(len(data[0])) if shuffle else torch.arange(len(data[0]))
                for rows in torch.split(order, self.rows):
                    if len(rows) == self.rows:
                        now = self.once(now, [each[rows] for each in data], over, failures)
        if failures:
            raise failures[0]
        return dict(zip(state, now, strict=True))


def apply(step: Step, values: Sequence[Any], device: str) -> Any:
    """What an operation makes of values."""
    args = [_argument(each, values, device) for each in step.args]
    kwargs = {name: _argument(each, values, device) for name, each in step.kwargs.items()}
    if step.name == "aten.clone.default":  # a view may follow
        kwargs = {"memory_format": torch.contiguous_format}
    elif device == "meta" and step.name in _MAKERS:
        kwargs["device"] = torch.device("meta")
    return OPERATIONS[step.name](*args, **kwargs)


_MAKERS = names(CONSTANTS)
_KEYWORDS = {"dtype", "alpha", "approximate", "correction", "keepdim", "min", "max", "value", "accumulate", "step"}


def _argument(value: Value, values: Sequence[Any], device: str) -> Any:
    if isinstance(value, Use):
        return _used(values, value)
    if isinstance(value, Seq):
        return [_argument(each, values, device) for each in value.items]
    if isinstance(value, Dtype):
        return _dtype(value.name)
    if isinstance(value, Plain):
        if value.data is None:
            raise RoundError("a constant of a loop is small; give more as a buffer of the model")
        try:
            return decode_plain(value, iter(())).to(device)
        except ChannelError as error:
            raise RoundError(str(error)) from None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise RoundError(f"a loop has no arguments of kind {type(value).__name__}")


def _used(values: Sequence[Any], use: Use) -> Any:
    if not 0 <= use.place < len(values) or values[use.place] is None:
        raise RoundError(f"place {use.place} is of no use here")
    found = values[use.place]
    several = isinstance(found, tuple | list)
    if several != (use.item >= 0) or (several and use.item >= len(found)):
        raise RoundError(f"place {use.place} has no result {use.item}")
    return found[use.item] if several else found


def uses(value: Value | Sequence[Value]) -> Iterator[Use]:
    """The places that arguments name."""
    if isinstance(value, Use):
        yield value
    elif isinstance(value, Seq):
        yield from uses(value.items)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from uses(each)


def _last_uses(program: LoopProgram, inputs: int) -> dict[int, list[int]]:
    """By place of a step: what is used there for the last time, so that its memory is free."""
    last: dict[int, int] = {place: place for place in range(inputs + len(program.steps))}
    for number, step in enumerate(program.steps):
        for use in uses([*step.args, *step.kwargs.values()]):
            last[use.place] = inputs + number
    for use in program.results:
        last.pop(use.place, None)
    free: dict[int, list[int]] = {inputs + number: [] for number in range(len(program.steps))}
    for place, at in last.items():
        if at in free and 0 <= place <= at:
            free[at].append(place)
    return free


def _trusted(step: Step, program: LoopProgram, inputs: int, values: Sequence[Any]) -> None:
    """RoundError for what torch's kernels take on trust, or operations on tensors without elements do not tell."""
    if unknown := set(step.kwargs) - _KEYWORDS:
        raise RoundError(f"there is no keyword {sorted(unknown)[0][:40]} in a loop")
    if step.name == "aten.max_pool2d_with_indices_backward.default":  # its kernel writes where the indices say
        *given, indices = step.args[1:]
        place = indices.place - inputs if isinstance(indices, Use) and indices.item == 1 else -1
        made = program.steps[place] if 0 <= place < len(program.steps) else step
        if made.name != "aten.max_pool2d_with_indices.default" or [*made.args, *_POOLING[len(made.args) :]] != given:
            raise RoundError("its indices are not those of the pooling of the same tensor in the same way")
    if step.name.startswith("aten.convolution"):
        backward = step.name != "aten.convolution.default"
        sizes = step.args[4:10] if backward else step.args[3:]
        stride, padding, dilation, _, more, groups = sizes
        lists = [each.items if isinstance(each, Seq) else [None] for each in (stride, padding, dilation, more)]
        if any(type(n) is not int or n < 0 for each in (*lists, [groups]) for n in each) or 0 in (
            *lists[0], *lists[2], groups,
        ):  # fmt: skip
            raise RoundError("strides, dilations and groups are whole numbers above 0, and paddings 0 or more")
        if backward:
            forward = Step("aten.convolution.default", [*step.args[1:3], None, *sizes], {})
            if apply(forward, values, "meta").shape != _argument(step.args[0], values, "meta").shape:
                raise RoundError("the gradient has not the shape of what the convolution gives")


#: Arguments of a pooling: tensor, kernel, stride, padding, dilation, ceil_mode; from the fourth on, if left out.
_POOLING: list[Value] = [None, None, None, Seq([0, 0]), Seq([1, 1]), False]


def _blank(out: Any) -> Any:
    """(shape, dtype) of a tensor, a list of such for several, None for none."""
    if isinstance(out, tuple | list):
        return [_blank(each) for each in out]
    return None if out is None else (tuple(out.shape), out.dtype)


def _zeros(blank: Any) -> Any:
    """Tensors of zeros, of these shapes and dtypes: one, or several."""
    if isinstance(blank, list):
        return [_zeros(each) for each in blank]
    return None if blank is None else torch.zeros(blank[0], dtype=blank[1])


def _shapes(out: Any) -> list[tuple[Shape, torch.dtype]]:
    tensors = out if isinstance(out, tuple | list) else [out]
    return [((), torch.bool) if each is None else (tuple(each.shape), each.dtype) for each in tensors]


def _bytes(out: Any) -> int:
    tensors = out if isinstance(out, tuple | list) else [out]
    return sum(each.numel() * each.element_size() for each in tensors if each is not None)


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise RoundError(f"{name[:40]!r} is no dtype of a loop")
    return DTYPES[name]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
