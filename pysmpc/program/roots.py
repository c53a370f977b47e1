"""Which parts of what it only reads a path takes, and which of its values are views of them.

A loop reads a batch: a tensor of its own, a slice of a data set (`x[i : i + 64]`), or rows of one (`x[order[:64]]`).
Where the part lies in the data set differs each time, and nothing else: so a part is an input of the path, a *root*,
and what the path makes of it by views of fixed numbers follows it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from pysmpc.program.path import Layout, Node, Operand, Path, Public, Several, leaves
from pysmpc.ring.shares import dense_strides

aten = torch.ops.aten

SLICES = (aten.slice.Tensor, aten.select.int, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int)
ROWS = (aten.index.Tensor, aten.index_select.default)


def find_roots(path: Path) -> None:
    """Mark the nodes that take parts (`Node.taking`); write down the roots of values, and the inputs of the path."""
    tangled: set[int] = set()  # cells with values that have no root of their own
    while found := (search := _Search(path, tangled)).tangled:
        tangled |= found
    path.roots = search.roots
    for node in search.taking:
        node.taking = True
        for value in _made(node) if node.func in ROWS else ():
            number = path.values[value][0]
            path.late[number], path.cells[number] = path.cells[number].unit, None
    used = [value for node in path.nodes if not node.view and not node.taking for value in _operands(node)]
    path.inputs = list(dict.fromkeys(path.roots[value] for value in used if value in path.roots))
    whole = dict.fromkeys(path.values[value][0] for value in used if value not in path.roots)
    path.wholes = [number for number in whole if number in path.late]


class _Search:
    """One look at a path.  tangled: further cells of which not every value can have a root."""

    def __init__(self, path: Path, without: set[int]) -> None:
        self.roots: dict[int, int] = {}
        self.taking: list[Node] = []
        self.tangled: set[int] = set()
        self._path, self._read = path, path.late.keys() - without
        made: set[int] = set()  # values that nodes make: others were there before
        used: list[int] = []
        for node in path.nodes:
            given = _operands(node)
            for value in given:
                if value not in made and path.values[value][0] in self._read:
                    self._root(value, value)
            new = _made(node)
            if self._takes(node, new):
                self.taking.append(node)
                for value in new:
                    self._read |= {path.values[value][0]}
                    self._root(value, value)
            elif node.view:
                for value in new:
                    if path.values[value][0] in self._read and given:
                        self._root(value, self.roots.get(given[0], -1))
            else:
                used += given
            made.update(new)
        self._overlaps({self.roots[value] for value in used if value in self.roots})

    def _root(self, value: int, root: int) -> None:
        number, layout = self._path.values[value]
        if self.roots.setdefault(value, root) != root or (value == root and not _dense(layout)):
            self.tangled.add(number)

    def _takes(self, node: Node, new: list[int]) -> bool:
        """Whether a node takes a part of the only secret that it is called with."""
        first, *rest = node.args
        if type(first) is not Operand or first.requires_grad or node.context.backward or node.changed:
            return False
        if first.value not in self.roots or not all(map(_noted_public, (*rest, *dict(node.kwargs).values()))):
            return False
        values = [self._path.values[value] for value in new]
        if node.func in ROWS:
            return all(number not in self._path.late for number, _ in values)
        dense = all(value not in self.roots and _dense(self._path.values[value][1]) for value in new)
        return node.func in SLICES and dense

    def _overlaps(self, used: set[int]) -> None:
        """What is opened of a part is known of others that have elements of it in common: those are not told apart."""
        found: dict[int, list[tuple[int, int]]] = {}
        for value in used:
            number, (size, _, offset, _) = self._path.values[value]
            found.setdefault(number, []).append((offset, offset + size.numel()))
        for number, ends in found.items():
            ends.sort()
            if any(a[1] > b[0] for a, b in pairwise(ends)):
                self.tangled.add(number)


def _made(node: Node) -> list[int]:
    return [out.value for out in node.made]


def _operands(node: Node) -> list[int]:
    found = leaves(Several(tuple, (*node.args, *dict(node.kwargs).values())))
    return [each.value for each in found if type(each) is Operand]


def _dense(layout: Layout) -> bool:
    size, strides, *_ = layout
    return tuple(strides) == dense_strides(tuple(size))


def _noted_public(x: Any) -> bool:
    if type(x) is Several:
        return all(map(_noted_public, x.items))
    return type(x) is Public or x is None or isinstance(x, int)


def is_public(x: Any) -> bool:
    """Whether an argument of a call is a number, a plain tensor, or a list of them."""
    if isinstance(x, list | tuple):
        return all(map(is_public, x))
    return x is None or isinstance(x, int) or type(x) in (torch.Tensor, torch.nn.Parameter)


class Places:
    """Where the parts of a run lie in their cells.  roots: all of the path's.  layouts: of its values, as now."""

    def __init__(self, path: Path, layouts: list[Layout]) -> None:
        self.roots = frozenset(path.roots.values())
        self._path, self._layouts = path, layouts
        self._found: dict[int, tuple[int, int, int]] = {}  # of a root: its cell, its first element, that after its last

    def begins(self, root: int, x: torch.Tensor) -> bool:
        """Whether x may be this part.  It and its views then lie elsewhere than when they were noted."""
        size, strides, offset, dtype = self._layouts[root]
        if (size, strides, dtype) != (x.size(), x.stride(), x.dtype):
            return False
        start = int(x.storage_offset())
        moved = start - offset
        if root in self._found:
            return not moved
        end = start + x.numel() if root in self._path.inputs else start  # of others only parts are read
        here = self._path.values[root][0], start, end
        if any(here[0] == there[0] and here[1] < there[2] and there[1] < here[2] for there in self._found.values()):
            return False  # what is opened of elements in common would be opened twice
        self._found[root] = here
        for value, its in self._path.roots.items() if moved else ():
            if its == root:
                size, strides, offset, dtype = self._layouts[value]
                self._layouts[value] = size, strides, offset + moved, dtype
        return True
