"""What sy.check found: problems, approximations and costs, as text, and a model in which they are mended."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from pysmpc.api.profiling import Network, Profile, Row


class Problem(NamedTuple):
    """What a model needs and secrets lack.

    layer: the module, by its name in the model.  line: where the program called it, "file:line", where that is known.
    instead: the nearest thing that works.
    """

    operation: str
    layer: str
    line: str
    message: str
    instead: str


class Approximation(NamedTuple):
    """An operation that is not exact: where it is used, and what it computes within which error."""

    operation: str
    layers: tuple[str, ...]
    what: str


class LayerMemory(NamedTuple):
    """Bytes of shares of values that a holder has: of all values at the most while a layer ran, and of those that it
    made which are still there at the end of the forward pass, for the backward pass or as its result.
    """

    most: int
    kept: int


@dataclass(eq=False)
class Report:
    """What `sy.check` found: problems, approximations, and costs by layer.

    problems: empty where the model will run.  profile: rounds and bytes by layer and operation.
    bytes_held: what each holder keeps of values at the most, as far as they are alive between the passes.
    memory: by layer, with " backward" for its backward pass.
    """

    model: nn.Module
    problems: list[Problem]
    approximations: list[Approximation]
    profile: Profile
    bytes_held: int
    memory: dict[str, LayerMemory]
    lan: Network
    wan: Network

    @property
    def ok(self) -> bool:
        """Whether nothing is missing."""
        return not self.problems

    def fix(self) -> nn.Module:
        """A copy of the model in which layers that secrets lack are replaced by the nearest that they have.

        nn.CrossMapLRN2d becomes nn.LocalResponseNorm of the same numbers; embeddings lose their max_norm, so that
        rows are no longer shortened as they are read.  What has no replacement stays; check the copy again.
        """
        fixed = copy.deepcopy(self.model)
        for name, module in list(fixed.named_modules()):
            found = _replacement(module)
            if found is not module:
                if not name:
                    return found
                parent, _, attribute = name.rpartition(".")
                setattr(fixed.get_submodule(parent), attribute, found)
        return fixed

    def __str__(self) -> str:
        lines = []
        for each in self.problems:
            at = f" at {each.line}" if each.line else ""
            lines += [f"missing: {each.operation} in {each.layer or 'the program'}{at}", f"    {each.message}"]
            lines += [f"    instead: {each.instead}"] if each.instead else []
        if not self.problems:
            lines.append("nothing is missing")
        for one in self.approximations:
            lines.append(f"approximated: {one.operation} in {', '.join(one.layers)}: {one.what}")
        return "\n".join([*lines, self.table()])

    def table(self) -> str:
        """Rounds, bytes, the time that messages take, and memory, by layer, as text."""
        head = ["layer", "rounds", "kB sent", "kB dealt", "LAN ms", "WAN ms", "MB there", "MB kept"]
        nothing = LayerMemory(0, 0)
        rows = [
            row
            for row in self.profile.by("layer")
            if row.spent.rounds or row.spent.sent or row.spent.dealt or self.memory.get(row.layer, nothing).kept
        ]
        lines = [head] + [self._cells(row) for row in [*rows, self.profile.total()]]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
        held = f"a holder keeps up to {self.bytes_held / 1e6:.1f} MB of shares between the passes"
        note = "LAN, WAN: what messages take there, one after another; computing comes on top"
        there = "MB there: of all values at the most while a layer ran; kept: of its own, after the forward pass"
        return "\n".join([*text, f"{held}; {note}; {there}."])

    def _cells(self, row: Row) -> list[str]:
        spent = row.spent
        seconds = (network.seconds(spent) for network in (self.lan, self.wan))
        sent = spent.sent + spent.asked + spent.answered
        times = [f"{1e3 * each:.1f}" for each in seconds]
        memory = [f"{each / 1e6:.3f}" for each in self._memory_of(row.layer)]
        name = row.layer or "elsewhere"
        return [name, str(spent.rounds), f"{sent / 1e3:.1f}", f"{spent.dealt / 1e3:.1f}", *times, *memory]

    def _memory_of(self, layer: str) -> LayerMemory:
        if layer == "total":
            each = self.memory.values()
            return LayerMemory(max((m.most for m in each), default=0), sum(m.kept for m in each))
        return self.memory.get(layer, LayerMemory(0, 0))


def _replacement(module: nn.Module) -> nn.Module:
    """The nearest layer that secrets have; the module itself where it is one, or where there is none."""
    if isinstance(module, nn.CrossMapLRN2d):
        return nn.LocalResponseNorm(module.size, module.alpha, module.beta, module.k)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        module.max_norm = None
    return module
