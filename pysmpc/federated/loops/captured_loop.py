"""An ordinary training loop, captured once at the driver, to be repeated at owners on batches of their rows.

    def local(model, data, target):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(data), target)
            loss.backward()
            optimizer.step()

    loop = Loop("digits", local, model, torch.zeros(32, 784), torch.zeros(32, dtype=torch.int64))

The function sees one batch, of zeros: what it does must not depend on values.  Its optimizer starts anew with each
batch.  Functions of pointers, with `model.send(data.location)` and `model.get()`, are captured with examples that are
pointers to a virtual worker.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch._decomp import core_aten_decompositions, decomposition_table
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from pysmpc.compat.pysyft import labels, verbs
from pysmpc.compat.pysyft.pointers import RemoteTensor
from pysmpc.federated.loops.loop_operations import OPERATIONS
from pysmpc.federated.loops.loop_program import Checked
from pysmpc.remote.arguments import NAMES, encode
from pysmpc.remote.program_messages import LoopProgram, Plain, Seq, Step, Use, Value

aten = torch.ops.aten
_DROPPED = {"device", "layout", "pin_memory", "memory_format", "non_blocking", "implicit"}
_FILLED: dict[str, list[int]] = {
    "aten.full_like.default": [], "aten.zeros_like.default": [0], "aten.ones_like.default": [1],
}  # fmt: skip
_SAME = ("aten.alias.default", "aten.detach.default", "aten.lift_fresh_copy.default", "aten.lift_fresh.default")
#: Layers and losses in smaller operations, beside those of torch's core.
_SMALLER = (
    aten._log_softmax, aten._softmax, aten._native_batch_norm_legit_functional, aten.native_layer_norm,
    aten.gelu, aten.leaky_relu, aten.elu, aten.hardtanh,
)  # fmt: skip
LARGEST = 1 << 40  # bytes; owners say how many they allow


class Loop:
    """A captured loop.

    name: of what owners' files allow such loops to see (`[loops.NAME]`).  function: as above, of the model and one
    tensor for each that owners give, in the order of their files.  examples: a batch, of which shapes and dtypes count.
    shuffle: each owner draws the order of her rows anew for each pass; else it is that of her file.
    Raises RuntimeError for a function that branches on a value, and NotImplementedError for an operation that owners do
    not run (`loop_operations`).
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        model: nn.Module,
        *examples: torch.Tensor,
        shuffle: bool = True,
    ) -> None:
        self.name, self.shuffle = name, shuffle
        state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
        graph = _captured(function, model, list(state), examples)
        self.program = _program(graph, [*state.values()], examples)
        self._checked = Checked(self.program, [(tuple(v.shape), v.dtype) for v in state.values()], LARGEST)

    def __repr__(self) -> str:
        return f"Loop({self.name!r}, {len(self.program.steps)} operations on batches of {self._checked.rows} rows)"

    def __call__(self, model: nn.Module, *data: torch.Tensor, epochs: int = 1) -> None:
        """Train a model in place, as an owner's worker does: what virtual workers run."""
        state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
        found = self._checked.repeat(state, data, epochs, self.shuffle, lambda: False)
        with torch.no_grad():
            for key, value in found.items():
                state[key].copy_(value)


