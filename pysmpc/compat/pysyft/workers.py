"""Virtual workers: named holders of tensors in this process.

A worker keeps two sorts of things: its shares of secrets, which belong to the sessions
in which it is a holder, and plain tensors that were sent to it.  Both are listed in the
order in which they came, and both go when nobody refers to them any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch

from pysmpc.api import parties as api_parties
from pysmpc.compat.pysyft.pysyft_errors import WorkerNotFoundException, unsupported
from pysmpc.errors import ObjectNotFoundError, PartyError
from pysmpc.ring.shares import ShareStorage, next_serial

LOCAL = "me"


@dataclass
class Entry:
    """A plain object at a worker, and what is said about it."""

    value: Any
    tags: tuple[str, ...] = ()
    description: str = ""


@dataclass
class Store:
    """What one worker keeps besides its shares; the same for every object of that name."""

    entries: dict[int, Entry] = field(default_factory=dict)


class Cleared:
    """In place of the shares of a secret that a holder deleted: any use raises."""

    def __init__(self, holder: str) -> None:
        object.__setattr__(self, "_holder", holder)

    def __getattr__(self, name: str) -> NoReturn:
        holder = object.__getattribute__(self, "_holder")
        raise ObjectNotFoundError(f"{holder} deleted its share of this secret: the value is lost")

    def __getitem__(self, index: object) -> NoReturn:
        self.__getattr__("words")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        raise ObjectNotFoundError("a holder deleted its share of this secret: the value is lost")


_stores: dict[str, Store] = {}
_known: dict[str, VirtualWorker] = {}


class VirtualWorker:
    """A worker simulated in this process.

    VirtualWorker(hook, id="bob") twice gives two handles on the same worker.  data:
    tensors that it owns from the start (tagged ones can be found by `search`).
    """

    def __init__(
        self,
        hook: Any,
        id: str | int = 0,
        data: Iterable[torch.Tensor] | None = None,
        is_client_worker: bool = False,
        log_msgs: bool = False,
        verbose: bool | None = None,
        auto_add: bool = True,
        message_pending_time: float = 0,
    ) -> None:
        if not getattr(hook, "is_torch_hook", False):
            raise TypeError(
                f"the first argument of VirtualWorker is the hook: hook = sy.TorchHook(torch), not {hook!r}"
            )
        unsupported(
            "VirtualWorker",
            is_client_worker=is_client_worker and id != LOCAL,
            log_msgs=log_msgs,
            verbose=verbose,
            message_pending_time=message_pending_time,
        )
        self.hook = hook
        self.id = str(id)
        self.is_client_worker = is_client_worker
        self.store = _stores.setdefault(self.id, Store())
        if auto_add:
            _known[self.id] = self
        if data is not None:
            self.load_data(data)

    def __repr__(self) -> str:
        sessions = [session for session in api_parties.session_of_name(self.id) if self.id not in session.hosted]
        objects = len(self.store.entries) if sessions else self.objects_count()
        where = " (and its shares, in a process of its own)" if sessions else ""
        return f"<VirtualWorker id:{self.id} #objects:{objects}{where}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> VirtualWorker:
        return self  # another handle on the same worker

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise PartyError(
            f"worker {self.id} cannot be pickled: it is part of this process; make it anew where it is needed"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VirtualWorker) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # --- what it keeps ---

    def _bodies(self) -> Iterator[tuple[int, ShareStorage, torch.Tensor]]:
        for session in api_parties.session_of_name(self.id):
            yield from session.live(self.id)

    @property
    def _objects(self) -> dict[int, Any]:
        """Its shares and the objects sent to it, by id, in the order in which they came."""
        found: dict[int, Any] = {serial: words for serial, _, words in self._bodies()}
        found.update((key, entry.value) for key, entry in self.store.entries.items())
        return dict(sorted(found.items()))

    @property
    def _tensors(self) -> dict[int, torch.Tensor]:
        """Those of its objects that are tensors."""
        return {key: value for key, value in self._objects.items() if isinstance(value, torch.Tensor)}

    def objects_count(self) -> int:
        """How many objects it keeps."""
        return len(self._objects)

    def tensors_count(self) -> int:
        """How many tensors it keeps."""
        return len(self._tensors)

    def list_objects(self) -> str:
        """Its objects as text."""
        return str(self._objects)

    def list_tensors(self) -> str:
        """Its tensors as text."""
        return str(self._tensors)

    def register_obj(self, obj: Any, obj_id: int | None = None) -> int:
        """Keep an object; returns its id.  Tags and description of a tensor come with it."""
        key = next_serial() if obj_id is None else obj_id
        if obj_id is not None and obj_id in self._objects:
            raise ValueError(f"{self.id} has an object {obj_id} already; leave obj_id out to get a new one")
        named = vars(obj) if isinstance(obj, torch.Tensor) else {}
        tags, description = named.get("pysmpc_tags", ()), named.get("pysmpc_description", "")
        self.store.entries[key] = Entry(obj, tuple(tags), description)
        return key

    def load_data(self, data: Iterable[torch.Tensor]) -> None:
        """Keep tensors that the worker owns; nobody's pointer going away deletes them."""
        for tensor in data:
            if not isinstance(tensor, torch.Tensor):
                raise TypeError(f"a worker's data are tensors, not {type(tensor).__name__}")
            self.register_obj(tensor)

    def get_obj(self, obj_id: int) -> Any:
        """The object itself."""
        entry = self.store.entries.get(obj_id)
        if entry is not None:
            return entry.value
        for serial, _, words in self._bodies():
            if serial == obj_id:
                return words
        raise ObjectNotFoundError(
            f"{self.id} has no object {obj_id}: it was fetched with .get(), moved, or deleted; "
            f"its objects are {list(self._objects)}"
        )

    def rm_obj(self, obj_id: int) -> None:
        """Delete an object; a secret whose share this was cannot be opened any more."""
        self.get_obj(obj_id)
        if self.store.entries.pop(obj_id, None) is None:
            self._clear_shares(obj_id)

    def _clear_shares(self, obj_id: int | None = None) -> None:
        for serial, body, _ in list(self._bodies()):
            if obj_id in (None, serial):
                body.words = Cleared(self.id)  # type: ignore[assignment]
                body.opened = body.bit = body.functions = body.affine = body.gate = body.multiple = None
                for session in api_parties.session_of_name(self.id):
                    session.forget(body)

    def clear_objects(self, return_self: bool = True) -> VirtualWorker | None:
        """Delete everything, shares too."""
        self.store.entries.clear()
        self._clear_shares()
        return self if return_self else None

    # --- finding ---

    def search(self, query: str | int | Sequence[str | int]) -> list[Any]:
        """Pointers to the tensors that carry all of the tags (or the id) of the query."""
        from_list = [query] if isinstance(query, str | int) else list(query)
        return [
            self.hook.pointer_to(self, key)
            for key, entry in sorted(self.store.entries.items())
            if isinstance(entry.value, torch.Tensor) and all(q == key or q in entry.tags for q in from_list)
        ]

    def request_search(self, query: str | int | Sequence[str | int], location: VirtualWorker | str) -> list[Any]:
        """`search` at another worker."""
        found: list[Any] = self.get_worker(location).search(query)
        return found

    # --- other workers ---

    @property
    def _known_workers(self) -> dict[str, VirtualWorker]:
        return dict(_known)

    def get_worker(self, id_or_worker: str | int | VirtualWorker, fail_hard: bool = True) -> Any:
        """The worker of that name.  Unknown: WorkerNotFoundException, or None where not fail_hard."""
        if isinstance(id_or_worker, VirtualWorker):
            return id_or_worker
        name = str(id_or_worker)
        return known_worker(name) if fail_hard else _known.get(name)

    def add_worker(self, worker: VirtualWorker) -> VirtualWorker:
        """Make a worker known by its name to all others; returns this one."""
        if not isinstance(worker, VirtualWorker):
            raise TypeError(f"add_worker takes a worker, not {type(worker).__name__}")
        _known[worker.id] = worker
        return self

    def add_workers(self, workers: Iterable[VirtualWorker]) -> VirtualWorker:
        """`add_worker` for several."""
        for worker in workers:
            self.add_worker(worker)
        return self

    def remove_worker_from_registry(self, worker_id: str) -> None:
        """Forget the name of a worker; its objects stay with those who hold it."""
        self.get_worker(worker_id)
        del _known[worker_id]


def worker_of(name: str) -> VirtualWorker:
    """A handle on the worker of a name, known or not: torch need not be hooked."""
    worker = object.__new__(VirtualWorker)
    worker.hook, worker.id, worker.is_client_worker = None, name, False
    worker.store = _stores.setdefault(name, Store())
    return worker


def known_worker(name: str) -> VirtualWorker:
    """The worker of a name, or WorkerNotFoundException."""
    if name not in _known:
        raise WorkerNotFoundException(
            f"no worker '{name}'; known are {', '.join(_known) or 'none'}; "
            f"make it with sy.VirtualWorker(hook, id='{name}')"
        )
    return _known[name]
