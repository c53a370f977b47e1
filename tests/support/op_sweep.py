"""Torch's own catalogue of operations (OpInfo), each on secrets: values and gradients.

`outcome` says what became of a sample: RIGHT (torch's result and gradients, within tolerance), or REFUSED with the
reason; it raises `Wrong` for anything else.  The oracle is torch in float64 on what the encoding makes of the sample.
"""

import gc
import itertools
import sys
import time
import types
import unittest
import warnings
from dataclasses import dataclass

import torch
from op_checks import parties, plain, represented

parties()  # torch's functions are those that secrets know from here on: the catalogue keeps them as they are now
# the catalogue's module imports the base class of torch's own tests, which nothing here uses
sys.modules.setdefault("expecttest", types.SimpleNamespace(TestCase=unittest.TestCase))
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves, tree_map  # noqa: E402

import pysmpc as sy  # noqa: E402
from pysmpc.errors import EncodingError, PysmpcError, RangeError  # noqa: E402
from pysmpc.ring.fixedpoint import BINARY16  # noqa: E402
from pysmpc.ring.shares import Share  # noqa: E402
from pysmpc.session.empty import empty_session  # noqa: E402

gc.freeze()  # a hundred thousand objects of the catalogue, which are here to stay

#: how an operation says that it will not: NotImplementedError where there is none of it
REFUSALS = (NotImplementedError, TypeError, PysmpcError, ZeroDivisionError)
#: what may be off, absolutely or relatively
VALUES, GRADIENTS = 2.0**-9, 2.0**-8
#: elements of the secrets of a sample; larger samples are left out
LARGEST = 10_000

#: what is larger is not compared: a product of two values at the finest scales that wait for their truncation wraps
LARGE = 2.0**14

RIGHT, REFUSED, NO_GRADIENT = "right", "refused", "gradient refused"
#: nothing to ask of it: torch refuses it too, its result is not finite and was refused, or float32 is as far off
OUTSIDE = "outside"


class Wrong(AssertionError):
    """An operation returned something that torch does not."""


class Off(Wrong):
    """A result of the right kind with other values."""

    def __init__(self, name, by):
        super().__init__(f"{name}: off by {by:.3g}")
        self.by = by


@dataclass(frozen=True)
class Outcome:
    """What became of a sample.  why: of a refusal.  values, gradients: by what they were off."""

    state: str
    why: str = ""
    values: float = 0.0
    gradients: float = 0.0


def operations():
    """Each variant that takes float32 and supports autograd: 540 of torch 2.13."""
    return [info for info in op_db if torch.float32 in info.dtypes and info.supports_autograd]


def name_of(info):
    """Its name and the name of its variant."""
    return f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name


