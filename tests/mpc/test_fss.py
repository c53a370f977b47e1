"""Function secret sharing: the generic functions, and the protocol's claims at size."""

import pytest
import torch
from settings import EDGES, FSS, bounded_words, random_words

import pysmpc as sy
from pysmpc.fss import Dcf, Dpf
from pysmpc.mpc.fss import fss_comparison
from pysmpc.mpc.suite import suite_named
from pysmpc.ring import fss_keys, z2k
from pysmpc.session.session import virtual_session


def points(rng, bits, *shape):
    out = torch.from_numpy(rng.integers(0, 1 << 62, shape))
    out = out << 2 | torch.from_numpy(rng.integers(0, 4, shape))
    return out & (1 << bits) - 1 if bits < 64 else out


def unsigned_less(x, y):
    low = -(1 << 63)
    return x + low < y + low


@pytest.mark.parametrize("make", [Dpf, Dcf])
@pytest.mark.parametrize("bits", [1, 2, 7, 32, 64])
@pytest.mark.parametrize("words", [1, 3])
def test_functions(make, bits, words, rng):
    f = make(bits, words)
    alpha = points(rng, bits, 7, 19)
    x = points(rng, bits, 7, 19)
    x[2:5] = alpha[2:5]
    beta = random_words(rng, *alpha.shape, *([words] if words > 1 else []))
    first, second = f.keygen(alpha, beta)
    assert first.nbytes == 16 + 16 + f.key_bytes * alpha.numel()
    out = f.eval(0, first, x) + f.eval(1, second, x)
    holds = unsigned_less(x, alpha) if make is Dcf else x == alpha
    expected = beta * (holds.unsqueeze(-1) if words > 1 else holds)
    assert torch.equal(out, expected)


def test_a_key_serves_several_points(rng):
    f = Dcf(8)
    alpha = points(rng, 8, 50)
    first, second = f.keygen(alpha, 5)
    for x in range(256):
        at = torch.full((50,), x)
        assert torch.equal(f.eval(0, first, at) + f.eval(1, second, at), 5 * (at < alpha))


def test_keys_say_nothing_in_print_and_are_fresh(rng):
    f = Dpf(16)
    alpha = points(rng, 16, 4)
    keys = [key for _ in range(2) for key in f.keygen(alpha)]
    assert len({key.seed for key in keys}) == 4
    assert not torch.equal(keys[0].corrections, keys[2].corrections)
    assert repr(keys[0]) == "Key(shape=(4,))"
    assert (f.key_bytes, Dcf(64).key_bytes, Dpf(64).key_bytes) == (14 * 16 + 4 * 8, 62 * 24 + 32, 62 * 16 + 32)
    assert repr(Dcf(8, 2)) == "Dcf(bits=8, words=2)"


def test_mistakes_are_named(rng):
    f = Dcf(8)
    alpha = points(rng, 8, 4)
    first, _ = f.keygen(alpha)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 2\*\*8\)"):
        f.keygen(alpha + 256)
    with pytest.raises(ValueError, match=r"x must be in"):
        f.eval(0, first, -alpha - 1)
    with pytest.raises(ValueError, match="needs another key"):
        f.eval(0, first, alpha[:3])
    with pytest.raises(ValueError, match="needs another key"):
        Dpf(8).eval(0, first, alpha)
    with pytest.raises(ValueError, match="party 0 or 1, not 2"):
        f.eval(2, first, alpha)
    with pytest.raises(ValueError, match="beta of shape"):
        f.keygen(alpha, alpha[:2])
    with pytest.raises(TypeError, match="alpha must be an int64 tensor"):
        f.keygen(alpha.float())
    with pytest.raises(ValueError, match="1 to 64 bits"):
        Dpf(65)


def spent_by(parties, operation):
    before = parties.stats.copy()
    out = operation()
    return out, parties.stats - before


def test_a_comparison_is_one_round_and_its_keys_have_their_size():
    n, parties = 3000, sy.virtual("alice", "bob", protocol="fss")
    x = sy.encrypt(torch.randn(n), parties)
    packed = 8 * z2k.packed_words(n)
    for operation, key in ((lambda: x > 0, 912), (lambda: x == 0, 928)):
        _, spent = spent_by(parties, operation)
        assert (spent.rounds, spent.sent, spent.dealt) == (1, 8 * n, 2 * (key * n + packed + 16 * 3))
    _, spent = spent_by(parties, lambda: torch.relu(x))
    assert (spent.rounds, spent.sent) == (2, 8 * n + packed)
    assert spent.dealt == 2 * (912 * n + packed + 16 * 3) + 16 * n


