"""Pointers: tensors that are kept by a worker, and that the worker computes on.

A `PointerTensor` is a torch.Tensor without content.  Whatever torch function, method or
attribute is applied to it runs at its worker, on the object there, and the result stays
there, too; autograd is torch's own, at the worker.  Only what describes a tensor (its
shape, dtype and the like) comes back by itself; values come back by `.get()`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import torch

from pysmpc.compat.pysyft.nested_arguments import leaves, mapped
from pysmpc.compat.pysyft.pysyft_errors import ConsumedError, InvalidTensorForRemoteGet, TensorsNotCollocatedException
from pysmpc.compat.pysyft.shown_results import DESCRIBING, OPENING, PLAIN, name_of, would_show
from pysmpc.compat.pysyft.workers import LOCAL, Entry, VirtualWorker
from pysmpc.errors import RevealError
from pysmpc.ring.shares import next_serial
from pysmpc.tensor.secret import SecretTensor

ADVICE = "Use a combination of .move(), .get(), and/or .send() to bring them together."


class Handle:
    """A reference to an object at a worker; one that collects deletes the object when it goes."""

    def __init__(self, worker: VirtualWorker, key: int, collect: bool = True) -> None:
        self.worker = worker
        self.key = key
        self.collect = collect

    def __del__(self) -> None:
        if self.collect:
            self.worker.store.entries.pop(self.key, None)

    @property
    def entry(self) -> Entry:
        """The object and what is said about it; ConsumedError if it is gone."""
        found = self.worker.store.entries.get(self.key)
        if found is None:
            raise ConsumedError(
                f"object {self.key} is not at {self.worker.id} any more: it was fetched by .get(), moved or deleted; "
                "keep what the first .get() returned, or .copy() the pointer before"
            )
        return found

    def take(self) -> Any:
        """The object, which the worker keeps no longer."""
        value = self.entry.value
        del self.worker.store.entries[self.key]
        return value


class RemoteTensor(torch.Tensor):
    """What pointers to one and to several workers have in common."""

    pysmpc_tags: tuple[str, ...]
    pysmpc_description: str

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if name_of(func) in OPENING:
            raise would_show(func)
        for value in leaves((args, kwargs)):
            if callable(value) and not isinstance(value, torch.Tensor | type):
                raise NotImplementedError(f"{name_of(func)} with a function of yours would show it values of a worker")
        return run(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise NotImplementedError(f"{func} cannot run at a worker; fetch the tensors first with .get()")

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        if spec:
            raise RevealError(f"a pointer cannot be formatted with '{spec}'; fetch the value with .get()")
        return repr(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.unbind(0))

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise RevealError("a pointer cannot be pickled: its object is at a worker; fetch it first with .get()")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = self.detach().clone()
        if getattr(self, "_is_param", False):
            copied = torch.nn.Parameter(copied, requires_grad=self.requires_grad)
        else:
            copied.requires_grad_(self.requires_grad)
        memo[id(self)] = copied
        return copied

    def head(self) -> str:
        """Wrapper or parameter, as representations begin."""
        return "Parameter containing:\nParameter" if getattr(self, "_is_param", False) else "(Wrapper)"


class PointerTensor(RemoteTensor):
    """A tensor at one worker."""

    handle: Handle
    pointer_id: int
    holder: str  # who has the pointer
    attribute: str  # of the object, where the pointer is to an attribute of it

    def __new__(cls, handle: Handle, attribute: str = "") -> PointerTensor:
        value = handle.entry.value
        self = torch.Tensor._make_wrapper_subclass(cls, value.shape, dtype=value.dtype)
        self.handle = handle
        self.pointer_id = next_serial()
        self.holder = LOCAL
        self.attribute = attribute
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def arrow(self) -> str:
        """[PointerTensor | who:id -> whom:id]"""
        ends = f"{self.holder}:{self.pointer_id} -> {self.handle.worker.id}:{self.handle.key}"
        return f"[PointerTensor | {ends}]" + (f"::{self.attribute}" if self.attribute else "")

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        text = f"{self.head()}>{self.arrow()}"
        entry = self.handle.worker.store.entries.get(self.handle.key)
        if entry is None:
            return f"{text} (fetched or deleted)"
        if entry.tags or entry.description:
            text += "\n\tTags: " + "".join(f"{tag} " for tag in entry.tags)
            text += f"\n\tShape: {entry.value.shape}"
        if entry.description:
            first, *more = entry.description.split("\n")
            text += f"\n\tDescription: {first[:60]}" + ("..." if more or len(first) > 60 else "")
        return text

    def fetch(self) -> Any:
        """`.get()`: the tensor itself, which its worker keeps no longer."""
        entry = self.handle.entry
        value = self.handle.take()
        return brought(value, entry, LOCAL)

    def moved_to(self, worker: VirtualWorker) -> Any:
        """`.move()`: the object goes to another worker; returns the pointer to it there."""
        if worker.id == LOCAL:
            return self.fetch()
        entry = self.handle.entry
        return _placed(brought(self.handle.take(), entry, worker.id), entry, worker, True)

    @property
    def gc(self) -> bool:
        """Whether the object goes with the last pointer to it."""
        return self.handle.collect

    @gc.setter
    def gc(self, collect: bool) -> None:
        self.handle.collect = collect

    garbage_collection = gc

    @property
    def disable_gc(self) -> PointerTensor:
        """This pointer, which leaves the object at its worker when it goes."""
        self.handle.collect = False
        return self

    def set_garbage_collect_data(self, value: bool) -> None:
        """Set `gc`."""
        self.handle.collect = value

    def attr(self, name: str) -> Any:
        """A pointer to an attribute of the object."""
        return getattr(self, name)

    def pointed(self) -> RemoteTensor:
        """The pointer that this one points to."""
        value = self.handle.entry.value
        if not isinstance(value, RemoteTensor):
            raise InvalidTensorForRemoteGet(
                f"remote_get takes a pointer to a pointer; {self.handle.worker.id} has the tensor itself: use .get()"
            )
        return value

    def fetch_remotely(self) -> PointerTensor:
        """`.remote_get()`: the worker fetches what its pointer points to; returns self."""
        inner = self.pointed()
        assert isinstance(inner, PointerTensor)
        entry = inner.handle.entry
        self.handle.entry.value = brought(inner.handle.take(), entry, self.handle.worker.id)
        return self

    def send_remotely(self, worker: VirtualWorker) -> PointerTensor:
        """`.remote_send()`: the object goes on to another worker, its worker keeps a pointer; returns self."""
        entry = self.handle.entry
        pointer = sent(entry.value, worker)
        pointer.holder = self.handle.worker.id
        entry.value = pointer
        return self


class MultiPointerTensor(RemoteTensor):
    """The same tensor, or one of its own, at each of several workers."""

    children: dict[str, PointerTensor]

    def __new__(cls, children: Iterable[PointerTensor]) -> MultiPointerTensor:
        pointers = list(children)
        first = pointers[0].handle.entry.value
        self = torch.Tensor._make_wrapper_subclass(cls, first.shape, dtype=first.dtype)
        self.children = {pointer.handle.worker.id: pointer for pointer in pointers}
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"{self.head()}>[MultiPointerTensor]" + "".join(f"\n\t-> {p.arrow()}" for p in self.children.values())

    def fetch(self, sum_results: bool = False) -> Any:
        """`.get()`: the tensors of all workers as a list, or their sum."""
        fetched = [pointer.fetch() for pointer in self.children.values()]
        return sum(fetched[1:], fetched[0]) if sum_results else fetched


# --- placing and bringing -----------------------------------------------------------


def brought(value: Any, entry: Entry, name: str) -> Any:
    """A copy of a worker's object for whoever gets it; pointers and secrets go as they are."""
    if isinstance(value, PointerTensor):
        value.holder = name
    elif isinstance(value, torch.Tensor) and not isinstance(value, SecretTensor | RemoteTensor):
        value = copied(value)
        if entry.tags or entry.description:
            value.pysmpc_tags, value.pysmpc_description = entry.tags, entry.description
    return value


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, and the gradient with them, as a leaf that shares no memory."""
    out = tensor.detach().clone()
    if tensor.is_leaf and tensor.requires_grad:
        out.requires_grad_()
        if tensor.grad is not None:
            out.grad = tensor.grad.detach().clone()
    return out


def _placed(value: Any, entry: Entry | None, worker: VirtualWorker, collect: bool) -> PointerTensor:
    key = worker.register_obj(value)
    if entry is not None:
        worker.store.entries[key] = Entry(value, entry.tags, entry.description)
    return PointerTensor(Handle(worker, key, collect))


def sent(tensor: torch.Tensor, worker: VirtualWorker, collect: bool = True) -> PointerTensor:
    """`.send()`: a copy at the worker, and the pointer to it."""
    if isinstance(tensor, PointerTensor):
        pointer = PointerTensor(tensor.handle)
        pointer.holder = worker.id
        return _placed(pointer, None, worker, collect)
    if isinstance(tensor, SecretTensor):
        if not tensor.session.plain:
            raise NotImplementedError("a shared tensor is at its holders already; .get() it to send it to a worker")
        return _placed(tensor.detach(), None, worker, collect)
    if isinstance(tensor, MultiPointerTensor):
        raise NotImplementedError("a tensor at several workers cannot be sent on; .get() it first")
    named = vars(tensor)
    entry = Entry(None, tuple(named.get("pysmpc_tags", ())), named.get("pysmpc_description", ""))
    return _placed(copied(tensor), entry, worker, collect)


def pointer_to(worker: VirtualWorker, key: int, collect: bool = False) -> PointerTensor:
    """A pointer to an object that is at a worker already, and stays there when the pointer goes, unless it collects."""
    return PointerTensor(Handle(worker, key, collect))


# --- running at a worker ------------------------------------------------------------


def run(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """func(*args, **kwargs) at the worker that has the pointed-to arguments."""
    tensors = [x for x in leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    several = [x for x in tensors if isinstance(x, MultiPointerTensor)]
    if several:
        return _run_at_each(func, args, kwargs, several)
    pointers = [x for x in tensors if isinstance(x, PointerTensor)]
    worker = _common_worker(name_of(func), tensors, pointers)
    objects = {id(p): p.handle.entry.value for p in pointers}
    args, kwargs = mapped((args, kwargs), lambda x: objects[id(x)] if isinstance(x, PointerTensor) else x)
    result = func(*args, **kwargs)
    return mapped(result, lambda x: _kept(x, func, worker, pointers))


def _common_worker(name: str, tensors: list[torch.Tensor], pointers: list[PointerTensor]) -> VirtualWorker:
    places = {p.handle.worker.id: p.handle.worker for p in pointers}
    if len(places) > 1:
        raise TensorsNotCollocatedException(
            f"'{name}' was called on tensors at different workers: {', '.join(places)}. {ADVICE}"
        )
    [worker] = places.values()
    if len(pointers) < len(tensors):
        raise TensorsNotCollocatedException(
            f"'{name}' was called on a tensor at {worker.id} and on one that is here; send it: "
            f"x.send({worker.id}). {ADVICE}"
        )
    return worker


def _kept(value: Any, func: Any, worker: VirtualWorker, pointers: list[PointerTensor]) -> Any:
    """A result at a worker as seen from here: a pointer, a description, or an error."""
    if isinstance(value, torch.Tensor):
        for pointer in pointers:
            if pointer.handle.entry.value is value:
                return pointer
        if isinstance(value, PointerTensor):
            value.holder = worker.id
        name = getattr(getattr(func, "__self__", None), "__name__", "") if name_of(func) == "__get__" else ""
        return PointerTensor(Handle(worker, worker.register_obj(value)), name if name in ("grad", "data") else "")
    if value is None or isinstance(value, torch.dtype | torch.device | torch.layout | torch.Size):
        return value
    if name_of(func) in DESCRIBING or (name_of(func) == "__get__" and isinstance(value, PLAIN)):
        return value
    raise would_show(func)


def _run_at_each(func: Any, args: Any, kwargs: Any, several: list[MultiPointerTensor]) -> Any:
    names = list(several[0].children)
    if any(set(x.children) != set(names) for x in several):
        raise TensorsNotCollocatedException(f"'{name_of(func)}' was called on tensors at different workers. {ADVICE}")
    results = []
    for name in names:
        here = mapped((args, kwargs), functools.partial(_child, name))
        results.append(func(*here[0], **here[1]))
    return _together(results, several)


def _child(name: str, value: Any) -> Any:
    return value.children[name] if isinstance(value, MultiPointerTensor) else value


def _together(results: list[Any], several: list[MultiPointerTensor]) -> Any:
    first = results[0]
    if isinstance(first, PointerTensor):
        for known in several:
            if all(r is p for r, p in zip(results, known.children.values(), strict=True)):
                return known
        return MultiPointerTensor(results)
    if isinstance(first, list | tuple) and not isinstance(first, torch.Size):
        return type(first)([_together(list(parts), several) for parts in zip(*results, strict=True)])
    return first