def samples(info, n=None):
    """The first n samples (all) with a real tensor first, and not too large a one, as secrets can represent them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = info.sample_inputs_func(info, "cpu", torch.float32, False)
        for sample in itertools.islice((s for s in found if _usable(s) and _in_domain(info, s)), n):
            sample.input, sample.args, sample.kwargs = _mapped(_exact, sample)
            yield sample


#: Of whose results torch leaves signs open: compared by what the catalogue makes of them.
OPEN_SIGNS = ("linalg.eigh", "linalg.svd", "svd", "svd_lowrank", "pca_lowrank")
#: Of what singular vectors, or eigenvectors, may be off in samples of random matrices
VECTORS = 2.0**-12


#: Whose samples have scores of hundreds: what plain torch is off by there, if each of its results is rounded to a step,
#: is no error.
ATTENTION = ("nn.functional.multi_head_attention_forward", "nn.functional.scaled_dot_product_attention")


def _in_domain(info, sample):
    """Whether a sample is in the domain that docs/functions.md states, where the catalogue draws others as well."""
    x = sample.input
    if info.name == "linalg.tensorsolve":
        dims = sample.kwargs["dims"]
        x = x if dims is None else x.movedim(dims, tuple(range(x.dim() - len(dims), x.dim())))
        return float(torch.linalg.cond(x.detach().double().reshape(sample.args[0].numel(), -1))) < 64
    if info.name in ("linalg.norm", "linalg.matrix_norm", "norm"):
        given = [*sample.args, *sample.kwargs.values()]
        if not any(str(each) in ("nuc", "2", "-2", "2.0", "-2.0") for each in given) or x.dim() < 2:
            return True
        dims = sample.kwargs.get("dim")
        x = x.movedim(dims, (-2, -1)) if isinstance(dims, tuple) and len(dims) == 2 else x
    elif info.name in ("linalg.eigh", "linalg.eigvalsh") and x.numel():
        values = torch.linalg.eigvalsh(x.detach().double(), **sample.kwargs)
        norm = values.norm(dim=-1)
        return float((x.shape[-1] * 2.0**-20 * norm / _least_gap(values)).max()) < VECTORS
    elif info.name == "linalg.pinv" and sample.kwargs.get("hermitian") and x.numel():
        x = x.detach().double()
        return float(torch.linalg.cond(x.tril() + x.tril(-1).mT).max()) < 16
    elif info.name == "matrix_exp" and x.numel():
        return float(torch.linalg.matrix_exp(x.detach().double()).abs().max()) < 2.0**12
    elif info.name not in ("linalg.svdvals", "linalg.cond"):
        return True
    if not x.numel():
        return True
    values = torch.linalg.svdvals(x.detach().double())
    norm = values.norm(dim=-1)
    vectors = values.shape[-1] * 2.0**-20 * norm**2 / _least_gap(values**2)
    return float(vectors.max()) < VECTORS and float((norm / values[..., -1]).max()) < 64


def _least_gap(values):
    return values.diff(dim=-1).abs().amin(-1) if values.shape[-1] > 1 else torch.ones(values.shape[:-1])


def _comparable(info, sample, out):
    """Results as the catalogue compares them, where not all of them are determined."""
    return sample.output_process_fn_grad(out) if info.name in OPEN_SIGNS else out


def _mapped(function, sample):
    """function of each real tensor of a sample: (input, args, kwargs)."""
    return tree_map(lambda x: function(x) if _real(x) else x, (sample.input, sample.args, sample.kwargs))


def _usable(sample):
    sizes = [x.numel() for x in tree_leaves(sample.input) if _real(x)]
    return bool(sizes) and sum(sizes) <= LARGEST


def _real(x):
    return isinstance(x, torch.Tensor) and x.is_floating_point() and x.layout == torch.strided


def _exact(x):
    """Values that secrets can have; next to 0, as the catalogue has them for divisors, a step instead of 0."""
    if not bool(x.isfinite().all()):
        return x
    step = torch.tensor(1 / BINARY16.scale, dtype=x.dtype)
    near = represented(x.double(), BINARY16).to(x.dtype)
    return torch.where((x != 0) & (near == 0), step.copysign(x), near)


def _leaf(x):
    return x.detach().requires_grad_(True)


def _apart(x):
    """Values that are no small divisors: torch's derivative squares those, and a square is rounded to a step."""
    return torch.where((x != 0) & (x.abs() < 0.125), torch.tensor(0.125, dtype=x.dtype).copysign(x), x)


def secrets_of(sample, all_secret):
    """(input, args, kwargs) with secrets for the real tensors of the input, or for all of them."""
    hidden = tree_map(_hidden, sample.input)
    if all_secret:
        return hidden, *tree_map(_hidden, (sample.args, sample.kwargs))
    return hidden, sample.args, sample.kwargs


def _hidden(x):
    return _leaf(sy.encrypt(x, parties())) if _real(x) else x


def twins_of(sample, all_secret, dtype=torch.float64):
    """The same in float64, as the oracle takes it."""
    given, *rest = _mapped(lambda x: x.to(dtype, copy=True), sample)
    given = tree_map(lambda x: _leaf(x) if _real(x) else x, given)
    return given, *tree_map(lambda x: _leaf(x) if _real(x) and all_secret else x, tuple(rest))


def flat(out):
    """The results of an operation, one or many; complex ones by their parts."""
    if isinstance(out, tuple | list):
        return [t for each in out for t in flat(each)]
    if isinstance(out, torch.Tensor) and out.is_complex():
        return [torch.view_as_real(out.resolve_conj())]
    return [out]


#: Draw numbers of their input's dtype, so that an oracle in float64 draws others.
DRAWN = ("nn.functional.fractional_max_pool2d", "nn.functional.fractional_max_pool3d")


def _drawn_apart(info, sample):
    """Whether random numbers are drawn that are not torch's: rrelu in training has a slope for each element."""
    return info.name == "nn.functional.rrelu" and sample.kwargs.get("training", False)


