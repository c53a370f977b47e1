"""Padding, resizing and averaging."""

import pytest
import torch
from op_checks import check_op, encrypted, parties
from torch.nn import functional as F


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("shape", "pad"), [((2, 2, 5), (2, 1)), ((1, 2, 4, 3), (1, 2, 3, 0)), ((1, 1, 3, 3, 3), (1,) * 6)]
)
def test_padding(mode, shape, pad):
    check_op(lambda x: F.pad(x, pad, mode=mode), shapes=[shape], steps=0, grad_steps=2)


def test_padding_that_does_not_fit():
    with pytest.raises(RuntimeError, match="padding"):
        F.pad(encrypted(torch.rand(1, 1, 3)), (3, 0), mode="reflect")


RESIZED = [
    ((1, 2, 4), {"size": 7, "mode": "nearest"}),
    ((1, 2, 4), {"scale_factor": 1.7, "mode": "nearest-exact"}),
    ((1, 2, 4), {"scale_factor": 2.0, "mode": "linear"}),
    ((1, 1, 3, 4), {"size": (5, 3), "mode": "bilinear"}),
    ((1, 1, 3, 4), {"size": (5, 3), "mode": "bilinear", "align_corners": True}),
    ((1, 1, 6, 6), {"size": (3, 4), "mode": "bilinear", "antialias": True}),
    ((1, 1, 4, 4), {"scale_factor": 2.0, "mode": "bicubic"}),
    ((1, 1, 6, 6), {"size": (4, 3), "mode": "bicubic", "antialias": True}),
    ((1, 1, 2, 3, 2), {"size": (3, 2, 4), "mode": "trilinear"}),
    ((1, 2, 5), {"size": 3, "mode": "area"}),
]


@pytest.mark.parametrize(("shape", "options"), RESIZED, ids=lambda x: str(x))
def test_resizing(shape, options):
    steps = 12 if options["mode"] == "bicubic" else 4  # two passes of up to six weights, each rounded to a step
    check_op(lambda x: F.interpolate(x, **options), shapes=[shape], steps=steps, grad_steps=steps + 2)


POOLED = [
    (F.avg_pool1d, (2, 7), (3,), {"stride": 2, "padding": 1, "count_include_pad": False}),
    (F.avg_pool2d, (1, 5, 6), (3,), {"stride": 2, "ceil_mode": True}),
    (F.avg_pool2d, (1, 5, 6), (2,), {"padding": 1, "divisor_override": 3}),
    (F.avg_pool2d, (1, 5, 5), (2,), {"stride": 3, "padding": 1, "ceil_mode": True}),
    (F.avg_pool3d, (1, 2, 4, 5, 4), (2,), {"stride": (2, 3, 1), "padding": 1}),
    (F.avg_pool3d, (1, 4, 4, 4), (3,), {"ceil_mode": True, "count_include_pad": False, "padding": 1}),
    (F.adaptive_avg_pool1d, (2, 7), (3,), {}),
    (F.adaptive_avg_pool2d, (1, 5, 7), ((3, 2),), {}),
    (F.adaptive_avg_pool3d, (1, 4, 3, 5), ((3, 2, 4),), {}),
]


@pytest.mark.parametrize(("function", "shape", "arguments", "options"), POOLED)
def test_averages(function, shape, arguments, options):
    check_op(lambda x: function(x, *arguments, **options), shapes=[shape], steps=1, grad_steps=16)


def test_averages_are_not_rounded_before_they_are_needed():
    before = parties().stats.copy()
    F.adaptive_avg_pool2d(encrypted(torch.rand(1, 2, 5, 7)), (3, 2))
    assert (parties().stats - before).cost.rounds == 0
