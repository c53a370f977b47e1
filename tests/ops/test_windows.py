"""Convolutions and pooling of any number of dimensions, in every encoding and layout."""

import pytest
import torch
from op_checks import check_op
from torch.nn import functional as F

IMAGES = {1: [(2, 4, 9), (4, 4, 3)], 2: [(2, 4, 7, 6), (4, 4, 3, 2)], 3: [(1, 2, 4, 5, 4), (2, 2, 2, 3, 2)]}
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"padding": 1},
        {"dilation": 2},
        {"stride": 2, "padding": 2},
        {"stride": 3, "padding": 1, "dilation": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [1, 2])
def test_convolutions(n, options):
    check_op(lambda x, w: CONV[n](x, w, **options), [IMAGES[n]], low=-1, high=1, steps=2)
    check_op(lambda x, w, b: CONV[n](x, w, b, **options), [[*IMAGES[n], (4,)]], low=-1, high=1, steps=2)


@pytest.mark.parametrize("groups", [2, 4])
def test_groups(groups):
    def grouped(x, w):
        return F.conv2d(x, w, groups=groups, padding=1)

    check_op(grouped, [[(2, 4, 5, 5), (4, 4 // groups, 3, 3)]], low=-1, high=1, steps=2)


def test_three_dimensions():
    check_op(lambda x, w: F.conv3d(x, w, padding=1), [IMAGES[3]], low=-1, high=1, steps=2)


def test_one_image_without_a_batch():
    check_op(lambda x, w: F.conv2d(x, w), [[(4, 7, 6), (4, 4, 3, 2)]], low=-1, high=1, steps=2)


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}],
    ids=str,
)
def test_pooling(options):
    check_op(lambda x: F.max_pool2d(x, **options), [(2, 2, 6, 7)], steps=2)
    check_op(lambda x: F.avg_pool2d(x, **options), [(2, 2, 6, 7)], steps=2)


def test_a_convolution_of_plain_filters():
    weight = torch.randint(-4, 5, (3, 2, 3, 3)).double() / 4
    check_op(lambda x: F.conv2d(x, weight.to(x.dtype), padding=1), [(2, 2, 5, 5)], low=-1, high=1, steps=3)
