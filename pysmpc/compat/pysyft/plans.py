"""Plans: functions and modules that were captured once, as torch's own operations, and run from that.

What is captured does not depend on values: a plan that branches on one is refused when it is built.  What runs is the
captured graph, on plain tensors, on secrets, or at the worker that its state was sent to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from pysmpc.compat.pysyft import modules, verbs
from pysmpc.compat.pysyft.pointers import RemoteTensor
from pysmpc.compat.pysyft.pysyft_errors import unsupported
from pysmpc.tensor.secret import SecretTensor

Key = tuple[tuple[tuple[int, ...], torch.dtype], ...]


class _Body(nn.Module):
    """The program of a plan, as a module to capture: a call of the plan itself runs what was captured."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def forward(self, *arguments: Any) -> Any:
        """The program."""
        return self.plan.forward(*arguments)


class State:
    """What a function was given beside its arguments; `read` has it as a list."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tensors = list(tensors)

    def read(self) -> list[torch.Tensor]:
        """The tensors."""
        return list(self._tensors)


class _Graphs(dict[Key, fx.GraphModule]):
    """What was captured, by shapes.  A copy of a plan shares it: graphs do not change, and hold no values."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Graphs:
        return _Graphs(self)


class Plan(nn.Module):
    """A captured program.

    Derive from it and define `forward`, as with nn.Module, or use `func2plan`.  `build(*examples)` captures it for
    tensors of these shapes; a call with other shapes captures again.  `code` is what was captured.  `send(worker)`
    gives a pointer, which runs the plan there on pointers.
    """

    def __init__(self, *, name: str = "", function: Callable[..., Any] | None = None, state: Any = ()) -> None:
        super().__init__()
        self.name = name or type(self).__name__
        self._function = function
        self._graphs = _Graphs()
        self._names: list[str] = []
        for place, tensor in enumerate(state):
            self.register_buffer(f"state_{place}", torch.as_tensor(tensor))
        self.stateful = bool(state)

    @property
    def is_built(self) -> bool:
        """Whether it was captured."""
        return bool(self._graphs)

    @property
    def code(self) -> str:
        """The operations that were captured last, as Python."""
        if not self._graphs:
            raise RuntimeError(f"plan {self.name} was not built yet: {self.name}.build(example)")
        return str(next(reversed(self._graphs.values())).code)

    def forward(self, *arguments: Any) -> Any:
        """The program itself, before it is captured."""
        if self._function is None:
            raise NotImplementedError(f"plan {self.name} has no forward()")
        if self.stateful:
            return self._function(*arguments, State([buffer for _, buffer in self.named_buffers()]))
        return self._function(*arguments)

    def build(self, *examples: torch.Tensor) -> Plan:
        """Capture it for tensors like these; returns the plan.  Raises RuntimeError for a branch on a value."""
        for each in examples:
            if not isinstance(each, torch.Tensor) or isinstance(each, SecretTensor | RemoteTensor):
                raise TypeError(f"a plan is built from plain tensors as examples, not from a {type(each).__name__}")
        self._captured(examples)
        return self

    def _captured(self, examples: Sequence[torch.Tensor]) -> fx.GraphModule:
        key = tuple((tuple(each.shape), each.dtype) for each in examples)
        known = self._graphs.get(key)
        if known is not None:
            return known
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        self._names = list(state)
        blank = [torch.zeros(tuple(value.shape), dtype=value.dtype) for value in state.values()]

        def program(values: list[torch.Tensor], *arguments: torch.Tensor) -> Any:
            names = [f"plan.{name}" for name in self._names]
            return functional_call(_Body(self), dict(zip(names, values, strict=True)), arguments)

        inputs = [torch.zeros(tuple(each.shape), dtype=each.dtype) for each in examples]
        try:
            graph = make_fx(program)(blank, *inputs)
        except RuntimeError as error:
            if "_local_scalar_dense" not in str(error):
                raise
            raise RuntimeError(
                f"plan {self.name} branches on a value, or takes one out of a tensor, and so is no fixed program: "
                "use torch.where"
            ) from None
        self._graphs[key] = graph
        return graph

    def __call__(self, *arguments: Any) -> Any:
        if not all(isinstance(each, torch.Tensor) for each in arguments):
            raise TypeError(f"plan {self.name} takes tensors")
        if not self._graphs:
            raise RuntimeError(f"plan {self.name} was not built yet: {self.name}.build(example)")
        graph = self._captured(arguments)
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return graph([state[name] for name in self._names], *arguments)

    def __repr__(self) -> str:
        return f"<Plan {self.name}{' built' if self.is_built else ''}>"

    def send(self, *workers: Any) -> Any:
        """A pointer to the plan at a worker, whose state goes there; of several workers, a list."""
        if not self.is_built:
            raise RuntimeError(f"plan {self.name} was not built yet: build it before it is sent")
        pointers = [PlanPointer(self, worker) for worker in workers]
        if not pointers:
            raise TypeError("a plan is sent to a worker: plan.send(bob)")
        return pointers[0] if len(pointers) == 1 else pointers

    def get(self, **options: Any) -> Plan:
        """Its shared parameters opened, in place; a plan that was sent is fetched from its pointer."""
        if self.stateful or any(isinstance(p, SecretTensor | RemoteTensor) for p in self.parameters()):
            modules.get(self, **options)
        return self


class PlanPointer:
    """A plan at a worker: called with pointers to that worker's tensors, it runs there."""

    def __init__(self, plan: Plan, worker: Any) -> None:
        self._plan = plan
        self.location = worker
        self._state = {
            name: verbs.send(value.detach().clone().requires_grad_(value.requires_grad), worker)
            for name, value in (*plan.named_parameters(), *plan.named_buffers())
        }

    def __call__(self, *arguments: torch.Tensor) -> Any:
        graph = self._plan._captured(arguments)
        return graph([self._state[name] for name in self._plan._names], *arguments)

    def parameters(self) -> list[torch.Tensor]:
        """Pointers to the plan's state there, for an optimizer."""
        return [value for value in self._state.values() if value.requires_grad]

    def get(self) -> Plan:
        """The plan, with its state as it is at the worker now, which has it no longer."""
        with torch.no_grad():
            for name, value in (*self._plan.named_parameters(), *self._plan.named_buffers()):
                value.copy_(verbs.get(self._state[name]))
        self._state = {}
        return self._plan

    def __repr__(self) -> str:
        return f"[PlanPointer | {self._plan.name} -> {getattr(self.location, 'id', self.location)}]"


def func2plan(
    args_shape: Sequence[Sequence[int]] | None = None, state: Any = None, trace_autograd: bool = False
) -> Callable[[Callable[..., Any]], Plan]:
    """A decorator that makes a function a plan.

    args_shape: sizes of its arguments; it is captured at once then, else by `build`.  state: tensors that the function
    is given as a last argument, whose `.read()` lists them.
    """
    unsupported("func2plan()", trace_autograd=trace_autograd)

    def make(function: Callable[..., Any]) -> Plan:
        plan = Plan(name=function.__name__, function=function, state=state or ())
        functools.update_wrapper(plan, function, assigned=("__doc__",), updated=())
        if args_shape is not None:
            plan.build(*(torch.zeros(tuple(sizes)) for sizes in args_shape))
        return plan

    return make