def outcome(info, sample, gradients=True, all_secret=False):
    """What becomes of a sample."""
    if _drawn_apart(info, sample):
        return Outcome(OUTSIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twins = twins_of(sample, all_secret, torch.float32 if info.name in DRAWN else torch.float64)
        try:
            expected = _comparable(info, sample, info.op(twins[0], *twins[1], **twins[2]))
        except Exception:
            expected = None  # torch has no float64 oracle for it: it must be refused
            if all_secret:
                return Outcome(OUTSIDE)
        try:
            given = secrets_of(sample, all_secret)
        except EncodingError:
            return Outcome(OUTSIDE)  # infinite, or none at all: no secret is
        stats = parties().stats.copy()
        try:
            found = _comparable(info, sample, info.op(given[0], *given[1], **given[2]))
        except Exception as error:
            if not refuses(error):
                raise
            if expected is not None and (not _finite(expected) or _too_large(error, expected)):
                return Outcome(OUTSIDE)
            cost = (parties().stats - stats).cost
            return Outcome(REFUSED, f"{reason_of(error)}{'' if not cost.rounds else f' [after {cost.rounds} rounds]'}")
        if expected is None:
            raise Wrong(f"{info.name} returned {found!r}, and there is nothing to compare it with")
        weights = [_weights(x) for x in flat(expected)] if gradients else None
        try:
            return _compared(info, given, twins, flat(found), flat(expected), weights)
        except Off as error:
            off = _off_in_float32(info, sample, all_secret, flat(expected), twins, weights)
            if info.name in ATTENTION:
                rounded = [_off_in_steps(info, sample, all_secret, flat(expected), twins, weights) for _ in range(4)]
                off = max(off, *rounded)
            if error.by > 2 * off:
                raise
            return Outcome(OUTSIDE)


def _weights(x):
    """Of the elements of a result in the loss whose gradients are compared.

    Of one sign, as terms that cancel leave nothing that is relatively exact; none of what is not compared.
    """
    if not isinstance(x, torch.Tensor) or not x.dtype.is_floating_point:
        return None
    sign = 1 if torch.rand(()) < 0.5 else -1
    weights = represented(sign * (0.25 + 0.75 * torch.rand(x.shape, dtype=torch.float64)), BINARY16)
    return torch.where(x.detach().abs() < LARGE, weights, 0)


def _off_in_float32(info, sample, all_secret, expected, twins, weights):
    """By how much torch's own float32 is off, at worst, in values and gradients."""
    given, *rest = tree_map(lambda x: x.detach().float() if _real(x) else x, twins)
    return _off_of(info, sample, all_secret, expected, twins, weights, given, rest)


class _InSteps(TorchDispatchMode):
    """Rounds what each operation of torch comes to, at random, to a step of the encoding."""

    def __init__(self):
        super().__init__()
        self._draws = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._schema.is_mutable or any(each.alias_info is not None for each in func._schema.returns):
            return out
        return tree_map(lambda x: self._rounded(x) if _real(x) and x.dtype.is_floating_point else x, out)

    def _rounded(self, x):
        up = torch.rand(x.shape, generator=self._draws, dtype=x.dtype)  # not of what masks of dropout are drawn from
        return torch.floor(x * BINARY16.scale + up) / BINARY16.scale


def _off_in_steps(info, sample, all_secret, expected, twins, weights):
    """The same of float64 in which each result is rounded to a step."""
    given, *rest = tree_map(lambda x: x.detach().clone() if _real(x) else x, twins)
    with sdpa_kernel(SDPBackend.MATH), _InSteps():
        return _off_of(info, sample, all_secret, expected, twins, weights, given, rest)


def _off_of(info, sample, all_secret, expected, twins, weights, given, rest):
    """By how much torch is off, at worst, with other arguments or other arithmetic."""
    given = tree_map(lambda x: _leaf(x) if _real(x) else x, given)
    rest = tree_map(lambda x: _leaf(x) if _real(x) and all_secret else x, tuple(rest))
    found = flat(_comparable(info, sample, info.op(given, *rest[0], **rest[1])))
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if isinstance(b, torch.Tensor)]
    if weights is not None:
        loss = sum((a * w.to(a.dtype)).sum() for a, w in zip(found, weights, strict=True) if w is not None)
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            loss.backward()
        leaves = zip(tree_leaves((given, rest)), tree_leaves(twins), strict=True)
        pairs += [(a.grad, b.grad) for a, b in leaves if isinstance(b, torch.Tensor) and b.grad is not None]
    return max((_difference(a, b) for a, b in pairs if a is not None and b.dtype.is_floating_point), default=0.0)


def _finite(results):
    dense = [x for x in flat(results) if isinstance(x, torch.Tensor) and x.layout == torch.strided]
    return all(bool(x.isfinite().all()) for x in dense)


def _too_large(error, results):
    """Whether a result is beyond what is compared, and that is what an error is about: tan next to one of its poles."""
    real = [x for x in flat(results) if isinstance(x, torch.Tensor) and x.layout == torch.strided and x.numel()]
    return isinstance(error, RangeError) and any(float(x.detach().abs().max()) >= LARGE for x in real)


def refuses(error):
    """Whether an error says that there is no such operation, or not of these arguments."""
    # a view wider than what was shared is torch's to refuse
    return isinstance(error, REFUSALS) or "out of bounds for storage" in str(error)


def reason_of(error):
    """An error in short."""
    return f"{type(error).__name__}: {str(error).partition('; rewrite it')[0]}"


