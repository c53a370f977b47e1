"""`sy.debug`: every operation on secrets beside plain torch's, and an error at the first that differs.

For parties of one process, which can read everything.  Before an operation its arguments are decoded; after it, plain
torch computes the same of them in double precision, and the results are compared.  Arguments are those that the secret
operation had, so that the rounding of earlier operations does not add up, and the first operation that is wrong is the
one that is named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from pysmpc.api.profiling import Profile
from pysmpc.errors import DeviationError, PartyError
from pysmpc.mpc.mac.dealt import lower_words
from pysmpc.ring import z2k
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage
from pysmpc.tensor.watching import WATCHERS

STEPS = 8  # of rounding that a result may be off, for each argument of magnitude 1 and the root of their number
RELATIVE = 2.0**-9  # of the largest result
LOST, NOISE = 1 / 2, 1 / 32  # steps that an update has to reach, rounded to the nearest and at random
ROOTS = tuple(str(Path(module.__file__ or "").parent) for module in (torch, sys.modules["pysmpc"]))
#: Of gradients that jump where their second argument is one of these: (numbers, places of others).
JUMPS = {"threshold_backward": ((), (2,)), "leaky_relu_backward": ((0.0,), ()), "hardtanh_backward": ((), (2, 3))}
NEAR = 2  # steps from such an end within which rounding decides on which side a value is
UPDATES = ("add_", "sub_", "addcmul_", "addcdiv_")


def _real(x: SecretTensor, known: dict[TensorStorage, torch.Tensor]) -> torch.Tensor:
    """The values, on memory laid out as the secret's cell is, in double precision; known: what is decoded already."""
    cell = x.cell
    if cell not in known:
        words = cell.body.words
        lanes = cell.session.suite.lanes
        flat = z2k.rows_sum(words if lanes == 1 else lower_words(words))[0]
        if x.dtype.is_floating_point:
            known[cell] = flat.double() / cell.scale
        else:
            whole = torch.div(flat, cell.scale, rounding_mode="floor")
            known[cell] = whole != 0 if x.dtype == torch.bool else whole.to(x.dtype)
    return known[cell].as_strided(x.size(), x.stride(), x.storage_offset())


def _comparable(x: Any, y: Any) -> bool:
    """Whether x is a secret of real numbers, and y plain ones of its shape."""
    if not isinstance(x, SecretTensor) or not isinstance(y, torch.Tensor) or type(x.cell) is not TensorStorage:
        return False
    return x.dtype.is_floating_point and x.shape == y.shape and x.numel() > 0


def _undecided(name: str, plain_args: Any, args: Any) -> torch.Tensor | None:
    """Where a gradient may be that of either side, since what it depends on is at an end to a step or two."""
    if name not in JUMPS or not isinstance(args[1], SecretTensor):
        return None
    numbers, places = JUMPS[name]
    ends = [*numbers, *(float(plain_args[place]) for place in places)]
    near = NEAR / args[1].unit.scale
    return torch.stack([(plain_args[1] - end).abs() <= near for end in ends]).any(0)


def _range(x: torch.Tensor) -> str:
    finite = x[x.isfinite()]
    if not finite.numel():
        return "nothing finite" if x.numel() else "no values"
    text = f"{float(finite.min()):.6g} to {float(finite.max()):.6g}"
    return text if finite.numel() == x.numel() else f"{text}, and what is not finite"


