"""Reads MNIST-style IDX files, gzipped or not.

A file is trusted in nothing: its magic number, its length and its agreement with the file of labels are checked, and
whatever is wrong is a DatasetError of one line that names the file.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

UINT8 = 0x08
FOLDERS = ("", "raw", "MNIST/raw")

Array = npt.NDArray[np.uint8]


class DatasetError(ValueError):
    """A data set that cannot be used as it is; the message is one line that says why."""


class Split(NamedTuple):
    """images: uint8 [items, rows, columns]; labels: uint8 [items]."""

    images: Array
    labels: Array


def find(folder: Path, stem: str) -> Path:
    """The file `stem` (such as train-images-idx3-ubyte) in `folder`, in its `raw` or in its `MNIST/raw`, which is
    torchvision's layout. A dot may stand for the dash before idx, and the file may end in .gz."""
    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: not a folder")
    for place in FOLDERS:
        for name in (stem, stem.replace("-idx", ".idx")):
            for path in (folder / place / name, folder / place / f"{name}.gz"):
                if path.is_file():
                    return path
    raise DatasetError(f"{folder}: no {stem} or {stem}.gz there, nor in raw or MNIST/raw")


def read_bytes(path: Path) -> bytes:
    """The content of `path`, decompressed if it begins as gzip does, whatever its name."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path}: damaged gzip file ({error})") from None
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None


def read(path: Path, dimensions: int) -> Array:
    """The array of unsigned bytes in the IDX file `path`, which must have `dimensions` axes, none of them empty."""
    content = read_bytes(path)
    magic = bytes([0, 0, UINT8, dimensions])
    if content[:4] != magic:
        found = content[:4].hex() or "nothing"
        raise DatasetError(f"{path}: begins with {found}, an IDX file of this kind with {magic.hex()}")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DatasetError(f"{path}: truncated in its header: {len(content)} of {start} bytes")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", content[4:start])
    if 0 in shape:
        raise DatasetError(f"{path}: holds no items (shape {'x'.join(map(str, shape))})")
    expected = start + math.prod(shape)
    if len(content) < expected:
        raise DatasetError(f"{path}: truncated: {len(content)} of {expected} bytes")
    if len(content) > expected:
        raise DatasetError(f"{path}: {len(content) - expected} bytes too many after {expected}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_split(folder: Path, name: str) -> Split:
    """Images and labels of one split, `name` being train or t10k."""
    image_file, label_file = find(folder, f"{name}-images-idx3-ubyte"), find(folder, f"{name}-labels-idx1-ubyte")
    images, labels = read(image_file, 3), read(label_file, 1)
    if len(images) != len(labels):
        counts = f"{len(images)} images in {image_file.name}, {len(labels)} labels in {label_file.name}"
        raise DatasetError(f"{folder}: {counts}")
    return Split(images, labels)


def write(path: Path, array: Array) -> None:
    """Writes `array` as a gzipped IDX file; equal arrays give equal files."""
    header = bytes([0, 0, UINT8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=9, mtime=0))