def _compared(info, given, twins, mine, theirs, weights):
    if len(mine) != len(theirs):
        raise Wrong(f"{info.name}: {len(mine)} results, not {len(theirs)}")
    worst, loss, twin_loss = 0.0, None, None
    for k, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        if not isinstance(b, torch.Tensor):
            if a != b:
                raise Wrong(f"{info.name}: {a}, not {b}")
            continue
        if not isinstance(a, torch.Tensor):
            raise Wrong(f"{info.name} returned {a!r}")
        worst = max(worst, _off(info.name, a, b, VALUES))
        if b.requires_grad and b.dtype.is_floating_point:
            if not a.requires_grad:
                raise Wrong(f"{info.name}: its result is outside the graph")
            if weights is None:
                continue
            part, twin_part = (a * weights[k]).sum(), (b * weights[k]).sum()
            loss, twin_loss = (part, twin_part) if loss is None else (loss + part, twin_loss + twin_part)
    if loss is None:
        return Outcome(RIGHT, values=worst)
    try:
        twin_loss.backward()
    except RuntimeError:  # torch has no derivative
        return Outcome(RIGHT, values=worst)
    try:
        loss.backward()
    except Exception as error:
        if not refuses(error):
            raise
        return Outcome(OUTSIDE if _too_large(error, theirs) else NO_GRADIENT, reason_of(error), worst)
    slope = 0.0
    for a, b in zip(tree_leaves(given), tree_leaves(twins), strict=True):
        if not isinstance(b, torch.Tensor) or b.grad is None:
            if isinstance(a, torch.Tensor) and a.grad is not None and bool(plain(a.grad).any()):
                raise Wrong(f"{info.name}: a gradient where torch has none")
            continue
        if a.grad is None:
            raise Wrong(f"{info.name}: no gradient")
        slope = max(slope, _off(f"gradient of {info.name}", a.grad, b.grad, GRADIENTS))
    return Outcome(RIGHT, values=worst, gradients=slope)


def _off(name, found, expected, tolerance):
    """The largest difference, absolute or relative, where torch's result is in range."""
    if tuple(found.shape) != tuple(expected.shape):
        raise Wrong(f"{name}: shape {tuple(found.shape)}, not {tuple(expected.shape)}")
    if "empty" in name:
        return 0.0
    if found.dtype.is_floating_point != expected.dtype.is_floating_point:
        raise Wrong(f"{name}: {found.dtype}, not {expected.dtype}")
    if not expected.numel():
        return 0.0
    tolerance = max(tolerance, torch.finfo(expected.dtype).eps) if expected.dtype.is_floating_point else 0.0
    worst = _difference(plain(found), expected)
    if not worst <= tolerance:
        raise Off(name, worst)
    return worst


def _difference(found, expected):
    """The largest difference, absolute or relative, where the expected result is in range."""
    a, b = found.detach().double(), expected.detach().double()
    off = ((a - b).abs() / b.abs().clamp(min=1))[b.isfinite() & (b.abs() < LARGE)]
    return float(off.max()) if off.numel() else 0.0


def check_without_shares(info, sample):
    """A driver of workers holds no shares: what is right must run on none, too, forward and backward."""
    session = empty_session(parties().session)

    def empty(x):
        if not _real(x):
            return x
        share = Share.of(torch.empty((0, x.numel()), dtype=torch.int64), tuple(x.shape), BINARY16.scale)
        return _leaf(sy.SecretTensor.of(share, session, BINARY16, x.dtype))

    try:
        found = info.op(tree_map(empty, sample.input), *sample.args, **sample.kwargs)
        total = [x.sum() for x in flat(found) if isinstance(x, torch.Tensor) and x.requires_grad]
        if total:
            sum(total[1:], total[0]).backward()
    except Exception as error:
        raise Wrong(f"{info.name} is right, but raises where there are no shares: {error}") from error


def outcomes(info, n=None, gradients_of=None, seconds=60.0):
    """Outcomes of the first n samples, as many as there is time for; gradients of the first so many (all).

    Of each, those with secrets in place of other arguments, too, must be right or refused: they do not count.
    """
    found, end = [], time.monotonic() + seconds
    for k, sample in enumerate(samples(info, n)):
        with_gradients = gradients_of is None or k < gradients_of
        found.append(outcome(info, sample, with_gradients))
        if k == 0 and found[0].state == RIGHT:
            check_without_shares(info, sample)
        if with_gradients and any(_real(x) for x in tree_leaves((sample.args, sample.kwargs))):
            sample.args, sample.kwargs = _mapped(_apart, sample)[1:]
            outcome(info, sample, True, all_secret=True)
        if time.monotonic() > end:
            break
    return found
