"""Elementwise kernels and Beaver combines against Python integers."""

import itertools

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, samples, signed, tensor, unsigned

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring import z2k
from pysmpc.ring.prg import KeySet, fresh_key

BINARY = {
    "add": (_ring.add, lambda x, y: x + y),
    "sub": (_ring.sub, lambda x, y: x - y),
    "mul": (_ring.mul, lambda x, y: x * y),
}


def ints(rng, n):
    return dict(samples(rng, n))["random"]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, n, rng):
    kernel, oracle = BINARY[name]
    for (_, x), (_, y) in zip(samples(rng, n), samples(rng, n), strict=True):
        expected = [oracle(a, b) & WORD for a, b in zip(x, y, strict=True)]
        for offset in (0, 1, 3):
            a, b, out = Guarded(x, offset), Guarded(y, 2 * offset), Guarded([0] * n, offset)
            launch(kernel, a.view, b.view, out.view, n)
            assert out.values() == expected
            launch(kernel, a.view, b.view, b.view, n)
            assert b.values() == expected
            again = Guarded(y, 2 * offset)
            launch(kernel, a.view, again.view, a.view, n)
            assert a.values() == expected


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("factor", [0, 1, 3, WORD, 1 << 63, 0x9E3779B97F4A7C15])
def test_scale(factor, n, rng):
    for _, x in samples(rng, n):
        a = Guarded(x, 1)
        launch(_ring.scale, a.view, factor, a.view, n)
        assert a.values() == [factor * v & WORD for v in x]


def extremes(source, rows, n):
    """The largest and the smallest of the sums over rows."""
    out = Guarded([0, 0], 1)
    launch(_ring.rows_extremes, source.view, rows, n, out.view)
    return tuple(map(signed, out.values()))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_rows(rows, n, rng):
    x = ints(rng, rows * n)
    source, out = Guarded(x, 1), Guarded([0] * n, 3)
    columns = [x[i::n] for i in range(n)]
    launch(_ring.rows_sum, source.view, rows, out.view, n)
    assert out.values() == [sum(column) & WORD for column in columns]
    launch(_ring.rows_xor, source.view, rows, out.view, n)
    for i, value in enumerate(out.values()):
        expected = 0
        for v in columns[i]:
            expected ^= v
        assert value == expected
    if n:
        sums = [signed(sum(column)) for column in columns]
        assert extremes(source, rows, n) == (max(sums), min(sums))
    assert source.values() == x


@pytest.mark.parametrize("n", [n for n in LENGTHS + TILES if n])
@pytest.mark.parametrize("value", [0, 1, WORD, (1 << 63) - 1, 1 << 63])
def test_the_extremes_are_found_wherever_they_are(value, n, rng):
    """One word, among zeros: at the ends and somewhere."""
    for at in {0, n - 1, int(rng.integers(n))}:
        x = [0] * n
        x[at] = value
        ends = {signed(value)} | ({0} if n > 1 else set())
        assert extremes(Guarded(x, 1), 1, n) == (max(ends), min(ends))
        assert z2k.rows_most(torch.tensor([[v - (v >> 63 << 64) for v in x]])) == abs(signed(value))


@pytest.mark.parametrize("n", LENGTHS + TILES)
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (2, 3), (3, 8)])
def test_weighted(rows, count, n, rng):
    draws = {"random": lambda k: ints(rng, k), "ones": lambda k: [WORD] * k}
    for kind in draws.values():
        f, x = kind(count * n), kind(rows * count * n)
        factors, words, out = Guarded(f, 1), Guarded(x, 3), Guarded([7] * (rows * n), 5)
        launch(_ring.weighted, factors.view, words.view, rows, count, out.view, n)
        assert (factors.values(), words.values()) == (f, x)
        assert out.values() == [
            sum(f[k * n + i] * x[(row * count + k) * n + i] for k in range(count)) & WORD
            for row in range(rows)
            for i in range(n)
        ]


@pytest.mark.parametrize("n", LENGTHS + TILES[:3])
def test_combinations(n, rng):
    for rows, count, sums, lead in ((1, 1, 1, -1), (2, 3, 2, 1), (3, 5, 3, 0)):
        w, constants, x = ints(rng, sums * count), ints(rng, sums), ints(rng, rows * count * n)
        first, step = 2, 3 + sums * n
        before = ints(rng, rows * step)
        given, out = Guarded(x, 3), Guarded(before, 1)
        launch(
            _ring.combinations, given.view, rows, count, tensor(w), tensor(constants), sums, lead, out.view, first,
            step, n,
        )  # fmt: skip
        expected = list(before)
        for row, q, i in itertools.product(range(rows), range(sums), range(n)):
            total = sum(w[q * count + k] * x[(row * count + k) * n + i] for k in range(count))
            expected[row * step + first + q * n + i] = (total + constants[q] * (row == lead)) & WORD
        assert out.values() == expected
        assert given.values() == x


