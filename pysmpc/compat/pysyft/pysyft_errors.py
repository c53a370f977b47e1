"""Errors of workers and pointers, under the names that the documents' users know."""

from __future__ import annotations

from pysmpc.errors import ObjectNotFoundError, PysmpcError


class WorkerNotFoundException(PysmpcError, LookupError):
    """No worker of that name is known."""


class ConsumedError(ObjectNotFoundError, AttributeError):
    """The tensor was fetched by `.get()` already, which removed it where it was kept."""


class NothingToGetError(PysmpcError, AttributeError):
    """`.get()` of a tensor that is neither at a worker nor shared."""


class TensorsNotCollocatedException(PysmpcError, ValueError):
    """The operands of one operation are at different workers."""


class InvalidTensorForRemoteGet(PysmpcError, TypeError):
    """`remote_get` takes a pointer to a pointer."""


class SendNotPermittedError(PysmpcError, PermissionError):
    """The owner does not let this tensor be sent."""


class HookError(PysmpcError, RuntimeError):
    """`TorchHook` is missing, or would have to replace a name that exists."""


def unsupported(what: str, **options: object) -> None:
    """Raise NotImplementedError for the options that are set: none is ignored."""
    given = [f"{name}={value!r}" for name, value in options.items() if value]
    if given:
        raise NotImplementedError(f"{what} does not support {', '.join(given)}; leave it out")
