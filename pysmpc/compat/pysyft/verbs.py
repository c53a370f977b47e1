"""The documents' verbs as methods of tensors: share, get, send, fix_precision and the rest.

Each takes the tensor first; `pysmpc.compat.pysyft.hook` makes them methods of torch.Tensor.  On a
pointer, what computes runs at the worker.  Options that have no effect here raise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import torch

from pysmpc.api import steps
from pysmpc.compat.pysyft.pointers import MultiPointerTensor, PointerTensor, RemoteTensor, run, sent
from pysmpc.compat.pysyft.pysyft_errors import ConsumedError, InvalidTensorForRemoteGet, NothingToGetError, unsupported
from pysmpc.compat.pysyft.workers import LOCAL, VirtualWorker
from pysmpc.mpc.options import Protocol, protocol_of
from pysmpc.tensor.secret import SecretTensor

Function = TypeVar("Function", bound=Callable[..., Any])

LATER = {
    "falcon": "Falcon (replicated sharing)",
    "paillier": "Paillier encryption",
}
WORDS = (None, "long", "int64", torch.int64)


def at_worker(function: Function) -> Function:
    """A verb that on a pointer runs where the tensor is."""

    @functools.wraps(function)
    def method(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, RemoteTensor):
            return run(method, (self, *args), kwargs)
        return function(self, *args, **kwargs)

    return method  # type: ignore[return-value]


def _whole_graph(tensor: torch.Tensor, verb: str) -> None:
    """Raise where a verb would silently cut a tensor from the graph that computed it.

    A copy of a parameter may be taken out of its graph: averaging models does so.
    """
    node = tensor.grad_fn
    if node is not None and node.name() != "CloneBackward0" and not isinstance(tensor, SecretTensor):
        raise RuntimeError(f"{verb}() of a tensor that was computed with gradients would cut them off; use x.detach()")


# --- sharing ------------------------------------------------------------------------


def check_protocol(protocol: str | Protocol | None) -> None:
    """Raise unless it is a protocol of `pysmpc.mpc.suite`; None and "mpc" are the default."""
    if isinstance(protocol, str) and protocol in LATER:
        raise NotImplementedError(
            f"protocol={protocol!r} ({LATER[protocol]}) is not available yet; leave protocol out for the default: "
            "Beaver triples and masked comparisons, for two holders or more"
        )
    protocol_of(protocol)


def holders_and_provider(owners: Sequence[Any], crypto_provider: Any) -> tuple[list[str], str]:
    """Names of workers, as a session has them.  Without a provider it is the caller, "me"."""
    names = [worker_name(owner, "share() takes the workers that will hold the shares") for owner in owners]
    if crypto_provider is not None:
        return names, worker_name(crypto_provider, "crypto_provider is a worker")
    return names, "crypto_provider" if LOCAL in names else LOCAL


def worker_name(worker: Any, what: str) -> str:
    """The name of a worker, or TypeError."""
    if isinstance(worker, VirtualWorker):
        return worker.id
    raise TypeError(f"{what}: VirtualWorker objects, not {worker!r} of type {type(worker).__name__}")


@at_worker
def share(
    self: torch.Tensor,
    *owners: Any,
    protocol: str | Protocol | None = None,
    field: int | None = None,
    dtype: Any = None,
    crypto_provider: Any = None,
    requires_grad: bool = False,
    no_wrap: bool = False,
    rounding: str | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
) -> Any:
    """Shares of an integer or fixed-precision tensor for the workers named.

    TypeError for a float tensor: .fix_precision() first.  Tensors shared among the
    same workers, in whatever order, with the same provider, protocol and rounding can be
    combined.  rounding: "probabilistic" (None) or "nearest"; integrity: "mac" or None; these and
    compare_bits as for `sy.virtual`.
    """
    check_protocol(protocol)
    unsupported(
        "share()", field=field not in (None, 1 << 64) and field, dtype=dtype not in WORDS and dtype, no_wrap=no_wrap
    )
    _whole_graph(self, "share")
    holders, provider = holders_and_provider(owners, crypto_provider)
    return steps.share(self, holders, provider, requires_grad, protocol_of(protocol, rounding, integrity, compare_bits))


@at_worker
def share_(self: torch.Tensor, *owners: Any, **options: Any) -> Any:
    """`share`, in place."""
    return become(self, share(self, *owners, **options))


@at_worker
def refresh(self: torch.Tensor) -> Any:
    """Fresh shares of the same secret, in place; returns the tensor.  No message."""
    if not isinstance(self, SecretTensor):
        raise TypeError("refresh() takes a shared tensor; this one is plain")
    return self if self.session.plain else steps.refresh(self)


@at_worker
def copy(self: torch.Tensor) -> Any:
    """The same value under an id of its own; a secret gets fresh shares."""
    out = self.clone()
    return steps.refresh(out) if isinstance(out, SecretTensor) else out


# --- precision ----------------------------------------------------------------------


@at_worker
def fix_precision(
    self: torch.Tensor,
    precision_fractional: int = 3,
    base: int = 10,
    *,
    dtype: Any = "long",
    field: int | None = None,
    kappa: int = 1,
    storage: str | None = None,
    no_wrap: bool = False,
) -> Any:
    """Integers under a public scale of base**precision_fractional, rounded toward zero.

    0.123 at precision 2 is the integer 12.  NaN, infinity and what the ring cannot
    hold raise EncodingError.
    """
    unsupported(
        "fix_precision()",
        dtype=dtype not in WORDS and dtype,
        field=field not in (None, 1 << 64) and field,
        kappa=kappa != 1 and kappa,
        storage=storage,
        no_wrap=no_wrap,
    )
    _whole_graph(self, "fix_precision")
    return steps.fix_precision(self, precision_fractional, base)


@at_worker
def fix_precision_(self: torch.Tensor, *args: Any, **options: Any) -> Any:
    """`fix_precision`, in place."""
    return become(self, fix_precision(self, *args, **options))


@at_worker
def float_precision(self: torch.Tensor) -> Any:
    """The real values of a fixed-precision tensor.  One that is still shared raises: .get() it first."""
    if isinstance(self, SecretTensor):
        return steps.float_precision(self)
    return self if self.is_floating_point() else self.to(torch.get_default_dtype())


@at_worker
def float_precision_(self: torch.Tensor) -> Any:
    """`float_precision`, in place."""
    return become(self, float_precision(self))


@at_worker
def encrypt(
    self: torch.Tensor,
    protocol: str = "mpc",
    inplace: bool = False,
    *,
    workers: Sequence[Any] = (),
    crypto_provider: Any = None,
    requires_grad: bool = False,
    precision_fractional: int = 3,
    base: int = 10,
    dtype: Any = None,
    no_wrap: bool = False,
) -> Any:
    """fix_precision (of real values) and share in one."""
    check_protocol(protocol)
    if not workers:
        raise TypeError("encrypt() needs the holders: workers=[alice, bob]")
    fixed = fix_precision(self, precision_fractional, base) if self.is_floating_point() else self
    out = share(
        fixed,
        *workers,
        protocol=protocol,
        crypto_provider=crypto_provider,
        requires_grad=requires_grad,
        dtype=dtype,
        no_wrap=no_wrap,
    )
    return become(self, out) if inplace else out


def decrypt(self: torch.Tensor, inplace: bool = False, *, private_key: Any = None) -> Any:
    """get and float_precision in one: the plain values of an encrypted tensor."""
    unsupported("decrypt()", private_key=private_key)
    if isinstance(self, RemoteTensor):
        return run(decrypt, (self,), {"inplace": inplace})
    if not isinstance(self, SecretTensor):
        raise NothingToGetError("this tensor is plain: there is nothing to decrypt")
    fixed = self.unit.scale > 1
    opened = self if self.session.plain else get(self)
    out = float_precision(opened) if fixed else opened
    return become(self, out) if inplace else out


# --- getting and sending ------------------------------------------------------------


class Gone:
    """In place of the content of a secret that was fetched: any use raises."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConsumedError(
            "this tensor was fetched by .get(), which took its shares from the holders; keep what the first .get() "
            "returned, or look without taking: x.reveal(), x.copy().get()"
        )

    def __repr__(self) -> str:
        return "(fetched by get)"


