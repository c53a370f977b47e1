"""Products on the tile registers of AMX, whose four instructions are emulated in C (src/c/tiles.h): everything
else of src/c/amx.c, its packing, its dispatch and its threads are those of a machine that has them."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pysmpc.ring import z2k

SOURCES = Path(__file__).parents[2] / "src" / "c"
DRIVER = Path(__file__).with_name("tiles.c")
COMPILER = shutil.which(os.environ.get("CC", "gcc"))
WORD = (1 << 64) - 1

pytestmark = [
    pytest.mark.skipif(
        not (COMPILER and SOURCES.exists() and "avx512" in z2k.supported()), reason="needs a compiler and AVX-512"
    ),
    pytest.mark.skipif("PYSMPC_KERNEL_TESTS" in os.environ, reason="the same whatever the target (test_targets.py)"),
]


class View(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("row", ctypes.c_ssize_t), ("col", ctypes.c_ssize_t)]


def typed(function, result, *arguments):
    function.restype, function.argtypes = result, arguments
    return function


class Tiles:
    """The library, on arrays of numpy."""

    def __init__(self, path):
        size, matrices = ctypes.c_size_t, [View, View, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        library = ctypes.CDLL(str(path))
        self.direct = typed(library.tiles_product, None, size, size, size, *matrices)
        self.direct_work = typed(library.tiles_work, size, size, size, size)
        self.split = typed(library.psm_matmul, ctypes.c_int, size, size, size, *matrices[:-1])
        self.elsewhere = typed(library.tiles_elsewhere, size)
        self.set_threads = typed(library.psm_set_threads, None, ctypes.c_int)
        typed(library.tiles_target, ctypes.c_char_p)()  # chosen here, in this environment

    def product(self, a, b, c=None, split=False):
        """a @ b, added to c where that is given, with sentinels behind the result and the work."""
        (m, k), n = a.shape, b.shape[1]
        words, ldc = self.direct_work(m, n, k), n + 3
        out = np.full((m, ldc), 77, dtype=np.uint64)
        if c is not None:
            out[:, :n] = c
        space = np.full(words + 16, 99, dtype=np.uint64)
        arguments = m, n, k, view(a), view(b), out.ctypes.data, ldc, c is not None
        if split:
            assert self.split(*arguments) == 0
        else:
            self.direct(*arguments, space.ctypes.data)
        assert (out[:, n:] == 77).all()
        assert (space[words:] == 99).all()
        return out[:, :n]


def view(x):
    return View(x.ctypes.data, *(step // 8 for step in x.strides))


def build(folder):
    objects = [*(SOURCES / name for name in ("dispatch.c", "matmul.c", "pool.c", "team.c", "work.c")), DRIVER]
    path = folder / "tiles.so"
    flags = ["-std=gnu11", "-O3", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fPIC", "-shared", "-pthread"]
    command = [COMPILER, *flags, "-DPSM_EMULATE_TILES", f"-I{SOURCES}", *objects, "-o", path]
    subprocess.run(command, check=True, timeout=240)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def tiles(path):
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PYSMPC_TARGET", raising=False)
        return Tiles(path)


def words(rng, rows, cols):
    return rng.integers(0, WORD, (rows, cols), dtype=np.uint64, endpoint=True)


def exact(a, b):
    """a @ b mod 2^64 in Python integers."""
    return ((a.astype(object) @ b.astype(object)) & WORD).astype(np.uint64)


SIDES = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33]


@pytest.mark.parametrize("k", [1, 3, 8, 63, 64, 65, 130])
def test_shapes(k, tiles, rng):
    for m in SIDES:
        for n in SIDES:
            a, b, c = words(rng, m, k), words(rng, k, n), words(rng, m, n)
            expected = exact(a, b)
            assert (tiles.product(a, b) == expected).all()
            assert (tiles.product(a, b, c) == c + expected).all()


@pytest.mark.parametrize("shape", [(200, 20, 70), (385, 3, 5), (17, 18, 897), (3, 2, 1793)], ids=str)
def test_slabs(shape, tiles, rng):
    """More rows than a slab has, and deeper ones."""
    m, n, k = shape
    a, b, c = words(rng, m, k), words(rng, k, n), words(rng, m, n)
    assert (tiles.product(a, b, c) == c + exact(a, b)).all()


def layouts(rng, rows, cols):
    yield words(rng, rows, cols)
    yield words(rng, cols, rows).T
    yield words(rng, rows + 3, cols + 5)[1 : rows + 1, 2 : cols + 2]
    yield words(rng, 2 * rows, 3 * cols)[::2, ::3]
    yield words(rng, 3 * cols, 2 * rows)[::3, ::2].T
    yield words(rng, rows, cols)[::-1, ::-1]
    yield np.broadcast_to(words(rng, 1, cols), (rows, cols))
    yield np.broadcast_to(words(rng, rows, 1), (rows, cols))


def test_layouts(tiles, rng):
    for a in layouts(rng, 19, 75):
        for b in layouts(rng, 75, 21):
            assert (tiles.product(a, b) == exact(a, b)).all()


@pytest.mark.parametrize("word", [0, 1, WORD, 1 << 63, 0xFF, 0xFF << 56, 0x00FF00FF00FF00FF, 0x0101010101010101])
def test_sums_of_edges(word, tiles):
    """The largest bytes at every place: 16512 of the largest products are what a word of 32 bits holds."""
    for k in (64, 896, 16_384, 16_513):
        a, b = np.full((17, k), word, dtype=np.uint64), np.full((k, 5), word, dtype=np.uint64)
        assert (tiles.product(a, b) == k * word * word & WORD).all()


def test_every_byte_meets_every_other(tiles, rng):
    """Words of one byte that is not zero: what the 64 products of bytes come to, one at a time."""
    for i in range(8):
        for j in range(8):
            a, b = rng.integers(1, 256, (2, 16, 64), dtype=np.uint64)
            a, b = a << np.uint64(8 * i), b.T << np.uint64(8 * j)
            assert (tiles.product(a, b) == exact(a, b)).all()


def test_nothing_to_sum(tiles, rng):
    for m, n, k in ((0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)):
        a, b, c = words(rng, m, k), words(rng, k, n), words(rng, m, n)
        assert (tiles.product(a, b) == 0).all()
        assert (tiles.product(a, b, c) == c).all()


@pytest.mark.parametrize("shape", [(96, 80, 784), (513, 260, 130), (64, 48, 1500), (80, 300, 400)], ids=str)
def test_threads_agree(shape, tiles, rng):
    """Every thread configures its own tiles: one that did not would be stopped."""
    m, n, k = shape
    a, b, c = words(rng, m, k), words(rng, n, k).T, words(rng, m, n)
    expected = c + a @ b
    tiles.elsewhere()
    for count in (1, 2, 3):
        tiles.set_threads(count)
        assert (tiles.product(a, b, c, split=True) == expected).all()
    tiles.set_threads(1)
    assert tiles.elsewhere() == 0


@pytest.mark.parametrize("shape", [(64, 128, 784), (784, 128, 64), (128, 784, 64), (256, 256, 256), (64, 64, 128)])
def test_large_shapes_run_on_tiles(shape, tiles, rng):
    m, n, k = shape
    a, b = words(rng, m, k), words(rng, k, n)
    tiles.elsewhere()
    assert (tiles.product(a, b, split=True) == a @ b).all()
    assert tiles.elsewhere() == 0


@pytest.mark.parametrize("shape", [(64, 10, 64), (1, 500, 500), (500, 1, 500), (300, 300, 1), (8, 8, 8)])
def test_small_and_thin_shapes_do_not(shape, tiles, rng):
    m, n, k = shape
    a, b = words(rng, m, k), words(rng, k, n)
    tiles.elsewhere()
    assert (tiles.product(a, b, split=True) == a @ b).all()
    assert tiles.elsewhere() == 1


ASK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
for name in ("tiles_target", "psm_dispatch_products", "psm_dispatch_error", "psm_dispatch_reason"):
    function = getattr(library, name)
    function.restype = ctypes.c_char_p
    print((function() or b"-").decode())
"""


