"""Secure aggregation: what clients leave, what holders add up, and what they refuse."""

import math

import pytest
import torch

from pysmpc.errors import EncodingError, RoundError
from pysmpc.federated.aggregation import Collector, round_id, shares_of
from pysmpc.federated.updates import Left, Terms

THIS = round_id("this", 1)


def terms(shape=(7,), clients=3, **options):
    return Terms({"w": shape}, clients, **options)


def collectors(holders, names, size, minimum=2):
    return [Collector(f"holder{i}", size, THIS, names, minimum) for i in range(holders)]


def leave(name, words, holders, among):
    for collector, part in zip(among, shares_of(words.clone(), holders), strict=True):
        collector.receive(name, THIS, part)


@pytest.mark.parametrize("holders", [2, 3, 4])
def test_a_weighted_mean(holders):
    names, this = ["a", "b", "c"], terms()
    among = collectors(holders, names, this.size)
    values = {name: torch.randn(7) for name in names}
    rows = {"a": 1, "b": 20, "c": 300}
    for name in names:
        leave(name, this.encoded({"w": values[name]}, rows[name]), holders, among)
    total = sum(collector.release(names) for collector in among)
    mean, count = this.mean(total)
    assert count == 321
    expected = sum(values[name].double() * rows[name] for name in names) / 321
    torch.testing.assert_close(mean["w"], expected, atol=2 / this.precision.scale, rtol=0)


def test_shares_of_all_but_one_holder_do_not_depend_on_the_update():
    size, n = 4000, 3
    for missing in range(n):
        seen = []
        for words in (torch.zeros(size, dtype=torch.int64), torch.arange(size)):
            parts = shares_of(words.clone(), n)
            assert len({p for p in parts if isinstance(p, bytes)}) == n - 1
            seen.append([part for place, part in enumerate(parts) if place != missing])
        for parts in seen:
            for part in parts:
                if not isinstance(part, bytes):
                    bits = torch.stack([part >> place & 1 for place in range(64)]).double().mean(1)
                    assert ((bits - 0.5).abs() < 6 / (2 * math.sqrt(size))).all()
                    assert not torch.equal(part, torch.arange(size))


def test_two_shares_of_one_update_are_different():
    words = torch.arange(100)
    first, second = shares_of(words.clone(), 2), shares_of(words.clone(), 2)
    assert first[0] != second[0]
    assert not torch.equal(first[1], second[1])


def test_who_gave_keys_and_no_words_is_not_in_the_sum():
    names, this = ["a", "b", "c"], terms()
    among = collectors(3, names, this.size)
    for name in names[:2]:
        leave(name, this.encoded({"w": torch.ones(7)}, 1), 3, among)
    parts = shares_of(this.encoded({"w": torch.ones(7)}, 1), 3)
    for collector, part in zip(among[:2], parts[:2], strict=True):
        collector.receive("c", THIS, part)
    mean, rows = this.mean(sum(collector.release(among[-1].clients) for collector in among))
    assert rows == 2
    torch.testing.assert_close(mean["w"], torch.ones(7, dtype=torch.float64))


def test_the_last_holder_keeps_no_single_update():
    names, this = [f"c{i}" for i in range(20)], terms(clients=20)
    among = collectors(2, names, this.size)
    for name in names:
        leave(name, this.encoded({"w": torch.randn(7)}, 1), 2, among)
    held = [x for x in vars(among[-1]).values() if isinstance(x, torch.Tensor)]
    assert [tuple(x.shape) for x in held] == [(this.size,)]


def test_the_range_is_known_ahead():
    with pytest.raises(EncodingError, match="declare a smaller"):
        terms(clients=1 << 20, max_rows=1 << 30, max_value=1e6)
    large = terms(clients=1000, max_rows=1 << 24, max_value=1024)
    words = large.encoded({"w": torch.full((7,), 1024.0)}, 1 << 24)
    assert int(words.max()) * 1000 < 1 << 62


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 65.0, -65.0])
@pytest.mark.parametrize("norm", [None, 1e4])
def test_what_a_client_must_not_leave(bad, norm):
    value = torch.zeros(7)
    value[3] = bad
    with pytest.raises(Left):
        terms(max_norm=norm).encoded({"w": value}, 5)


@pytest.mark.parametrize("rows", [0, -1, 101])
def test_too_many_rows(rows):
    with pytest.raises(Left, match="max_rows"):
        terms(max_rows=100).encoded({"w": torch.zeros(7)}, rows)


def test_clipping():
    this = Terms({"w": (3,), "buffer": (2,)}, 2, max_norm=1.0)
    value, buffer = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([0.0, 4.0])
    mean, _ = this.mean(this.encoded({"w": value, "buffer": buffer}, 3))
    torch.testing.assert_close(mean["w"], value.double() / 5, atol=1e-6, rtol=0)
    torch.testing.assert_close(mean["buffer"], buffer.double() / 5, atol=1e-6, rtol=0)
    assert torch.equal(value, torch.tensor([1.0, 2.0, 2.0]))
    small = this.mean(this.encoded({"w": value / 10, "buffer": torch.zeros(2)}, 1))[0]["w"]
    torch.testing.assert_close(small, value.double() / 10, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"w": torch.zeros(8)}, r"shape \[8\]"),
        ({"v": torch.zeros(7)}, "absent"),
        ({"w": torch.zeros(7), "v": torch.zeros(1)}, "'v'"),
    ],
)
def test_another_model(values, word):
    with pytest.raises(RoundError, match=word):
        terms().encoded(values, 1)
