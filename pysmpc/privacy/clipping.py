"""Clipping each example's gradient, on secrets, without making it: norms from what layers were given and returned.

`Tap` stands in for the forward of a layer and keeps what the layer's rule (`pysmpc.privacy.layers`) needs; `factors`
gives every example the secret factor that brings its gradient to norm 1 or less, in units of the clipping norm;
`Taps.clipped_sums` are the sums of the gradients times their factors.

Nothing wraps: a norm that is too large to be represented gives its example the factor 0.  All rounding is towards
smaller factors, so that no example exceeds the clipping norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from pysmpc.errors import PrivacyError
from pysmpc.ops.noise import with_bits
from pysmpc.privacy.layers import Rule, Squares, trained
from pysmpc.tensor.secret import SecretTensor

Tensor = torch.Tensor

#: Of squares in units of the clipping norm: the largest mean square of a layer's inputs, of the other factor, and of
#: one layer or all.  Examples beyond count for nothing.
LARGEST_INPUT, LARGEST_OUTPUT, LARGEST = 2.0**6, 2.0**18, 2.0**20
STEP = 2.0**-16
#: Fractional bits of the factors, and of gradients times them.
FACTOR_BITS = 24
#: What a computed inverse root may be too large by: relative, and absolute (docs/functions.md).
_RELATIVE, _ABSOLUTE = 2.0**-20, 2.0**-23


class _Tapped(torch.autograd.Function):
    """The identity, which tells its gradient, and what the layer was given; then autograd lets go of both."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, anchor: Tensor, seen: Tensor, found: list[tuple[Any, Tensor]]) -> Tensor:
        ctx.save_for_backward(seen)
        ctx.found = found
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, b: Tensor) -> Any:
        [seen] = ctx.saved_tensors
        ctx.found.append((seen, b.detach()))
        return b, None, None, None


@dataclass
class Kept:
    """What one layer was given, and the gradients of what it returned, since the last step."""

    layer: nn.Module
    rule: Rule
    found: list[tuple[Any, Tensor]] = field(default_factory=list)


class Tap:
    """The forward of a layer in training: its parameters are outside the graph, and `kept` is told what it needs."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.kept.layer
        if not (layer.training and torch.is_grad_enabled()):
            return cast(Tensor, type(layer).forward(layer, x))
        y, seen = self.kept.rule.run(layer, x)
        anchor = torch.zeros((), requires_grad=True)
        return cast(Tensor, _Tapped.apply(y, anchor, seen.detach(), self.kept.found))  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> Tap:
        """For a copy of the layer, which is not trained by the same optimizer: what it keeps is never read."""
        return Tap(Kept(memo.get(id(self.kept.layer), self.kept.layer), self.kept.rule))


class Taps:
    """All trained layers of a model."""

    def __init__(self, model: nn.Module) -> None:
        layers = trained(model)
        self._kept = {name: Kept(layer, rule) for name, (layer, rule) in layers.items()}
        for kept in self._kept.values():
            kept.layer.forward = Tap(kept)
        self._scaled: dict[int, Tensor] = {}  # what the norms were taken of, for the sums
        for layer in model.modules():
            tracks = getattr(layer, "track_running_stats", False)
            if isinstance(layer, _BatchNorm) or (isinstance(layer, _InstanceNorm) and tracks):
                layer.register_forward_pre_hook(_refuse_statistics)

    def clear(self) -> None:
        """Forget what was kept."""
        self._scaled.clear()
        for kept in self._kept.values():
            kept.found.clear()

    def remove(self) -> None:
        """Give the layers their own forward back."""
        self.clear()
        for kept in self._kept.values():
            vars(kept.layer).pop("forward", None)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those that are trained."""
        for kept in self._kept.values():
            yield from kept.layer.parameters(recurse=False)

    def _once(self) -> Iterator[tuple[Kept, Any, Tensor]]:
        used = {name: len(kept.found) for name, kept in self._kept.items()}
        if not any(used.values()):
            raise PrivacyError("there is no gradient to clip: call loss.backward() in training mode before each step")
        often = [name for name, times in used.items() if times > 1]
        if often:
            raise PrivacyError(
                f"'{often[0]}' was used {used[often[0]]} times since the last step; use each layer once a step, and "
                "take a step after each backward (gradients of several batches cannot be accumulated)"
            )
        sizes = {kept.found[0][1].shape[0] for kept in self._kept.values() if kept.found}
        sizes |= {kept.found[0][0].shape[0] for kept in self._kept.values() if kept.found}
        if len(sizes) > 1:
            raise PrivacyError(f"the first dimension of each layer's input must be the batch; it is {sorted(sizes)}")
        for name, kept in self._kept.items():
            for x, b in kept.found:
                if kept.layer.training is False:
                    raise PrivacyError(f"'{name}' was put into evaluation mode between forward and step")
                yield kept, x, b

    @property
    def batch(self) -> int:
        """Examples, those of padding among them, of what was kept."""
        return next(self._once())[2].shape[0]

    def squares(self, times: float) -> list[Squares]:
        """Squared norms in units of the clipping norm, where the gradients were multiplied by `times` of them."""
        found = []
        for kept, x, b in self._once():
            self._scaled[id(b)] = scaled = _settled(b * times)
            found.append(kept.rule.squares(kept.layer, x, scaled))
        return found

    def clipped_sums(self, factors: Tensor) -> dict[nn.Parameter, Tensor]:
        """For each parameter, the sum over examples of their gradients times factors, which are secret or public.

        The gradients are those, with their rounding, whose norms `squares` took.
        """
        found: dict[nn.Parameter, Tensor] = {}
        for kept, x, b in self._once():
            weighted = self._scaled[id(b)] * factors.reshape(-1, *[1] * (b.dim() - 1))
            for name, gradient in kept.rule.gradients(kept.layer, x, weighted).items():
                found[getattr(kept.layer, name)] = gradient
        return found