def test_combinations_of_tensors(threads, rng):
    x, w = (torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, s)) for s in ((2, 3, 3 * 4096 + 77), (4, 3)))
    expected = (w.reshape(1, 4, 3, 1) * x.unsqueeze(1)).sum(2).flatten(1)
    constants, n = torch.tensor([1, -2, 3, 1 << 40]), x.shape[2]
    for number in (1, 2, 3):
        threads(number)
        for lead in (None, 1):
            out = torch.zeros(2, 4 * n + 9, dtype=torch.int64)
            assert z2k.combinations(x.flatten(1), w, constants, lead, out, 7) is out
            added = torch.zeros_like(expected)
            if lead is not None:
                added[lead] = constants.repeat_interleave(n)
            assert torch.equal(out[:, 7 : 7 + 4 * n], expected + added)
            assert not out[:, :7].any()
            assert not out[:, 7 + 4 * n :].any()


@pytest.mark.parametrize("wrong", ["elements", "constants", "room", "rows"])
def test_combinations_refuse_other_shapes(wrong):
    x, w, constants = (torch.zeros(s, dtype=torch.int64) for s in ((2, 12), (4, 3), 4))
    out = torch.zeros(2, 20, dtype=torch.int64)
    if wrong == "elements":
        x = x[:, :11].contiguous()
    elif wrong == "constants":
        constants = constants[:3]
    elif wrong == "rows":
        out = torch.zeros(3, 20, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"expected ring elements of shape|sums of"):
        z2k.combinations(x, w, constants, 0, out, 5 if wrong == "room" else 4)


def test_weighted_tensors(threads, rng):
    for rows, count, n in ((2, 5, 3 * 4096 + 77), (1, 40, 100), (0, 3, 5), (2, 0, 6), (3, 2, 0)):
        factors, words = (
            torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, s)) for s in ((count, n), (rows, count, n))
        )
        expected = (factors * words).sum(1)
        out = torch.zeros(rows, n, dtype=torch.int64)
        for number in (1, 2, 3):
            threads(number)
            assert torch.equal(z2k.weighted(factors, words), expected)
            assert z2k.weighted(factors, words, out) is out
            assert torch.equal(out, expected)


@pytest.mark.parametrize(
    "shapes", [((2, 5), (3, 3, 5)), ((3, 4), (3, 3, 5)), ((3, 5), (3, 3, 5), (2, 5)), ((5, 3), (3, 3, 5))], ids=str
)
def test_weighted_refuses_other_shapes(shapes):
    with pytest.raises(ValueError, match="expected ring elements of shape"):
        z2k.weighted(*(torch.zeros(shape, dtype=torch.int64) for shape in shapes))


def test_no_rows_no_sum():
    assert z2k.rows_sum(z2k.empty(0, 5)).shape == (0, 5)
    assert z2k.rows_xor(z2k.empty(0, 5)).shape == (0, 5)
    assert z2k.rows_most(z2k.empty(0, 5)) == z2k.rows_most(z2k.empty(2, 0)) == 0


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_beaver(n, rng):
    keys = KeySet([fresh_key(), fresh_key()], lead=0, target=1)
    draw = {"random": lambda k: ints(rng, k), "ones": lambda k: [WORD] * k}
    for kind in draw.values():
        d, e, y, a, z = kind(n), kind(n), kind(2 * n), kind(2 * n), kind(2 * n)
        buffers = [Guarded(v, 1) for v in (d, y, a, e, z)]
        launch(_ring.beaver_mul, keys.native, *(b.view for b in buffers), n)
        assert buffers[-1].values() == [(z[i] + d[i % n] * y[i] + a[i] * e[i % n]) & WORD for i in range(2 * n)]
        buffers = [Guarded(v, 1) for v in (d, y, a, z)]
        launch(_ring.beaver_square, keys.native, *(b.view for b in buffers), n)
        assert buffers[-1].values() == [(z[i] + d[i % n] * (y[i] + a[i])) & WORD for i in range(2 * n)]


@pytest.mark.parametrize(
    "call",
    [
        lambda: z2k.add(torch.zeros(3), torch.zeros(3)),
        lambda: z2k.add(torch.zeros(3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)),
        lambda: z2k.add(torch.zeros((3, 3), dtype=torch.int64).t(), torch.zeros((3, 3), dtype=torch.int64)),
        lambda: z2k.sub(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_what_kernels_do_not_take_is_refused(call):
    with pytest.raises((TypeError, ValueError)):
        call()


def test_wrap():
    assert z2k.wrap(1 << 63) == -(1 << 63)
    assert z2k.wrap(-1) == -1
    assert z2k.wrap((1 << 64) + 5) == 5
    assert unsigned(torch.tensor([z2k.wrap(WORD)])) == [WORD]
