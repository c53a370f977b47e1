"""What each operation does to the rows behind numbers (`rows`): a rule for each that can be followed.

A rule takes the shapes of the results and then what the operation's handler takes, in
the handler's order and under its names, with an `Operand` in the place of each tensor.
An operation without a rule, or called in a way that its rule does not know, leaves as
many rows behind each number as the fewest of any number of its operands had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import torch

from pysmpc.ops.core import dims
from pysmpc.remote.arguments import buffers_of
from pysmpc.remote.messages import Call, Ref, Seq
from pysmpc.remote.worker.origins import Origin, owners_of, pattern, renewed
from pysmpc.remote.worker.rows import (
    PUBLIC,
    Labels,
    Operand,
    Rows,
    Shape,
    carried,
    collapsed,
    concatenated,
    elementwise,
    fills,
    joined,
    made,
    moved,
    product,
    reduced,
    taken,
)
from pysmpc.ring.shares import broadcast
from pysmpc.tensor.secret import SecretTensor, TensorStorage

PATTERNS = 32  # of origins, of an operation, that it is known of what comes of them
OPERATIONS = 1 << 10  # that are known

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
CONSTANT: set[str] = set()  # results are public
READS: set[str] = set()  # rules that read their public tensors, and not only the shapes


def followed(func: Any, origins: Sequence[Origin]) -> bool:
    """Whether more is to be known of an operation than the origins of the values that it reads."""
    if func._opname in CONSTANT or func._opname in ("copy_", "fill_"):
        return True
    return any(each.rows.terms for each in origins)


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations of aten, whatever the overload; in-place forms have that of the other."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register


class _Unknown(Exception):
    """The operation was called in a way that its rule does not know."""


# --- elementwise --------------------------------------------------------------------


def _operands(values: Any) -> list[Operand]:
    found: list[Operand] = []
    for value in values:
        if isinstance(value, Operand):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_operands(value))
    return found


@rule(
    """
    add sub rsub neg positive mul div reciprocal square pow addcmul lerp clone _to_copy lt ge gt le eq ne isnan isinf
    logical_not logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor bitwise_not where masked_fill
    relu threshold_backward abs sgn sign maximum minimum clamp clamp_min clamp_max hardtanh hardtanh_backward
    mse_loss_backward floor_divide remainder fmod floor ceil trunc frac __lshift__ __ilshift__ __rshift__ __irshift__
    bitwise_left_shift bitwise_right_shift hardshrink_backward softshrink_backward fmax fmin nan_to_num copysign round
    angle divide_by_count divide_by_sum weigh settle with_bits
    gated
    """
)
def _elementwise(shapes: Sequence[Shape], *args: Any, **kwargs: Any) -> Rows:
    return elementwise(shapes[0], _operands([*args, *kwargs.values()]))


@rule("copy_")
def _copy(shapes: Sequence[Shape], target: Any, source: Any, non_blocking: Any = False) -> Rows:
    return elementwise(shapes[0], _operands([source]))


@rule("fill_")
def _fill(shapes: Sequence[Shape], x: Any, value: Any) -> Rows:
    return elementwise(shapes[0], _operands([value]))


@rule(
    "random_bits gaussian_noise zeros_like empty_like ones_like new_zeros new_empty new_ones full_like "
    "new_empty_strided zero_"
)
def _constant(shapes: Sequence[Shape], *args: Any, **kwargs: Any) -> Rows:
    return PUBLIC


CONSTANT |= {name for name, found in RULES.items() if found is _constant}


# --- reductions ---------------------------------------------------------------------


@rule("sum mean")
def _sum(shapes: Sequence[Shape], x: Any, dim: Any = None, keepdim: Any = False, *, dtype: Any = None) -> Rows:
    return reduced(x.rows, dims(dim, len(x.shape)), bool(keepdim))


@rule("var")
def _var(shapes: Sequence[Shape], x: Any, dim: Any = None, *, correction: Any = None, keepdim: Any = False) -> Rows:
    return reduced(x.rows, dims(dim, len(x.shape)), bool(keepdim))


@rule("mse_loss")
def _mse_loss(shapes: Sequence[Shape], x: Any, target: Any, reduction: int = 1) -> Rows:
    wide = broadcast(x.shape, target.shape)
    found = elementwise(wide, [x, target])
    return found if reduction == 0 else reduced(found, range(len(wide)), False)


@rule("cumsum")
def _cumsum(shapes: Sequence[Shape], x: Any, dim: int, *, dtype: Any = None) -> Rows:
    axis = dim % max(len(x.shape), 1)
    return carried(x.rows, lambda d: None if d == axis else d)


def _picked(x: Operand, dim: Any, keepdim: Any) -> Rows:
    return reduced(x.rows, dims(dim, len(x.shape)), bool(keepdim), unite=False)


@rule("max min")
def _extreme(shapes: Sequence[Shape], x: Any, dim: Any = None, keepdim: Any = False) -> list[Rows]:
    return [_picked(x, dim, keepdim)] * len(shapes)


@rule("argmax argmin amax amin any all")
def _position(shapes: Sequence[Shape], x: Any, dim: Any = None, keepdim: Any = False) -> Rows:
    return _picked(x, dim, keepdim)


# --- products -----------------------------------------------------------------------


def _matrices(x: Operand, y: Operand) -> Rows:
    if len(x.shape) != len(y.shape) or len(x.shape) < 2 or x.shape[:-2] != y.shape[:-2]:
        raise _Unknown
    return product(x, y)


def _vector(x: Operand, y: Operand) -> Rows:
    if len(y.shape) != 1 or len(x.shape) != 2:
        raise _Unknown
    return carried(product(x, Operand(y.rows, (y.shape[0], 1))), lambda d: d if d == 0 else None)


@rule("mm bmm")
def _mm(shapes: Sequence[Shape], x: Any, y: Any) -> Rows:
    return _matrices(x, y)


@rule("mv")
def _mv(shapes: Sequence[Shape], x: Any, y: Any) -> Rows:
    return _vector(x, y)


@rule("dot vdot")
def _dot(shapes: Sequence[Shape], x: Any, y: Any) -> Rows:
    if len(x.shape) != 1 or len(y.shape) != 1:
        raise _Unknown
    return joined(reduced(x.rows, [0], False), reduced(y.rows, [0], False))


@rule("addmm baddbmm")
def _addmm(shapes: Sequence[Shape], bias: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> Rows:
    return joined(elementwise(shapes[0], _operands([bias])), _matrices(x, y))


@rule("addmv")
def _addmv(shapes: Sequence[Shape], bias: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> Rows:
    return joined(elementwise(shapes[0], _operands([bias])), _vector(x, y))


# --- convolutions and pooling: rows along the batch ---------------------------------


def _first(rows: Rows, to: int) -> Rows:
    """Rows along the first axis, which is another of the result."""
    return carried(rows, lambda d: to if d == 0 else None)


@rule("convolution")
def _convolution(
    shapes: Sequence[Shape], x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: Any, output_padding: Any, groups: Any,
) -> Rows:  # fmt: skip
    if len(x.shape) != len(weight.shape):
        raise _Unknown
    return joined(_first(x.rows, 0), _first(weight.rows, 1), *(_first(each.rows, 1) for each in _operands([bias])))


@rule("convolution_backward")
def _convolution_backward(
    shapes: Sequence[Shape], grad: Any, x: Any, weight: Any, bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: Any, output_padding: Any, groups: Any, output_mask: Any,
) -> list[Rows]:  # fmt: skip
    if not len(grad.shape) == len(x.shape) == len(weight.shape):
        raise _Unknown
    batch = [_first(each.rows, 0) for each in (grad, x)]
    for_x = joined(batch[0], collapsed(weight.rows))
    for_weight = joined(*(reduced(each, [0], True) for each in batch))
    for_bias = reduced(grad.rows, [0, *range(2, len(grad.shape))], False)
    return [for_x, for_weight, for_bias]


def _planes(shapes: Sequence[Shape], *operands: Operand) -> Rows:
    """Of each plane (the last two axes) by itself."""
    lead = len(shapes[0]) - 2
    if any(each.shape[:-2] != shapes[0][:-2] for each in operands):
        raise _Unknown
    return joined(*(carried(each.rows, lambda d: d if d < lead else None) for each in operands))


@rule("max_pool2d_with_indices")
def _max_pool(shapes: Sequence[Shape], x: Any, *settings: Any, **named: Any) -> list[Rows]:
    return [_planes(shapes, x)] * 2


@rule("avg_pool2d")
def _avg_pool(shapes: Sequence[Shape], x: Any, *settings: Any, **named: Any) -> Rows:
    return _planes(shapes, x)


@rule("max_pool2d_with_indices_backward avg_pool2d_backward")
def _pool_backward(shapes: Sequence[Shape], *args: Any, **kwargs: Any) -> Rows:
    return _planes(shapes, *_operands([*args, *kwargs.values()]))


# --- movements ----------------------------------------------------------------------


@rule("cat")
def _cat(shapes: Sequence[Shape], tensors: Any, dim: int = 0) -> Rows:
    ndim = len(shapes[0])
    used = [x for x in tensors if x.shape != (0,)] or list(tensors)
    if any(len(x.shape) != ndim for x in used):
        raise _Unknown
    return concatenated(used, dim % ndim)


@rule("stack")
def _stack(shapes: Sequence[Shape], tensors: Any, dim: int = 0) -> Rows:
    axis = dim % len(shapes[0])
    return joined(*(carried(x.rows, lambda d: d + (d >= axis)) for x in tensors))


def _moves(name: str) -> None:
    func = getattr(torch.ops.aten, name)
    overload = func.Tensor if name == "index" else func.default

    def found(shapes: Sequence[Shape], x: Any, *args: Any, **kwargs: Any) -> Rows:
        if _operands([*args, *kwargs.values()]):
            raise _Unknown
        return moved(x.rows, x.shape, lambda at: overload(at, *args, **kwargs))

    RULES[name] = found
    READS.add(name)


MOVES = "index index_select gather flip roll repeat tril triu slice_backward select_backward diagonal_backward"
for _name in MOVES.split():
    _moves(_name)

_by_places = RULES["index"]


@rule("index")
def _index(shapes: Sequence[Shape], x: Any, indices: Any) -> Rows:
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(given) == 1 and isinstance(given[0][1], torch.Tensor):
        axis, index = given[0]
        if index.dim() == 1 and not index.dtype.is_floating_point:
            numbers = index.nonzero().flatten() if index.dtype in (torch.bool, torch.uint8) else index
            return taken(x.rows, axis, numbers)
    return _by_places(shapes, x, indices)  # type: ignore[no-any-return]


@rule("constant_pad_nd")
def _pad(shapes: Sequence[Shape], x: Any, pad: Any, value: Any = 0) -> Rows:
    return moved(x.rows, x.shape, lambda at: torch.ops.aten.constant_pad_nd.default(at, pad, 0))


@rule("scatter")
def _scatter(shapes: Sequence[Shape], zeros: Any, dim: int, positions: Any, grad: Any) -> Rows:
    shape = list(shapes[0])
    axis = dim % len(shape)
    shape[axis] = 1
    if zeros.shape != shapes[0] or any(list(each.shape) != shape for each in (positions, grad)):
        raise _Unknown
    return joined(*(carried(each.rows, lambda d: d if d != axis else None) for each in (zeros, positions, grad)))


# --- one operation of a program -----------------------------------------------------


class _Place(NamedTuple):
    """A window on the value with this number among those that an operation reads."""

    source: int
    size: Shape
    stride: Shape
    offset: int


class Result(NamedTuple):
    """How a result lies in its memory.

    layout: sizes and strides, where it fills its memory.  alias: else, which of the values read has the same memory.
    """

    shape: Shape
    layout: tuple[Shape, Shape] | None
    alias: int | None


class Step:
    """One operation, as far as rows are concerned: it can be applied to whatever origins its values have.

    sources: the values that it reads or writes; their origins are given in that order.  written: those that it
    writes to; there is one result then, which is what was written.
    """

    def __init__(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        sources: Sequence[TensorStorage],
        results: Sequence[Result],
        written: Sequence[TensorStorage],
    ) -> None:
        name = func._opname
        self.rule = RULES.get(name) or (RULES.get(name.removesuffix("_")) if written else None)
        self.constant = name in CONSTANT
        self._reads = name.removesuffix("_") in READS
        self._numbers = {id(cell): number for number, cell in enumerate(sources)}
        self._args = [self._placed(each) for each in args]
        self._kwargs = {key: self._placed(each) for key, each in kwargs.items()}
        self.written = [self._numbers[id(cell)] for cell in written]
        self.results = results
        self._known: dict[Any, Callable[[Sequence[Labels]], list[Origin]]] = {}

    def _placed(self, value: Any) -> Any:
        if isinstance(value, SecretTensor):
            number = self._numbers.get(id(value.cell))
            if number is None:
                return Operand(PUBLIC, tuple(value.size()))
            return _Place(number, tuple(value.size()), tuple(value.stride()), int(value.storage_offset()))
        if isinstance(value, torch.Tensor):
            return value if self._reads else Operand(PUBLIC, tuple(value.size()))
        if isinstance(value, list | tuple):
            return [self._placed(each) for each in value]
        return value

    def apply(self, origins: Sequence[Origin]) -> list[Origin]:
        """Origins of the results, or of what was written to; of the origins of the values read."""
        found = pattern(origins)
        if found is None:
            return self._applied(origins)
        key, labels = found
        known = self._known.get(key)
        if known is not None:
            return known(labels)
        made = self._applied(origins)
        renew = renewed(made, labels)
        if renew is not None:
            if len(self._known) >= PATTERNS:
                self._known.clear()
            self._known[key] = renew
        return made

    def _applied(self, origins: Sequence[Origin]) -> list[Origin]:
        owners = owners_of(origins)
        if self.constant:
            found = [PUBLIC] * len(self.results)
        elif self.rule not in (_copy, _fill) and not any(each.rows.terms for each in origins):
            found = [Rows(min([math.inf, *(each.rows.cap for each in origins)]))] * len(self.results)
        else:
            found = self._rows(origins)
        if self.written:
            return [self._after(found, origins, owners)]
        return [self._stored(rows, result, origins, owners) for rows, result in zip(found, self.results, strict=True)]

    def _rows(self, origins: Sequence[Origin]) -> list[Rows]:
        least = Rows(min(each.rows.least for each in origins))

        def given(value: Any) -> Any:
            if type(value) is _Place:
                number, size, stride, offset = value
                return Operand(origins[number].window(size, stride, offset), size)
            return [given(each) for each in value] if type(value) is list else value

        if self.rule is None:
            return [least] * len(self.results)
        try:
            args = [given(each) for each in self._args]
            kwargs = {key: given(each) for key, each in self._kwargs.items()}
            found = self.rule([result.shape for result in self.results], *args, **kwargs)
        except (_Unknown, TypeError, ValueError, IndexError, AttributeError, RuntimeError):
            return [least] * len(self.results)
        listed = found if isinstance(found, list) else [found]
        if len(listed) != len(self.results):
            return [least] * len(self.results)
        return [rows if _fits(rows, result.shape) else least for rows, result in zip(listed, self.results, strict=True)]

    def _stored(self, rows: Rows, result: Result, origins: Sequence[Origin], owners: frozenset[str]) -> Origin:
        if not rows.terms and (self.constant or result.layout):
            return Origin(owners, rows)
        if result.layout:
            return Origin(owners, rows, result.layout)
        rest = [each.rows.least for number, each in enumerate(origins) if number != result.alias]
        if result.alias is None:
            return Origin(owners, Rows(min([math.inf, *rest])))
        same = origins[result.alias]
        return Origin(owners, made(min([same.rows.cap, *rest]), same.rows.terms), same.layout)

    def _after(self, found: list[Rows], origins: Sequence[Origin], owners: frozenset[str]) -> Origin:
        """Of what was written to: the result, and what it was where only a part was written."""
        before = min(origins[number].rows.least for number in self.written)
        if len(self.written) != 1 or len(self.results) != 1:
            return Origin(owners, Rows(min(each.rows.least for each in origins)))
        [rows], [result] = found, self.results
        if result.layout is None:
            return Origin(owners, Rows(min(rows.least, before)))
        return Origin(owners, rows, result.layout if rows.terms else ((), ()))


def result_of(value: Any, sources: Sequence[TensorStorage], mutable: bool) -> Result:
    """How a result of an operation on these values lies in its memory."""
    shape = tuple(value.size()) if isinstance(value, torch.Tensor) else ()
    if not isinstance(value, SecretTensor):
        return Result(shape, None, None)
    body, stride = value.cell._body, tuple(value.stride())
    if fills(shape, stride, int(value.storage_offset()), body.n):
        return Result(shape, (shape, stride), None)
    if not mutable:
        for number, cell in enumerate(sources):
            if cell._body is body:
                return Result(shape, None, number)
    return Result(shape, None, None)


def _said(value: Any, numbers: Mapping[int, int]) -> Any:
    """An argument, whatever slots its values are in: equal arguments are equal, and no others."""
    kind = type(value)
    if kind is Ref:
        return numbers.get(value.slot, -1), tuple(value.size), tuple(value.stride), value.offset
    if kind is Seq:
        return kind, tuple([_said(each, numbers) for each in value.items])
    if value is None or kind in (bool, int, float, str):
        return kind, value
    return msgspec.msgpack.encode(value)


class Operations:
    """The operations of a session: those of a training are the same in every step."""

    def __init__(self) -> None:
        self._known: dict[Any, Step] = {}

    def step(
        self,
        call: Call,
        func: Any,
        args: Any,
        kwargs: Any,
        sources: Sequence[TensorStorage],
        found: Sequence[Any],
        written: Sequence[TensorStorage],
    ) -> Step:
        """An operation that has just run, of which these results were found."""
        results = tuple(result_of(each, sources, bool(written)) for each in found)
        if func._opname in READS and any(True for each in call.args for _ in buffers_of(each)):
            return Step(func, args, kwargs, sources, results, written)
        numbers = {cell.slot: number for number, cell in enumerate(sources)}
        said = tuple([_said(each, numbers) for each in call.args])
        named = tuple([(name, _said(each, numbers)) for name, each in call.kwargs.items()])
        key = call.name, said, named, results
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= OPERATIONS:
                self._known.clear()
            known = self._known[key] = Step(func, args, kwargs, sources, results, written)
        return known


def _fits(rows: Rows, shape: Shape) -> bool:
    """Whether terms are of a value of that shape."""
    return all(
        term.labels.array.shape[:-1] == tuple(shape[axis] if 0 <= axis < len(shape) else -1 for axis in term.axes)
        for term in rows.terms
    )