def _settled(x: Tensor) -> Tensor:
    """x, rounded once for all who read it."""
    found: Tensor = torch.ops.pysmpc.settle.default(x) if isinstance(x, SecretTensor) else x
    return found


def _refuse_statistics(layer: nn.Module, given: Any) -> None:
    if layer.training:
        raise PrivacyError(
            f"{type(layer).__name__} in training mode computes from all examples of a batch, without noise: put it "
            "into evaluation mode after model.train(), or use nn.GroupNorm"
        )


def factors(squares: Sequence[Squares]) -> Tensor:
    """[batch] secret factors: 1 where the sum of squares is at most 1, else one over its root; 0 beyond LARGEST.

    1. Terms are rounded up and compared with what they may be at most; larger ones are replaced by 0.
    2. Their products are added.  The sum, plus more than LARGEST where a term was too large, is compared with 1 and
       with LARGEST.
    3. The inverse root of the sum, or of 1 where that is larger, is rounded down.

    Two rounds of comparisons, and one inverse root for each example.
    """
    # 1. terms
    terms: list[Tensor] = []
    largest: list[float] = []
    pairs: list[int] = []
    alone: list[int] = []
    for each in squares:
        if each.second is None:
            alone.append(len(terms))
            terms.append(each.first)
            largest.append(LARGEST)
        else:
            pairs.append(len(terms))
            terms += [each.first / each.size, each.second * each.size]
            largest += [LARGEST_INPUT, LARGEST_OUTPUT]
    rows = torch.stack(terms) + 2 * STEP
    too_large = (rows > torch.tensor(largest).unsqueeze(1)).to(rows.dtype)
    rows = rows * (1 - too_large)
    # 2. their sum
    total: Any = 2 * STEP
    if pairs:
        total = total + (rows[pairs] * rows[[i + 1 for i in pairs]]).sum(0)
    if alone:
        total = total + rows[alone].sum(0)
    seen = total + too_large.sum(0) * (2 * LARGEST)
    beyond, above = (torch.stack([seen - LARGEST, seen - 1]) > 0).to(rows.dtype)
    # 3. the inverse root
    inverse = with_bits(1 + above * (total * (1 + 2.0**-16) - 1), FACTOR_BITS).rsqrt()
    found: Tensor = (inverse * (1 - _RELATIVE) - _ABSOLUTE) * (1 - beyond)
    return found
