"""AES against NIST's vectors, streams against their definition by another library's AES."""

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, aes, drawn, samples, stream_words, total, unsigned

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

# FIPS 197, appendices B and C.1; SP 800-38A, F.1.1 (ECB-AES128)
KEY = "2b7e151628aed2a6abf7158809cf4f3c"
VECTORS = [
    (KEY, "3243f6a8885a308d313198a2e0370734", "3925841d02dc09fbdc118597196a0b32"),
    ("000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "69c4e0d86a7b0430d8cdb78070b4c55a"),
    (KEY, "6bc1bee22e409f96e93d7e117393172a", "3ad77bb40d7a3660a89ecaf32466ef97"),
    (KEY, "ae2d8a571e03ac9c9eb76fac45af8e51", "f5d3d58503b9699de785895a96fdbaaf"),
    (KEY, "30c81c46a35ce411e5fbc1191a0a52ef", "43b1cd7f598ece23881b00e3ed030688"),
    (KEY, "f69f2445df4f9b17ad2b417be66c3710", "7b0c785e27e8ad3f8223207104725dd4"),
]
STREAMS = [0, 1, 12345, 1 << 40, WORD]


@pytest.mark.parametrize(("key", "plain", "cipher"), VECTORS)
def test_nist_blocks(key, plain, cipher):
    keys = _ring.Keys([bytes.fromhex(key)])
    assert _ring.aes_blocks(keys, 0, bytes.fromhex(plain)).hex() == cipher


def test_nist_counter_mode():
    """SP 800-38A, F.5.1 (CTR-AES128): the key stream is the encrypted counter."""
    counter = int.from_bytes(bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"), "big")
    counters = b"".join((counter + i).to_bytes(16, "big") for i in range(4))
    plain = bytes.fromhex("".join(p for _, p, _ in VECTORS[2:]))
    expected = (
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
    )
    keystream = _ring.aes_blocks(_ring.Keys([bytes.fromhex(KEY)]), 0, counters)
    assert bytes(a ^ b for a, b in zip(plain, keystream, strict=True)).hex() == expected


@pytest.mark.parametrize("blocks", [*range(36), 63, 64, 65, 500])
def test_blocks(blocks, rng):
    keys = [fresh_key() for _ in range(3)]
    native = _ring.Keys(keys)
    text = rng.bytes(16 * blocks)
    for index, key in enumerate(keys):
        assert _ring.aes_blocks(native, index, text) == aes(key, text)


def test_blocks_checks_its_arguments():
    keys = _ring.Keys([bytes(16)])
    with pytest.raises(ValueError, match="whole blocks"):
        _ring.aes_blocks(keys, 0, bytes(15))
    with pytest.raises(ValueError, match="index"):
        _ring.aes_blocks(keys, 1, bytes(16))
    with pytest.raises(ValueError, match="16 bytes"):
        _ring.Keys([bytes(15)])


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_draw(n):
    keys = [fresh_key() for _ in range(3)]
    for stream in STREAMS:
        drawn = KeySet(keys).draw(stream, n)
        assert drawn.shape == (3, n)
        for row, key in enumerate(keys):
            assert unsigned(drawn[row]) == stream_words(key, stream, n)


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_draw_with_corrections(n, rng):
    keys = [fresh_key() for _ in range(3)]
    for _, values in samples(rng, n):
        corrections = Guarded(values, 1)
        shares = KeySet(keys, lead=0, target=2).draw(7, n, corrections.view)
        assert unsigned(shares[:2]) == stream_words(keys[0], 7, n) + stream_words(keys[1], 7, n)
        assert unsigned(shares[2]) == values
        assert corrections.values() == values


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_mask(n, rng):
    keys = [fresh_key() for _ in range(2)]
    masks = [word for key in keys for word in stream_words(key, 9, n)]
    for _, values in samples(rng, 2 * n):
        shares, out = Guarded(values, 1), Guarded([0] * (2 * n), 3)
        launch(_ring.mask, KeySet(keys).native, 9, shares.view, out.view, n)
        expected = [(v - m) & WORD for v, m in zip(values, masks, strict=True)]
        assert out.values() == expected
        launch(_ring.mask, KeySet(keys).native, 9, shares.view, shares.view, n)
        assert shares.values() == expected


@pytest.mark.parametrize("n", LENGTHS + TILES)
@pytest.mark.parametrize("holders", [1, 2, 5])
def test_dealer_sums(holders, n, rng):
    keys = [fresh_key() for _ in range(holders)]
    sums, rest = total(keys, 3, n), drawn(keys, 3, n)
    out = Guarded([0] * n, 1)
    launch(_ring.deal_sum, KeySet(keys).native, 3, out.view, n)
    assert out.values() == sums
    for _, values in samples(rng, n):
        taken = Guarded(values, 3)
        launch(_ring.deal_take, KeySet(keys).native, 3, taken.view, n)
        assert taken.values() == [(v - s) & WORD for v, s in zip(values, rest, strict=True)]


def test_keys_and_streams_are_apart():
    """No two keys or streams begin with the same words; fresh keys differ."""
    starts = [KeySet([fresh_key()]).draw(stream, 4) for stream in range(64) for _ in range(4)]
    assert len({tuple(unsigned(s)) for s in starts}) == len(starts)


def test_a_key_set_shows_no_key():
    assert repr(KeySet([fresh_key()])) == "KeySet(of 1)"


def test_threads_draw_the_same(threads):
    keys = KeySet([fresh_key() for _ in range(3)], 0, 2)
    results = []
    for count in (1, 2):
        threads(count)
        x = keys.draw(4, 13_001)
        results.append(torch.cat([x, keys.mask(5, x), keys.total(6, 13_001).reshape(1, -1)]))
    assert torch.equal(*results)
