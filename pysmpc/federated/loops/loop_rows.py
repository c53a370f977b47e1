"""Whether a captured loop treats all rows of a batch alike, and gives nothing but what they come to together.

Followed is, for each value, which dimension has a place for each row, and along which dimensions its elements are all
equal.  A program passes if no operation tells rows apart by their places (no index, slice, mask or weight that differs
from row to row), picks one of them (a maximum over rows), or leaves a dimension of rows in the model that it makes.
It is a rule about the structure: rows may still be told apart by their values, as by a ReLU that is 0 for all but one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pysmpc.errors import RoundError
from pysmpc.federated.loops.loop_operations import CONSTANTS, ELEMENTWISE, PICKS, SUMS, names
from pysmpc.federated.loops.loop_program import Checked, Shape
from pysmpc.remote.program_messages import Plain, Seq, Step, Use, Value

_ELEMENTWISE, _SUMS, _PICKS = set(names(ELEMENTWISE)), set(names(SUMS)), set(names(PICKS))
_CONSTANTS = {name: name != "aten.arange.start_step" for name in names(CONSTANTS)}  # whether all elements are equal


Facts = Sequence[Any]  # of arguments; None for those that are no tensors


class _Apart(Exception):
    """Why an operation tells rows apart."""


@dataclass(frozen=True)
class Fact:
    """rows: the dimension with a place for each row, if there is one.  same: dimensions along which it is constant."""

    shape: Shape
    rows: int | None = None
    same: frozenset[int] = frozenset()

    def flat(self, dim: int) -> bool:
        """Whether it is constant along a dimension."""
        return dim in self.same or self.shape[dim] == 1


def check(checked: Checked) -> None:
    """RoundError, which names the step, for a program that does not treat the rows of a batch alike."""
    program, first = checked.program, checked.inputs - len(checked.batch)
    facts: list[list[Fact]] = []
    for place in range(checked.inputs):
        facts.append([Fact(checked.found[place][0][0], 0 if place >= first else None)])
    for number, step in enumerate(program.steps):
        shapes = [shape for shape, _ in checked.found[checked.inputs + number]]
        try:
            facts.append(_follow(step, facts, shapes))
        except _Apart as reason:
            raise RoundError(
                f"step {number} of the loop, {step.name}: {reason}; without noise an owner runs only loops that treat "
                "all rows alike"
            ) from None
    for use in program.results:
        if facts[use.place][max(use.item, 0)].rows is not None:
            raise RoundError("the loop leaves single rows in the model: without noise only sums over rows leave")


def _follow(step: Step, facts: Sequence[Sequence[Fact]], shapes: Sequence[Shape]) -> list[Fact]:
    """What is known of the results of a step."""
    given = [_fact(each, facts) for each in step.args]
    inside = [_fact(each, facts) for value in step.args if isinstance(value, Seq) for each in value.items]
    named = [_fact(each, facts) for each in step.kwargs.values()]
    everything = [each for each in (*given, *inside, *named) if each is not None]
    if step.name in _CONSTANTS:
        return [Fact(shapes[0], None, frozenset(range(len(shapes[0]))) if _CONSTANTS[step.name] else frozenset())]
    if step.name in _ELEMENTWISE:
        return [_aligned(everything, shapes[0])]
    rule = _RULES.get(step.name)
    try:
        if all(each.rows is None for each in everything):
            return [Fact(shape, None, _kept(step, everything, shape)) for shape in shapes]
        if rule is None or any(each is not None for each in named):
            raise _Apart("rows are not followed through it")
        found = rule(step, given, inside, shapes)
    except (AttributeError, IndexError, TypeError, ValueError):  # arguments in forms that nobody traces
        raise _Apart("rows are not followed through it") from None
    return [Fact(shape, rows) for shape, rows in zip(shapes, found, strict=True)]


def _fact(value: Any, facts: Sequence[Sequence[Fact]]) -> Fact | None:
    if isinstance(value, Use):
        return facts[value.place][max(value.item, 0)]
    return Fact(tuple(value.size)) if isinstance(value, Plain) else None


def _aligned(facts: Sequence[Fact], shape: Shape, out: frozenset[int] = frozenset()) -> Fact:
    """Of operands that are broadcast to a shape.  out: dimensions along which elements meet others."""
    found = {each.rows + len(shape) - len(each.shape) for each in facts if each.rows is not None}
    if len(found) > 1:
        raise _Apart("rows of one operand meet other dimensions of another")
    same = frozenset(dim for dim in range(len(shape)) if all(_flat_at(each, dim, shape) for each in facts))
    if not found:
        return Fact(shape, None, same)
    [rows] = found
    if any(each.rows is None and not _flat_at(each, rows, shape) for each in facts):
        raise _Apart("an operand that differs from row to row tells them apart")
    if rows in out:
        raise _Apart("rows meet each other")
    return Fact(shape, rows, same - {rows})


def _flat_at(fact: Fact, dim: int, shape: Shape) -> bool:
    own = dim - (len(shape) - len(fact.shape))
    return own < 0 or fact.flat(own)


def _kept(step: Step, known: Sequence[Fact], shape: Shape) -> frozenset[int]:
    """Along which dimensions a result of values without rows is constant, where that is easily seen."""
    if len(known) != 1:
        return frozenset()
    [fact] = known
    if step.name not in _MOVES or step.name == "aten.constant_pad_nd.default":
        return frozenset()
    if all(fact.flat(dim) for dim in range(len(fact.shape))):
        return frozenset(range(len(shape)))
    if step.name == "aten.expand.default":
        shift = len(shape) - len(fact.shape)
        return frozenset(dim for dim in range(len(shape)) if _flat_at(fact, dim, shape) or dim < shift)
    long = [dim for dim in range(len(fact.shape)) if fact.flat(dim) and fact.shape[dim] > 1]
    return frozenset(there for dim in long if (there := _moved(step, fact, dim, shape)) is not None)


def _moved(step: Step, fact: Fact, dim: int, shape: Shape) -> int | None:
    """Where a dimension is after a change of shape; None where it is no dimension any more."""
    name, n = step.name, len(fact.shape)
    if name == "aten.permute.default":
        return [each % n for each in _ints(step.args[1])].index(dim)
    if name == "aten.unsqueeze.default":
        return dim + (_ints(step.args[1])[0] % (n + 1) <= dim)
    if name == "aten.expand.default":
        return dim + len(shape) - n
    if name == "aten.select.int":
        gone = _ints(step.args[1])[0] % n
        return None if gone == dim else dim - (gone < dim)
    if name in ("aten.slice.Tensor", "aten.constant_pad_nd.default"):
        return dim if shape[dim] == fact.shape[dim] else None
    # views and squeezes: as many elements before it, and as many in it
    before, size = math.prod(fact.shape[:dim]), fact.shape[dim]
    found = [each for each in range(len(shape)) if shape[each] == size and math.prod(shape[:each]) == before]
    return found[-1] if found and size > 1 else None


def _ints(value: Value) -> list[int]:
    """A list of whole numbers, or one; TypeError for anything else."""
    found = [each for each in (value.items if isinstance(value, Seq) else [value]) if type(each) is int]
    if len(found) != (len(value.items) if isinstance(value, Seq) else 1):
        raise TypeError("no whole numbers")
    return found


def _move(step: Step, given: Facts, inside: Facts, shapes: Sequence[Shape]) -> list[int | None]:
    there = _moved(step, given[0], given[0].rows, shapes[0])
    if there is None:
        raise _Apart("rows are taken apart by their places")
    return [there]


def _sum(step: Step, given: Facts, inside: Facts, shapes: Sequence[Shape]) -> list[int | None]:
    fact, n = given[0], len(given[0].shape)
    listed = step.args[1] if len(step.args) > 1 else None
    if listed is None or listed == Seq([]):
        dims = set(range(n))
    else:
        dims = {each % n for each in _ints(listed)}
    if fact.rows in dims:
        if step.name in _PICKS:
            raise _Apart("it picks one of the rows")
        return [None] * len(shapes)
    keeps = len(shapes[0]) == n
    return [fact.rows if keeps else fact.rows - sum(each < fact.rows for each in dims)] * len(shapes)


def _product(step: Step, given: Facts, inside: Facts, shapes: Sequence[Shape]) -> list[int | None]:
    """[.., n, k] times [.., k, m]."""
    bias, a, b = given if step.name == "aten.addmm.default" else (None, *given[:2])
    n = len(a.shape)
    if n == 3 and (a.rows == 0 or b.rows == 0):
        found = _aligned([Fact(f.shape[:1], f.rows, f.same & {0}) for f in (a, b)], shapes[0][:1]).rows
    elif a.rows == n - 1 or b.rows == n - 2:  # a sum over rows, if each meets its own or what is equal for all
        if (a.rows not in (n - 1, None)) or (b.rows not in (n - 2, None)):
            raise _Apart("rows meet each other")
        if (a.rows is None and not a.flat(n - 1)) or (b.rows is None and not b.flat(n - 2)):
            raise _Apart("an operand that differs from row to row tells them apart")
        found = None
    elif a.rows is not None and b.rows is not None:
        raise _Apart("rows meet each other")
    else:
        found = a.rows if a.rows is not None else b.rows
    parts = [Fact(shapes[0], found), *([bias] if bias is not None else [])]
    return [_aligned(parts, shapes[0]).rows]


def _indexed(step: Step, given: Facts, inside: Facts, shapes: Sequence[Shape]) -> list[int | None]:
    """gather and scatter along a dimension that is not that of rows."""
    dim = _ints(step.args[1])[0] % max(1, len(given[0].shape))
    facts = [each for each in given if each is not None]
    found = _aligned(facts, shapes[0], frozenset([dim]))
    if any(len(each.shape) != len(shapes[0]) for each in facts) or len({each.shape[found.rows] for each in facts}) != 1:
        raise _Apart("rows are taken apart by their places")
    return [found.rows]


def _embedding(step: Step, given: Facts, inside: Facts, shapes: Sequence[Shape]) -> list[int | None]:
    if given[0].rows is not None:
        raise _Apart("rows are looked up by their places")
    return [given[1].rows]


def _index_put(step: Step, given: Facts, inside: Facts, shapes: Sequence[Shape]) -> list[int | None]:
    """Adds rows up by their values, as the gradient of an embedding does."""
    table, put, adds = given[0], given[2], len(step.args) > 3 and step.args[3] is True
    if table.rows is not None or not adds or len(inside) != 1 or (inside[0].rows, put.rows) != (0, 0):
        raise _Apart("rows are written by their places")
    return [None]


def _cat(step: Step, given: Facts, inside: Facts, shapes: Sequence[Shape]) -> list[int | None]:
    dim = (_ints(step.args[1])[0] if len(step.args) > 1 else 0) % len(shapes[0])
    return [_aligned(inside, shapes[0], frozenset([dim])).rows]


def _layer(step: Step, given: Facts, inside: Facts, shapes: Sequence[Shape]) -> list[int | None]:
    """Convolutions and poolings of rows that lie along the first dimension."""
    data = [each for each in given if each is not None]
    if "convolution" in step.name:
        at = 2 if "backward" in step.name else 1
        weights = [each for each in given[at:3] if each is not None]
        data = [each for each in given[:at] if each is not None]
        if any(each.rows is not None for each in weights) or len(data[-1].shape) != len(weights[0].shape):
            raise _Apart("weights are made of single rows, or rows are channels")
    if any(each.rows != 0 and not (each.rows is None and each.flat(0)) for each in data):
        raise _Apart("rows do not lie along the first dimension")
    return [0, None, None] if step.name == "aten.convolution_backward.default" else [0] * len(shapes)


_MOVES = ("aten.permute.default", "aten.unsqueeze.default", "aten.expand.default", "aten.select.int",
          "aten.slice.Tensor", "aten.constant_pad_nd.default", "aten.view.default", "aten.squeeze.dim",
          "aten.squeeze.dims")  # fmt: skip
_RULES = {
    **dict.fromkeys(_MOVES, _move),
    **dict.fromkeys((*_SUMS, *_PICKS), _sum),
    **dict.fromkeys(("aten.mm.default", "aten.addmm.default", "aten.bmm.default"), _product),
    **dict.fromkeys(
        ("aten.gather.default", "aten.scatter.src", "aten.scatter.value", "aten.scatter_add.default"), _indexed
    ),
    "aten.embedding.default": _embedding,
    "aten.index_put.default": _index_put,
    "aten.cat.default": _cat,
    **dict.fromkeys(
        ("aten.convolution.default", "aten.convolution_backward.default", "aten.max_pool2d_with_indices.default",
         "aten.max_pool2d_with_indices_backward.default", "aten.avg_pool2d.default",
         "aten.avg_pool2d_backward.default"),
        _layer,
    ),
}  # fmt: skip
