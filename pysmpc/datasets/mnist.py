"""MNIST as tensors: from a folder of the original files, or from the sample inside the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch

from pysmpc.datasets import idx
from pysmpc.datasets.idx import DatasetError

MEAN, DEVIATION = 0.1307, 0.3081  # of the 60,000 training images, as fractions of full white
SIDE, CLASSES = 28, 10
SAMPLE = Path(__file__).parent / "sample"


class Mnist(NamedTuple):
    """Images: float32 [items, 28, 28], normalised. Labels: int64 [items], 0 to 9."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load(folder: str | os.PathLike[str] | None = None, train_items: int = 640, test_items: int = 640) -> Mnist:
    """The first `train_items` and `test_items` items of MNIST, or of any set with its shape and file names.

    `folder` None is the sample inside the package, 640 items of each. Raises DatasetError.
    """
    where = SAMPLE if folder is None else Path(folder)
    return Mnist(*_split(where, "train", train_items), *_split(where, "t10k", test_items))


def _split(folder: Path, name: str, items: int) -> tuple[torch.Tensor, torch.Tensor]:
    kind = {"train": "training", "t10k": "test"}[name]
    if items < 1:
        raise DatasetError(f"{items} {kind} items wanted; at least 1 is needed")
    images, labels = idx.read_split(folder, name)
    if images.shape[1:] != (SIDE, SIDE):
        raise DatasetError(f"{folder}: {kind} images of {images.shape[1]}x{images.shape[2]} pixels, not {SIDE}x{SIDE}")
    if items > len(images):
        source = "the sample" if folder == SAMPLE else str(folder)
        raise DatasetError(f"{items} {kind} items wanted, {source} has {len(images)}")
    if labels[:items].max() >= CLASSES:
        raise DatasetError(f"{folder}: {kind} label {labels[:items].max()}, past {CLASSES - 1}")
    pixels = torch.from_numpy(images[:items].copy()).to(torch.float32) / 255
    return (pixels - MEAN) / DEVIATION, torch.from_numpy(labels[:items].copy()).to(torch.int64)