def get(
    self: torch.Tensor, *, inplace: bool = False, user: Any = None, reason: str = "", sum_results: bool = False
) -> Any:
    """Open a secret to the caller, or fetch what a pointer points to; either is gone there afterwards.

    A fixed-precision secret stays fixed precision: .get().float_precision().  What is public
    at fixed precision stays as it is.
    """
    unsupported("get()", user=user, reason=reason)
    if isinstance(self, MultiPointerTensor):
        out = self.fetch(sum_results)
    else:
        unsupported("get()", sum_results=sum_results)
        if isinstance(self, PointerTensor):
            out = self.fetch()
        elif isinstance(self, SecretTensor) and not self.session.plain:
            out = steps.get(self)
            if not inplace:
                self.cell = Gone()  # type: ignore[assignment]
        elif isinstance(self, SecretTensor):
            out = self  # public at fixed precision, as a gradient may be without any secret in it
        else:
            raise NothingToGetError("this tensor is neither shared nor at a worker: there is nothing to get")
    return become(self, out) if inplace else out


def get_(self: torch.Tensor, **options: Any) -> Any:
    """`get`, in place."""
    return get(self, inplace=True, **options)


def send(
    self: torch.Tensor,
    *location: Any,
    inplace: bool = False,
    user: Any = None,
    local_autograd: bool = False,
    requires_grad: bool = False,
    preinitialize_grad: bool = False,
    no_wrap: bool = False,
    garbage_collect_data: bool = True,
) -> Any:
    """A copy at one worker (a pointer comes back) or at several (a pointer to all of them)."""
    unsupported(
        "send()",
        user=user,
        local_autograd=local_autograd,
        requires_grad=requires_grad,
        preinitialize_grad=preinitialize_grad,
        no_wrap=no_wrap,
    )
    _whole_graph(self, "send")
    if not location:
        raise TypeError("send() needs a worker: x.send(bob)")
    for worker in location:
        worker_name(worker, "send() takes workers")
    pointers = [sent(self, worker, garbage_collect_data) for worker in location]
    if inplace and len(pointers) > 1:
        raise ValueError("send_() takes one worker; use send() for several")
    out = pointers[0] if len(pointers) == 1 else MultiPointerTensor(pointers)
    return become(self, out) if inplace else out


