"""Every way in which an IDX file can be wrong is one line that names the file."""

import gzip
import shutil
import struct

import numpy as np
import pytest

from pysmpc.datasets import DatasetError, idx

IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
LABELS = np.array([7, 0, 9], dtype=np.uint8)


def content(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content(IMAGES))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(content(LABELS))
    return tmp_path


@pytest.fixture
def images(folder):
    return folder / "train-images-idx3-ubyte"


def refused(folder, reason):
    with pytest.raises(DatasetError, match=reason) as caught:
        idx.read_split(folder, "train")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_reads_what_was_written(folder):
    split = idx.read_split(folder, "train")
    np.testing.assert_array_equal(split.images, IMAGES)
    np.testing.assert_array_equal(split.labels, LABELS)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("dash", ["-", "."])
def test_layouts(tmp_path, place, suffix, dash):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
        path = tmp_path / place / f"t10k-{name.replace('-', dash)}-ubyte{suffix}"
        path.write_bytes(gzip.compress(content(array)) if suffix else content(array))
    np.testing.assert_array_equal(idx.read_split(tmp_path, "t10k").images, IMAGES)


def test_compression_is_told_by_content_not_by_name(images, folder):
    images.write_bytes(gzip.compress(images.read_bytes()))
    np.testing.assert_array_equal(idx.read_split(folder, "train").images, IMAGES)


def test_write_is_read_back_and_depends_on_nothing_else(tmp_path):
    idx.write(tmp_path / "a.gz", IMAGES)
    idx.write(tmp_path / "b.gz", IMAGES)
    np.testing.assert_array_equal(idx.read(tmp_path / "a.gz", 3), IMAGES)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", "no such folder")


def test_a_file_for_a_folder(images):
    refused(images, "not a folder")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, f"no {name} or {name}.gz there")


def test_empty_file(images, folder):
    images.write_bytes(b"")
    refused(folder, "begins with nothing")


@pytest.mark.parametrize("magic", ["00000801", "00000d03", "01000803", "89504e47"])
def test_bad_magic(images, folder, magic):
    images.write_bytes(bytes.fromhex(magic) + images.read_bytes()[4:])
    refused(folder, f"begins with {magic}, .* with 00000803")


def test_labels_and_images_swapped(images, folder):
    shutil.copy(folder / "train-labels-idx1-ubyte", images)
    refused(folder, "begins with 00000801")


@pytest.mark.parametrize("size", range(4, 16))
def test_truncated_header(images, folder, size):
    images.write_bytes(images.read_bytes()[:size])
    refused(folder, f"truncated in its header: {size} of 16 bytes")


@pytest.mark.parametrize("missing", [1, 8, 24])
def test_truncated_payload(images, folder, missing):
    images.write_bytes(images.read_bytes()[:-missing])
    refused(folder, f"truncated: {40 - missing} of 40 bytes")


def test_a_header_that_claims_more_than_memory(images, folder):
    images.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**32 - 1] * 3))
    refused(folder, "truncated: 16 of")


def test_trailing_bytes(images, folder):
    images.write_bytes(images.read_bytes() + b"\0\0")
    refused(folder, "2 bytes too many after 40")


@pytest.mark.parametrize("shape", [(0, 2, 4), (3, 0, 4)])
def test_no_items(images, folder, shape):
    images.write_bytes(content(np.zeros(shape, np.uint8)))
    refused(folder, "holds no items")


def test_counts_differ(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(content(LABELS[:2]))
    refused(folder, "3 images in train-images-idx3-ubyte, 2 labels in train-labels-idx1-ubyte")


def test_every_prefix_of_a_gzip_file_is_refused(images, folder):
    whole = gzip.compress(images.read_bytes())
    for size in range(2, len(whole)):
        images.write_bytes(whole[:size])
        refused(folder, "damaged gzip file")


def test_a_flipped_bit_in_a_gzip_file_is_refused_or_harmless(images, folder):
    whole = gzip.compress(images.read_bytes())
    refusals = 0
    for bit in range(16, 8 * len(whole)):  # past the two bytes by which gzip is known
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        images.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(idx.read_split(folder, "train").images, IMAGES)
        except DatasetError:
            refusals += 1
    assert refusals > 7 * len(whole) / 2


def test_bytes_after_a_gzip_file(images, folder):
    images.write_bytes(gzip.compress(images.read_bytes()) + b"more")
    refused(folder, "damaged gzip file")


def test_unreadable_file(images, folder, monkeypatch):
    def deny(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(images), "read_bytes", deny)
    refused(folder, "Permission denied")
