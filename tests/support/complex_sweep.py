"""Torch's own catalogue of operations on complex secrets: values and gradients, by their parts."""

import itertools
import time
import warnings
from collections import Counter

import torch
from op_checks import parties, represented
from op_sweep import GRADIENTS, LARGEST, VALUES, Wrong, flat, name_of, op_db, reason_of, refuses
from torch.utils._pytree import tree_leaves, tree_map

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.ring.fixedpoint import BINARY16


def operations():
    """Each variant that takes complex64 and supports autograd."""
    return [info for info in op_db if torch.complex64 in info.dtypes and info.supports_autograd]


def _numbers(x):
    return isinstance(x, torch.Tensor) and (x.is_complex() or x.is_floating_point()) and x.layout == torch.strided


def _represented(x):
    wide = x.detach().resolve_conj().resolve_neg().to(torch.complex128 if x.is_complex() else torch.float64)
    if x.is_complex():
        return torch.view_as_complex(represented(torch.view_as_real(wide).contiguous(), BINARY16))
    return represented(wide, BINARY16)


def samples(info, n):
    """Samples whose first operand is a complex tensor, or several."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = info.sample_inputs_func(info, "cpu", torch.complex64, False)
        usable = (s for s in found if any(_numbers(x) and x.is_complex() for x in tree_leaves(s.input)))
        usable = (s for s in usable if sum(x.numel() for x in tree_leaves(s.input) if _numbers(x)) <= LARGEST)
        yield from itertools.islice(usable, n)


def outcome(info, sample, all_secret):
    """ "right", or the reason for which it was refused; raises Wrong for anything else."""
    try:
        given = tree_map(lambda x: _represented(x) if _numbers(x) else x, (sample.input, sample.args, sample.kwargs))
    except EncodingError:  # no secret is as large
        return "outside"

    def hidden(x):
        return sy.encrypt(x, parties()).detach().requires_grad_() if _numbers(x) else x

    def twin(x):
        return x.clone().requires_grad_() if _numbers(x) else x

    public = [tree_map(lambda x: x.to(_narrow(x)) if _numbers(x) else x, each) for each in given]
    mine = [tree_map(hidden, public[0]), *(tree_map(hidden, public[1:]) if all_secret else public[1:])]
    theirs = [tree_map(twin, given[0]), *(tree_map(twin, given[1:]) if all_secret else given[1:])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = flat(info.op(theirs[0], *theirs[1], **theirs[2]))
        except Exception:
            return "outside"
        try:
            found = flat(info.op(mine[0], *mine[1], **mine[2]))
        except Exception as error:
            if not refuses(error):
                raise
            return reason_of(error) if all(map(_finite, expected)) else "outside"
        return _compared(info.name, found, expected, tree_leaves(mine), tree_leaves(theirs))


def _finite(x):
    return not isinstance(x, torch.Tensor) or bool(torch.isfinite(x).all())


def _narrow(x):
    return torch.complex64 if x.is_complex() else torch.float32


def _compared(name, found, expected, mine, theirs):
    if len(found) != len(expected):
        raise Wrong(f"{name}: {len(found)} results, not {len(expected)}")
    loss = twin_loss = 0
    for a, b in zip(found, expected, strict=True):
        if not isinstance(b, torch.Tensor):
            if a != b:
                raise Wrong(f"{name}: {a}, not {b}")
            continue
        if isinstance(a, sy.SecretTensor):
            _close(name, sy.decrypt(a), b, VALUES)
        if b.requires_grad:
            weights = represented(0.25 + 0.75 * torch.rand(b.shape, dtype=torch.float64), BINARY16)
            loss, twin_loss = (a * weights).sum() + loss, (b * weights).sum() + twin_loss
    if not isinstance(twin_loss, torch.Tensor):
        return "right"
    twin_loss.backward()
    try:
        loss.backward()
    except Exception as error:
        if not refuses(error):
            raise
        return f"gradient: {reason_of(error)}"
    for a, b in zip(mine, theirs, strict=True):
        if isinstance(b, torch.Tensor) and b.grad is not None:
            if a.grad is None:
                raise Wrong(f"{name}: no gradient")
            _close(f"gradient of {name}", sy.decrypt(a.grad), b.grad, GRADIENTS)
    return "right"


def _close(name, found, expected, tolerance):
    if tuple(found.shape) != tuple(expected.shape) or found.is_complex() != expected.is_complex():
        raise Wrong(f"{name}: {found.dtype} {tuple(found.shape)}, not {expected.dtype} {tuple(expected.shape)}")
    if "empty" in name or not expected.numel():
        return
    if expected.is_complex():
        found, expected = torch.view_as_real(found.resolve_conj()), torch.view_as_real(expected.resolve_conj())
    off = ((found.double() - expected.double()).abs() / expected.double().abs().clamp(min=1)).max()
    if not off <= tolerance:
        raise Wrong(f"{name}: off by {float(off):.3g}")


def outcomes(info, n, seconds):
    """What became of the first n samples, as many as there is time for."""
    found, end = Counter(), time.monotonic() + seconds
    for sample in samples(info, n):
        for all_secret in (False, True):
            found[outcome(info, sample, all_secret)] += 1
        if time.monotonic() > end:
            break
    return found


__all__ = ["name_of", "operations", "outcomes"]