def _line() -> str:
    """The user's line: the innermost one that is neither torch's nor this package's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(ROOTS) and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "an unknown line"


class Debug:
    """What `sy.debug` returns.

    compared, skipped: how many operations were compared, and how often each could not be, by name.
    """

    def __init__(self) -> None:
        self.compared = 0
        self.skipped: dict[str, int] = {}
        self._where = Profile(show=False)
        self._busy = False

    def __enter__(self) -> Debug:
        self._where.__enter__()
        WATCHERS.append(self._watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        WATCHERS.remove(self._watch)
        self._where.__exit__(kind, error, trace)

    def _skip(self, name: str) -> None:
        self.skipped[name] = self.skipped.get(name, 0) + 1

    def _watch(self, func: Any, args: Any, kwargs: Any) -> Callable[[Any], object] | None:
        secrets = [x for x in tree_leaves((args, kwargs)) if isinstance(x, SecretTensor)]
        for x in secrets:
            if x.session.party.rows < x.session.party.holders:
                raise PartyError("sy.debug() reads every value: it is for parties of one process (sy.virtual)")
        if self._busy or isinstance(func, str) or not secrets:
            if isinstance(func, str) and not self._busy:
                self._skip(func)
            return None
        name = str(func).split(".")[1]
        drawn = torch.Tag.nondeterministic_seeded in func.tags
        if drawn or name.startswith(("empty", "new_empty")) or not all(type(x.cell) is TensorStorage for x in secrets):
            self._skip(name)
            return None
        self._busy = True
        try:
            given = self._plainly(name, func, args, kwargs)
        finally:
            self._busy = False
        return None if given is None else lambda out: self._compare(name, out, args, *given)

    def _plainly(
        self, name: str, func: Any, args: Any, kwargs: Any
    ) -> tuple[Any, torch.Tensor | None, torch.Tensor | None, float, int] | None:
        """What plain torch makes of the arguments; the first one before; where rounding decides; how large they are.

        That is the largest magnitude, and the longest side.
        """
        known: dict[TensorStorage, torch.Tensor] = {}

        def real(x: Any) -> Any:
            if isinstance(x, SecretTensor):
                return _real(x, known)
            if isinstance(x, torch.Tensor):
                return x.double() if x.is_floating_point() else x
            return torch.float64 if isinstance(x, torch.dtype) and x.is_floating_point else x

        plain_args, plain_kwargs = tree_map(real, (args, kwargs))
        tensors = [x for x in tree_leaves((plain_args, plain_kwargs)) if isinstance(x, torch.Tensor)]
        most = max((float(x.abs().max()) for x in tensors if x.numel() and x.is_floating_point()), default=0.0)
        longest = max((size for x in tensors for size in x.shape), default=1)
        before = plain_args[0].clone() if name in UPDATES else None
        try:
            with torch.no_grad():
                return func(*plain_args, **plain_kwargs), before, _undecided(name, plain_args, args), most, longest
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            self._skip(name)
            return None

    def _compare(
        self,
        name: str,
        out: Any,
        args: Any,
        plain: Any,
        before: torch.Tensor | None,
        undecided: torch.Tensor | None,
        most: float,
        longest: int,
    ) -> None:
        ours, theirs = tree_leaves(out), tree_leaves(plain)
        if self._busy or out is None or len(ours) != len(theirs):
            return
        self._busy = True
        try:
            self.compared += 1
            known: dict[TensorStorage, torch.Tensor] = {}
            for x, y in zip(ours, theirs, strict=True):
                if _comparable(x, y):
                    mine, other = _real(x, known), y.double()
                    if undecided is not None:
                        mine, other = (torch.where(undecided, 0.0, each) for each in (mine, other))
                    self._check(name, mine, other, x, most, longest)
            if before is not None and isinstance(args[0], SecretTensor) and args[0].requires_grad:
                self._check_update(name, theirs[0] - before, args[0])
        finally:
            self._busy = False

    def _check(
        self, name: str, secret: torch.Tensor, plain: torch.Tensor, x: SecretTensor, most: float, longest: int
    ) -> None:
        finite = plain.isfinite()
        if not bool(finite.all()):
            what = "plain torch has nan or infinity here: an argument is outside the domain of the operation"
            raise self._error(name, what, secret, plain, x)
        step = 1 / x.unit.scale
        largest = float(plain.abs().max())
        bound = STEPS * step * (1 + longest**0.5 * most) + RELATIVE * largest
        off = float((secret - plain).abs().max())
        if off > bound:
            room = 2.0**62 / x.cell.scale
            what = f"the secret result is off by {off:.4g}, where rounding explains {bound:.4g}: " + (
                "the plain one does not fit into the ring" if largest >= room else "an overflow, or a domain left"
            )
            raise self._error(name, what, secret, plain, x)

    def _check_update(self, name: str, change: torch.Tensor, x: SecretTensor) -> None:
        largest = float(change.abs().max()) if change.numel() else 0.0
        part = LOST if x.session.suite.exact_rounding else NOISE  # of a step
        if 0 < largest < part / x.unit.scale:
            lost = "is rounded away" if x.session.suite.exact_rounding else "is lost in the noise of its rounding"
            what = (
                f"the largest change of this parameter is {largest:.4g}, {largest * x.unit.scale:.2g} steps of its "
                f"encoding, which {lost}: encrypt with more fractional bits, or raise the rate"
            )
            raise self._error(name, what, change, change, x)

    def _error(
        self, name: str, what: str, secret: torch.Tensor, plain: torch.Tensor, x: SecretTensor
    ) -> DeviationError:
        layer = self._where.layer()
        place = f"{name} in {layer}" if layer else name
        return DeviationError(
            f"{place}, called from {_line()}: {what}.  Secret: {_range(secret)}; plain torch: {_range(plain)}; shape "
            f"{tuple(x.shape)}, {x.unit.scale} steps to one"
        )


def debug() -> Debug:
    """Compare every operation on secrets with plain torch, and raise at the first whose result differs.

    >>> with sy.debug():
    ...     loss = F.mse_loss(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()

    For parties in one process (`sy.virtual`), as it reads all values.  Every operation runs twice.  `DeviationError`
    names the layer, the line, the operation and the ranges of both results.  Typical causes are an overflow, an
    argument outside the domain of its function, and an update that is too small for the encoding.  Random draws of
    torch and the arithmetic of adaptive optimizers are not compared; `skipped` counts them.  Rounds and bytes inside
    the block differ from those of the program alone.
    """
    return Debug()
