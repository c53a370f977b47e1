import numpy as np
import pytest
import torch

from pysmpc.datasets import DatasetError, idx, load
from pysmpc.datasets.mnist import SAMPLE


def make(folder, *, items=5, side=28, top=9):
    for name in ("train", "t10k"):
        idx.write(folder / f"{name}-images-idx3-ubyte.gz", np.full((items, side, side), 255, np.uint8))
        idx.write(folder / f"{name}-labels-idx1-ubyte.gz", np.full(items, top, np.uint8))
    return folder


def test_the_sample_is_640_and_640_items_of_mnist():
    data = load()
    assert data.train_images.shape == data.test_images.shape == (640, 28, 28)
    assert data.train_images.dtype == data.test_images.dtype == torch.float32
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert set(data.train_labels.tolist()) == set(range(10))


def test_the_sample_is_small():
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 600_000


def test_pixels_are_normalised(tmp_path):
    data = load(make(tmp_path), 5, 5)
    torch.testing.assert_close(data.train_images, torch.full((5, 28, 28), (1 - 0.1307) / 0.3081))
    low, mean, spread = load().train_images.aminmax()[0], load().train_images.mean(), load().train_images.std()
    assert low == pytest.approx(-0.1307 / 0.3081)
    assert abs(mean) < 0.05
    assert abs(spread - 1) < 0.05


def test_takes_the_first_items(tmp_path):
    data, whole = load(None, 7, 3), load()
    assert torch.equal(data.train_images, whole.train_images[:7])
    assert torch.equal(data.test_labels, whole.test_labels[:3])
    assert len(load(make(tmp_path), 5, 5).test_labels) == 5


@pytest.mark.parametrize(
    ("options", "items", "reason"),
    [
        ({}, (6, 5), "6 training items wanted, .* has 5"),
        ({}, (5, 6), "6 test items wanted, .* has 5"),
        ({}, (0, 5), "0 training items wanted; at least 1"),
        ({"side": 27}, (5, 5), "images of 27x27 pixels, not 28x28"),
        ({"top": 10}, (5, 5), "label 10, past 9"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, options, items, reason):
    with pytest.raises(DatasetError, match=reason):
        load(make(tmp_path, **options), *items)


def test_more_than_the_sample_has():
    with pytest.raises(DatasetError, match="641 training items wanted, the sample has 640"):
        load(None, 641, 1)
