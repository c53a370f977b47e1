"""Torch's own catalogue of operations, each on a secret first argument.

`outcome` says what became of a sample: "right" (torch's result, within tolerance),
"refused" (an error of a kind that says so), or raises what was found instead.
"""

import gc
import itertools
import sys
import types
import unittest
import warnings

import torch
from op_checks import parties, plain, represented

# the catalogue's module imports the base class of torch's own tests, which nothing here uses
sys.modules.setdefault("expecttest", types.SimpleNamespace(TestCase=unittest.TestCase))
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.utils._pytree import tree_map  # noqa: E402

import pysmpc as sy  # noqa: E402
from pysmpc.errors import PysmpcError  # noqa: E402
from pysmpc.fixedpoint import BINARY16  # noqa: E402

gc.freeze()  # a hundred thousand objects of the catalogue, which are here to stay

#: how an operation says that it will not: NotImplementedError where there is none of it
REFUSALS = (NotImplementedError, TypeError, PysmpcError, ZeroDivisionError)
TOLERANCE = 2.0**-8


def samples(info, n):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sample in itertools.islice(info.sample_inputs_func(info, "cpu", torch.float32, False), n):
            sample.input = tree_map(lambda x: _apart(x) if _real(x) else x, sample.input)
            yield sample


def _apart(x):
    """Values next to 0, as the catalogue has them for divisors, that would be 0 as secrets: a step instead."""
    step = torch.tensor(1 / BINARY16.scale, dtype=x.dtype)
    close = (x != 0) & (x.abs() < step)
    return torch.where(close, step.copysign(x), x) if bool(close.any()) else x


def secret_of(value):
    """Secrets for the real tensors of an argument."""
    return tree_map(lambda x: sy.encrypt(x, parties()) if _real(x) else x, value)


def twin_of(value):
    """float64 tensors of the values that secrets of them stand for."""
    return tree_map(lambda x: represented(x.double(), BINARY16) if _real(x) else x, value)


def _real(x):
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def doubled(value):
    return tree_map(lambda x: x.double() if _real(x) else x, value)


def flat(out):
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, tuple | list):
        return [t for each in out for t in flat(each)]
    return [out]


def outcome(info, sample):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = info.op(twin_of(sample.input), *doubled(sample.args), **sample.kwargs)
        except Exception:
            expected = None  # torch has no float64 oracle for it: it must be refused
        try:
            found = info.op(secret_of(sample.input), *sample.args, **sample.kwargs)
        except REFUSALS:
            return "refused"
        except RuntimeError as error:
            if "out of bounds for storage" not in str(error):  # a view wider than what was shared
                raise
            return "refused"
        if expected is None:
            raise AssertionError(f"{info.name} returned {found!r}, and there is nothing to compare it with")
    mine, theirs = flat(found), flat(expected)
    assert len(mine) == len(theirs), f"{info.name}: {len(mine)} results, not {len(theirs)}"
    for a, b in zip(mine, theirs, strict=True):
        if not isinstance(b, torch.Tensor):
            assert a == b, f"{info.name}: {a}, not {b}"
            continue
        assert isinstance(a, torch.Tensor), f"{info.name} returned {a!r}"
        _same(info.name, a, b)
    return "right"


def _same(name, found, expected):
    if "empty" in name:
        assert found.shape == expected.shape
        return
    value = plain(found)
    assert tuple(value.shape) == tuple(expected.shape), (
        f"{name}: shape {tuple(value.shape)}, not {tuple(expected.shape)}"
    )
    assert found.dtype.is_floating_point == expected.dtype.is_floating_point, (
        f"{name}: {found.dtype}, not {expected.dtype}"
    )
    if not expected.numel():
        return
    a, b = value.double(), expected.double()
    assert bool(b.isfinite().all()), f"{name}: {a} where torch has {b}"
    worst = float(((a - b).abs() - TOLERANCE * b.abs()).max())
    assert worst <= TOLERANCE, f"{name}: off by {worst:.3g}"


def operations():
    """Each operation of the catalogue, but for those that need a GPU or sparse tensors."""
    for info in op_db:
        if torch.float32 in info.dtypes and not info.name.startswith(("jiterator", "sparse.")):
            yield info


def usable(sample):
    """Whether a sample has a real tensor first, and not too large a one."""
    sizes = [x.numel() for x in flat(sample.input) if _real(x)]
    return bool(sizes) and sum(sizes) <= 20_000
