"""An aggregator that asks holders for too much, and clients that come twice: in `pysmpc.federated.aggregation`."""

import pytest
import torch

from pysmpc.errors import RoundError
from pysmpc.federated.aggregation import Collector, round_id, shares_of

NAMES = ("alice", "bob", "carol", "dave")
SIZE = 5


class Sums:
    """Two holders of a round in which some clients took part."""

    def __init__(self, came=NAMES, minimum=3, label="round"):
        self.id = round_id(label, torch.rand(1).item())
        self.holders = [Collector(name, SIZE, self.id, NAMES, minimum) for name in ("north", "south")]
        self.words = {name: torch.randint(-1000, 1000, (SIZE,)) for name in came}
        self.parts = {name: shares_of(words.clone(), 2) for name, words in self.words.items()}
        for name, parts in self.parts.items():
            for holder, part in zip(self.holders, parts, strict=True):
                holder.receive(name, self.id, part)


def test_the_sum_that_is_asked_for_is_opened():
    sums = Sums()
    total = sum(holder.release(NAMES) for holder in sums.holders)
    assert torch.equal(total, sum(sums.words.values()))


def test_a_sum_of_one():
    sums = Sums()
    for holder in sums.holders:
        with pytest.raises(RoundError, match="3 clients or more"):
            holder.release(["alice"])
    few = Sums(came=("alice",))
    for holder in few.holders:
        with pytest.raises(RoundError, match="3 clients or more"):
            holder.release(["alice"])
    with pytest.raises(ValueError, match="fewer than 2"):
        Collector("north", SIZE, sums.id, NAMES, 1)


def test_a_client_twice_in_a_sum():
    for holder in Sums().holders:
        with pytest.raises(RoundError, match="named twice"):
            holder.release(["alice", "alice", "alice"])


def test_two_sums_that_differ_by_one():
    sums = Sums()
    north, south = sums.holders
    north.release(NAMES)
    with pytest.raises(RoundError, match="difference"):
        north.release(NAMES[:3])
    with pytest.raises(RoundError, match="no part of them"):
        south.release(NAMES[:3])


def test_holders_are_told_of_different_sums():
    sums = Sums()
    north, south = sums.holders
    ours = north.release(NAMES[:3])
    with pytest.raises(RoundError):
        south.release(NAMES[:3])
    wrong = ours + south.release(NAMES)
    assert not torch.equal(wrong, sums.words["dave"])
    assert not torch.equal(wrong, sum(sums.words[name] for name in NAMES[:3]))


def test_a_client_that_nobody_invited():
    sums = Sums()
    for holder, part in zip(sums.holders, shares_of(torch.zeros(SIZE, dtype=torch.int64), 2), strict=True):
        with pytest.raises(RoundError, match="not invited"):
            holder.receive("mallory", sums.id, part)
        with pytest.raises(RoundError, match="no part of mallory"):
            holder.release([*NAMES, "mallory"])


def test_a_client_comes_twice():
    sums = Sums()
    for holder, part in zip(sums.holders, sums.parts["alice"], strict=True):
        with pytest.raises(RoundError, match="took part in this round already"):
            holder.receive("alice", sums.id, part)
    assert torch.equal(sum(holder.release(NAMES) for holder in sums.holders), sum(sums.words.values()))


def test_a_client_replays_what_it_left_in_another_round():
    before, after = Sums(label="one"), Sums(came=NAMES[1:], label="two")
    for holder, part in zip(after.holders, before.parts["alice"], strict=True):
        with pytest.raises(RoundError, match="another round"):
            holder.receive("alice", before.id, part)


def test_a_client_comes_after_the_sum():
    sums = Sums(came=NAMES[:3])
    late = shares_of(torch.zeros(SIZE, dtype=torch.int64), 2)
    for holder, part in zip(sums.holders, late, strict=True):
        holder.release(NAMES[:3])
        with pytest.raises(RoundError, match="late"):
            holder.receive("dave", sums.id, part)


@pytest.mark.parametrize("part", [b"short", torch.zeros(SIZE + 1, dtype=torch.int64), torch.zeros(SIZE)])
def test_parts_that_do_not_fit(part):
    sums = Sums(came=NAMES[:3])
    with pytest.raises(RoundError, match="dave sent"):
        sums.holders[0].receive("dave", sums.id, part)
