"""Gradients of one's own, in the documents' form.

    class MulBackward(GradFunc):
        def __init__(self, self_, other):
            super().__init__(self, self_, other)
            self.self_, self.other = self_, other

        def gradient(self, grad):
            return grad * self.other, grad * self.self_

    product = MulBackward.apply(torch.mul, x, y)

It is torch.autograd.Function underneath: torch records it, and the other operations keep
their own gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class _Recorded(torch.autograd.Function):
    """Runs an operation, and asks a GradFunc for its gradients."""

    @staticmethod
    def forward(ctx: Any, gradients: type[GradFunc], operation: Callable[..., Any], *operands: Any) -> Any:
        ctx.save_for_backward(*(x for x in operands if isinstance(x, torch.Tensor)))
        ctx.operands = [None if isinstance(x, torch.Tensor) else x for x in operands]
        ctx.gradients = gradients
        return operation(*operands)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        saved = iter(ctx.saved_tensors)
        operands = [next(saved) if x is None else x for x in ctx.operands]
        found = ctx.gradients(*operands).gradient(*grads)
        found = found if isinstance(found, tuple) else (found,)
        if len(found) != len(operands):
            raise ValueError(f"{ctx.gradients.__name__} gives {len(found)} gradients for {len(operands)} operands")
        return (None, None, *found)


class GradFunc:
    """The gradients of an operation: one for each operand, None where there is none."""

    def __init__(self, *operands: Any) -> None:
        pass

    def gradient(self, grad: torch.Tensor) -> Any:
        """Gradients of the operands, given that of the result."""
        raise NotImplementedError(f"{type(self).__name__} defines no gradient()")

    @classmethod
    def apply(cls, operation: Callable[..., Any], *operands: Any) -> Any:
        """operation(*operands), with this gradient."""
        return _Recorded.apply(cls, operation, *operands)  # type: ignore[no-untyped-call]