def _captured(
    function: Callable[..., Any], model: nn.Module, names: Sequence[str], examples: Sequence[torch.Tensor]
) -> fx.GraphModule:
    """The function on a batch, as operations of `loop_operations` that write nothing in place."""
    worker = next((labels.location(each) for each in examples if isinstance(each, RemoteTensor)), None)
    own = copy.deepcopy(model)
    if worker is not None:  # the model is at the worker from the beginning to the end of what is captured
        vars(own)["send"] = vars(own)["get"] = lambda *arguments, **options: own

    def there(value: torch.Tensor) -> torch.Tensor:
        return value if worker is None else verbs.send(value, worker)

    whole = {name: buffer for name, buffer in own.named_buffers() if not buffer.is_floating_point()}

    def program(values: list[torch.Tensor], *batch: torch.Tensor) -> list[torch.Tensor]:
        with torch.enable_grad():
            for name, value in zip(names, values, strict=True):
                _put(own, name, there(value.detach().clone()))
            nothing = values[0].detach().flatten()[:0].sum()  # what is made with an input is traced
            for name, value in whole.items():
                _put(own, name, there(value + nothing.to(value.dtype)))
            function(own, *map(there, batch))
        state = own.state_dict(keep_vars=True)
        return [verbs.get(v) if isinstance(v := state[name], RemoteTensor) else v.detach() for name in names]

    blank = [torch.zeros(v.shape, dtype=v.dtype) for k, v in model.state_dict().items() if k in names]
    batch = [torch.zeros(tuple(each.shape), dtype=each.dtype) for each in examples]
    norm = {aten.native_batch_norm.default: decomposition_table[aten.native_batch_norm.default]}
    smaller = {op: decomposition_table[op] for packet in _SMALLER if (op := packet.default) in decomposition_table}
    try:
        first = make_fx(program, decomposition_table=norm)(blank, *batch)
    except RuntimeError as error:
        if "_local_scalar_dense" not in str(error):
            raise
        raise RuntimeError(
            "the loop branches on a value, or takes one out of a tensor (item, print), and so is no fixed program"
        ) from None
    for node in reversed(first.graph.nodes):
        if str(node.target).startswith("profiler."):
            first.graph.erase_node(node)
    first.recompile()
    table: dict[Any, Any] = {**core_aten_decompositions(), **smaller}
    graph = make_fx(functionalize(first), decomposition_table=table)(blank, *batch)
    graph.graph.eliminate_dead_code()
    return graph


def _put(model: nn.Module, name: str, value: torch.Tensor) -> None:
    """A parameter or buffer in the place of another."""
    path, _, key = name.rpartition(".")
    part = model.get_submodule(path)
    if key in part._parameters:
        wanted = part._parameters[key].requires_grad  # type: ignore[union-attr]
        away = isinstance(value, RemoteTensor)  # a Parameter of a tensor that is traced would not be
        part._parameters[key] = nn.Parameter(value, wanted) if away else value.requires_grad_(wanted)  # type: ignore[assignment]
    else:
        part._buffers[key] = value


def _program(graph: fx.GraphModule, state: Sequence[torch.Tensor], examples: Sequence[torch.Tensor]) -> LoopProgram:
    """A graph as messages."""
    uses: dict[Any, Value] = {}
    steps: list[Step] = []
    results: list[Any] = []

    def add(node: fx.Node, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        if name not in OPERATIONS:
            raise NotImplementedError(f"owners do not run {name} in a loop")
        kept = {key: _message(each, uses) for key, each in kwargs.items() if key not in _DROPPED}
        steps.append(Step(name, [_message(each, uses) for each in args], kept))
        uses[node] = Use(len(state) + len(examples) + len(steps) - 1)

    for node in graph.graph.nodes:
        name, args = str(node.target), list(node.args)
        if node.op == "placeholder":
            uses[node] = Use(len(uses))
        elif node.op == "get_attr":
            uses[node] = _constant(getattr(graph, name))
        elif node.op == "output":
            results = [uses[each] for each in args[0]]
        elif "getitem" in name:
            made = uses[args[0]]
            assert isinstance(made, Use)
            uses[node] = Use(made.place, args[1])
        elif name in _SAME:
            uses[node] = uses[args[0]]
        elif "aten.empty" in name:  # its size alone is used
            continue
        elif name in _FILLED:
            add(
                node,
                "aten.full.default",
                [[*_value(node).shape], *args[1:], *_FILLED[name]],
                {"dtype": _value(node).dtype},
            )
        elif name == "aten.copy.default":
            add(node, "aten._to_copy.default", args[1:2], {"dtype": _value(node).dtype})
            add(node, "aten.expand.default", [node, [*_value(node).shape]], {})
        else:
            add(node, name, args, node.kwargs)
    shapes, kinds = [list(each.shape) for each in examples], [NAMES[each.dtype] for each in examples]
    return LoopProgram(shapes, kinds, steps, results)


def _value(node: fx.Node) -> torch.Tensor:
    """What it was when it was traced: of its shape and dtype."""
    found: torch.Tensor = node.meta["val"]
    return found


def _constant(value: torch.Tensor) -> Value:
    found = encode(value, [])
    if not isinstance(found, Plain) or found.data is None:
        raise NotImplementedError("a loop with a constant of more than a kilobyte: make it a buffer of the model")
    return found


def _message(value: Any, uses: dict[Any, Value]) -> Value:
    if isinstance(value, fx.Node):
        return uses[value]
    if isinstance(value, list | tuple):
        return Seq([_message(each, uses) for each in value])
    return encode(value, [])
