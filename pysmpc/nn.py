"""Layers that cost less on secrets than those which they replace: activations by products, softmax without powers.

They are modules of torch, and work on plain tensors and in training as well.  A model has to be trained with them: they
are other functions, not approximations of the usual ones.  docs/cheap-layers.md says what each saves, and what accuracy
it kept.  Costs are those of the default protocol.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Attention", "Polynomial", "QuadraticGELU", "QuadraticSoftmax", "ReLUSoftmax", "Square"]


class Square(nn.Module):
    """x^2, in the place of ReLU (CryptoNets: Gilad-Bachrach et al., ICML 2016).

    Of what is truncated anyway it takes no round, where ReLU takes three beside that.  Inputs beyond a few units grow.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return x * x


class Polynomial(nn.Module):
    """c_0 + c_1 x + c_2 x^2 + ..., whose coefficients are parameters and are trained with the rest.

    start: the coefficients to begin with, two at least; the default is 1/4 + x / 2 + x^2 / 4.  A product for each power
    from the second on, by Horner's rule.
    """

    def __init__(self, start: Sequence[float] = (0.25, 0.5, 0.25)) -> None:
        super().__init__()
        if len(start) < 2:
            raise ValueError(f"a polynomial has two coefficients at least, and start has {len(start)}")
        self.coefficients = nn.Parameter(torch.tensor([float(each) for each in start]))

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        *rest, last = self.coefficients.unbind()
        out = last * x
        for coefficient in reversed(rest[1:]):
            out = (out + coefficient) * x
        return out + rest[0]


class QuadraticGELU(nn.Module):
    """x^2 / 8 + x / 4 + 1 / 2, in the place of GELU (MPCFormer: Li et al., ICLR 2023).

    Of what is truncated anyway it takes no round, where GELU takes five.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return x * x / 8 + x / 4 + 0.5


class _Normalised(nn.Module):
    """Something that is not negative, over its sum along a dimension.

    The inverse of the sum has errors of 1.1 steps of the encoding, so that a weight is off by 2^-16 of the sum times
    itself with 16 fractional bits: sums of more than some hundreds ask for more bits, or for smaller scores.
    """

    def __init__(self, dim: int = -1, eps: float = 2.0**-6) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps has to be above 0, since a row may come to nothing, and is {eps}")
        self.dim, self.eps = dim, eps

    def part(self, x: Tensor) -> Tensor:
        """What is not negative."""
        raise NotImplementedError

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: public, of what counts; elsewhere the result is 0."""
        part = self.part(x)
        if mask is not None:
            part = part * mask.to(part.dtype)
        return part * (part.sum(self.dim, keepdim=True) + self.eps).reciprocal()

    def extra_repr(self) -> str:
        """Its arguments."""
        return f"dim={self.dim}, eps={self.eps}"


class ReLUSoftmax(_Normalised):
    """max(x, 0) / (sum of max(x, 0) + eps), in the place of softmax (SecureML: Mohassel and Zhang, S&P 2017).

    No maximum and no powers: rounds do not grow with the row.  A row of nothing above 0 is 0, and has no gradient.
    """

    def part(self, x: Tensor) -> Tensor:
        """max(x, 0)."""
        return torch.relu(x)


class QuadraticSoftmax(_Normalised):
    """(x / c + 1)^2 / (sum of that + eps), in the place of softmax ("2Quad" of MPCFormer: Li et al., ICLR 2023).

    No comparisons but those of the reciprocal.  c: with the opposite sign, what scores are not expected to be below.
    """

    def __init__(self, dim: int = -1, eps: float = 2.0**-6, c: float = 5.0) -> None:
        super().__init__(dim, eps)
        self.c = c

    def part(self, x: Tensor) -> Tensor:
        """(x / c + 1)^2."""
        shifted = x / self.c + 1
        return shifted * shifted

    def extra_repr(self) -> str:
        """Its arguments."""
        return f"{super().extra_repr()}, c={self.c}"


class Attention(nn.Module):
    """Self-attention of [batch, positions, features] whose weights are normalised by a module: see `ReLUSoftmax`.

    normalise: takes scores [batch, heads, positions, positions] and a public mask of pairs that count, or None.
    """

    def __init__(self, features: int, heads: int, normalise: nn.Module | None = None) -> None:
        super().__init__()
        if features % heads:
            raise ValueError(f"{features} features cannot be divided among {heads} heads")
        self.heads = heads
        self.normalise = ReLUSoftmax() if normalise is None else normalise
        self.inner, self.outer = nn.Linear(features, 3 * features), nn.Linear(features, features)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: public [positions, positions], of the pairs that count."""
        parts: Any = self.inner(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        weights = self.normalise(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), mask)
        out: Tensor = self.outer((weights @ v).transpose(1, 2).flatten(2))
        return out