def ask(path, **setting):
    """Target, products, error and reason of a process of its own."""
    names = ("PYSMPC_TARGET", "TILES_REFUSED", "TILES_WRONG")
    environment = {**{k: v for k, v in os.environ.items() if k not in names}, **setting}
    run = subprocess.run(
        [sys.executable, "-c", ASK, path], env=environment, capture_output=True, text=True, check=True, timeout=100
    )
    return run.stdout.splitlines()


def test_tiles_are_chosen_after_a_right_product(path):
    target, products, error, reason = ask(path)
    assert target == "amx"
    assert products.startswith("bytes on tiles, checked")
    assert error == "-"
    assert "amx_tile amx_int8 present" in reason
    assert ask(path, PYSMPC_TARGET="amx") == [target, products, error, reason]


@pytest.mark.parametrize(
    ("fault", "why"), [("TILES_REFUSED", "refused by the system"), ("TILES_WRONG", "wrong products")]
)
def test_tiles_that_fail_are_not_used(fault, why, path):
    target, products, error, _ = ask(path, **{fault: "1"})
    assert target.startswith("avx512")
    assert why in products
    assert error == "-"
    target, _, error, _ = ask(path, PYSMPC_TARGET="amx", **{fault: "1"})
    assert target.startswith("avx512")
    assert error == f"PYSMPC_TARGET=amx: tiles are {why}"


def test_another_target_leaves_the_tiles_alone(path):
    target, products, error, _ = ask(path, PYSMPC_TARGET="avx2", TILES_WRONG="1")
    assert (target, error) == ("avx2", "-")
    assert "not tried" in products
