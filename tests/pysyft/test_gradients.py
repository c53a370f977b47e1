"""Gradients of one's own."""

import pytest
import torch

from pysmpc.compat.pysyft.gradients import GradFunc


class ScaledBackward(GradFunc):
    def __init__(self, x, factor):
        super().__init__(x, factor)
        self.factor = factor

    def gradient(self, grad):
        return grad * self.factor, None


class WrongBackward(GradFunc):
    def gradient(self, grad):
        return grad


def test_on_secrets_and_plain_tensors(secret, opened):
    x = torch.tensor([1.5, -2.0], requires_grad=True)
    ScaledBackward.apply(torch.mul, x, 3).sum().backward()
    assert torch.equal(x.grad, torch.full((2,), 3.0))
    y = secret(torch.tensor([1.5, -2.0]), requires_grad=True)
    out = ScaledBackward.apply(torch.mul, y * y, 3)
    out.sum().backward()
    assert torch.allclose(opened(out), torch.tensor([6.75, 12.0]), atol=0.01)
    assert torch.allclose(opened(y.grad), torch.tensor([9.0, -12.0]), atol=0.01)


def test_a_gradient_for_every_operand():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="1 gradients for 2 operands"):
        WrongBackward.apply(torch.mul, x, 3).sum().backward()
    with pytest.raises(NotImplementedError, match="no gradient"):
        GradFunc.apply(torch.neg, x).sum().backward()