def test_bits_are_opened_once_under_a_mask_and_only_where_they_are_needed():
    n, parties = 200, sy.virtual("alice", "bob", protocol="fss")
    x, y = torch.randn(n), torch.randn(n)
    a, b = sy.encrypt(x, parties), sy.encrypt(y, parties)
    packed = 8 * z2k.packed_words(n)
    positive, spent = spent_by(parties, lambda: a > 0)
    chosen, spent = spent_by(parties, lambda: positive * b)
    assert (spent.rounds, spent.sent) == (1, 8 * n + packed)
    _, spent = spent_by(parties, lambda: ~positive * b)
    assert (spent.rounds, spent.sent) == (1, 8 * n)
    numbers, spent = spent_by(parties, lambda: positive.sum())
    assert spent.rounds == 0
    assert torch.allclose(sy.decrypt(chosen), y * (x > 0), atol=1e-3)
    assert sy.decrypt(numbers) == (x > 0).sum()
    zeros, spent = spent_by(parties, lambda: a == 0)
    _, spent = spent_by(parties, lambda: zeros.sum())
    assert (spent.rounds, spent.sent, spent.dealt) == (1, packed, 8 * n)


def test_signs_of_edges_and_their_neighbours():
    """At +-2^62, both ends of the ring, and around every power of two; in both settings."""
    near = {s * (1 << k) + d for k in range(63) for s in (1, -1) for d in (-2, -1, 0, 1, 2)}
    x = torch.tensor(sorted({*EDGES, *near, (1 << 63) - 2, 1 - (1 << 63)}))
    for setting in FSS:
        bits, cost = setting.run(lambda s, p, a: s.bit_share(p, s.negative(p, a), a.shape), x)
        assert torch.equal(bits, (x < 0).to(torch.int64))
        assert cost == fss_comparison.negative_cost(2, x.numel())


def test_no_stream_serves_twice(monkeypatch):
    """Masks of values and of bits, salts and roots of keys: each from streams of its own."""
    used = []

    def noting(owner, name, streams):
        original = getattr(owner, name)

        def wrapper(*arguments):
            used.extend(streams(*arguments))
            return original(*arguments)

        monkeypatch.setattr(owner, name, wrapper)

    noting(z2k, "truncate_mask", lambda keys, base, *rest: [base])
    noting(fss_keys, "fss_bits_deal", lambda keys, mask, base, *rest: [base, base + 1])
    noting(fss_comparison.Hidden, "under", lambda bit, base, keys: [base + fss_comparison.RHO])
    a = sy.encrypt(torch.randn(50), sy.virtual("alice", "bob", protocol="fss"))
    for _ in range(2):
        (a > 0).sum(), (a == 0).sum()
        _, _, _ = torch.relu(a), (a > 0) * a, (a < 1).long() + 1
    assert len(used) == 2 * (5 * 3 + 5 + 1)  # and the value that is selected
    assert len(set(used)) == len(used)


CHUNK = 1 << 17


@pytest.mark.parametrize("n", [CHUNK, pytest.param(1 << 22, marks=pytest.mark.slow)])
@pytest.mark.parametrize("setting", FSS, ids=str)
def test_signs_of_many(setting, n, rng):
    for index in range(max(n // CHUNK, 1)):
        x = bounded_words(rng, 62, CHUNK) if index % 2 else random_words(rng, CHUNK)
        bits, _ = setting.run(lambda s, p, a: s.bit_share(p, s.negative(p, a), a.shape), x)
        assert torch.equal(bits, (x < 0).to(torch.int64))


@pytest.mark.slow
@pytest.mark.parametrize("setting", FSS, ids=str)
def test_one_large_tensor(setting, rng):
    """2^20 at once, repeated: signs, zeros, and a ReLU with its truncation."""
    for _ in range(2):
        x = bounded_words(rng, 61, 1 << 20)
        x[:: 1 << 10] = 0
        negative, zero, relu = setting.run(
            lambda s, p, a: (s.bit_share(p, s.negative(p, a), a.shape), s.zero(p, a), s.relu(p, a, 1 << 16)),
            (x, 1 << 16),
        )[0]
        assert torch.equal(negative, (x < 0).to(torch.int64))
        assert torch.equal(zero, (x == 0).to(torch.int64))
        above = relu - (x.clamp(min=0) >> 16)
        assert bool(((above == 0) | (above == 1)).all())
        assert bool((relu[x <= 0] == 0).all())


def test_threads_do_not_change_what_is_dealt(threads, monkeypatch):
    """Keys and shares depend on positions alone."""
    results = []
    for count in (1, 2):
        threads(count)
        monkeypatch.setattr("pysmpc.session.session.fresh_key", iter([bytes([i] * 16) for i in range(20)]).__next__)
        session = virtual_session(["a", "b"], suite=suite_named("fss"))
        x = session.suite.share(session.party, torch.arange(-2000, 2000), (4000,))
        results.append(session.suite.relu(session.party, x).body.words)
    assert torch.equal(*results)
