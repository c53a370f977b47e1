"""Large tensors become shares, and come back, a piece at a time: the same integers, and no copies of them."""

import re
from fractions import Fraction

import pytest
import torch
from memory_use import needs_memory_counters, used
from torch import nn

import pysmpc as sy
from pysmpc.errors import EncodingError, RangeError
from pysmpc.ring.fixedpoint import PIECE, Encoding, Precision, decode, decode_as, encode
from pysmpc.ring.prg import KeySet, fresh_key

PRECISIONS = [Precision(), Precision(2, 30), Precision(10, 3)]


@pytest.mark.parametrize("n", [0, 1, PIECE, 2 * PIECE + 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_integers_of_pieces(precision, dtype, n):
    values = (torch.randn(n) * 100).to(dtype)
    expected = encode(values, precision)
    encoding = Encoding(values, precision)
    assert torch.equal(encoding.words(), expected)
    if n:
        assert encoding.extremes.tolist() == [expected.min(), expected.max()]
    keys, masked = KeySet([fresh_key() for _ in range(3)]), torch.empty(n, dtype=torch.int64)
    encoding.write(masked, keys, 5)
    assert torch.equal(masked, keys.take(5, expected.clone()))


@pytest.mark.parametrize("n", [2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1003, 4096, 4097])
@pytest.mark.parametrize("first", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", [0, 1, 16, 30])
def test_integers_at_once(bits, dtype, first, n):
    """Every magnitude, halves among them, at every place in memory, against Python's numbers."""
    magnitudes = torch.exp2(torch.randint(-60, 61 - bits, (n + first,)).double())
    values = (torch.randn(n + first, dtype=torch.float64).clamp(-1.9, 1.9) * magnitudes).to(dtype)
    values[::3] = torch.randint(-9, 9, values[::3].shape).to(dtype) / 2 ** (bits + 1)
    values[first] = -0.0
    values = values[first:]
    expected = [round(Fraction(x) * 2**bits) for x in values.tolist()]
    encoding = Encoding(values, Precision(2, bits))
    assert encoding.words().tolist() == expected
    keys, masked = KeySet([fresh_key() for _ in range(3)]), torch.empty(n, dtype=torch.int64)
    encoding.write(masked, keys, 5)
    assert torch.equal(masked, keys.take(5, torch.tensor(expected)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("scale", [1, 1 << 16, 1000, 1 << 40])
def test_reals_of_pieces(scale, dtype):
    words = torch.randint(-(1 << 62), 1 << 62, (3, PIECE)).t()  # not in a row
    assert torch.equal(decode_as(words, scale, dtype), decode(words, scale).to(dtype))
    assert torch.equal(decode_as(words[0, 0], scale, dtype), decode(words[0, 0], scale).to(dtype))
    assert decode_as(words[:0], scale, dtype).shape == (0, 3)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf"), 2.0**46, -(2.0**46)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_value_of_many_is_found(dtype, wrong):
    """Before anything is shared, with the words that a small tensor is refused with."""
    parties = sy.virtual()
    values = torch.randn(PIECE + 9, dtype=dtype)
    values[torch.randint(len(values), ())] = wrong
    with pytest.raises(EncodingError) as small:
        encode(values, Precision())
    before = parties.stats.copy()
    with pytest.raises(EncodingError, match=re.escape(str(small.value))):
        sy.encrypt(values, parties)
    assert parties.stats.copy() == before
    assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(3), parties)), torch.ones(3))


def test_promises_are_held_against_all_values():
    values = torch.rand(PIECE + 9)
    values[torch.randint(len(values), ())] = -3
    with pytest.raises(RangeError, match="bounded=2"):
        sy.encrypt(values, sy.virtual(), bounded=2)
    with pytest.raises(EncodingError, match="compare_bits=16"):
        sy.encrypt(values, sy.virtual(), compare_bits=16)
    sy.encrypt(values, sy.virtual(), bounded=3)


@pytest.mark.parametrize("options", [{}, {"integrity": "mac"}], ids=str)
@pytest.mark.parametrize("holders", [2, 3])
def test_there_and_back(holders, options):
    values = torch.randn(5, PIECE // 3, 2)
    parties = sy.virtual(*(f"party{i}" for i in range(holders)), **options)
    before = parties.stats.copy()
    secret = sy.encrypt(values.transpose(0, 1), parties)
    assert (parties.stats.copy() - before).shared == 8 * values.numel() * (holders if options else 1)
    assert torch.equal(sy.decrypt(secret), encode(values, Precision()).div(65536).float().transpose(0, 1))


@needs_memory_counters
def test_memory_of_a_model():
    """Beside the shares of two holders there is no more than half of their size."""

    model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(6)))
    shares = 16 * sum(each.numel() for each in model.parameters())
    secret, most = used(lambda: sy.encrypt(model, sy.virtual()))
    assert shares / 2 < most < 1.5 * shares  # the one says that this measures something
    plain, most = used(lambda: sy.decrypt(secret))
    assert most < shares / 2
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert (a - b).abs().max() <= 2**-17