def send_(self: torch.Tensor, *location: Any, **options: Any) -> Any:
    """`send` to one worker, in place."""
    return send(self, *location, inplace=True, **options)


def move(self: torch.Tensor, location: Any, requires_grad: bool = False) -> Any:
    """From one worker to another; returns the pointer to it there, the old one is spent."""
    unsupported("move()", requires_grad=requires_grad)
    worker_name(location, "move() takes a worker")
    if isinstance(self, PointerTensor):
        return self.moved_to(location)
    if isinstance(self, MultiPointerTensor) or (isinstance(self, SecretTensor) and not self.session.plain):
        raise NotImplementedError("move() takes a tensor at one worker; this one has several holders: .get() it first")
    return send(self, location)


def move_(self: torch.Tensor, location: Any, requires_grad: bool = False) -> Any:
    """`move`, in place."""
    return become(self, move(self, location, requires_grad))


def _pointer(tensor: torch.Tensor, verb: str) -> PointerTensor:
    if not isinstance(tensor, PointerTensor):
        raise InvalidTensorForRemoteGet(f"{verb} takes a pointer to a pointer: x.send(bob).send(alice)")
    return tensor


def remote_get(self: torch.Tensor) -> Any:
    """Of a pointer to a pointer: the first worker fetches the tensor from the second.  In place."""
    return _pointer(self, "remote_get").fetch_remotely()


def remote_send(self: torch.Tensor, location: Any) -> Any:
    """The worker sends the tensor on and keeps a pointer to it.  In place."""
    worker_name(location, "remote_send() takes a worker")
    return _pointer(self, "remote_send").send_remotely(location)


def become(self: torch.Tensor, other: Any) -> Any:
    """Give a tensor object the content and the type of another one; returns it."""
    if other is self:
        return self
    if isinstance(other, list):
        raise ValueError("a tensor at several workers comes back as a list; use .get()")
    with torch._C.DisableTorchFunctionSubclass():
        try:
            torch.utils.swap_tensors(self, other)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise RuntimeError(
                "the tensor cannot be changed in place while a graph or a view still uses it; "
                "use the form without underscore, or delete the results that were computed from it"
            ) from error
    return self
