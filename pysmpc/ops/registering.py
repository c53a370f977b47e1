"""Handlers for aten operations: a function is registered for one form, and the other forms follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils._pytree import tree_leaves

from pysmpc.ops import overloads as forms
from pysmpc.ops.writing import assign, check_assignable, write
from pysmpc.tensor.secret import HANDLERS, Handler, SecretTensor

_DERIVED: set[Any] = set()  # overloads whose handler follows from that of another


def implements(*overloads: Any) -> Callable[[Handler], Handler]:
    """Register a handler for aten overloads, and for their other forms: with numbers for operands, in place, `out=`.

    A form that is registered by itself, before or after, has the handler that it was given.
    """

    def register(handler: Handler) -> Handler:
        for overload in overloads:
            HANDLERS[overload] = handler
            _DERIVED.discard(overload)
        for overload in overloads:
            _derive(overload, handler)
        return handler

    return register


def plain_target(what: str) -> TypeError:
    """The error for a plain tensor that is to be changed by a secret, as when an optimizer steps a public model."""
    return TypeError(
        f"{what} would write a secret into a plain tensor; use the out-of-place form, or encrypt the target. In an "
        "optimizer's step: gradients of a public model on secret data are secret, so encrypt the model before making "
        "the optimizer, or open them by name, p.grad = sy.decrypt(p.grad)"
    )


def in_place(overload: Any, functional: Handler) -> None:
    """Register the in-place form of a handler: compute, then write to the first argument.

    For what torch's schemas do not tell; `implements` finds the others by itself.
    """
    HANDLERS[overload] = _in_place(overload, functional)
    _DERIVED.discard(overload)


def _derive(overload: Any, handler: Handler) -> None:
    if not forms.functional(overload):
        return

    def register(form: Any, derived: Handler) -> bool:
        if form in HANDLERS and form not in _DERIVED:
            return False
        HANDLERS[form] = derived
        _DERIVED.add(form)
        return True

    for form in forms.with_numbers(overload):
        number_too = _placed(form, overload, handler)
        if register(form, number_too):
            _derive(form, number_too)
    for form in forms.in_place(overload):
        register(form, _in_place(form, handler))
    for form, targets in forms.with_targets(overload):
        register(form, _into(form, overload, handler, targets))


def _placed(form: Any, overload: Any, handler: Handler) -> Handler:
    """The handler of an overload for a form in which more arguments come by their place."""
    n, names = forms.surplus(form, overload)
    if not names:
        return handler

    def call(*args: Any, **kwargs: Any) -> Any:
        return handler(*args[:n], **dict(zip(names, args[n:], strict=False)), **kwargs)

    return call


def _in_place(overload: Any, functional: Handler) -> Handler:
    def handler(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, SecretTensor):
            raise plain_target(str(overload))
        assign(self, functional(self, *args, **kwargs))
        return self

    return handler


def _into(overload: Any, plain: Any, functional: Handler, names: Sequence[str]) -> Handler:
    """The form of a handler that writes its results to tensors which the caller gives under these names."""

    def handler(*args: Any, **kwargs: Any) -> Any:
        targets = [kwargs.pop(name) for name in names]
        for name, target in zip(names, targets, strict=True):
            if not isinstance(target, SecretTensor):
                raise TypeError(
                    f"{overload} would write a secret into a plain tensor; leave {name}= out and use the result, or "
                    "encrypt the target"
                )
        secret = any(isinstance(x, SecretTensor) for x in tree_leaves((args, kwargs)))
        found = (functional if secret else plain)(*args, **kwargs)
        values = found if isinstance(found, tuple) else (found,)
        for name, target, value in zip(names, targets, values, strict=True):
            if target.shape != value.shape:
                raise RuntimeError(
                    f"{overload} has a result of shape {tuple(value.shape)}, and {name}= is a secret of shape "
                    f"{tuple(target.shape)}, which it keeps; give one of the result's shape"
                )
            check_assignable(target, value)
        for target, value in zip(targets, values, strict=True):
            write(target, value)
        return targets[0] if len(targets) == 1 else tuple(targets)

    return handler
